//! The way home: when users who were relocated go back to where they belong, how many at a time,
//! and when to stop (B1, B2). Pure; it sees no protocol.
//!
//! ```text
//!             hold over, score good,
//!  failed ──▶ window open, ──▶ 1 % ──▶ look ──▶ 5 % ──▶ look ──▶ 25 % ──▶ look ──▶ the rest
//!             nothing suspected            │                │                │
//!                                          └── the home is worse, or refuses them: the rest stay
//! ```

use std::time::{Duration, SystemTime};

use crate::cluster::{ClusterView, ServerId, State};
use crate::now::{Now, Uptime};

/// Of a hundred bindings of a stage, so many may be in trouble at the home without the run being
/// stopped: a phone that was unplugged in between is none of the home's fault.
const TROUBLE_PERCENT_MAX: u64 = 5;
const MINUTES_PER_DAY: u32 = 24 * 60;

/// How users are brought home.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether they are without being told.
    pub automatic: bool,
    /// How long a home must have been healthy.
    pub hold: Duration,
    /// Between two looks at who could go home.
    pub interval: Duration,
    /// When in the day; empty: always.
    pub windows: Vec<Window>,
    /// How much of those who are away has gone home at the end of each stage, in per cent, rising
    /// to 100; at least one user a stage.
    pub stages: Vec<u8>,
    /// The look at the home after each stage.
    pub look: Duration,
    /// A home of a lower score takes nobody back, and a run that sees one stops.
    pub score_min: u8,
    /// Users a second and home.
    pub users_per_second: u32,
    /// Who is not brought home because they are in the middle of something.
    pub active_session: ActiveSession,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            automatic: true,
            // A server that falls over again does so soon; an hour would leave a site on its
            // backups for a morning.
            hold: Duration::from_secs(300),
            interval: Duration::from_secs(10),
            windows: Vec::new(),
            stages: vec![1, 5, 25, 100],
            look: Duration::from_secs(30),
            // What a degraded server has at best is 50.
            score_min: 60,
            users_per_second: 50,
            active_session: ActiveSession::Unmovable,
        }
    }
}

/// Which sessions keep their user where they are (B1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveSession {
    /// Those that could not be moved without their owner noticing.
    Unmovable,
    /// Any: a user with a registered phone stays until it is gone.
    Any,
}

/// A time of day in which users may go home, in minutes since midnight UTC. One that ends before it
/// begins lasts over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first minute.
    pub from: u32,
    /// The first minute after it.
    pub to: u32,
}

impl Window {
    fn is_open(self, minute: u32) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Why nobody goes home to a server now, in the order it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stay {
    /// An operator has stopped it.
    Paused,
    /// It is done by hand only.
    ByHandOnly,
    /// Automatic distribution is disabled: then nothing is moved by itself, home neither.
    DistributionDisabled,
    /// The door suspects its own network, or something that all servers share.
    Suspicion,
    /// The home is not healthy.
    HomeState(State),
    /// It has not been healthy for long enough.
    WithinHold,
    /// Its score is too low.
    HomeScore,
    /// It has lost a telephone system that another server reaches.
    HomeLostSystem,
    /// A run was stopped a short while ago.
    StoppedRecently,
    /// Not at this time of day.
    OutsideWindow,
}

impl Stay {
    /// The word in status and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::ByHandOnly => "by_hand_only",
            Self::DistributionDisabled => "distribution_disabled",
            Self::Suspicion => "suspicion",
            Self::HomeState(State::Unknown) => "home_unknown",
            Self::HomeState(State::Up) => "home_up",
            Self::HomeState(State::Degraded) => "home_degraded",
            Self::HomeState(State::Partial) => "home_partial",
            Self::HomeState(State::Down) => "home_down",
            Self::HomeState(State::Probation) => "home_in_probation",
            Self::HomeState(State::Ramp) => "home_ramping",
            Self::HomeState(State::Drain) => "home_draining",
            Self::HomeState(State::Maintenance) => "home_in_maintenance",
            Self::WithinHold => "within_hold",
            Self::HomeScore => "home_score",
            Self::HomeLostSystem => "home_lost_system",
            Self::StoppedRecently => "stopped_recently",
            Self::OutsideWindow => "outside_window",
        }
    }
}

/// What is known beside the servers.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// An operator has stopped all returns.
    pub paused: bool,
    /// D1.
    pub distribution_disabled: bool,
    /// Until when a home rests because a run was stopped.
    pub rests_until: Option<Uptime>,
}

/// Whether users may begin to go home to this server by themselves.
///
/// # Errors
///
/// Why they stay where they are.
pub fn may_begin(
    home: ServerId,
    view: &ClusterView,
    policy: &Policy,
    circumstances: Circumstances,
    now: Now,
) -> Result<(), Stay> {
    if circumstances.paused {
        return Err(Stay::Paused);
    }
    if !policy.automatic {
        return Err(Stay::ByHandOnly);
    }
    if circumstances.distribution_disabled {
        return Err(Stay::DistributionDisabled);
    }
    may_go_on(home, view, policy)?;
    let server = view.server(home);
    if now.uptime < server.since + policy.hold {
        return Err(Stay::WithinHold);
    }
    if circumstances.rests_until.is_some_and(|until| now.uptime < until) {
        return Err(Stay::StoppedRecently);
    }
    if !policy.is_open(now.wall) {
        return Err(Stay::OutsideWindow);
    }
    Ok(())
}

/// Whether a home that users are going to is still fit for more: what a run asks before each of
/// its steps, also one that was begun by hand.
///
/// # Errors
///
/// Why the run stops.
pub fn may_go_on(home: ServerId, view: &ClusterView, policy: &Policy) -> Result<(), Stay> {
    if view.suspicion.is_some() {
        return Err(Stay::Suspicion);
    }
    let server = view.server(home);
    if server.state != State::Up {
        return Err(Stay::HomeState(server.state));
    }
    if server.score < policy.score_min {
        return Err(Stay::HomeScore);
    }
    if view.lost_system(home).is_some() {
        return Err(Stay::HomeLostSystem);
    }
    Ok(())
}

/// Users who have gone home by the end of a stage, numbered from 0, of `users` who are away:
/// rounded up, at least one more than in the stage before, all of them in the last.
pub fn stage_end(policy: &Policy, users: usize, stage: usize) -> usize {
    let mut end = 0;
    for at in 0..=stage {
        let percent = policy.stages.get(at).copied().unwrap_or(100).min(100);
        let share = (users.saturating_mul(usize::from(percent))).div_ceil(100);
        end = share.max(end + 1).min(users);
    }
    if stage + 1 >= policy.stages.len() { users } else { end }
}

/// What became of the bindings of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// Registered at home, or waiting for their phones: the home has seen them.
    pub arrived: u64,
    /// Still on their way.
    pub under_way: u64,
    /// Refused, not answered, or gone elsewhere again.
    pub in_trouble: u64,
}

impl StageOutcome {
    /// Whether the home cannot take its users back.
    pub const fn is_bad(&self) -> bool {
        let all = self.arrived + self.under_way + self.in_trouble;
        self.in_trouble * 100 > all * TROUBLE_PERCENT_MAX
    }
}

impl Policy {
    fn is_open(&self, wall: SystemTime) -> bool {
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let minute = (since.as_secs() / 60) % u64::from(MINUTES_PER_DAY);
        let minute = u32::try_from(minute).unwrap_or(0);
        self.windows.is_empty() || self.windows.iter().any(|window| window.is_open(minute))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::cluster::{Realms, ServerView, Suspect, Suspicion};

    const HOME: ServerId = ServerId(0);
    const FREE: Circumstances =
        Circumstances { paused: false, distribution_disabled: false, rests_until: None };

    fn view(state: State, score: u8) -> ClusterView {
        let server = ServerView {
            name: "ucs1".into(),
            state,
            score,
            capacity: 10,
            version: None,
            site: None,
            ties: Arc::default(),
            realms: Arc::new(Realms::configured(None)),
            failure: None,
            incarnation: 0,
            since: Uptime::from_secs(100),
            planes: smallvec::SmallVec::new(),
        };
        ClusterView { servers: vec![server], suspicion: None }
    }

    fn at(seconds: u64) -> Now {
        Now { uptime: Uptime::from_secs(seconds), wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn nobody_goes_home_before_the_home_has_been_healthy_for_the_hold() {
        let policy = Policy::default();
        let ask = |view: &ClusterView, at| may_begin(HOME, view, &policy, FREE, at);
        assert_eq!(ask(&view(State::Up, 100), at(399)), Err(Stay::WithinHold));
        assert_eq!(ask(&view(State::Up, 100), at(400)), Ok(()));
        assert_eq!(ask(&view(State::Up, 59), at(400)), Err(Stay::HomeScore));
        for state in State::ALL.into_iter().filter(|state| *state != State::Up) {
            assert_eq!(ask(&view(state, 100), at(9_999)), Err(Stay::HomeState(state)));
        }
        let mut suspected = view(State::Up, 100);
        suspected.suspicion =
            Some(Suspicion { of: Suspect::OwnNetwork, since: Uptime::from_secs(1) });
        assert_eq!(ask(&suspected, at(400)), Err(Stay::Suspicion));
    }

    #[test]
    fn what_an_operator_has_stopped_does_not_begin() {
        let well = view(State::Up, 100);
        let ask =
            |policy: &Policy, circumstances| may_begin(HOME, &well, policy, circumstances, at(400));
        let policy = Policy::default();
        assert_eq!(ask(&policy, Circumstances { paused: true, ..FREE }), Err(Stay::Paused));
        let disabled = Circumstances { distribution_disabled: true, ..FREE };
        assert_eq!(ask(&policy, disabled), Err(Stay::DistributionDisabled));
        let rests = Circumstances { rests_until: Some(Uptime::from_secs(401)), ..FREE };
        assert_eq!(ask(&policy, rests), Err(Stay::StoppedRecently));
        let by_hand = Policy { automatic: false, ..Policy::default() };
        assert_eq!(ask(&by_hand, FREE), Err(Stay::ByHandOnly));
    }

    #[test]
    fn a_window_may_last_over_midnight() {
        let night = Window { from: 22 * 60, to: 5 * 60 };
        let policy = Policy { windows: vec![night], ..Policy::default() };
        let open = |hour: u64, minute: u64| {
            let day = 20_000 * 86_400;
            let since = Duration::from_secs(day + hour * 3_600 + minute * 60);
            policy.is_open(SystemTime::UNIX_EPOCH + since)
        };
        assert!(open(22, 0) && open(23, 59) && open(0, 0) && open(4, 59));
        assert!(!open(5, 0) && !open(12, 0) && !open(21, 59));
    }

    #[test]
    fn stages_grow_to_everybody() {
        let policy = Policy::default();
        let ends = |users| [0, 1, 2, 3].map(|stage| stage_end(&policy, users, stage));
        assert_eq!(ends(3_333), [34, 167, 834, 3_333]);
        assert_eq!(ends(10), [1, 2, 3, 10]);
        assert_eq!(ends(2), [1, 2, 2, 2]);
        assert_eq!(ends(0), [0; 4]);
    }

    proptest! {
        #[test]
        fn a_stage_ends_later_than_the_one_before_it_and_the_last_one_with_all(
            users in 0usize..5_000_000,
            stages in proptest::collection::vec(0u8..=100, 0..6),
        ) {
            let policy = Policy { stages, ..Policy::default() };
            let mut before = 0;
            for stage in 0..policy.stages.len().max(1) {
                let end = stage_end(&policy, users, stage);
                prop_assert!(end > before || end == users);
                before = end;
            }
            prop_assert_eq!(before, users);
        }
    }

    #[test]
    fn one_in_trouble_of_twenty_is_bearable_and_one_of_nineteen_is_not() {
        let outcome = |arrived, in_trouble| StageOutcome { arrived, in_trouble, under_way: 0 };
        assert!(!outcome(19, 1).is_bad());
        assert!(outcome(18, 1).is_bad());
        assert!(outcome(0, 1).is_bad());
        assert!(!outcome(0, 0).is_bad());
    }
}
