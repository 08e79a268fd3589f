//! Lines, their monitors, and what is told of them (module CTI).

use std::ops::Range;

use crate::ucsap::{Malformed, Member, Operation, Piece, Value};

const CROSS_REF: Member = Member::nth("u8sMonitorCrossRefID", 0);
const LINES_CROSS_REF: Member = Member::nth("u8sLineMonitorCrossRefID", 0);
const ENUM_CROSS_REF: Member = Member::nth("u8sLineMonitorCrossRefID", 1);
const ATTACH: Member = Member::nth("attachChangeNotify", 1);
const LINE: Member = Member::nth("u8sLinePhoneNumber", 0);
const LINE_OF_EVENT: Member = Member::nth("u8sLinePhoneNumber", 1);
const CONNECTION_ID: Member = Member::nth("u8sConnectionID", 1);
const CALL_STATE: Member = Member::nth("iCallState", 2);

/// `reasonCallDestroyed`.
const CALL_DESTROYED: i64 = 12;
/// `reasonOther`.
const OTHER: i64 = 14;

/// The line that a monitor is started for, or a snapshot asked of.
///
/// # Errors
/// The argument does not say.
pub fn line(argument: &Value<'_>) -> Result<String, Malformed> {
    Ok(argument.required(&LINE)?.text()?.into_owned())
}

/// The same as an argument.
pub fn for_line(line: &str) -> Piece {
    Piece::Sequence(vec![(LINE, Piece::text(line))])
}

/// The argument that names a monitor.
pub fn for_monitor(cross_ref: &str) -> Piece {
    Piece::Sequence(vec![(CROSS_REF, Piece::text(cross_ref))])
}

/// The argument of `asnCtiEnumPhoneLines` for the user's own lines.
pub fn for_own_lines(attach: bool) -> Piece {
    Piece::Sequence(vec![
        (Member::nth("typeofLines", 0), Piece::Enumerated(0)),
        (ATTACH, Piece::Integer(attach.into())),
    ])
}

/// Whether the client wants to be told of lines that come and go.
///
/// # Errors
/// The argument does not say.
pub fn attaches(argument: &Value<'_>) -> Result<bool, Malformed> {
    Ok(argument.required(&ATTACH)?.integer()? != 0)
}

/// A cross reference and its place in the message.
pub type CrossRef = (String, Range<usize>);

/// The cross reference that a message to or from a client carries, where one belongs.
///
/// # Errors
/// It belongs there and cannot be read.
pub fn cross_ref(operation: Operation, body: &Value<'_>) -> Result<Option<CrossRef>, Malformed> {
    let member = match operation {
        Operation::MONITOR_STOP
        | Operation::AGENT_MONITOR_STOP
        | Operation::AGENT_GROUPS_CHANGED
        | Operation::AGENT_STATE_CHANGED
        | Operation::LINE_INFO_CHANGED
        | Operation::DO_NOT_DISTURB_CHANGED
        | Operation::FORWARDING_CHANGED
        | Operation::CALL_CHANGED
        | Operation::PROJECT_SETTINGS_CHANGED
        | Operation::REMOTE_OFFICE_CHANGED
        | Operation::MONITOR_STOPPED
        | Operation::SORT_ORDER_CHANGED => CROSS_REF,
        Operation::LINE_ADDED_OR_REMOVED
        | Operation::CONFERENCE_CREATED
        | Operation::CONFERENCE_DESTROYED
        | Operation::CONFERENCE_PARTY_ADDED
        | Operation::CONFERENCE_PARTY_REMOVED
        | Operation::CALL_FEATURES_CHANGED => LINES_CROSS_REF,
        _ => return Ok(None),
    };
    let found = body.required(&member)?;
    Ok(Some((found.text()?.into_owned(), found.span())))
}

/// The cross reference in the answer to a monitor or an enumeration; an enumeration may have none.
///
/// # Errors
/// It cannot be read.
pub fn cross_ref_of_result(
    asked: Operation,
    result: &Value<'_>,
) -> Result<Option<CrossRef>, Malformed> {
    let found = match asked {
        Operation::MONITOR_START | Operation::AGENT_MONITOR_START => {
            Some(result.required(&CROSS_REF)?)
        }
        Operation::ENUM_LINES => result.member(&ENUM_CROSS_REF)?,
        _ => None,
    };
    found.map(|found| Ok((found.text()?.into_owned(), found.span()))).transpose()
}

/// What tells the client of an agent monitor the groups as they are.
///
/// # Errors
/// The answer to the monitor does not say them.
pub fn groups_event(cross_ref: &str, result: &Value<'_>) -> Result<(Operation, Piece), Malformed> {
    const GROUPS: Member = Member::nth("listGroups", 1);
    let groups = Piece::AsSent(result.required(&GROUPS)?.octets_as_sent().to_vec());
    let argument = Piece::Sequence(vec![(CROSS_REF, Piece::text(cross_ref)), (GROUPS, groups)]);
    Ok((Operation::AGENT_GROUPS_CHANGED, argument))
}

/// What a client knows of a line it monitors: values as they were sent, in its encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineState {
    info: Vec<u8>,
    do_not_disturb: Vec<u8>,
    forwards: Vec<u8>,
    remote_office: Vec<u8>,
    /// By `u8sConnectionID`, in the order they were told.
    calls: Vec<(String, Vec<u8>)>,
}

/// Where the parts of a snapshot stand in the answer to a monitor.
const SNAPSHOT: [Member; 5] = [
    Member::nth("lineInfo", 1),
    Member::nth("seqCalls", 2),
    Member::nth("iDoNotDisturb", 3),
    Member::nth("seqLineForwards", 4),
    Member::nth("remoteOfficeState", 5),
];

/// Calls of one line that are remembered; a line of more is told anew in full.
const CALLS_MAX: usize = 64;

impl LineState {
    /// The snapshot in the answer to `asnCtiLineMonitorStart`.
    ///
    /// # Errors
    /// A part of it is missing.
    pub fn read(result: &Value<'_>) -> Result<Self, Malformed> {
        let sent = |member: &Member| Ok(result.required(member)?.octets_as_sent().to_vec());
        let mut state = Self {
            info: sent(&SNAPSHOT[0])?,
            do_not_disturb: sent(&SNAPSHOT[2])?,
            forwards: sent(&SNAPSHOT[3])?,
            remote_office: sent(&SNAPSHOT[4])?,
            calls: Vec::new(),
        };
        for call in result.required(&SNAPSHOT[1])?.items()?.iter().take(CALLS_MAX) {
            state.calls.push((connection_id(call)?, call.octets_as_sent().to_vec()));
        }
        Ok(state)
    }

    /// The calls there are.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Takes in an event of this line.
    ///
    /// # Errors
    /// It cannot be read; nothing has changed.
    pub fn follow(&mut self, event: Operation, argument: &Value<'_>) -> Result<(), Malformed> {
        let third = |name: &'static str| {
            Ok(argument.required(&Member::nth(name, 2))?.octets_as_sent().to_vec())
        };
        match event {
            Operation::LINE_INFO_CHANGED => self.info = third("lineInfo")?,
            Operation::DO_NOT_DISTURB_CHANGED => self.do_not_disturb = third("iDoNotDisturb")?,
            Operation::FORWARDING_CHANGED => self.forwards = third("seqLineForwards")?,
            Operation::REMOTE_OFFICE_CHANGED => self.remote_office = third("remoteOfficeState")?,
            Operation::CALL_CHANGED => {
                let reason = argument.required(&Member::nth("reason", 2))?.integer()?;
                let call = argument.required(&Member::nth("callinformation", 3))?;
                let id = connection_id(&call)?;
                let known = self.calls.iter().position(|(known, _)| *known == id);
                match (known, reason) {
                    (Some(known), CALL_DESTROYED) => {
                        self.calls.remove(known);
                    }
                    (None, CALL_DESTROYED) => {}
                    (Some(known), _) => self.calls[known].1 = call.octets_as_sent().to_vec(),
                    (None, _) if self.calls.len() < CALLS_MAX => {
                        self.calls.push((id, call.octets_as_sent().to_vec()));
                    }
                    (None, _) => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What has to be told to who knows this state for them to know `now`, as events of the
    /// monitor `cross_ref` of `line`. Calls that are over first.
    pub fn difference(&self, now: &Self, cross_ref: &str, line: &str) -> Vec<(Operation, Piece)> {
        let mut events = Vec::new();
        let event = |more: Vec<(Member, Piece)>| {
            let mut members =
                vec![(CROSS_REF, Piece::text(cross_ref)), (LINE_OF_EVENT, Piece::text(line))];
            members.extend(more);
            Piece::Sequence(members)
        };
        let call_event = |reason: i64, call: Vec<u8>| {
            event(vec![
                (Member::nth("reason", 2), Piece::Integer(reason)),
                (Member::nth("callinformation", 3), Piece::AsSent(call)),
            ])
        };
        for (id, call) in &self.calls {
            if !now.calls.iter().any(|(other, _)| other == id) {
                events.push((Operation::CALL_CHANGED, call_event(CALL_DESTROYED, call.clone())));
            }
        }
        for (id, call) in &now.calls {
            let known = self.calls.iter().find(|(other, _)| other == id);
            if known.is_none_or(|(_, known)| known != call) {
                events.push((Operation::CALL_CHANGED, call_event(OTHER, call.clone())));
            }
        }
        let parts = [
            (Operation::LINE_INFO_CHANGED, "lineInfo", &self.info, &now.info),
            (
                Operation::DO_NOT_DISTURB_CHANGED,
                "iDoNotDisturb",
                &self.do_not_disturb,
                &now.do_not_disturb,
            ),
            (Operation::FORWARDING_CHANGED, "seqLineForwards", &self.forwards, &now.forwards),
            (
                Operation::REMOTE_OFFICE_CHANGED,
                "remoteOfficeState",
                &self.remote_office,
                &now.remote_office,
            ),
        ];
        for (operation, name, before, after) in parts {
            if before != after {
                let part = (Member::nth(name, 2), Piece::AsSent(after.clone()));
                events.push((operation, event(vec![part])));
            }
        }
        events
    }
}

fn connection_id(call: &Value<'_>) -> Result<String, Malformed> {
    Ok(call.required(&CONNECTION_ID)?.text()?.into_owned())
}

/// The state of a call (`iCallState`).
///
/// # Errors
/// It does not say.
pub fn call_state(call: &Value<'_>) -> Result<i64, Malformed> {
    call.required(&CALL_STATE)?.integer()
}
