//! [`decide`]: every login on every plane asks here and gets one verdict, with a reason (D).

use std::time::Duration;

use crate::cluster::{ClusterView, Failure, Proof, ServerId, State, Suspect, Suspicion};
use crate::directory::{Directory, UserId};
use crate::now::Uptime;
use crate::placement;

pub use crate::cluster::Plane;

/// Somebody wants to be served.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// How.
    pub plane: Plane,
    /// Who.
    pub user: UserId,
    /// The server the login names (listener, SNI, `ucsid`), or none.
    pub reached: Option<ServerId>,
}

/// What the decision is allowed to do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// D1: nobody is relocated. The product's default is `true`.
    pub disable_automatic_user_distribution: bool,
    /// How long a failed server's users get held answers while distribution is disabled, or while
    /// the door suspects itself (H5), before they are blocked.
    pub grace: Duration,
    /// Retry-After for a block that time may heal: the shortest.
    pub retry_after_min: Duration,
    /// And the longest; the caller spreads within.
    pub retry_after_max: Duration,
    /// How backups and first homes are chosen.
    pub placement: placement::Policy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            disable_automatic_user_distribution: true,
            grace: Duration::from_secs(300),
            retry_after_min: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(60),
            placement: placement::Policy::default(),
        }
    }
}

/// What the decision says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens to the login.
    pub outcome: Outcome,
    /// Why.
    pub because: Reason,
}

/// What happens to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served by this server: none named, or the named one is current.
    Accept(ServerId),
    /// Carried to this server: another one is named.
    Forward(ServerId),
    /// First record this server as the user's home, then accept.
    AssignHome(ServerId),
    /// First record a relocation to this server, then forward.
    Relocate(ServerId),
    /// Answer from the door's own knowledge; nobody is moved (yet).
    Hold,
    /// Refuse. `retry` says whether coming back may help.
    Block {
        /// Whether to name a time (503 + Retry-After) or not (403).
        retry: bool,
    },
}

impl Outcome {
    /// The word in status and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept(_) => "accept",
            Self::Forward(_) => "forward",
            Self::AssignHome(_) => "assign_home",
            Self::Relocate(_) => "relocate",
            Self::Hold => "hold",
            Self::Block { .. } => "block",
        }
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Current is healthy and is what the login reached.
    CurrentServes,
    /// Current is healthy; the login named another server.
    ReachedAnother,
    /// A user without a home got the best server.
    FirstHome,
    /// Current failed; placement named a backup.
    CurrentFailed,
    /// Current failed a moment ago; `failover.hold` has not passed.
    WithinHold,
    /// Current failed, distribution is disabled, the grace time runs.
    DistributionDisabledGrace,
    /// Current failed, distribution is disabled, the grace time is over.
    DistributionDisabled,
    /// Current answers again after a failure, and is watched before it counts (H3).
    CurrentInProbation,
    /// Current does not answer and is under maintenance: nobody is moved for that (H3).
    InMaintenance,
    /// The door suspects its own network or a shared backend (H5).
    Suspicion,
    /// The same, for longer than the grace time.
    SuspicionTooLong,
    /// No server has room, but some have not been heard of yet.
    PoolUnknown,
    /// No server has room.
    NoRoom,
    /// The user is disabled.
    UserDisabled,
}

impl Reason {
    /// The word in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CurrentServes => "current_serves",
            Self::ReachedAnother => "reached_another",
            Self::FirstHome => "first_home",
            Self::CurrentFailed => "current_failed",
            Self::WithinHold => "within_hold",
            Self::DistributionDisabledGrace => "distribution_disabled_grace",
            Self::DistributionDisabled => "distribution_disabled",
            Self::CurrentInProbation => "current_in_probation",
            Self::InMaintenance => "in_maintenance",
            Self::Suspicion => "suspicion",
            Self::SuspicionTooLong => "suspicion_too_long",
            Self::PoolUnknown => "pool_unknown",
            Self::NoRoom => "no_room",
            Self::UserDisabled => "user_disabled",
        }
    }

    /// The same for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::CurrentServes => "the current server serves its users",
            Self::ReachedAnother => {
                "another server was named; the session is carried to the current one"
            }
            Self::FirstHome => "the user has no home yet, and this is the best server",
            Self::CurrentFailed => "the current server failed, and this is the best of the others",
            Self::WithinHold => {
                "the current server failed a moment ago; it is waited for until the hold is over"
            }
            Self::DistributionDisabledGrace => {
                "the current server failed and automatic distribution is disabled; the door answers \
                 for it until the grace time is over"
            }
            Self::DistributionDisabled => {
                "the current server failed, automatic distribution is disabled, and the grace time is \
                 over; set failover.disable_automatic_user_distribution = false to have users moved"
            }
            Self::CurrentInProbation => {
                "the current server answers again and is being cleaned and watched before it counts"
            }
            Self::InMaintenance => {
                "the current server does not answer and is under maintenance, so nobody is moved; \
                 frontdoor maintenance SERVER --off has it judged anew"
            }
            Self::Suspicion => {
                "so much failed at once that the door suspects its own network, or something all \
                 servers share; nobody is moved"
            }
            Self::SuspicionTooLong => {
                "the door still suspects its own network, or something all servers share, and the \
                 grace time is over"
            }
            Self::PoolUnknown => "some servers have not been heard of yet",
            Self::NoRoom => "no server has room",
            Self::UserDisabled => "the user is disabled",
        }
    }
}

/// Decides one login. Pure: the same arguments give the same verdict. The first line that fits:
///
/// | user | current server | distribution | verdict |
/// |---|---|---|---|
/// | disabled | | | block, for good |
/// | without home | | | the best server becomes home; none has room: block |
/// | | serves its users, full or not (D2) | | accept; forward if another was reached |
/// | | failed | | what [`may_leave`] says, if they must stay |
/// | | failed | enabled | relocate; no server has room: block (D4) |
///
/// Allocates nothing.
pub fn decide(
    login: &Login,
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
    now: Uptime,
) -> Verdict {
    let user = directory.get(login.user);
    if !user.enabled {
        return block(false, Reason::UserDisabled);
    }
    let place = || placement::place(login.user, view, directory, &policy.placement);
    let Some(current) = user.current() else {
        return match place() {
            Ok(best) => Verdict { outcome: Outcome::AssignHome(best), because: Reason::FirstHome },
            Err(_) => no_room(view),
        };
    };
    if view.server(current).serves_its_users() {
        return match login.reached {
            Some(other) if other != current => {
                Verdict { outcome: Outcome::Forward(current), because: Reason::ReachedAnother }
            }
            _ => Verdict { outcome: Outcome::Accept(current), because: Reason::CurrentServes },
        };
    }
    if let Err(stays) = may_leave(current, view, policy, now) {
        return stays;
    }
    match place() {
        Ok(backup) => {
            Verdict { outcome: Outcome::Relocate(backup), because: Reason::CurrentFailed }
        }
        Err(_) => no_room(view),
    }
}

/// Nobody is refused for what has not been looked at yet: just after the start of the door no
/// server has said anything, and none is known to be full or dead (H3).
pub fn no_room(view: &ClusterView) -> Verdict {
    if view.servers.iter().any(|server| server.state == State::Unknown) {
        hold(Reason::PoolUnknown)
    } else {
        block(true, Reason::NoRoom)
    }
}

/// Whether the users of a server that does not serve them may be moved off it now; the batch of
/// a failover asks it as a single login does, so that both agree. The first line that fits:
///
/// | server | until | verdict |
/// |---|---|---|
/// | in probation | | hold: what it needs is a sweep, not a move |
/// | under maintenance, and does not answer | `failure.since` + grace | hold, then block |
/// | failed | `failure.hold_until` | hold (H2) |
/// | failed, and a suspicion that its proof does not rule out (H5) | `failure.since` + grace | hold, then block |
/// | failed, and distribution is disabled (D1) | `failure.since` + grace | hold, then block |
///
/// # Errors
///
/// They stay; what each of their logins gets instead.
pub fn may_leave(
    server: ServerId,
    view: &ClusterView,
    policy: &Policy,
    now: Uptime,
) -> Result<(), Verdict> {
    let server = view.server(server);
    if server.state == State::Probation {
        return Err(hold(Reason::CurrentInProbation));
    }
    let Some(failure) = server.failure else {
        // Health never takes a server for failed without saying since when; were it to, waiting
        // harms less than a move nobody can explain.
        return Err(hold(Reason::WithinHold));
    };
    let in_grace = now < failure.since + policy.grace;
    if server.state == State::Maintenance {
        let (grace, over) = (hold(Reason::InMaintenance), block(true, Reason::InMaintenance));
        return Err(if in_grace { grace } else { over });
    }
    if now < failure.hold_until {
        return Err(hold(Reason::WithinHold));
    }
    if view.suspicion.is_some_and(|suspicion| casts_doubt(&suspicion, &failure)) {
        return Err(if in_grace {
            hold(Reason::Suspicion)
        } else {
            block(true, Reason::SuspicionTooLong)
        });
    }
    if policy.disable_automatic_user_distribution {
        return Err(if in_grace {
            hold(Reason::DistributionDisabledGrace)
        } else {
            block(true, Reason::DistributionDisabled)
        });
    }
    Ok(())
}

/// A refusal by the server's own host proves the path, so a fault of our network cannot explain
/// it, and it is acted on (H5). What one plane shares explains no failure but that of this plane.
fn casts_doubt(suspicion: &Suspicion, failure: &Failure) -> bool {
    match suspicion.of {
        Suspect::OwnNetwork => !failure.proof.proves_the_path(),
        Suspect::SharedBackend => true,
        Suspect::Plane(plane) => failure.proof == Proof::Plane(plane),
    }
}

const fn hold(because: Reason) -> Verdict {
    Verdict { outcome: Outcome::Hold, because }
}

const fn block(retry: bool, because: Reason) -> Verdict {
    Verdict { outcome: Outcome::Block { retry }, because }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::cluster::{ServerView, Version};
    use crate::directory::record::RelocationReason;
    use crate::directory::{History, Relocation, User};

    /// The servers: the user's current one, and the only candidate beside it.
    const CURRENT: ServerId = ServerId(0);
    const OTHER: ServerId = ServerId(1);

    /// When current failed, and the ends of its hold and of the grace time.
    const FAILED: Uptime = Uptime::from_secs(100);
    const HOLD_ENDS: Uptime = Uptime::from_secs(105);
    const GRACE_ENDS: Uptime = Uptime::from_secs(400);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Belongs {
        Nowhere,
        Home,
        /// On `CURRENT` as a guest; the home is a third server, which is down.
        Guest,
    }

    /// Everything a verdict may depend on.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        enabled: bool,
        belongs: Belongs,
        state: State,
        proof: Option<Proof>,
        now: Uptime,
        suspect: Option<Suspect>,
        disabled: bool,
        room: bool,
        full: bool,
        reached: Option<ServerId>,
    }

    fn all_cases() -> impl Iterator<Item = Case> {
        let bools = [false, true];
        let proofs = [
            None,
            Some(Proof::Refused),
            Some(Proof::Silence),
            Some(Proof::Errors),
            Some(Proof::Document),
            Some(Proof::Drill),
            Some(Proof::Plane(Plane::Client)),
        ];
        let just_before = |at: Uptime| Uptime::from_nanos(at.as_nanos() - 1);
        let times =
            [FAILED, just_before(HOLD_ENDS), HOLD_ENDS, just_before(GRACE_ENDS), GRACE_ENDS];
        let suspects = [
            None,
            Some(Suspect::OwnNetwork),
            Some(Suspect::SharedBackend),
            Some(Suspect::Plane(Plane::Client)),
            Some(Suspect::Plane(Plane::Csta)),
        ];
        let mut cases = vec![Case {
            enabled: true,
            belongs: Belongs::Home,
            state: State::Up,
            proof: None,
            now: FAILED,
            suspect: None,
            disabled: false,
            room: false,
            full: false,
            reached: None,
        }];
        fn each<T: Copy>(cases: &mut Vec<Case>, values: &[T], set: impl Fn(&mut Case, T)) {
            *cases = cases
                .iter()
                .flat_map(|case| values.iter().map(move |value| (*case, *value)))
                .map(|(mut case, value)| {
                    set(&mut case, value);
                    case
                })
                .collect();
        }
        each(&mut cases, &bools, |case, value| case.enabled = value);
        let belongs = [Belongs::Nowhere, Belongs::Home, Belongs::Guest];
        each(&mut cases, &belongs, |case, value| case.belongs = value);
        each(&mut cases, &State::ALL, |case, value| case.state = value);
        each(&mut cases, &proofs, |case, value| case.proof = value);
        each(&mut cases, &times, |case, value| case.now = value);
        each(&mut cases, &suspects, |case, value| case.suspect = value);
        each(&mut cases, &bools, |case, value| case.disabled = value);
        each(&mut cases, &bools, |case, value| case.room = value);
        each(&mut cases, &bools, |case, value| case.full = value);
        let reached = [None, Some(CURRENT), Some(OTHER)];
        each(&mut cases, &reached, |case, value| case.reached = value);
        cases.into_iter()
    }

    fn verdict_of(case: &Case) -> Verdict {
        let server = |name: &str, state, capacity| ServerView {
            name: Arc::from(name),
            state,
            score: 100,
            capacity,
            version: Some(Version::FIRST_WITH_DISTRIBUTION),
            site: None,
            ties: Arc::default(),
            realms: Arc::default(),
            failure: None,
            incarnation: 0,
            since: Uptime::ZERO,
            planes: smallvec::SmallVec::new(),
        };
        // A first home may be any server; the only one with room is `OTHER`.
        let nowhere = case.belongs == Belongs::Nowhere;
        let mut current = server("ucs1", case.state, if case.full || nowhere { 0 } else { 10 });
        current.failure =
            case.proof.map(|proof| Failure { proof, since: FAILED, hold_until: HOLD_ENDS });
        let view = ClusterView {
            servers: vec![
                current,
                server("ucs2", State::Up, u32::from(case.room)),
                server("ucs3", State::Down, 10),
            ],
            suspicion: case.suspect.map(|of| Suspicion { of, since: FAILED }),
        };
        let mut directory = Directory::new(3);
        let third = ServerId(2);
        let user = directory
            .insert(User {
                name: Arc::from("anna"),
                aors: smallvec::SmallVec::new(),
                lines: Vec::new(),
                home: match case.belongs {
                    Belongs::Nowhere => None,
                    Belongs::Home => Some(CURRENT),
                    Belongs::Guest => Some(third),
                },
                enabled: case.enabled,
                relocation: (case.belongs == Belongs::Guest).then_some(Relocation {
                    origin: third,
                    date: SystemTime::UNIX_EPOCH,
                    target: CURRENT,
                    why: RelocationReason::Failover,
                }),
                epoch: 1,
                left_at: Vec::new(),
                history: History::default(),
            })
            .unwrap();
        let policy = Policy {
            disable_automatic_user_distribution: case.disabled,
            grace: GRACE_ENDS - FAILED,
            ..Policy::default()
        };
        let login = Login { plane: Plane::Sip, user, reached: case.reached };
        decide(&login, &view, &directory, &policy, case.now)
    }

    /// A row of the table in ARCHITECTURE.md.
    struct Row<'t> {
        conditions: Vec<(&'t str, &'t str)>,
        verdict: &'t str,
        reason: &'t str,
    }

    impl Row<'_> {
        fn fits(&self, case: &Case) -> bool {
            self.conditions.iter().all(|(column, cell)| holds(case, column, cell))
        }
    }

    /// Whether what a cell says is so.
    fn holds(case: &Case, column: &str, cell: &str) -> bool {
        let serves =
            [State::Unknown, State::Up, State::Degraded, State::Partial, State::Ramp, State::Drain];
        let hold_over = case.proof.is_some() && case.now >= HOLD_ENDS;
        let doubt = match case.suspect {
            None => false,
            Some(Suspect::SharedBackend) => true,
            Some(Suspect::OwnNetwork) => !matches!(case.proof, Some(Proof::Refused | Proof::Drill)),
            Some(Suspect::Plane(plane)) => case.proof == Some(Proof::Plane(plane)),
        };
        match (column, cell) {
            (_, "") => true,
            ("enabled", "yes") => case.enabled,
            ("enabled", "no") => !case.enabled,
            ("belongs", "nowhere") => case.belongs == Belongs::Nowhere,
            ("belongs", "somewhere") => case.belongs != Belongs::Nowhere,
            ("current", "serves") => {
                let maintained = case.state == State::Maintenance && case.proof.is_none();
                maintained || serves.contains(&case.state)
            }
            ("current", "dead in maintenance") => {
                case.state == State::Maintenance && case.proof.is_some()
            }
            ("current", "probation") => case.state == State::Probation,
            ("current", "down") => case.state == State::Down,
            ("current", "unknown") => case.state == State::Unknown,
            ("current", "not unknown") => case.state != State::Unknown,
            ("hold", "running") => !hold_over,
            ("hold", "over") => hold_over,
            ("doubt", "yes") => doubt,
            ("doubt", "no") => !doubt,
            ("distribution", "disabled") => case.disabled,
            ("distribution", "enabled") => !case.disabled,
            ("grace", "running") => case.now < GRACE_ENDS,
            ("grace", "over") => case.now >= GRACE_ENDS,
            ("room", "yes") => case.room,
            ("room", "no") => !case.room,
            ("reached", "another") => case.reached == Some(OTHER),
            ("reached", "not another") => case.reached != Some(OTHER),
            _ => unreachable!("nobody knows what {cell:?} means under {column:?}"),
        }
    }

    /// The document's table.
    fn table() -> Vec<Row<'static>> {
        let text = include_str!("../ARCHITECTURE.md");
        let (_, section) = text.split_once("\n## The decision\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let cells = |line: &'static str| {
            let line = line.trim().trim_start_matches('|').trim_end_matches('|');
            line.split('|').map(str::trim).collect::<Vec<_>>()
        };
        let mut lines = section.lines().filter(|line| line.starts_with('|'));
        let columns = cells(lines.next().unwrap());
        lines
            .skip(1)
            .map(|line| {
                let cells = cells(line);
                assert_eq!(cells.len(), columns.len(), "{line}");
                let mut conditions: Vec<_> = columns.iter().copied().zip(cells).collect();
                let (_, reason) = conditions.pop().unwrap();
                let (_, verdict) = conditions.pop().unwrap();
                Row { conditions, verdict, reason }
            })
            .collect()
    }

    /// What a verdict is called in the table, and on which server it must be.
    fn called(verdict: Verdict) -> (String, Option<ServerId>) {
        let name = verdict.outcome.name().to_owned();
        match verdict.outcome {
            Outcome::Accept(server) | Outcome::Forward(server) => (name, Some(server)),
            Outcome::AssignHome(server) | Outcome::Relocate(server) => (name, Some(server)),
            Outcome::Block { retry: false } => (format!("{name} for good"), None),
            Outcome::Hold | Outcome::Block { retry: true } => (name, None),
        }
    }

    #[test]
    fn every_case_gets_the_verdict_of_the_one_row_that_fits_it() {
        let rows = table();
        let mut used = vec![0u32; rows.len()];
        for case in all_cases() {
            let fitting: Vec<usize> =
                (0..rows.len()).filter(|row| rows[*row].fits(&case)).collect();
            let [row] = fitting[..] else { unreachable!("{case:?} fits rows {fitting:?}") };
            used[row] += 1;
            let verdict = verdict_of(&case);
            let (name, server) = called(verdict);
            assert_eq!(
                (&*name, verdict.because.name()),
                (rows[row].verdict, rows[row].reason),
                "{case:?}"
            );
            let expected = match rows[row].verdict {
                "accept" | "forward" => Some(CURRENT),
                "assign_home" | "relocate" => Some(OTHER),
                _ => None,
            };
            assert_eq!(server, expected, "{case:?}");
        }
        assert!(used.iter().all(|uses| *uses > 0), "no case for a row: {used:?}");
    }

    #[test]
    fn distribution_is_disabled_by_default() {
        assert!(Policy::default().disable_automatic_user_distribution);
    }
}
