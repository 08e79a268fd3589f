//! One request by hand, by a tool that somebody else has written: sipsak.

use crate::harness::{Kamailio, LOCALHOST, Server, Setup, free, sipsak};
use crate::passthrough::{CHALLENGED, password};

#[test]
fn sipsak_is_told_what_the_door_can_do() {
    let server = Server::start("ucs1", free(LOCALHOST));
    let door = Setup::with([&server]).start();
    for transport in ["udp", "tcp"] {
        let (code, said) = sipsak(&["-E", transport], "anna", door.phones);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("SIP/2.0 200 OK"), "{said}");
        for line in ["Allow: OPTIONS, REGISTER", "Supported: path", "Server: frontdoor"] {
            assert!(said.contains(line), "{said}");
        }
    }
}

#[test]
fn sipsak_registers_with_digest_and_leaves() {
    let kamailio = Kamailio::start_with("ucs1", free(LOCALHOST), &["WITH_PATH", "WITH_DIGEST"]);
    let door = Setup::new().kamailio(&kamailio, "udp").table("sip", CHALLENGED).start();
    let contact = format!("sip:anna@{}", free(LOCALHOST));
    let register = |expires: &str, password: &str| {
        let arguments = ["-U", "-C", &contact, "-x", expires, "-u", "anna", "-a", password];
        sipsak(&arguments, "anna", door.phones)
    };

    let (code, said) = register("60", "guess");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("authorization failed"), "{said}");
    assert_eq!((door.status().users, kamailio.located()), (0, Vec::new()));

    let (code, said) = register("60", &password("anna"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("All usrloc tests completed successful"), "{said}");
    assert_eq!(door.status().bindings, 1);
    let located = kamailio.located();
    assert_eq!(located.len(), 1, "{located:?}");
    assert_eq!(located[0].contact, contact);
    assert!(located[0].path.is_some(), "{located:?}");

    let (code, said) = register("0", &password("anna"));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((door.status().bindings, kamailio.located()), (0, Vec::new()));
}
