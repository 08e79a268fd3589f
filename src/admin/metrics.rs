//! The metrics page: Prometheus text format 0.0.4, written from a snapshot.
//!
//! Labels are bounded: server names come from the configuration, all others from fixed sets.

use std::fmt::{Display, Write as _};

use crate::admin::process::Process;
use crate::cluster::{PlaneState, State, Suspect};
use crate::door::Progress;
use crate::door::{ServerStatus, SystemStatus};
use crate::net::Snapshot;
use crate::now::Uptime;

/// The page for `snapshot` as seen at `now`; so many orders came without the right token.
pub(super) fn render(
    now: Uptime,
    snapshot: Option<&Snapshot>,
    process: Process,
    tokens_refused: u64,
) -> String {
    let mut page = Page::default();
    page.family("build_info", "gauge", "The version of this program.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.process(process);
    let help = "Orders over the admin listener without the right token.";
    page.counters("admin_", &[("tokens_refused", help, tokens_refused)]);
    if let Some(snapshot) = snapshot {
        page.door(now, snapshot);
        page.servers(&snapshot.status.servers);
        page.telephone_systems(&snapshot.status.telephone_systems);
        page.counters("", &snapshot.stats.each());
        page.counters("net_", &snapshot.net.each());
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

/// How a gauge of a server is read.
type Read = fn(&ServerStatus) -> u64;

const SERVER_GAUGES: [(&str, &str, Read); 8] = [
    ("server_score", "0 to 100.", |it| it.score.into()),
    ("server_capacity_users", "Users it can serve.", |it| it.capacity.into()),
    ("server_assigned_users", "Users served there.", |it| it.assigned.into()),
    ("server_home_users", "Users whose home it is.", |it| it.home_to.into()),
    ("server_bindings", "Bindings registered there.", |it| it.bindings),
    ("server_in_flight", "REGISTERs in flight to it.", |it| it.in_flight.into()),
    ("server_queued", "REGISTERs waiting for their turn.", |it| it.queued),
    ("server_incarnation", "Lives of its process seen.", |it| it.incarnation.into()),
];

/// How a gauge of a telephone system is read.
type ReadSystem = fn(&SystemStatus) -> u64;

const SYSTEM_GAUGES: [(&str, &str, ReadSystem); 5] = [
    ("telephone_system_window", "REGISTERs that may be in flight for it.", |it| it.window.into()),
    ("telephone_system_in_flight", "REGISTERs in flight for it.", |it| it.in_flight.into()),
    ("telephone_system_queued", "REGISTERs waiting for it.", |it| it.queued),
    ("telephone_system_reached_by", "Servers that reach it.", |it| it.reached_by.len() as u64),
    ("telephone_system_lost_by", "Servers that do not.", |it| it.lost_by.len() as u64),
];

impl Page {
    fn process(&mut self, process: Process) {
        let Process { resident_bytes, open_descriptors, most_descriptors } = process;
        let rows = [
            ("process_resident_memory_bytes", "Memory in use.", resident_bytes),
            ("process_open_fds", "File descriptors in use.", open_descriptors),
            ("process_max_fds", "File descriptors allowed.", most_descriptors),
        ];
        for (name, help, value) in rows {
            let Some(value) = value else { continue };
            // The usual names of these three carry no prefix.
            self.line(format_args!("# HELP {name} {help}"));
            self.line(format_args!("# TYPE {name} gauge"));
            self.line(format_args!("{name} {value}"));
        }
    }

    fn door(&mut self, now: Uptime, snapshot: &Snapshot) {
        let status = &snapshot.status;
        let age = now.since(snapshot.published).as_secs_f64();
        self.gauge("snapshot_age_seconds", "Time since the door showed these numbers.", age);
        self.gauge("users", "Users known.", status.users);
        self.gauge("users_relocated", "Users served elsewhere than at home.", status.relocated);
        self.gauge("users_unplaced", "Users with nowhere to go.", status.unplaced);
        let shortfall = status.shortfall.as_ref().map_or(0, |it| it.unplaced);
        let help = "Users with nowhere to go if the worst server failed now.";
        self.gauge("one_more_failure_unplaced_users", help, shortfall);
        self.gauge("bindings", "Bindings whose lease runs.", status.bindings);
        self.gauge("connections", "Stream connections.", snapshot.connections);
        self.gauge("web_sessions", "Sessions of the WebService.", snapshot.web_sessions);
        self.gauge("store_writes_waiting", "Writes without answer.", snapshot.writes_waiting);
        let failing = u8::from(status.store.is_some());
        self.gauge("store_failing", "1 while the store cannot write.", failing);
        let disabled = u8::from(status.distribution_disabled);
        self.gauge("distribution_disabled", "1 while nobody is moved automatically.", disabled);

        self.family("suspicion", "gauge", "1 while nobody is moved on this suspicion.");
        for of in Suspect::ALL.map(Suspect::name) {
            let value = u8::from(status.suspicion.as_deref() == Some(of));
            self.sample("suspicion", &[("of", of)], value);
        }
        self.family("bindings_standing", "gauge", "Bindings by where they stand.");
        let Progress { settled, moving, awaiting_phone, held, failed } = status.progress;
        let standings = [
            ("settled", settled),
            ("moving", moving),
            ("awaiting_phone", awaiting_phone),
            ("held", held),
            ("failed", failed),
        ];
        for (standing, value) in standings {
            self.sample("bindings_standing", &[("standing", standing)], value);
        }
    }

    fn servers(&mut self, servers: &[ServerStatus]) {
        self.family("server_state", "gauge", "1 for the state the server is in, else 0.");
        for server in servers {
            for state in State::ALL {
                let labels = [("server", &*server.name), ("state", state.name())];
                self.sample("server_state", &labels, u8::from(&*server.state == state.name()));
            }
        }
        let help = "1 for the state one plane of the server is in, else 0.";
        self.family("server_plane_state", "gauge", help);
        for server in servers {
            for seen in &server.planes {
                for state in PlaneState::ALL.map(PlaneState::name) {
                    let labels =
                        [("server", &*server.name), ("plane", &*seen.plane), ("state", state)];
                    self.sample("server_plane_state", &labels, u8::from(&*seen.state == state));
                }
            }
        }
        for (name, help, read) in SERVER_GAUGES {
            self.family(name, "gauge", help);
            for server in servers {
                self.sample(name, &[("server", &server.name)], read(server));
            }
        }
    }

    fn telephone_systems(&mut self, systems: &[SystemStatus]) {
        for (name, help, read) in SYSTEM_GAUGES {
            self.family(name, "gauge", help);
            for system in systems {
                self.sample(name, &[("system", &system.name)], read(system));
            }
        }
    }

    fn counters(&mut self, prefix: &str, counters: &[(&str, &str, u64)]) {
        for (name, help, value) in counters {
            let name = format!("{prefix}{name}_total");
            self.family(&name, "counter", help.trim());
            self.sample(&name, &[], value);
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP frontdoor_{name} {help}"));
        self.line(format_args!("# TYPE frontdoor_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        if labels.is_empty() {
            self.line(format_args!("frontdoor_{name} {value}"));
        } else {
            self.line(format_args!("frontdoor_{name}{{{}}} {value}", labels.join(",")));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::door::{PlaneStatus, ShortfallStatus, Stats, Status};
    use crate::net::Counters;

    use super::*;

    fn page() -> String {
        let server = ServerStatus {
            name: "uc\"s1".into(),
            state: State::Down.name().into(),
            score: 40,
            planes: vec![PlaneStatus {
                plane: "client".into(),
                state: PlaneState::Unheard.name().into(),
                ..PlaneStatus::default()
            }],
            ..ServerStatus::default()
        };
        let shortfall = ShortfallStatus { unplaced: 9, ..ShortfallStatus::default() };
        let pbx = SystemStatus { name: "pbx".into(), queued: 6, ..SystemStatus::default() };
        let snapshot = Snapshot {
            published: Uptime::from_secs(8),
            status: Status {
                servers: vec![server],
                telephone_systems: vec![pbx],
                shortfall: Some(shortfall),
                users: 7,
                ..Status::default()
            },
            stats: Stats { registers: 3, ..Stats::default() },
            net: Counters { datagrams_sent: 5, ..Counters::default() },
            connections: 4,
            web_sessions: 0,
            writes_waiting: 0,
        };
        render(Uptime::from_secs(10), Some(&snapshot), Process::default(), 3)
    }

    #[test]
    fn counters_and_gauges_of_every_source_are_there() {
        let page = page();
        for line in [
            "frontdoor_registers_total 3",
            "frontdoor_net_datagrams_sent_total 5",
            "frontdoor_users 7",
            "frontdoor_one_more_failure_unplaced_users 9",
            "frontdoor_connections 4",
            "frontdoor_snapshot_age_seconds 2",
            "frontdoor_server_state{server=\"uc\\\"s1\",state=\"down\"} 1",
            "frontdoor_server_state{server=\"uc\\\"s1\",state=\"up\"} 0",
            "frontdoor_server_plane_state{server=\"uc\\\"s1\",plane=\"client\",state=\"unheard\"} 1",
            "frontdoor_server_plane_state{server=\"uc\\\"s1\",plane=\"client\",state=\"alive\"} 0",
            "frontdoor_server_score{server=\"uc\\\"s1\"} 40",
            "frontdoor_telephone_system_queued{system=\"pbx\"} 6",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} is missing from:\n{page}");
        }
    }

    #[test]
    fn no_family_is_declared_twice_and_every_sample_belongs_to_one() {
        let page = page();
        let mut families = HashSet::new();
        for line in page.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let name = declared.split(' ').next().unwrap();
                assert!(families.insert(name), "{name} is declared twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(families.contains(name), "{name} is not declared");
            }
        }
    }
}
