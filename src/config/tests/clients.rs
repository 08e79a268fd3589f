//! Listeners for clients and what they are shown: what is accepted, and what is refused with which words.

use super::{GOOD, refusal, warnings, with};
use crate::config::*;

#[test]
fn planes_and_transports_that_do_not_go_together_are_refused() {
    for (from, to, message) in [
        (
            "transport = \"udp\"\n",
            "transport = \"tls\"\n",
            "4:13: SIP is not spoken by TLS here; write one of \"udp\", \"tcp\", or plane = \"client\" for clients of UCServers",
        ),
        (
            "transport = \"udp\"\n",
            "transport = \"https\"\n",
            "4:13: phones do not come by HTTP; write one of \"udp\", \"tcp\", or plane = \"client\" for the WebService",
        ),
        (
            "capacity = ",
            "web = \"10.0.0.1:7224\"\ncapacity = ",
            "13:7: server `ucs1` has `web` and no `clients`, where the door asks whether it serves clients; write both",
        ),
        (
            "name = \"servers\"\ntransport = \"udp\"\n",
            "name = \"servers\"\ntransport = \"tls\"\n",
            "8:13: `tls` is not possible here; write one of \"udp\", \"tcp\"",
        ),
        (
            "name = \"servers\"\n",
            "name = \"servers\"\nplane = \"client\"\n",
            "8:1: unknown key `plane` in [upstream]; it belongs in [listen]",
        ),
        (
            "transport = \"udp\"\n",
            "transport = \"udp\"\nplane = \"klient\"\n",
            "5:9: `klient` is not possible here; write one of \"sip\", \"client\"; did you mean `client`?",
        ),
    ] {
        assert_eq!(refusal(&with(from, to)), format!("door.toml:{message}"), "{to}");
    }
}

/// [`GOOD`] with a listener for clients that has these lines, and what stands behind it.
fn with_clients(lines: &str, behind: &str) -> String {
    let clients = format!("[[listen]]\nname = \"clients\"\nplane = \"client\"\n{lines}\n");
    GOOD.replacen("[[upstream]]", &format!("{clients}{behind}[[upstream]]"), 1)
}

#[test]
fn a_listener_for_clients_offers_tls_where_there_is_a_certificate() {
    let certificates = "[[certificates]]\nchain = \"door.pem\"\nkey = \"/k\"\n";
    for (transport, behind, security) in [
        ("tcp", "", net::Security::None),
        ("tcp", certificates, net::Security::StartTls),
        ("tls", certificates, net::Security::Tls),
    ] {
        let lines = format!("transport = \"{transport}\"\naddress = \"0.0.0.0:7222\"");
        let text = with_clients(&lines, behind);
        let config = Config::parse(Path::new("/etc/frontdoor/door.toml"), &text).unwrap();
        assert_eq!((config.warnings.as_slice(), config.sockets.len()), (&[][..], 2));
        assert_eq!(
            (&*config.client_sockets[0].name, config.client_sockets[0].security),
            ("clients", security)
        );
        let listeners = config.net_settings().listeners;
        let last = listeners.last().unwrap();
        assert_eq!((last.speaks, last.security), (net::Protocol::Ucsap, security));
        for files in &config.certificates {
            assert_eq!(files.chain, Path::new("/etc/frontdoor/door.pem"));
            assert_eq!(files.key, Path::new("/k"));
        }
    }
}

#[test]
fn a_listener_for_clients_that_could_not_be_is_refused() {
    for (lines, behind, message) in [
        (
            "transport = \"udp\"\naddress = \"127.0.0.1:7222\"",
            "",
            "9:13: clients of UCServers come by streams; write one of \"tcp\", \"tls\", \"http\", \"https\"",
        ),
        (
            "transport = \"tls\"\naddress = \"127.0.0.1:7222\"",
            "",
            "9:13: TLS needs a certificate; add a [[certificates]] with chain and key, or write \"tcp\" or \"http\"",
        ),
        (
            "transport = \"tls\"\naddress = \"127.0.0.1:7222\"",
            "[[certificate]]\nchain = \"a\"\n",
            "11:3: unknown key `certificate`; did you mean `certificates`?",
        ),
        (
            "transport = \"tls\"\naddress = \"127.0.0.1:7222\"",
            "[[certificates]]\nchain = \"a\"\n",
            "11:1: [[certificates]] needs `key`, such as key = \"door.key\"",
        ),
        (
            "transport = \"tcp\"\naddress = \"127.0.0.1:0\"",
            "",
            "10:11: 127.0.0.1:0 has no fixed port, so nobody could find the door; write one, such as 5060",
        ),
        (
            "transport = \"tcp\"\naddress = \"127.0.0.1:7222\"\nadvertise = \"a:1\"",
            "",
            "11:13: nobody is told where a listener with plane = \"client\" is; remove `advertise`",
        ),
        (
            "address = \"127.0.0.1:7222\"",
            "",
            "6:1: [[listen]] needs `transport`, such as transport = \"tcp\"",
        ),
        (
            "transport = \"tcp\"",
            "",
            "6:1: [[listen]] needs `address`, such as address = \"10.0.0.1:7222\"",
        ),
    ] {
        let refused = refusal(&with_clients(lines, behind));
        assert_eq!(refused, format!("door.toml:{message}"), "{lines} {behind}");
    }
    let taken = with_clients("transport = \"tcp\"\naddress = \"127.0.0.1:5060\"", "");
    assert_eq!(
        refusal(
            &taken.replace(
                "\"udp\"\naddress = \"127.0.0.1:5060",
                "\"tcp\"\naddress = \"127.0.0.1:5060"
            )
        ),
        "door.toml:10:11: tcp:127.0.0.1:5060 is taken (line 5); give this listen another address or port"
    );
    let unused = GOOD.replacen(
        "[[upstream]]",
        "[[certificates]]\nchain = \"a\"\nkey = \"b\"\n[[upstream]]",
        1,
    );
    assert_eq!(
        warnings(&unused),
        [
            "door.toml:6:1: no [[listen]] has plane = \"client\", so nobody is shown this certificate; \
          add one, or remove the certificate"
        ]
    );
}

#[test]
fn the_web_service_has_listeners_of_its_own_and_numbers_after_all_others() {
    let native = "transport = \"tcp\"\naddress = \"0.0.0.0:7222\"";
    let web = |transport: &str, port: u16| {
        format!(
            "[[listen]]\nname = \"{transport}\"\nplane = \"client\"\ntransport = \"{transport}\"\n\
             address = \"0.0.0.0:{port}\"\n"
        )
    };
    let certificates = "[[certificates]]\nchain = \"a\"\nkey = \"b\"\n";
    let behind = [web("http", 7224), web("https", 7225), certificates.to_owned()].concat();
    let text = with_clients(native, &behind);
    let served = text.replacen(
        "capacity",
        "clients = \"10.0.0.1:7222\"\nweb = \"10.0.0.1:7224\"\ncapacity",
        1,
    );
    assert_eq!(
        warnings(&text),
        [
            "door.toml:11:1: no server has `web`, so nobody can be served here; add it to [[servers]]",
            "door.toml:16:1: no server has `web`, so nobody can be served here; add it to [[servers]]"
        ]
    );
    let config = Config::parse(Path::new("door.toml"), &served).unwrap();
    assert_eq!(config.warnings, []);
    let net = config.net_settings();
    assert_eq!(net.listeners.len(), config.sockets.len() + 1);
    let listeners: Vec<_> =
        net.web.listeners.iter().map(|it| (&*it.name, it.address.port(), it.is_secure)).collect();
    assert_eq!(listeners, [("http", 7224, false), ("https", 7225, true)]);
    let server = &net.web.servers[0];
    assert_eq!(server.address, Some("10.0.0.1:7224".parse().unwrap()));
    assert_eq!(&*server.ucsid, "ucs1", "it is called as here, unless that is written otherwise");
    let named = served.replacen("capacity", "ucsid = \"local\"\ncapacity", 1);
    let config = Config::parse(Path::new("door.toml"), &named).unwrap();
    assert_eq!(&*config.net_settings().web.servers[0].ucsid, "local");
    let secret = with_clients("transport = \"https\"\naddress = \"0.0.0.0:7225\"", "");
    assert!(refusal(&secret).contains("TLS needs a certificate"), "{}", refusal(&secret));
}

#[test]
fn listeners_stand_for_servers_that_are_there_and_redirects_lead_somewhere() {
    let native = "transport = \"tcp\"\naddress = \"0.0.0.0:7222\"";
    let standing = |name: &str| with_clients(&format!("{native}\nstands_for = \"{name}\""), "");
    let config = Config::parse(Path::new("door.toml"), &standing("ucs2")).unwrap();
    let clients = config.door_settings(Private::new([0; 32]), 1).clients;
    let listener = ListenerId(config.sockets.len() as u16);
    assert_eq!(clients.stands_for, [(listener, ServerId(1))]);
    assert_eq!(
        refusal(&standing("usc2")),
        "door.toml:11:14: `usc2` is no server; write the name of a [[servers]]; did you mean `ucs2`?"
    );
    let phones = with("name = \"phones\"\n", "name = \"phones\"\nstands_for = \"ucs1\"\n");
    assert!(refusal(&phones).contains("remove `stands_for`"), "{}", refusal(&phones));
    let redirecting = format!("{GOOD}[clients]\nclient_failover = \"redirect\"\n");
    assert!(warnings(&redirecting)[0].contains("no server has `public`"));
    let public = redirecting.replacen("capacity", "public = \"a.example:7222\"\ncapacity", 1);
    assert_eq!(warnings(&public), [""; 0]);
    let config = Config::parse(Path::new("door.toml"), &public).unwrap();
    assert_eq!(config.clients.failover, door::ClientFailover::Redirect);
    assert_eq!(config.servers[0].public.as_deref(), Some("a.example:7222"));
    let bad = redirecting.replacen("capacity", "public = \"a b\"\ncapacity", 1);
    assert!(refusal(&bad).contains("`a b` is not `host:port`"), "{}", refusal(&bad));
}
