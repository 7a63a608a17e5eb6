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
    /// What nobody is named on.
    pub unnamed: Vec<Unnamed>,
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

/// A GPU, or a MIG instance of one, on which the driver names no process: neither as one that
/// used it nor as one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed {
    /// What a scheduler knows it by: the UUID of an NVIDIA GPU, those of an instance's MIG
    /// devices, the PCI address of an AMD GPU. Empty where the driver does not tell.
    pub ids: Vec<String>,
    /// For how long it was busy, in ns of the whole GPU; `None` where that is not counted.
    pub busy_ns: Option<u64>,
    /// For how long at the most.
    pub most_ns: u64,
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
    /// A rule: the driver names no process, so whom a scheduler gave the GPU (or a MIG instance of
    /// it) alone is taken to have used it.
    Allocated,
    /// A rule: the same of a GPU whose copies were given to several, who are taken to use it alike.
    AllocatedShared,
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
            Self::Allocated => "allocated",
            Self::AllocatedShared => "allocated-shared",
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
    /// Forgets everything, as where nothing is known.
    pub fn clear(&mut self) {
        self.uses.clear();
        self.unnamed.clear();
        self.index.clear();
        self.policy = Policy::Measured;
    }

    /// Notes, where nobody is named, how busy the whole GPU was: by its utilisation in percent at
    /// the look before and now.
    fn note_unnamed(&mut self, ids: Vec<String>, percent: Option<[u32; 2]>, span_ns: u64) {
        if self.uses.is_empty() {
            let part = |[before, now]: [u32; 2]| u64::from(before.min(100) + now.min(100));
            self.unnamed.push(Unnamed {
                ids,
                busy_ns: percent.map(|percent| span_ns / 200 * part(percent)),
                most_ns: span_ns,
            });
        }
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
