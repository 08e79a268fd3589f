//! What the driver shows to the threads around it: snapshots to read, questions to ask.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::door::{
    Command, Explanation, Filter, Listed, RebalancePlan, Refused, RelocationStatus, Stats, Status,
    UserStatus, WhatIf,
};
use crate::net::counters::Counters;
use crate::now::Uptime;

/// Questions that wait for the driver; one more is told to come back.
const QUERY_LIMIT: usize = 16;

/// Users one answer holds at most.
pub const USERS_PAGE_LIMIT: usize = 1_000;

/// The whole picture at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the driver showed it.
    pub published: Uptime,
    /// What the door shows of itself.
    pub status: Status,
    /// What the door counted.
    pub stats: Stats,
    /// What the sockets counted.
    pub net: Counters,
    /// Stream connections there are.
    pub connections: usize,
    /// Sessions of the WebService.
    pub web_sessions: u64,
    /// Writes the store has not answered yet.
    pub writes_waiting: usize,
}

/// A question about users, which no snapshot holds.
#[derive(Debug)]
pub(super) enum Query {
    Users {
        filter: Filter,
        page: (usize, usize),
        reply: oneshot::Sender<Result<Listed<UserStatus>, Refused>>,
    },
    User {
        name: String,
        reply: oneshot::Sender<Option<UserStatus>>,
    },
    Relocations {
        filter: Filter,
        page: (usize, usize),
        reply: oneshot::Sender<Result<Listed<RelocationStatus>, Refused>>,
    },
    Explain {
        name: String,
        reply: oneshot::Sender<Option<Explanation>>,
    },
    WhatIf {
        killed: Vec<String>,
        page: (usize, usize),
        reply: oneshot::Sender<Result<WhatIf, Refused>>,
    },
    RebalancePlan {
        page: (usize, usize),
        reply: oneshot::Sender<RebalancePlan>,
    },
    Command {
        command: Command,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
}

/// The driver does not answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many questions wait.
    #[error("the door is busy: ask again in a second")]
    Busy,
    /// The driver has ended.
    #[error("the door is stopping")]
    Stopping,
}

/// A running door, seen from outside: cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    queries: mpsc::Sender<Query>,
}

impl Handle {
    /// A handle, and where its questions come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Query>) {
        let (queries, asked) = mpsc::channel(QUERY_LIMIT);
        (Self { snapshot: Arc::default(), queries }, asked)
    }

    /// The latest picture; `None` until the driver runs.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Users who fit; `page` is where it begins, and how many it holds (at most
    /// [`USERS_PAGE_LIMIT`]).
    ///
    /// # Errors
    /// The driver is busy or has ended; within, the filter names a server that is not there.
    pub async fn users(
        &self,
        filter: Filter,
        (from, count): (usize, usize),
    ) -> Result<Result<Listed<UserStatus>, Refused>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let page = (from, count.min(USERS_PAGE_LIMIT));
        self.ask(Query::Users { filter, page, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    /// One user, by login name or AoR.
    ///
    /// # Errors
    /// The driver is busy or has ended.
    pub async fn user(&self, name: String) -> Result<Option<UserStatus>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.ask(Query::User { name, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    /// The same of users who are away.
    ///
    /// # Errors
    /// As for [`Handle::users`].
    pub async fn relocations(
        &self,
        filter: Filter,
        (from, count): (usize, usize),
    ) -> Result<Result<Listed<RelocationStatus>, Refused>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let page = (from, count.min(USERS_PAGE_LIMIT));
        self.ask(Query::Relocations { filter, page, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    /// What a login of this user would get now.
    ///
    /// # Errors
    /// The driver is busy or has ended.
    pub async fn explain(&self, name: String) -> Result<Option<Explanation>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.ask(Query::Explain { name, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    /// What would happen if these servers died; `page` is the first move listed, and how many (at
    /// most [`USERS_PAGE_LIMIT`]).
    ///
    /// # Errors
    /// The driver is busy or has ended; within, there is no such server.
    pub async fn what_if(
        &self,
        killed: Vec<String>,
        (from, count): (usize, usize),
    ) -> Result<Result<WhatIf, Refused>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let page = (from, count.min(USERS_PAGE_LIMIT));
        self.ask(Query::WhatIf { killed, page, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    /// What a rebalance would do; `page` is the first move listed, and how many (at most
    /// [`USERS_PAGE_LIMIT`]).
    ///
    /// # Errors
    /// The driver is busy or has ended.
    pub async fn rebalance_plan(
        &self,
        (from, count): (usize, usize),
    ) -> Result<RebalancePlan, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let page = (from, count.min(USERS_PAGE_LIMIT));
        self.ask(Query::RebalancePlan { page, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    /// Tells the door to do something, and waits until it counts.
    ///
    /// # Errors
    /// The driver is busy or has ended; within, why the door does not do it.
    pub async fn command(&self, command: Command) -> Result<Result<(), Refused>, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.ask(Query::Command { command, reply })?;
        answer.await.map_err(|_| Unanswered::Stopping)
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Some(Arc::new(snapshot)));
    }

    fn ask(&self, query: Query) -> Result<(), Unanswered> {
        self.queries.try_send(query).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Stopping,
        })
    }
}
