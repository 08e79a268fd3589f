//! The simulated UCServer in a process of its own, as clients meet it on sockets.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::negotiate::Negotiation;
use frontdoor::ucsap::{Encoding, Kind, Operation, Piece, cti};
use frontdoor::ucserver::ClientSettings;
use serde_json::json;

use crate::harness::{Client, Server, now};

const ANY: &str = "127.0.0.1:0";

fn start(arguments: &[&str]) -> Server {
    let sip: SocketAddr = ANY.parse().unwrap();
    Server::start_with("ucs", sip, &[&["--clients", ANY], arguments].concat())
}

#[test]
fn a_client_logs_in_watches_its_line_and_is_told_of_calls() {
    let mut server = start(&[]);
    for encoding in [Encoding::Ber, Encoding::Json] {
        let mut client = Client::logged_in(server.clients.unwrap(), encoding, "anna");
        let line = ClientSettings::line_of("anna");
        client.ask(Operation::MONITOR_START, &cti::for_line(&line));
        let rung = server.ask(&json!({"ring": {"line": line, "number": "+4970"}}), "rung");
        assert_eq!(client.next().unwrap().operation(), Operation::CALL_CHANGED);
        let call = &rung["call"];
        assert_eq!(server.ask(&json!({"calls": {}}), "calls")[0]["call"], *call);
        server.ask(&json!({"hang_up": {"call": call}}), "hung_up");
        for _ in 0..2 {
            assert_eq!(client.next().unwrap().operation(), Operation::CALL_CHANGED);
        }
        let seen = server.ask(&json!({"clients": {}}), "clients");
        assert_eq!((&seen["logins"], &seen["monitors"]), (&json!(1), &json!(1)));
        drop(client);
        while server.ask(&json!({"clients": {}}), "clients")["connections"] != 0 {}
    }
}

#[test]
fn who_logs_in_is_told_and_when() {
    let server = start(&[]);
    let before = now().as_nanos();
    Client::logged_in(server.clients.unwrap(), Encoding::Json, "anna");
    let told = server.told("logged_in");
    assert_eq!(told[0]["user"], "anna");
    let at = told[0]["at_nanos"].as_u64().unwrap();
    assert!((before..=now().as_nanos()).contains(&at));
}

#[test]
fn a_dead_server_closes_and_refuses_and_comes_back_at_the_same_address() {
    let mut server = start(&[]);
    let mut client = Client::logged_in(server.clients.unwrap(), Encoding::Ber, "anna");
    server.mood("dead");
    assert!(client.next().is_none());
    assert!(TcpStream::connect(server.clients.unwrap()).is_err());
    server.mood("healthy");
    Client::logged_in(server.clients.unwrap(), Encoding::Json, "anna");
}

#[test]
fn a_server_that_restarts_closes_and_takes_clients_again() {
    let mut server = start(&[]);
    let mut client = Client::logged_in(server.clients.unwrap(), Encoding::Ber, "anna");
    server.mood("amnesia");
    assert!(client.next().is_none());
    Client::logged_in(server.clients.unwrap(), Encoding::Ber, "anna");
}

#[test]
fn what_is_no_ucsap_costs_the_connection() {
    let server = start(&[]);
    for octets in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\xA1\x02\x05\x00"] {
        let mut client = Client::connect(server.clients.unwrap(), Encoding::Ber);
        client.stream.write_all(octets).unwrap();
        assert!(client.next().is_none(), "{octets:?}");
    }
}

#[test]
fn a_strict_server_sends_its_guests_home_and_tells_nothing_but_the_address() {
    let mut server = start(&["--client-home", "anna=127.0.0.1:7229", "--mood", "strict_home"]);
    let mut client = Client::logged_in(server.clients.unwrap(), Encoding::Json, "bert");
    let anna = Credentials::basic("anna", "pw-anna");
    client.send(Operation::LOGIN, &anna);
    assert_eq!(client.next().unwrap().kind(), Kind::Error, "bert is there already");
    server.ask(&json!({"belongs": {"user": "anna", "home": "127.0.0.1:7230"}}), "belongs");
    let mut client = Client::connect(server.clients.unwrap(), Encoding::Json);
    let device = Negotiation { device: "d".into(), version: "1".into(), app: 1, former: None };
    client.ask(Operation::NEGOTIATE, &device.piece("PC"));
    let answer = client.ask(Operation::LOGIN, &anna);
    let outcome = LoginOutcome::read(&answer.body().unwrap()).unwrap();
    assert!(matches!(&outcome, LoginOutcome::Redirect(to) if to == "127.0.0.1:7230"));
}

#[test]
fn lines_that_are_watched_tell_of_themselves() {
    let server = start(&["--line-events", "50"]);
    let mut client = Client::logged_in(server.clients.unwrap(), Encoding::Ber, "anna");
    let line = ClientSettings::line_of("anna");
    client.ask(Operation::MONITOR_START, &cti::for_line(&line));
    for _ in 0..3 {
        assert_eq!(client.next().unwrap().operation(), Operation::LINE_INFO_CHANGED);
    }
}

#[test]
fn a_door_may_hold_thousands_of_connections() {
    let mut server = start(&[]);
    let clients: Vec<TcpStream> =
        (0..3_000).map(|_| TcpStream::connect(server.clients.unwrap()).unwrap()).collect();
    let mut last = Client::logged_in(server.clients.unwrap(), Encoding::Ber, "anna");
    last.ask(Operation::CHECK_CONNECTION, &Piece::Sequence(vec![]));
    assert_eq!(server.ask(&json!({"clients": {}}), "clients")["users"], 1);
    drop(clients);
}
