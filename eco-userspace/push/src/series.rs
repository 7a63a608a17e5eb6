// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a receiver knows of each counter: its last value that was taken, and since when it runs.

use std::{collections::HashMap, hash::BuildHasher as _, hash::RandomState};

/// All counters that were shown of late. Some 40 bytes each.
#[derive(Debug)]
pub(crate) struct Series {
    known: HashMap<u64, Known>,
    hasher: RandomState,
    pass: u64,
    /// When the pass before this one was, in ns of Unix time.
    before_ns: u64,
    now_ns: u64,
    /// What this batch says, until it is taken.
    pending: Vec<(u64, Known)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    value: f64,
    start_ns: u64,
    at_ns: u64,
    pass: u64,
}

/// How far a counter has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    /// Since the value that was taken last; `None` where nothing is known of before.
    pub(crate) grown: Option<f64>,
    /// When that was.
    pub(crate) since_ns: u64,
    /// When it was zero, as far as is known.
    pub(crate) start_ns: u64,
}

impl Series {
    pub(crate) fn new(now_ns: u64) -> Self {
        Self {
            known: HashMap::new(),
            hasher: RandomState::new(),
            pass: 0,
            before_ns: now_ns,
            now_ns,
            pending: Vec::new(),
        }
    }

    /// All counters are about to be shown.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.pass += 1;
        self.before_ns = self.now_ns;
        self.now_ns = now_ns;
        self.pending.clear();
    }

    /// A counter is in the batch.
    pub(crate) fn show(&mut self, series: &str, value: f64) -> Progress {
        let key = self.hasher.hash_one(series);
        let known = self.known.get_mut(&key);
        let progress = match &known {
            Some(known) if value >= known.value => Progress {
                grown: Some(value - known.value),
                since_ns: known.at_ns,
                start_ns: known.start_ns,
            },
            // It was reset to zero in between.
            Some(known) => Progress {
                grown: Some(value),
                since_ns: known.at_ns,
                start_ns: known.at_ns,
            },
            // What comes later starts at zero; what is there from the beginning may be old.
            None => Progress {
                grown: (self.pass > 1).then_some(value),
                since_ns: self.before_ns,
                start_ns: self.before_ns,
            },
        };
        let next = Known {
            value,
            start_ns: progress.start_ns,
            at_ns: self.now_ns,
            pass: self.pass,
        };
        match known {
            // Where nothing is known of before, there is nothing that could get lost.
            None if self.pass == 1 => drop(self.known.insert(key, next)),
            Some(known) => {
                known.pass = self.pass;
                self.pending.push((key, next));
            }
            None => self.pending.push((key, next)),
        }
        progress
    }

    /// The batch was taken.
    pub(crate) fn taken(&mut self) {
        self.known.extend(self.pending.drain(..));
    }

    /// All batches of the pass were taken: who was not in any is gone.
    pub(crate) fn end(&mut self) {
        self.known.retain(|_, known| known.pass == self.pass);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_carried_by_the_next() {
        let mut series = Series::new(0);
        series.begin(1);
        assert_eq!(series.show("a", 100.0).grown, None, "history is not growth");
        series.begin(2);
        assert_eq!(series.show("a", 103.0).grown, Some(3.0));
        series.begin(3);
        let carried = series.show("a", 105.0);
        assert_eq!((carried.grown, carried.since_ns), (Some(5.0), 1));
        series.taken();
        series.end();
        series.begin(4);
        assert_eq!(series.show("a", 106.0).grown, Some(1.0));
    }

    #[test]
    fn a_counter_that_comes_later_counts_from_zero_and_so_does_one_that_was_reset() {
        let mut series = Series::new(0);
        series.begin(1);
        series.taken();
        series.begin(2);
        let new = series.show("b", 7.0);
        assert_eq!((new.grown, new.start_ns), (Some(7.0), 1));
        series.taken();
        series.end();
        series.begin(3);
        let reset = series.show("b", 2.0);
        assert_eq!((reset.grown, reset.start_ns), (Some(2.0), 2));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut series = Series::new(0);
        for pass in 1..1000 {
            series.begin(pass);
            series.show(&format!("pod {pass}"), 1.0);
            series.taken();
            series.end();
        }
        assert_eq!(series.known.len(), 1);
    }
}
