//! The core in virtual time: the door, simulated UCServers, phones and a network that a seed
//! commands. Nothing here sleeps.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what went wrong by failing, and a seed to replay by printing it"
)]

mod along_the_path;
mod client;
mod client_faults;
mod clients;
mod commands;
mod departures;
mod desk;
mod explain;
mod failover;
mod fuzz;
mod homecoming;
mod imports;
mod incarnations;
mod injection;
mod listings;
mod moves;
mod overload;
mod passthrough;
mod phone;
mod planes;
mod realms;
mod redirects;
mod register_rules;
mod repeats;
mod reports;
mod restarts;
mod shortfall;
mod simulation;
mod telephone_systems;
mod torture;
mod upstream_rules;
mod web;
mod world;
