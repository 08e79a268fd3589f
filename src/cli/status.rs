//! `frontdoor status`: the servers, and what is being moved.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{CliError, http, out, status_table};
use crate::door::Status;

/// Where the admin listener is by default.
pub(super) const ADMIN: &str = "127.0.0.1:9060";
/// Where the whole picture is.
pub(super) const PATH: &str = "/v1/status";

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN)]
    admin: SocketAddr,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Asks the door and shows what it says.
pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, CliError> {
    if args.json {
        let status: serde_json::Value = http::get(args.admin, PATH)?;
        out::json(&status);
    } else {
        let status: Status = http::get(args.admin, PATH)?;
        out::line(status_table::render(&status).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
