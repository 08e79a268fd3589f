//! What is told of lines, calls and contacts, as the interface writes it.

use std::time::SystemTime;

use crate::ucsap::{Member, Piece};
use crate::ucserver::clients::calls::Call;
use crate::ucserver::clients::lines::{Forward, Line, Office};

/// From 30 December 1899 to the epoch.
const DAYS_BEFORE_EPOCH: f64 = 25_569.0;

/// Make a call, do not disturb, remote office.
const LINE_FEATURES: i64 = 1 | 2 | 32;
/// Immediate, busy, no answer.
const FORWARD_FEATURES: i64 = 1 | 2 | 4;
/// Open, and ready for use.
const LINE_OPEN: i64 = 2;

/// `AsnSystemTime`.
pub(in crate::ucserver) fn time(wall: SystemTime) -> f64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() / 86_400.0 + DAYS_BEFORE_EPOCH
}

/// A SEQUENCE of nothing.
pub(in crate::ucserver) const fn empty() -> Piece {
    Piece::Sequence(Vec::new())
}

/// `bSuccess`.
pub(in crate::ucserver) fn success() -> Piece {
    Piece::Sequence(vec![(Member::nth("bSuccess", 0), Piece::Boolean(true))])
}

/// Members without tags, in their order.
pub(in crate::ucserver) fn sequence(members: Vec<(&'static str, Piece)>) -> Piece {
    let members = members.into_iter().enumerate();
    Piece::Sequence(members.map(|(nth, (name, it))| (Member::nth(name, nth), it)).collect())
}

/// The number of a line URI.
pub(in crate::ucserver) fn number_of(uri: &str) -> &str {
    let number = uri.strip_prefix("tel:").unwrap_or(uri);
    number.split_once('@').map_or(number, |(number, _)| number)
}

/// `AsnCtiLineInfo`.
pub(in crate::ucserver) fn line_info(uri: &str, is_primary: bool) -> Piece {
    let number = number_of(uri);
    sequence(vec![
        ("iType", Piece::Integer(if is_primary { 1 } else { 2 })),
        ("iLineOpenStatus", Piece::Integer(LINE_OPEN)),
        ("u8sLinePhoneNumber", Piece::text(uri)),
        ("u8sDescriptor", Piece::text(number)),
        ("u8sPhoneNumber", Piece::text(number)),
        ("u8sLineLocationID", Piece::text("pbx")),
        ("iLineFeatures", Piece::Integer(LINE_FEATURES)),
        ("iForwardFeaturesPBX", Piece::Integer(FORWARD_FEATURES)),
        ("iForwardFeaturesSERVER", Piece::Integer(0)),
        ("iForwardFeaturesUSER", Piece::Integer(0)),
    ])
}

/// `AsnCtiCallInformation`.
pub(in crate::ucserver) fn call(call: &Call) -> Piece {
    let text = |text: &str| Piece::text(text);
    sequence(vec![
        ("u8sLinePhoneNumber", text(&call.line)),
        ("u8sConnectionID", text(&call.id)),
        ("iCallState", Piece::Integer(call.state as i64)),
        ("iCallType", Piece::Integer(0)),
        ("iDisconnectedReason", Piece::Integer(0)),
        ("iFeatures", Piece::Integer(call.state.features())),
        ("bOutbound", Piece::Boolean(call.is_outbound)),
        ("bInternal", Piece::Boolean(false)),
        ("bCallerIDBlocked", Piece::Boolean(false)),
        ("iCallRecordingState", Piece::Integer(0)),
        ("bConferenceCtlr", Piece::Boolean(false)),
        ("u8sConferenceCtlrID", text("")),
        ("u8sLocalNumberSC", text(number_of(&call.line))),
        ("u8sRemoteNumberSC", text(&call.number)),
        ("iRemoteContactSource", Piece::Integer(0)),
        ("projectPinRule", project()),
        ("u8sNote", text("")),
        ("u8sTrackerID", text(&call.id)),
        ("utcCallCreated", Piece::Real(call.created)),
        ("utcCallConnected", Piece::Real(call.connected)),
        ("utcCallDisconnected", Piece::Real(call.disconnected)),
        ("bIsUnknownHoldContact", Piece::Boolean(false)),
    ])
}

/// `AsnProjectPinRule` of no project.
fn project() -> Piece {
    sequence(vec![
        ("u8sProjectName", Piece::text("")),
        ("u8sProjectPin", Piece::text("")),
        ("iProjectType", Piece::Integer(0)),
        ("bAssociatedCallIsPrivateCall", Piece::Boolean(false)),
        ("u8sLocationID", Piece::text("")),
        ("u8sUserEnteredPin", Piece::text("")),
        ("u8sUserEnteredUserID", Piece::text("")),
    ])
}

/// `AsnLineForwards`.
pub(in crate::ucserver) fn forwards(forwards: &[Forward]) -> Piece {
    let one = |forward: &Forward| {
        sequence(vec![
            ("iInternalID", Piece::Integer(forward.id)),
            ("iForwardController", Piece::Integer(1)),
            ("iForwardMode", Piece::Integer(forward.mode)),
            ("iBackEndSpecific", Piece::Integer(0)),
            ("iNoAnswerTime", Piece::Integer(0)),
            ("u8sDestination", Piece::text(&*forward.destination)),
            ("u8sCallerIDList", Piece::List(Vec::new())),
        ])
    };
    Piece::List(forwards.iter().map(one).collect())
}

/// `AsnRemoteOfficeState`.
pub(in crate::ucserver) fn office(office: &Office) -> Piece {
    sequence(vec![
        ("u8sController", Piece::text(&*office.controller)),
        ("iEnabled", Piece::Integer(office.enabled)),
        ("u8sDestination", Piece::text(&*office.destination)),
    ])
}

/// Everything there is to know of a line, in the order of `AsnCtiSnapshotPhoneLineResult`.
pub(in crate::ucserver) fn snapshot(
    uri: &str,
    line: &Line,
    calls: Vec<Piece>,
) -> Vec<(&'static str, Piece)> {
    vec![
        ("lineInfo", line_info(uri, line.is_primary)),
        ("seqCalls", Piece::List(calls)),
        ("iDoNotDisturb", Piece::Integer(line.do_not_disturb.into())),
        ("seqLineForwards", forwards(&line.forwards)),
        ("remoteOfficeState", office(&line.office)),
    ]
}

/// `AsnGetLoggedInContactV2Result`: a contact of whom no more is known than the name.
pub(in crate::ucserver) fn contact(user: &str) -> Piece {
    let nobody = Piece::Sequence(vec![
        (Member::tagged("u8sCtiServerUserName", 5), Piece::text(user)),
        (Member::tagged("u8sDisplayName", 6), Piece::text(user)),
    ]);
    let absent =
        sequence(vec![("u8sContactId", Piece::text(user)), ("eAbsentState", Piece::Enumerated(0))]);
    let note = sequence(vec![
        ("u8sContactID", Piece::text(user)),
        ("u8sUsername", Piece::text(user)),
        ("u8sNote", Piece::text("")),
    ]);
    let contact = sequence(vec![
        ("u8sContactId", Piece::text(user)),
        ("iContactFeatureSet", Piece::Integer(0)),
        ("iPresenceState", Piece::Integer(0)),
        ("iStaticRights", Piece::Integer(0)),
        ("iStaticRights2", Piece::Integer(0)),
        ("iMonitorAccessRights", Piece::Integer(0)),
        ("asnRemoteContact", nobody),
        ("seqPhoneLines", Piece::List(Vec::new())),
        ("asnAbsentState", absent),
        ("asnCustomNote", note),
        ("seqActualAppointments", Piece::List(Vec::new())),
        ("asnNextAppointment", appointment()),
        ("asnUserPropertyBag", sequence(vec![("asnProperties", Piece::List(Vec::new()))])),
    ]);
    sequence(vec![("u8sLoggedInUser", Piece::text(user)), ("ownContact", contact)])
}

/// `AsnAppointmentEntry` of none.
fn appointment() -> Piece {
    sequence(vec![
        ("u8sEntryID", Piece::text("")),
        ("u8sOwner", Piece::text("")),
        ("u8sDataSource", Piece::text("")),
        ("stStart", Piece::Real(0.0)),
        ("stEnd", Piece::Real(0.0)),
        ("iDuration", Piece::Integer(0)),
        ("u8sSubject", Piece::text("")),
        ("u8sText", Piece::text("")),
        ("bAllDay", Piece::Boolean(false)),
        ("iStatus", Piece::Integer(0)),
        ("u8sCategory", Piece::text("")),
        ("iImportance", Piece::Integer(0)),
        ("iSensitivity", Piece::Integer(0)),
        ("bIsValid", Piece::Boolean(false)),
    ])
}
