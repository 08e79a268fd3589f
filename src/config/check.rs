//! [`crate::config::raw::Raw`] → [`Config`]: judges every value, and the values against each other. Collects all
//! problems instead of stopping at the first.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use crate::admin;
use crate::cluster::{Plane, Planes, Server, health};
use crate::config::duration::Span;
use crate::config::pool::{self, Names};
use crate::config::problem::{Complaints, Fault, Problems};
use crate::config::raw::{
    RawAdmin, RawAuth, RawFailover, RawHealth, RawLimits, RawLog, RawLogFormat, RawPace, RawPlane,
    RawReports, RawSip, RawStore, RawUnknownUsers,
};
use crate::config::{Config, StorePlace, client_sockets, clients, reading, recovery, ties, users};
use crate::decision;
use crate::door;
use crate::net;
use crate::placement;
use crate::reports;
use crate::telemetry;

/// Where the admin listener is by default.
const ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9060);
/// Where the store and the key are by default, beside the configuration file.
const STORE_FILE: &str = "frontdoor.redb";
const REPORTS: &str = "reports";
const REPORTS_KEPT: u32 = 100;
const REPORTS_MAX: u32 = 10_000;
const TOKEN_FILE: &str = "path-token.key";
const ADMIN_TOKEN_FILE: &str = "admin-token.key";
/// REGISTERs a second, and in flight, at most.
pub(super) const PACE_MOST: u32 = 100_000;
/// Shortest interval for anything the door repeats.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// Checks a text that came from `path`.
pub(super) fn check(path: &Path, text: &str) -> Result<Config, Problems> {
    let mut wrong = Complaints::about(text);
    let mut warnings = Complaints::about(text);
    let (raw, culprits) = reading::read(text, &mut wrong);
    let mut names = Names::default();
    let sockets = pool::sockets(&raw, &mut names, &mut wrong);
    let servers = pool::servers(&raw, &sockets, &mut names, &mut wrong, &mut warnings);
    let beside = |file: &Path| path.with_file_name("").join(file);
    let certificates = client_sockets::certificates(&raw, &beside, &mut wrong, &mut warnings);
    let client_sockets = client_sockets::sockets(&raw, &mut names, &mut wrong);
    client_sockets::warn_about_web(&raw, &mut warnings);
    client_sockets::check_redirects(&raw, &mut wrong, &mut warnings);
    let imported = raw.users.file.as_ref().map(|file| (file.span(), beside(file.get_ref())));
    let users = match &imported {
        Some((span, file)) => users::read(file, span, &raw.servers, &mut wrong),
        None => Vec::new(),
    };
    let pace = pace(&raw.pace, &mut wrong);
    let telephone_systems = ties::telephone_systems(&raw, pace, &mut wrong);
    let config = Config {
        path: path.to_owned(),
        sockets,
        client_sockets,
        certificates,
        sip: sip(&raw.sip, &mut wrong, &mut warnings),
        health: health_settings(&raw.health, &raw.failover, &servers, &mut wrong),
        health_push: health_push(&raw.health, &mut wrong),
        decision: policy(&raw.failover, &mut wrong),
        recovery: recovery::policy(&raw.recovery, &mut wrong),
        clients: clients::settings(&raw.clients, &mut wrong),
        pace,
        telephone_systems,
        unknown_users: match raw.users.unknown {
            Some(RawUnknownUsers::Reject) => door::UnknownUsers::Reject,
            Some(RawUnknownUsers::Adopt) | None => door::UnknownUsers::Adopt,
        },
        limits: limits(&raw.limits, &mut wrong),
        store: store(&raw.store, &beside, &mut warnings),
        reports: reports(&raw.reports, &beside, &mut wrong),
        token_file: beside(
            raw.keys
                .path_token_file
                .as_ref()
                .map_or_else(|| Path::new(TOKEN_FILE), |f| f.get_ref()),
        ),
        admin_token_file: beside(
            raw.admin
                .token_file
                .as_ref()
                .map_or_else(|| Path::new(ADMIN_TOKEN_FILE), |file| file.get_ref()),
        ),
        streams: streams(&raw.limits, &mut wrong),
        admin: admin(&raw.admin, &mut wrong),
        log: log(&raw.log, &mut wrong),
        warnings: Vec::new(),
        servers,
        users,
    };
    if wrong.is_empty() {
        crate::config::realm::warn(&raw, &config.servers, &mut warnings);
        ties::warn(&raw, &config.servers, &mut warnings);
        pool::warn_about_fit(&config, imported.map(|(span, _)| span), &mut warnings);
        return Ok(Config { warnings: warnings.into_sorted(), ..config });
    }
    // What could not be read is complained about once, not also as missing.
    let mut problems = wrong.into_sorted();
    let follows =
        |fault: &Fault| culprits.iter().any(|(section, key)| fault.follows_from(section, key));
    problems.retain(|problem| !follows(&problem.fault));
    Err(Problems { path: path.to_owned(), problems })
}

fn sip(
    raw: &RawSip,
    wrong: &mut Complaints<'_>,
    warnings: &mut Complaints<'_>,
) -> door::SipSettings {
    let defaults = door::SipSettings::default();
    let auth = match raw.auth.as_ref().map(Spanned::get_ref) {
        Some(RawAuth::Passthrough) => door::Auth::Passthrough,
        Some(RawAuth::None) => door::Auth::None,
        None => defaults.auth,
    };
    if auth == door::Auth::None && raw.trusted_networks.is_empty() {
        match &raw.auth {
            Some(auth) => warnings.push(auth.span(), Fault::NobodyTrusted),
            None => warnings.push_whole(Fault::NobodyTrusted),
        }
    }
    let server_header = match &raw.server_header {
        Some(text) if check_header_text("server_header", text, wrong) => {
            Arc::from(text.get_ref().as_str())
        }
        Some(_) | None => Arc::clone(&defaults.server_header),
    };
    let mut bounded = |key, raw: &Option<Spanned<Span>>, default, min, max| {
        in_range(key, raw, default, (min, max), wrong)
    };
    let second = Duration::from_secs(1);
    let day = Duration::from_secs(86_400);
    let timings = defaults.timings;
    let milli = Duration::from_millis(1);
    let timings = crate::sip::transaction::Timings {
        t1: bounded("t1", &raw.t1, timings.t1, milli * 10, second * 10),
        t2: bounded("t2", &raw.t2, timings.t2, milli * 10, second * 60),
        t4: bounded("t4", &raw.t4, timings.t4, milli * 10, second * 60),
    };
    let settings = door::SipSettings {
        auth,
        absorb: raw.absorb.unwrap_or(defaults.absorb),
        trusted_networks: raw.trusted_networks.iter().map(|network| network.0).collect(),
        pass_server_header: raw.pass_server_header.unwrap_or(defaults.pass_server_header),
        server_header,
        lease_min: bounded("lease_min", &raw.lease_min, defaults.lease_min, second, day),
        lease_max: bounded("lease_max", &raw.lease_max, defaults.lease_max, second, day),
        expiry: bounded("expiry", &raw.expiry, defaults.expiry, second * 10, day * 7),
        lapse_grace: raw.lapse_grace.map_or(defaults.lapse_grace, |span| span.0),
        timings,
        patience: bounded("patience", &raw.patience, defaults.patience, second, second * 180),
    };
    let lease_min = ("lease_min", settings.lease_min, &raw.lease_min);
    in_order(lease_min, ("lease_max", settings.lease_max, &raw.lease_max), wrong);
    in_order(("t1", timings.t1, &raw.t1), ("t2", timings.t2, &raw.t2), wrong);
    if settings.lease_max > settings.expiry {
        let fault = Fault::LeaseCut {
            lease_max: Span(settings.lease_max).to_string(),
            expiry: Span(settings.expiry).to_string(),
        };
        match raw.lease_max.as_ref().or(raw.expiry.as_ref()) {
            Some(culprit) => warnings.push(culprit.span(), fault),
            None => warnings.push_whole(fault),
        }
    }
    settings
}

fn health_settings(
    raw: &RawHealth,
    failover: &RawFailover,
    servers: &[Server],
    wrong: &mut Complaints<'_>,
) -> health::Settings {
    let defaults = health::Settings::default();
    let interval = (INTERVAL_MIN, INTERVAL_MAX);
    let mut bounded =
        |key, raw: &Option<Spanned<Span>>, default| in_range(key, raw, default, interval, wrong);
    let down_after = bounded("down_after", &raw.down_after, defaults.down_after);
    // Who is patient with a server is as patient with each of its planes.
    let plane_dwell = defaults.plane_dwell.max(down_after);
    let settings = health::Settings {
        probe_interval: bounded("probe_interval", &raw.probe_interval, defaults.probe_interval),
        degraded_after: bounded("degraded_after", &raw.degraded_after, defaults.degraded_after),
        down_after,
        refused_interval: bounded(
            "refused_interval",
            &raw.refused_interval,
            defaults.refused_interval,
        ),
        panic_window: bounded("panic_window", &failover.panic_window, defaults.panic_window),
        late_tick: bounded("late_tick", &raw.late_tick, defaults.late_tick),
        document_interval: bounded(
            "document_interval",
            &raw.document_interval,
            defaults.document_interval,
        ),
        sample_interval: bounded("sample_interval", &raw.sample_interval, defaults.sample_interval),
        plane_dwell: bounded("plane_dwell", &raw.plane_dwell, plane_dwell),
        planes: planes(raw, servers, defaults.planes, wrong),
        hold_refused: failover.hold_refused.map_or(defaults.hold_refused, |span| span.0),
        hold_silence: failover.hold_silence.map_or(defaults.hold_silence, |span| span.0),
        probation: raw.probation.map_or(defaults.probation, |span| span.0),
        ramp: raw.ramp.map_or(defaults.ramp, |span| span.0),
        refusals: number_in("refusals", &raw.refusals, defaults.refusals, (1, 100), wrong),
        rise: number_in("rise", &raw.rise, defaults.rise, (1, 100), wrong),
        panic_threshold_percent: percent(
            "panic_threshold_percent",
            &failover.panic_threshold_percent,
            defaults.panic_threshold_percent,
            wrong,
        ),
    };
    let degraded_after = ("degraded_after", settings.degraded_after, &raw.degraded_after);
    let down_after = ("down_after", settings.down_after, &raw.down_after);
    in_order(degraded_after, down_after, wrong);
    // By then it has shown on the other servers whether they share it.
    in_order(down_after, ("plane_dwell", settings.plane_dwell, &raw.plane_dwell), wrong);
    in_order(
        ("probe_interval", settings.probe_interval, &raw.probe_interval),
        ("degraded_after", settings.degraded_after, &raw.degraded_after),
        wrong,
    );
    settings
}

/// H4: each server must serve a plane that counts, or nothing would say that it has failed.
fn planes(
    raw: &RawHealth,
    servers: &[Server],
    default: Planes,
    wrong: &mut Complaints<'_>,
) -> Planes {
    let Some(written) = &raw.planes else { return default };
    let planes: Planes = written.get_ref().iter().map(|plane| Plane::from(*plane)).collect();
    if planes.is_empty() {
        wrong.push(written.span(), Fault::Empty { key: "planes" });
        return default;
    }
    let uncounted = |server: &&Server| !server.planes.iter().any(|plane| planes.contains(plane));
    if let Some(server) = servers.iter().find(uncounted) {
        let serves = server.planes.iter().map(|plane| plane.name().to_owned()).collect();
        let server = server.name.to_string();
        wrong.push(written.span(), Fault::NoPlaneCounts { server, serves });
    }
    planes
}

impl From<RawPlane> for Plane {
    fn from(raw: RawPlane) -> Self {
        match raw {
            RawPlane::Sip => Self::Sip,
            RawPlane::Csta => Self::Csta,
            RawPlane::Client => Self::Client,
        }
    }
}

fn policy(raw: &RawFailover, wrong: &mut Complaints<'_>) -> decision::Policy {
    let defaults = decision::Policy::default();
    let limits = (Duration::from_secs(1), INTERVAL_MAX);
    let mut bounded =
        |key, raw: &Option<Spanned<Span>>, default| in_range(key, raw, default, limits, wrong);
    let retry_after_min =
        bounded("retry_after_min", &raw.retry_after_min, defaults.retry_after_min);
    let retry_after_max =
        bounded("retry_after_max", &raw.retry_after_max, defaults.retry_after_max);
    in_order(
        ("retry_after_min", retry_after_min, &raw.retry_after_min),
        ("retry_after_max", retry_after_max, &raw.retry_after_max),
        wrong,
    );
    let score_min = percent("score_min", &raw.score_min, defaults.placement.score_min, wrong);
    decision::Policy {
        disable_automatic_user_distribution: raw
            .disable_automatic_user_distribution
            .unwrap_or(defaults.disable_automatic_user_distribution),
        grace: raw.grace.map_or(defaults.grace, |span| span.0),
        retry_after_min,
        retry_after_max,
        placement: placement::Policy { score_min },
    }
}

fn health_push(raw: &RawHealth, wrong: &mut Complaints<'_>) -> Option<SocketAddr> {
    let push = raw.push.as_ref()?;
    let address = push.get_ref().0;
    if address.port() == 0 {
        wrong.push(push.span(), Fault::PortZero { address });
    }
    Some(address)
}

fn pace(raw: &RawPace, wrong: &mut Complaints<'_>) -> door::Pace {
    let defaults = door::Pace::default();
    let window_initial = number_in(
        "window_initial",
        &raw.window_initial,
        defaults.window_initial,
        (1, PACE_MOST),
        wrong,
    );
    let window_max =
        number_in("window_max", &raw.window_max, defaults.window_max, (1, PACE_MOST), wrong);
    if window_initial > window_max {
        let culprit = raw.window_initial.as_ref().or(raw.window_max.as_ref());
        let fault = Fault::Order {
            small: "window_initial",
            small_value: window_initial.to_string(),
            large: "window_max",
            large_value: window_max.to_string(),
        };
        wrong.push(culprit.map_or(0..0, Spanned::span), fault);
    }
    let rate_max = raw
        .rate_max
        .as_ref()
        .map(|_| number_in("rate_max", &raw.rate_max, 1, (1, PACE_MOST), wrong));
    door::Pace { window_initial, window_max, rate_max }
}

fn limits(raw: &RawLimits, wrong: &mut Complaints<'_>) -> door::Limits {
    let defaults = door::Limits::default();
    let most = 100_000_000;
    let mut rate = |key, raw, default| number_in(key, raw, default, (1, 1_000_000), wrong);
    let strangers = rate("strangers", &raw.strangers, defaults.strangers);
    let strangers_per_source =
        rate("strangers_per_source", &raw.strangers_per_source, defaults.strangers_per_source);
    let strangers_burst_per_source = rate(
        "strangers_burst_per_source",
        &raw.strangers_burst_per_source,
        defaults.strangers_burst_per_source,
    );
    let changes_per_aor = rate("changes_per_aor", &raw.changes_per_aor, defaults.changes_per_aor);
    let changes_burst_per_aor =
        rate("changes_burst_per_aor", &raw.changes_burst_per_aor, defaults.changes_burst_per_aor);
    let mut number = |key, raw, default| number_in(key, raw, default, (1, most), wrong);
    door::Limits {
        strangers,
        strangers_per_source,
        strangers_burst_per_source,
        changes_per_aor,
        changes_burst_per_aor,
        users: number("users", &raw.users, defaults.users),
        bindings: number("bindings", &raw.bindings, defaults.bindings),
        bindings_per_aor: number(
            "bindings_per_aor",
            &raw.bindings_per_aor,
            defaults.bindings_per_aor,
        ),
        transactions: number("transactions", &raw.transactions, defaults.transactions),
        waiting: number("waiting", &raw.waiting, defaults.waiting),
    }
}

fn store(
    raw: &RawStore,
    beside: &impl Fn(&Path) -> PathBuf,
    warnings: &mut Complaints<'_>,
) -> StorePlace {
    match &raw.path {
        Some(path) if path.get_ref() == Path::new("memory") => {
            warnings.push(path.span(), Fault::MemoryStore);
            StorePlace::Memory
        }
        Some(path) => StorePlace::File(beside(path.get_ref())),
        None => StorePlace::File(beside(Path::new(STORE_FILE))),
    }
}

fn reports(
    raw: &RawReports,
    beside: &impl Fn(&Path) -> PathBuf,
    wrong: &mut Complaints<'_>,
) -> reports::Settings {
    let directory = raw.directory.as_ref().map_or_else(|| Path::new(REPORTS), |it| it.get_ref());
    let keep = number_in("keep", &raw.keep, REPORTS_KEPT, (1, REPORTS_MAX), wrong);
    reports::Settings {
        directory: beside(directory),
        keep: usize::try_from(keep).unwrap_or(usize::MAX),
    }
}

fn streams(raw: &RawLimits, wrong: &mut Complaints<'_>) -> net::Limits {
    let defaults = net::Limits::default();
    let most = 1_000_000;
    let mut number = |key, raw, default| number_in(key, raw, default, (1, most), wrong);
    net::Limits {
        connections: number("connections", &raw.connections, defaults.connections),
        connections_per_source: number(
            "connections_per_source",
            &raw.connections_per_source,
            defaults.connections_per_source,
        ),
        ..defaults
    }
}

fn admin(raw: &RawAdmin, wrong: &mut Complaints<'_>) -> admin::Settings {
    let names = raw.names.clone();
    let token = None;
    let Some(address) = &raw.address else {
        return admin::Settings { address: ADMIN, names, token };
    };
    let span = address.span();
    let address = address.get_ref().0;
    if !address.ip().is_loopback() {
        wrong.push(span, Fault::AdminNotLoopback { address });
    } else if address.port() == 0 {
        wrong.push(span, Fault::PortZero { address });
    }
    admin::Settings { address, names, token }
}

fn log(raw: &RawLog, wrong: &mut Complaints<'_>) -> telemetry::Settings {
    let format = match raw.format {
        Some(RawLogFormat::Json) => telemetry::Format::Json,
        Some(RawLogFormat::Text) | None => telemetry::Format::Text,
    };
    let Some(filter) = &raw.filter else {
        return telemetry::Settings { format, ..telemetry::Settings::default() };
    };
    if let Err(fault) = telemetry::filter(filter.get_ref()) {
        wrong.push(filter.span(), Fault::LogFilter { why: fault.to_string() });
    }
    telemetry::Settings { filter: filter.get_ref().clone(), format }
}

/// Whether a text can stand in a header; complains if not.
pub(super) fn check_header_text(
    key: &'static str,
    text: &Spanned<String>,
    wrong: &mut Complaints<'_>,
) -> bool {
    let fault = match text.get_ref() {
        text if text.trim().is_empty() => Fault::Empty { key },
        text if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) => {
            Fault::Unprintable { key }
        }
        _ => return true,
    };
    wrong.push(text.span(), fault);
    false
}

pub(super) fn in_range(
    key: &'static str,
    raw: &Option<Spanned<Span>>,
    default: Duration,
    (min, max): (Duration, Duration),
    wrong: &mut Complaints<'_>,
) -> Duration {
    let Some(raw) = raw else { return default };
    let value = raw.get_ref().0;
    if value < min || value > max {
        let [value, min, max] = [value, min, max].map(|span| Span(span).to_string());
        wrong.push(raw.span(), Fault::Range { key, value, min, max });
        return default;
    }
    value
}

pub(super) fn number_in<N: Copy + PartialOrd + std::fmt::Display>(
    key: &'static str,
    raw: &Option<Spanned<N>>,
    default: N,
    (min, max): (N, N),
    wrong: &mut Complaints<'_>,
) -> N {
    let Some(raw) = raw else { return default };
    let value = *raw.get_ref();
    if value < min || value > max {
        let [value, min, max] = [value, min, max].map(|number| number.to_string());
        wrong.push(raw.span(), Fault::Range { key, value, min, max });
        return default;
    }
    value
}

pub(super) fn percent(
    key: &'static str,
    raw: &Option<Spanned<i64>>,
    default: u8,
    wrong: &mut Complaints<'_>,
) -> u8 {
    let value = number_in(key, raw, i64::from(default), (0, 100), wrong);
    u8::try_from(value).unwrap_or(default)
}

/// A value of the file or its default, by name.
type Timed<'r> = (&'static str, Duration, &'r Option<Spanned<Span>>);

/// Complains where the written one of two is on the wrong side of the other.
fn in_order(small: Timed<'_>, large: Timed<'_>, wrong: &mut Complaints<'_>) {
    if small.1 <= large.1 {
        return;
    }
    let written = small.2.as_ref().or(large.2.as_ref());
    let span: Range<usize> = written.map_or(0..0, Spanned::span);
    let fault = Fault::Order {
        small: small.0,
        small_value: Span(small.1).to_string(),
        large: large.0,
        large_value: Span(large.1).to_string(),
    };
    wrong.push(span, fault);
}
