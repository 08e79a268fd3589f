//! Another home by hand (D7): it moves no live connection and counts at the next login.
//!
//! | the user | then |
//! |---|---|
//! | is served elsewhere than at home | home and origin are the new one; they stay until the return |
//! | is served there already, as a guest | they are at home |
//! | has no phone registered | is served at the new home from now on, if it takes users |
//! | has phones registered | stays, as somebody who is away from the new home |
//!
//! Whoever stays goes home when a login of theirs finds no other phone of theirs registered, by
//! the return job as everybody else who is away (B1), or by hand. The login of one who was told to
//! go asks nobody whether distribution is enabled: an operator said so.

use crate::cluster::ServerId;
use crate::directory::record::{Change, RelocationReason};
use crate::directory::{MoveReason, Moved, Relocation, User, UserId};
use crate::door::command::Refused;
use crate::door::ledger::Continuation;
use crate::door::rehome::{Move, Toward};
use crate::door::{Door, Output};
use crate::now::Now;
use crate::placement;

impl Door {
    /// Asks the store for another home of a user's; the ticket by which it is answered.
    ///
    /// # Errors
    ///
    /// Why nothing is written.
    pub(super) fn order_home(&mut self, now: Now, user: &str, home: &str) -> Result<u64, Refused> {
        let user = self.directory.by_name(user).or_else(|| self.directory.by_aor(user));
        let user = user.ok_or(Refused::NoSuchUser)?;
        let home = self.server_ordered(home)?;
        if self.directory.get(user).home == Some(home) {
            return Err(Refused::NothingToDo);
        }
        if self.ledger.is_recording(user) {
            return Err(Refused::Busy);
        }
        self.check_realm(user, home)?;
        let before = self.directory.get(user);
        let replaces = before.epoch;
        let after = self.with_home(now, user, home, false);
        let goes = (after.current() != before.current()).then_some(home);
        let record = self.user_record(&after);
        let ticket = self.ledger.begin_order(user);
        if let Some(server) = goes {
            self.directory.reserve(server);
        }
        let change = Change::User { record, replaces: Some(replaces) };
        let then = Continuation::Ordered { user, after: Box::new(after), goes, ticket };
        self.record_changes(vec![change], then);
        Ok(ticket)
    }

    /// A home of another realm takes none of the passwords that the user's phones have (M6): they
    /// would be locked out, and first of all moved.
    pub(super) fn check_realm(&self, user: UserId, home: ServerId) -> Result<(), Refused> {
        let view = self.health.view();
        let Some(current) = self.directory.get(user).current() else { return Ok(()) };
        let (here, there) = (view.server(current), view.server(home));
        if there.realms.differ_from(&here.realms) {
            let (here, there) = (&here.name, &there.name);
            let why =
                format!("{there} wants passwords for another realm than {here}, where the user is");
            return Err(Refused::NotNow(why));
        }
        Ok(())
    }

    /// A server an operator names.
    pub(super) fn server_ordered(&self, name: &str) -> Result<ServerId, Refused> {
        self.server_named(name).ok_or_else(|| {
            let known = self.settings.servers.iter().map(|it| it.name.clone()).collect();
            Refused::NoSuchServer { name: name.to_owned(), known }
        })
    }

    /// The user as they will be. Epoch and leftovers follow current, as in a move. Who `stays` is
    /// served where they are until their next login, also without a phone.
    pub(super) fn with_home(&self, now: Now, id: UserId, home: ServerId, stays: bool) -> User {
        let mut user = self.directory.get(id).clone();
        user.home = Some(home);
        let Some(current) = self.directory.get(id).current() else {
            user.epoch += 1;
            return user;
        };
        let registered = self.bindings_of(id).iter().any(|&id| {
            self.bindings.get(id).is_some_and(|binding| !binding.gone || binding.is_reserved())
        });
        if let Some(away) = &mut user.relocation {
            away.origin = home;
        } else if stays || registered || !self.takes_back(home) {
            let (date, why) = (now.wall, RelocationReason::Manual);
            user.relocation = Some(Relocation { origin: home, date, target: current, why });
        } else {
            user.epoch += 1;
            user.left_at.retain(|&server| server != home);
            if !user.left_at.contains(&current) {
                user.left_at.push(current);
            }
        }
        if current == home {
            user.relocation = None;
        }
        let before = self.directory.get(id).home.unwrap_or(current);
        user.history.push(Moved {
            date: now.wall,
            from: self.server_name(before),
            to: self.server_name(home),
            why: MoveReason::Manual,
            epoch: user.epoch,
        });
        user
    }

    /// Whether a home takes one more of its users.
    fn takes_back(&self, home: ServerId) -> bool {
        let view = self.health.view();
        view.server(home).state.takes_strangers()
            && placement::has_room(home, view, &self.directory, 0)
    }

    /// It is durable: now, and not before, it is so.
    pub(super) fn on_ordered(&mut self, now: Now, user: UserId, after: User) {
        self.ledger.finish_recording(user);
        let epoch = after.epoch;
        if let Some(home) = after.home {
            self.directory.set_home(user, home, epoch);
        }
        match after.relocation {
            Some(relocation) => self.directory.relocate(user, relocation, epoch),
            None => self.directory.clear_relocation(user, epoch),
        }
        self.directory.set_left_at(user, after.left_at);
        self.directory.set_history(user, after.history);
        self.stats.homes_set += 1;
        self.reconcile_user(now, user);
        self.wake_waiting(now, user);
    }

    /// Whoever gave an order learns what became of it.
    pub(super) fn answer_order(&mut self, ticket: Option<u64>, result: Result<(), Refused>) {
        if let Some(ticket) = ticket {
            self.outputs.push_back(Output::Ordered { ticket, result });
        }
    }

    /// A login of somebody who got another home by hand, and has no other phone registered, goes
    /// there: it is recorded first, like every move. Whether that is so.
    pub(super) fn goes_home_by_order(&mut self, now: Now, user: UserId) -> bool {
        let known = self.directory.get(user);
        let Some(away) = &known.relocation else { return false };
        let (epoch, from) = (known.epoch, away.target);
        let Some(home) = known.home.filter(|_| away.why == RelocationReason::Manual) else {
            return false;
        };
        let is_live = |&id| self.bindings.get(id).is_some_and(|it| it.is_live(now.uptime));
        if !known.enabled || self.bindings_of(user).iter().any(is_live) || !self.takes_back(home) {
            return false;
        }
        let step = Move { user, from, to: home, epoch, toward: Toward::Home, date: now.wall };
        self.record_moves(vec![step], None);
        true
    }
}
