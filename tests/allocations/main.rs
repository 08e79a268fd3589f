//! What the core allocates on the way of a REGISTER. Counts are the same on every machine, so
//! they are a bound here, not a measurement: `cargo bench --bench micro` has the times.

mod station;

use std::alloc::System;

use frontdoor::door::Input;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::station::Station;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of an unchanged refresh, the answer's own octets included: a buffer serves dozens of
/// answers, and only the first refresh of a phone is read.
const ABSORBED_MAX: f64 = 0.25;

const REFRESHES: usize = 100;

// One test: the counts are of the whole process.
#[test]
fn an_unchanged_refresh_allocates_little_and_always_the_same() {
    let mut station = Station::open();
    let first = station.register("");
    station.take(first);
    assert!(station.answers[0].starts_with(b"SIP/2.0 200"), "{:?}", station.answers);
    let refreshes: Vec<Input> = (0..REFRESHES).map(|_| station.register("")).collect();
    let absorbed = station.door.stats().registers_absorbed;
    let region = Region::new(COUNTED);
    let mut sent = 0;
    for refresh in refreshes {
        sent += station.take_alone(refresh);
    }
    let change = region.change();
    assert_eq!(station.door.stats().registers_absorbed - absorbed, REFRESHES as u64);
    assert!(sent >= REFRESHES);
    let each = (change.allocations + change.reallocations) as f64 / REFRESHES as f64;
    assert!(each <= ABSORBED_MAX, "{each} allocations a refresh: {change:?}");
    assert!(change.bytes_allocated <= change.bytes_deallocated + 4096, "grows: {change:?}");
}
