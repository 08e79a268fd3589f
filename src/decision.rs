//! [`decide`]: every login on every plane asks here and gets one verdict, with a reason (D).

use std::time::Duration;

use crate::cluster::{ClusterView, Failure, Proof, ServerId, State, Suspect, Suspicion};
use crate::directory::{Directory, UserId};
use crate::now::Uptime;
use crate::placement;

/// A way users are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Devices that register.
    Sip,
    /// CSTA XML over TCP.
    Csta,
    /// ProCall clients (UCSAP).
    Client,
}

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
/// it, and it is acted on (H5).
fn casts_doubt(suspicion: &Suspicion, failure: &Failure) -> bool {
    !(suspicion.of == Suspect::OwnNetwork && failure.proof == Proof::Refused)
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
    use crate::directory::{Relocation, User};

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
        ];
        let just_before = |at: Uptime| Uptime::from_nanos(at.as_nanos() - 1);
        let times =
            [FAILED, just_before(HOLD_ENDS), HOLD_ENDS, just_before(GRACE_ENDS), GRACE_ENDS];
        let suspects = [None, Some(Suspect::OwnNetwork), Some(Suspect::SharedBackend)];
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
            realms: Arc::default(),
            failure: None,
            incarnation: 0,
            since: Uptime::ZERO,
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

    /// Its name, what it says, and when it fits.
    type Rule = (&'static str, Verdict, fn(&Case) -> bool);

    /// The rules once more, each complete in itself: no rule leans on an earlier one having been
    /// asked, so exactly one fits every case.
    fn rules() -> Vec<Rule> {
        fn placed(case: &Case) -> bool {
            case.enabled && case.belongs != Belongs::Nowhere
        }
        fn served(case: &Case) -> bool {
            placed(case)
                && ([State::Unknown, State::Up, State::Degraded, State::Ramp].contains(&case.state)
                    || (case.state == State::Maintenance && case.proof.is_none()))
        }
        fn dead_in_maintenance(case: &Case) -> bool {
            placed(case) && case.state == State::Maintenance && case.proof.is_some()
        }
        fn down(case: &Case) -> bool {
            placed(case) && case.state == State::Down
        }
        fn after_hold(case: &Case) -> bool {
            down(case) && case.proof.is_some() && case.now >= HOLD_ENDS
        }
        fn doubted(case: &Case) -> bool {
            match case.suspect {
                None => false,
                Some(Suspect::SharedBackend) => true,
                Some(Suspect::OwnNetwork) => case.proof != Some(Proof::Refused),
            }
        }
        fn may_move(case: &Case) -> bool {
            after_hold(case) && !doubted(case) && !case.disabled
        }
        let verdict = |outcome, because| Verdict { outcome, because };
        let again = Outcome::Block { retry: true };
        vec![
            (
                "D6: disabled",
                verdict(Outcome::Block { retry: false }, Reason::UserDisabled),
                |case| !case.enabled,
            ),
            ("first home", verdict(Outcome::AssignHome(OTHER), Reason::FirstHome), |case| {
                case.enabled && case.belongs == Belongs::Nowhere && case.room
            }),
            ("D4: no room for a first home", verdict(again, Reason::NoRoom), |case| {
                let heard = case.state != State::Unknown;
                case.enabled && case.belongs == Belongs::Nowhere && !case.room && heard
            }),
            ("H3: not heard yet", verdict(Outcome::Hold, Reason::PoolUnknown), |case| {
                let heard = case.state != State::Unknown;
                case.enabled && case.belongs == Belongs::Nowhere && !case.room && !heard
            }),
            ("D2: accept", verdict(Outcome::Accept(CURRENT), Reason::CurrentServes), |case| {
                served(case) && case.reached != Some(OTHER)
            }),
            ("D2: forward", verdict(Outcome::Forward(CURRENT), Reason::ReachedAnother), |case| {
                served(case) && case.reached == Some(OTHER)
            }),
            ("probation", verdict(Outcome::Hold, Reason::CurrentInProbation), |case| {
                placed(case) && case.state == State::Probation
            }),
            ("H3: maintenance", verdict(Outcome::Hold, Reason::InMaintenance), |case| {
                dead_in_maintenance(case) && case.now < GRACE_ENDS
            }),
            ("H3: for too long", verdict(again, Reason::InMaintenance), |case| {
                dead_in_maintenance(case) && case.now >= GRACE_ENDS
            }),
            ("H2: hold", verdict(Outcome::Hold, Reason::WithinHold), |case| {
                down(case) && (case.proof.is_none() || case.now < HOLD_ENDS)
            }),
            ("H5: suspicion", verdict(Outcome::Hold, Reason::Suspicion), |case| {
                after_hold(case) && doubted(case) && case.now < GRACE_ENDS
            }),
            ("H5: too long", verdict(again, Reason::SuspicionTooLong), |case| {
                after_hold(case) && doubted(case) && case.now >= GRACE_ENDS
            }),
            ("D1: grace", verdict(Outcome::Hold, Reason::DistributionDisabledGrace), |case| {
                after_hold(case) && !doubted(case) && case.disabled && case.now < GRACE_ENDS
            }),
            ("D1: block", verdict(again, Reason::DistributionDisabled), |case| {
                after_hold(case) && !doubted(case) && case.disabled && case.now >= GRACE_ENDS
            }),
            ("D3: relocate", verdict(Outcome::Relocate(OTHER), Reason::CurrentFailed), |case| {
                may_move(case) && case.room
            }),
            ("D4: no room", verdict(again, Reason::NoRoom), |case| may_move(case) && !case.room),
        ]
    }

    #[test]
    fn every_case_gets_the_verdict_of_the_one_rule_that_fits_it() {
        let rules = rules();
        let mut used = vec![0u32; rules.len()];
        for case in all_cases() {
            let fitting: Vec<usize> =
                (0..rules.len()).filter(|rule| (rules[*rule].2)(&case)).collect();
            let [rule] = fitting[..] else {
                let names: Vec<_> = fitting.iter().map(|rule| rules[*rule].0).collect();
                unreachable!("{case:?} fits {names:?}");
            };
            used[rule] += 1;
            assert_eq!(verdict_of(&case), rules[rule].1, "{}: {case:?}", rules[rule].0);
        }
        for (uses, (name, ..)) in used.iter().zip(&rules) {
            assert!(*uses > 0, "no case for {name}");
        }
    }

    #[test]
    fn distribution_is_disabled_by_default() {
        assert!(Policy::default().disable_automatic_user_distribution);
    }
}
