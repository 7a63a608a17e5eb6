// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Energy times intensity, without rounding: what adds up in joules adds up in grams.

use std::{iter::Sum, ops::AddAssign};

use serde::{Deserialize, Serialize};

use crate::{GramsCo2e, GramsPerKwh, Pue};

/// µJ in a kWh, times µg in a gram.
const PER_GRAM: f64 = 3.6e12 * 1e6;

/// What a kWh at the meter emits, in whole micrograms: an intensity times a PUE.
///
/// Whole, so that products with whole microjoules are exact. The error is half a microgram per
/// kWh: 2·10⁻⁸ of the cleanest grids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// What a site with this PUE emits at this intensity.
    #[must_use]
    pub fn new(intensity: GramsPerKwh, pue: Pue) -> Self {
        // Both are bounded: at most 3·10¹⁰.
        Self((intensity.get() * pue.get() * 1e6).round() as u64)
    }

    /// What so much energy, in µJ at the meter, emits.
    #[must_use]
    pub fn emissions(self, microjoules: u64) -> Emissions {
        Emissions(u128::from(microjoules) * u128::from(self.0))
    }
}

/// Mass of CO2 equivalents as a ledger keeps it: whole microjoules times whole micrograms per
/// kWh, which is 2.8·10⁻¹⁹ g.
///
/// An integer for the reason that energy is one: the sum of all shares must be the whole, at
/// any intensity and after any number of ticks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Emissions(pub u128);

impl Emissions {
    /// None.
    pub const ZERO: Self = Self(0);

    /// The mass in grams, for the edge. Never smaller for the larger of two.
    #[must_use]
    pub fn grams(self) -> GramsCo2e {
        GramsCo2e(self.0 as f64 / PER_GRAM)
    }
}

impl AddAssign for Emissions {
    fn add_assign(&mut self, other: Self) {
        // What fits is 9·10¹⁹ g, more than mankind emits in a thousand years.
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Sum for Emissions {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |mut sum, part| {
            sum += part;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(g_per_kwh: f64, pue: f64) -> Rate {
        Rate::new(GramsPerKwh::new(g_per_kwh).unwrap(), Pue::new(pue).unwrap())
    }

    #[test]
    fn a_kilowatt_hour_emits_what_the_intensity_says() {
        let kwh = 3_600_000_000_000;
        assert_eq!(rate(360.0, 1.0).emissions(kwh).grams(), GramsCo2e(360.0));
        assert_eq!(rate(360.0, 1.5).emissions(kwh).grams(), GramsCo2e(540.0));
        assert_eq!(rate(0.0, 1.5).emissions(kwh), Emissions::ZERO);
        assert_eq!(rate(360.0, 1.0).emissions(0), Emissions::ZERO);
    }

    #[test]
    fn all_energy_that_a_counter_holds_at_the_worst_rate_still_fits() {
        let most = rate(GramsPerKwh::MOST, Pue::MOST).emissions(u64::MAX);
        assert!(most.0 < u128::MAX / 100_000_000);
        assert!(most.grams().0.is_finite());
    }

    #[test]
    fn a_ledger_comes_back_from_json_as_it_was() {
        let kept = Emissions(u128::from(u64::MAX) * 7 + 3);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Emissions>(&text).unwrap(), kept);
    }

    proptest! {
        #[test]
        fn parts_emit_together_what_the_whole_does(
            parts in prop::collection::vec(0u64..1 << 50, 0..50),
            intensity in 0.0..GramsPerKwh::MOST,
            pue in 1.0..Pue::MOST,
        ) {
            let rate = rate(intensity, pue);
            let together: Emissions = parts.iter().map(|part| rate.emissions(*part)).sum();
            prop_assert_eq!(together, rate.emissions(parts.iter().sum()));
        }

        #[test]
        fn more_energy_or_a_dirtier_grid_never_emits_less(
            a in any::<u64>(), b in any::<u64>(),
            dirty in 0.0..GramsPerKwh::MOST, dirtier in 0.0..GramsPerKwh::MOST,
        ) {
            let (less, more) = (a.min(b), a.max(b));
            let (clean, dirty) = (dirty.min(dirtier), dirty.max(dirtier));
            let (small, large) = (rate(clean, 1.0).emissions(less), rate(dirty, 1.0).emissions(more));
            prop_assert!(small <= large);
            prop_assert!(small.grams() <= large.grams());
        }
    }
}
