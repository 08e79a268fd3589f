//! The part of the machine's surface that is about clients.

use crate::now::Uptime;
use crate::ucserver::clients::{Around, CallRefused, ClientHome, Clients, ClientsView, ToClient};
use crate::ucserver::mood::Mood;
use crate::ucserver::server::{Input, Output, UcServer};

impl UcServer {
    /// What is known of clients that speak UCSAP, as of the last input.
    pub const fn clients(&self) -> ClientsView<'_> {
        ClientsView(&self.life.clients)
    }

    /// Where a user belongs, by login name: to another server, or to this one.
    pub fn client_belongs(&mut self, user: &str, home: Option<ClientHome>) {
        let homes = &mut self.settings.clients.homes;
        match home {
            Some(home) => homes.insert(user.to_owned(), home),
            None => homes.remove(user),
        };
    }

    /// Somebody with this number calls a line of this URI; the name of the call.
    ///
    /// # Errors
    /// The server is silent, no user has that line, or it has as many calls as it may have.
    pub fn ring(&mut self, now: Uptime, line: &str, number: &str) -> Result<String, CallRefused> {
        if self.is_silent(now) {
            return Err(CallRefused::Silent);
        }
        let mut rung = Err(CallRefused::NoLine);
        self.with_clients(now, |clients, around| {
            rung = clients.ring(around, line, number);
        });
        rung.map(|call| call.to_string())
    }

    /// The other end of a call hangs up.
    ///
    /// # Errors
    /// The server is silent, or there is no such call.
    pub fn hang_up(&mut self, now: Uptime, call: &str) -> Result<(), CallRefused> {
        if self.is_silent(now) {
            return Err(CallRefused::Silent);
        }
        let mut done = Err(CallRefused::NoCall);
        self.with_clients(now, |clients, around| done = clients.hang_up(around, call));
        done
    }

    /// Gives a user one more line, or takes one away; clients that asked to be told are told.
    ///
    /// # Errors
    /// The server is silent, or the user does not have the line that is to go.
    pub fn change_line(
        &mut self,
        now: Uptime,
        user: &str,
        line: &str,
        is_there: bool,
    ) -> Result<(), CallRefused> {
        if self.is_silent(now) {
            return Err(CallRefused::Silent);
        }
        let settings = &mut self.settings.clients;
        let had = settings.lines_of(user).iter().any(|it| it == line);
        if is_there && !had {
            settings.more_lines.entry(user.to_owned()).or_default().push(line.to_owned());
        } else if !is_there {
            let more = settings.more_lines.get_mut(user);
            let given = settings.users.as_mut().and_then(|users| users.get_mut(user));
            for lines in more.into_iter().chain(given.map(|user| &mut user.lines)) {
                lines.retain(|it| it != line);
            }
            // The line that everybody has by rule stays.
            if !had || settings.lines_of(user).iter().any(|it| it == line) {
                return Err(CallRefused::NoLine);
            }
        }
        self.with_clients(now, |clients, around| {
            clients.change_line(around, user, line, is_there);
        });
        Ok(())
    }

    /// No token is good any longer that was handed out so far.
    pub fn expire_tokens(&mut self, now: Uptime) {
        self.life.clients.expire_tokens(now);
    }

    /// What becomes of an input while the server says nothing. Its kernel goes on: connections come
    /// and go.
    pub(super) fn ignore(&mut self, now: Uptime, input: &Input) {
        match *input {
            Input::ClientOpened { connection } if self.mood == Mood::Dead => {
                self.outputs.push_back(Output::Client(ToClient::Close { connection }));
            }
            Input::ClientOpened { connection } => {
                self.with_clients(now, |clients, around| clients.opened(around, connection));
            }
            Input::ClientClosed { connection } => {
                self.with_clients(now, |clients, around| clients.closed(around, connection));
            }
            Input::Client { connection, .. } => {
                self.journal.count().ignored += 1;
                self.life.clients.heard(now, connection);
            }
            Input::Sip { .. } => self.journal.count().ignored += 1,
            Input::Closed { .. } | Input::Unreachable { .. } | Input::Timeout => {}
        }
    }

    /// Lends the clients' part what it needs.
    pub(super) fn with_clients(
        &mut self,
        now: Uptime,
        act: impl FnOnce(&mut Clients, &mut Around<'_>),
    ) {
        let mut around = Around {
            now,
            wall: self.settings.wall + now.since(self.started_at),
            settings: &self.settings,
            mood: self.mood,
            behaviour: self.mood.behaviour(self.mood_since, now),
            journal: &mut self.journal,
        };
        act(&mut self.life.clients, &mut around);
    }
}
