//! Random REGISTERs: the registrar agrees with a model so small that it can be seen to be right.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::ucserver::Settings;
use crate::ucserver::tests::{Register, World, secs};

const MIN: u32 = 60;
const MAX: u32 = 3600;
const PER_AOR: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Register { call: u8, cseq: u32, contacts: Vec<(u8, u32)> },
    RemoveAll { call: u8, cseq: u32 },
    Pass(u64),
}

/// Contact → Call-ID, CSeq, end in seconds.
type Model = BTreeMap<u8, (u8, u32, u64)>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lifetime = prop_oneof![Just(0), Just(30), Just(60), Just(600), Just(9000)];
    let contacts = prop::collection::vec((0..3_u8, lifetime), 0..3);
    let step = prop_oneof![
        4 => (0..2_u8, 1..6_u32, contacts)
            .prop_map(|(call, cseq, contacts)| Step::Register { call, cseq, contacts }),
        1 => (0..2_u8, 1..6_u32).prop_map(|(call, cseq)| Step::RemoveAll { call, cseq }),
        2 => (0..700_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..25)
}

/// What the model says to one request: the status, and itself afterwards.
fn judge(before: &Model, now: u64, step: &Step) -> (u16, Model) {
    let late = |contact: &u8, call: u8, cseq: u32| {
        before
            .get(contact)
            .is_some_and(|&(its_call, its_cseq, _)| its_call == call && cseq <= its_cseq)
    };
    match step {
        Step::Pass(_) => (0, before.clone()),
        Step::RemoveAll { call, cseq } => {
            if before.keys().any(|contact| late(contact, *call, *cseq)) {
                return (500, before.clone());
            }
            (200, Model::new())
        }
        Step::Register { call, cseq, contacts } => {
            let mut after = before.clone();
            let mut touched = Vec::new();
            for (contact, lifetime) in contacts {
                if *lifetime > 0 && *lifetime < MIN {
                    return (423, before.clone());
                }
                if after.contains_key(contact)
                    && !touched.contains(contact)
                    && late(contact, *call, *cseq)
                {
                    return (500, before.clone());
                }
                if *lifetime == 0 {
                    after.remove(contact);
                } else {
                    let end = now + u64::from((*lifetime).min(MAX));
                    after.insert(*contact, (*call, *cseq, end));
                    touched.push(*contact);
                }
            }
            if after.len() > PER_AOR && after.len() > before.len() {
                return (403, before.clone());
            }
            (200, after)
        }
    }
}

fn request(step: &Step) -> Option<Register> {
    let uri = |contact: u8| format!("<sip:{contact}@192.0.2.7>");
    match step {
        Step::Pass(_) => None,
        Step::RemoveAll { call, cseq } => {
            Some(Register::of("*").line("Expires: 0").call(&call.to_string(), *cseq))
        }
        Step::Register { call, cseq, contacts } => {
            let register = Register::query().call(&call.to_string(), *cseq);
            Some(contacts.iter().fold(register, |register, (contact, lifetime)| {
                register.line(&format!("Contact: {};expires={lifetime}", uri(*contact)))
            }))
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_of_registers_leaves_what_the_model_says(steps in steps()) {
        let settings = Settings {
            min_expires_secs: MIN,
            max_expires_secs: MAX,
            bindings_per_aor: PER_AOR,
            ..Settings::default()
        };
        let mut world = World::new(settings);
        let (mut model, mut now) = (Model::new(), 0_u64);
        for step in &steps {
            if let Step::Pass(time) = step {
                world.pass(secs(*time));
                now += time;
                model.retain(|_, (_, _, end)| *end > now);
            }
            let (status, after) = judge(&model, now, step);
            if let Some(register) = request(step) {
                let answer = world.register(&register);
                prop_assert_eq!(answer.status(), Some(status), "{:?}", step);
            }
            model = after;
            let mut there = world.contacts();
            there.sort();
            let expected: Vec<(String, u64)> = model
                .iter()
                .map(|(contact, (_, _, end))| (format!("sip:{contact}@192.0.2.7"), end - now))
                .collect();
            prop_assert_eq!(there, expected, "{:?}", step);
            prop_assert_eq!(world.server.registrations(), model.len());
            prop_assert_eq!(world.server.users_logged_in(), usize::from(!model.is_empty()));
        }
    }
}
