//! [`Sessions`] → [`ClientReport`]: where the simulated servers saw clients log in, and what the
//! clients heard, as figures. Pure.
//!
//! A session is *kept* if it went on over its first connection with its first monitor, and *returned*
//! if its client came back on another connection. Either way it counts only if the client hears its
//! line in the end, and from the server where its user belongs by then.

use serde::Serialize;

use crate::cli::demo::report::{Kill, Server, millis, percentile_rank};

/// Events after the kill that are remembered of each client: the first may have been sent before.
pub(super) const HEARD_SINCE_KILL: usize = 4;

/// The clients' part of `demo --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ClientReport {
    /// Clients there are.
    pub(super) clients: usize,
    /// Clients whose server was killed.
    pub(super) clients_affected: usize,
    /// Of those, the ones that showed what cannot be shown to another server again: they have to
    /// come back by themselves.
    pub(super) clients_affected_unreplayable: usize,
    /// Clients that went on over the same connection with the same monitor.
    pub(super) client_sessions_kept: usize,
    /// Clients whose connection was closed, and which came back and logged in again.
    pub(super) client_sessions_returned: usize,
    /// All others.
    pub(super) client_sessions_lost: usize,
    /// Messages to clients that belong to nothing they had asked for: an event of another monitor,
    /// an answer to another question.
    pub(super) client_messages_strange: u64,
    /// From the kill until 99 of 100 affected clients heard of their line from another server;
    /// none while fewer did.
    pub(super) client_served_p99_ms: Option<f64>,
    /// The same of the affected clients that did not have to come back by themselves.
    pub(super) client_resume_p99_ms: Option<f64>,
}

/// Who logged in where.
#[derive(Debug)]
pub(super) struct Sessions {
    kill: Option<Kill>,
    /// When the killed server was started again.
    back_nanos: Option<u64>,
    clients: Vec<Seen>,
    is_bound: fn(usize) -> bool,
    /// From here on events say that a client hears its line in the end.
    round_nanos: u64,
}

/// What servers say of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Where it logged in last before the kill, and when.
    owner: Option<(Server, u64)>,
    /// The first login at another server after the kill.
    elsewhere: Option<u64>,
    /// Where it logged in last.
    last: Option<(Server, u64)>,
}

/// What a client itself knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientSide {
    /// Connections it has had.
    pub(super) connections: u64,
    /// Monitors it has had.
    pub(super) monitors: u64,
    /// When it last heard of its line; 0: never.
    pub(super) last_heard_nanos: u64,
    /// When it heard of its line first after the kill, in that order; 0: not yet.
    pub(super) heard_since_kill_nanos: [u64; HEARD_SINCE_KILL],
}

impl Sessions {
    /// `is_bound` says whose logins cannot be replayed.
    pub(super) fn new(clients: usize, is_bound: fn(usize) -> bool) -> Self {
        let clients = vec![Seen::default(); clients];
        Self { kill: None, back_nanos: None, clients, is_bound, round_nanos: 0 }
    }

    /// The server was killed; logins from before that may still come in.
    pub(super) const fn killed(&mut self, kill: Kill) {
        self.kill = Some(kill);
    }

    /// The killed server was started again.
    pub(super) const fn back(&mut self, at_nanos: u64) {
        self.back_nanos = Some(at_nanos);
    }

    /// From now on events say that a client hears its line in the end.
    pub(super) const fn begin_round(&mut self, at_nanos: u64) {
        self.round_nanos = at_nanos;
    }

    /// A server let a client in.
    pub(super) fn logged_in(&mut self, server: Server, client: usize, at_nanos: u64) {
        let Some(seen) = self.clients.get_mut(client) else { return };
        if seen.last.is_none_or(|(_, at)| at <= at_nanos) {
            seen.last = Some((server, at_nanos));
        }
        let Some(kill) = self.kill.filter(|kill| at_nanos >= kill.at_nanos) else {
            if seen.owner.is_none_or(|(_, at)| at <= at_nanos) {
                seen.owner = Some((server, at_nanos));
            }
            return;
        };
        if kill.server != server && seen.elsewhere.is_none_or(|at| at > at_nanos) {
            seen.elsewhere = Some(at_nanos);
        }
    }

    /// Clients that some server has let in.
    pub(super) fn known(&self) -> usize {
        self.clients.iter().filter(|seen| seen.last.is_some()).count()
    }

    /// Clients whose server was killed.
    pub(super) fn affected(&self) -> usize {
        self.affected_clients().count()
    }

    /// Affected clients that hear of their line again, from another server.
    pub(super) fn resumed(&self, side: impl Fn(usize) -> ClientSide) -> usize {
        self.resumptions(side, |_| true).len()
    }

    /// Affected clients that are to go home with their users: a session that cannot be moved
    /// unnoticed keeps its user where they are (B1).
    pub(super) fn expected_home(&self) -> usize {
        self.affected_clients().filter(|(client, _)| !(self.is_bound)(*client)).count()
    }

    /// Of those, the ones that are.
    pub(super) fn at_home(&self) -> usize {
        let expected = self.affected_clients().filter(|(client, _)| !(self.is_bound)(*client));
        expected.filter(|(_, seen)| self.is_at_home(seen)).count()
    }

    /// Whether everybody hears of their line in this round.
    pub(super) fn all_hear(&self, side: impl Fn(usize) -> ClientSide) -> bool {
        (0..self.clients.len()).all(|client| side(client).last_heard_nanos >= self.round_nanos)
    }

    /// The final account. `phone_at` is where a client's user has a phone, if anywhere; `strange` is
    /// what clients counted.
    pub(super) fn report(
        &self,
        strange: u64,
        side: impl Fn(usize) -> ClientSide,
        phone_at: impl Fn(usize) -> Option<Server>,
    ) -> ClientReport {
        let (mut kept, mut returned, mut lost) = (0, 0, 0);
        for (client, seen) in self.clients.iter().enumerate() {
            let own = side(client);
            let hears = own.last_heard_nanos >= self.round_nanos && own.last_heard_nanos > 0;
            let is_right = self.is_right(client, seen, phone_at(client));
            let has_resumed = !self.is_affected(seen) || resumption(seen, &own).is_some();
            match (hears && is_right && has_resumed, own.connections, own.monitors) {
                (true, 1, 1) => kept += 1,
                (true, 2.., _) => returned += 1,
                (true | false, ..) => lost += 1,
            }
        }
        let affected = self.affected();
        let bound = affected - self.expected_home();
        ClientReport {
            clients: self.clients.len(),
            clients_affected: affected,
            clients_affected_unreplayable: bound,
            client_sessions_kept: kept,
            client_sessions_returned: returned,
            client_sessions_lost: lost,
            client_messages_strange: strange,
            client_served_p99_ms: self.p99_ms(affected, &self.resumptions(&side, |_| true)),
            client_resume_p99_ms: self.p99_ms(
                affected - bound,
                &self.resumptions(&side, |client| !(self.is_bound)(client)),
            ),
        }
    }

    /// Whether the server that let it in last is the one of its user.
    fn is_right(&self, client: usize, seen: &Seen, phone_at: Option<Server>) -> bool {
        let Some((server, _)) = seen.last else { return false };
        if phone_at.is_some_and(|phone| phone != server) {
            return false;
        }
        let killed = self.kill.map(|kill| kill.server);
        match (self.is_affected(seen), self.back_nanos) {
            (false, _) => seen.owner.is_some_and(|(owner, _)| owner == server),
            (true, None) => killed != Some(server),
            (true, Some(_)) if (self.is_bound)(client) => {
                killed != Some(server) || self.is_at_home(seen)
            }
            (true, Some(_)) => self.is_at_home(seen),
        }
    }

    fn is_at_home(&self, seen: &Seen) -> bool {
        let (Some((home, _)), Some((server, at))) = (seen.owner, seen.last) else { return false };
        server == home && self.back_nanos.is_some_and(|back| at >= back)
    }

    fn is_affected(&self, seen: &Seen) -> bool {
        match (self.kill, seen.owner) {
            (Some(kill), Some((owner, _))) => owner == kill.server,
            (Some(_) | None, _) => false,
        }
    }

    fn affected_clients(&self) -> impl Iterator<Item = (usize, &Seen)> {
        self.clients.iter().enumerate().filter(|(_, seen)| self.is_affected(seen))
    }

    /// When affected clients heard of their line from another server, in rising order.
    fn resumptions(
        &self,
        side: impl Fn(usize) -> ClientSide,
        of: impl Fn(usize) -> bool,
    ) -> Vec<u64> {
        let affected = self.affected_clients().filter(|(client, _)| of(*client));
        let mut heard: Vec<u64> =
            affected.filter_map(|(client, seen)| resumption(seen, &side(client))).collect();
        heard.sort_unstable();
        heard
    }

    fn p99_ms(&self, count: usize, resumptions: &[u64]) -> Option<f64> {
        let kill = self.kill?;
        let at = resumptions.get(percentile_rank(count, 99)?)?;
        Some(millis(at.saturating_sub(kill.at_nanos)))
    }
}

/// The first event that can only have come from another server. What the dead one had sent may have
/// arrived after its death.
fn resumption(seen: &Seen, own: &ClientSide) -> Option<u64> {
    let elsewhere = seen.elsewhere?;
    own.heard_since_kill_nanos.into_iter().find(|at| *at != 0 && *at >= elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const KILL_AT: u64 = 1_000 * MS;
    const BACK_AT: u64 = 5_000 * MS;
    const ROUND_AT: u64 = 9_000 * MS;
    const KILL: Kill = Kill { server: 0, at_nanos: KILL_AT };

    /// Client 5 shows what cannot be shown again.
    const fn is_bound(client: usize) -> bool {
        client == 5
    }

    /// Six clients: 0, 1 and 5 at the server that is killed.
    fn six() -> Sessions {
        let mut seen = Sessions::new(6, is_bound);
        for (client, server) in [0, 0, 1, 1, 2, 0].into_iter().enumerate() {
            seen.logged_in(server, client, 10 * MS);
        }
        seen.killed(KILL);
        for client in [0, 1, 5] {
            seen.logged_in(1, client, KILL_AT + 300 * MS);
        }
        seen.begin_round(ROUND_AT);
        seen
    }

    /// Hears from the dead, then from the living, then in the round.
    fn well(client: usize) -> ClientSide {
        let connections = if is_bound(client) { 2 } else { 1 };
        ClientSide {
            connections,
            monitors: connections,
            last_heard_nanos: ROUND_AT + MS,
            heard_since_kill_nanos: [KILL_AT + MS, KILL_AT + (400 + client as u64) * MS, 0, 0],
        }
    }

    fn no_phones(_client: usize) -> Option<Server> {
        None
    }

    fn counts(report: &ClientReport) -> (usize, usize, usize) {
        let ClientReport { client_sessions_kept: kept, client_sessions_returned: back, .. } =
            report;
        (*kept, *back, report.client_sessions_lost)
    }

    #[test]
    fn a_failover_is_measured_at_the_clients_by_what_the_living_told_them() {
        let report = six().report(7, well, no_phones);
        assert_eq!(
            report,
            ClientReport {
                clients: 6,
                clients_affected: 3,
                clients_affected_unreplayable: 1,
                client_sessions_kept: 5,
                client_sessions_returned: 1,
                client_sessions_lost: 0,
                client_messages_strange: 7,
                client_served_p99_ms: Some(405.0),
                client_resume_p99_ms: Some(401.0),
            }
        );
    }

    #[test]
    fn what_the_dead_server_had_sent_resumes_nothing() {
        let side = |client| ClientSide {
            heard_since_kill_nanos: [KILL_AT + MS, KILL_AT + 2 * MS, 0, 0],
            ..well(client)
        };
        let seen = six();
        assert_eq!(seen.resumed(side), 0);
        assert_eq!(counts(&seen.report(0, side, no_phones)), (3, 0, 3));
        assert_eq!(seen.report(0, side, no_phones).client_served_p99_ms, None);
    }

    #[test]
    fn another_monitor_on_the_same_connection_is_no_session_that_was_kept() {
        let side = |client| ClientSide { monitors: 2, ..well(client) };
        assert_eq!(counts(&six().report(0, side, no_phones)), (0, 1, 5));
    }

    #[test]
    fn who_does_not_hear_in_the_end_is_lost() {
        let deaf = |client| ClientSide { last_heard_nanos: ROUND_AT - 1, ..well(client) };
        assert!(!six().all_hear(deaf) && six().all_hear(well));
        assert_eq!(counts(&six().report(0, deaf, no_phones)), (0, 0, 6));
    }

    #[test]
    fn who_is_served_where_their_phone_is_not_is_lost() {
        let phones = |client| Some(if client == 2 { 2 } else { [1, 1, 1, 1, 2, 1][client] });
        assert_eq!(counts(&six().report(0, well, phones)), (4, 1, 1));
    }

    #[test]
    fn whoever_moved_without_need_is_lost() {
        let mut seen = six();
        seen.logged_in(2, 3, KILL_AT + 500 * MS);
        assert_eq!(counts(&seen.report(0, well, no_phones)), (4, 1, 1));
    }

    #[test]
    fn after_a_return_they_are_at_home_but_for_those_who_cannot_be_moved() {
        let mut seen = six();
        seen.back(BACK_AT);
        assert_eq!((seen.expected_home(), seen.at_home()), (2, 0));
        assert_eq!(counts(&seen.report(0, well, no_phones)), (3, 1, 2));
        for client in [0, 1] {
            seen.logged_in(0, client, BACK_AT + 100 * MS);
        }
        assert_eq!((seen.expected_home(), seen.at_home()), (2, 2));
        assert_eq!(counts(&seen.report(0, well, no_phones)), (5, 1, 0));
        // Its client had logged off for a moment when its user was brought home.
        seen.logged_in(0, 5, BACK_AT + 100 * MS);
        assert_eq!(counts(&seen.report(0, well, no_phones)), (5, 1, 0));
    }

    #[test]
    fn without_a_kill_everybody_is_kept_who_hears() {
        let mut seen = Sessions::new(2, is_bound);
        seen.logged_in(0, 0, MS);
        assert_eq!(seen.known(), 1);
        let report = seen.report(0, well, no_phones);
        assert_eq!((counts(&report), report.client_served_p99_ms), ((1, 0, 1), None));
        assert_eq!(Sessions::new(0, is_bound).report(0, well, no_phones), ClientReport::default());
    }
}
