// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A raw counter that wraps, turned into a total that only grows. Pure: time comes in as a number.

use crate::{Position, Quality};

/// Above this no zone moves: a rack's whole supply.
const IMPOSSIBLE_WATTS: f64 = 50_000.0;

/// What a zone may draw before anything is known of it: twice the largest socket on sale
/// (500 W: AMD EPYC 9965 and Intel Xeon 6980P, vendors' data sheets, 2024).
const UNKNOWN_WATTS: f64 = 1_000.0;

/// What any zone may jump to at any time, however quiet it was.
const LEAST_LIMIT_WATTS: f64 = 150.0;

/// The largest socket on sale, for judging whether a counter may have wrapped unseen while no
/// process looked (see [`UNKNOWN_WATTS`]).
const LARGEST_SOCKET_WATTS: f64 = 500.0;

/// The counter's own update interval and the reader's jitter (RAPL updates about every
/// millisecond: Intel SDM vol. 3B, 16.10.3), with room.
const SLACK_SECONDS: f64 = 0.1;

/// Deltas shorter than this say little about power.
const SHORTEST_SECONDS: f64 = 0.05;

/// The highest power is forgotten by half in this time.
const PEAK_HALF_LIFE_SECONDS: f64 = 86_400.0;

/// Moves of the counter after which its highest power counts as known.
const KNOWN_AFTER_MOVES: u32 = 5;

/// A counter of µJ that goes back to zero after `range`.
///
/// The kernel gives `max_energy_range_uj` as the largest raw value converted to µJ, so the values
/// are `0..=range` and a wrap is `range + 1` long. (On hardware the step is one energy unit,
/// 15–61 µJ, which sysfs does not tell: less than 0.1 ppb of a wrap is left out.)
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    range: u64,
    /// The zone's own limit, if the kernel tells one.
    rated_watts: Option<f64>,
    last: Option<Seen>,
    total: u64,
    still: u32,
    peak_watts: f64,
    moves: u32,
}

/// The last value seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    raw: u64,
    at_ns: u64,
    /// When the value was first this.
    moved_ns: u64,
}

impl Counter {
    /// A counter that has not been read; `range` in µJ, zero if it never wraps.
    pub(crate) fn new(range: u64, rated_watts: Option<f64>) -> Self {
        let rated_watts = rated_watts.filter(|watts| watts.is_finite() && *watts > 0.0);
        Self {
            range,
            rated_watts,
            last: None,
            total: 0,
            still: 0,
            peak_watts: 0.0,
            moves: 0,
        }
    }

    /// Whether `raw` can be a value of this counter at all.
    pub(crate) fn holds(&self, raw: u64) -> bool {
        self.range == 0 || raw <= self.range
    }

    /// Whether `raw` is what was seen last.
    pub(crate) fn stands_at(&self, raw: u64) -> bool {
        self.last.is_some_and(|seen| seen.raw == raw)
    }

    /// µJ counted since the first value.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Takes the value read at `at_ns`.
    pub(crate) fn advance(&mut self, raw: u64, at_ns: u64) -> Quality {
        let Some(seen) = self.last else {
            self.last = Some(Seen {
                raw,
                at_ns,
                moved_ns: at_ns,
            });
            return Quality::Measured;
        };
        if raw == seen.raw {
            self.still = self.still.saturating_add(1);
            self.last = Some(Seen { at_ns, ..seen });
            return Quality::Still(self.still);
        }
        self.still = 0;
        self.last = Some(Seen {
            raw,
            at_ns,
            moved_ns: at_ns,
        });
        // A frozen counter that catches up counted for as long as it stood still.
        let seconds = seconds_between(seen.moved_ns, at_ns);
        match self.counted(seen.raw, raw, seconds) {
            Some(delta) => {
                self.total = self.total.saturating_add(delta);
                self.learn(delta, seconds);
                Quality::Measured
            }
            None => Quality::Reset,
        }
    }

    /// Where the counter stands.
    pub(crate) fn position(&self) -> Option<Position> {
        let seen = self.last?;
        Some(Position {
            raw: seen.raw,
            range: self.range,
            at_ns: seen.at_ns,
        })
    }

    /// What was counted between `earlier` and the last value, in µJ; `None` if that cannot be
    /// known: another counter, a step that no power explains, or time enough for a whole unseen
    /// wrap.
    pub(crate) fn counted_since(&self, earlier: &Position) -> Option<u64> {
        let seen = self.last?;
        if earlier.range != self.range || !self.holds(earlier.raw) || seen.at_ns < earlier.at_ns {
            return None;
        }
        let seconds = seconds_between(earlier.at_ns, seen.at_ns);
        let usual_watts = self.rated_watts.unwrap_or(LARGEST_SOCKET_WATTS);
        if self.may_have_wrapped_unseen(usual_watts, seconds) {
            return None;
        }
        self.counted(earlier.raw, seen.raw, seconds)
    }

    /// The µJ from one value to the next, or `None` where the step is no counting.
    fn counted(&self, from: u64, to: u64, seconds: f64) -> Option<u64> {
        if self.is_known() && self.may_have_wrapped_unseen(self.peak_watts, seconds) {
            return None;
        }
        let (delta, limit_watts) = if to >= from {
            (to - from, IMPOSSIBLE_WATTS)
        } else if self.range >= from {
            (
                (self.range - from).saturating_add(to).saturating_add(1),
                self.limit_watts(),
            )
        } else {
            return None;
        };
        let most = limit_watts * 1e6 * (seconds + SLACK_SECONDS);
        (delta as f64 <= most).then_some(delta)
    }

    fn may_have_wrapped_unseen(&self, watts: f64, seconds: f64) -> bool {
        self.range > 0 && watts * 1e6 * seconds >= self.range as f64
    }

    /// More than this is taken for a reset rather than a wrap. Three times the highest power
    /// leaves room for a machine that wakes up in the very interval of the wrap.
    fn limit_watts(&self) -> f64 {
        let floor = if self.is_known() {
            LEAST_LIMIT_WATTS
        } else {
            UNKNOWN_WATTS
        };
        floor
            .max(3.0 * self.peak_watts)
            .max(self.rated_watts.unwrap_or(0.0))
            .min(IMPOSSIBLE_WATTS)
    }

    fn is_known(&self) -> bool {
        self.moves >= KNOWN_AFTER_MOVES
    }

    fn learn(&mut self, delta: u64, seconds: f64) {
        let watts = delta as f64 / 1e6 / seconds.max(SHORTEST_SECONDS);
        let kept = (-seconds / PEAK_HALF_LIFE_SECONDS).exp2();
        self.peak_watts = watts.max(self.peak_watts * kept);
        self.moves = self.moves.saturating_add(1);
    }
}

fn seconds_between(earlier_ns: u64, later_ns: u64) -> f64 {
    later_ns.saturating_sub(earlier_ns) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// What an Intel server's package tells.
    const RANGE: u64 = 262_143_328_850;

    /// A counter that has run at 30 W for ten seconds and stands at `raw`.
    fn running_at(raw: u64, range: u64) -> (Counter, u64) {
        let mut counter = Counter::new(range, None);
        for second in 0..=10 {
            counter.advance(raw - 30_000_000 * (10 - second), second * SECOND);
        }
        (counter, 10 * SECOND)
    }

    #[test]
    fn the_first_value_is_the_base_and_not_energy() {
        let mut counter = Counter::new(RANGE, None);
        assert_eq!(counter.advance(123_456_789, 5), Quality::Measured);
        assert_eq!(counter.total(), 0);
    }

    #[test]
    fn a_counter_that_wraps_loses_nothing() {
        let (mut counter, now) = running_at(RANGE - 10_000_000, RANGE);
        assert_eq!(counter.advance(19_999_999, now + SECOND), Quality::Measured);
        assert_eq!(counter.total(), 330_000_000);
    }

    #[test]
    fn a_step_back_that_no_power_explains_is_a_reset_and_adds_nothing() {
        let (mut counter, now) = running_at(RANGE / 2, RANGE);
        assert_eq!(counter.advance(1_000, now + SECOND), Quality::Reset);
        assert_eq!(counter.total(), 300_000_000);
        assert_eq!(
            counter.advance(30_001_000, now + 2 * SECOND),
            Quality::Measured
        );
        assert_eq!(counter.total(), 330_000_000);
    }

    #[test]
    fn a_counter_without_range_cannot_wrap() {
        let (mut counter, now) = running_at(1_000_000_000, 0);
        assert_eq!(counter.advance(999_999_999, now + SECOND), Quality::Reset);
        assert_eq!(counter.total(), 300_000_000);
    }

    #[test]
    fn a_leap_forward_that_no_machine_makes_is_a_reset() {
        let (mut counter, now) = running_at(1_000_000_000, 0);
        assert_eq!(counter.advance(u64::MAX, now + SECOND), Quality::Reset);
        assert_eq!(counter.total(), 300_000_000);
    }

    #[test]
    fn a_rated_power_lets_a_sleeping_machine_wake_up_while_it_wraps() {
        let quiet = |rated| {
            let mut counter = Counter::new(RANGE, rated);
            for second in 0..=10 {
                counter.advance(RANGE - 20_000_000 + second * 1_000_000, second * SECOND);
            }
            counter.advance(349_999_999, 11 * SECOND)
        };
        assert_eq!(quiet(Some(400.0)), Quality::Measured);
        assert_eq!(quiet(None), Quality::Reset);
        assert_eq!(quiet(Some(f64::NAN)), Quality::Reset);
    }

    #[test]
    fn a_still_counter_is_counted_and_its_catching_up_is_energy() {
        let (mut counter, now) = running_at(RANGE - 40_000_000, RANGE);
        for n in 1..=20u32 {
            let at = now + u64::from(n) * SECOND;
            assert_eq!(counter.advance(RANGE - 40_000_000, at), Quality::Still(n));
        }
        // 21 s at 30 W arrive at once, through a wrap.
        assert_eq!(
            counter.advance(589_999_999, now + 21 * SECOND),
            Quality::Measured
        );
        assert_eq!(counter.total(), 300_000_000 + 630_000_000);
        assert_eq!(
            counter.advance(589_999_999, now + 22 * SECOND),
            Quality::Still(1)
        );
    }

    #[test]
    fn an_absence_long_enough_for_an_unseen_wrap_is_a_reset() {
        let (mut counter, now) = running_at(1_000_000_000, 2_000_000_000);
        assert_eq!(
            counter.advance(1_500_000_000, now + 600 * SECOND),
            Quality::Reset
        );
        assert_eq!(counter.total(), 300_000_000);
    }

    #[test]
    fn a_restart_learns_what_was_counted_meanwhile() {
        let earlier = Position {
            raw: RANGE - 10,
            range: RANGE,
            at_ns: SECOND,
        };
        let mut counter = Counter::new(RANGE, None);
        assert_eq!(counter.counted_since(&earlier), None, "nothing read yet");
        counter.advance(89_999_989, 4 * SECOND);
        assert_eq!(counter.counted_since(&earlier), Some(90_000_000));
        let position = counter.position().unwrap();
        assert_eq!(
            position,
            Position {
                raw: 89_999_989,
                range: RANGE,
                at_ns: 4 * SECOND
            }
        );
        assert_eq!(counter.counted_since(&position), Some(0));
    }

    #[test]
    fn a_restart_does_not_guess() {
        let mut counter = Counter::new(RANGE, None);
        counter.advance(500_000_000, 4 * SECOND);
        let earlier = Position {
            raw: 400_000_000,
            range: RANGE,
            at_ns: SECOND,
        };
        assert_eq!(counter.counted_since(&earlier), Some(100_000_000));
        for other in [
            Position {
                range: 7,
                ..earlier
            },
            Position {
                at_ns: 9 * SECOND,
                ..earlier
            },
            Position {
                raw: 600_000_000,
                ..earlier
            },
            Position {
                raw: RANGE + 1,
                ..earlier
            },
        ] {
            assert_eq!(counter.counted_since(&other), None, "{other:?}");
        }
        counter.advance(500_000_001, 4_000 * SECOND);
        assert_eq!(
            counter.counted_since(&earlier),
            None,
            "a whole wrap fits in an hour"
        );
    }

    proptest! {
        #[test]
        fn no_sequence_of_values_lowers_the_total_or_adds_nonsense(
            range in prop_oneof![Just(0), Just(RANGE), any::<u64>()],
            rated in proptest::option::of(any::<f64>()),
            values in proptest::collection::vec((any::<u64>(), 0..100 * SECOND), 0..60),
        ) {
            let mut counter = Counter::new(range, rated);
            let (mut now, mut before) = (0u64, 0);
            for (raw, step) in values {
                now += step;
                let position = counter.position();
                counter.advance(raw, now);
                prop_assert!(counter.total() >= before);
                let most = IMPOSSIBLE_WATTS * 1e6 * (now as f64 / 1e9 + 60.0 * SLACK_SECONDS);
                prop_assert!(counter.total() as f64 <= most);
                before = counter.total();
                if let Some(position) = position {
                    let _ = counter.counted_since(&position);
                }
            }
        }

        #[test]
        fn an_honest_counter_is_followed_to_the_microjoule(
            start in 0..=RANGE,
            steps in proptest::collection::vec(1u64..1_000_000_000, 1..200),
        ) {
            let mut counter = Counter::new(RANGE, Some(1_000.0));
            let (mut raw, mut now, mut truth) = (start, 0, 0);
            counter.advance(raw, now);
            for step in steps {
                raw = (raw + step) % (RANGE + 1);
                now += SECOND;
                truth += step;
                counter.advance(raw, now);
            }
            prop_assert_eq!(counter.total(), truth);
        }
    }
}
