// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Times as trackers write them: the clock on the wall, without a zone.

use eco_history::run::UnixMillis;
use jiff::{civil::DateTime, tz::TimeZone};

use crate::{exit::Failure, out::printable};

/// The zone that is named (`Europe/Berlin`), or else this machine's.
///
/// # Errors
/// When there is no zone of that name here.
pub(crate) fn zone(named: Option<&str>) -> Result<TimeZone, Failure> {
    let Some(name) = named else {
        return Ok(TimeZone::system());
    };
    TimeZone::get(name).map_err(|_| {
        Failure::usage(format!(
            "{}: no time zone of that name here; use one such as Europe/Berlin, or UTC",
            printable(name)
        ))
    })
}

/// A time such as `2024-05-01T12:00:00` or `2024-05-01 12:00:00,123`.
///
/// # Errors
/// When it is none.
pub(crate) fn millis(text: &str, zone: &TimeZone) -> Result<UnixMillis, String> {
    let failed = || {
        let shown: String = text.chars().take(40).collect();
        format!("`{shown}` is no time such as 2024-05-01T12:00:00")
    };
    // Newer ones may say a zone themselves.
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let time: DateTime = text.replace(',', ".").parse().map_err(|_| failed())?;
    let time = time.to_zoned(zone.clone()).map_err(|_| failed())?;
    Ok(time.timestamp().as_millisecond())
}

/// A span as Python writes a `timedelta`: `0:02:21.90`, `1 day, 2:03:04`. In seconds.
pub(crate) fn span(text: &str) -> Option<f64> {
    let (days, clock) = match text.trim().split_once(',') {
        Some((days, clock)) => {
            let count = days
                .trim()
                .strip_suffix("days")
                .or(days.strip_suffix("day"))?;
            (count.trim().parse::<u32>().ok()?, clock)
        }
        None => (0, text),
    };
    let parts: Vec<&str> = clock.trim().split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else {
        return None;
    };
    let whole = |text: &str| text.parse::<u32>().ok().map(f64::from);
    let seconds: f64 = seconds.parse().ok().filter(|s| (0.0..60.0).contains(s))?;
    Some(f64::from(days) * 86_400.0 + whole(hours)? * 3_600.0 + whole(minutes)? * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_wall_unless_they_say_a_zone() {
        for (text, seconds) in [
            ("2024-05-01T12:00:00", 1_714_564_800),
            ("2024-05-01 12:00:00", 1_714_564_800),
            ("2024-05-01T12:00:00+02:00", 1_714_557_600),
        ] {
            assert_eq!(millis(text, &TimeZone::UTC), Ok(seconds * 1000), "{text}");
        }
        let berlin = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            millis("2024-05-01 12:00:00,250", &berlin),
            Ok(1_714_557_600_250)
        );
        for text in ["", "2020-04-31T03:26:11", "yesterday", "12:00"] {
            assert!(millis(text, &TimeZone::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_that_is_not_here_is_no_path_either() {
        assert!(zone(Some("../../etc/passwd")).is_err());
        assert!(zone(Some("No/Where")).is_err());
        assert!(zone(Some("UTC")).is_ok());
    }

    #[test]
    fn spans_of_python_are_read() {
        for (text, seconds) in [
            ("0:02:21.90", 141.9),
            ("111:11:54", 400_314.0),
            ("1 day, 2:03:04", 93_784.0),
            ("3 days, 0:00:01.500000", 259_201.5),
        ] {
            assert_eq!(span(text), Some(seconds), "{text}");
        }
        for text in ["", "1:2", "a:b:c", "0:00:nan", "-1:00:00", "weeks, 0:00:00"] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
