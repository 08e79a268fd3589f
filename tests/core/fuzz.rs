//! The bodies of the fuzz targets on stable: every seed and every fixture, then so many mutations of
//! them, by a seeded mutator.
//!
//! `FRONTDOOR_FUZZ_SEED=n` plays the mutations of one seed, `FRONTDOOR_FUZZ_RUNS=n` sets how many.
//! An input that fails is printed, and belongs into `fuzz/seeds/` once it is mended.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

#[expect(unreachable_pub, reason = "a library to cargo-fuzz, a module here")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

const SEED: u64 = 4475;
/// Octets of one mutated input.
const LENGTH_MAX: usize = 4096;

#[test]
fn codec() {
    play(
        "codec",
        targets::codec::run,
        &["fixtures/sip", "fixtures/rfc4475", "fixtures/rfc5118"],
        20_000,
    );
}

#[test]
fn framing() {
    play(
        "framing",
        targets::framing::run,
        &["fixtures/sip", "fixtures/rfc4475", "fixtures/rfc5118"],
        8_000,
    );
}

#[test]
fn operations() {
    play("operations", targets::operations::run, &[], 300);
}

#[test]
fn ucsap() {
    play("ucsap", targets::ucsap::run, &[], 20_000);
}

#[test]
fn ucws() {
    play("ucws", targets::ucws::run, &[], 20_000);
}

fn play(target: &str, run: fn(&[u8]), fixtures: &[&str], runs: u64) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = format!("fuzz/seeds/{target}");
    let mut corpus = Vec::new();
    for folder in fixtures.iter().copied().chain([seeds.as_str()]) {
        let entries =
            fs::read_dir(root.join(folder)).unwrap_or_else(|fault| panic!("{folder}: {fault}"));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        corpus.extend(paths.into_iter().map(|path| fs::read(path).unwrap()));
    }
    assert!(!corpus.is_empty(), "{target} has no seeds");
    for input in &corpus {
        attempt(target, run, input, "a seed");
    }
    let seed = number_from_environment("FRONTDOOR_FUZZ_SEED").unwrap_or(SEED);
    let runs = number_from_environment("FRONTDOOR_FUZZ_RUNS").unwrap_or(runs);
    println!("{target}: {} seeds, {runs} mutations of FRONTDOOR_FUZZ_SEED={seed}", corpus.len());
    let mut rng = fastrand::Rng::with_seed(seed);
    for number in 0..runs {
        let input = mutated(&corpus, &mut rng);
        attempt(target, run, &input, &format!("mutation {number} of FRONTDOOR_FUZZ_SEED={seed}"));
    }
}

fn attempt(target: &str, run: fn(&[u8]), input: &[u8], which: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        eprintln!("{target} fails with {which}: b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
}

/// One input, changed in a few places, or crossed with another.
fn mutated(corpus: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    const SIGNS: &[u8] = b"\r\n\t ,;:<>\"\\@=%[]*0\x00\xff";
    let mut input = corpus[rng.usize(0..corpus.len())].clone();
    for _ in 0..rng.usize(1..8) {
        let at = rng.usize(0..=input.len());
        let end = (at + rng.usize(0..40)).min(input.len());
        let other = &corpus[rng.usize(0..corpus.len())];
        let from = rng.usize(0..=other.len());
        let part = &other[from..(from + rng.usize(0..200)).min(other.len())];
        match rng.u32(0..7) {
            0 if at < input.len() => input[at] = SIGNS[rng.usize(0..SIGNS.len())],
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => input.insert(at, SIGNS[rng.usize(0..SIGNS.len())]),
            3 => drop(input.drain(at..end)),
            4 => drop(input.splice(at..at, part.iter().copied())),
            5 => {
                let copy = input[at..end].to_vec();
                drop(input.splice(at..at, copy));
            }
            _ => (0..rng.usize(1..12)).for_each(|_| input.push(rng.u8(..))),
        }
    }
    input.truncate(LENGTH_MAX);
    input
}

#[expect(clippy::disallowed_methods, reason = "a seed to replay comes from whoever replays it")]
fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
