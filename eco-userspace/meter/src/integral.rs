// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Power that was sampled, turned into energy that only grows. Pure: time comes in as a number.

use crate::Quality;

/// Above this no board draws (a rack's whole supply, in µW): a slip of the unit.
pub(crate) const MOST_MICROWATTS: u64 = 50_000_000_000;

/// A power is trusted to have lain between two samples only if they are no further apart: a
/// suspended machine, or a sensor that was away, drew what nobody knows. Longer than the longest
/// tick, which is a minute.
pub(crate) const LONGEST_GAP_NS: u64 = 90_000_000_000;

/// Twice a microjoule in µW·ns, the unit of the remainder.
const DOUBLE_MICROJOULE: u128 = 2_000_000_000;

/// The trapezoids under a sampled power.
///
/// The sum is exact: what is less than a microjoule is kept for the next step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Integral {
    last: Option<(u64, u64)>,
    total: u64,
    /// In half µW·ns.
    remainder: u128,
}

impl Integral {
    /// µJ since the first sample.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Takes a power in µW that held at `at_ns`. A sample from the past is left out.
    pub(crate) fn add(&mut self, at_ns: u64, microwatts: u64) -> Quality {
        let Some((earlier_ns, earlier)) = self.last else {
            self.last = Some((at_ns, microwatts));
            return Quality::Measured;
        };
        if at_ns <= earlier_ns {
            return Quality::Measured;
        }
        self.last = Some((at_ns, microwatts));
        let span = at_ns - earlier_ns;
        if span > LONGEST_GAP_NS {
            return Quality::Reset;
        }
        let doubled = (u128::from(earlier) + u128::from(microwatts)) * u128::from(span);
        self.book(doubled);
        Quality::Measured
    }

    /// Adds a power in µW that held for all of `span_ns`.
    pub(crate) fn add_rectangle(&mut self, span_ns: u64, microwatts: u64) {
        self.book(2 * u128::from(microwatts) * u128::from(span_ns));
    }

    fn book(&mut self, doubled: u128) {
        let sum = self.remainder + doubled;
        self.remainder = sum % DOUBLE_MICROJOULE;
        let whole = u64::try_from(sum / DOUBLE_MICROJOULE).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(whole);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_ramp_is_integrated_exactly() {
        let mut integral = Integral::default();
        for second in 0..=10 {
            integral.add(second * SECOND, second * 10_000_000);
        }
        assert_eq!(integral.total(), 500_000_000);
    }

    #[test]
    fn a_long_gap_is_not_guessed_at() {
        let mut integral = Integral::default();
        integral.add(0, 10_000_000);
        assert_eq!(integral.add(3_600 * SECOND, 10_000_000), Quality::Reset);
        assert_eq!(integral.total(), 0);
        assert_eq!(integral.add(3_601 * SECOND, 10_000_000), Quality::Measured);
        assert_eq!(integral.total(), 10_000_000);
    }

    #[test]
    fn a_trickle_is_not_lost_to_rounding() {
        let mut integral = Integral::default();
        for step in 0..=1_000_000u64 {
            integral.add(step * 100, 1_000_000);
        }
        assert_eq!(integral.total(), 100_000);
    }

    proptest! {
        #[test]
        fn the_total_never_decreases_and_never_passes_the_highest_power(
            samples in proptest::collection::vec((0..200 * SECOND, 0..=MOST_MICROWATTS), 0..60),
        ) {
            let mut integral = Integral::default();
            let (mut now, mut before) = (0, 0);
            for (step, microwatts) in samples {
                now += step;
                integral.add(now, microwatts);
                prop_assert!(integral.total() >= before);
                before = integral.total();
            }
            let most = u128::from(MOST_MICROWATTS) * u128::from(now) / 1_000_000_000;
            prop_assert!(u128::from(integral.total()) <= most);
        }
    }
}
