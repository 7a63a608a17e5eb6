// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where joules come from.
//!
//! A [`Meter`] counts the energy of one domain of one device. Its total only grows while the
//! process lives: wrap-around, resets and zones that vanish are the meter's own business, and
//! what it could not count is said in the [`Quality`] of the reading, never invented.

mod background;
mod counter;
mod cpuinfo;
mod crosscheck;
mod families;
mod integral;
mod pace;
mod quantity;
mod slow;
mod sysfs;

use std::{fmt, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use quantity::{Joules, Microjoules, Watts};
pub use select::{Options, discover};

pub mod acpi;
pub mod amdgpu;
pub mod battery;
pub mod hwmon;
pub mod ipmi;
pub mod model;
pub mod nvml;
pub mod perf;
pub mod powercap;
pub mod profile;
pub mod redfish;
pub mod select;

/// One counter of energy.
pub trait Meter: Send {
    /// What this meter measures; fixed for its life.
    fn descriptor(&self) -> &Descriptor;

    /// Reads the counter. `load` is what the CPUs did up to now; a true meter ignores it.
    ///
    /// # Errors
    /// When the counter cannot be read now. The meter stays usable: a later read may succeed,
    /// and then reports what was counted meanwhile if the counter itself still knows it.
    fn read(&mut self, load: &Load) -> Result<Reading, MeterError>;

    /// Where the raw counter stood at the last successful read, to be kept across restarts.
    /// `None` for a meter whose counter does not outlive the process.
    fn position(&self) -> Option<Position> {
        None
    }

    /// What the counter counted between the earlier one (kept by a process before this one, in the
    /// same boot) and the last successful read. `None` where that cannot be known.
    fn counted_since(&self, _earlier: &Position) -> Option<Microjoules> {
        None
    }

    /// The idle power, where the meter itself knows it (the model does).
    fn known_idle(&self) -> Option<Watts> {
        None
    }

    /// How often the source brings a new value, as observed; `None` until that is known, or where
    /// the source is faster than anyone reads it.
    fn update_period(&self) -> Option<Duration> {
        None
    }

    /// What a person should know of this meter now: that it disagrees with another, that its
    /// certificate has expired. Empty if there is nothing.
    fn notes(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// What a meter measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// A name for people, unique on the machine: `package-0`, `package-0/dram`.
    pub name: String,
    /// The part of the machine.
    pub domain: Domain,
    /// Which one of those: `package-0`, a GPU's index. Unique together with the domain.
    pub device: String,
    /// How the joules are known.
    pub source: Source,
}

/// A part of the machine that a meter covers.
///
/// A package contains its cores; `psys` and the board contain the packages. Sums over domains
/// must choose one of each nest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// A CPU socket, cores and uncore.
    Package,
    /// The cores of a package.
    Core,
    /// The graphics part of a client package.
    Uncore,
    /// Memory.
    Dram,
    /// The platform, as the CPU sees it.
    Psys,
    /// An accelerator.
    Gpu,
    /// The whole board, by a management controller or a power supply.
    Board,
}

impl Domain {
    /// Every domain, in label order; a domain's index here is its slot in a ledger row.
    pub const ALL: [Self; 7] = [
        Self::Package,
        Self::Core,
        Self::Uncore,
        Self::Dram,
        Self::Psys,
        Self::Gpu,
        Self::Board,
    ];

    /// The value of the `domain` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Core => "core",
            Self::Uncore => "uncore",
            Self::Dram => "dram",
            Self::Psys => "psys",
            Self::Gpu => "gpu",
            Self::Board => "board",
        }
    }

    /// The index of this domain in [`Domain::ALL`].
    #[must_use]
    pub fn slot(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How the joules of a meter are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// RAPL through the kernel's perf PMU.
    RaplPerf,
    /// RAPL through `/sys/class/powercap`.
    RaplPowercap,
    /// A sensor chip through `/sys/class/hwmon`.
    Hwmon,
    /// The firmware's power meter (ACPI 4.0, device ACPI000D).
    Acpi,
    /// What a battery gives while it is being discharged.
    Battery,
    /// The management controller, through the kernel's IPMI device (DCMI).
    Ipmi,
    /// The management controller, over HTTPS (DMTF Redfish).
    Redfish,
    /// An NVIDIA GPU, as its driver counts.
    Nvml,
    /// An AMD GPU, as the kernel's driver shows it.
    Amdgpu,
    /// An AMD GPU, by its firmware's energy accumulator, through ROCm's amd-smi.
    AmdSmi,
    /// An estimate from the CPU's family and its load.
    Model,
}

impl Source {
    /// The value of the `source` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RaplPerf => "rapl-perf",
            Self::RaplPowercap => "rapl-powercap",
            Self::Hwmon => "hwmon",
            Self::Acpi => "acpi",
            Self::Battery => "battery",
            Self::Ipmi => "ipmi",
            Self::Redfish => "redfish",
            Self::Nvml => "nvml",
            Self::Amdgpu => "amdgpu",
            Self::AmdSmi => "amd-smi",
            Self::Model => "model",
        }
    }

    /// Whether the joules are an estimate rather than a measurement.
    #[must_use]
    pub fn is_estimate(self) -> bool {
        matches!(self, Self::Model)
    }
}

/// What the CPUs did, as the usage room counted it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// CPU time of all tasks since some fixed moment, in ns; only grows.
    pub busy_ns: u64,
    /// CPUs that are online.
    pub cpus: u32,
}

/// A reading: a total, when it was taken, and how good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Energy counted since this meter was opened; never less than in an earlier reading.
    pub total: Microjoules,
    /// The moments between which the counter was read.
    pub window: Window,
    /// What to think of it.
    pub quality: Quality,
}

/// Two moments of `CLOCK_BOOTTIME`, in ns: the truth lies between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Just before the counter was read.
    pub before_ns: u64,
    /// Just after.
    pub after_ns: u64,
}

impl Window {
    /// The middle of the window, in ns of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn middle_ns(self) -> u64 {
        self.before_ns / 2 + self.after_ns / 2 + (self.before_ns & self.after_ns & 1)
    }
}

/// What to think of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Read from a counter that moved.
    Measured,
    /// Computed, not measured.
    Estimated,
    /// The counter has stood still for this many reads in a row.
    Still(u32),
    /// The counter went back by more than a wrap explains, or was away and came back new:
    /// what it counted meanwhile is unknown and is not in the total.
    Reset,
}

/// Where a raw counter stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The raw counter, in µJ.
    pub raw: u64,
    /// The raw counter goes back to zero after this value, in µJ; zero if it never does.
    pub range: u64,
    /// When, in ns of `CLOCK_BOOTTIME`.
    pub at_ns: u64,
}

/// Why a meter could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The file may not be read.
    #[error(
        "{path}: permission denied; the agent needs root or CAP_DAC_READ_SEARCH to read this meter"
    )]
    Denied {
        /// The counter's file.
        path: PathBuf,
    },
    /// The meter is not there (any more).
    #[error("{path}: the meter has gone away")]
    Gone {
        /// The counter's file.
        path: PathBuf,
    },
    /// The file holds something that is no counter.
    #[error("{path}: {text:?} is not an energy counter")]
    Garbage {
        /// The counter's file.
        path: PathBuf,
        /// What it held, cut short.
        text: String,
    },
    /// A meter that is asked rather than read (a management controller) does not tell.
    #[error("{place}: {why}")]
    NoAnswer {
        /// The device or address.
        place: String,
        /// What is wrong, and what to do about it.
        why: String,
    },
    /// The read failed otherwise.
    #[error("{path}: {source}")]
    Io {
        /// The counter's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Something that a search for meters noticed and that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Where: a path or a source's name.
    pub place: String,
    /// What was seen.
    pub what: String,
    /// What to do about it; empty if nothing.
    pub advice: String,
}

impl Finding {
    /// A finding; `advice` is empty if there is nothing to do.
    pub(crate) fn new(
        place: impl fmt::Display,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            place: place.to_string(),
            what: what.into(),
            advice: advice.into(),
        }
    }
}

/// The meters that a search found, and what it noticed on the way.
#[derive(Default)]
pub struct Found {
    /// Ready to read.
    pub meters: Vec<Box<dyn Meter>>,
    /// For the status page and the log.
    pub findings: Vec<Finding>,
}

/// `CLOCK_BOOTTIME` in ns: the clock of every window and of task start times.
#[must_use]
pub fn boottime_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that outlives the call; the clock id is a constant.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}
