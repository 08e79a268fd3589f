//! `frontdoor check`: what is wrong with a configuration, and what is dangerous.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::{CliError, out};
use crate::config::{Config, Problem, Problems, StorePlace, certificates, token};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Parses the file and looks at what it names; fails if a door could not start with it.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let (errors, warnings, summary) = match Config::read(&args.config) {
        Ok(config) => (unusable(&config), config.warnings.clone(), Some(summary(&config))),
        Err(Problems { problems, .. }) => (located(&args.config, &problems), Vec::new(), None),
    };
    if args.json {
        out::json(&json!({
            "config": args.config,
            "ok": errors.is_empty(),
            "errors": errors.iter().map(|(problem, _)| problem).collect::<Vec<_>>(),
            "warnings": warnings,
        }));
    } else {
        for (_, text) in &errors {
            out::line(format_args!("error: {text}"));
        }
        for warning in &warnings {
            out::line(format_args!("warning: {}", warning.at(&args.config)));
        }
        if let (true, Some(summary)) = (errors.is_empty(), summary) {
            out::line(summary);
        }
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An error as JSON and as text.
type Wrong = (serde_json::Value, String);

fn located(path: &Path, problems: &[Problem]) -> Vec<Wrong> {
    problems
        .iter()
        .map(|problem| (serde_json::to_value(problem).unwrap_or_default(), problem.at(path)))
        .collect()
}

/// Files and directories that a door could not use. Nothing is made or changed.
fn unusable(config: &Config) -> Vec<Wrong> {
    let mut wrong: Vec<String> = Vec::new();
    if let StorePlace::File(path) = &config.store {
        wrong.extend(unusable_directory("store.path", path));
    }
    match token::read(&config.token_file) {
        Ok(Some(_)) => {}
        Ok(None) => wrong.extend(unusable_directory("keys.path_token_file", &config.token_file)),
        Err(fault) => wrong.push(fault.to_string()),
    }
    for files in &config.certificates {
        let read = certificates::read(std::slice::from_ref(files));
        wrong.extend(read.err().map(|fault| fault.to_string()));
    }
    wrong
        .into_iter()
        .map(|text| (json!({ "line": 0, "column": 0, "message": text }), text))
        .collect()
}

/// Whether a file could be made or changed where a key says.
fn unusable_directory(key: &str, file: &Path) -> Option<String> {
    use nix::unistd::{AccessFlags, access};
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new("."));
    if !directory.is_dir() {
        let directory = directory.display();
        return Some(format!(
            "{key}: there is no directory {directory}; make it: mkdir -p {directory}"
        ));
    }
    let writable = AccessFlags::W_OK | AccessFlags::X_OK;
    if access(directory, writable).is_err() {
        return Some(format!(
            "{key}: nothing can be written in {}; chown it to the user that runs the door",
            directory.display()
        ));
    }
    if file.exists() && access(file, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        return Some(format!(
            "{key}: {} cannot be read and written; chown it to the user that runs the door",
            file.display()
        ));
    }
    None
}

fn summary(config: &Config) -> String {
    let capacity: u64 = config.servers.iter().map(|server| u64::from(server.capacity)).sum();
    let moving = if config.decision.disable_automatic_user_distribution {
        "a failed server's users stay (disable_automatic_user_distribution = true)"
    } else {
        "a failed server's users are moved"
    };
    format!(
        "{}: ok; {} sockets, {} servers with room for {capacity} users, {} users in the file; {moving}",
        config.path.display(),
        config.sockets.len() + config.client_sockets.len(),
        config.servers.len(),
        config.users.len(),
    )
}
