// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The span that a question is about.

use std::time::Duration;

use eco_agent::config::parse_duration;

use crate::refusal::Refusal;

/// Counters are scraped every few seconds: nothing shorter means anything.
const SHORTEST: Duration = Duration::from_secs(10);

/// No store keeps raw samples longer than this by default; and it fits PromQL's own range.
const LONGEST: Duration = Duration::from_secs(400 * DAY);

const DAY: u64 = 24 * 3600;

/// Reads `90s`, `5m`, `1h`, `7d` or `2w`.
pub(super) fn parse(text: &str) -> Result<Duration, Refusal> {
    let days = |number: &str, days: u64| {
        let number: u64 = number.trim().parse().ok()?;
        number.checked_mul(days * DAY).map(Duration::from_secs)
    };
    let parsed = match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(number), _) => days(number, 1),
        (_, Some(number)) => days(number, 7),
        _ => parse_duration(text),
    };
    match parsed {
        Some(window) if (SHORTEST..=LONGEST).contains(&window) => Ok(window),
        Some(_) => Err(Refusal::bad(format!(
            "window {text:?} is not between {} s and {} days",
            SHORTEST.as_secs(),
            LONGEST.as_secs() / DAY
        ))),
        None => Err(Refusal::bad(format!(
            "window {text:?} is no time; write 90s, 5m, 1h, 7d or 2w"
        ))),
    }
}

/// For people: `1 h`, in the largest unit that it is a whole number of.
pub(super) fn shown(window: Duration) -> String {
    let seconds = window.as_secs();
    let units = [(DAY, "d"), (3600, "h"), (60, "min")];
    let whole = units
        .into_iter()
        .find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length));
    let (length, unit) = whole.unwrap_or((1, "s"));
    format!("{} {unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_told_in_the_largest_unit_that_fits() {
        for (seconds, told) in [
            (10, "10 s"),
            (90, "90 s"),
            (300, "5 min"),
            (3600, "1 h"),
            (5400, "90 min"),
            (7 * DAY, "7 d"),
        ] {
            assert_eq!(shown(Duration::from_secs(seconds)), told);
        }
    }

    #[test]
    fn a_window_is_read_as_people_write_it() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("1h", 3600),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(parse(text).unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "h",
            "1y",
            "-1h",
            "NaN",
            "1s",
            "0",
            "401d",
            "99999999999999999999d",
            "inf",
            "1e300h",
        ] {
            assert_eq!(parse(text).unwrap_err().status, 400, "{text}");
        }
    }
}
