//! What a failover, a drill or a return was like, told when it is over (O5): plain data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of [`Report`]: raised when a reader of the one before would be misled.
pub const REPORT_FORM: u32 = 1;

/// One failover, drill or return. Times `…_ms` count from `began_unix_ms` unless they say otherwise.
///
/// A report is written when its story is over, and written anew under the same id if it goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The form of this report: raised when a reader of the one before would be misled.
    pub form: u32,
    /// `20261127T185501Z-failover-ucs2`: the time of the beginning in UTC, the kind, the server.
    pub id: String,
    /// `failover`, `drill` or `return`.
    pub kind: Arc<str>,
    /// Whose users had to go, or where users came home to.
    pub server: Arc<str>,
    /// `done`, `open` (something is under way, or somebody without a place), `withheld` (nobody was
    /// moved) or `stopped`.
    pub outcome: Arc<str>,
    /// When the failure was detected, or the return begun: milliseconds since 1970.
    pub began_unix_ms: u64,
    /// When this was written: milliseconds since 1970.
    pub written_unix_ms: u64,
    /// What was wrong; a return has no fault.
    pub fault: Option<FaultReport>,
    /// When the plan was made.
    pub planned_ms: Option<u64>,
    /// When the last of the moves was durable.
    pub recorded_ms: Option<u64>,
    /// When the first binding was registered at its new server.
    pub first_ms: Option<u64>,
    /// And the last.
    pub last_ms: Option<u64>,
    /// Users who were planned to go.
    pub users: u64,
    /// Users who have nowhere to go.
    pub unplaced: u64,
    /// How many of them for which reason.
    pub unplaced_because: BTreeMap<Arc<str>, u64>,
    /// Users who were left in peace because they were in the middle of something.
    pub active: u64,
    /// Why nobody was moved, or why it was stopped; `store`: nothing could be written.
    pub because: Option<Arc<str>>,
    /// Bindings of these users that had to be registered elsewhere.
    pub bindings: u64,
    /// Those that are.
    pub registered: u64,
    /// Bindings registered in the busiest second.
    pub peak_per_s: u64,
    /// The servers they went to, in configured order.
    pub targets: Vec<TargetReport>,
    /// The stages of a return.
    pub stages: Vec<StageReport>,
    /// Bindings that are not registered where their users are, at most 100.
    pub open: Vec<OpenBinding>,
    /// How many more there are.
    pub open_more: u64,
}

/// A failure, and what proved it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultReport {
    /// What proved it, in a word.
    pub proof: Arc<str>,
    /// What was seen, in words.
    pub signals: Vec<String>,
    /// From the first of these signs to the verdict, in milliseconds.
    pub detection_ms: u64,
    /// Then nobody was moved for so long, in milliseconds (`failover.hold`).
    pub hold_ms: u64,
}

/// A server that took users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetReport {
    /// Its name.
    pub server: Arc<str>,
    /// Users it took.
    pub users: u64,
    /// Bindings registered there.
    pub registered: u64,
    /// Most REGISTERs out to it at once.
    pub in_flight_peak: u32,
    /// Users it serves now, and can serve.
    pub assigned: u32,
    /// See `assigned`.
    pub capacity: u32,
}

/// A stage of a return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageReport {
    /// From 1.
    pub stage: u32,
    /// Users sent home in it.
    pub users: u64,
    /// When it was judged.
    pub judged_ms: u64,
    /// The home's score then.
    pub score: u8,
    /// Bindings that had arrived by then, were on their way, or in trouble.
    pub arrived: u64,
    /// See `arrived`.
    pub under_way: u64,
    /// See `arrived`.
    pub in_trouble: u64,
}

/// A binding that is not registered where its user is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenBinding {
    /// Login name.
    pub user: Arc<str>,
    /// The contact URI.
    pub contact: Arc<str>,
    /// As in the `standing` of a `BindingStatus`.
    pub standing: Arc<str>,
    /// Why.
    pub because: Option<Arc<str>>,
}

impl Report {
    /// The id of a report: time, kind, server. Whatever no file name should hold becomes `_`.
    pub(super) fn id_of(began: SystemTime, kind: &str, server: &str) -> String {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let server: String = server.chars().map(safe).take(64).collect();
        format!("{}-{kind}-{server}", compact_utc(began))
    }
}

/// Milliseconds since 1970; 0 before.
pub(super) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `20261127T185501Z` (ISO 8601, basic format); the calendar by Howard Hinnant's `civil_from_days`.
fn compact_utc(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years begin in March here, so that the leap day is a year's last.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}{month:02}{date:02}T{hour:02}{minute:02}{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_begins_with_its_time_and_is_a_file_name() {
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(compact_utc(at(0)), "19700101T000000Z");
        assert_eq!(compact_utc(at(951_782_399)), "20000228T235959Z");
        assert_eq!(compact_utc(at(951_782_400)), "20000229T000000Z");
        assert_eq!(compact_utc(at(1_764_287_999)), "20251127T235959Z");
        assert_eq!(compact_utc(at(4_107_542_400)), "21000301T000000Z");
        assert_eq!(Report::id_of(at(0), "return", "../u c"), "19700101T000000Z-return-___u_c");
    }
}
