//! What a person sees while the demo plays: a live picture on a terminal, lines of a log elsewhere,
//! nothing with `--json`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::cli::demo::report::Report;
use crate::cli::demo::sessions::ClientReport;
use crate::cli::status_table;
use crate::door::Status;
use crate::now::Uptime;

/// Between two pictures.
const LIVE_EVERY: Duration = Duration::from_millis(200);
/// Between two lines of the log, while something changes.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Everything there is to see.
#[derive(Debug)]
pub(super) struct View<'v> {
    /// What is going on, in words.
    pub(super) phase: &'v str,
    pub(super) phones: usize,
    pub(super) registered: usize,
    pub(super) status: Option<&'v Status>,
    /// Affected phones, and those reached elsewhere by now; after the kill.
    pub(super) rehomed: Option<(usize, usize)>,
    /// Affected phones that are at home again; after the server was started again.
    pub(super) returned: Option<usize>,
    /// The clients, if there are any.
    pub(super) clients: Option<ClientView>,
}

/// What there is to see of clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientView {
    pub(super) clients: usize,
    /// Those that have logged in and watch their line.
    pub(super) logged_in: usize,
    /// Affected clients, and those that hear of their line again; after the kill.
    pub(super) resumed: Option<(usize, usize)>,
    /// Affected clients that are to go home, and those that are there; after the server was started
    /// again.
    pub(super) at_home: Option<(usize, usize)>,
}

/// The terminal.
#[derive(Debug)]
pub(super) struct Screen {
    mode: Mode,
    drawn_at: Uptime,
    last: String,
}

#[derive(Debug)]
enum Mode {
    Silent,
    Log,
    /// Lines of the picture that stands there.
    Live(usize),
}

impl Screen {
    pub(super) fn new(silent: bool) -> Self {
        let mode = match silent {
            true => Mode::Silent,
            false if std::io::stdout().is_terminal() => Mode::Live(0),
            false => Mode::Log,
        };
        Self { mode, drawn_at: Uptime::ZERO, last: String::new() }
    }

    /// Shows the present, if it is time to or the phase is new.
    pub(super) fn show(&mut self, now: Uptime, view: &View<'_>) {
        let (every, picture) = match self.mode {
            Mode::Silent => return,
            Mode::Log => (LOG_EVERY, line(view)),
            Mode::Live(_) => (LIVE_EVERY, picture(view)),
        };
        let is_news = !self.last.starts_with(view.phase);
        if picture == self.last || (!is_news && now.since(self.drawn_at) < every) {
            return;
        }
        let mut out = std::io::stdout().lock();
        // A terminal that went away is no reason to stop.
        let _gone = match &mut self.mode {
            Mode::Silent => Ok(()),
            Mode::Log => writeln!(out, "{picture}"),
            Mode::Live(lines) => {
                let up = std::mem::replace(lines, picture.lines().count());
                let back = if up == 0 { String::new() } else { format!("\x1b[{up}A") };
                // Without wrapping, so that lines on a narrow terminal stay one line each.
                write!(out, "{back}\x1b[J\x1b[?7l{picture}\x1b[?7h").and_then(|()| out.flush())
            }
        };
        self.drawn_at = now;
        self.last = picture;
    }
}

/// One line of the log.
fn line(view: &View<'_>) -> String {
    let mut parts = Vec::new();
    if view.phones > 0 {
        parts.push(format!("{} of {} phones registered", view.registered, view.phones));
        if let Some((affected, rehomed)) = view.rehomed {
            parts.push(format!("{rehomed} of {affected} affected reached elsewhere"));
            parts.extend(view.returned.map(|returned| format!("{returned} at home again")));
        }
    }
    if let Some(clients) = view.clients {
        parts.push(format!("{} of {} clients logged in", clients.logged_in, clients.clients));
        parts.extend(clients.resumed.map(|(affected, resumed)| {
            format!("{resumed} of {affected} affected hear of their line again")
        }));
        parts.extend(
            clients.at_home.map(|(expected, at_home)| {
                format!("{at_home} of {expected} of them at home again")
            }),
        );
    }
    let servers = view.status.iter().flat_map(|status| &status.servers);
    parts.extend(
        servers.map(|server| format!("{} {} {}", server.name, server.state, server.assigned)),
    );
    format!("{}: {}", view.phase, parts.join(", "))
}

/// The live picture.
fn picture(view: &View<'_>) -> String {
    let (registered, phones) = (view.registered, view.phones);
    let mut text = format!("{}\n\n", view.phase);
    if phones > 0 {
        let bar = status_table::bar(registered as u64, phones as u64);
        let _ok = writeln!(text, "phones   {bar} {registered} of {phones} registered");
    }
    if let Some((affected, rehomed)) = view.rehomed.filter(|_| phones > 0) {
        let bar = status_table::bar(rehomed as u64, affected as u64);
        let _ok = writeln!(text, "reached  {bar} {rehomed} of {affected} affected, elsewhere");
        if let Some(returned) = view.returned {
            let bar = status_table::bar(returned as u64, affected as u64);
            let _ok = writeln!(text, "at home  {bar} {returned} of {affected} affected, again");
        }
    }
    if let Some(clients) = view.clients {
        text.push_str(&client_picture(clients));
    }
    if let Some(status) = view.status {
        text.push('\n');
        text.push_str(&status_table::servers(status));
        for failover in &status.failovers {
            text.push_str(&status_table::render_failover(failover, status.at_nanos));
        }
    }
    text
}

/// The clients' part of it.
fn client_summary(report: &Report) -> String {
    let ClientReport { clients, clients_affected: affected, .. } = report.clients;
    let mut text = String::new();
    if clients == 0 {
        return text;
    }
    let ClientReport { client_sessions_kept: kept, client_sessions_returned: returned, .. } =
        report.clients;
    if let (0, Some(killed)) = (report.phones, &report.killed) {
        let _ok = write!(text, "\n{killed} was killed.");
        if let Some(detect) = report.detect_ms {
            let _ok = write!(text, " The door knew after {detect:.0} ms.");
        }
    }
    let _ok = write!(
        text,
        "\n{kept} of {clients} clients kept connection and monitor, {returned} came back and logged in again."
    );
    if report.killed.is_some() {
        let _ok = write!(text, "\n{affected} clients were served by the killed server");
        if let Some(p99) = report.clients.client_served_p99_ms {
            let _ok = write!(text, ", 99 of 100 heard of their line again within {p99:.0} ms");
        }
        if let Some(p99) = report.clients.client_resume_p99_ms {
            let _ok =
                write!(text, ", of those that did not have to log in again within {p99:.0} ms");
        }
        text.push('.');
    }
    let _ok = match report.clients.client_sessions_lost {
        0 => Ok(()),
        1 => write!(text, "\n1 client HEARS NOTHING, or from the wrong server."),
        n => write!(text, "\n{n} clients HEAR NOTHING, or from the wrong server."),
    };
    if let strange @ 1.. = report.clients.client_messages_strange {
        let _ok =
            write!(text, "\n{strange} messages to clients belonged to NOTHING THEY HAD ASKED FOR.");
    }
    text
}

fn client_picture(view: ClientView) -> String {
    let line = |name: &str, there: usize, of: usize, what: &str| {
        let bar = status_table::bar(there as u64, of as u64);
        format!("{name}  {bar} {there} of {of} {what}\n")
    };
    let mut text = line("clients", view.logged_in, view.clients, "logged in");
    if let Some((affected, resumed)) = view.resumed {
        text.push_str(&line("served ", resumed, affected, "affected, elsewhere"));
    }
    if let Some((expected, at_home)) = view.at_home {
        text.push_str(&line("at home", at_home, expected, "affected that can be moved, again"));
    }
    text
}

/// The result, for a person.
pub(super) fn summary(report: &Report) -> String {
    let mut text = String::new();
    if report.phones > 0 {
        text.push_str(&phone_summary(report));
    }
    text.push_str(&client_summary(report));
    let _ok = match report.lost {
        _ if report.phones == 0 => Ok(()),
        0 => write!(text, "\nNo binding is lost: every phone with a lease can be reached."),
        1 => write!(text, "\n1 phone with a lease CANNOT BE REACHED."),
        n => write!(text, "\n{n} phones with a lease CANNOT BE REACHED."),
    };
    text
}

/// The phones' part of it.
fn phone_summary(report: &Report) -> String {
    let Report { phones, registered, affected, rehomed, moved_others, .. } = *report;
    let mut text = format!("\n{registered} of {phones} phones registered.");
    if let Some(killed) = &report.killed {
        let _ok = write!(text, "\n{killed} was killed; {affected} phones were registered there.");
        if let Some(detect) = report.detect_ms {
            let _ok = write!(text, "\nThe door knew after {detect:.0} ms.");
        }
        let _ok = write!(text, "\n{rehomed} of them were reached through another server");
        if let Some(first) = report.rehome_first_ms {
            let _ok = write!(text, ", the first after {first:.0} ms");
        }
        match report.rehome_p99_ms {
            Some(p99) => {
                let _ok = write!(text, ", 99 of 100 within {p99:.0} ms.");
            }
            None => text.push('.'),
        }
        let others = match moved_others {
            0 => String::from("Nobody else was moved."),
            1 => String::from("1 phone of another server was moved, and should not have been."),
            n => format!("{n} phones of other servers were moved, and should not have been."),
        };
        let _ok = write!(text, "\n{others}");
        if let Some(spread) = report.spread_error_pct {
            let _ok = write!(
                text,
                "\nNo survivor's share of guests is further than {spread:.1} % from the ideal."
            );
        }
    }
    if let Some(returned) = report.returned {
        let _ok = write!(text, "\nIt was started again; {returned} of its phones came home");
        if let Some(p99) = report.return_p99_s {
            let _ok = write!(text, ", 99 of 100 within {p99:.1} s of that");
        }
        if let (Some(stages), Some(peak), Some(pace)) =
            (report.stages, report.return_peak_per_s, report.return_pace_per_s)
        {
            let _ok = write!(
                text,
                ", in {stages} stages, at most {peak} within a second (the pace is {pace} a second, \
                 and a tenth of that may be saved up)"
            );
        }
        text.push('.');
        if let Some(stayed @ 1..) = report.stayed {
            let _ok = write!(
                text,
                "\n{stayed} stayed with a client of their user that cannot be moved unnoticed."
            );
        }
        match report.aborted {
            Some(0) | None => {}
            Some(stopped) => {
                let _ok = write!(text, "\nTheir return was stopped {stopped} times.");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            phones: 100,
            registered: 100,
            killed: Some("ucs2".into()),
            affected: 33,
            detect_ms: Some(210.4),
            rehomed: 33,
            rehome_first_ms: Some(220.0),
            rehome_p99_ms: Some(400.0),
            lost: 0,
            moved_others: 0,
            spread_error_pct: Some(3.03),
            returned: None,
            stayed: None,
            return_p99_s: None,
            return_pace_per_s: None,
            return_peak_per_s: None,
            stages: None,
            aborted: None,
            clients: ClientReport::default(),
        }
    }

    #[test]
    fn the_summary_says_what_a_person_wants_to_know() {
        assert_eq!(
            summary(&report()),
            "\n100 of 100 phones registered.\n\
             ucs2 was killed; 33 phones were registered there.\n\
             The door knew after 210 ms.\n\
             33 of them were reached through another server, the first after 220 ms, \
             99 of 100 within 400 ms.\n\
             Nobody else was moved.\n\
             No survivor's share of guests is further than 3.0 % from the ideal.\n\
             No binding is lost: every phone with a lease can be reached."
        );
    }

    #[test]
    fn the_summary_says_how_they_came_home() {
        let back = Report {
            returned: Some(33),
            return_p99_s: Some(21.04),
            return_pace_per_s: Some(25),
            return_peak_per_s: Some(26),
            stages: Some(4),
            aborted: Some(1),
            ..report()
        };
        let text = summary(&back);
        assert!(
            text.contains(
                "\nIt was started again; 33 of its phones came home, 99 of 100 within 21.0 s of that, \
                 in 4 stages, at most 26 within a second (the pace is 25 a second, and a tenth of that may be \
                 saved up).\n\
                 Their return was stopped 1 times.\nNo binding is lost"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_summary_says_what_became_of_clients() {
        let clients = ClientReport {
            clients: 100,
            clients_affected: 30,
            clients_affected_unreplayable: 2,
            client_sessions_kept: 97,
            client_sessions_returned: 2,
            client_sessions_lost: 1,
            client_messages_strange: 1,
            client_served_p99_ms: Some(6_500.4),
            client_resume_p99_ms: Some(800.0),
        };
        let text = summary(&Report { clients, stayed: Some(2), returned: Some(31), ..report() });
        assert!(
            text.ends_with(
                "\n2 stayed with a client of their user that cannot be moved unnoticed.\n\
                 97 of 100 clients kept connection and monitor, 2 came back and logged in again.\n\
                 30 clients were served by the killed server, 99 of 100 heard of their line again \
                 within 6500 ms, of those that did not have to log in again within 800 ms.\n\
                 1 client HEARS NOTHING, or from the wrong server.\n\
                 1 messages to clients belonged to NOTHING THEY HAD ASKED FOR.\n\
                 No binding is lost: every phone with a lease can be reached."
            ),
            "{text}"
        );
    }

    #[test]
    fn without_phones_nothing_is_said_of_them() {
        let clients =
            ClientReport { clients: 100, client_sessions_kept: 100, ..ClientReport::default() };
        let text = summary(&Report { phones: 0, clients, ..report() });
        assert_eq!(
            text,
            "\nucs2 was killed. The door knew after 210 ms.\n\
             100 of 100 clients kept connection and monitor, 0 came back and logged in again.\n\
             0 clients were served by the killed server."
        );
    }

    #[test]
    fn a_loss_is_not_overlooked() {
        let text = summary(&Report { lost: 2, killed: None, ..report() });
        assert_eq!(
            text,
            "\n100 of 100 phones registered.\n2 phones with a lease CANNOT BE REACHED."
        );
    }

    #[test]
    fn a_log_line_says_where_everybody_is() {
        let view = View {
            phase: "registering",
            phones: 10,
            registered: 4,
            status: None,
            rehomed: Some((3, 1)),
            returned: None,
            clients: None,
        };
        assert_eq!(
            line(&view),
            "registering: 4 of 10 phones registered, 1 of 3 affected reached elsewhere"
        );
        let clients =
            ClientView { clients: 8, logged_in: 7, resumed: Some((5, 4)), at_home: Some((3, 2)) };
        let with_clients = line(&View { clients: Some(clients), rehomed: None, ..view });
        assert_eq!(
            with_clients,
            "registering: 4 of 10 phones registered, 7 of 8 clients logged in, \
             4 of 5 affected hear of their line again, 2 of 3 of them at home again"
        );
        let clients = Some(ClientView { resumed: None, at_home: None, ..clients });
        let alone = View { clients, phones: 0, ..view };
        assert_eq!(line(&alone), "registering: 7 of 8 clients logged in");
        assert!(!picture(&alone).contains("phones"));
    }
}
