// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The labelled estimate for machines that have no meter.
//!
//! `P = idle + (max − idle) · busy share · frequency factor`, integrated exactly: the dynamic
//! part goes by the very nanoseconds of [`Load::busy_ns`], so a CPU second costs the same
//! whatever the interval and whoever else runs.
//!
//! The frequency factor is the mean of current over highest frequency, over as many of the
//! fastest CPUs as were busy (idle ones rest at a low clock and would dilute it). Dynamic power
//! goes with frequency × voltage²; the voltage is not told, so it is taken as constant: the
//! saving of a low clock is understated. Where there is no cpufreq (most guests) the factor is 1.

mod frequency;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use self::frequency::Frequencies;
use crate::{
    Descriptor, Domain, Finding, Load, Meter, MeterError, Microjoules, Position, Quality, Reading,
    Source, Watts, Window, boottime_ns,
    cpuinfo::{self, CpuInfo},
    families::{self, Family},
};

/// More than this no single machine draws (a rack's whole supply): a slip of the unit.
const MOST_WATTS: f64 = 50_000.0;

/// CPU time that arrives later than the wall time it ran in is charged up to this much later.
const LATEST_SECONDS: u64 = 60;

/// One microjoule in the units of the sum: nW·ns·ppm.
const MICROJOULE: u128 = 1_000_000_000_000 * frequency::FULL as u128;

/// Calibration of the model for a machine that was measured: watts of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// When nothing runs.
    pub idle_watts: Option<f64>,
    /// When all CPUs run at their highest frequency.
    pub max_watts: Option<f64>,
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
    cpus: u32,
    frequencies: Frequencies,
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
        let (idle, max) = machine_watts(family, cpus.max(1), config)?;
        let is_calibrated = config.idle_watts.is_some() && config.max_watts.is_some();
        if cpus == 0 {
            findings.push(Finding {
                place: path.display().to_string(),
                what: "tells no CPUs; the model takes the machine for one CPU".to_owned(),
                advice: "Check that /proc and /sys are mounted.".to_owned(),
            });
        }
        if !is_calibrated {
            findings.push(advice(family, &cpu));
        }
        let cpus = cpus.max(1);
        Ok(Self {
            descriptor: Descriptor {
                name: "model".to_owned(),
                domain: Domain::Package,
                device: "package-0".to_owned(),
                source: Source::Model,
            },
            basis: basis(family, cpus, idle, max, config),
            findings,
            idle_watts: idle,
            idle_nanowatts: (idle * 1e9).round() as u64,
            busy_nanowatts: ((max - idle) * 1e9 / f64::from(cpus)).round() as u64,
            cpus,
            frequencies: Frequencies::find(sysfs),
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
            self.frequencies.factor(step.busy_cpus())
        } else {
            0
        };
        let idle = amount(self.idle_nanowatts, step.wall_ns, frequency::FULL);
        let busy = amount(self.busy_nanowatts, step.busy_ns, ppm);
        let total = self.sum.add(idle.saturating_add(busy));
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
}

impl Meter for ModelMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, load: &Load) -> Result<Reading, MeterError> {
        Ok(self.read_at(boottime_ns(), load))
    }

    fn position(&self) -> Option<Position> {
        None
    }

    fn counted_since(&self, _earlier: &Position) -> Option<Microjoules> {
        None
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

fn advice(family: &Family, cpu: &CpuInfo) -> Finding {
    let whose = if cpu.is_guest {
        "this virtual machine's CPUs"
    } else {
        "this machine"
    };
    let what = if family.is_default() {
        format!("the CPU is in no table; the energy of {whose} is a rough guess")
    } else {
        format!(
            "the energy of {whose} is estimated from the family {}",
            family.name
        )
    };
    Finding {
        place: "model".to_owned(),
        what,
        advice: "Calibrate it: set model.idle_watts and model.max_watts to what a power meter \
            shows for this machine."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
