//! Counters of the core: plain numbers that only grow. The admin listener renders them.

macro_rules! stats {
    ($( $(#[doc = $doc:literal])+ $name:ident ),+ $(,)?) => {
        /// Everything the core counts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats { $( $(#[doc = $doc])+ pub $name: u64, )+ }

        impl Stats {
            /// Name, help and value of every counter, in one order.
            pub fn each(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![ $( (stringify!($name), concat!($($doc),+), self.$name), )+ ]
            }
        }
    };
}

stats! {
    /// SIP messages received.
    received,
    /// SIP messages sent, retransmissions included.
    sent,
    /// Messages dropped: they could not be read, and no answer was possible.
    dropped_malformed,
    /// Messages dropped: a response nobody waits for.
    dropped_stray,
    /// Datagrams that could not be delivered, and streams that ended.
    unreachable,
    /// Requests refused: the transaction or waiting table is full.
    shed_overload,
    /// Transactions that were done and forgotten early, because the table was full.
    transactions_forgotten,
    /// REGISTERs of strangers refused: their source sends too many.
    shed_source,
    /// REGISTERs of strangers refused: too many in all.
    shed_strangers,
    /// REGISTERs refused: too many of their AoR.
    shed_aor,
    /// REGISTERs of strangers refused: the door or the store is behind.
    shed_load,
    /// REGISTERs of known phones refused that could not be absorbed: the door is far behind.
    shed_load_known,
    /// REGISTERs of strangers refused: what is left of the tables is for known phones.
    shed_room,
    /// REGISTERs of strangers refused: too many wait for their server.
    shed_lane,
    /// Requests of servers refused: what is left of the tables is for phones.
    shed_path,
    /// Times the door began to turn strangers away because it was behind.
    overloads,
    /// Sources and AoRs whose use was forgotten because too many others had to be remembered.
    sources_forgotten,
    /// Retransmissions absorbed or answered again.
    retransmissions_absorbed,
    /// Messages retransmitted by the door (RFC 3261 timer E).
    retransmissions_sent,
    /// REGISTERs from phones.
    registers,
    /// REGISTERs answered by the door because nothing had changed.
    registers_absorbed,
    /// Of these, and of the held ones: answered without being read, because they repeat what was
    /// read before.
    registers_repeated,
    /// REGISTERs answered by the door while the server side was not done.
    registers_held,
    /// REGISTERs that went to a server for a phone that waited.
    registers_passed_on,
    /// REGISTERs refused by the door, all reasons.
    registers_refused,
    /// REGISTERs the door sent to servers, transmissions of timer E not counted.
    upstream_registers,
    /// REGISTERs that timed out at a server.
    upstream_timeouts,
    /// REGISTERs a server refused.
    upstream_refused,
    /// Requests carried along a Path to a phone.
    path_requests,
    /// Requests with a Path token that is not ours or names no binding.
    path_rejected,
    /// Bindings whose lease ran out.
    leases_lapsed,
    /// Users adopted at their first REGISTER.
    users_adopted,
    /// Users who were added or changed by an import (L3).
    users_imported,
    /// Homes changed by hand (D7).
    homes_set,
    /// Redirects of servers that were followed: users whose home they taught (D9).
    redirects_followed,
    /// Redirects that were not, because they lead nowhere.
    redirects_refused,
    /// Relocations recorded.
    relocations,
    /// Bindings registered on another server by the door.
    rehomed,
    /// Bindings registered at home again.
    returned,
    /// Bindings registered elsewhere because their users left by order.
    departed,
    /// Returns that were stopped before everybody was at home.
    returns_stopped,
    /// Steps dropped because the user or the binding had changed meanwhile (M4).
    stale_steps,
    /// Stale bindings removed from a server (M8).
    swept,
    /// Questions to servers whether they still hold a binding (H8).
    samples,
    /// Answers to these in which the binding was missing.
    samples_missing,
    /// Writes the store failed.
    store_failures,
    /// User records that named a server which is not configured.
    unknown_servers,
    /// Writes that met somebody else's (L2).
    store_conflicts,
    /// UCSAP messages received, from clients and servers.
    rose_received,
    /// UCSAP messages sent.
    rose_sent,
    /// UCSAP messages that could not be read; their connection was closed.
    rose_malformed,
    /// Answers of servers that nobody waits for.
    rose_strays,
    /// Connections of clients closed: something was put in between the wish for TLS and TLS.
    client_injections,
    /// Connections of clients closed as they came: there is no room for more.
    client_connections_shed,
    /// Requests for sessions of the WebService, and for calls without one.
    web_openings,
    /// Client sessions refused: too many of their connection, or in all.
    client_sessions_shed,
    /// Logins of clients that were told the address that stands for their user's server.
    client_logins_redirected,
    /// Logins of clients that succeeded.
    client_logins,
    /// Logins and negotiations of clients that the door refused.
    client_logins_refused,
    /// Invokes of clients that went to a server.
    client_invokes,
    /// Invokes of clients that the door rejected: twice the same id, too many, or unreadable.
    client_invokes_rejected,
    /// Events of servers that went to a client.
    client_events,
    /// Connections to servers that were begun for client sessions.
    legs_opened,
    /// Of these, ended by the server or never made.
    legs_lost,
    /// Times a client session was without a server.
    client_gaps,
    /// Invokes that waited for that to end.
    client_invokes_held,
    /// Invokes that were answered with an error because it lasted.
    client_invokes_answered_in_gap,
    /// Invokes that may have been carried out or not when their server failed.
    client_invokes_unknown_outcome,
    /// Client sessions that went on at another server, or anew at their own.
    client_sessions_moved,
    /// Client sessions that could not: what their clients had shown cannot be shown again.
    client_sessions_unmovable,
    /// Client sessions that the next server did not take.
    client_sessions_refused_anew,
    /// Client sessions that were closed so that their clients come back.
    client_sessions_closed,
    /// Events by which clients were told what is different at another server.
    client_differences,
    /// Wishes of clients for which there was no room, or that could not be read: not made anew.
    wishes_shed,
    /// Wishes that another server did not grant.
    wishes_refused_anew,
}
