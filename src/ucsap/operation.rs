//! [`Operation`]: the operations the door knows.

/// An operation, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation(pub i64);

/// What an operation does at a server, and so what is done with it when the server is gone before it
/// answered, and what has to be done again at the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Belongs to the connection: the door answers it, or replays it itself.
    Connection,
    /// Only reads: may be asked again.
    Read,
    /// Takes something away that a server which is gone, or another, does not have: done.
    Removal,
    /// A wish that lasts for the session and must be made anew at another server. What it returns
    /// is read; it may be asked again.
    Desired,
    /// Acts on the world, or it is not known that it does not: never asked twice (M10).
    Act,
    /// Not answered.
    Event,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $constant:ident = $id:literal $name:literal $class:ident;)*) => {
        impl Operation {
            $($(#[$doc])* pub const $constant: Self = Self($id);)*
        }

        /// Every operation that is known, by its number.
        const KNOWN: &[(Operation, &str, Class)] = &[
            $((Operation::$constant, $name, Class::$class),)*
        ];
    };
}

operations! {
    /// The older keep-alive.
    KEEP_ALIVE = 100 "asnKeepAlive" Event;
    /// Services that a client wants to hear of.
    SUBSCRIBE_SERVICES = 703 "asnSubscribeServices" Desired;
    /// The client says goodbye.
    LOGOFF = 1001 "asnLogoff" Event;
    /// Who the user is.
    LOGIN = 1005 "asnLoginV2" Connection;
    /// Who is talking.
    NEGOTIATE = 1006 "asnNegotiateServerConnectionV2" Connection;
    /// A token for another service.
    GET_USER_TOKEN = 1007 "asnGetUserTokenV2" Read;
    /// The user's own contact.
    GET_LOGGED_IN_CONTACT = 1008 "asnGetLoggedInContactV2" Read;
    /// From here on TLS.
    START_TLS = 1103 "asnStartTLS" Connection;
    /// Dials.
    MAKE_CALL = 1202 "asnCtiMakeCall" Act;
    /// Hangs up.
    DROP_CALL = 1203 "asnCtiDropCall" Act;
    /// Takes a call that rings.
    ANSWER_CALL = 1207 "asnCtiAnswerCall" Act;
    /// Puts a call on hold, or takes it from there.
    HOLD = 1211 "asnCtiHold" Act;
    /// Forwards a line.
    SET_FORWARD = 1218 "asnCtiSetForward" Act;
    /// And no longer.
    REMOVE_FORWARD = 1219 "asnCtiRemoveForward" Act;
    /// Which lines there are; with `attachChangeNotify` it is told when that changes.
    ENUM_LINES = 1260 "asnCtiEnumPhoneLines" Desired;
    /// The state of a line.
    SNAPSHOT_LINE = 1261 "asnCtiSnapshotPhoneLine" Read;
    /// A line is watched from now on.
    MONITOR_START = 1262 "asnCtiLineMonitorStart" Desired;
    /// And no longer.
    MONITOR_STOP = 1263 "asnCtiLineMonitorStop" Removal;
    /// Do not disturb.
    SET_DO_NOT_DISTURB = 1264 "asnCtiLineSetDoNotDisturb" Act;
    /// The remote office.
    SET_REMOTE_OFFICE = 1273 "asnCtiLineSetRemoteOffice" Act;
    /// What is known of a line has changed.
    LINE_INFO_CHANGED = 1280 "asnCtiNotifyLineInfoChanged" Event;
    /// Do not disturb has changed.
    DO_NOT_DISTURB_CHANGED = 1281 "asnCtiNotifyLineDoNotDisturbChanged" Event;
    /// Forwarding has changed.
    FORWARDING_CHANGED = 1282 "asnCtiNotifyLineForwardingChanged" Event;
    /// A call has changed.
    CALL_CHANGED = 1283 "asnCtiNotifyLineCallInformationChanged" Event;
    /// There is a line more or less.
    LINE_ADDED_OR_REMOVED = 1284 "asnCtiNotifyLineAddRemove" Event;
    /// What became of a call that was asked for.
    MAKE_CALL_RESULT = 1285 "asnCtiNotifyMakeCallResult" Event;
    /// A conference is there.
    CONFERENCE_CREATED = 1286 "asnCtiNotifyConferenceCreated" Event;
    /// A conference is over.
    CONFERENCE_DESTROYED = 1287 "asnCtiNotifyConferenceDestroyed" Event;
    /// A party has joined.
    CONFERENCE_PARTY_ADDED = 1288 "asnCtiNotifyConferencePartyAdded" Event;
    /// A party has left.
    CONFERENCE_PARTY_REMOVED = 1289 "asnCtiNotifyConferencePartyRemoved" Event;
    /// What can be done with calls has changed.
    CALL_FEATURES_CHANGED = 1290 "asnCtiNotifyLineCallFeaturesChanged" Event;
    /// Projects have changed.
    PROJECT_SETTINGS_CHANGED = 1291 "asnCtiNotifyLineProjectSettingsChanged" Event;
    /// The remote office has changed.
    REMOTE_OFFICE_CHANGED = 1292 "asnCtiNotifyLineRemoteOfficeChanged" Event;
    /// A line is not watched any longer.
    MONITOR_STOPPED = 1294 "asnCtiNotifyMonitorStopped" Event;
    /// The order of lines has changed.
    SORT_ORDER_CHANGED = 1295 "asnCtiNotifyLineSortOrderChanged" Event;
    /// Chat events are told from now on.
    CHAT_SUBSCRIBE = 1410 "asnChatSubscribeEvents" Desired;
    /// The keep-alive.
    TRANSPORT_KEEP_ALIVE = 1706 "asnTransportKeepAlive" Event;
    /// Whether anybody is there.
    CHECK_CONNECTION = 1714 "asnCheckConnection" Connection;
    /// An agent group is watched.
    AGENT_MONITOR_START = 1902 "asnAgentMonitorStart" Desired;
    /// And no longer.
    AGENT_MONITOR_STOP = 1903 "asnAgentMonitorStop" Removal;
    /// Agent groups have changed.
    AGENT_GROUPS_CHANGED = 1950 "asnAgentNotifyGroupsChanged" Event;
    /// An agent has changed.
    AGENT_STATE_CHANGED = 1951 "asnAgentNotifyStateChanged" Event;
    /// Journal events are told from now on.
    JOURNAL_SUBSCRIBE = 2171 "asnJournalSubscribeEvents" Desired;
    /// A line is not told to an administration any longer.
    MGMT_UNSUBSCRIBE_LINES = 2576 "asnMgmtUnsubscribeLineEvents" Removal;
    /// A line is told to an administration from now on.
    MGMT_SUBSCRIBE_LINES = 2625 "asnMgmtSubscribeLineEvents" Desired;
    /// Connections are told to an administration.
    MGMT_SUBSCRIBE_CONNECTIONS = 2669 "asnMgmtSubscribeConnectionInformationChanges" Desired;
    /// And no longer.
    MGMT_UNSUBSCRIBE_CONNECTIONS = 2670 "asnMgmtUnSubscribeConnectionInformationChanges" Removal;
    /// And users, groups and computers no longer.
    MGMT_UNSUBSCRIBE_USERS = 2671 "asnMgmtUnsubscribeUserGroupComputerModifiedEvents" Removal;
    /// Users, groups and computers are told to an administration.
    MGMT_SUBSCRIBE_USERS = 2672 "asnMgmtSubscribeUserGroupComputerModifiedEvents" Desired;
    /// What a client keeps at its server is told from now on.
    PERSISTENCE_SUBSCRIBE = 4305 "asnClientPersistenceSubscribe" Desired;
    /// A contact has no presence any more.
    PRESENCE_REMOVED = 4501 "asnRemovePresence" Event;
    /// And presence is not told any longer.
    UNSUBSCRIBE_PRESENCE = 4503 "asnUnsubscribePresence" Removal;
    /// The presence of a contact has changed.
    PRESENCE_CHANGED = 4504 "asnUpdatePresenceV2" Event;
    /// Presence of contacts is told from now on.
    SUBSCRIBE_PRESENCE = 4505 "asnGetAndSubscribePresenceV2" Desired;
    /// Content is told from now on.
    CONTENT_SUBSCRIBE = 4600 "asnSubscribeClientContent" Desired;
    /// And no longer.
    CONTENT_UNSUBSCRIBE = 4601 "asnUnsubscribeClientContent" Removal;
    /// Content with some tags is told from now on.
    CONTENT_SUBSCRIBE_TAGS = 4608 "asnClientContentSubscribeToTags" Desired;
    /// Content of an administration is told from now on.
    CONTENT_SUBSCRIBE_ADMIN = 4620 "asnGetAndSubscribeAdministrativeMonitorContent" Desired;
    /// And no longer.
    CONTENT_UNSUBSCRIBE_ADMIN = 4621 "asnUnsubscribeAdministrativeMonitorContent" Removal;
    /// Agents offer their services.
    REGISTER_AGENTS = 4900 "asnRegisterServiceAgents" Desired;
    /// And no longer.
    UNREGISTER_AGENTS = 4901 "asnUnregisterServiceAgents" Removal;
}

impl Operation {
    /// Of an answer, which does not say what was asked.
    pub const NONE: Self = Self(0);
    /// Of a name that is not known; a server may know it.
    pub const UNKNOWN: Self = Self(-1);

    /// The operation with this name.
    pub fn named(name: &[u8]) -> Self {
        let known = KNOWN.iter().find(|(_, known, _)| known.as_bytes() == name);
        known.map_or(Self::UNKNOWN, |(operation, ..)| *operation)
    }

    /// Its name, where it is known.
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|(_, name, _)| *name)
    }

    /// What it does. Of one that is not known the worst is believed.
    pub fn class(self) -> Class {
        self.known().map_or(Class::Act, |(.., class)| *class)
    }

    fn known(self) -> Option<&'static (Self, &'static str, Class)> {
        let place = KNOWN.binary_search_by_key(&self, |(operation, ..)| *operation);
        place.ok().and_then(|place| KNOWN.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_says_nothing_twice() {
        assert!(KNOWN.is_sorted_by(|one, other| one.0 < other.0));
        for (operation, name, class) in KNOWN {
            assert_eq!(Operation::named(name.as_bytes()), *operation);
            assert_eq!((operation.name(), operation.class()), (Some(*name), *class));
        }
    }

    #[test]
    fn what_is_not_known_is_never_asked_twice() {
        assert_eq!(Operation(1210).class(), Class::Act);
        assert_eq!(Operation::named(b"asnSomethingNew").class(), Class::Act);
    }
}
