// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts of a perf event into microjoules, exactly.

/// The microjoules of one count: `mantissa · 2^exponent · 10⁶`, with an odd mantissa.
///
/// The kernel tells `2.3283064365386962890625e-10`, which is 2⁻³² J (`arch/x86/events/rapl.c`):
/// a power of two, so that whole counts convert with integers alone and no remainder is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    mantissa: u64,
    exponent: i32,
}

impl Scale {
    /// From the text of `energy-*.scale`, in joules a count.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let joules: f64 = text.trim().parse().ok()?;
        if !joules.is_normal() || joules <= 0.0 {
            return None;
        }
        let bits = joules.to_bits();
        // IEEE 754 binary64: 52 bits of fraction below a hidden one, exponent biased by 1023.
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let exponent = (bits >> 52) as i32 - 1023 - 52;
        let zeros = mantissa.trailing_zeros();
        Some(Self {
            mantissa: mantissa >> zeros,
            exponent: exponent + zeros as i32,
        })
    }

    /// The µJ of so many counts, rounded down; `None` if they are more than 2⁶⁴.
    pub(super) fn microjoules(self, counts: u128) -> Option<u64> {
        let product = counts
            .checked_mul(u128::from(self.mantissa))?
            .checked_mul(1_000_000)?;
        let shifted = if self.exponent <= 0 {
            product
                .checked_shr(self.exponent.unsigned_abs())
                .unwrap_or(0)
        } else {
            let shift = self.exponent.unsigned_abs();
            if shift > product.leading_zeros() {
                return None;
            }
            product << shift
        };
        u64::try_from(shifted).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KERNEL: &str = "2.3283064365386962890625e-10";

    #[test]
    fn the_kernels_scale_is_a_power_of_two() {
        let scale = Scale::parse(KERNEL).unwrap();
        assert_eq!(
            scale,
            Scale {
                mantissa: 1,
                exponent: -32
            }
        );
        assert_eq!(scale.microjoules(1 << 32), Some(1_000_000));
        assert_eq!(scale.microjoules((1 << 32) - 1), Some(999_999));
        // A year at 500 W.
        let counts = 500 * 31_536_000 * (1u128 << 32);
        assert_eq!(scale.microjoules(counts), Some(15_768_000_000_000_000));
    }

    #[test]
    fn no_other_text_is_a_scale() {
        for text in ["", "0", "-1e-10", "nan", "inf", "1e-320", "J"] {
            assert_eq!(Scale::parse(text), None, "{text}");
        }
        let whole = Scale::parse("8").unwrap();
        assert_eq!(whole.microjoules(2), Some(16_000_000));
        assert_eq!(whole.microjoules(u128::MAX), None);
        assert_eq!(Scale::parse("1e300").unwrap().microjoules(1), None);
    }

    proptest! {
        #[test]
        fn more_counts_are_never_fewer_microjoules(a in 0..1u128 << 75, b in 0..1u128 << 75) {
            let scale = Scale::parse(KERNEL).unwrap();
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(scale.microjoules(low).unwrap() <= scale.microjoules(high).unwrap());
        }

        #[test]
        fn parts_add_up_to_the_whole_within_a_microjoule_each(a in 0..1u128 << 60, b in 0..1u128 << 60) {
            let scale = Scale::parse(KERNEL).unwrap();
            let of = |counts| scale.microjoules(counts).unwrap();
            prop_assert!(of(a + b) - (of(a) + of(b)) <= 1);
        }
    }
}
