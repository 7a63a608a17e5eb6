// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who used the CPU and the GPU, in nanoseconds.
//!
//! [`open`] picks the best source that the machine allows; [`Usage::sample`] says, each tick,
//! who used how much since the last one. Nobody who lived, died or was born in between is lost
//! or counted twice: see [`ledger`].

use std::path::{Path, PathBuf};

mod births;
pub mod bpf;
pub mod btf;
pub mod cgroup_table;
pub mod cgroups;
pub mod clock;
mod dead;
pub mod fields;
pub mod frame;
pub mod gpu;
mod hidden;
#[cfg(feature = "kernel-log")]
mod kernel_log;
pub mod ledger;
mod orphans;
pub mod process;
pub mod procfs;
pub mod reaper;
mod records;
mod settle;
pub mod source;

pub use cgroup_table::{Cgroup, CgroupIndex};
pub use cgroups::{CgroupPaths, Mounts};
pub use frame::{Charge, Counters, Frame};
pub use ledger::Usage;
pub use process::{Comm, Process, ProcessKey, Slot, State};
pub use source::{Costs, SourceError, Tier};

/// `PROC_SUPER_MAGIC` of include/uapi/linux/magic.h.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Which source to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best that works.
    #[default]
    Best,
    /// `/proc`, whatever else would work.
    Procfs,
}

/// What [`open`] found.
pub struct Opened {
    /// Ready to sample.
    pub usage: Usage,
    /// Why this tier, in a sentence: for the status page and the log.
    pub reason: String,
}

/// Opens the best source of CPU time; falls back to `/proc` and says why.
#[must_use]
pub fn open(wanted: Wanted, procfs: PathBuf) -> Opened {
    let mounts = Mounts::detect(Path::new("/proc"));
    let refused = match wanted {
        Wanted::Procfs => "procfs was asked for".to_owned(),
        Wanted::Best if !is_procfs(&procfs) => {
            format!(
                "{} is no mounted procfs, so its tasks are no tasks of this kernel",
                procfs.display()
            )
        }
        Wanted::Best => match bpf::BpfSource::load(&mounts) {
            Ok(source) => {
                let reason = Tier::Iter.blindness().to_owned();
                return Opened {
                    usage: Usage::new(Box::new(source), procfs, mounts),
                    reason,
                };
            }
            Err(why) => why.to_string(),
        },
    };
    let source = procfs::ProcfsSource::new(procfs.clone(), mounts.clone());
    let reason = format!("{refused}; {}", Tier::Procfs.blindness());
    Opened {
        usage: Usage::new(Box::new(source), procfs, mounts),
        reason,
    }
}

/// Whether `path` is a procfs of the running kernel.
fn is_procfs(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(text) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a valid C string, and room for the answer.
    if unsafe { libc::statfs(text.as_ptr(), info.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: filled in by the kernel, which said so.
    let kind = unsafe { info.assume_init() }.f_type;
    kind == PROC_SUPER_MAGIC
}
