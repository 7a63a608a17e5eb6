// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine of the lab is and what befalls it, as a person writes it down.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use toml::Table;

/// RAPL's counters are updated about every millisecond: Intel SDM vol. 3B, 16.10.3.
const GRAIN_US: u64 = 1_000;

/// `max_energy_range_uj` of an Intel server's package.
const RANGE_UJ: u64 = 262_143_328_850;

/// Nobody waits for a longer one.
const MOST_SECONDS: f64 = 86_400.0;

/// No machine draws more.
const MOST_WATTS: f64 = 100_000.0;

/// No clock is faster.
const MOST_MHZ: f64 = 20_000.0;

/// The name of the controller among the meters.
pub const BMC: &str = "bmc";

/// A machine, who works on it, and what befalls its meters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How often counters move, in µs.
    #[serde(default = "grain_us")]
    pub grain_us: u64,
    /// By how much idle power goes up and down from one step to the next, as a share of it.
    #[serde(default)]
    pub noise: f64,
    /// The same noise each time.
    #[serde(default)]
    pub seed: u64,
    /// What a CPU second of everyone who is no [`Workload`] costs, in J.
    #[serde(default)]
    pub rest_watts: f64,
    /// Powercap zones: packages and psys, with what is below them.
    #[serde(default)]
    pub zone: Vec<Zone>,
    /// Sensor chips.
    #[serde(default)]
    pub chip: Vec<Chip>,
    /// A management controller that sees the whole machine.
    #[serde(default)]
    pub bmc: Option<Bmc>,
    /// Which CPUs are one core, and what that makes of a CPU second.
    #[serde(default)]
    pub smt: Option<Smt>,
    /// How the clock goes.
    #[serde(default)]
    pub frequency: Option<Frequency>,
    /// GPUs, in the words of the driver's stand-in (tests/nvml-standin): but a process has a
    /// `name` instead of a pid.
    #[serde(default)]
    pub gpu: Vec<Table>,
    /// What befalls GPUs, in the same words.
    #[serde(default)]
    pub gpu_fault: Vec<Table>,
    /// Who works.
    #[serde(default)]
    pub workload: Vec<Workload>,
    /// What befalls meters.
    #[serde(default)]
    pub event: Vec<Event>,
}

/// A powercap zone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// `package-0`, `core`, `dram`, `psys`, ….
    pub name: String,
    /// How much it draws of what workloads cost: on top of the machine's, below of its parent's.
    #[serde(default = "whole")]
    pub share: f64,
    /// What it draws when nothing runs.
    #[serde(default)]
    pub idle_watts: f64,
    /// The highest value of its counter, in µJ.
    #[serde(default = "range_uj")]
    pub range_uj: u64,
    /// Where its counter starts, in µJ.
    #[serde(default)]
    pub first_uj: u64,
    /// What is below it.
    #[serde(default)]
    pub zone: Vec<Zone>,
}

/// A chip with one sensor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// As its driver calls it.
    pub name: String,
    /// As the board's maker calls the sensor.
    #[serde(default)]
    pub label: Option<String>,
    /// What it shows.
    pub attribute: Attribute,
    /// How much it draws of what workloads cost.
    #[serde(default = "whole")]
    pub share: f64,
    /// What it draws when nothing runs.
    #[serde(default)]
    pub idle_watts: f64,
    /// How often it looks, in ms; its power is the mean since it looked last.
    #[serde(default = "period_ms")]
    pub period_ms: u64,
}

/// A management controller over HTTPS.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    /// How much it sees of what workloads cost.
    #[serde(default = "whole")]
    pub share: f64,
    /// What it sees when nothing runs.
    #[serde(default)]
    pub idle_watts: f64,
    /// How often its value moves, in s; it is the mean since it moved last.
    #[serde(default = "period_s")]
    pub period_s: f64,
    /// Where it tells it.
    #[serde(default)]
    pub resource: Resource,
}

/// The resource of Redfish's by which a controller tells the machine's power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// The chassis' `Power`.
    #[default]
    Power,
    /// The chassis' `EnvironmentMetrics`.
    Environment,
}

/// Threads that share a core.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smt {
    /// What a CPU second costs while a sibling is busy too, as a share of one that has the core
    /// for itself.
    pub shared: f64,
    /// The CPUs of each core.
    pub core: Vec<Vec<u32>>,
}

/// The clock of all CPUs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frequency {
    /// Where it starts.
    pub highest_mhz: f64,
    /// A CPU second costs as much as the clock to the power of this: the voltage goes along.
    #[serde(default = "exponent")]
    pub exponent: f64,
    /// Where it goes from there.
    #[serde(default)]
    pub phase: Vec<Phase>,
}

/// A clock from some moment on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Seconds after the start.
    pub at_s: f64,
    /// The clock.
    pub mhz: f64,
}

/// What a chip shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attribute {
    /// `energy1_input`, in µJ.
    Energy,
    /// `power1_input`, in µW.
    Power,
}

/// Everything in a cgroup that the lab makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// For people and for the truth.
    pub name: String,
    /// What a CPU second of it costs, in J.
    pub watts: f64,
    /// The package that it draws from, if not from each by its share.
    #[serde(default)]
    pub package: Option<String>,
    /// What the lab starts in it, if not somebody else does.
    #[serde(default)]
    pub command: Vec<String>,
    /// The CPU that it stays on, where that is known: then the price of its CPU seconds is that
    /// CPU's, and not the mean. The lab holds its command there.
    #[serde(default)]
    pub cpu: Option<u32>,
}

/// What befalls a meter, once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Seconds after the start.
    pub at_s: f64,
    /// `package-0`, `package-0/dram`, or a chip's name.
    pub meter: String,
    /// What.
    pub action: Action,
    /// How long it lasts, in seconds; a reset is over at once.
    #[serde(default)]
    pub for_s: f64,
    /// Not before the counter stands from here to there, in µJ: near its start a reset is no
    /// fall, and near its end who reads it cannot tell a reset from a wrap.
    #[serde(default)]
    pub between_uj: Option<[u64; 2]>,
}

/// What befalls a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its counter goes on from zero.
    Reset,
    /// It is gone with all below it, and comes back as new files; a controller answers nobody.
    /// It counts meanwhile.
    Remove,
    /// Its value stands still, and then is what it should be.
    Freeze,
}

impl Scenario {
    /// Reads one.
    ///
    /// # Errors
    /// Names the file, and what in it is wrong.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    /// Reads one from its text.
    ///
    /// # Errors
    /// Says what is wrong in it.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            (100..=1_000_000).contains(&self.grain_us),
            "grain_us = {} is not from 100 to 1000000",
            self.grain_us
        );
        in_range("noise", self.noise, 1.0)?;
        in_range("rest_watts", self.rest_watts, MOST_WATTS)?;
        let mut meters = BTreeSet::new();
        for zone in &self.zone {
            zone.check("", &mut meters)?;
        }
        for chip in &self.chip {
            a_name(&chip.name)?;
            in_range(&format!("share of {}", chip.name), chip.share, 1.0)?;
            in_range(
                &format!("idle_watts of {}", chip.name),
                chip.idle_watts,
                MOST_WATTS,
            )?;
            ensure!(chip.period_ms > 0, "period_ms of {} is 0", chip.name);
            once(&chip.name, &mut meters)?;
        }
        self.check_processor()?;
        if let Some(bmc) = &self.bmc {
            in_range("share of the bmc", bmc.share, 1.0)?;
            in_range("idle_watts of the bmc", bmc.idle_watts, MOST_WATTS)?;
            in_range("period_s of the bmc", bmc.period_s, MOST_SECONDS)?;
            once(BMC, &mut meters)?;
        }
        let mut names = BTreeSet::new();
        for workload in &self.workload {
            a_name(&workload.name)?;
            once(&workload.name, &mut names)?;
            in_range(
                &format!("watts of {}", workload.name),
                workload.watts,
                MOST_WATTS,
            )?;
            if let Some(package) = &workload.package {
                ensure!(
                    self.zone.iter().any(|zone| zone.name == *package),
                    "workload {} draws from {package}, which is no zone",
                    workload.name
                );
            }
        }
        self.event.iter().try_for_each(|event| {
            in_range("at_s", event.at_s, MOST_SECONDS)?;
            in_range("for_s", event.for_s, MOST_SECONDS)?;
            let name = &event.meter;
            ensure!(
                meters.contains(name),
                "an event befalls {name}, which is no meter"
            );
            Ok(())
        })
    }
}

impl Scenario {
    fn check_processor(&self) -> Result<()> {
        if let Some(smt) = &self.smt {
            in_range("shared of smt", smt.shared, 1.0)?;
            let mut cpus = BTreeSet::new();
            for cpu in smt.core.iter().flatten() {
                ensure!(cpus.insert(cpu), "CPU {cpu} is in two cores");
            }
        }
        if let Some(frequency) = &self.frequency {
            let clocks = frequency.phase.iter().map(|phase| phase.mhz);
            for mhz in clocks.chain([frequency.highest_mhz]) {
                in_range("a clock in MHz", mhz, MOST_MHZ)?;
                ensure!(mhz > 0.0, "a clock of 0 MHz");
            }
            in_range("exponent", frequency.exponent, 4.0)?;
            for phase in &frequency.phase {
                in_range("at_s", phase.at_s, MOST_SECONDS)?;
            }
        }
        Ok(())
    }
}

impl Zone {
    fn check(&self, above: &str, meters: &mut BTreeSet<String>) -> Result<()> {
        a_name(&self.name)?;
        let name = format!("{above}{}", self.name);
        in_range(&format!("share of {name}"), self.share, 1.0)?;
        in_range(
            &format!("idle_watts of {name}"),
            self.idle_watts,
            MOST_WATTS,
        )?;
        ensure!(self.range_uj > 0, "range_uj of {name} is 0");
        ensure!(
            self.first_uj <= self.range_uj,
            "first_uj of {name} is above its range_uj"
        );
        once(&name, meters)?;
        let below = format!("{name}/");
        self.zone
            .iter()
            .try_for_each(|zone| zone.check(&below, meters))
    }
}

fn once(name: &str, names: &mut BTreeSet<String>) -> Result<()> {
    ensure!(names.insert(name.to_owned()), "{name} is there twice");
    Ok(())
}

/// Names become parts of paths.
fn a_name(name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        bail!("{name:?} is no name: letters, digits, - and _");
    }
    Ok(())
}

fn in_range(what: &str, value: f64, most: f64) -> Result<()> {
    ensure!(
        (0.0..=most).contains(&value),
        "{what} = {value} is not from 0 to {most}"
    );
    Ok(())
}

fn period_s() -> f64 {
    10.0
}

/// Between the clock alone and the cube of which CMOS power at a voltage in step is made.
fn exponent() -> f64 {
    2.0
}

fn grain_us() -> u64 {
    GRAIN_US
}

fn range_uj() -> u64 {
    RANGE_UJ
}

fn period_ms() -> u64 {
    1_000
}

fn whole() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_with_a_mistake_is_refused_and_the_mistake_is_named() {
        for (text, named) in [
            ("grain_us = 0", "grain_us"),
            ("noise = nan", "noise"),
            ("rest_wats = 1.0", "rest_wats"),
            ("[[zone]]\nname = \"../x\"", "../x"),
            ("[[zone]]\nname = \"a\"\nshare = 1.5", "share of a"),
            (
                "[[zone]]\nname = \"a\"\nidle_watts = -1.0",
                "idle_watts of a",
            ),
            ("[[zone]]\nname = \"a\"\nrange_uj = 0", "range_uj of a"),
            (
                "[[zone]]\nname = \"a\"\nrange_uj = 1\nfirst_uj = 2",
                "first_uj",
            ),
            ("[[zone]]\nname = \"a\"\n[[zone]]\nname = \"a\"", "twice"),
            ("[[workload]]\nname = \"w\"\nwatts = inf", "watts of w"),
            (
                "[[workload]]\nname = \"w\"\nwatts = 1.0\npackage = \"p\"",
                "no zone",
            ),
            ("[smt]\nshared = 0.5\ncore = [[0, 1], [1, 2]]", "CPU 1"),
            ("[frequency]\nhighest_mhz = 0.0", "0 MHz"),
            ("[bmc]\nperiod_s = -1.0", "period_s"),
            (
                "[[event]]\nat_s = 1.0\nmeter = \"m\"\naction = \"reset\"",
                "no meter",
            ),
        ] {
            let why = format!("{:#}", Scenario::parse(text).unwrap_err());
            assert!(why.contains(named), "{text}: {why}");
        }
    }

    #[test]
    fn every_scenario_of_the_house_is_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        let mut read = 0;
        for entry in fs::read_dir(folder).unwrap() {
            Scenario::read(&entry.unwrap().path()).unwrap();
            read += 1;
        }
        assert!(read > 0);
    }
}
