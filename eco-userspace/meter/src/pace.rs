// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How often a source brings a new value, learned from watching it. Pure.

use std::{collections::VecDeque, time::Duration};

/// So many gaps are remembered: a source that changes its pace is followed soon.
const REMEMBERED: usize = 16;

/// Fewer gaps than this tell nothing.
const FEWEST: usize = 3;

/// The update period of a source.
///
/// A value that comes out the same twice hides an update, so a gap between two changes is the
/// period or a multiple of it: the period is what the short gaps agree on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    changed_ns: Option<u64>,
    gaps: VecDeque<u64>,
}

impl Pace {
    /// The value was another at `at_ns`.
    pub(crate) fn changed(&mut self, at_ns: u64) {
        if let Some(earlier) = self.changed_ns.replace(at_ns) {
            if self.gaps.len() == REMEMBERED {
                self.gaps.pop_front();
            }
            self.gaps.push_back(at_ns.saturating_sub(earlier));
        }
    }

    /// The source was away: the gap to its next change tells nothing.
    pub(crate) fn interrupted(&mut self) {
        self.changed_ns = None;
    }

    /// The period in ns, once a few changes were seen.
    pub(crate) fn period_ns(&self) -> Option<u64> {
        if self.gaps.len() < FEWEST {
            return None;
        }
        let mut gaps: Vec<u64> = self.gaps.iter().copied().collect();
        gaps.sort_unstable();
        // Not the very shortest: one late read makes the gap after it short.
        let short = gaps[gaps.len() / 4];
        let single: Vec<u64> = gaps
            .into_iter()
            .filter(|gap| (short / 3 * 2..=short / 2 * 3).contains(gap))
            .collect();
        single.get(single.len() / 2).copied().filter(|gap| *gap > 0)
    }

    /// The shortest gap seen: the best guess while there are too few of them.
    pub(crate) fn shortest_ns(&self) -> Option<u64> {
        self.gaps.iter().copied().min().filter(|gap| *gap > 0)
    }

    /// The period, for people.
    pub(crate) fn period(&self) -> Option<Duration> {
        self.period_ns().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_value_that_came_out_the_same_does_not_double_the_period() {
        let mut pace = Pace::default();
        for second in [0, 10, 20, 40, 50, 80, 90, 100, 120] {
            pace.changed(second * SECOND);
        }
        assert_eq!(pace.period(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_late_read_does_not_mislead() {
        let mut pace = Pace::default();
        for second in [0, 10, 20, 34, 40, 50, 60] {
            pace.changed(second * SECOND);
        }
        assert_eq!(pace.period(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn nothing_is_known_before_a_few_changes() {
        let mut pace = Pace::default();
        for second in 0..3 {
            pace.changed(second * SECOND);
            assert_eq!(pace.period(), None);
        }
        pace.changed(3 * SECOND);
        assert_eq!(pace.period(), Some(Duration::from_secs(1)));
    }
}
