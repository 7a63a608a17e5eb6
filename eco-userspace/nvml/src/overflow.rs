// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether the driver's buffer of utilisation samples held less than the time between two looks.
//! Pure.

/// The longest sampling period of a driver: nvml.h says of `nvmlDeviceGetProcessUtilization`
/// "between 1 second and 1/6 second, depending on the product being queried".
const LONGEST_PERIOD_US: u64 = 1_000_000;

/// Samples of one pass over the processes are stamped one after the other; the shortest period
/// is many times this.
const PASS_US: u64 = 10_000;

/// Whether something may be missing between `seen_us`, the last sample or look before, and the
/// samples that came since. A GPU on which nobody worked for a while leaves such a hole too.
pub(crate) fn has_hole(seen_us: u64, stamps_us: &mut Vec<u64>) -> bool {
    stamps_us.retain(|stamp| *stamp > seen_us);
    stamps_us.sort_unstable();
    stamps_us.dedup_by(|next, earlier| *next - *earlier <= PASS_US);
    let (Some(first), Some(last)) = (stamps_us.first(), stamps_us.last()) else {
        return false;
    };
    let steps = stamps_us.len() as u64 - 1;
    let period = (last - first).checked_div(steps);
    let period = period.unwrap_or(LONGEST_PERIOD_US).min(LONGEST_PERIOD_US);
    first - seen_us > period + period / 2
}

/// Whether the driver has dropped what it once told, the sample at `seen_us`, so that others may
/// have been dropped unseen. `all_us` are the stamps of all that it still has.
pub(crate) fn has_dropped(seen_us: u64, all_us: impl Iterator<Item = u64>) -> bool {
    let oldest = all_us.filter(|stamp| *stamp > 0).min();
    oldest.is_some_and(|oldest| oldest > seen_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;
    const SEEN: u64 = 1_700_000_000_000_000;

    fn hole(stamps_ms: &[u64]) -> bool {
        let mut stamps: Vec<u64> = stamps_ms.iter().map(|ms| SEEN + ms * MS).collect();
        has_hole(SEEN, &mut stamps)
    }

    #[test]
    fn samples_that_follow_the_last_one_leave_no_hole() {
        assert!(!hole(&[]));
        assert!(!hole(&[600, 200, 400]));
        // Two processes a pass.
        assert!(!hole(&[200, 201, 400, 401]));
        // A single pass tells no period.
        assert!(!hole(&[1_000]));
    }

    #[test]
    fn samples_that_begin_late_leave_one() {
        assert!(hole(&[1_600, 1_800, 2_000]));
        assert!(hole(&[1_501]));
        // However far apart they say that they are.
        assert!(hole(&[9_000, 90_000]));
    }

    #[test]
    fn what_was_told_and_is_there_no_more_was_dropped() {
        assert!(has_dropped(SEEN, [0, SEEN + 5].into_iter()));
        assert!(!has_dropped(SEEN, [SEEN, SEEN + 5].into_iter()));
        assert!(!has_dropped(SEEN, std::iter::empty()));
    }
}
