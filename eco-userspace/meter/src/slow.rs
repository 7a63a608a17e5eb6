// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A power that comes in steps, slower than it is read: what a management controller tells.
//!
//! A controller publishes a new value every so often (1 to 60 s) and repeats it in between. A
//! value therefore covers the time from the update before it to its own, and is booked at its own
//! update; between two updates the meter stands still. Nothing is interpolated towards a value
//! that has not come. An update that brings the same value as before cannot be seen; it is taken
//! to have happened once it is half a period overdue, with the period learned from those that can
//! be seen.
//!
//! Pure: time comes in as a number.

use std::time::Duration;

use crate::{
    Quality, Window,
    integral::{Integral, LONGEST_GAP_NS},
    pace::Pace,
};

/// Taken for the period where it cannot be learned: most controllers' (Redfish's and DCMI's data
/// sheets say 1 to 60 s).
const USUAL_PERIOD: Duration = Duration::from_secs(10);

/// A period that does not show in this time is not waited for.
const LONGEST_LEARNING_NS: u64 = 150_000_000_000;

/// Turns observations of a stepped power into energy.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    integral: Integral,
    pace: Pace,
    /// The period until it is learned.
    prior_ns: u64,
    /// What was seen before the period was known: booked once it is, all at once.
    learning: Option<Learning>,
    /// What was drawn before the next look is not known.
    paused: bool,
    seen: Option<Seen>,
    /// Of the last update.
    window: Window,
    still: u32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    microwatts: u64,
    /// When it was last seen.
    at_ns: u64,
    /// Up to when energy is booked: the time of the last update.
    booked_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Learning {
    looks: Vec<(u64, u64)>,
    pace: Pace,
}

impl Slow {
    /// For a source of which nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            learning: Some(Learning::default()),
            ..Self::with_period(USUAL_PERIOD)
        }
    }

    /// For a source that is said to update every `prior`; what is observed counts more.
    pub(crate) fn with_period(prior: Duration) -> Self {
        Self {
            integral: Integral::default(),
            pace: Pace::default(),
            prior_ns: prior.as_nanos() as u64,
            learning: None,
            paused: false,
            seen: None,
            window: Window::default(),
            still: 0,
        }
    }

    /// µJ booked so far.
    pub(crate) fn total(&self) -> u64 {
        self.integral.total()
    }

    /// When the last update that is booked happened.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// The source says that it tells nothing for now: the time until the next look is not booked.
    pub(crate) fn pause(&mut self) {
        if let Some(learning) = self.learning.take() {
            self.replay(&learning);
        }
        self.pace.interrupted();
        self.seen = None;
        self.paused = true;
    }

    /// What to say of a read to which the source had nothing to add.
    pub(crate) fn standing(&mut self) -> Quality {
        self.stood_still()
    }

    /// The update period as observed.
    pub(crate) fn period(&self) -> Option<Duration> {
        self.pace.period()
    }

    /// Takes a power in µW that was seen at `at_ns`.
    pub(crate) fn observe(&mut self, at_ns: u64, microwatts: u64) -> Quality {
        let Some(mut learning) = self.learning.take() else {
            return self.take(at_ns, microwatts);
        };
        if learning.is_done_by(at_ns) {
            let before = self.replay(&learning);
            let now = self.take(at_ns, microwatts);
            return worse(before, now);
        }
        let is_first = learning.looks.is_empty();
        learning.look(at_ns, microwatts);
        self.learning = Some(learning);
        if is_first {
            self.window = Window {
                before_ns: at_ns,
                after_ns: at_ns,
            };
            return Quality::Measured;
        }
        self.stood_still()
    }

    /// Books what was seen while the period was not known.
    fn replay(&mut self, learning: &Learning) -> Quality {
        let learned = learning.pace.period_ns().or(learning.pace.shortest_ns());
        self.prior_ns = learned.unwrap_or(self.prior_ns);
        let mut quality = Quality::Still(self.still);
        for (at_ns, microwatts) in &learning.looks {
            quality = worse(quality, self.take(*at_ns, *microwatts));
        }
        quality
    }

    fn take(&mut self, at_ns: u64, microwatts: u64) -> Quality {
        let Some(seen) = self.seen else {
            self.begin(at_ns, microwatts);
            return if std::mem::take(&mut self.paused) {
                Quality::Reset
            } else {
                Quality::Measured
            };
        };
        if at_ns <= seen.at_ns {
            return self.stood_still();
        }
        let period = self.period_ns();
        if at_ns - seen.at_ns > LONGEST_GAP_NS.max(period.saturating_mul(3)) {
            self.pace.interrupted();
            self.begin(at_ns, microwatts);
            return Quality::Reset;
        }
        if microwatts == seen.microwatts {
            self.unchanged(seen, at_ns, period)
        } else {
            self.changed(seen, at_ns, microwatts, period)
        }
    }

    fn begin(&mut self, at_ns: u64, microwatts: u64) {
        self.seen = Some(Seen {
            microwatts,
            at_ns,
            booked_ns: at_ns,
        });
        self.window = Window {
            before_ns: at_ns,
            after_ns: at_ns,
        };
        self.still = 0;
    }

    /// The update happened between the last look and this one.
    fn changed(&mut self, seen: Seen, at_ns: u64, microwatts: u64, period: u64) -> Quality {
        let window = Window {
            before_ns: seen.at_ns.max(seen.booked_ns),
            after_ns: at_ns,
        };
        let update_ns = window.middle_ns();
        let span = update_ns - seen.booked_ns;
        // Where looks are far apart, the new value still covers one period only.
        let new = span.min(overdue(period));
        self.integral.add_rectangle(span - new, seen.microwatts);
        self.integral.add_rectangle(new, microwatts);
        self.pace.changed(update_ns);
        self.seen = Some(Seen {
            microwatts,
            at_ns,
            booked_ns: update_ns,
        });
        self.window = window;
        self.still = 0;
        Quality::Measured
    }

    fn unchanged(&mut self, mut seen: Seen, at_ns: u64, period: u64) -> Quality {
        seen.at_ns = at_ns;
        let waited = at_ns.saturating_sub(seen.booked_ns);
        if waited < overdue(period) {
            self.seen = Some(seen);
            return self.stood_still();
        }
        let updates = 1 + (waited - overdue(period)) / period;
        let span = updates.saturating_mul(period);
        self.integral.add_rectangle(span, seen.microwatts);
        seen.booked_ns += span;
        self.window = Window {
            before_ns: seen.booked_ns,
            after_ns: seen.booked_ns,
        };
        self.seen = Some(seen);
        self.still = 0;
        Quality::Measured
    }

    fn stood_still(&mut self) -> Quality {
        self.still = self.still.saturating_add(1);
        Quality::Still(self.still)
    }

    fn period_ns(&self) -> u64 {
        self.pace.period_ns().unwrap_or(self.prior_ns).max(1)
    }
}

impl Learning {
    fn look(&mut self, at_ns: u64, microwatts: u64) {
        if let Some((earlier_ns, earlier)) = self.looks.last().copied() {
            if at_ns <= earlier_ns {
                return;
            }
            if microwatts != earlier {
                self.pace.changed(earlier_ns / 2 + at_ns / 2);
            }
        }
        self.looks.push((at_ns, microwatts));
    }

    fn is_done_by(&self, at_ns: u64) -> bool {
        let since = |look: Option<&(u64, u64)>| look.map_or(0, |look| at_ns.saturating_sub(look.0));
        self.pace.period_ns().is_some()
            || since(self.looks.first()) > LONGEST_LEARNING_NS
            || since(self.looks.last()) > LONGEST_GAP_NS
    }
}

/// What to say of two steps that are told as one.
fn worse(one: Quality, other: Quality) -> Quality {
    match (one, other) {
        (Quality::Reset, _) | (_, Quality::Reset) => Quality::Reset,
        (Quality::Still(_), _) => other,
        _ => Quality::Measured,
    }
}

/// An update later than this brought what was there before.
fn overdue(period: u64) -> u64 {
    period.saturating_add(period / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::integral::MOST_MICROWATTS;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    /// A machine whose power jumps and drifts, in W at a ms.
    fn truth(ms: u64) -> f64 {
        let jump = [180.0, 420.0, 250.0, 610.0][(ms / 37_000 % 4) as usize];
        jump + 40.0 * (ms as f64 / 9_000.0).sin()
    }

    /// Reads a controller that publishes the mean of each `step_ms`, in whole watts, every
    /// `poll_ms` or so. Returns the error of the total against the truth, up to the last booking.
    fn error_of(step_ms: u64, poll_ms: u64, phase_ms: u64, power: impl Fn(u64) -> f64) -> f64 {
        let published = |ms: u64| {
            let update = ms.saturating_sub(phase_ms) / step_ms * step_ms + phase_ms;
            let from = update.saturating_sub(step_ms);
            let every: Vec<f64> = (from..update).step_by(20).map(&power).collect();
            let mean = every.iter().sum::<f64>() / every.len().max(1) as f64;
            (mean.round() * 1e6) as u64
        };
        let mut slow = Slow::new();
        let start = step_ms + phase_ms;
        let mut at = start;
        let mut poll = 0;
        while at < start + 600_000 {
            slow.observe(at * MS, published(at));
            poll += 1;
            // Jitter of a third of the period, the same in each run.
            at += poll_ms + poll * 7919 % (poll_ms / 3).max(1);
        }
        let end = slow.window().middle_ns() / MS;
        let expected: f64 = (start..end).step_by(20).map(&power).sum::<f64>() / 50.0;
        (slow.total() as f64 / 1e6 / expected - 1.0).abs()
    }

    #[test]
    fn ten_minutes_at_ten_second_steps_are_within_one_percent() {
        for phase in [0, 1_300, 4_999, 8_700] {
            for poll in [500, 1_000, 2_000] {
                let error = error_of(10_000, poll, phase, truth);
                assert!(error < 0.01, "phase {phase} poll {poll}: {error}");
            }
        }
    }

    #[test]
    fn other_steps_and_loads_are_within_one_percent_too() {
        for step in [1_000, 3_000, 20_000, 60_000] {
            let error = error_of(step, 1_000, 700, truth);
            assert!(error < 0.01, "step {step}: {error}");
        }
        let error = error_of(10_000, 1_000, 0, |_| 301.4);
        assert!(error < 0.01, "steady: {error}");
        let error = error_of(10_000, 1_000, 0, |ms| 100.0 + ms as f64 / 2_000.0);
        assert!(error < 0.01, "ramp: {error}");
    }

    #[test]
    fn the_period_is_learned() {
        let mut slow = Slow::with_period(Duration::from_secs(10));
        for second in 0..60 {
            slow.observe(second * SECOND, 100_000_000 + second / 4);
        }
        assert_eq!(slow.period(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_value_covers_the_time_before_it_and_nothing_is_booked_in_between() {
        let mut slow = Slow::with_period(Duration::from_secs(10));
        slow.observe(0, 100_000_000);
        for second in 1..10 {
            let quality = slow.observe(second * SECOND, 100_000_000);
            assert_eq!(quality, Quality::Still(second as u32));
        }
        assert_eq!(slow.total(), 0);
        assert_eq!(slow.observe(11 * SECOND, 300_000_000), Quality::Measured);
        // The update lies between the looks at 9 s and 11 s.
        assert_eq!(slow.total(), 300_000_000 * 10);
    }

    #[test]
    fn a_value_that_stays_for_long_does_not_make_the_next_one_cover_it() {
        let mut slow = Slow::with_period(Duration::from_secs(10));
        for second in 0..600 {
            slow.observe(second * SECOND, 100_000_000);
        }
        slow.observe(600 * SECOND, 900_000_000);
        let joules = slow.total() / 1_000_000;
        assert!((60_000..=60_000 + 15 * 800).contains(&joules), "{joules}");
    }

    #[test]
    fn a_controller_that_was_away_is_not_guessed_at() {
        let mut slow = Slow::with_period(Duration::from_secs(10));
        slow.observe(0, 100_000_000);
        assert_eq!(slow.observe(300 * SECOND, 100_000_000), Quality::Reset);
        assert_eq!(slow.total(), 0);
    }

    proptest! {
        #[test]
        fn no_sequence_lowers_the_total_or_passes_the_highest_power(
            prior in proptest::option::of(0u64..120),
            looks in proptest::collection::vec((0..40 * SECOND, 0..=MOST_MICROWATTS), 0..60),
        ) {
            let known = |prior| Slow::with_period(Duration::from_secs(prior));
            let mut slow = prior.map_or_else(Slow::new, known);
            let (mut now, mut before, mut window) = (0, 0, 0);
            for (step, microwatts) in looks {
                now += step;
                slow.observe(now, microwatts);
                prop_assert!(slow.total() >= before);
                prop_assert!(slow.window().middle_ns() >= window);
                prop_assert!(slow.window().middle_ns() <= now);
                (before, window) = (slow.total(), slow.window().middle_ns());
            }
            let most = u128::from(MOST_MICROWATTS) * u128::from(now) / u128::from(SECOND);
            prop_assert!(u128::from(slow.total()) <= most);
        }
    }
}
