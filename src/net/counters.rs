//! What the shell counts: plain numbers that only grow, beside [`crate::door::Stats`].

macro_rules! counters {
    ($( $(#[doc = $doc:literal])+ $name:ident ),+ $(,)?) => {
        /// Everything the sockets and the driver count.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $( $(#[doc = $doc])+ pub $name: u64, )+ }

        impl Counters {
            /// Name, help and value of every counter, in one order.
            pub fn each(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![ $( (stringify!($name), concat!($($doc),+), self.$name), )+ ]
            }
        }
    };
}

counters! {
    /// Datagrams received.
    datagrams_received,
    /// Datagrams sent.
    datagrams_sent,
    /// Datagrams that only keep a NAT binding alive, or come from port 0; nobody sees them.
    datagrams_ignored,
    /// Datagrams the kernel had no room for; told when datagrams wait in numbers.
    datagrams_dropped_by_kernel,
    /// Datagrams not sent: the socket's queue was full.
    datagrams_shed,
    /// Datagrams the system would not send, or that an ICMP error came back for.
    datagrams_undeliverable,
    /// Connections accepted.
    connections_accepted,
    /// Connections the door made.
    connections_made,
    /// Connections that could not be made.
    connections_not_made,
    /// Connections refused: the limit of one source, or of all together, was reached.
    connections_shed,
    /// Accepting failed (no file descriptors, no memory).
    accept_failures,
    /// Connections closed: nothing came for too long.
    closed_idle,
    /// Connections closed: a message took too long to complete.
    closed_slow_message,
    /// Connections closed: the peer did not read what it was sent.
    closed_slow_reader,
    /// Connections closed: what came was not framed as its listener's protocol wants it.
    closed_unframed,
    /// Connections closed: octets in the clear followed a request for TLS, so that anybody on the way
    /// may have put them there.
    closed_injected,
    /// Connections closed: the TLS handshake took too long or failed, or what came was no TLS.
    closed_insecure,
    /// TLS handshakes that were completed.
    handshakes,
    /// Connections reset by the peer.
    closed_reset,
    /// Connections closed by the door; what their peers said afterwards was not heard.
    closed_by_door,
    /// Messages for a stream flow that had ended.
    sends_without_connection,
    /// Keep-alive pings of streams answered.
    pings_answered,
    /// Health documents asked for.
    documents_fetched,
    /// Health documents that servers sent by themselves.
    documents_pushed,
    /// The same from elsewhere than the server's own address, or for nobody: not taken.
    pushes_of_strangers,
    /// The same that were no document, too long or too many: not taken.
    pushes_unusable,
    /// Requests to the WebService.
    web_requests,
    /// Requests and connections to the WebService refused: by their form, their length, their number.
    web_refused,
    /// Requests to the WebService that streamed through to a server.
    web_streamed,
    /// Requests to the WebService for which no server was there, or none that answered.
    web_unanswered,
    /// Messages for clients of the WebService dropped: they had no WebSocket and too much waited.
    web_events_dropped,
    /// WebSockets of clients closed: they did not read what they were sent.
    web_slow_readers,
    /// Sessions of the WebService ended: there was no room to tell them what the door had to say.
    web_shed,
    /// Writes handed to the store.
    records_written,
}
