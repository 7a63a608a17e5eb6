// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What one agent's counters showed of late: enough to tell how much they grew.
//!
//! This is no storage: it lives in memory, for minutes, and starts empty.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    query::{Family, Query, Reading},
    samples::Sample,
};

/// A series that was not seen for so many intervals has gone.
const MISSED: u32 = 3;

type Labels = Vec<String>;
type Points = VecDeque<(Instant, f64)>;

/// One agent's series.
#[derive(Debug)]
pub(super) struct History {
    families: HashMap<&'static str, HashMap<Labels, Points>>,
    interval: Duration,
    kept: Duration,
}

impl History {
    /// Nothing yet. A point comes each `interval`, and is kept so long.
    pub(super) fn new(interval: Duration, kept: Duration) -> Self {
        Self {
            families: HashMap::new(),
            interval,
            kept,
        }
    }

    /// Takes in what the agent showed at `now`, and forgets what is too old.
    pub(super) fn record(&mut self, samples: impl Iterator<Item = Sample>, now: Instant) {
        for sample in samples {
            let family = self.families.entry(sample.family.name).or_default();
            let points = family.entry(sample.labels).or_default();
            points.push_back((now, sample.value));
        }
        let kept = self.kept;
        for family in self.families.values_mut() {
            family.retain(|_, points| {
                while points.len() > 1 && is_older(points[1].0, now, kept) {
                    points.pop_front();
                }
                points
                    .back()
                    .is_some_and(|last| !is_older(last.0, now, kept))
            });
        }
    }

    /// Gives each series that passes, with its reading.
    pub(super) fn read(&self, query: &Query, now: Instant, mut each: impl FnMut(Labels, f64)) {
        let Some(family) = self.families.get(query.family.name) else {
            return;
        };
        for (labels, points) in family {
            let value_of = |label: &str| value_of(query.family, labels, label);
            if !query
                .matchers
                .iter()
                .all(|m| m.test.passes(value_of(m.label)))
            {
                continue;
            }
            if let Some(value) = self.reading(query.reading, points, now) {
                let by = query.by.iter().map(|label| value_of(label).to_owned());
                each(by.collect(), value);
            }
        }
    }

    fn reading(&self, reading: Reading, points: &Points, now: Instant) -> Option<f64> {
        let (window, per_second) = match reading {
            Reading::Last => {
                let (at, value) = *points.back()?;
                return (!is_older(at, now, self.interval * MISSED)).then_some(value);
            }
            Reading::Increase(window) => (window, false),
            Reading::Rate(window) => (window, true),
        };
        let inside = points.iter().filter(|(at, _)| !is_older(*at, now, window));
        let mut grown = 0.0;
        let mut first: Option<Instant> = None;
        let mut last: Option<(Instant, f64)> = None;
        for &(at, value) in inside {
            if let Some((_, before)) = last {
                // A counter that is lower than it was began anew at zero.
                grown += if value >= before {
                    value - before
                } else {
                    value
                };
            }
            first.get_or_insert(at);
            last = Some((at, value));
        }
        let span = last?.0.duration_since(first?).as_secs_f64();
        if span <= 0.0 {
            return None;
        }
        Some(if per_second { grown / span } else { grown })
    }
}

fn is_older(at: Instant, now: Instant, age: Duration) -> bool {
    now.duration_since(at) > age
}

fn value_of<'a>(family: &Family, labels: &'a [String], label: &str) -> &'a str {
    let slot = family.identity.iter().position(|known| *known == label);
    slot.and_then(|slot| labels.get(slot))
        .map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query::{Matcher, POD_CPU};

    const TICK: Duration = Duration::from_secs(5);

    fn sample(pod: &str, value: f64) -> Sample {
        Sample {
            family: &POD_CPU,
            labels: ["n", "ns", pod, "c", "u"].map(str::to_owned).into(),
            value,
        }
    }

    /// What pod `a` showed, a point each tick.
    fn seen(values: &[f64]) -> (History, Instant) {
        let mut history = History::new(TICK, TICK * 100);
        let mut now = Instant::now();
        for &value in values {
            now += TICK;
            history.record([sample("a", value)].into_iter(), now);
        }
        (history, now)
    }

    fn read(history: &History, reading: Reading, now: Instant) -> Vec<(Labels, f64)> {
        let query = Query {
            family: &POD_CPU,
            matchers: vec![Matcher::is("namespace", "ns")],
            by: vec!["pod"],
            reading,
        };
        let mut rows = Vec::new();
        history.read(&query, now, |labels, value| rows.push((labels, value)));
        rows
    }

    fn value(history: &History, reading: Reading, now: Instant) -> Option<f64> {
        read(history, reading, now).first().map(|row| row.1)
    }

    #[test]
    fn a_counter_that_began_anew_loses_nothing() {
        let (history, now) = seen(&[10.0, 14.0, 3.0, 5.0]);
        let all = Reading::Increase(TICK * 10);
        assert_eq!(value(&history, all, now), Some(9.0));
        assert_eq!(
            value(&history, Reading::Rate(TICK * 10), now),
            Some(9.0 / 15.0)
        );
        assert_eq!(value(&history, Reading::Last, now), Some(5.0));
    }

    #[test]
    fn a_window_holds_no_more_than_it_says() {
        let (history, now) = seen(&[0.0, 100.0, 101.0, 103.0]);
        assert_eq!(value(&history, Reading::Increase(TICK * 2), now), Some(3.0));
    }

    #[test]
    fn one_point_is_no_growth_and_an_old_one_no_last_value() {
        let (history, now) = seen(&[5.0]);
        assert_eq!(value(&history, Reading::Rate(TICK * 10), now), None);
        assert_eq!(value(&history, Reading::Last, now + TICK * 3), Some(5.0));
        assert_eq!(value(&history, Reading::Last, now + TICK * 4), None);
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut history = History::new(TICK, TICK * 4);
        let start = Instant::now();
        history.record([sample("gone", 1.0)].into_iter(), start);
        for tick in 1..20 {
            history.record([sample("a", 1.0)].into_iter(), start + TICK * tick);
        }
        let family = &history.families[POD_CPU.name];
        assert_eq!(family.len(), 1);
        assert!(family.values().all(|points| points.len() <= 6));
    }
}
