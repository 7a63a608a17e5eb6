// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One step of the load: what the CPUs did, and what a true meter showed meanwhile.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eco_meter::{
    Domain, Finding, Found, Load, Meter, Quality, Reading, Source, model::activity::Activity,
};

use super::load::{Busy, Step};
use crate::exit::Failure;

/// Meters that add power up by themselves need to be read this often.
const POLL: Duration = Duration::from_millis(200);

/// Clocks and supplies follow a change of load within this, at most. Our choice.
const MOST_SETTLING: Duration = Duration::from_secs(5);

/// The meters of this machine that are no estimate, none inside another.
#[derive(Default)]
pub(super) struct Meters {
    meters: Vec<Box<dyn Meter>>,
}

/// What happened in a step.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// From when to when, Unix time in s.
    pub(super) span: (f64, f64),
    pub(super) busy_cpus: f64,
    pub(super) active_cores: f64,
    pub(super) frequency: f64,
    /// What the meters showed, W; 0 without meters.
    pub(super) watts: f64,
}

impl Meters {
    /// The widest true meters: the board, else psys, else packages and memory. A battery is
    /// silent on mains and is left out.
    pub(super) fn choose(found: Found, only_rapl: bool) -> Result<Self, Vec<Finding>> {
        let mut meters = found.meters;
        meters.retain(|meter| match meter.descriptor().source {
            Source::Battery => false,
            Source::RaplPerf | Source::RaplPowercap => true,
            source => !only_rapl && !source.is_estimate(),
        });
        let nests: [&[Domain]; 3] = [
            &[Domain::Board],
            &[Domain::Psys],
            &[Domain::Package, Domain::Dram],
        ];
        let has = |nest: &&&[Domain]| {
            let mut all = meters.iter();
            all.any(|meter| meter.descriptor().domain == nest[0])
        };
        let Some(nest) = nests.iter().find(has).copied() else {
            return Err(found.findings);
        };
        meters.retain(|meter| nest.contains(&meter.descriptor().domain));
        Ok(Self { meters })
    }

    /// For people: `rapl-perf: package-0, package-0/dram`.
    pub(super) fn describe(&self) -> String {
        let names = self.meters.iter().map(|meter| &meter.descriptor().name);
        let names: Vec<&str> = names.map(String::as_str).collect();
        let source = self
            .meters
            .first()
            .map_or("", |meter| meter.descriptor().source.label());
        format!("{source}: {}", names.join(", "))
    }

    /// The slowest meter's period as observed, if it is too long for steps of this length.
    pub(super) fn too_slow_for(&self, step: Duration) -> Option<Duration> {
        let periods = self.meters.iter().filter_map(|meter| meter.update_period());
        periods.max().filter(|period| *period * 4 > step)
    }

    fn read(&mut self) -> Result<Vec<Reading>, Failure> {
        let read = |meter: &mut Box<dyn Meter>| {
            meter.read(&Load::default()).map_err(|error| {
                Failure::absent(format!("the meter failed during the load: {error}"))
            })
        };
        self.meters.iter_mut().map(read).collect()
    }
}

/// Waits until the load has settled, and measures for `length`.
pub(super) fn measure(
    step: &Step,
    length: Duration,
    activity: &mut Activity,
    meters: &mut Meters,
    progress: &dyn Fn(Duration),
) -> Result<Measured, Failure> {
    let busy = Busy::start(step).map_err(|error| {
        Failure::absent(format!(
            "the load of step {:?} cannot be started: {error}; its CPUs must be online and \
             allowed to this process",
            step.name
        ))
    })?;
    let settling = settling(length);
    let begin = Instant::now();
    while begin.elapsed() < settling {
        progress((settling + length).saturating_sub(begin.elapsed()));
        // Meters that watch for steps of a slow source do so meanwhile.
        meters.read()?;
        thread::sleep(POLL.min(settling));
    }
    let counters = |activity: &Activity| {
        let failed = |error| Failure::absent(format!("CPU time cannot be read: {error}"));
        activity.read().map_err(failed)
    };
    let start = (unix_time(), counters(activity)?, meters.read()?);
    let begin = Instant::now();
    let (mut clocks, mut samples) = (0.0, 0.0);
    let mut last = start.2.clone();
    let mut is_reset = false;
    while begin.elapsed() < length {
        progress(length.saturating_sub(begin.elapsed()));
        thread::sleep(POLL.min(length.saturating_sub(begin.elapsed())));
        clocks += activity.frequency(step.cpus.len().max(1) as f64);
        samples += 1.0;
        last = meters.read()?;
        is_reset |= last.iter().any(|reading| reading.quality == Quality::Reset);
    }
    let end = (unix_time(), counters(activity)?);
    drop(busy);
    if is_reset {
        let what = "a meter's counter was reset during the load; try again";
        return Err(Failure::absent(what));
    }
    let used = activity.between(&start.1, &end.1);
    Ok(Measured {
        span: (start.0, end.0),
        busy_cpus: used.busy_cpus,
        active_cores: used.active_cores,
        frequency: if samples > 0.0 { clocks / samples } else { 1.0 },
        watts: start.2.iter().zip(&last).map(|(a, b)| watts(a, b)).sum(),
    })
}

/// How long a step runs before it is measured.
pub(super) fn settling(length: Duration) -> Duration {
    (length / 4).min(MOST_SETTLING)
}

fn watts(from: &Reading, to: &Reading) -> f64 {
    let ns = to
        .window
        .middle_ns()
        .saturating_sub(from.window.middle_ns());
    if ns == 0 {
        return 0.0;
    }
    to.total.since(from.total).0 as f64 * 1e3 / ns as f64
}

fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
