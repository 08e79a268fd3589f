//! Users who are handed over: all of them are taken, or none is (L3).
//!
//! Whoever is unknown is added. Of whoever is known the home counts, as if it had been given by hand
//! (D7: it moves no live connection and counts at the next login), and so does whether they are
//! served; addresses and lines are added, and none is taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::ServerId;
use crate::directory::import::{self, Imported};
use crate::directory::record::Change;
use crate::directory::{User, UserId};
use crate::door::Door;
use crate::door::command::Refused;
use crate::door::ledger::Continuation;
use crate::now::Now;

/// A user as they will be; `None`: nobody knows them yet.
type Wanted = (Option<UserId>, User);

impl Door {
    /// Asks the store for what is handed over; the ticket by which it is answered. With `check` it is
    /// only looked at, and there is no ticket.
    ///
    /// # Errors
    ///
    /// The first line that cannot be taken, and why; nothing is then.
    pub(super) fn order_import(
        &mut self,
        now: Now,
        users: &[Imported],
        check: bool,
    ) -> Result<Option<u64>, Refused> {
        if self.ledger.importing {
            return Err(Refused::Busy);
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        let users = import::check(users).map_err(|why| Refused::NotNow(why.to_string()))?;
        for user in &users {
            let line = user.line.unwrap_or_default();
            let refuse = |why: String| Refused::NotNow(format!("line {line}: {why}"));
            let asked = self
                .imported(now, user)
                .map_err(|why| if why == Refused::Busy { why } else { refuse(why.to_string()) });
            wanted.extend(asked?);
        }
        self.check_room_for(&wanted)?;
        if check || wanted.is_empty() {
            return Ok(None);
        }
        let changes = wanted.iter().map(|(known, user)| Change::User {
            record: self.user_record(user),
            replaces: known.map(|id| self.directory.get(id).epoch),
        });
        let changes = changes.collect();
        let ticket = self.ledger.begin_import(wanted.iter().filter_map(|&(known, _)| known));
        self.record_changes(changes, Continuation::Imported { users: wanted, ticket });
        Ok(Some(ticket))
    }

    /// What one line asks for; `None`: it is so already.
    fn imported(&self, now: Now, asked: &Imported) -> Result<Option<Wanted>, Refused> {
        let home = asked.home.as_deref().map(|home| self.server_ordered(home)).transpose()?;
        let known = self.directory.by_name(&asked.name);
        let strange = |owner: Option<UserId>| owner.is_some() && owner != known;
        let aor = asked.aors.iter().find(|aor| strange(self.directory.by_aor(aor.as_str())));
        let line = asked.lines.iter().find(|line| strange(self.directory.by_line(line)));
        if let Some(taken) = aor.map(|aor| aor.as_str()).or_else(|| line.map(|line| &**line)) {
            return Err(Refused::NotNow(format!("{taken} belongs to another user here")));
        }
        let Some(id) = known else {
            return Ok(Some((None, self.stranger(asked, home))));
        };
        if self.ledger.is_recording(id) {
            return Err(Refused::Busy);
        }
        let before = self.directory.get(id);
        let mut after = match home.filter(|&home| before.home != Some(home)) {
            Some(home) => {
                self.check_realm(id, home)?;
                self.with_home(now, id, home, true)
            }
            None => before.clone(),
        };
        after.enabled = asked.enabled;
        for aor in asked.aors.iter().filter(|aor| !before.aors.contains(aor)) {
            after.aors.push(aor.clone());
        }
        for line in asked.lines.iter().filter(|line| !before.lines.contains(line)) {
            after.lines.push(Arc::clone(line));
        }
        Ok((after != *before).then_some((Some(id), after)))
    }

    fn stranger(&self, asked: &Imported, home: Option<ServerId>) -> User {
        User {
            name: Arc::clone(&asked.name),
            aors: asked.aors.iter().cloned().collect(),
            lines: asked.lines.clone(),
            home,
            enabled: asked.enabled,
            relocation: None,
            epoch: 1,
            left_at: Vec::new(),
            history: crate::directory::History::default(),
        }
    }

    /// Nobody is put where there is no room, and the table of users has its limit.
    fn check_room_for(&self, wanted: &[Wanted]) -> Result<(), Refused> {
        let new = wanted.iter().filter(|(known, _)| known.is_none()).count();
        let limit = self.settings.limits.users;
        if self.directory.len() + new > limit {
            return Err(Refused::NotNow(format!(
                "there would be more than {limit} users: raise limits.users"
            )));
        }
        let mut come: BTreeMap<ServerId, u32> = BTreeMap::new();
        for (known, user) in wanted {
            let before = known.and_then(|id| self.current(id));
            if let Some(server) = user.current().filter(|&server| before != Some(server)) {
                *come.entry(server).or_default() += 1;
            }
        }
        let view = self.health.view();
        for (server, come) in come {
            let (here, capacity) = (self.directory.assigned(server), view.server(server).capacity);
            if here.saturating_add(come) > capacity {
                let name = self.server_name(server);
                return Err(Refused::NotNow(format!(
                    "{name} serves {here} users and can serve {capacity}: there is no room for {come} \
                     more"
                )));
            }
        }
        Ok(())
    }

    /// It is durable: now, and not before, it is so.
    pub(super) fn on_imported(&mut self, now: Now, users: Vec<Wanted>) {
        self.ledger.importing = false;
        for (known, user) in users {
            let done = match known {
                Some(id) => {
                    self.ledger.finish_recording(id);
                    self.directory.replace(id, user).map(|()| id)
                }
                None => self.directory.insert(user),
            };
            // Nobody was adopted and no record changed since it was asked for.
            let Ok(id) = done else { continue };
            self.stats.users_imported += 1;
            self.reconcile_user(now, id);
            self.wake_waiting(now, id);
        }
    }

    /// Nothing was written: everybody is as they were.
    pub(super) fn on_not_imported(&mut self, now: Now, users: Vec<Wanted>) {
        self.ledger.importing = false;
        for id in users.into_iter().filter_map(|(known, _)| known) {
            self.ledger.finish_recording(id);
            self.wake_waiting(now, id);
        }
    }
}
