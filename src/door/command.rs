//! What an operator tells a running door.

use std::sync::Arc;

use crate::door::Door;
use crate::door::homecoming::NoReturn;
use crate::now::Now;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nobody goes home until told otherwise; returns under way stop.
    PauseRecovery,
    /// They may again.
    ResumeRecovery,
    /// Everybody whose home this is goes home now, in stages.
    ReturnServer(String),
    /// One user does, by login name or AoR.
    ReturnUser(String),
}

/// Why an order was not carried out; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody of this name or address.
    #[error("there is no such user")]
    NoSuchUser,
    /// Not configured.
    #[error("there is no such server; there are {}", .0.join(", "))]
    NoSuchServer(Vec<Arc<str>>),
    /// What was asked for is so, or cannot be now; in words.
    #[error("{0}")]
    NotNow(String),
}

impl From<NoReturn> for Refused {
    fn from(why: NoReturn) -> Self {
        match why {
            NoReturn::NoSuchServer { known } => Self::NoSuchServer(known),
            NoReturn::NoSuchUser => Self::NoSuchUser,
            NoReturn::AlreadySo
            | NoReturn::Full
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
    pub fn command(&mut self, now: Now, command: &Command) -> Result<(), Refused> {
        match command {
            Command::PauseRecovery => self.pause_recovery(now, true)?,
            Command::ResumeRecovery => self.pause_recovery(now, false)?,
            Command::ReturnServer(name) => self.return_home(now, name)?,
            Command::ReturnUser(name) => self.return_user(now, name)?,
        }
        Ok(())
    }
}
