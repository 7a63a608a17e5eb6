// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mean of the samples at about one utilisation, robust against single odd ones.

use serde::{Deserialize, Serialize};

use super::MOST_WATTS;

/// Samples that are folded into the mean together. Odd, so that there is a median.
const GROUP: usize = 5;

/// The mean is over about this many seconds in this bin: long against the noise, short against
/// fans and temperature.
const MEMORY_SECONDS: f64 = 300.0;

/// What a bin held loses its weight against new samples in about this time away...
const ABSENCE_SECONDS: f64 = 1_800.0;

/// ...but for this much.
const LEAST_SECONDS: f64 = 10.0;

/// A sample moves the mean no more than if it lay this far from the line, as a share of the mean.
const CLIP: f64 = 0.1;

/// One observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Busy CPUs over all, 0 to 1.
    pub(super) share: f64,
    pub(super) watts: f64,
    pub(super) seconds: f64,
}

/// A weighted mean of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bin {
    /// The mean, weighing `seconds`.
    pub(super) mean: Sample,
    /// When the mean last moved, in seconds observed by the baseline.
    pub(super) moved: f64,
    /// Samples that wait for their group to be full.
    group: [Sample; GROUP],
    waiting: usize,
}

impl Bin {
    /// Takes a sample; `true` when it filled a group and the mean moved. `slope` is the line's,
    /// in W per unit of utilisation.
    pub(super) fn push(&mut self, sample: Sample, slope: f64, now: f64) -> bool {
        self.group[self.waiting] = sample;
        self.waiting += 1;
        if self.waiting < GROUP {
            return false;
        }
        self.waiting = 0;
        let mut group = self.group;
        // Off the line rather than by power alone: within a bin power rises with utilisation.
        let off_line = |sample: &Sample| sample.watts - slope * sample.share;
        group.sort_unstable_by(|a, b| off_line(a).total_cmp(&off_line(b)));
        let seconds: f64 = group.iter().map(|sample| sample.seconds).sum();
        if self.mean.seconds > 0.0 {
            let kept = (-(now - self.moved).max(0.0) / ABSENCE_SECONDS).exp();
            let least = self.mean.seconds.min(LEAST_SECONDS);
            self.mean.seconds = (self.mean.seconds * kept).max(least);
            let kept = &group[1..GROUP - 1];
            for sample in kept {
                self.fold(
                    Sample {
                        seconds: seconds / kept.len() as f64,
                        ..*sample
                    },
                    slope,
                );
            }
        } else {
            self.mean = Sample {
                seconds,
                ..group[GROUP / 2]
            };
        }
        self.moved = now;
        true
    }

    /// The median of the samples that wait, for a bin that has no mean yet.
    pub(super) fn waiting_median(&self) -> Option<Sample> {
        let mut group = self.group;
        let waiting = group.get_mut(..self.waiting)?;
        waiting.sort_unstable_by(|a, b| a.watts.total_cmp(&b.watts));
        waiting.get(waiting.len().checked_sub(1)? / 2).copied()
    }

    /// This bin as it came from a file, or an empty one if no bin can be like this.
    pub(super) fn sound(self, elapsed: f64) -> Self {
        let is_sound = self.mean.is_sound()
            && self.waiting < GROUP
            && self.group.iter().all(Sample::is_sound)
            && (0.0..=elapsed).contains(&self.moved);
        if is_sound { self } else { Self::default() }
    }

    fn fold(&mut self, sample: Sample, slope: f64) {
        let mean = &mut self.mean;
        let expected = slope * (sample.share - mean.share);
        let most = CLIP * mean.watts;
        let off = (sample.watts - mean.watts - expected).clamp(-most, most) + expected;
        let kept = mean.seconds * (-sample.seconds / MEMORY_SECONDS).exp();
        mean.seconds = kept + sample.seconds;
        let gain = sample.seconds / mean.seconds;
        mean.watts = (mean.watts + gain * off).max(0.0);
        mean.share += gain * (sample.share - mean.share);
    }
}

impl Sample {
    fn is_sound(&self) -> bool {
        (0.0..=1.0).contains(&self.share)
            && (0.0..=MOST_WATTS).contains(&self.watts)
            && (0.0..=1e6).contains(&self.seconds)
    }
}
