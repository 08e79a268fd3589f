//! [`Patience`]: how long a connection may be silent, and what its silence means.

use crate::net::connection::End;
use crate::net::limits::Limits;
use crate::now::Uptime;

/// Until when the next sign of life is waited for, and what its absence means.
#[derive(Debug)]
pub(super) struct Patience {
    /// When it ends.
    pub(super) until: Uptime,
    /// What that means.
    pub(super) why: End,
    /// Nothing but pings so far: a connection that never says anything has no long life.
    silent: bool,
    /// Part of a message is there.
    partial: bool,
    renewed: bool,
}

impl Patience {
    /// With a connection that is there, until its first message.
    pub(super) const fn with_first(until: Uptime) -> Self {
        Self { until, why: End::Idle, silent: true, partial: false, renewed: false }
    }

    /// With a handshake.
    pub(super) const fn with_handshake(until: Uptime) -> Self {
        Self { why: End::Insecure, ..Self::with_first(until) }
    }

    /// With a connection that is being made.
    pub(super) const fn with_making(until: Uptime) -> Self {
        Self { why: End::Failed, ..Self::with_first(until) }
    }

    /// A message is complete.
    pub(super) const fn message_came(&mut self) {
        self.silent = false;
        self.partial = false;
        self.renewed = true;
    }

    /// A ping or a pong.
    pub(super) const fn sign_of_life(&mut self) {
        self.partial = false;
        self.renewed = !self.silent;
    }

    /// After a read: `buffered` octets wait for the end of their message. An octet that completes
    /// nothing buys no time.
    pub(super) fn go_on(&mut self, buffered: usize, now: Uptime, limits: &Limits) {
        if buffered > 0 && !self.partial {
            self.partial = true;
            self.renewed = false;
            let until = now + limits.message;
            // Whoever has not said anything yet keeps the earlier deadline of the two.
            if !self.silent || until < self.until {
                self.until = until;
            }
            self.why = End::SlowMessage;
        } else if buffered == 0 && self.renewed {
            self.renewed = false;
            self.until = now + limits.idle;
            self.why = End::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Uptime = Uptime::from_secs(1_000);

    #[test]
    fn an_octet_that_completes_nothing_buys_no_time() {
        let limits = Limits::default();
        let mut patience = Patience::with_first(NOW + limits.first_message);
        patience.message_came();
        patience.go_on(1, NOW, &limits);
        assert_eq!((patience.until, patience.why), (NOW + limits.message, End::SlowMessage));
        let later = NOW + limits.message / 2;
        patience.go_on(2, later, &limits);
        assert_eq!((patience.until, patience.why), (NOW + limits.message, End::SlowMessage));
        patience.message_came();
        patience.go_on(0, later, &limits);
        assert_eq!((patience.until, patience.why), (later + limits.idle, End::Idle));
    }

    #[test]
    fn the_next_message_has_its_time_from_its_own_first_octet() {
        let limits = Limits::default();
        let mut patience = Patience::with_first(NOW + limits.first_message);
        patience.go_on(1, NOW, &limits);
        let later = NOW + limits.message / 2;
        patience.message_came();
        patience.go_on(1, later, &limits);
        assert_eq!((patience.until, patience.why), (later + limits.message, End::SlowMessage));
    }

    #[test]
    fn pings_alone_do_not_keep_a_connection_that_never_said_anything() {
        let limits = Limits::default();
        let first = NOW + limits.first_message;
        let mut patience = Patience::with_first(first);
        let later = NOW + (limits.first_message - limits.message / 2);
        patience.sign_of_life();
        patience.go_on(0, later, &limits);
        assert_eq!((patience.until, patience.why), (first, End::Idle));
        patience.go_on(1, later, &limits);
        assert_eq!((patience.until, patience.why), (first, End::SlowMessage));
    }
}
