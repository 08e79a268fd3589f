//! Real sockets, real time: what only the kernel can show.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has failed"
)]

mod admin;
mod admin_hostile;
mod browsers;
mod canary;
mod clients;
mod commands;
mod crash;
mod curl;
mod demo;
mod detection;
mod fetch;
mod full_disk;
mod harness;
mod homecoming;
mod hostile;
mod hostile_contacts;
mod hostile_streams;
mod incarnations;
mod kamailio;
mod kamailio_sipp;
mod node;
mod openapi;
mod orders;
mod overload;
mod passthrough;
mod pushes;
mod schema;
mod simulated_clients;
mod simulated_web;
mod sipp;
mod sipsak;
mod sockets;
mod soft_phones;
mod streams;
mod support;
mod tls;
mod ucsap;
mod web;
