//! `frontdoor rebalance`: shows who would get another home so that every server has its share, and
//! begins or stops it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::orders::Desk;
use crate::cli::{CliError, explain, http, out, status_table};
use crate::door::RebalancePlan;

/// Moves asked for at once.
const PAGE: usize = 1_000;

/// Arguments of `rebalance`.
#[derive(Debug, Args)]
pub(super) struct RebalanceArgs {
    #[command(subcommand)]
    order: Option<Order>,
    /// Also list every user who would get another home
    #[arg(long)]
    users: bool,
    #[command(flatten)]
    desk: Desk,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Begins: paced, idle users only
    Start(Desk),
    /// Stops: who has another home keeps it
    Stop(Desk),
}

/// Shows the plan, or gives an order.
pub(super) fn run(args: &RebalanceArgs) -> Result<ExitCode, CliError> {
    match &args.order {
        Some(Order::Start(desk)) => {
            let then = "done: homes are being spread; frontdoor status shows how far it is";
            return desk.tell("/v1/rebalance/start", None, then);
        }
        Some(Order::Stop(desk)) => {
            return desk.tell("/v1/rebalance/stop", None, "done: the others keep their home");
        }
        None => {}
    }
    let ask = |from: usize, count: usize| {
        let path = format!("/v1/rebalance?from={from}&count={count}");
        http::get::<RebalancePlan>(args.desk.admin, &path)
    };
    let plan = ask(0, 0)?;
    if args.desk.json {
        out::json(&plan);
    } else {
        out::line(shown(&plan).trim_end());
    }
    if !args.users {
        return Ok(ExitCode::SUCCESS);
    }
    let mut from = 0;
    loop {
        let page = ask(from, PAGE)?.moves;
        if page.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if args.desk.json {
            page.iter().for_each(out::json);
        } else {
            out::line(explain::moves(&page, from == 0).trim_end());
        }
        from += page.len();
    }
}

fn shown(plan: &RebalancePlan) -> String {
    let mut text = String::new();
    if plan.users == 0 {
        text.push_str("Every server has its share: nobody would get another home.\n");
    } else {
        // Writing to a String cannot fail.
        let _ok = writeln!(
            text,
            "{} users would get another home, in about {} s at the configured pace.",
            plan.users, plan.seconds
        );
    }
    match &plan.why_not {
        Some(why) => {
            let _ok = writeln!(text, "It would not begin now: {why}.");
        }
        None if plan.users > 0 => text.push_str("To begin: frontdoor rebalance start\n"),
        None => {}
    }
    text.push('\n');
    let header = ["SERVER", "CAPACITY", "NOW", "GO", "COME", "THEN"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    rows.extend(plan.servers.iter().map(|it| {
        let numbers = [it.capacity, it.before, it.go, it.come, it.after];
        let numbers = numbers.iter().map(ToString::to_string);
        std::iter::once(it.server.to_string()).chain(numbers).collect()
    }));
    text.push_str(&status_table::columns(&rows, 1));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::ServerLoad;

    #[test]
    fn it_says_what_would_happen_and_how_to_begin() {
        let mut plan = RebalancePlan {
            users: 200,
            seconds: 4,
            servers: vec![ServerLoad {
                server: "ucs3".into(),
                capacity: 1_000,
                before: 0,
                go: 0,
                come: 200,
                after: 200,
            }],
            ..RebalancePlan::default()
        };
        let text = shown(&plan);
        assert!(text.starts_with("200 users would get another home, in about 4 s"), "{text}");
        assert!(text.contains("frontdoor rebalance start"), "{text}");
        let row: Vec<&str> = text.lines().last().unwrap_or_default().split_whitespace().collect();
        assert_eq!(row, ["ucs3", "1000", "0", "0", "200", "200"]);
        plan.why_not = Some("ucs1 is down: wait until it is up".into());
        let text = shown(&plan);
        assert!(text.contains("It would not begin now: ucs1 is down"), "{text}");
        assert!(!text.contains("rebalance start"), "{text}");
    }
}
