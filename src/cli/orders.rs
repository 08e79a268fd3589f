//! `frontdoor home`, `frontdoor drain`, `frontdoor maintenance`, `frontdoor panic`: what an operator
//! tells a running door.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::{CliError, http, out, status};
use crate::config::token::{self, TokenFault};

/// Whom to tell, and as whom.
#[derive(Debug, Args)]
pub(super) struct Desk {
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    pub(super) admin: SocketAddr,
    /// The file with the door's admin token
    #[arg(long, value_name = "FILE", default_value = "admin-token.key")]
    token_file: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

impl Desk {
    /// Tells the door, and says what that means.
    pub(super) fn tell(
        &self,
        path: &str,
        body: Option<&serde_json::Value>,
        then: &str,
    ) -> Result<ExitCode, CliError> {
        self.order(path, body)?;
        if self.json {
            out::json(&json!({ "done": true }));
        } else {
            out::line(then);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Tells the door, as somebody who has its token.
    pub(super) fn order(
        &self,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(), CliError> {
        let token = token::read(&self.token_file)?
            .ok_or_else(|| TokenFault::Missing { path: self.token_file.clone() })?;
        Ok(http::post(self.admin, path, &token, body)?)
    }
}

/// Arguments of `home`.
#[derive(Debug, Args)]
pub(super) struct HomeArgs {
    /// Login name or address (sip:…)
    user: String,
    /// The server where the user is to belong
    server: String,
    #[command(flatten)]
    desk: Desk,
}

/// Gives a user another home.
pub(super) fn home(args: &HomeArgs) -> Result<ExitCode, CliError> {
    let path = format!("/v1/users/{}/home", http::escaped(&args.user));
    let then = "done: no connection is moved; it counts at the next login. A user whose phone is \
                registered stays until then, or until users go home (frontdoor recovery)";
    args.desk.tell(&path, Some(&json!({ "home": args.server })), then)
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The server
    server: String,
    /// Ends it: the server takes users again, and those who left come home
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    desk: Desk,
}

/// Lets the users of a server leave it, or ends that.
pub(super) fn drain(args: &DrainArgs) -> Result<ExitCode, CliError> {
    let path = format!("/v1/servers/{}/drain", http::escaped(&args.server));
    let then = if args.off {
        "done: it takes users again, first a growing share; those who left come home by the rules \
         of the way home (frontdoor recovery)"
    } else {
        "done: it takes nobody new and its users leave, idle ones first; frontdoor status shows how \
         many are left. It lasts until `frontdoor drain --off`, or until the door restarts"
    };
    args.desk.tell(&path, Some(&json!({ "on": !args.off })), then)
}

/// Arguments of `maintenance`.
#[derive(Debug, Args)]
pub(super) struct MaintenanceArgs {
    /// The server
    server: String,
    /// Ends it: the server is judged anew
    #[arg(long)]
    off: bool,
    /// Its users stay and wait for it: for a restart of a minute
    #[arg(long, conflicts_with = "off")]
    stay: bool,
    #[command(flatten)]
    desk: Desk,
}

/// Puts a server under maintenance, or ends that.
pub(super) fn maintenance(args: &MaintenanceArgs) -> Result<ExitCode, CliError> {
    let path = format!("/v1/servers/{}/maintenance", http::escaped(&args.server));
    let then = if args.off {
        "done: it is judged anew, as if the door had just started"
    } else if args.stay {
        "done: nobody is moved for its health, nobody goes there, and its users stay, until \
         `frontdoor maintenance --off`, or until the door restarts: then it is forgotten"
    } else {
        "done: its users leave (frontdoor status shows how many are left), its health counts for \
         nothing and nobody goes there, until `frontdoor maintenance --off`, or until the door \
         restarts: then it is forgotten"
    };
    args.desk.tell(&path, Some(&json!({ "on": !args.off, "stay": args.stay })), then)
}

/// Arguments of `panic`.
#[derive(Debug, Args)]
pub(super) struct PanicArgs {
    #[command(subcommand)]
    order: PanicOrder,
}

#[derive(Debug, Subcommand)]
enum PanicOrder {
    /// The network is well: servers that are silent are failed, and their users are moved
    End(Desk),
}

/// Tells the door that its network is well.
pub(super) fn panic(args: &PanicArgs) -> Result<ExitCode, CliError> {
    let PanicOrder::End(desk) = &args.order;
    let then = "done: users of silent servers are moved after the hold, where distribution is \
                enabled. Another server that falls silent is a new reason to suspect the network";
    desk.tell("/v1/suspicion/end", None, then)
}
