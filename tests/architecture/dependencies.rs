//! What is linked into the program, judged by `deny.toml`, with nothing to install.
//!
//! `cargo deny` reads the same file and judges the same; building it takes longer than building
//! this program, so it is run where it is installed and this is run everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::{read, refuse, root};

/// What the lock file calls it.
const REGISTRY: &str = "rust-lang/crates.io-index";

#[test]
fn what_is_linked_into_the_program_is_what_deny_toml_admits() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--target", "x86_64-unknown-linux-gnu"])
        .args(["--edges", "no-dev", "--no-dedupe", "--prefix", "depth", "--format", "|{p}|{l}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let shipped = Package::read_all(&tree);
    assert!(shipped.iter().any(|package| package.name == "bytes"), "nothing was judged");
    refuse(Policy::read(&read(&root().join("deny.toml"))).judge(&shipped));
}

#[test]
fn everything_that_is_built_comes_from_the_public_registry() {
    refuse(check_sources(&read(&root().join("Cargo.lock"))));
}

/// A line of `cargo tree`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Package<'t> {
    name: &'t str,
    version: &'t str,
    licence: &'t str,
    /// Who wants it.
    by: &'t str,
}

impl<'t> Package<'t> {
    /// Reads a tree of which each line begins with how deep it lies.
    fn read_all(tree: &'t str) -> BTreeSet<Self> {
        let mut above: Vec<&str> = Vec::new();
        let read = |line: &'t str| {
            let (depth, rest) = line.split_once('|')?;
            let (package, licence) = rest.split_once('|')?;
            let mut words = package.split(' ');
            let (name, version) = (words.next()?, words.next()?);
            above.truncate(depth.parse().ok()?);
            let by = above.last().copied().unwrap_or_default();
            above.push(name);
            Some(Self { name, version, licence, by })
        };
        tree.lines().filter_map(read).collect()
    }
}

fn check_sources(lock: &str) -> Vec<String> {
    let elsewhere = |source: &&str| !source.contains(REGISTRY);
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    sources.filter(elsewhere).map(|source| format!("{source}: others cannot fetch it")).collect()
}

/// The part of `deny.toml` that is the same everywhere.
struct Policy {
    licences: BTreeSet<String>,
    /// Crate → why not.
    banned: BTreeMap<String, String>,
    /// Banned crate, and one by which it may come in all the same.
    through: BTreeSet<(String, String)>,
    /// Crates of which there may be several versions.
    several: BTreeSet<String>,
}

impl Policy {
    fn read(text: &str) -> Self {
        let table: toml::Table = text.parse().expect("deny.toml is TOML");
        let list = |section: &str, key: &str| -> Vec<toml::Value> {
            let list = table[section].get(key).and_then(toml::Value::as_array);
            list.cloned().unwrap_or_default()
        };
        let text = |entry: &toml::Value, key: &str| -> String {
            entry.get(key).and_then(toml::Value::as_str).unwrap_or_default().into()
        };
        let reasoned = |key: &str| {
            let entries = list("bans", key);
            entries.into_iter().map(move |entry| (text(&entry, "crate"), text(&entry, "reason")))
        };
        let through = list("bans", "deny").into_iter().flat_map(|entry| {
            let wrappers = entry.get("wrappers").and_then(toml::Value::as_array).cloned();
            let name = text(&entry, "crate");
            let named = move |by: toml::Value| Some((name.clone(), by.as_str()?.into()));
            wrappers.unwrap_or_default().into_iter().filter_map(named)
        });
        let policy = Self {
            through: through.collect(),
            licences: list("licenses", "allow")
                .iter()
                .map(|id| id.as_str().unwrap_or_default().into())
                .collect(),
            banned: reasoned("deny").collect(),
            several: reasoned("skip").map(|(name, _)| name).collect(),
        };
        assert!(policy.banned.values().all(|why| !why.is_empty()), "every ban says why");
        policy
    }

    fn judge(&self, packages: &BTreeSet<Package<'_>>) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for &Package { name, version, licence, by } in packages {
            versions.entry(name).or_default().insert(version);
            let through = self.through.contains(&(name.into(), by.into()));
            if let Some(why) = self.banned.get(name).filter(|_| !through) {
                complaints.push(format!("{name} is linked in: {why}"));
            }
            if !self.admits(licence) {
                complaints.push(format!("{name}: deny.toml does not allow the licence {licence}"));
            }
        }
        for (name, versions) in versions {
            if versions.len() > 1 && !self.several.contains(name) {
                complaints.push(format!("{name} is there {} times: {versions:?}", versions.len()));
            }
        }
        complaints
    }

    fn admits(&self, licence: &str) -> bool {
        let parsed = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
        parsed.is_ok_and(|expression| {
            expression.evaluate(|wanted| {
                let id = wanted.license.id();
                wanted.addition.is_none() && id.is_some_and(|id| self.licences.contains(id.name))
            })
        })
    }
}

#[test]
fn a_banned_crate_a_licence_and_a_second_version_are_refused() {
    let policy = Policy::read(
        "[licenses]\nallow = [\"MIT\", \"Unicode-3.0\"]\n[bans]\nskip = [{ crate = \"two\" }]\n\
         deny = [{ crate = \"bad\", reason = \"it is bad\", wrappers = [\"kept\"] }]\n",
    );
    let judge = |tree: &str| policy.judge(&Package::read_all(tree));
    let good = "0|good v1.0.0 (proc-macro)|(MIT/Apache-2.0) AND Unicode-3.0";
    assert_eq!(judge(good), Vec::<String>::new());
    assert_eq!(judge("0|two v1.0.0|MIT\n1|two v2.0.0|MIT\n\n"), Vec::<String>::new());
    assert_eq!(judge("0|x v1.0.0|MIT\n1|kept v1.0.0|MIT\n2|bad v1.0.0|MIT"), Vec::<String>::new());
    for (bad, why) in [
        ("0|bad v1.0.0|MIT", "it is bad"),
        ("0|kept v1.0.0|MIT\n1|x v1.0.0|MIT\n2|bad v1.0.0|MIT", "it is bad"),
        ("0|kept v1.0.0|MIT\n1|x v1.0.0|MIT\n1|bad v1.0.0|MIT\n0|bad v1.0.0|MIT", "it is bad"),
        ("0|x v1.0.0|GPL-3.0-only", "does not allow"),
        ("0|x v1.0.0|MIT AND Apache-2.0", "does not allow"),
        ("0|x v1.0.0|", "does not allow"),
        ("0|good v2.0.0|MIT", "2 times"),
    ] {
        let complaints = judge(&format!("{good}\n{bad}\n"));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains(why), "{complaints:?}");
    }
}

#[test]
fn a_crate_from_elsewhere_is_refused() {
    let public = format!("name = \"a\"\nsource = \"registry+{REGISTRY}\"\n");
    assert_eq!(check_sources(&public), Vec::<String>::new());
    let branch = format!("{public}source = \"git+elsewhere\"\n");
    assert_eq!(check_sources(&branch), ["source = \"git+elsewhere\": others cannot fetch it"]);
}
