//! What an operator tells a running door.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::{State, Suspect};
use crate::directory::import::Imported;
use crate::door::Door;
use crate::door::homecoming::NoReturn;
use crate::now::Now;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Nobody goes home until told otherwise; returns under way stop.
    PauseRecovery,
    /// They may again.
    ResumeRecovery,
    /// Everybody whose home this is goes home now, in stages.
    ReturnServer(String),
    /// One user does, by login name or AoR.
    ReturnUser(String),
    /// Another home for a user (D7).
    SetHome {
        /// By login name or AoR.
        user: String,
        /// The server.
        home: String,
    },
    /// Users are handed over (L3).
    Import {
        /// All of them, or none.
        users: Vec<Imported>,
        /// Only looked at.
        check: bool,
    },
    /// A server takes nobody new from now on, and its users leave; or like any other again (H3). It
    /// lasts until the door restarts.
    Drain {
        /// Its name.
        server: String,
        /// Or off.
        on: bool,
    },
    /// A server is under maintenance from now on: its users leave and its health counts for nothing;
    /// or it is not any longer (H3). It lasts until the door restarts.
    Maintenance {
        /// Its name.
        server: String,
        /// Or off.
        on: bool,
        /// Its users do not leave: it will be back in a moment.
        stay: bool,
    },
    /// Homes are spread over the pool anew.
    Rebalance,
    /// No further.
    StopRebalance,
    /// A failover on purpose (O5): the server is taken for failed until its users have left.
    Drill(String),
    /// It is not our network (H5): servers that are silent are failed, and their users are moved.
    EndSuspicion,
}

/// An order was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done, or under way.
    Now,
    /// It counts when it is durable: [`Output::Ordered`](crate::door::Output::Ordered) with this
    /// ticket says so.
    WhenDurable(u64),
}

/// Why an order was not carried out; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// Nobody of this name or address.
    #[error("there is no such user")]
    NoSuchUser,
    /// Not configured.
    #[error("there is no server {name:?}; there are {}", known.join(", "))]
    NoSuchServer {
        /// What was named.
        name: String,
        /// Those there are.
        known: Vec<Arc<str>>,
    },
    /// As it was to be.
    #[error("that is so already")]
    NothingToDo,
    /// Something of this user's is being written.
    #[error("something of this user's is being written: try again in a moment")]
    Busy,
    /// The store failed.
    #[error("nothing has changed, because it could not be written: {0}")]
    NotWritten(Arc<str>),
    /// It cannot be now; in words.
    #[error("{0}")]
    NotNow(String),
}

impl From<NoReturn> for Refused {
    fn from(why: NoReturn) -> Self {
        match why {
            NoReturn::NoSuchServer { name, known } => Self::NoSuchServer { name, known },
            NoReturn::NoSuchUser => Self::NoSuchUser,
            NoReturn::AlreadySo => Self::NothingToDo,
            NoReturn::Full
            | NoReturn::UnderWay
            | NoReturn::Unfit(_)
            | NoReturn::NobodyAway
            | NoReturn::AllActive => Self::NotNow(why.to_string()),
        }
    }
}

impl Door {
    /// Carries out an order. The law of use holds as after [`Door::handle`].
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub fn command(&mut self, now: Now, command: &Command) -> Result<Done, Refused> {
        let mut done = Done::Now;
        match command {
            Command::PauseRecovery => self.pause_recovery(now, true)?,
            Command::ResumeRecovery => self.pause_recovery(now, false)?,
            Command::ReturnServer(name) => self.return_home(now, name)?,
            Command::ReturnUser(name) => self.return_user(now, name)?,
            Command::SetHome { user, home } => {
                done = Done::WhenDurable(self.order_home(now, user, home)?);
            }
            Command::Import { users, check } => {
                let ticket = self.order_import(now, users, *check)?;
                done = ticket.map_or(Done::Now, Done::WhenDurable);
            }
            Command::Drain { server, on } => self.order_drain(now, server, *on)?,
            Command::Maintenance { server, on, stay } => {
                self.order_maintenance(now, server, *on, *stay)?;
            }
            Command::Rebalance => self.begin_rebalance(now)?,
            Command::StopRebalance => self.stop_rebalance(now)?,
            Command::Drill(server) => self.order_drill(now, server)?,
            Command::EndSuspicion => self.end_suspicion(now)?,
        }
        self.look_after(now);
        Ok(done)
    }

    fn order_drain(&mut self, now: Now, name: &str, on: bool) -> Result<(), Refused> {
        let server = self.server_ordered(name)?;
        if !self.health.drain(now.uptime, server, on) {
            if self.health.view().server(server).state == State::Maintenance {
                return Err(Refused::NotNow(format!("{name} is under maintenance")));
            }
            return Err(Refused::NothingToDo);
        }
        if on {
            self.begin_leaving(now, server, "drain");
        } else {
            self.end_leaving(now, server);
        }
        Ok(())
    }

    fn order_maintenance(
        &mut self,
        now: Now,
        name: &str,
        on: bool,
        stay: bool,
    ) -> Result<(), Refused> {
        let server = self.server_ordered(name)?;
        let changed = self.health.maintain(now.uptime, server, on);
        let leaves = on && !stay;
        if !changed && leaves == self.is_leaving(server) {
            return Err(Refused::NothingToDo);
        }
        if leaves {
            self.begin_leaving(now, server, "maintenance");
        } else {
            self.end_leaving(now, server);
        }
        Ok(())
    }

    fn end_suspicion(&mut self, now: Now) -> Result<(), Refused> {
        if self.health.end_suspicion(now.uptime) {
            return Ok(());
        }
        Err(Refused::NotNow(match self.health.view().suspicion.map(|suspicion| suspicion.of) {
            Some(Suspect::SharedBackend) => {
                "all servers give the same error: moving users helps nobody; it ends when one of \
                 them is well again"
                    .to_owned()
            }
            Some(Suspect::Plane(plane)) => format!(
                "the {} plane is dead on too many servers: nobody is moved for it; it ends when it \
                 answers again on enough of them, or when health.planes no longer names it",
                plane.name()
            ),
            Some(Suspect::OwnNetwork) | None => "nothing is suspected now".to_owned(),
        }))
    }
}
