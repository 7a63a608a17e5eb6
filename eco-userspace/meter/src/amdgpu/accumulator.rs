// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A firmware's energy accumulator. Pure: time comes in as a number.

use eco_amdsmi::Unit;

use crate::{Position, Quality, counter::Counter};

/// A value that is older than one before it is passed over so many times; what goes on for longer
/// is a counter that starts anew.
const MOST_OLD: u32 = 60;

/// An accumulator of 64 bits, or of 32: the first version of the kernel's table of metrics
/// (`gpu_metrics_v1_0` in `kgd_pp_interface.h`) had no more. It is taken to have 32 until it
/// reads more than they hold.
pub(super) struct Accumulator {
    counter: Counter,
    is_wide: bool,
    /// µJ, of the time when it was taken to be narrow.
    before: u64,
    /// The highest value since the last wrap or reset.
    last: u64,
    /// Values in a row that were older than that.
    old: u32,
}

impl Accumulator {
    /// One that has not been read.
    pub(super) fn new(unit: Unit) -> Self {
        let range = unit.microjoules(1 << 32).unwrap_or(0).saturating_sub(1);
        Self {
            counter: Counter::new(range, None),
            is_wide: false,
            before: 0,
            last: 0,
            old: 0,
        }
    }

    /// µJ since the first value.
    pub(super) fn total(&self) -> u64 {
        self.before.saturating_add(self.counter.total())
    }

    /// Takes the value read at `at_ns`, which is `microjoules`.
    ///
    /// Some releases answer now and then with an older value, and with the newest one next time
    /// (ROCm/amdsmi, issue 115). As a reset it would be counted twice; it is passed over instead.
    /// A counter that truly starts anew falls to nearly nothing.
    pub(super) fn advance(&mut self, counts: u64, microjoules: u64, at_ns: u64) -> Quality {
        let is_old = counts < self.last && counts > self.last / 2;
        if is_old && self.old < MOST_OLD {
            self.old += 1;
            return Quality::Still(self.old);
        }
        self.old = 0;
        self.last = counts;
        if !self.is_wide && counts > u64::from(u32::MAX) {
            self.widen();
        }
        self.counter.advance(microjoules, at_ns)
    }

    /// Where the accumulator stands.
    pub(super) fn position(&self) -> Option<Position> {
        self.counter.position()
    }

    /// What was counted since; see [`Counter::counted_since`].
    pub(super) fn counted_since(&self, earlier: &Position) -> Option<u64> {
        self.counter.counted_since(earlier)
    }

    fn widen(&mut self) {
        self.is_wide = true;
        self.before = self.total();
        let seen = self.counter.position();
        self.counter = Counter::new(0, None);
        if let Some(seen) = seen {
            self.counter.advance(seen.raw, seen.at_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// Counts of one joule.
    const JOULE: u64 = 1 << 16;

    struct Rig {
        accumulator: Accumulator,
        unit: Unit,
        second: u64,
    }

    impl Rig {
        /// Has run at 100 W for ten seconds, up to `counts`.
        fn at(counts: u64) -> Self {
            let unit = Unit::of(15.3).unwrap();
            let mut rig = Self {
                accumulator: Accumulator::new(unit),
                unit,
                second: 0,
            };
            for back in (0..=10).rev() {
                rig.read(counts - back * 100 * JOULE);
            }
            assert_eq!(rig.joules(), 1_000);
            rig
        }

        fn read(&mut self, counts: u64) -> Quality {
            self.second += 1;
            let microjoules = self.unit.microjoules(counts).unwrap();
            self.accumulator
                .advance(counts, microjoules, self.second * SECOND)
        }

        fn joules(&self) -> u64 {
            (self.accumulator.total() + 500_000) / 1_000_000
        }
    }

    #[test]
    fn one_of_32_bits_wraps_and_loses_nothing() {
        let mut rig = Rig::at((1 << 32) - 20 * JOULE);
        assert_eq!(rig.read(80 * JOULE), Quality::Measured);
        assert_eq!(rig.joules(), 1_100);
    }

    #[test]
    fn one_of_64_bits_passes_the_32nd_and_loses_nothing() {
        let mut rig = Rig::at((1 << 32) - 20 * JOULE);
        assert_eq!(rig.read((1 << 32) + 80 * JOULE), Quality::Measured);
        assert_eq!(rig.read((1 << 32) + 180 * JOULE), Quality::Measured);
        assert_eq!(rig.joules(), 1_200);
        let mut rig = Rig::at(1 << 50);
        rig.read((1 << 50) + 7 * JOULE);
        assert_eq!(rig.joules(), 1_007);
    }

    #[test]
    fn an_older_value_is_passed_over_and_nothing_is_counted_twice() {
        let mut rig = Rig::at(100_000 * JOULE);
        assert_eq!(rig.read(99_800 * JOULE), Quality::Still(1));
        assert_eq!(rig.read(100_200 * JOULE), Quality::Measured);
        assert_eq!(rig.joules(), 1_200);
    }

    #[test]
    fn one_that_starts_anew_counts_on_from_there() {
        let mut rig = Rig::at(1 << 50);
        assert_eq!(rig.read(3 * JOULE), Quality::Reset);
        rig.read(10 * JOULE);
        assert_eq!(rig.joules(), 1_007);
    }

    #[test]
    fn one_that_stays_behind_is_believed_at_last() {
        let mut rig = Rig::at(1 << 50);
        let lower = (1 << 50) - 10_000 * JOULE;
        let mut seconds = 0;
        while rig.read(lower + seconds * 100 * JOULE) != Quality::Reset {
            seconds += 1;
            assert!(seconds <= u64::from(MOST_OLD));
        }
        rig.read(lower + (seconds + 1) * 100 * JOULE);
        assert_eq!(rig.joules(), 1_100);
    }
}
