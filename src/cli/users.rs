//! `frontdoor users`: where everybody is, and where they belong.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{CliError, http, out, status, status_table};
use crate::door::UserStatus;

/// Arguments of `users`.
#[derive(Debug, Args)]
pub(super) struct UsersArgs {
    /// One user, by login name or address (sip:…); default: all
    #[arg(conflicts_with_all = ["server", "home", "away", "at_home", "state", "prefix"])]
    name: Option<String>,
    /// Only users who are served by this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only users who belong to this server
    #[arg(long, value_name = "NAME")]
    home: Option<String>,
    /// Only users who are served elsewhere than at home
    #[arg(long)]
    away: bool,
    /// Only users who are not
    #[arg(long, conflicts_with = "away")]
    at_home: bool,
    /// Only users one of whose bindings stands so: settled, moving, awaiting_phone, held or failed
    #[arg(long)]
    state: Option<String>,
    /// Only users whose login name or address begins so, with or without sip:
    #[arg(long)]
    prefix: Option<String>,
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    admin: SocketAddr,
    /// One JSON object a user and line on stdout
    #[arg(long)]
    json: bool,
}

/// Asks the door, page by page.
pub(super) fn run(args: &UsersArgs) -> Result<ExitCode, CliError> {
    if let Some(name) = &args.name {
        let user: UserStatus =
            http::get(args.admin, &format!("/v1/users/{}", http::escaped(name)))?;
        if args.json {
            out::json(&user);
        } else {
            out::line(one(&user).trim_end());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let away = (args.away || args.at_home).then(|| args.away.to_string());
    let parameters = [
        ("server", args.server.clone()),
        ("home", args.home.clone()),
        ("away", away),
        ("state", args.state.clone()),
        ("prefix", args.prefix.clone()),
    ];
    let found = http::each_page(args.admin, "/v1/users", &parameters, |page, first| {
        show(page, first, args.json);
    })?;
    if !found && !args.json {
        let filtered = parameters.iter().any(|(_, value)| value.is_some());
        out::line(if filtered { "no such users" } else { "no users yet" });
    }
    Ok(ExitCode::SUCCESS)
}

fn show(page: &[UserStatus], first: bool, json: bool) {
    if json {
        page.iter().for_each(out::json);
        return;
    }
    let header = ["USER", "CURRENT", "HOME", "STANDING", "BINDINGS"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    rows.extend(page.iter().map(row));
    let table = status_table::columns(&rows, 4);
    let body = if first { table.as_str() } else { table.split_once('\n').map_or("", |(_, r)| r) };
    out::line(body.trim_end());
}

fn row(user: &UserStatus) -> Vec<String> {
    let mut standings: Vec<&str> = user.bindings.iter().map(|b| &*b.standing).collect();
    standings.sort_unstable();
    standings.dedup();
    vec![
        user.name.to_string(),
        user.current.as_deref().unwrap_or("-").to_owned(),
        user.home.as_deref().unwrap_or("-").to_owned(),
        if standings.is_empty() { String::from("-") } else { standings.join(",") },
        user.bindings.len().to_string(),
    ]
}

/// Everything about one user.
fn one(user: &UserStatus) -> String {
    let mut lines = vec![
        format!("user      {}", user.name),
        format!("addresses {}", user.aors.join(" ")),
        format!("home      {}", user.home.as_deref().unwrap_or("none yet")),
        format!("current   {}", user.current.as_deref().unwrap_or("none yet")),
    ];
    if let Some(date) = user.relocated_at {
        lines.push(format!("relocated at {date} (seconds since 1970), epoch {}", user.epoch));
    }
    for binding in &user.bindings {
        lines.push(format!("binding   {} from {}", binding.contact, binding.from));
        let at = match binding.registered_at.as_slice() {
            [] => String::from("nowhere"),
            servers => servers.join(", "),
        };
        lines.push(format!(
            "          {}, registered at {at}, {} s left of its lease",
            binding.standing, binding.lease_s
        ));
        if let Some(because) = &binding.because {
            lines.push(format!("          because: {because}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::BindingStatus;

    #[test]
    fn a_user_away_from_home_shows_both_places() {
        let binding = BindingStatus {
            contact: "sip:anna@192.0.2.7".into(),
            from: "udp:192.0.2.7:5060".into(),
            lease_s: 120,
            standing: "moving".into(),
            because: Some("server_refused".into()),
            ..BindingStatus::default()
        };
        let user = UserStatus {
            name: "anna".into(),
            aors: vec!["sip:anna@example.com".into()],
            home: Some("ucs1".into()),
            current: Some("ucs2".into()),
            relocated_at: Some(1_700_000_000),
            epoch: 3,
            bindings: vec![binding.clone(), binding],
            ..UserStatus::default()
        };
        assert_eq!(row(&user), ["anna", "ucs2", "ucs1", "moving", "2"]);
        let text = one(&user);
        assert!(text.contains("home      ucs1\ncurrent   ucs2\nrelocated at 1700000000"), "{text}");
        assert!(text.contains("moving, registered at nowhere, 120 s left of its lease"), "{text}");
        assert!(text.contains("because: server_refused"), "{text}");
    }
}
