//! A door between phones and simulated servers, played by operations read from the octets: what
//! the law of use promises holds after each.
//!
//! - Every output is a message that can be read, and a deadline that was served is over.
//! - A user has at most one write under way, and none meets a conflict (one writer).
//! - Who was told 200 stays registered until the lease ends or they say otherwise, restarts and
//!   failing stores included (durable before told).

mod stage;

use std::time::Duration;

use frontdoor::ucserver::Mood;

use self::stage::{PHONES, SERVERS, Stage, Wish};

/// Operations played of one input; the rest of the octets is not looked at.
const OPERATIONS_MAX: usize = 400;

/// Plays two octets an operation: which, and with what.
pub fn run(data: &[u8]) {
    let mut stage = Stage::new();
    for pair in data.chunks_exact(2).take(OPERATIONS_MAX) {
        play(&mut stage, pair[0], pair[1]);
        stage.check();
    }
}

fn play(stage: &mut Stage, operation: u8, with: u8) {
    let phone = usize::from(with) % PHONES;
    let server = usize::from(with) % SERVERS;
    let detail = with / 8;
    match operation % 24 {
        0..=4 => stage.register(
            phone,
            Wish::Register { expires_s: [60, 120, 300, 3600][usize::from(detail) % 4] },
        ),
        5 => stage.register(phone, Wish::Remove),
        6 => stage.register(phone, Wish::RemoveAll),
        7 => stage.register(phone, Wish::Query),
        8 => stage.say_again(phone),
        // What waits on the network arrives, most often.
        9..=12 => (0..=detail).for_each(|_| stage.arrive()),
        13 => stage.lose(),
        14 => stage.double(),
        15 => stage.pass(Duration::from_millis(u64::from(with) * 8)),
        16 => stage.pass(Duration::from_secs(u64::from(with))),
        17..=18 => (0..=detail).for_each(|_| stage.write()),
        19 => stage.fail_write(),
        20 => stage.restart(),
        21 => stage.set_mood(server, mood(detail)),
        22 => stage.refuse(server),
        _ => match detail % 4 {
            0 => stage.close_stream(phone),
            1 => stage.ping(server),
            2 => stage.garble(phone, with),
            _ => stage.settle(),
        },
    }
}

fn mood(detail: u8) -> Mood {
    match detail % 9 {
        0..=2 => Mood::Healthy,
        3 => Mood::Dead,
        4 => Mood::Hung,
        5 => Mood::Refusing,
        6 => Mood::Errors,
        7 => Mood::Slow { delay: Duration::from_millis(400) },
        _ => Mood::Amnesia,
    }
}
