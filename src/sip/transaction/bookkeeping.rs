//! Transactions under any order of things: nothing that was accepted is lost or told twice.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::now::Uptime;
use crate::sip::transaction::timelines::{PHONE, START, request, response, tcp, udp};
use crate::sip::transaction::{
    ClientTransactionId, Due, Incoming, Limits, Matched, ServerTransactionId, Timings, Transactions,
};

/// One thing that can happen; small numbers, so that they hit each other.
#[derive(Clone, Debug)]
enum Step {
    Request { branch: u8, method: bool, remote: u8, reliable: bool },
    Response { branch: u8, method: bool, status: u16 },
    Cancel(prop::sample::Index),
    ServerDies(u8),
    Receive { branch: u8, reliable: bool },
    Respond { which: prop::sample::Index, status: u16 },
    Wait { millis: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![Just(100_u16), Just(200), Just(503)];
    prop_oneof![
        4 => (0..8_u8, any::<bool>(), 0..3_u8, any::<bool>()).prop_map(
            |(branch, method, remote, reliable)| Step::Request { branch, method, remote, reliable }
        ),
        3 => (0..8_u8, any::<bool>(), status.clone())
            .prop_map(|(branch, method, status)| Step::Response { branch, method, status }),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => (0..3_u8).prop_map(Step::ServerDies),
        3 => (0..8_u8, any::<bool>()).prop_map(|(branch, reliable)| Step::Receive { branch, reliable }),
        2 => (any::<prop::sample::Index>(), status)
            .prop_map(|(which, status)| Step::Respond { which, status }),
        3 => (0..20_000_u16).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// Keeps count of every context that went in.
struct Bookkeeper {
    transactions: Transactions<usize>,
    now: Uptime,
    /// How often each context came back.
    returned: Vec<u32>,
    clients: Vec<ClientTransactionId>,
    servers: Vec<ServerTransactionId>,
}

impl Bookkeeper {
    fn new() -> Self {
        Self {
            transactions: Transactions::new(Timings::default(), Limits { server: 4, client: 6 }),
            now: START,
            returned: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        let method = |which| if which { "REGISTER" } else { "OPTIONS" };
        let flow = |reliable, remote: &str| if reliable { tcp(remote) } else { udp(remote) };
        match step {
            Step::Request { branch, method: which, remote, reliable } => {
                let context = self.returned.len();
                let flow = flow(reliable, &remote_of(remote).to_string());
                let branch = format!("z9hG4bK{branch}");
                let bytes = Bytes::new();
                match self.transactions.request(
                    self.now,
                    flow,
                    branch.as_bytes(),
                    method(which),
                    bytes,
                    context,
                ) {
                    Ok(id) => {
                        self.clients.push(id);
                        self.returned.push(0);
                    }
                    Err(refused) => assert_eq!(refused, context),
                }
            }
            Step::Response { branch, method: which, status } => {
                let response = response(status, method(which), &format!("z9hG4bK{branch}"));
                match self.transactions.response(self.now, &response) {
                    Matched::Final { context, .. } => self.returned[context] += 1,
                    Matched::Provisional(id) => assert!(self.transactions.context(id).is_some()),
                    Matched::Absorbed | Matched::Stray => {}
                }
            }
            Step::Cancel(which) if !self.clients.is_empty() => {
                let id = *which.get(&self.clients);
                let known = self.transactions.context(id).copied();
                let taken = self.transactions.cancel(id);
                assert_eq!(known, taken);
                if let Some(context) = taken {
                    self.returned[context] += 1;
                }
            }
            Step::ServerDies(remote) => {
                for context in self.transactions.take_client_by_remote(remote_of(remote)) {
                    self.returned[context] += 1;
                }
            }
            Step::Receive { branch, reliable } => {
                let register = request("REGISTER", &format!("z9hG4bK{branch}"));
                let flow = flow(reliable, PHONE);
                if let Incoming::New(id) =
                    self.transactions.receive(self.now, flow, &register).unwrap()
                {
                    self.servers.push(id);
                }
            }
            Step::Respond { which, status } if !self.servers.is_empty() => {
                let id = *which.get(&self.servers);
                let known = self.transactions.flow_of(id);
                let flow = self.transactions.respond(self.now, id, Bytes::new(), status);
                assert!(flow.is_none() || flow == known);
            }
            Step::Cancel(_) | Step::Respond { .. } => {}
            Step::Wait { millis } => self.wait(Duration::from_millis(millis.into())),
        }
        let (servers, clients) = self.transactions.len();
        assert!(servers <= 4 && clients <= 6);
        let open = self.returned.iter().filter(|&&times| times == 0).count();
        let waiting = |id: &&ClientTransactionId| self.transactions.context(**id).is_some();
        assert_eq!(open, self.clients.iter().filter(waiting).count());
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        while let Some(due) = self.transactions.poll(self.now) {
            if let Due::TimedOut { context } = due {
                self.returned[context] += 1;
            }
        }
        assert!(self.transactions.next().is_none_or(|next| next > self.now));
    }
}

fn remote_of(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 5060))
}

proptest! {
    #[test]
    fn every_context_comes_back_exactly_once(steps in prop::collection::vec(step(), 0..80)) {
        let mut books = Bookkeeper::new();
        for step in steps {
            books.take(step);
        }
        for _ in 0..40 {
            books.wait(Duration::from_secs(2));
        }
        prop_assert!(books.returned.iter().all(|&times| times == 1), "{:?}", books.returned);
        prop_assert_eq!(books.transactions.len(), (0, 0));
        prop_assert_eq!(books.transactions.next(), None);
    }
}
