// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who used a GPU, in nanoseconds of it: a GPU whose every SM was busy for a second was used
//! for 10⁹ ns.
//!
//! Where the driver measures each process, its samples are integrated; where it does not, the
//! use of the whole is divided by a rule, and the [`Policy`] says which.

pub mod amdgpu;
mod ledger;
mod nvml;

pub use nvml::NvmlUse;

use rustc_hash::FxHashMap;

/// A GPU of whatever maker, asked who used it.
pub trait GpuSource: Send {
    /// Says that the GPU will be sampled soon. Does not wait.
    fn ask(&mut self) {}

    /// Who used it since the sample before; the first one only notes where everyone stands.
    ///
    /// # Errors
    /// When that is not known; `frame` is then empty. What was used meanwhile is in a later
    /// frame, where the driver still knows it.
    fn sample(&mut self, frame: &mut GpuFrame) -> Result<(), GpuError>;

    /// How often the driver did not answer in time.
    fn late(&self) -> u64 {
        0
    }
}

/// Who used a GPU. Reused from tick to tick.
#[derive(Clone, Debug, Default)]
pub struct GpuFrame {
    /// When, in µs of Unix time.
    pub at_unix_us: u64,
    /// Each process that used it or has memory on it, once.
    pub uses: Vec<GpuUse>,
    /// How it is known.
    pub policy: Policy,
    /// Where in `uses` each process is.
    index: FxHashMap<u32, usize>,
}

/// What one process used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuUse {
    /// Which; zero for one that is not known.
    pub pid: u32,
    /// Its part of the GPU's time, in ns.
    pub busy_ns: u64,
    /// Of the encoder's and decoder's, likewise.
    pub media_ns: u64,
    /// Its memory on the GPU, in bytes, where that is known.
    pub memory: Option<u64>,
    /// When it was last seen to use it, in µs of Unix time: its id may be another's since.
    pub last_unix_us: u64,
}

/// How the use of a process is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The driver measures each process.
    #[default]
    Measured,
    /// The driver measures each process, but had dropped some samples before it was asked: a rule
    /// takes the time that they stood for to have been like the rest.
    MeasuredInPart,
    /// A rule: processes that take turns on the GPU are taken to use it alike.
    TimeSliced,
    /// A rule: the clients of the multi-process service are taken to use it alike.
    Mps,
    /// A rule: a MIG instance used its slices for as long as it was busy (or, where that is not
    /// counted, occupied), its processes alike.
    MigSlice,
}

impl Policy {
    /// The value of the `policy` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::MeasuredInPart => "measured-in-part",
            Self::TimeSliced => "time-sliced",
            Self::Mps => "mps",
            Self::MigSlice => "mig-slice",
        }
    }
}

/// Why it is not known who used a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The driver has not answered yet.
    #[error(transparent)]
    Late(#[from] eco_nvml::Late),
    /// The driver refused.
    #[error(transparent)]
    Trouble(#[from] eco_nvml::Trouble),
}

impl GpuFrame {
    pub(crate) fn clear(&mut self) {
        self.uses.clear();
        self.index.clear();
        self.policy = Policy::Measured;
    }

    /// The entry of a process, made on first sight.
    pub(crate) fn entry(&mut self, pid: u32) -> &mut GpuUse {
        let at = *self.index.entry(pid).or_insert(self.uses.len());
        if at == self.uses.len() {
            self.uses.push(GpuUse {
                pid,
                busy_ns: 0,
                media_ns: 0,
                memory: None,
                last_unix_us: self.at_unix_us,
            });
        }
        &mut self.uses[at]
    }
}
