// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of a meter's power is idle: the intercept of power against utilisation.
//!
//! Neither the smallest power seen (a node that is never idle has none) nor the power times what
//! is not utilised (that vanishes under load). Samples are kept as means in a few *bins* of
//! utilisation `u` (busy CPUs over all), and a line `a + s·u` is fitted through the means by
//! weighted least squares; `a` is the idle power. A bin with mean power `p` weighs `1/variance`:
//!
//! ```text
//! variance = (2 % · p)² / seconds                the meter's noise, which averages out
//!          + (h · s₀ · u)²                       a CPU second costs what the workload makes it
//!          + (5 % · p)² · hours                  fans and temperature drifted meanwhile
//! ```
//!
//! `s₀` is the slope that the prior (below) gives the lowest bin. The hours, up to 16, are those
//! by which a bin is older than the newest one near idle: all of them being old does not make
//! the busy ones better. The middle term does not average out, so a bin near idle outweighs any
//! number of hours under load, and decides where the truth is a curve. `h` starts at ½ and is
//! then learned from how far the bins lie off the line: where they lie on it, as on a node that
//! is never idle but linear, the line is trusted far below its lowest bin.
//!
//! Below 10 % utilisation the line has a slope of its own, `s ± s₀/2`: near idle the same few
//! daemons run, unlike the load, and the intercept is read off their line.
//!
//! One more, weak row says `s = 2·a`: the *prior*. It decides only where utilisation has never
//! varied; then `a = p / (1 + 2·u)`. Two, because idle power is about a third of full power on
//! a server (SPECpower_ssj2008: 14 to 43 % over the families of eco-meter's model).
//!
//! Outliers: five samples of a bin are folded into it at a time, without the one farthest off
//! the line on either side, the others clipped to 10 % of the bin's mean (the first time only
//! their median is taken). A power that is zero, negative, undefined or above 100 kW is no sample.

mod bin;
mod fit;

use std::time::Duration;

use eco_meter::Watts;
use serde::{Deserialize, Serialize};

use self::bin::{Bin, Sample};

/// Upper edges of the bins but the last, as shares of all CPUs. Fine where idle is near: there
/// the intercept is decided.
const EDGES: [f64; BINS - 1] = [
    0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
];
const BINS: usize = 14;

/// A sample counts for no longer than this: the agent's longest tick.
const LONGEST_SECONDS: f64 = 60.0;

/// No meter of one machine shows more; it is garbage.
const MOST_WATTS: f64 = 100_000.0;

/// The idle power of one meter, learned from its power and the CPUs' utilisation.
///
/// Serialise it to remember it across restarts. About 2 kB; allocates nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Baseline {
    cpus: u32,
    /// Seconds observed in all.
    elapsed: f64,
    /// The last fit's slope in W per unit of utilisation, by which outliers are told.
    slope: f64,
    bins: [Bin; BINS],
}

/// An idle power and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Idle {
    /// The power; finite and not negative.
    pub watts: Watts,
    /// How it is known.
    pub basis: Basis,
}

/// How an idle power is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Mostly from what servers in general draw when idle: utilisation has hardly varied yet.
    Prior,
    /// From this meter's own readings.
    Learned,
}

impl Baseline {
    /// Knows nothing yet of a machine with `cpus` CPUs online.
    #[must_use]
    pub fn new(cpus: u32) -> Self {
        Self {
            cpus: cpus.max(1),
            elapsed: 0.0,
            slope: 0.0,
            bins: Default::default(),
        }
    }

    /// The CPUs that it was made for. A remembered baseline of another number is of no use: its
    /// utilisations mean something else.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Takes the mean `power` over `span`, in which `busy_cpus` CPUs were busy on average.
    ///
    /// Whatever is no power, no utilisation or no time is passed over.
    pub fn observe(&mut self, power: Watts, busy_cpus: f64, span: Duration) {
        let seconds = span.as_secs_f64().min(LONGEST_SECONDS);
        let watts = power.0;
        let is_power = watts > 0.0 && watts <= MOST_WATTS;
        if !is_power || !busy_cpus.is_finite() || busy_cpus < 0.0 || seconds <= 0.0 {
            return;
        }
        let share = (busy_cpus / f64::from(self.cpus)).min(1.0);
        self.elapsed += seconds;
        let index = EDGES
            .iter()
            .position(|edge| share < *edge)
            .unwrap_or(BINS - 1);
        if self.bins[index].push(
            Sample {
                share,
                watts,
                seconds,
            },
            self.slope,
            self.elapsed,
        ) && let Some(fit) = fit::line(&self.bins)
        {
            self.slope = fit.slope;
        }
    }

    /// The idle power as far as it is known; `None` before the first sample.
    #[must_use]
    pub fn idle(&self) -> Option<Idle> {
        let fit = fit::line(&self.bins).or_else(|| self.first_guess())?;
        let basis = if fit.is_learned {
            Basis::Learned
        } else {
            Basis::Prior
        };
        Some(Idle {
            watts: Watts(fit.idle),
            basis,
        })
    }

    /// From the median of the least utilised samples, before any bin is filled.
    fn first_guess(&self) -> Option<fit::Fit> {
        self.bins
            .iter()
            .find_map(Bin::waiting_median)
            .map(fit::prior)
    }
}

/// A baseline as it was written, perhaps by another version or hand.
#[derive(Deserialize)]
struct Stored {
    cpus: u32,
    elapsed: f64,
    slope: f64,
    bins: [Bin; BINS],
}

impl From<Stored> for Baseline {
    fn from(stored: Stored) -> Self {
        let mut baseline = Self::new(stored.cpus);
        if stored.elapsed.is_finite() && stored.elapsed >= 0.0 && stored.slope.is_finite() {
            baseline.elapsed = stored.elapsed;
            baseline.slope = stored.slope;
            baseline.bins = stored.bins.map(|bin| bin.sound(stored.elapsed));
        }
        baseline
    }
}

#[cfg(test)]
mod tests;
