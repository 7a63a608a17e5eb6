// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The line through the bins; the formula is told in the module above.

use super::{
    BINS,
    bin::{Bin, Sample},
};

/// The prior's slope over its intercept: full load draws three times idle.
const PRIOR_SLOPE: f64 = 2.0;

/// The prior's standard deviation, in its own slopes. Wide: it is there for when nothing else is.
const PRIOR_WIDTH: f64 = 3.0;

/// Full load draws no more than nine times idle: the leanest family of eco-meter's model draws
/// seven times. It bounds what a straight line makes of a curved truth.
const STEEPEST_SLOPE: f64 = 8.0;

/// A meter's noise on a sample of one second.
const NOISE: f64 = 0.02;

/// How far idle power wanders in an hour and in any time, as a share of it.
const DRIFT_PER_HOUR: f64 = 0.05;
const MOST_DRIFT: f64 = 0.2;

/// Below this utilisation a bin tells idle power, and how fresh that knowledge is.
const NEAR_IDLE_SHARE: f64 = 0.1;

/// How much workloads differ in W per CPU, before it is known: half of the slope. Counts as
/// much as one bin's distance from the line.
const SPREAD: f64 = 0.5;
const LEAST_SPREAD: f64 = 0.05;

/// The same for what runs on a quiet machine: timers and daemons, much the same all the time.
const NEAR_IDLE_SPREAD: f64 = 0.1;

/// At this utilisation a bin shows idle power itself; no line is needed.
const QUIET_SHARE: f64 = 0.05;

/// An intercept and its slope.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    /// W at no utilisation.
    pub(super) idle: f64,
    /// W per unit of utilisation.
    pub(super) slope: f64,
    /// Whether the bins decided, rather than the prior.
    pub(super) is_learned: bool,
}

/// What a single sample says, by the prior alone.
pub(super) fn prior(sample: Sample) -> Fit {
    let idle = sample.watts / (1.0 + PRIOR_SLOPE * sample.share);
    let is_learned = sample.share < QUIET_SHARE;
    Fit {
        idle,
        slope: PRIOR_SLOPE * idle,
        is_learned,
    }
}

/// The line through the bins; `None` where all are empty.
pub(super) fn line(bins: &[Bin; BINS]) -> Option<Fit> {
    let fresh = freshest_near_idle(bins);
    let lowest = bins.iter().find(|bin| bin.mean.seconds > 0.0)?.mean;
    let guess = prior(lowest);
    let scale = guess.slope;
    let first = through(filled(bins), fresh, SPREAD * scale, prior_row(scale));
    let rough = first.solve().unwrap_or((guess.idle, scale));
    let spread = spread(bins, rough, scale);
    let all = through(filled(bins), fresh, spread * scale, prior_row(scale));
    let (mut idle, slope) = all.solve().unwrap_or(rough);
    if is_near_idle(&lowest) {
        let near = filled(bins).filter(|bin| is_near_idle(&bin.mean));
        // As if one workload ran there all the time, whose slope is unlike the whole line's.
        let row = Row {
            idle: 0.0,
            slope: 1.0,
            watts: slope,
            deviation: SPREAD * scale,
        };
        let near = through(near, fresh, NEAR_IDLE_SPREAD * scale, row);
        idle = near.solve().map_or(idle, |(idle, _)| idle);
    }
    let least = lowest.watts / (1.0 + STEEPEST_SLOPE * lowest.share);
    let most = filled(bins)
        .map(|bin| bin.mean.watts + drift(bin, fresh).sqrt())
        .fold(f64::INFINITY, f64::min);
    let is_learned = guess.is_learned || all.rows_outweigh(prior_row(scale));
    Some(Fit {
        idle: idle.max(least).min(most),
        slope,
        is_learned,
    })
}

fn is_near_idle(mean: &Sample) -> bool {
    mean.share < NEAR_IDLE_SHARE
}

fn filled(bins: &[Bin; BINS]) -> impl Iterator<Item = &Bin> {
    bins.iter().filter(|bin| bin.mean.seconds > 0.0)
}

/// When idle power, or nearly, was last seen.
fn freshest_near_idle(bins: &[Bin; BINS]) -> f64 {
    filled(bins)
        .filter(|bin| is_near_idle(&bin.mean))
        .map(|bin| bin.moved)
        .fold(0.0, f64::max)
}

/// The variance, in W², of what a bin knew having drifted until `fresh`.
fn drift(bin: &Bin, fresh: f64) -> f64 {
    let hours = (fresh - bin.moved).max(0.0) / 3_600.0;
    let share = (DRIFT_PER_HOUR * DRIFT_PER_HOUR * hours).min(MOST_DRIFT * MOST_DRIFT);
    share * bin.mean.watts * bin.mean.watts
}

/// How much workloads differ, in slopes, from how far the bins lie off a line.
fn spread(bins: &[Bin; BINS], (idle, slope): (f64, f64), scale: f64) -> f64 {
    let (mut sum, mut freedom) = (SPREAD * SPREAD, 1.0 - 2.0);
    for bin in filled(bins) {
        let reach = (scale * bin.mean.share).max(f64::MIN_POSITIVE);
        let off = (bin.mean.watts - idle - slope * bin.mean.share) / reach;
        // A quiet bin is off by noise, not by workload: near no utilisation this says nothing.
        if bin.mean.share >= QUIET_SHARE {
            sum += (off * off).min(1.0);
        }
        freedom += 1.0;
    }
    (sum / f64::max(freedom, 1.0)).sqrt().max(LEAST_SPREAD)
}

/// The least-squares problem of a line through `bins` and one more row, with workloads that
/// differ by `spread` W per unit of utilisation.
fn through<'a>(
    bins: impl Iterator<Item = &'a Bin>,
    fresh: f64,
    spread: f64,
    row: Row,
) -> Equations {
    let mut equations = Equations::default();
    for bin in bins {
        let Sample {
            share,
            watts,
            seconds,
        } = bin.mean;
        let noise = NOISE * NOISE * watts * watts / seconds;
        let variance = noise + (spread * share).powi(2) + drift(bin, fresh);
        equations.add(Row {
            idle: 1.0,
            slope: share,
            watts,
            deviation: variance.sqrt(),
        });
    }
    equations.add(row);
    equations
}

/// `slope = 2 · idle`.
fn prior_row(scale: f64) -> Row {
    Row {
        idle: -PRIOR_SLOPE,
        slope: 1.0,
        watts: 0.0,
        deviation: PRIOR_WIDTH * scale,
    }
}

/// `idle · a + slope · s = watts ± deviation`.
#[derive(Clone, Copy, Debug)]
struct Row {
    idle: f64,
    slope: f64,
    watts: f64,
    deviation: f64,
}

impl Row {
    fn weight(&self) -> f64 {
        1.0 / (self.deviation * self.deviation).max(f64::MIN_POSITIVE)
    }
}

/// The normal equations of a weighted least-squares problem in intercept and slope.
#[derive(Debug, Default)]
struct Equations {
    idle_idle: f64,
    idle_slope: f64,
    slope_slope: f64,
    idle_watts: f64,
    slope_watts: f64,
}

impl Equations {
    fn add(&mut self, row: Row) {
        let weight = row.weight();
        self.idle_idle += weight * row.idle * row.idle;
        self.idle_slope += weight * row.idle * row.slope;
        self.slope_slope += weight * row.slope * row.slope;
        self.idle_watts += weight * row.idle * row.watts;
        self.slope_watts += weight * row.slope * row.watts;
    }

    /// Intercept and slope; `None` where numbers are too extreme for an answer.
    fn solve(&self) -> Option<(f64, f64)> {
        let determinant = self.idle_idle * self.slope_slope - self.idle_slope * self.idle_slope;
        let idle = self.idle_watts * self.slope_slope - self.slope_watts * self.idle_slope;
        let slope = self.slope_watts * self.idle_idle - self.idle_watts * self.idle_slope;
        let (idle, slope) = (idle / determinant, slope / determinant);
        (determinant > 0.0 && idle.is_finite() && slope.is_finite()).then_some((idle, slope))
    }

    /// Whether the rows but `row`, which is one of them, know more of the intercept than it
    /// does: both as information on it once the slope is left free.
    fn rows_outweigh(&self, row: Row) -> bool {
        let weight = row.weight();
        let idle_idle = self.idle_idle - weight * row.idle * row.idle;
        let idle_slope = self.idle_slope - weight * row.idle * row.slope;
        let slope_slope = self.slope_slope - weight * row.slope * row.slope;
        let tilt = idle_slope / slope_slope;
        idle_idle - idle_slope * tilt > weight * (row.idle - row.slope * tilt).powi(2)
    }
}
