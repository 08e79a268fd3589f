//! Why a user is where they are, and what would happen if (D8). Nothing is changed by asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterView, Failure, Proof, ServerId, State};
use crate::decision::{Login, Outcome, Plane, decide, may_leave};
use crate::directory::{Moved, UserId};
use crate::door::Door;
use crate::door::command::Refused;
use crate::now::Now;
use crate::placement;

/// The decision about one user, and what it rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Login name.
    pub user: Arc<str>,
    /// `accept`, `forward`, `assign_home`, `relocate`, `hold` or `block`.
    pub outcome: Arc<str>,
    /// The server the outcome names.
    pub server: Option<Arc<str>>,
    /// The reason, in a word.
    pub because: Arc<str>,
    /// The same in a sentence.
    pub sentence: Arc<str>,
    /// Home server.
    pub home: Option<Arc<str>>,
    /// Current server.
    pub current: Option<Arc<str>>,
    /// `RelocationHomeserverOrigin`: where they were first moved away from, while they are away.
    pub relocated_from: Option<Arc<str>>,
    /// Why they are away, while they are.
    pub relocated_why: Option<Arc<str>>,
    /// `RelocationDate`, seconds since 1970, while they are away.
    pub relocated_at: Option<u64>,
    /// Epoch.
    pub epoch: u64,
    /// The last moves, oldest first, at most 16.
    #[serde(default)]
    pub history: Vec<MovedStatus>,
    /// Every server in configured order.
    pub candidates: Vec<Candidate>,
}

/// A server that a user might be moved to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// Its name.
    pub server: Arc<str>,
    /// Its state's name.
    pub state: Arc<str>,
    /// The planes that are dead and count, where it serves several.
    #[serde(default)]
    pub dead_planes: Vec<Arc<str>>,
    /// 0–100.
    pub score: u8,
    /// Users it has room for.
    pub free: u32,
    /// Whether it is the one that would be taken now.
    pub best: bool,
    /// Why it would not take them in a word; none if it would.
    pub refuses: Option<Arc<str>>,
    /// A telephone system of theirs that it does not reach now: it takes them last of all.
    #[serde(default)]
    pub lost_system: Option<Arc<str>>,
}

/// One move of a user's, as it went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovedStatus {
    /// When, in seconds since 1970.
    pub date: u64,
    /// From which server.
    pub from: Arc<str>,
    /// To which.
    pub to: Arc<str>,
    /// `failover`, `drain`, `replanned`, `manual`, `return`, `rebalance` or `redirect`.
    pub why: Arc<str>,
    /// The user's epoch after it.
    pub epoch: u64,
}

impl MovedStatus {
    fn of(moved: &Moved) -> Self {
        let since = moved.date.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            date: since.unwrap_or_default().as_secs(),
            from: Arc::clone(&moved.from),
            to: Arc::clone(&moved.to),
            why: moved.why.name().into(),
            epoch: moved.epoch,
        }
    }
}

/// What would happen if servers died.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhatIf {
    /// Which.
    pub killed: Vec<Arc<str>>,
    /// Whether the door would move anybody.
    pub acts: bool,
    /// Why not, in a word.
    pub because: Option<Arc<str>>,
    /// Users who would have to go.
    pub users: u64,
    /// Of these, users who would have nowhere to go.
    pub unplaced: u64,
    /// How many of them for which reason.
    pub unplaced_because: BTreeMap<Arc<str>, u64>,
    /// Seconds the door would need to register them at the ceilings of servers and telephone systems;
    /// none without any.
    pub seconds: Option<u64>,
    /// The servers, in configured order.
    pub servers: Vec<ServerLoad>,
    /// A page of who goes where, in canonical order.
    pub moves: Vec<PlannedMove>,
}

/// One server before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerLoad {
    /// Its name.
    pub server: Arc<str>,
    /// Users it can serve.
    pub capacity: u32,
    /// Users it serves now.
    pub before: u32,
    /// Users who would go.
    pub go: u32,
    /// Users who would come.
    pub come: u32,
    /// Users it would serve then.
    pub after: u32,
}

/// One user's move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedMove {
    /// Login name.
    pub user: Arc<str>,
    /// From where.
    pub from: Arc<str>,
    /// To where.
    pub to: Arc<str>,
}

impl Door {
    /// What a login of this user would get now, by login name or AoR.
    pub fn explain(&self, now: Now, name: &str) -> Option<Explanation> {
        let id = self.directory.by_name(name).or_else(|| self.directory.by_aor(name))?;
        let view = self.health.view();
        let policy = &self.settings.decision;
        let login = Login { plane: Plane::Sip, user: id, reached: None };
        let verdict = decide(&login, view, &self.directory, policy, now.uptime);
        let server = match verdict.outcome {
            Outcome::Accept(server)
            | Outcome::Forward(server)
            | Outcome::AssignHome(server)
            | Outcome::Relocate(server) => Some(server),
            Outcome::Hold | Outcome::Block { .. } => None,
        };
        let best = placement::place(id, view, &self.directory, &policy.placement).ok();
        let candidates = placement::candidates(id, view, &self.directory, &policy.placement);
        let user = self.directory.get(id);
        let relocation = user.relocation.as_ref();
        let name_of = |server| self.server_name(server);
        Some(Explanation {
            user: Arc::clone(&user.name),
            outcome: verdict.outcome.name().into(),
            server: server.map(name_of),
            because: verdict.because.name().into(),
            sentence: verdict.because.sentence().into(),
            home: user.home.map(name_of),
            current: user.current().map(name_of),
            relocated_from: relocation.map(|it| name_of(it.origin)),
            relocated_why: relocation.map(|it| it.why.name().into()),
            relocated_at: relocation.map(|it| {
                let since = it.date.duration_since(SystemTime::UNIX_EPOCH);
                since.unwrap_or_default().as_secs()
            }),
            epoch: user.epoch,
            history: user.history.iter().map(MovedStatus::of).collect(),
            candidates: candidates
                .into_iter()
                .map(|(id, admitted)| {
                    let seen = view.server(id);
                    Candidate {
                        server: Arc::clone(&seen.name),
                        state: seen.state.name().into(),
                        dead_planes: seen.dead_planes().map(|it| it.name().into()).collect(),
                        score: seen.score,
                        free: placement::room(id, view, &self.directory),
                        best: best == Some(id),
                        lost_system: placement::lost_system(user, id, view).cloned(),
                        refuses: admitted.err().map(|refusal| refusal.name().into()),
                    }
                })
                .collect(),
        })
    }

    /// Who would go where if these servers died at once, refused by their own hosts: the plan a
    /// failover would make of the same facts. `count` of the moves are listed, from the `from`-th.
    ///
    /// Of several it is the plan for all together. Where the door sees one fail before the others, it
    /// plans that one first, and some users land elsewhere than told here.
    ///
    /// # Errors
    ///
    /// One of them is not configured.
    pub fn what_if(
        &self,
        now: Now,
        killed: &[String],
        (from, count): (usize, usize),
    ) -> Result<WhatIf, Refused> {
        let mut dead = Vec::with_capacity(killed.len());
        for name in killed {
            dead.push(self.server_ordered(name)?);
        }
        dead.sort_unstable();
        dead.dedup();
        let view = self.view_without(now, &dead);
        let policy = &self.settings.decision;
        // Nobody is moved off one under maintenance, and it keeps nobody else from being moved.
        let mut leaving = dead.clone();
        leaving.retain(|&server| view.server(server).state != State::Maintenance);
        let asked = if leaving.is_empty() { &dead } else { &leaving };
        let stays = asked
            .iter()
            .find_map(|&server| may_leave(server, &view, policy, now.uptime).err())
            .map(|verdict| verdict.because);
        let users = self.users_to_leave(&leaving);
        let plan = placement::plan(&users, &view, &self.directory, &policy.placement);
        let mut come = vec![0_u32; view.servers.len()];
        let mut go = come.clone();
        let mut bindings = vec![0_u64; view.servers.len()];
        let mut by_home = bindings.clone();
        for step in &plan.moves {
            come[step.to.index()] += 1;
            go[step.from.index()] += 1;
            let many = self.bindings_of(step.user).len() as u64;
            bindings[step.to.index()] += many;
            let home = self.directory.get(step.user).home.unwrap_or(step.from);
            by_home[home.index()] += many;
        }
        let mut because: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (_, refusal) in &plan.unplaced {
            *because.entry(refusal.name().into()).or_default() += 1;
        }
        let most = bindings.into_iter().max().unwrap_or(0);
        let pace = self.settings.pace.rate_max;
        let at_servers = pace.map(|rate| most.div_ceil(u64::from(rate.max(1))));
        let servers = view.iter().map(|(id, server)| {
            let before = self.directory.assigned(id);
            let (come, go) = (come[id.index()], go[id.index()]);
            let after = (before + come).saturating_sub(go);
            let server_name = Arc::clone(&server.name);
            ServerLoad { server: server_name, capacity: server.capacity, before, go, come, after }
        });
        let moves = plan.moves.iter().skip(from).take(count).map(|step| PlannedMove {
            user: Arc::clone(&self.directory.get(step.user).name),
            from: self.server_name(step.from),
            to: self.server_name(step.to),
        });
        Ok(WhatIf {
            killed: dead.iter().map(|&server| self.server_name(server)).collect(),
            acts: stays.is_none(),
            because: stays.map(|because| because.name().into()),
            users: users.len() as u64,
            unplaced: plan.unplaced.len() as u64,
            unplaced_because: because,
            seconds: at_servers.max(self.seconds_at_systems(&by_home)),
            servers: servers.collect(),
            moves: moves.collect(),
        })
    }

    fn view_without(&self, now: Now, dead: &[ServerId]) -> ClusterView {
        let mut view = ClusterView::clone(self.health.view());
        for &server in dead {
            let seen = &mut view.servers[server.index()];
            if seen.state != State::Maintenance {
                seen.state = State::Down;
            }
            seen.score = 0;
            let (since, hold_until) = (now.uptime, now.uptime);
            seen.failure = Some(Failure { proof: Proof::Refused, since, hold_until });
        }
        view
    }

    /// Whom a failover of these servers moves: whose current server they are, and who may be served
    /// at all.
    pub(super) fn users_to_leave(&self, failed: &[ServerId]) -> Vec<UserId> {
        let there = failed.iter().flat_map(|&server| self.directory.on_server(server));
        there.filter(|&user| self.directory.is_enabled(user)).collect()
    }
}
