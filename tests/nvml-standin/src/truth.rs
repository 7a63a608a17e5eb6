// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the script comes to: energy and utilisation at any moment, by integrating it.

use crate::scenario::{Gpu, Process};

/// Seconds that a process is on the GPU within `[from, to]`.
fn overlap(process: &Process, from: f64, to: f64) -> f64 {
    (process.end.min(to) - process.start.max(from)).max(0.0)
}

/// What a process draws in `[from, to]` on top of idle, in joules.
#[must_use]
pub fn process_joules(process: &Process, from: f64, to: f64) -> f64 {
    process.watts * overlap(process, from, to)
}

/// What a GPU draws in `[from, to]`, in joules.
#[must_use]
pub fn joules(gpu: &Gpu, from: f64, to: f64) -> f64 {
    let used: f64 = gpu
        .process
        .iter()
        .map(|process| process_joules(process, from, to))
        .sum();
    gpu.idle_watts * (to - from) + used
}

/// Mean utilisation by a process in `[from, to]`, in whole percent, as the driver rounds.
pub(crate) fn percent(value: u32, process: &Process, from: f64, to: f64) -> u32 {
    (f64::from(value) * overlap(process, from, to) / (to - from)).round() as u32
}

/// SM utilisation of a MIG instance up to `seconds`, integrated: percent times seconds.
pub(crate) fn instance_percent_seconds(gpu: &Gpu, instance: u32, seconds: f64) -> f64 {
    gpu.process
        .iter()
        .filter(|process| process.gpu_instance == Some(instance))
        .map(|process| f64::from(process.sm) * overlap(process, 0.0, seconds))
        .sum()
}

/// The driver's sampling moments in `(after, now]` that it still knows, as numbers of periods.
pub(crate) fn passes(gpu: &Gpu, after: f64, now: f64) -> std::ops::RangeInclusive<u64> {
    let period = period(gpu);
    let last = (now / period) as u64;
    let kept = (last + 1).saturating_sub(gpu.samples_kept);
    let first = if after <= 0.0 {
        1
    } else {
        // A millionth: the caller's moment went through whole microseconds.
        ((after + 1e-6) / period) as u64 + 1
    };
    first.max(kept).max(1)..=last
}

/// Seconds between two samples of the driver's.
pub(crate) fn period(gpu: &Gpu) -> f64 {
    gpu.sample_ms.max(1) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn energy_is_idle_and_what_each_process_draws_while_it_is_there() {
        let text = "[[gpu]]\nidle_watts = 10.0\n[[gpu.process]]\npid = 1\nstart = 1.0\nend = 3.0\nwatts = 5.0";
        let gpu = &Scenario::parse(text).unwrap().gpu[0];
        assert_eq!(joules(gpu, 0.0, 1.0), 10.0);
        assert_eq!(joules(gpu, 0.0, 2.0), 25.0);
        assert_eq!(joules(gpu, 0.0, 10.0), 110.0);
    }

    #[test]
    fn a_driver_forgets_its_oldest_samples() {
        let text = "[[gpu]]\nidle_watts = 1.0\nsample_ms = 100\nsamples_kept = 3";
        let gpu = &Scenario::parse(text).unwrap().gpu[0];
        assert_eq!(passes(gpu, 0.05, 1.05), 8..=10);
        assert_eq!(passes(gpu, 0.9, 1.05), 10..=10);
        assert!(passes(gpu, 1.0, 1.05).is_empty());
    }
}
