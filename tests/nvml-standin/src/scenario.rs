// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The script: `scenario.toml`.
//!
//! ```toml
//! [[gpu]]
//! idle_watts = 60.0
//! [[gpu.process]]
//! pid = 4711
//! start = 3.0
//! end = 9.0
//! watts = 120.0
//! sm = 40
//! ```

use eco_driver_standin::{ScriptError, for_ever};
use serde::Deserialize;

/// What goes wrong.
pub type Fault = eco_driver_standin::Fault<What>;

/// A machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What `nvmlSystemGetDriverVersion` says.
    #[serde(default = "recent_driver")]
    pub driver: String,
    /// When it began, in seconds of `CLOCK_BOOTTIME`; without it, when a program loads it.
    #[serde(default)]
    pub began: Option<f64>,
    /// What `nvmlInit_v2` returns; 0 for success.
    #[serde(default)]
    pub init: u32,
    /// The GPUs, in NVML's order.
    #[serde(default)]
    pub gpu: Vec<Gpu>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
}

/// A GPU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// What `nvmlDeviceGetName` says, byte for byte: it need be no text.
    #[serde(default)]
    pub name: Option<Name>,
    /// Drawn whatever runs.
    pub idle_watts: f64,
    /// Where the energy counter stands at the start, in mJ.
    #[serde(default)]
    pub counter_millijoules: u64,
    /// Whether there is an energy counter (from Volta on).
    #[serde(default = "yes")]
    pub energy_counter: bool,
    /// Whether per-process utilisation is told.
    #[serde(default = "yes")]
    pub process_utilization: bool,
    /// Whether the GPM counters are there (from Hopper on).
    #[serde(default)]
    pub gpm: bool,
    /// How often the driver samples, in ms.
    #[serde(default = "default_period")]
    pub sample_ms: u64,
    /// How many samples the driver keeps.
    #[serde(default = "default_kept")]
    pub samples_kept: u64,
    /// MIG instances; if there are any, MIG is on.
    #[serde(default)]
    pub instance: Vec<Instance>,
    /// What runs on it.
    #[serde(default)]
    pub process: Vec<Process>,
}

/// A name: text, or bytes that are none.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Name {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Name {
    /// As C has it, but for the end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A MIG device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The GPU instance.
    pub gpu_instance: u32,
    /// The compute instance within it.
    #[serde(default)]
    pub compute_instance: u32,
    /// GPU slices, of seven.
    pub slices: u32,
}

/// Which list a process is in.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A CUDA context.
    #[default]
    Compute,
    /// OpenGL and its like.
    Graphics,
    /// A client of the multi-process service.
    Mps,
}

/// A process's time on a GPU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Whether the driver names it: else its work is in the GPU's and the instance's own counters
    /// alone, as that of a guest is.
    #[serde(default = "yes")]
    pub named: bool,
    /// From when, in seconds since the start.
    #[serde(default)]
    pub start: f64,
    /// Until when.
    #[serde(default = "for_ever")]
    pub end: f64,
    /// What it draws on top of idle.
    #[serde(default)]
    pub watts: f64,
    /// SM utilisation in percent: of the GPU or, with MIG, of its instance.
    #[serde(default)]
    pub sm: u32,
    /// Encoder utilisation in percent.
    #[serde(default)]
    pub encoder: u32,
    /// Memory in bytes; 2^64-1 reads as "unknown".
    #[serde(default)]
    pub memory: u64,
    /// Which list it is in.
    #[serde(default)]
    pub kind: Kind,
    /// Its GPU instance, with MIG.
    #[serde(default)]
    pub gpu_instance: Option<u32>,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The call returns when the fault is over.
    Hang,
    /// The call fails with a code.
    Error,
    /// The GPU is off the bus.
    Lost,
    /// The energy counter, or memory in use, reads 2^64-1.
    Unknown,
    /// The energy counter starts anew at that moment.
    Reset,
    /// Utilisation samples hold what they should not: no time, more than 100 %, pid 0.
    Garbage,
}

impl Scenario {
    /// Understands a script.
    ///
    /// # Errors
    /// When it is no TOML, or has an unknown key.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        eco_driver_standin::parse(text)
    }

    /// The fault that meets a call at `seconds`, if any.
    pub(crate) fn fault(&self, gpu: Option<usize>, call: &str, seconds: f64) -> Option<&Fault> {
        let mut faults = self.fault.iter();
        faults.find(|fault| fault.what.stops_calls() && fault.meets(gpu, call, seconds))
    }

    /// Whether `what` is the matter with a GPU at `seconds`.
    pub(crate) fn suffers(&self, gpu: usize, what: What, seconds: f64) -> bool {
        let mut faults = self.fault.iter();
        faults.any(|fault| fault.ails(gpu, &what, seconds))
    }

    /// When a GPU's energy counter last started anew before `seconds`.
    pub(crate) fn last_reset(&self, gpu: usize, seconds: f64) -> Option<f64> {
        Fault::last_begun(&self.fault, gpu, &What::Reset, seconds)
    }
}

impl What {
    fn stops_calls(self) -> bool {
        matches!(self, Self::Hang | Self::Error | Self::Lost)
    }
}

fn recent_driver() -> String {
    "570.86.15".into()
}

fn yes() -> bool {
    true
}

/// Between a sixth of a second and a second, says nvml.h of `nvmlDeviceGetProcessUtilization`.
fn default_period() -> u64 {
    200
}

fn default_kept() -> u64 {
    100
}
