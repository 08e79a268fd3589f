//! `[recovery]` → [`recovery::Policy`]: when users who were moved go home.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

use crate::config::check::{in_range, number_in, percent};
use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{RawActiveSession, RawRecovery};
use crate::recovery::{self, ActiveSession, Window};

const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(86_400));
const USERS_PER_SECOND_MAX: u32 = 100_000;
/// Stages at most: more than this is a pace, and there is one.
const STAGES_MAX: usize = 20;

/// A time of day as a person writes it: `"22:00-05:00"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeOfDay(pub(super) Window);

impl TimeOfDay {
    fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let two = |text: &str| {
                let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
                text.parse::<u32>().ok().filter(|_| digits && text.len() <= 2)
            };
            let (hour, minute) = (two(hour)?, two(minute)?);
            let whole = hour * 60 + minute;
            (minute < 60 && whole <= 24 * 60).then_some(whole)
        };
        let (from, to) = text.split_once('-')?;
        let window = Window { from: minute(from)?, to: minute(to)? };
        (window.from != window.to).then_some(Self(window))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a time of day; write two times in UTC, such as \"22:00-05:00\""
            ))
        })
    }
}

/// Judges the section.
pub(super) fn policy(raw: &RawRecovery, wrong: &mut Complaints<'_>) -> recovery::Policy {
    let defaults = recovery::Policy::default();
    let longest = Duration::from_secs(86_400);
    let stages = match &raw.stages {
        None => defaults.stages,
        Some(stages) => {
            let percents: Vec<u8> =
                stages.get_ref().iter().filter_map(|it| u8::try_from(*it).ok()).collect();
            let rises = percents.is_sorted_by(|a, b| a < b)
                && percents.first().is_some_and(|first| *first > 0)
                && percents.last() == Some(&100);
            if !rises || percents.len() != stages.get_ref().len() || percents.len() > STAGES_MAX {
                wrong.push(stages.span(), Fault::Stages);
            }
            percents
        }
    };
    recovery::Policy {
        automatic: raw.automatic.unwrap_or(defaults.automatic),
        hold: in_range("hold", &raw.hold, defaults.hold, (Duration::ZERO, longest), wrong),
        interval: in_range("interval", &raw.interval, defaults.interval, INTERVAL, wrong),
        windows: raw.windows.iter().map(|window| window.0).collect(),
        stages,
        look: in_range("look", &raw.look, defaults.look, INTERVAL, wrong),
        score_min: percent("score_min", &raw.score_min, defaults.score_min, wrong),
        users_per_second: number_in(
            "users_per_second",
            &raw.users_per_second,
            defaults.users_per_second,
            (1, USERS_PER_SECOND_MAX),
            wrong,
        ),
        active_session: match raw.active_session {
            Some(RawActiveSession::Any) => ActiveSession::Any,
            Some(RawActiveSession::Unmovable) | None => ActiveSession::Unmovable,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_two_times() {
        let window = |text| TimeOfDay::parse(text).map(|it| (it.0.from, it.0.to));
        assert_eq!(window("22:00-05:30"), Some((1_320, 330)));
        assert_eq!(window("0:00 - 24:00"), Some((0, 1_440)));
        for text in ["22-05", "22:00", "22:60-23:00", "25:00-01:00", "+1:00-02:00", "1:00-1:00", ""]
        {
            assert_eq!(window(text), None, "{text}");
        }
    }
}
