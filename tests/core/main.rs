//! The core in virtual time: the door, simulated UCServers, phones and a network that a seed
//! commands. Nothing here sleeps.

mod desk;
mod failover;
mod moves;
mod phone;
mod register_rules;
mod restarts;
mod simulation;
mod upstream_rules;
mod world;
