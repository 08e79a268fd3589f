//! Bad files and the exact words they are refused with; the shipped file.

mod clients;

use super::*;
use crate::cluster::{Plane, Planes};
use crate::config::raw::sections;

/// The least that is accepted, with one warning-free pool.
const GOOD: &str = r#"
[[listen]]
name = "phones"
transport = "udp"
address = "127.0.0.1:5060"
[[upstream]]
name = "servers"
transport = "udp"
address = "127.0.0.1:5070"
[[servers]]
name = "ucs1"
sip = "udp:10.0.0.1:5060"
capacity = 100
version = "2603.0"
[[servers]]
name = "ucs2"
sip = "udp:10.0.0.2:5060"
capacity = 100
version = "2603.0"
[sip]
trusted_networks = ["10.0.0.0/8"]
"#;

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("door.toml"), text)
}

fn refusal(text: &str) -> String {
    parse(text).map(|_| "accepted").unwrap_err().to_string()
}

/// [`GOOD`] with one text replaced by another.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn warnings(text: &str) -> Vec<String> {
    let config = parse(text).unwrap();
    config.warnings.iter().map(|warning| warning.at(&config.path)).collect()
}

#[test]
fn the_least_that_is_needed_is_accepted_without_a_warning() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.warnings, []);
    assert!(config.decision.disable_automatic_user_distribution, "D1: disabled by default");
    assert_eq!(config.store, StorePlace::File("frontdoor.redb".into()));
    assert_eq!(config.admin.address, "127.0.0.1:9060".parse().unwrap());
    let sides: Vec<_> = config.sockets.iter().map(|s| (&*s.name, s.side, &*s.advertised)).collect();
    assert_eq!(
        sides,
        [("phones", Side::Phones, "127.0.0.1:5060"), ("servers", Side::Servers, "127.0.0.1:5070")]
    );
}

#[test]
fn a_server_of_another_realm_is_named_before_anything_runs() {
    let pool = |realms: [&str; 3]| {
        let mut text = GOOD.replace(
            "[sip]",
            "[[servers]]\nname = \"ucs3\"\n\
            sip = \"udp:10.0.0.3:5060\"\ncapacity = 100\nversion = \"2603.0\"\n[sip]",
        );
        for (number, realm) in (1..).zip(realms).filter(|(_, realm)| !realm.is_empty()) {
            let name = format!("name = \"ucs{number}\"\n");
            text = text.replace(&name, &format!("{name}realm = \"{realm}\"\n"));
        }
        text
    };
    assert_eq!(warnings(&pool(["a", "a", "a"])), [""; 0]);
    assert_eq!(warnings(&pool(["a", "", ""])), [""; 0], "the others may be of the same");
    let other = |line, server, realm, others, other_realm| {
        format!(
            "door.toml:{line}:9: server `{server}` has realm `{realm}`, the others ({others}) have \
             `{other_realm}`: no user of theirs can move there, and none of its own to them"
        )
    };
    assert_eq!(warnings(&pool(["a", "b", "b"])), [other(12, "ucs1", "a", "ucs2, ucs3", "b")]);
    assert_eq!(
        warnings(&pool(["b", "a", "c"])),
        [other(12, "ucs1", "b", "ucs2", "a"), other(24, "ucs3", "c", "ucs2", "a")]
    );
    assert_eq!(warnings(&pool(["b", "", "a"])), [other(12, "ucs1", "b", "ucs3", "a")]);
    assert!(refusal(&pool(["a", " ", "a"])).contains("`realm` must not be empty"));
}

/// [`GOOD`] with a third server, these lines in each server's section, and, where one of them reaches it,
/// a telephone system.
fn tied_pool(lines: [&str; 3]) -> String {
    let reached = lines.iter().any(|line| line.starts_with("reaches"));
    let system = "[[telephone_systems]]\nname = \"pbx-main\"\nrate_max = 25\nwindow_max = 16\n";
    let third = "[[servers]]\nname = \"ucs3\"\n\
        sip = \"udp:10.0.0.3:5060\"\ncapacity = 100\nversion = \"2603.0\"\n";
    let system = if reached { system } else { "" };
    let mut text = GOOD.replace("[sip]", &format!("{third}{system}[sip]"));
    for (number, line) in (1..).zip(lines).filter(|(_, line)| !line.is_empty()) {
        let name = format!("name = \"ucs{number}\"\n");
        text = text.replace(&name, &format!("{name}{line}\n"));
    }
    text
}

#[test]
fn line_groups_that_are_not_equal_everywhere_are_named_before_anything_runs() {
    let of = |groups: [&str; 3]| {
        let lines = groups
            .map(|it| if it.is_empty() { String::new() } else { format!("line_groups = {it}") });
        warnings(&tied_pool([&*lines[0], &*lines[1], &*lines[2]]))
    };
    let office = "[\"office\"]";
    assert_eq!(of([office, office, office]), [""; 0]);
    assert_eq!(of([office, "", ""]), [""; 0], "the others may have it, too");
    let alone = |line, server, group, hint| {
        format!(
            "door.toml:{line}: line group `{group}` is on server `{server}` alone{hint}: none of its \
             users can move to another one; names must be equal on all servers"
        )
    };
    let near = "; did you mean `office`?";
    assert_eq!(of([office, office, "[\"Office\"]"]), [alone("24:16", "ucs3", "Office", near)]);
    assert_eq!(of(["[\"office\", \"fax\"]", office, office]), [alone("12:26", "ucs1", "fax", "")]);
    let no_backup = |line, server| {
        format!(
            "door.toml:{line}:1: no other server has all line groups and reaches all telephone \
             systems of `{server}`: when it fails, its users find no place"
        )
    };
    // Every name is somewhere else, too, but nowhere are both.
    assert_eq!(of(["[\"a\", \"b\"]", "[\"a\"]", "[\"b\"]"]), [no_backup(10, "ucs1")],);
}

#[test]
fn a_telephone_system_is_what_a_telephone_systems_section_describes() {
    let reaches = "reaches = [\"pbx-main\"]";
    let config = parse(&tied_pool([reaches; 3])).unwrap();
    assert_eq!(config.warnings, []);
    let system = &config.telephone_systems[0];
    assert_eq!((&*system.name, system.pace.rate_max), ("pbx-main", Some(25)));
    assert_eq!((system.pace.window_initial, system.pace.window_max), (16, 16));
    assert_eq!(config.servers[0].ties.reaches("pbx-main"), Some(true));
    assert_eq!(
        warnings(&tied_pool([reaches, "", reaches])),
        ["door.toml:16:1: server `ucs2` has no `reaches`: its users' registrations keep to a \
          [[telephone_systems]] only if its health document names it, and as long as one has come; \
          add reaches = [\"pbx-main\"]"]
    );
    let wrong = |line| refusal(&tied_pool([reaches, line, reaches]));
    assert_eq!(
        wrong("reaches = [\"pbx-mian\", \"\", \"a\\nb\"]"),
        "door.toml:18:12: `pbx-mian` is no [[telephone_systems]]; did you mean `pbx-main`?; add one \
         with name = \"pbx-mian\"\n\
         door.toml:18:24: `reaches` must not be empty\n\
         door.toml:18:28: a name in `reaches` must be of 1 to 128 octets without control characters"
    );
    let twice = GOOD.replace("[sip]", "[[telephone_systems]]\n[[telephone_systems]]\nname = \"a\"\nrate_max = 0\n[[telephone_systems]]\nname = \"a\"\n[sip]");
    let refused = refusal(&twice);
    for part in [
        "[[telephone_systems]] needs `name`, such as name = \"pbx\"",
        "`rate_max` is 0; it must be from 1 to 100000",
        "the name `a` is taken (line 22); give this telephone_systems another one",
    ] {
        assert!(refused.contains(part), "{part} is missing from {refused}");
    }
    let many = "[[telephone_systems]]\nname = \"a\"\n".repeat(65);
    assert!(refusal(&GOOD.replace("[sip]", &format!("{many}[sip]"))).contains("at most 64"));
    let names = vec!["\"x\""; 257].join(", ");
    let long = refusal(&tied_pool(["", &format!("line_groups = [{names}]"), ""]));
    assert!(long.contains("`line_groups` is 257; it must be from 0 to 256 names"), "{long}");
}

#[test]
fn files_are_beside_the_configuration() {
    let text = format!("{GOOD}[store]\npath = \"state.redb\"\n[keys]\npath_token_file = \"/k\"\n");
    let config = Config::parse(Path::new("/etc/frontdoor/door.toml"), &text).unwrap();
    assert_eq!(config.store, StorePlace::File("/etc/frontdoor/state.redb".into()));
    assert_eq!(config.token_file, Path::new("/k"));
}

#[test]
fn an_empty_file_says_all_that_is_missing() {
    assert_eq!(
        refusal(""),
        "door.toml: no [[listen]]: phones have nowhere to register; add one with name, transport, address\n\
         door.toml: no [[upstream]]: the door has no socket towards the servers; add one with name, transport, address\n\
         door.toml: no [[servers]]: add one for each UCServer, with name, sip, capacity"
    );
}

#[test]
fn keys_nobody_knows_are_all_named_with_what_was_meant() {
    let text = format!(
        "{GOOD}[failover]\nhold_silense = \"3s\"\nprobation = \"3s\"\n[helth]\nx = 1\n[log]\nx = 1\n"
    );
    assert_eq!(
        refusal(&text),
        "door.toml:23:1: unknown key `hold_silense` in [failover]; did you mean `hold_silence`?\n\
         door.toml:24:1: unknown key `probation` in [failover]; it belongs in [health]\n\
         door.toml:25:2: unknown key `helth`; did you mean `health`?\n\
         door.toml:28:1: unknown key `x` in [log]"
    );
}

#[test]
fn a_misspelt_key_is_not_also_missing() {
    assert_eq!(
        refusal(&with("capacity", "capasity")),
        "door.toml:13:1: unknown key `capasity` in [servers]; did you mean `capacity`?"
    );
    assert_eq!(
        refusal(&with("[[upstream]]", "[[upstreams]]")),
        "door.toml:6:3: unknown key `upstreams`; did you mean `upstream`?"
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused_where_they_stand() {
    for (section, line, message) in [
        (
            "failover",
            "grace = 5",
            "23:9: `grace`: `5` has no unit; write \"5s\" for seconds or \"5ms\" for milliseconds",
        ),
        (
            "failover",
            "grace = \"5 min\"",
            "23:9: `grace`: `min` is not a unit of time; use ms, s, m, h or d, such as \"5s\"",
        ),
        (
            "failover",
            "disable_automatic_user_distribution = \"no\"",
            "23:39: `disable_automatic_user_distribution`: invalid type: string \"no\", expected true or false",
        ),
        (
            "failover",
            "panic_threshold_percent = 101",
            "23:27: `panic_threshold_percent` is 101; it must be from 0 to 100",
        ),
        (
            "failover",
            "panic_threshold_percent = -1",
            "23:27: `panic_threshold_percent` is -1; it must be from 0 to 100",
        ),
        (
            "failover",
            "retry_after_min = \"2m\"",
            "23:19: `retry_after_min` (2m) is more than `retry_after_max` (1m); lower it, or raise `retry_after_max`",
        ),
        (
            "health",
            "down_after = \"1s\"",
            "23:14: `degraded_after` (1250ms) is more than `down_after` (1s); lower it, or raise `down_after`",
        ),
        (
            "health",
            "planes = [\"sip\", \"cleint\"]",
            "23:18: `cleint` is not possible here; write one of \"sip\", \"csta\", \"client\"; did you mean `client`?",
        ),
        (
            "health",
            "planes = [\"sips\"]",
            "23:11: `sips` is not possible here; write one of \"sip\", \"csta\", \"client\"; did you mean `sip`?",
        ),
        ("health", "planes = []", "23:10: `planes` must not be empty"),
        (
            "health",
            "planes = [\"client\"]",
            "23:10: server `ucs1` serves none of these planes, so nothing would say that it has failed; add one of \"sip\"",
        ),
        (
            "health",
            "plane_dwell = \"2s\"",
            "23:15: `down_after` (2475ms) is more than `plane_dwell` (2s); lower it, or raise `plane_dwell`",
        ),
        ("health", "rise = 0", "23:8: `rise` is 0; it must be from 1 to 100"),
        (
            "pace",
            "window_initial = 600",
            "23:18: `window_initial` (600) is more than `window_max` (512); lower it, or raise `window_max`",
        ),
        (
            "pace",
            "window_max = -1",
            "23:14: `window_max`: invalid value: integer `-1`, expected a whole number, not negative, at most 4294967295",
        ),
        ("limits", "bindings = 0", "23:12: `bindings` is 0; it must be from 1 to 100000000"),
        (
            "users",
            "unknown = \"adapt\"",
            "23:11: `adapt` is not possible here; write one of \"adopt\", \"reject\"; did you mean `adopt`?",
        ),
        (
            "admin",
            "address = \"0.0.0.0:9060\"",
            "23:11: the admin listener has no authentication yet and is for this machine only; write \"127.0.0.1:9060\"",
        ),
        (
            "admin",
            "address = \"127.0.0.1\"",
            "23:11: `address`: `127.0.0.1` has no port; write \"127.0.0.1:5060\"",
        ),
        (
            "log",
            "filter = \"frontdoor=loud\"",
            "23:10: log filter \"frontdoor=loud\": error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5; write a level (error, warn, info, debug, trace), and further module=level pairs after commas",
        ),
        (
            "users",
            "file = \"/nonexistent/users.csv\"",
            "23:8: the users file /nonexistent/users.csv, No such file or directory (os error 2)",
        ),
    ] {
        let text = format!("{GOOD}[{section}]\n{line}\n");
        assert_eq!(refusal(&text), format!("door.toml:{message}"), "{line}");
    }
}

#[test]
fn which_planes_count_is_said_by_name() {
    let config = parse(&format!("{GOOD}[health]\nplanes = [\"client\", \"sip\"]\n")).unwrap();
    assert_eq!(config.health.planes, Planes::SIP.with(Plane::Client));
    assert_eq!(parse(GOOD).unwrap().health.planes, Planes::ALL);
    assert!(config.servers.iter().all(|server| server.planes == Planes::SIP));
    let with_clients =
        GOOD.replacen("[[servers]]\n", "[[servers]]\nclients = \"127.0.0.1:7222\"\n", 1);
    let planes = parse(&with_clients).unwrap().servers.first().map(|server| server.planes);
    assert_eq!(planes, Some(Planes::SIP.with(Plane::Client)));
}

#[test]
fn sip_settings_are_judged_against_each_other() {
    for (line, message) in [
        (
            "lease_min = \"10m\"",
            "22:13: `lease_min` (10m) is more than `lease_max` (5m); lower it, or raise `lease_max`",
        ),
        (
            "lease_max = \"30s\"",
            "22:13: `lease_min` (1m) is more than `lease_max` (30s); lower it, or raise `lease_max`",
        ),
        ("lease_min = \"0s\"", "22:13: `lease_min` is 0ms; it must be from 1s to 1d"),
        (
            "auth = \"digest\"",
            "22:8: `digest` is not possible here; write one of \"none\", \"passthrough\"",
        ),
        (
            "server_header = \"a\\r\\nEvil: b\"",
            "22:17: `server_header` holds a character that cannot be sent; use printable ASCII",
        ),
        ("t1 = \"5s\"", "22:6: `t1` (5s) is more than `t2` (4s); lower it, or raise `t2`"),
    ] {
        assert_eq!(refusal(&format!("{GOOD}{line}\n")), format!("door.toml:{message}"), "{line}");
    }
}

#[test]
fn a_network_that_is_none_is_refused_and_the_others_are_read() {
    let text = with("[\"10.0.0.0/8\"]", "[\"10.0.0.0/8\", \"10.0.0.0/40\", \"office\", \"::1\"]");
    assert_eq!(
        refusal(&text),
        "door.toml:21:35: `trusted_networks`: `10.0.0.0/40` is not a network; write one such as \"10.0.0.0/8\" or \"fd00::/8\"\n\
         door.toml:21:50: `trusted_networks`: `office` is not a network; write one such as \"10.0.0.0/8\" or \"fd00::/8\""
    );
}

#[test]
fn sockets_and_servers_that_collide_or_lack_something_are_named() {
    for (from, to, message) in [
        (
            "address = \"127.0.0.1:5060\"",
            "address = \"0.0.0.0:5060\"",
            "5:11: 0.0.0.0:5060 says where to listen, not where the door is reached; add advertise = \"door.example.com:5060\" or listen on one address",
        ),
        (
            "address = \"127.0.0.1:5060\"",
            "address = \"door:5060\"",
            "5:11: `address`: `door:5060` is not an address; write an IP address and a port, such as \"10.0.0.1:5060\" or \"[fd00::1]:5060\" (names are not looked up)",
        ),
        (
            "address = \"127.0.0.1:5060\"",
            "address = \"127.0.0.1:0\"",
            "5:11: 127.0.0.1:0 has no fixed port, so nobody could find the door; write one, such as 5060",
        ),
        (
            "address = \"127.0.0.1:5060\"",
            "address = \"127.0.0.1:5060\"\nadvertise = \"door\"",
            "6:13: `door` is not `host:port`; write what the other side reaches the door by, such as \"door.example.com:5060\"",
        ),
        (
            "127.0.0.1:5070",
            "127.0.0.1:5060",
            "9:11: udp:127.0.0.1:5060 is taken (line 5); give this upstream another address or port",
        ),
        (
            "name = \"servers\"",
            "name = \"phones\"",
            "7:8: the name `phones` is taken (line 3); give this upstream another one",
        ),
        (
            "name = \"servers\"\n",
            "",
            "6:1: [[upstream]] needs `name`, such as name = \"phones-udp\"",
        ),
        (
            "\"ucs2\"",
            "\"ucs1\"",
            "16:8: the name `ucs1` is taken (line 11); give this servers another one",
        ),
        (
            "10.0.0.2",
            "10.0.0.1",
            "17:7: udp:10.0.0.1:5060 is taken (line 12); give this server another address or port",
        ),
        (
            "10.0.0.1",
            "127.0.0.1",
            "12:7: server `ucs1` has an address of the door itself (line 5); write the UCServer's",
        ),
        (
            "udp:10.0.0.1:5060",
            "10.0.0.1:5060",
            "12:7: `sip`: `10.0.0.1:5060` does not say how SIP is spoken; write \"udp:10.0.0.1:5060\" or \"tcp:10.0.0.1:5060\"",
        ),
        (
            "udp:10.0.0.1:5060",
            "tcp:10.0.0.1:5060",
            "12:7: server `ucs1` is reached by tcp over IPv4, and no [[upstream]] does that; add one with transport = \"tcp\" and an IPv4 address",
        ),
        (
            "udp:10.0.0.1:5060",
            "udp:[fd00::1]:5060",
            "12:7: server `ucs1` is reached by udp over IPv6, and no [[upstream]] does that; add one with transport = \"udp\" and an IPv6 address",
        ),
        (
            "capacity = 100",
            "capacity = 0",
            "13:12: `capacity` is 0; it must be from 1 to 4294967295",
        ),
        ("capacity = 100\n", "", "10:1: [[servers]] needs `capacity`, such as capacity = 1000"),
        (
            "version = \"2603.0\"",
            "version = \"new\"",
            "14:11: `new` is not a version; write one such as \"2603.0\"",
        ),
        (
            "version = \"2603.0\"",
            "health_url = \"https://10.0.0.1/health\"",
            "14:14: `https://10.0.0.1/health` is not usable; write \"http://HOST:PORT/PATH\" (https is not supported)",
        ),
        (
            "version = \"2603.0\"",
            "health_document = \"required\"",
            "14:19: health_document = \"required\" needs `health_url`, such as \"http://10.0.0.1:7130/health\"",
        ),
    ] {
        assert_eq!(refusal(&with(from, to)), format!("door.toml:{message}"), "{to}");
    }
}

#[test]
fn what_is_not_toml_is_refused_where_it_stands() {
    let refused = refusal(&with("name = \"phones\"", "name = phones"));
    assert!(refused.starts_with("door.toml:3:8: this is not TOML: "), "{refused}");
}

#[test]
fn what_is_possible_and_dangerous_is_a_warning() {
    for (from, to, message) in [
        (
            "version = \"2603.0\"\n",
            "",
            "door.toml:10:1: server `ucs1` has no known version, so it serves its own users only and is no backup; add version = \"2603.0\" (or what it runs), or health_url",
        ),
        (
            "2603.0",
            "2510.4",
            "door.toml:14:11: server `ucs1` runs 2510.4; before 2603.0 a server serves its own users only and is no backup",
        ),
        (
            "trusted_networks = [\"10.0.0.0/8\"]",
            "auth = \"none\"",
            "door.toml:21:8: auth = \"none\" without trusted_networks: anybody can register anything, and no refresh is absorbed; list your phones' networks, such as trusted_networks = [\"10.0.0.0/8\"]",
        ),
        (
            "trusted_networks",
            "lease_max = \"2h\"\ntrusted_networks",
            "door.toml:21:13: `lease_max` (2h) is more than `expiry` (1h), which bounds every lease",
        ),
        (
            "[sip]",
            "[store]\npath = \"memory\"\n[sip]",
            "door.toml:21:8: store.path = \"memory\": homes, relocations and bindings are gone when the door stops; name a file unless this is a test",
        ),
    ] {
        assert_eq!(warnings(&with(from, to)), [message], "{to}");
    }
    let one = GOOD.replacen("[[servers]]\nname = \"ucs2\"\nsip = \"udp:10.0.0.2:5060\"\ncapacity = 100\nversion = \"2603.0\"\n", "", 1);
    assert_eq!(
        warnings(&one),
        ["door.toml: there is one server only: when it fails there is nowhere to go"]
    );
}

#[test]
fn a_users_file_is_checked_against_the_pool() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("door.toml");
    let write = |users: &str| {
        let text = format!("user,aors,lines,home,enabled\n{users}");
        std::fs::write(directory.path().join("users.csv"), text).unwrap();
        Config::parse(&path, &format!("{}[users]\nfile = \"users.csv\"\n", small_pool()))
    };
    let said = |problems: &[Problem]| {
        problems.iter().map(|p| (p.line, p.fault.to_string())).collect::<Vec<_>>()
    };

    let fits = write("anna,sip:anna@example.com,,ucs1,true\nbert,sip:bert@example.com,,,true\n");
    assert_eq!(fits.as_ref().unwrap().users.len(), 2);
    assert_eq!(said(&fits.unwrap().warnings), []);

    let three = "anna,sip:a@b.example,,ucs1,true\nbert,sip:b@b.example,,ucs1,true\ncarl,sip:c@b.example,,ucs2,true\n";
    let full = write(three).unwrap();
    assert_eq!(
        said(&full.warnings),
        [(
            23,
            String::from(
                "one more failure does not fit: when server `ucs1` fails, 1 of its 2 users find no place; add a server or raise capacities"
            )
        )]
    );

    let gone = write("anna,sip:a@b.example,,ucs9,true\n").unwrap_err();
    assert_eq!(
        said(&gone.problems),
        [(
            23,
            String::from(
                "1 users have the home `ucs9` (the first is `anna`), and no [[servers]] has that name"
            )
        )]
    );
    let twice = write("anna,sip:a@b.example,,,true\nbert,sip:a@b.example,,,true\n").unwrap_err();
    assert!(twice.problems[0].fault.to_string().contains("users.csv, line 3: "), "{twice}");
}

/// [`GOOD`] with room for two users a server.
fn small_pool() -> String {
    GOOD.replace("capacity = 100", "capacity = 2")
}

/// The shipped file, and the same with every default line switched on.
fn shipped() -> (&'static str, String) {
    let text = include_str!("../../config/frontdoor.toml");
    let is_key = |line: &&str| {
        line.strip_prefix('#').is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_lowercase()) || rest.starts_with("[[")
        })
    };
    let switched_on = text
        .lines()
        .map(|line| if is_key(&line) { &line[1..] } else { line })
        .map(|line| format!("{line}\n"));
    (text, switched_on.collect())
}

#[test]
fn a_longer_patience_with_servers_is_one_with_their_planes() {
    let patient = format!("{GOOD}\n[health]\ndown_after = \"30s\"\n");
    assert_eq!(parse(&patient).unwrap().health.plane_dwell, std::time::Duration::from_secs(30));
}

#[test]
fn the_shipped_file_is_accepted_as_it_is() {
    let config = parse(shipped().0).unwrap();
    assert_eq!(config.warnings, []);
}

#[test]
fn the_shipped_file_shows_every_key_in_its_section() {
    let (_, text) = shipped();
    let table: toml::Table = text.parse().unwrap();
    for (section, keys) in sections() {
        for key in keys {
            let there = match table.get(section) {
                None => table.contains_key(*key),
                Some(toml::Value::Array(entries)) => {
                    entries.iter().any(|entry| entry.get(*key).is_some())
                }
                Some(entry) => entry.get(*key).is_some(),
            };
            assert!(there, "[{section}] {key} is not in config/frontdoor.toml");
        }
    }
    let known: Vec<&str> = sections().into_keys().filter(|name| !name.is_empty()).collect();
    let mut sections_of_raw = sections()[""].to_vec();
    sections_of_raw.sort_unstable();
    assert_eq!(known, sections_of_raw, "every section's keys are known");
}

/// Keys that have no default, or name a file that is not there.
const WITHOUT_DEFAULT: [&str; 14] = [
    "chain",
    "clients",
    "file",
    "health_url",
    "key",
    "line_groups",
    "public",
    "push",
    "rate_max",
    "realm",
    "site",
    "stands_for",
    "ucsid",
    "web",
];

#[test]
fn the_defaults_in_the_shipped_file_are_the_defaults() {
    let (text, switched_on) = shipped();
    let switched_on: String = switched_on
        .lines()
        .filter(|line| {
            let key = line.split_once(" = ").map_or(*line, |(key, _)| key);
            !WITHOUT_DEFAULT.contains(&key) && key != "[[certificates]]"
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let shown = format!("{:#?}", parse(&switched_on).unwrap());
    assert_eq!(shown, format!("{:#?}", parse(text).unwrap()));
}
