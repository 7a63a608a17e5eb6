// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A span of time as Slurm writes it: `RunTime=` of scontrol(1), `Elapsed` of sacct(1).

use std::time::Duration;

/// `[D-]HH:MM:SS`, `MM:SS`, or minutes alone, as in `--time` of sbatch(1).
///
/// # Errors
/// When it is none of these: with the forms that there are.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    seconds(text)
        .map(Duration::from_secs)
        .ok_or_else(|| "a time is written [D-]HH:MM:SS, MM:SS or MM".to_owned())
}

fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (number(days)?, clock),
        None => (0, text),
    };
    let parts = clock.split(':').map(number).collect::<Option<Vec<_>>>()?;
    let (hours, minutes, seconds) = match (parts.as_slice(), days) {
        (&[hours, minutes, seconds], _) => (hours, minutes, seconds),
        (&[minutes, seconds], 0) => (0, minutes, seconds),
        (&[minutes], 0) => (0, minutes, 0),
        _ => return None,
    };
    let hours = days.checked_mul(24)?.checked_add(hours)?;
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    minutes.checked_mul(60)?.checked_add(seconds)
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_slurm_writes_them() {
        for (text, seconds) in [
            ("00:00:02", 2),
            ("01:02:03", 3723),
            ("2-01:00:00", 176_400),
            ("02:03", 123),
            ("5", 300),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let huge = "99999999999999999-00:00:00";
        for text in [
            "",
            "-",
            ":",
            "1:",
            "-1:00",
            "+1:00",
            "1-2",
            "1:2:3:4",
            "UNLIMITED",
            "INVALID",
            "1.5",
            "NaN",
            huge,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
