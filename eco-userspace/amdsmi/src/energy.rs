// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An energy accumulator and what one count of it is worth.

/// 2⁻¹⁶ J in aJ: what the accumulator counts, by the kernel
/// (`drivers/gpu/drm/amd/include/kgd_pp_interface.h`: "Energy (15.259uJ (2^-16) units)").
const COUNT_ATTOJOULES: u64 = 15_258_789_062_500;

/// The library tells that unit rounded to 15.3 µJ (`kEnergyCounterResolution` of rocm_smi.cc),
/// which is 0.27 % too much: what is so near is the kernel's unit.
const ROUNDED: f64 = 0.005;

/// More than a joule is the unit of nothing.
const MOST_ATTOJOULES: f64 = 1e18;

/// What a GPU has drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Energy {
    /// The accumulator: since the firmware was loaded.
    pub counts: u64,
    /// What one count is worth.
    pub unit: Unit,
    /// `CLOCK_BOOTTIME` in ns, just before the call.
    pub before_ns: u64,
    /// Just after.
    pub after_ns: u64,
}

/// The energy of one count, in aJ; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit(u64);

impl Unit {
    /// By the library's word, in µJ; `None` where that is no unit.
    #[must_use]
    pub fn of(microjoules: f32) -> Option<Self> {
        let told = f64::from(microjoules) * 1e12;
        let known = COUNT_ATTOJOULES as f64;
        if (told - known).abs() <= ROUNDED * known {
            return Some(Self(COUNT_ATTOJOULES));
        }
        (1.0..=MOST_ATTOJOULES)
            .contains(&told)
            .then(|| Self(told.round() as u64))
    }

    /// So many counts in whole µJ; `None` where they are more than `u64` holds.
    #[must_use]
    pub fn microjoules(self, counts: u64) -> Option<u64> {
        u64::try_from(u128::from(counts) * u128::from(self.0) / 1_000_000_000_000).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_unit_is_the_kernels_own() {
        for told in [15.259, 15.3, 15.258_789] {
            let unit = Unit::of(told).unwrap();
            assert_eq!(unit.microjoules(1 << 16), Some(1_000_000), "{told}");
        }
    }

    #[test]
    fn another_unit_is_believed() {
        assert_eq!(Unit::of(1.0).unwrap().microjoules(7), Some(7));
        assert_eq!(Unit::of(61.0).unwrap().microjoules(2), Some(122));
    }

    #[test]
    fn what_is_no_unit_is_none() {
        for told in [0.0, -15.3, f32::NAN, f32::INFINITY, 1e30, 1e-30] {
            assert_eq!(Unit::of(told), None, "{told}");
        }
    }

    #[test]
    fn no_count_overflows() {
        assert_eq!(Unit::of(15.3).unwrap().microjoules(u64::MAX), None);
        assert_eq!(Unit::of(1.0).unwrap().microjoules(u64::MAX), Some(u64::MAX));
    }
}
