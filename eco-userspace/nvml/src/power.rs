// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Energy from the driver's buffer of power samples, for GPUs without an energy counter.

/// A sample of the driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerSample {
    /// The end of the period that it stands for, in µs of Unix time.
    pub at_unix_us: u64,
    /// Mean power over that period.
    pub milliwatts: u32,
}

/// What samples of power come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerIntegral {
    /// The energy.
    pub microjoules: u64,
    /// Whether the buffer had overflowed: then some of the time is not in it.
    pub gap: bool,
}

/// No GPU board draws more; it is garbage.
const MOST_MILLIWATTS: u32 = 5_000_000;

/// A driver samples power every 20 to 100 ms (nvml.h of `nvmlDeviceGetSamples` leaves it open);
/// so long without one means that the buffer had overflowed, or that nobody sampled.
const LONGEST_PERIOD_US: u64 = 1_000_000;

/// Integrates samples, each once.
#[derive(Debug, Default)]
pub(crate) struct Integrator {
    last_us: Option<u64>,
    /// Less than a microjoule, in nJ: carried on, so that rounding never adds up.
    rest_nanojoules: u128,
}

impl Integrator {
    /// The moment from which samples are wanted; zero before the first, and where the clock was
    /// set back since.
    pub(crate) fn since(&mut self, now_us: u64) -> u64 {
        self.last_us = self.last_us.filter(|last| *last <= now_us);
        self.last_us.unwrap_or(0)
    }

    /// Takes the samples since the last one; of the first lot only where it ends.
    pub(crate) fn take(&mut self, samples: &mut [PowerSample]) -> PowerIntegral {
        samples.sort_unstable_by_key(|sample| sample.at_unix_us);
        let mut integral = PowerIntegral::default();
        let mut nanojoules = self.rest_nanojoules;
        let first_lot = self.last_us.is_none();
        for sample in samples.iter() {
            if sample.at_unix_us == 0 || sample.milliwatts > MOST_MILLIWATTS {
                continue;
            }
            let last = self.last_us.unwrap_or(sample.at_unix_us);
            let Some(period) = sample.at_unix_us.checked_sub(last) else {
                continue;
            };
            self.last_us = Some(sample.at_unix_us);
            if first_lot {
                continue;
            }
            if period > LONGEST_PERIOD_US {
                integral.gap = true;
                continue;
            }
            // 1 mW for 1 µs is 1 nJ.
            nanojoules += u128::from(sample.milliwatts) * u128::from(period);
        }
        integral.microjoules = u64::try_from(nanojoules / 1000).unwrap_or(u64::MAX);
        self.rest_nanojoules = nanojoules % 1000;
        integral
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(at_unix_us: u64, milliwatts: u32) -> PowerSample {
        PowerSample {
            at_unix_us,
            milliwatts,
        }
    }

    fn primed_at(us: u64) -> Integrator {
        let mut integrator = Integrator::default();
        integrator.take(&mut [sample(us, 1)]);
        integrator
    }

    #[test]
    fn the_first_lot_sets_the_start_and_counts_nothing() {
        let mut integrator = Integrator::default();
        let integral = integrator.take(&mut [sample(100, 5000), sample(200, 5000)]);
        assert_eq!(
            (integral, integrator.since(1_000)),
            (PowerIntegral::default(), 200)
        );
    }

    #[test]
    fn each_sample_stands_for_the_time_since_the_one_before() {
        let mut integrator = primed_at(1_000_000);
        // Out of order, as nothing promises an order.
        let integral =
            integrator.take(&mut [sample(1_300_000, 50_000), sample(1_100_000, 200_000)]);
        assert_eq!(integral.microjoules, 20_000_000 + 10_000_000);
    }

    #[test]
    fn an_overflowed_buffer_is_a_gap_and_nothing_is_made_up_for_it() {
        let mut integrator = primed_at(1_000_000);
        let integral =
            integrator.take(&mut [sample(9_000_000, 100_000), sample(9_100_000, 100_000)]);
        assert_eq!((integral.microjoules, integral.gap), (10_000_000, true));
    }

    #[test]
    fn a_clock_that_is_set_back_starts_anew() {
        let mut integrator = primed_at(9_000_000_000);
        assert_eq!(integrator.since(5_000_000), 0);
        let first = integrator.take(&mut [sample(4_900_000, 1_000)]);
        let second = integrator.take(&mut [sample(5_000_000, 1_000)]);
        assert_eq!((first.microjoules, second.microjoules), (0, 100_000));
    }

    #[test]
    fn garbage_is_passed_over() {
        let mut integrator = primed_at(1_000_000);
        let garbage = [
            sample(0, 7),
            sample(1_050_000, u32::MAX),
            sample(900_000, 9),
        ];
        let mut samples = [&garbage[..], &[sample(1_100_000, 1_000)]].concat();
        assert_eq!(integrator.take(&mut samples).microjoules, 100_000);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_samples_are_parcelled_out(
            steps in prop::collection::vec((1u64..300_000, 0u32..700_000), 1..60),
            cut in 0usize..60,
        ) {
            let mut at = 5;
            let samples: Vec<PowerSample> = steps
                .into_iter()
                .map(|(step, milliwatts)| { at += step; sample(at, milliwatts) })
                .collect();
            let whole = primed_at(5).take(&mut samples.clone()).microjoules;
            let (mut early, mut late) = {
                let (early, late) = samples.split_at(cut.min(samples.len()));
                (early.to_vec(), late.to_vec())
            };
            let mut parcels = primed_at(5);
            let sum = parcels.take(&mut early).microjoules + parcels.take(&mut late).microjoules;
            prop_assert_eq!(whole, sum);
        }
    }
}
