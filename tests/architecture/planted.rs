//! A fault for each rule, and something sound that looks like it.

use crate::rules::{
    check_complete, check_document, check_file_length, check_function_lengths, check_imports,
    check_nowhere, check_purity, check_self_contained,
};
use crate::source::Source;

fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

/// Exactly one complaint, which says `what`.
#[track_caller]
fn refused(complaints: Vec<String>, what: &str) {
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains(what), "{complaints:?}");
}

#[track_caller]
fn fine(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn an_import_against_the_map_is_refused_wherever_it_stands() {
    let upward = source("sip/via.rs", "use crate::door::Door;\n");
    refused(check_imports(&upward), "src/sip/via.rs:1: sip names door");
    let inline = source("decision.rs", "fn f() {\n    crate::sip::parse();\n}\n");
    refused(check_imports(&inline), "src/decision.rs:2: decision names sip");
    let in_tests = source("sip/uri.rs", "#[cfg(test)]\nmod tests {\n    use crate::net::Udp;\n}\n");
    refused(check_imports(&in_tests), "sip names net");
    let by_super = source("placement/mod.rs", "use super::door;\n");
    refused(check_imports(&by_super), "`super` is the crate here");
    fine(check_imports(&source("door/edge.rs", "use crate::sip::Flow;\n// crate::net is shell\n")));
    let nested = source("now.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n");
    fine(check_imports(&nested));
}

#[test]
fn a_module_that_is_not_on_the_map_is_refused() {
    refused(check_imports(&source("helpers.rs", "")), "module helpers is not on the map");
    refused(check_imports(&source("util/mod.rs", "")), "module util is not on the map");
}

#[test]
fn the_core_may_not_wait_read_a_clock_touch_a_socket_or_print() {
    for (text, why) in [
        ("async fn f() {}", "waits for nothing"),
        ("let x = f().await;", "waits for nothing"),
        ("use tokio::time;", "waits for nothing"),
        ("let t = SystemTime::now();", "time is an argument"),
        ("let t: Instant = t0;", "time is an argument"),
        ("let s = std::net::UdpSocket::bind(a);", "no I/O"),
        ("let text = std::fs::read(p);", "no I/O"),
        ("let home = std::env::var(n);", "no I/O"),
        ("println!();", "no I/O"),
        ("tracing::info!(a);", "no I/O"),
        ("let n = rand::random();", "one seeded generator"),
        ("let n = fastrand::u64(..);", "one seeded generator"),
        ("let rng = fastrand::Rng::new();", "one seeded generator"),
        ("let shared = Mutex::new(0);", "one owner"),
    ] {
        for path in ["door/edge.rs", "cluster/health/machine.rs", "ucserver/server.rs", "now.rs"] {
            refused(check_purity(&source(path, text)), why);
        }
        fine(check_purity(&source("net/udp.rs", text)));
        fine(check_purity(&source("ucserver/run/wire.rs", text)));
    }
}

#[test]
fn words_in_comments_and_strings_and_parts_of_words_are_no_faults() {
    fine(check_purity(&source(
        "door/edge.rs",
        "// no tokio here /* Instant */\n/* async /**/\nlet a = \"tokio\";\nlet b = r#\"println!(\"\"#;\n\
         let c = '\"'; let tokio_like = b'\\''; let d: &'static str = \"\\\"async\";\n\
         use std::net::SocketAddr;\nlet rng = fastrand::Rng::with_seed(1);\n",
    )));
    let after_a_literal = source("door/edge.rs", "let c = '\"'; let t = Instant::default();\n");
    refused(check_purity(&after_a_literal), "time is an argument");
}

#[test]
fn a_hash_map_is_not_walked_in_the_core_unless_sorted() {
    let walked = "struct A { by_name: HashMap<String, u32> }\nlet x = self.by_name.values();\n";
    refused(check_purity(&source("door/pool.rs", walked)), "walks the hash map by_name");
    let local = "let mut seen = HashSet::new();\nlet x = seen.drain();\n";
    refused(check_purity(&source("door/pool.rs", local)), "walks the hash map seen");
    let sorted =
        "let mut seen = HashSet::new();\nlet mut x: Vec<u8> = seen.drain().collect();\nx.sort();\n";
    fine(check_purity(&source("door/pool.rs", sorted)));
    let list = "let mut seen = Vec::new();\nlet x = seen.iter();\n";
    fine(check_purity(&source("door/pool.rs", list)));
}

#[test]
fn what_stands_nowhere_is_refused_in_the_shell_too() {
    for (text, why) in [
        ("#[allow(dead_code)]", "say `#[expect"),
        ("#![allow(missing_docs)]", "say `#![expect"),
        ("dbg!(x);", "looking for a fault"),
        ("todo!()", "README.md says so"),
        ("use super::super::x;", "say `crate::"),
        ("use crate::{a, b};", "one module a line"),
        (concat!("// TO", "DO later"), "tracker"),
        (concat!("// FIX", "ME"), "tracker"),
    ] {
        refused(check_nowhere(&source("net/udp.rs", text)), why);
    }
    fine(check_nowhere(&source("net/udp.rs", "// not #[allow]\n#[expect(dead_code)]\n")));
}

#[test]
fn a_file_that_is_too_long_is_refused_and_an_exception_may_only_shrink() {
    let long = source("net/udp.rs", &"let a = 1;\n".repeat(601));
    refused(check_file_length(&long, &[]), "file of 601 lines");
    fine(check_file_length(&long, &[("net/udp.rs", 601)]));
    refused(check_file_length(&long, &[("net/udp.rs", 600)]), "may shrink, not grow");
    let short = source("net/udp.rs", &"let a = 1;\n".repeat(600));
    fine(check_file_length(&short, &[]));
    refused(check_file_length(&short, &[("net/udp.rs", 700)]), "strike it off");
    fine(check_file_length(
        &source("net/udp.rs", &"let a = 1; // why\n// why\n\n".repeat(600)),
        &[],
    ));
    let tests = format!("let a = 1;\n#[cfg(test)]\nmod tests {{\n{}}}\n", "a();\n".repeat(700));
    fine(check_file_length(&source("net/udp.rs", &tests), &[]));
}

#[test]
fn a_function_that_is_too_long_is_refused_and_an_exception_may_only_shrink() {
    let of = |lines: usize| {
        let body = "    if a { b() }\n".repeat(lines - 2);
        source(
            "door/pool.rs",
            &format!("trait T {{\n    fn g(a: [u8; 4]);\n}}\nfn f() {{\n{body}}}\n"),
        )
    };
    refused(check_function_lengths(&of(101), &[]), "src/door/pool.rs:4: function f of 101 lines");
    fine(check_function_lengths(&of(100), &[]));
    fine(check_function_lengths(&of(101), &[("door/pool.rs", "f", 101)]));
    refused(check_function_lengths(&of(102), &[("door/pool.rs", "f", 101)]), "may shrink");
    refused(check_function_lengths(&of(100), &[("door/pool.rs", "f", 101)]), "strike it off");
}

#[test]
fn a_document_that_names_what_is_not_there_is_refused() {
    let check = |text: &str| {
        check_document("A.md", text, &|path| path == "src/now.rs", &|word| word == "Door")
    };
    refused(check("see `src/then.rs`"), "there is no `src/then.rs`");
    refused(check("see `gone.toml`"), "there is no `gone.toml`");
    refused(check("call `Door::shut()`"), "nothing is called `Door::shut`");
    fine(check("see `src/now.rs`, `Door`, `GET /x`, `--json`\n```\n`src/then.rs`\n```\n`Door`"));
    refused(check("```\nfence\n```\n`Window`"), "nothing is called `Window`");
}

#[test]
fn an_architecture_that_forgets_a_module_is_refused() {
    let text = "| `src/now.rs` | time |\n| `src/sip/` | bytes |";
    fine(check_complete(text, ["now.rs", "sip/"].into_iter()));
    refused(check_complete(text, ["now.rs", "net/"].into_iter()), "src/net/ is for");
    refused(check_complete(text, ["door/edge.rs"].into_iter()), "src/door/edge.rs is for");
}

#[test]
fn a_text_that_names_a_machine_or_a_strange_host_is_refused() {
    let check = |text: &str| check_self_contained("x.md", text);
    refused(check(concat!("see /ho", "me/me/notes")), "a machine that readers do not have");
    refused(check(concat!("https:/", "/registry.somewhere.io/x")), "registry.somewhere.io");
    fine(check(
        "http://127.0.0.1:8080/metrics https://door.example.com/ sip://uc1.example http://{addr}.{x}/",
    ));
}
