// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The labelled estimate for machines that have no meter.
//!
//! `P = idle + busy CPU · busy CPUs · frequency factor + active core · active cores`, integrated
//! exactly: the dynamic part goes by the very nanoseconds of [`Load::busy_ns`], so a CPU second
//! costs the same whatever the interval and whoever else runs; only where threads share a core,
//! and a calibration has found what the core itself draws, do they share that as well.
//!
//! The coefficients are, in this order: configured (`model.idle_watts`, `model.max_watts`), this
//! machine's [`Profile`] as `eco calibrate` fitted it, or the family's row, which knows no cores.
//!
//! The frequency factor is the mean of current over highest frequency, over as many of the
//! fastest CPUs as were busy (idle ones rest at a low clock and would dilute it). Dynamic power
//! goes with frequency × voltage²; the voltage is not told, so it is taken as constant: the
//! saving of a low clock is understated. Where there is no cpufreq (most guests) the factor is 1.

pub mod activity;
pub mod fit;
mod frequency;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::activity::{Activity, Counters};
use crate::{
    Descriptor, Domain, Finding, Load, Meter, MeterError, Microjoules, Quality, Reading, Source,
    Watts, Window, boottime_ns,
    cpuinfo::{self, CpuInfo},
    families::{self, Family},
    profile::{self, Coefficients, Machine, Profile, ProfileError},
};

/// More than this no single machine draws (a rack's whole supply): a slip of the unit.
pub(crate) const MOST_WATTS: f64 = 50_000.0;

/// CPU time that arrives later than the wall time it ran in is charged up to this much later.
const LATEST_SECONDS: u64 = 60;

/// One microjoule in the units of the sum: nW·ns·ppm.
const MICROJOULE: u128 = 1_000_000_000_000 * frequency::FULL as u128;

/// Calibration of the model for a machine that was measured: watts of the whole machine, which
/// go before any profile, or where the profile is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// When nothing runs.
    pub idle_watts: Option<f64>,
    /// When all CPUs run at their highest frequency.
    pub max_watts: Option<f64>,
    /// The profile that `eco calibrate` wrote; `None`: none is looked for.
    pub profile: Option<PathBuf>,
}

impl Default for ModelConfig {
    /// Nothing configured: the profile where `eco calibrate` puts it, if there is one.
    fn default() -> Self {
        Self {
            idle_watts: None,
            max_watts: None,
            profile: Some(profile::DEFAULT_FILE.into()),
        }
    }
}

/// A calibration that no machine has.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// Not a power.
    #[error("model.{key} = {value}: give watts from 0 to {MOST_WATTS}")]
    NotWatts {
        /// Which of the two.
        key: &'static str,
        /// What it was.
        value: f64,
    },
    /// The machine would draw less under load.
    #[error(
        "model: {max} W under full load is less than {idle} W when idle; \
         correct model.idle_watts and model.max_watts (or give both)"
    )]
    Inverted {
        /// W when idle, configured or from the table.
        idle: f64,
        /// W under load, configured or from the table.
        max: f64,
    },
}

/// An estimate of the machine's energy from its CPUs' family, time and frequency.
#[derive(Debug)]
pub struct ModelMeter {
    descriptor: Descriptor,
    basis: String,
    findings: Vec<Finding>,
    idle_watts: f64,
    idle_nanowatts: u64,
    /// What one busy CPU adds at full frequency.
    busy_nanowatts: u64,
    /// What an active core adds.
    core_nanowatts: u64,
    cpus: u32,
    activity: Activity,
    /// Where the kernel's counters stood, if active cores have to be told from busy CPUs.
    counters: Option<Counters>,
    sum: Sum,
}

impl ModelMeter {
    /// A model of the machine under `procfs` and `sysfs` (the real ones, or trees like them).
    ///
    /// Odd or missing files lead to the table's default row and a finding, never to an error.
    ///
    /// # Errors
    /// When `config` is no machine: a negative or infinite power, or less at load than idle.
    pub fn detect(procfs: &Path, sysfs: &Path, config: &ModelConfig) -> Result<Self, ModelError> {
        let path = procfs.join("cpuinfo");
        let bytes = fs::read(&path).unwrap_or_default();
        let cpu = CpuInfo::parse(&String::from_utf8_lossy(&bytes));
        let mut findings = Vec::new();
        let cpus = cpuinfo::online(sysfs).unwrap_or(cpu.listed);
        let family = families::of(&cpu);
        // Checked even where a profile is used: what is no machine is a mistake.
        let (idle, max) = machine_watts(family, cpus.max(1), config)?;
        let is_configured = config.idle_watts.is_some() || config.max_watts.is_some();
        let is_whole = config.idle_watts.is_some() && config.max_watts.is_some();
        if cpus == 0 {
            findings.push(Finding {
                place: path.display().to_string(),
                what: "tells no CPUs; the model takes the machine for one CPU".to_owned(),
                advice: "Check that /proc and /sys are mounted.".to_owned(),
            });
        }
        let profile = if is_configured {
            None
        } else {
            profile_of(&Machine::detect(procfs, sysfs), config, &mut findings)
        };
        if profile.is_none() && !is_whole {
            findings.push(advice(family, &cpu));
        }
        let cpus = cpus.max(1);
        let coefficients = match &profile {
            Some(profile) => profile.coefficients,
            None => Coefficients {
                idle_watts: idle,
                busy_cpu_watts: (max - idle) / f64::from(cpus),
                active_core_watts: 0.0,
            },
        };
        let activity = Activity::find(procfs, sysfs);
        let counts_cores = coefficients.active_core_watts > 0.0 && activity.is_smt();
        let nanowatts = |watts: f64| (watts * 1e9).round() as u64;
        Ok(Self {
            descriptor: Descriptor {
                name: "model".to_owned(),
                domain: Domain::Package,
                device: "package-0".to_owned(),
                source: Source::Model,
            },
            basis: match &profile {
                Some(profile) => calibrated_basis(profile),
                None => basis(family, cpus, idle, max, config),
            },
            findings,
            idle_watts: coefficients.idle_watts,
            idle_nanowatts: nanowatts(coefficients.idle_watts),
            busy_nanowatts: nanowatts(coefficients.busy_cpu_watts),
            core_nanowatts: nanowatts(coefficients.active_core_watts),
            cpus,
            counters: counts_cores.then(|| activity.read().unwrap_or_default()),
            activity,
            sum: Sum::default(),
        })
    }

    /// What the estimate rests on, for people: the row of the table, or the configuration.
    #[must_use]
    pub fn basis(&self) -> &str {
        &self.basis
    }

    /// What was noticed on the way, for the status page and the log.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn read_at(&mut self, now_ns: u64, load: &Load) -> Reading {
        let cpus = if load.cpus > 0 { load.cpus } else { self.cpus };
        let step = self.sum.step(now_ns, load.busy_ns, cpus);
        let ppm = if step.busy_ns > 0 {
            self.activity.factor(step.busy_cpus())
        } else {
            0
        };
        let idle = amount(self.idle_nanowatts, step.wall_ns, frequency::FULL);
        let busy = amount(self.busy_nanowatts, step.busy_ns, ppm);
        let cores = amount(self.core_nanowatts, step.busy_ns, self.cores_per_busy_cpu());
        let total = self
            .sum
            .add(idle.saturating_add(busy).saturating_add(cores));
        let window = Window {
            before_ns: now_ns,
            after_ns: now_ns,
        };
        Reading {
            total,
            window,
            quality: Quality::Estimated,
        }
    }

    /// Active cores for each busy CPU since the last read, in parts per million.
    fn cores_per_busy_cpu(&mut self) -> u32 {
        let Some(before) = &mut self.counters else {
            return frequency::FULL;
        };
        let Ok(now) = self.activity.read() else {
            return frequency::FULL;
        };
        let share = self.activity.cores_per_busy_cpu(before, &now);
        *before = now;
        (share * f64::from(frequency::FULL)) as u32
    }
}

impl Meter for ModelMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, load: &Load) -> Result<Reading, MeterError> {
        Ok(self.read_at(boottime_ns(), load))
    }

    fn known_idle(&self) -> Option<Watts> {
        Some(Watts(self.idle_watts))
    }
}

/// The integral so far.
#[derive(Debug, Default)]
struct Sum {
    last: Option<(u64, u64)>,
    /// CPU time that the wall time so far had no room for: a reader's jitter, or a task counted
    /// a tick after it died. It is charged as soon as there is room, so that none is lost.
    late_ns: u64,
    total: u64,
    /// Less than a microjoule.
    remainder: u128,
}

/// What one interval adds.
#[derive(Clone, Copy, Debug)]
struct Step {
    wall_ns: u64,
    busy_ns: u64,
}

impl Sum {
    fn step(&mut self, now_ns: u64, busy_total_ns: u64, cpus: u32) -> Step {
        let (then_ns, busy_before_ns) = self
            .last
            .replace((now_ns, busy_total_ns))
            .unwrap_or((now_ns, busy_total_ns));
        let wall_ns = now_ns.saturating_sub(then_ns);
        let room_ns = wall_ns.saturating_mul(u64::from(cpus));
        let due_ns = self
            .late_ns
            .saturating_add(busy_total_ns.saturating_sub(busy_before_ns));
        let busy_ns = due_ns.min(room_ns);
        let latest_ns = (LATEST_SECONDS * 1_000_000_000).saturating_mul(u64::from(cpus));
        self.late_ns = (due_ns - busy_ns).min(latest_ns);
        Step { wall_ns, busy_ns }
    }

    fn add(&mut self, amount: u128) -> Microjoules {
        let sum = self.remainder.saturating_add(amount);
        self.remainder = sum % MICROJOULE;
        let whole = u64::try_from(sum / MICROJOULE).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(whole);
        Microjoules(self.total)
    }
}

impl Step {
    /// How many CPUs were busy on average.
    fn busy_cpus(self) -> f64 {
        if self.wall_ns == 0 {
            0.0
        } else {
            self.busy_ns as f64 / self.wall_ns as f64
        }
    }
}

/// Energy in nW·ns·ppm.
fn amount(nanowatts: u64, ns: u64, ppm: u32) -> u128 {
    (u128::from(nanowatts) * u128::from(ns)).saturating_mul(u128::from(ppm))
}

/// Idle and full-load watts of the machine.
fn machine_watts(
    family: &Family,
    cpus: u32,
    config: &ModelConfig,
) -> Result<(f64, f64), ModelError> {
    let checked = |key, value: Option<f64>, table: f64| match value {
        None => Ok(table * f64::from(cpus)),
        Some(watts) if (0.0..=MOST_WATTS).contains(&watts) => Ok(watts),
        Some(value) => Err(ModelError::NotWatts { key, value }),
    };
    let idle = checked("idle_watts", config.idle_watts, family.idle_watts)?;
    let max = checked("max_watts", config.max_watts, family.max_watts)?;
    if max < idle {
        Err(ModelError::Inverted { idle, max })
    } else {
        Ok((idle, max))
    }
}

/// The profile, if it is to be believed; what is wrong with it otherwise is a finding.
fn profile_of(
    machine: &Machine,
    config: &ModelConfig,
    findings: &mut Vec<Finding>,
) -> Option<Profile> {
    let path = config.profile.as_deref()?;
    let advice = match Profile::read(path, machine) {
        Ok(profile) => {
            findings.push(Finding::new("model", calibrated(&profile), ""));
            return Some(profile);
        }
        // Nobody has calibrated, and nobody has said that there is a profile.
        Err(ProfileError::Absent { .. }) if path == Path::new(profile::DEFAULT_FILE) => {
            return None;
        }
        Err(error @ ProfileError::Newer { .. }) => (error, "Run the eco that wrote it."),
        Err(error @ ProfileError::Io { .. }) => (error, "Make the file readable to the agent."),
        Err(error) => (error, "Run `eco calibrate` on this machine."),
    };
    let (error, advice) = advice;
    let what = format!("{error}; the family table is used");
    findings.push(Finding::new("model", what, advice));
    None
}

fn calibrated(profile: &Profile) -> String {
    format!(
        "calibrated on {} by {}, expected error {:.1} % (at most {:.1} % in its test)",
        profile.day(),
        profile.source,
        profile.error.mean_percent,
        profile.error.worst_percent
    )
}

fn calibrated_basis(profile: &Profile) -> String {
    let Coefficients {
        idle_watts,
        busy_cpu_watts,
        active_core_watts,
    } = profile.coefficients;
    format!(
        "{}: {idle_watts:.2} W idle, {busy_cpu_watts:.2} W a busy CPU at full frequency, \
         {active_core_watts:.2} W an active core",
        calibrated(profile)
    )
}

fn basis(family: &Family, cpus: u32, idle: f64, max: f64, config: &ModelConfig) -> String {
    let source = match (config.idle_watts, config.max_watts) {
        (Some(_), Some(_)) => "configured".to_owned(),
        (None, None) => family.source.to_owned(),
        (Some(_), None) => format!("idle configured, max: {}", family.source),
        (None, Some(_)) => format!("max configured, idle: {}", family.source),
    };
    format!(
        "{}, {cpus} CPUs: {idle:.2} W idle, {max:.2} W at full load; {source}",
        family.name
    )
}

/// As the row says of itself; no measurement of the error over unknown CPUs is known to us.
const MEAN_ERROR: &str = "which may be wrong by a factor of two or more";

fn advice(family: &Family, cpu: &CpuInfo) -> Finding {
    let whose = if cpu.is_guest {
        "this virtual machine's CPUs"
    } else {
        "this machine"
    };
    let what = if family.is_default() {
        format!("the CPU is in no table; the energy of {whose} is a rough guess, {MEAN_ERROR}")
    } else {
        format!(
            "the energy of {whose} is estimated from the family {}; the expected error is not \
             known: the row is the mean of servers of that family, none of which is this one",
            family.name
        )
    };
    Finding {
        place: "model".to_owned(),
        what,
        advice: "Calibrate it: run `eco calibrate` with a power meter, or set model.idle_watts \
            and model.max_watts to what one shows for this machine."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
