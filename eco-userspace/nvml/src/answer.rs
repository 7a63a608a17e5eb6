// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a GPU is asked for.

use crate::power::PowerIntegral;

/// Which GPU it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// NVML's index when the driver was opened.
    pub index: u32,
    /// Its UUID, where the driver tells one that is text.
    pub uuid: Option<String>,
    /// The product's name, likewise.
    pub name: Option<String>,
    /// What was odd: for the status page.
    pub oddities: Vec<String>,
}

/// One look at a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What it has drawn.
    pub energy: Result<Energy, Trouble>,
    /// What was done on it since the answer before.
    pub activity: Result<Activity, Trouble>,
}

/// What a GPU has drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Energy {
    /// How much.
    pub counted: Counted,
    /// `CLOCK_BOOTTIME` in ns, just before the call.
    pub before_ns: u64,
    /// Just after.
    pub after_ns: u64,
}

/// How much energy, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// By the GPU's own counter, in mJ since the driver was loaded.
    SinceLoad(u64),
    /// By the driver's samples of power since the answer before.
    Sampled(PowerIntegral),
}

/// What was done on a GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// When, in µs of Unix time: the clock of the driver's samples.
    pub at_unix_us: u64,
    /// Utilisation by process since the answer before.
    pub samples: PerProcess,
    /// Whether the driver had dropped some of these samples before it was asked: its buffer holds
    /// only so many.
    pub overflowed: bool,
    /// Who has a context, by the latest list.
    pub running: Vec<Running>,
    /// MIG instances; empty without MIG.
    pub instances: Vec<Instance>,
    /// How many slices the GPU has in all, with MIG.
    pub slices: u32,
    /// Utilisation of the whole GPU over the driver's last sampling period, in percent.
    pub busy_percent: Option<u32>,
}

/// Utilisation by process.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PerProcess {
    /// The driver does not tell.
    #[default]
    Untold,
    /// The driver's samples, in its order.
    Told(Vec<Sample>),
}

/// A process's utilisation over one of the driver's sampling periods, as told: may be nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which process.
    pub pid: u32,
    /// The end of the period, in µs of Unix time.
    pub at_unix_us: u64,
    /// Of the SMs, in percent.
    pub sm: u32,
    /// Of the memory's bandwidth.
    pub memory: u32,
    /// Of the encoder.
    pub encoder: u32,
    /// Of the decoder.
    pub decoder: u32,
}

/// How a process uses a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// With a CUDA context of its own.
    Compute,
    /// For graphics.
    Graphics,
    /// As a client of the multi-process service.
    Mps,
}

/// A process with a context on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Which process.
    pub pid: u32,
    /// How.
    pub kind: Kind,
    /// Memory in use in bytes, where the driver knows.
    pub memory: Option<u64>,
    /// Its GPU instance, with MIG.
    pub gpu_instance: Option<u32>,
}

/// A MIG GPU instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its id.
    pub gpu_instance: u32,
    /// The UUIDs of its MIG devices, one for each compute instance, as far as the driver tells.
    pub uuids: Vec<String>,
    /// How many slices it has.
    pub slices: u32,
    /// How busy its SMs were since the answer before, 0 to 1, where the GPU counts that.
    pub busy: Option<f64>,
}

/// Why a GPU did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It has fallen off the bus, or cannot be found.
    #[error("the GPU is lost: it has fallen off the bus (see dmesg for Xid errors)")]
    Lost,
    /// Neither this GPU nor this driver can tell.
    #[error("{0}")]
    Untold(&'static str),
    /// The driver refused.
    #[error("{call}: {why}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// What it said.
        why: String,
    },
}
