// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a job had used at which time: enough of it for the energy of any window since it began.
//!
//! Each tick is a point. The last ones are all there, of older ones every second, every fourth
//! and so on: so a day takes little more memory than a minute, and how exactly a time is known
//! is always the same part of how long ago it was.

use std::collections::VecDeque;

/// Points at one distance from each other. A time that is `t` ago is known to `t / 32`.
const PER_LEVEL: usize = 64;
/// At a tick of 100 ms this goes back for more than 800 years.
const MOST_LEVELS: usize = 32;

/// What a job had used by a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    /// In ns of Unix time.
    pub(crate) at_ns: u64,
    /// CPU time, in ns.
    pub(crate) cpu_ns: u64,
    /// Energy, in µJ; `None` where there is no meter.
    pub(crate) energy_uj: Option<u64>,
    /// Carbon, in g; `None` where no intensity was ever known.
    pub(crate) carbon_g: Option<f64>,
}

/// What was used in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Used {
    /// CPU time, in s.
    pub(crate) cpu_seconds: f64,
    /// Energy, in J; `None` where there is no meter.
    pub(crate) joules: Option<f64>,
    /// Carbon, in g; `None` where no intensity was ever known.
    pub(crate) grams: Option<f64>,
    /// How far apart the points are that its ends lie between, in s: within that what was used
    /// is taken to be even.
    pub(crate) resolution_seconds: f64,
}

/// The points of a job.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    first: Point,
    last: Point,
    /// The newest first; each at twice the distance of the one before it.
    levels: Vec<VecDeque<Point>>,
}

impl Trail {
    pub(crate) fn new(first: Point) -> Self {
        Self {
            first,
            last: first,
            levels: Vec::new(),
        }
    }

    /// The time of its last point.
    pub(crate) fn end_ns(&self) -> u64 {
        self.last.at_ns
    }

    /// The time of its first point.
    pub(crate) fn start_ns(&self) -> u64 {
        self.first.at_ns
    }

    /// Adds a point; while the clock has been set back, none.
    pub(crate) fn push(&mut self, point: Point) {
        if point.at_ns <= self.last.at_ns {
            return;
        }
        self.last = point;
        let mut next = Some(point);
        for level in 0..MOST_LEVELS {
            let Some(point) = next.take() else { return };
            if level == self.levels.len() {
                self.levels.push(VecDeque::new());
            }
            let Some(points) = self.levels.get_mut(level) else {
                return;
            };
            points.push_back(point);
            if points.len() > PER_LEVEL + 1 {
                points.pop_front();
                next = points.pop_front();
            }
        }
    }

    /// What was used from a time to a time, which must lie between the first point and the last.
    pub(crate) fn used(&self, start_ns: u64, end_ns: u64) -> Option<Used> {
        if start_ns < self.start_ns() || end_ns < start_ns || end_ns > self.end_ns() {
            return None;
        }
        let (from, to) = (self.at(start_ns), self.at(end_ns));
        let grown = |from: Option<f64>, to: Option<f64>| Some((to? - from.unwrap_or(0.0)).max(0.0));
        Some(Used {
            cpu_seconds: (to.cpu_ns - from.cpu_ns).max(0.0) / 1e9,
            joules: grown(from.energy_uj, to.energy_uj).map(|uj| uj / 1e6),
            grams: grown(from.carbon_g, to.carbon_g),
            resolution_seconds: from.gap_ns.max(to.gap_ns) as f64 / 1e9,
        })
    }

    /// What had been used by a time that is between the first point and the last.
    fn at(&self, ns: u64) -> Between {
        let mut after = self.last;
        let known = self.levels.iter().flat_map(|level| level.iter().rev());
        for point in known.chain([&self.first]) {
            if point.at_ns <= ns {
                return Between::of(point, &after, ns);
            }
            after = *point;
        }
        Between::of(&self.first, &after, ns)
    }
}

/// What had been used by a time between two points, as if it had been used evenly.
struct Between {
    cpu_ns: f64,
    energy_uj: Option<f64>,
    carbon_g: Option<f64>,
    gap_ns: u64,
}

impl Between {
    fn of(before: &Point, after: &Point, ns: u64) -> Self {
        let gap_ns = after.at_ns.saturating_sub(before.at_ns);
        let part = match gap_ns {
            0 => 0.0,
            gap => ns.saturating_sub(before.at_ns) as f64 / gap as f64,
        };
        let mix = |a: u64, b: u64| a as f64 + part * b.saturating_sub(a) as f64;
        let energy_uj = after.energy_uj;
        Self {
            cpu_ns: mix(before.cpu_ns, after.cpu_ns),
            energy_uj: energy_uj.map(|after| mix(before.energy_uj.unwrap_or(0), after)),
            carbon_g: after.carbon_g.map(|after| {
                let before = before.carbon_g.unwrap_or(0.0);
                before + part * (after - before)
            }),
            gap_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// 1 s a tick, and in second n as many joules as `watts(n)`.
    fn trail(seconds: u64, watts: impl Fn(u64) -> u64) -> Trail {
        let mut point = Point {
            at_ns: 1000 * SECOND,
            energy_uj: Some(0),
            carbon_g: Some(0.0),
            ..Point::default()
        };
        let mut trail = Trail::new(point);
        for second in 0..seconds {
            point.at_ns += SECOND;
            point.cpu_ns += SECOND / 2;
            point.energy_uj = point.energy_uj.map(|uj| uj + watts(second) * 1_000_000);
            point.carbon_g = point.carbon_g.map(|grams| grams + 0.25);
            trail.push(point);
        }
        trail
    }

    fn joules(trail: &Trail, from: u64, to: u64) -> f64 {
        let used = trail.used((1000 + from) * SECOND, (1000 + to) * SECOND);
        used.unwrap().joules.unwrap()
    }

    #[test]
    fn windows_that_touch_add_up_to_the_whole() {
        let trail = trail(5000, |second| 10 + second % 7);
        let whole = joules(&trail, 0, 5000);
        let parts: f64 = (0..50)
            .map(|n| joules(&trail, 100 * n, 100 * (n + 1)))
            .sum();
        assert!((whole - parts).abs() < 1e-6 * whole, "{whole} {parts}");
        let used = trail.used(1000 * SECOND, 1008 * SECOND).unwrap();
        assert_eq!(used.grams, Some(2.0));
        assert!((used.cpu_seconds - 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_just_now_is_exact_and_less_than_a_tick_is_a_part_of_it() {
        let trail = trail(10_000, |second| if second >= 9_950 { 100 } else { 10 });
        assert_eq!(joules(&trail, 9_950, 10_000), 5000.0);
        let from = 10_998 * SECOND + SECOND / 4;
        let used = trail.used(from, from + SECOND / 2).unwrap();
        assert!((used.joules.unwrap() - 50.0).abs() < 1e-6, "{used:?}");
        assert_eq!(used.resolution_seconds, 1.0);
    }

    #[test]
    fn a_long_life_takes_little_memory_and_stays_known_in_proportion() {
        let trail = trail(200_000, |_| 10);
        let points: usize = trail.levels.iter().map(VecDeque::len).sum();
        assert!(points < 900, "{points}");
        for ago in [100, 1000, 10_000, 100_000] {
            let end = 201_000 * SECOND;
            let used = trail.used(end - ago * SECOND, end).unwrap();
            assert!(used.resolution_seconds <= (ago as f64 / 30.0).max(1.0));
            assert!((used.joules.unwrap() / (10 * ago) as f64 - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn times_outside_of_it_and_a_clock_that_was_set_back_make_nothing_up() {
        let mut trail = trail(10, |_| 10);
        for (from, to) in [(999, 1005), (1005, 1011), (1005, 1004)] {
            assert_eq!(trail.used(from * SECOND, to * SECOND), None);
        }
        trail.push(Point::default());
        assert_eq!(trail.end_ns(), 1010 * SECOND);
        assert_eq!(joules(&trail, 0, 10), 100.0);
        let short = Trail::new(Point::default());
        assert_eq!(
            short.used(0, 0).unwrap().joules,
            None,
            "no meter, no joules"
        );
    }
}
