//! sipsak: one request by hand.

use std::net::SocketAddr;
use std::process::{Command, Output};

use crate::harness::run;

/// Its exit code (0: all as wished; 1: a final refusal; 2: it gave up; 3: nobody answered) and what it
/// said.
pub(crate) fn sipsak(arguments: &[&str], user: &str, door: SocketAddr) -> (Option<i32>, String) {
    let uri = format!("sip:{user}@{door}");
    let mut command = Command::new("sipsak");
    command.args(["-vvv", "-i"]).args(arguments).args(["-s", &uri]);
    let Output { status, stdout, stderr } = run(&mut command);
    let text = [stdout, stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned());
    (status.code(), text.concat())
}
