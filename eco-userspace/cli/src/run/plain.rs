// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Joules of a job as any user can know them: the meters that this user may read, or the
//! labelled model, shared by CPU time.
//!
//! Per meter and interval, with the idle energy set apart, the job gets its share of the
//! machine's CPU time. The machine's comes from `/proc/stat`, which counts in clock ticks and
//! may miss short work: so it is taken as no less than what the job and eco are known to have
//! used in the same interval.

use std::{fs, mem, path::Path, time::Duration};

use eco_meter::{
    Domain, Load, Meter, Watts,
    model::{ModelConfig, ModelMeter},
    powercap,
};

use super::account::MeterShare;

/// The meters of one run.
pub(crate) struct PlainMeters {
    meters: Vec<Tracked>,
    cpus: u32,
    clock: CpuClock,
    own_at_start: u64,
}

/// What the job was given of all meters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PlainEnergy {
    /// Per meter, without idle.
    pub(crate) meters: Vec<MeterShare>,
    /// The share of the machine's idle energy that goes with the job's CPU time, in J.
    pub(crate) idle_share: f64,
    /// What eco itself was given, in J.
    pub(crate) own: f64,
    /// Whether any of it is an estimate.
    pub(crate) estimated: bool,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

struct Tracked {
    meter: Box<dyn Meter>,
    idle: Option<Watts>,
    idle_is_guess: bool,
    last: Option<(u64, u64, CpuClock)>,
    job: f64,
    own: f64,
    idle_share: f64,
    problem: Option<String>,
}

/// CPU time since the run began, in ns; only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuClock {
    machine: u64,
    job: u64,
    own: u64,
    proc_stat: Option<u64>,
}

impl PlainMeters {
    /// What this user may read: RAPL, or else the model.
    pub(crate) fn detect() -> Self {
        // SAFETY: no memory is passed.
        let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        let model = model_meter();
        let guess = model.as_ref().and_then(|model| model.known_idle());
        let mut meters = powercap::discover(Path::new("/sys")).meters;
        meters.retain_mut(|meter| meter.read(&Load::default()).is_ok());
        if meters.is_empty() {
            meters.extend(model);
        }
        Self {
            meters: with_idle(meters, guess),
            cpus: u32::try_from(cpus).unwrap_or(1).max(1),
            clock: CpuClock::default(),
            own_at_start: 0,
        }
    }

    /// Sets the start of the run.
    pub(crate) fn start(&mut self) {
        self.own_at_start = own_cpu();
        self.read(CpuClock {
            own: self.own_at_start,
            proc_stat: proc_stat_busy(),
            ..CpuClock::default()
        });
    }

    /// Reads the meters; the job has used `job_cpu` since the start.
    pub(crate) fn sample(&mut self, job_cpu: Duration) {
        let job = nanoseconds(job_cpu);
        self.read(self.clock.advanced(job, own_cpu(), proc_stat_busy()));
    }

    /// What the job was given from the start to the last sample.
    pub(crate) fn energy(&self) -> PlainEnergy {
        let mut energy = PlainEnergy::default();
        for tracked in &self.meters {
            let descriptor = tracked.meter.descriptor();
            energy.meters.push(MeterShare {
                name: descriptor.name.clone(),
                domain: descriptor.domain.label().to_owned(),
                source: descriptor.source.label().to_owned(),
                joules: tracked.job,
            });
            // One of each nest, as in the total.
            if matches!(
                descriptor.domain,
                Domain::Package | Domain::Dram | Domain::Gpu
            ) {
                energy.idle_share += tracked.idle_share;
                energy.own += tracked.own;
            }
            energy.estimated |= descriptor.source.is_estimate() || tracked.idle_is_guess;
            energy.notes.extend(tracked.problem.clone());
        }
        if self.meters.iter().any(|tracked| tracked.idle_is_guess) {
            energy
                .notes
                .push("this machine's idle power is a guess".to_owned());
        }
        energy
    }

    /// CPU time of eco itself, from the start to the last sample.
    pub(crate) fn own_cpu(&self) -> Duration {
        Duration::from_nanos(self.clock.own - self.own_at_start)
    }

    fn read(&mut self, clock: CpuClock) {
        self.clock = clock;
        let load = Load {
            busy_ns: clock.machine,
            cpus: self.cpus,
        };
        for tracked in &mut self.meters {
            tracked.read(&load, clock);
        }
    }
}

impl CpuClock {
    fn advanced(self, job: u64, own: u64, proc_stat: Option<u64>) -> Self {
        // What procfs says of a living process may shrink a little when it is reaped.
        let (job, own) = (job.max(self.job), own.max(self.own));
        let known = (job - self.job) + (own - self.own);
        let seen = match (self.proc_stat, proc_stat) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => 0,
        };
        Self {
            machine: self.machine.saturating_add(seen.max(known)),
            job,
            own,
            proc_stat,
        }
    }
}

impl Tracked {
    fn read(&mut self, load: &Load, clock: CpuClock) {
        let reading = match self.meter.read(load) {
            Ok(reading) => reading,
            Err(error) => {
                // The next read that works covers this interval too.
                self.problem = Some(error.to_string());
                return;
            }
        };
        let (total, at) = (reading.total.0, reading.window.middle_ns());
        if let Some((last_total, last_at, last)) = self.last {
            let energy = total.saturating_sub(last_total) as f64 / 1e6;
            let seconds = at.saturating_sub(last_at) as f64 / 1e9;
            let idle = self
                .idle
                .map_or(0.0, |watts| (watts.0 * seconds).clamp(0.0, energy));
            let share = |now: u64, before: u64| {
                let machine = clock.machine - last.machine;
                if machine == 0 {
                    0.0
                } else {
                    (now - before) as f64 / machine as f64
                }
            };
            self.job += (energy - idle) * share(clock.job, last.job);
            self.own += (energy - idle) * share(clock.own, last.own);
            self.idle_share += idle * share(clock.job, last.job);
        }
        self.last = Some((total, at, clock));
    }
}

fn with_idle(meters: Vec<Box<dyn Meter>>, guess: Option<Watts>) -> Vec<Tracked> {
    let packages = meters
        .iter()
        .filter(|meter| meter.descriptor().domain == Domain::Package)
        .count();
    let track = |meter: Box<dyn Meter>| {
        let known = meter.known_idle();
        let guess =
            guess.filter(|_| known.is_none() && meter.descriptor().domain == Domain::Package);
        Tracked {
            idle: known.or(guess.map(|watts| Watts(watts.0 / packages.max(1) as f64))),
            idle_is_guess: known.is_none(),
            meter,
            last: None,
            job: 0.0,
            own: 0.0,
            idle_share: 0.0,
            problem: None,
        }
    };
    meters.into_iter().map(track).collect()
}

fn model_meter() -> Option<Box<dyn Meter>> {
    let model = ModelMeter::detect(
        Path::new("/proc"),
        Path::new("/sys"),
        &ModelConfig::default(),
    )
    .ok()?;
    Some(Box::new(model))
}

/// Busy time of all CPUs since boot, in ns.
fn proc_stat_busy() -> Option<u64> {
    busy_ticks(&fs::read_to_string("/proc/stat").ok()?).map(|ticks| {
        // SAFETY: no memory is passed.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        ticks.saturating_mul(1_000_000_000 / u64::try_from(per_second).unwrap_or(100).max(1))
    })
}

/// User, nice, system, irq and softirq of the first line of `/proc/stat`. Guest time is in
/// user already; stolen time is another machine's.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    [0, 1, 2, 5, 6]
        .iter()
        .try_fold(0_u64, |sum, &i| sum.checked_add(*fields.get(i)?))
}

fn own_cpu() -> u64 {
    // SAFETY: rusage is plain old data, and a live local while the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let of = |time: libc::timeval| {
        let (seconds, micros) = (time.tv_sec.max(0) as u64, time.tv_usec.max(0) as u64);
        seconds * 1_000_000_000 + micros * 1_000
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use eco_meter::{
        Descriptor, MeterError, Microjoules, Position, Quality, Reading, Source, Window,
    };

    use super::*;

    /// 20 W and 10 J per busy CPU second, one second per read; `idle` as the meter knows it.
    struct Fake {
        descriptor: Descriptor,
        idle: Option<Watts>,
        reads: u64,
        fails: Vec<u64>,
    }

    impl Fake {
        fn boxed(idle: Option<f64>, fails: &[u64]) -> Box<dyn Meter> {
            Box::new(Self {
                descriptor: Descriptor {
                    name: "package-0".into(),
                    domain: Domain::Package,
                    device: "package-0".into(),
                    source: Source::Model,
                },
                idle: idle.map(Watts),
                reads: 0,
                fails: fails.to_vec(),
            })
        }
    }

    impl Meter for Fake {
        fn descriptor(&self) -> &Descriptor {
            &self.descriptor
        }
        fn read(&mut self, load: &Load) -> Result<Reading, MeterError> {
            let second = self.reads;
            self.reads += 1;
            if self.fails.contains(&second) {
                return Err(MeterError::Gone {
                    path: "/sys/none".into(),
                });
            }
            let at = second * 1_000_000_000;
            Ok(Reading {
                total: Microjoules(second * 20_000_000 + load.busy_ns / 100),
                window: Window {
                    before_ns: at,
                    after_ns: at,
                },
                quality: Quality::Estimated,
            })
        }
        fn position(&self) -> Option<Position> {
            None
        }
        fn counted_since(&self, _: &Position) -> Option<Microjoules> {
            None
        }
        fn known_idle(&self) -> Option<Watts> {
            self.idle
        }
    }

    const S: u64 = 1_000_000_000;

    fn run(meter: Box<dyn Meter>, machine: &[u64], job: &[u64]) -> PlainEnergy {
        let mut meters = PlainMeters {
            meters: with_idle(vec![meter], None),
            cpus: 2,
            clock: CpuClock::default(),
            own_at_start: 0,
        };
        meters.read(CpuClock {
            proc_stat: Some(0),
            ..CpuClock::default()
        });
        for (&machine, &job) in machine.iter().zip(job) {
            let clock = meters.clock.advanced(job, 0, Some(machine));
            meters.read(clock);
        }
        meters.energy()
    }

    #[test]
    fn a_cpu_second_costs_the_same_whoever_else_runs() {
        let alone = run(Fake::boxed(Some(20.0), &[]), &[S, 2 * S], &[S, 2 * S]);
        let beside = run(Fake::boxed(Some(20.0), &[]), &[2 * S, 4 * S], &[S, 2 * S]);
        assert!((alone.meters[0].joules - 20.0).abs() < 1e-9, "{alone:?}");
        assert!((beside.meters[0].joules - 20.0).abs() < 1e-9, "{beside:?}");
        assert!((alone.idle_share - 40.0).abs() < 1e-9);
        assert!((beside.idle_share - 20.0).abs() < 1e-9);
    }

    #[test]
    fn a_read_that_fails_loses_no_energy_and_is_told() {
        let energy = run(Fake::boxed(Some(20.0), &[1]), &[S, 2 * S], &[S, 2 * S]);
        assert!((energy.meters[0].joules - 20.0).abs() < 1e-9, "{energy:?}");
        assert_eq!(energy.notes.len(), 1);
    }

    #[test]
    fn work_too_short_for_the_machines_clock_ticks_is_still_paid() {
        let energy = run(Fake::boxed(Some(20.0), &[]), &[0], &[S / 1000]);
        assert!((energy.meters[0].joules - 0.01).abs() < 1e-9, "{energy:?}");
    }

    #[test]
    fn clocks_that_go_back_give_nothing_negative() {
        let energy = run(Fake::boxed(Some(20.0), &[]), &[2 * S, S, 0], &[S, S / 2, 0]);
        assert!(energy.meters[0].joules >= 0.0 && energy.idle_share >= 0.0);
        assert!(energy.meters[0].joules.is_finite());
    }

    #[test]
    fn a_meter_whose_idle_power_is_unknown_makes_an_estimate() {
        let energy = run(Fake::boxed(None, &[]), &[S], &[S]);
        assert!(energy.estimated);
        assert!(
            energy
                .notes
                .iter()
                .any(|note| note.contains("idle power is a guess"))
        );
    }

    #[test]
    fn the_first_line_of_proc_stat_gives_the_busy_ticks() {
        assert_eq!(
            busy_ticks("cpu  1 2 3 400 500 6 7 800 9 10\ncpu0 …"),
            Some(19)
        );
        for text in ["", "cpu", "cpu  1 2 x", "intr 5", "cpu  1 2 3 4 5 6"] {
            assert_eq!(busy_ticks(text), None, "{text:?}");
        }
    }
}
