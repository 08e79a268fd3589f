//! The messages in `fixtures/sip`, for the tests of every layer; a file's name says what it shows.

use bytes::Bytes;

use crate::sip::message::Message;

macro_rules! fixtures {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) const $name: &[u8] =
            include_bytes!(concat!("../../fixtures/sip/", $file, ".sip"));)*
        pub(crate) const ALL: &[&[u8]] = &[$($name),*];
    };
}

fixtures! {
    MESSAGE_BINARY_BODY = "message_binary_body";
    OPTIONS_FROM_SERVER_WITH_ROUTE = "options_from_server_with_route";
    REGISTER_COMPACT_FOLDED = "register_compact_folded";
    REGISTER_IPV6 = "register_ipv6";
    REGISTER_LATIN1_DISPLAY_NAME = "register_latin1_display_name";
    REGISTER_OUTBOUND_INSTANCE = "register_outbound_instance";
    REGISTER_REMOVE_ALL = "register_remove_all";
    REGISTER_UDP = "register_udp";
    REGISTER_WITHOUT_CONTENT_LENGTH = "register_without_content_length";
    REQUEST_UNUSUAL_TOKENS = "request_unusual_tokens";
    RESPONSE_200_PATH = "response_200_path";
    RESPONSE_401_CHALLENGES = "response_401_challenges";
}

/// A fixture, indexed.
#[track_caller]
pub(crate) fn message(bytes: &'static [u8]) -> Message {
    Message::parse(Bytes::from_static(bytes)).unwrap()
}

/// A message written with `\n` line ends, indexed.
#[track_caller]
pub(crate) fn written(text: &str) -> Message {
    Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
}
