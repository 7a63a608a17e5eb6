// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long the agent's own steps take.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::api::Latency;

/// The longest that is told apart: a minute, in µs.
const LONGEST_US: u64 = 60_000_000;

/// A distribution of durations, in µs, to two digits.
#[derive(Debug)]
pub struct Distribution {
    histogram: Histogram<u32>,
    total: Duration,
}

impl Default for Distribution {
    fn default() -> Self {
        // The bounds are constants that hdrhistogram takes; an auto-sizing one is the same,
        // only with an allocation later.
        let fixed = Histogram::new_with_bounds(1, LONGEST_US, 2);
        let histogram = fixed
            .or_else(|_| Histogram::new(2))
            .unwrap_or_else(|_| unreachable!());
        Self {
            histogram,
            total: Duration::ZERO,
        }
    }
}

impl Distribution {
    /// Notes one.
    pub fn record(&mut self, took: Duration) {
        self.histogram
            .saturating_record(took.as_micros().clamp(1, LONGEST_US.into()) as u64);
        self.total += took;
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// How many took no longer than `bound`.
    #[must_use]
    pub fn within(&self, bound: Duration) -> u64 {
        self.histogram.count_between(0, bound.as_micros() as u64)
    }

    /// For the status page.
    #[must_use]
    pub fn summary(&self) -> Latency {
        let seconds = |us: u64| us as f64 / 1e6;
        Latency {
            count: self.count(),
            p50: seconds(self.histogram.value_at_quantile(0.5)),
            p99: seconds(self.histogram.value_at_quantile(0.99)),
            max: seconds(self.histogram.max()),
        }
    }
}

/// All that is timed.
#[derive(Debug, Default)]
pub struct Latencies {
    /// A whole tick.
    pub tick: Distribution,
    /// Reading one meter.
    pub meter: Distribution,
    /// Answering one scrape.
    pub scrape: Distribution,
    /// Keeping the counters.
    pub save: Distribution,
}

impl Latencies {
    /// Each by its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Distribution); 4] {
        [
            ("tick", &self.tick),
            ("meter", &self.meter),
            ("scrape", &self.scrape),
            ("save", &self.save),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_nothing_is_still_counted() {
        let mut distribution = Distribution::default();
        for took in [
            Duration::ZERO,
            Duration::from_millis(5),
            Duration::from_secs(4000),
        ] {
            distribution.record(took);
        }
        assert_eq!(distribution.count(), 3);
        assert_eq!(distribution.within(Duration::from_millis(10)), 2);
        assert!(distribution.summary().max >= 59.0);
    }
}
