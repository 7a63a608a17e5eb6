// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads eco-ebpf and reads it. The only file of eco that knows aya.

use std::{
    fs::File,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    time::Instant,
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{MapData, PerCpuArray, PerCpuHashMap, RingBuf},
    programs::{BtfTracePoint, Iter},
};
use eco_common::{
    BIRTHS_RING_BYTES, CgroupBirth, DEATHS_RING_BYTES, FoldStats, Offsets, SPILL_ENTRIES, Spill,
    SpillKey, TaskRecord, offsets::ABSENT,
};

use crate::{
    btf::{Btf, BtfError, KERNEL},
    cgroups::Mounts,
    fields::{self, MissingField},
    records,
    source::{Costs, Scan, SourceError, TaskSource, Tier},
};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/eco-ebpf.o"));

/// How much is read from the iterator at once: two of the kernel's own buffers.
const READ_BYTES: usize = 64 * 1024;

/// Why eco's programs are not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This binary was built without them.
    #[error(
        "this eco-agent was built without its eBPF programs; \
         `cargo xtask build` builds them in"
    )]
    NotBuilt,
    /// The kernel publishes no types.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// The kernel lacks a field.
    #[error(transparent)]
    Field(#[from] MissingField),
    /// The kernel refused.
    #[error("the kernel refused eco's eBPF programs at {step}: {why}")]
    Refused {
        /// Which step.
        step: &'static str,
        /// The whole chain of what was said.
        why: String,
    },
}

/// eco's programs, loaded and attached.
pub struct BpfSource {
    /// Keeps the programs and the fold's link alive.
    ebpf: Ebpf,
    #[cfg(feature = "kernel-log")]
    words: crate::kernel_log::KernelLog,
    deaths: RingBuf<MapData>,
    /// `None` where the kernel does not tell: paths are then looked for.
    births: Option<RingBuf<MapData>>,
    spill: PerCpuHashMap<MapData, PodSpillKey, PodSpill>,
    stats: PerCpuArray<MapData, PodFoldStats>,
    buffer: Vec<u8>,
    spill_seen: u64,
    scans: u64,
    scan_ns: u64,
    cpus: u64,
}

impl BpfSource {
    /// Resolves the offsets, loads the programs and attaches the fold.
    ///
    /// # Errors
    /// When the kernel lacks what they need or refuses them; the message says which.
    pub fn load(mounts: &Mounts) -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NotBuilt);
        }
        let source = Self::load_unbounded(mounts);
        return_unused_pages();
        source
    }

    fn load_unbounded(mounts: &Mounts) -> Result<Self, LoadError> {
        let offsets = offsets(mounts)?;
        let types = AyaBtf::from_sys_fs().map_err(|e| refused("reading the kernel's BTF", &e))?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&types))
            .override_global("OFFSETS", &PodOffsets(offsets), true)
            .override_global("CPUACCT_HIERARCHY", &cpuacct_hierarchy(mounts), true)
            .load(OBJECT)
            .map_err(|e| refused("loading the maps", &e))?;

        let iterator: &mut Iter = program(&mut ebpf, "eco_tasks")?;
        iterator
            .load("task", &types)
            .map_err(|e| refused("loading iter/task", &e))?;
        let fold: &mut BtfTracePoint = program(&mut ebpf, "eco_deaths")?;
        fold.load("sched_process_free", &types)
            .map_err(|e| refused("loading tp_btf/sched_process_free", &e))?;
        fold.attach()
            .map_err(|e| refused("attaching to sched_process_free", &e))?;

        let births = match hear_of_births(&mut ebpf, &types) {
            Ok(()) => Some(
                RingBuf::try_from(map(&mut ebpf, "BIRTHS")?)
                    .map_err(|e| refused("opening the ring of births", &e))?,
            ),
            // Who has no name for that is still counted.
            Err(_) => None,
        };

        Ok(Self {
            births,
            deaths: RingBuf::try_from(map(&mut ebpf, "DEATHS")?)
                .map_err(|e| refused("opening the ring of deaths", &e))?,
            spill: PerCpuHashMap::try_from(map(&mut ebpf, "SPILL")?)
                .map_err(|e| refused("opening the spill map", &e))?,
            stats: PerCpuArray::try_from(map(&mut ebpf, "FOLD_STATS")?)
                .map_err(|e| refused("opening the fold's counters", &e))?,
            #[cfg(feature = "kernel-log")]
            words: crate::kernel_log::KernelLog::open(&mut ebpf),
            ebpf,
            buffer: vec![0; READ_BYTES],
            spill_seen: 0,
            scans: 0,
            scan_ns: 0,
            cpus: aya::util::nr_cpus().map_or(1, |n| n as u64),
        })
    }

    /// A fresh pass over all tasks: aya gives one file per attachment.
    fn open_iterator(&mut self) -> Result<File, SourceError> {
        let failed = |e: &dyn std::error::Error| SourceError::Iterator(chain(e));
        let iterator: &mut Iter = self
            .ebpf
            .program_mut("eco_tasks")
            .ok_or_else(|| SourceError::Iterator("eco_tasks is not loaded".into()))?
            .try_into()
            .map_err(|e: aya::programs::ProgramError| failed(&e))?;
        let link = iterator.attach().map_err(|e| failed(&e))?;
        let link = iterator.take_link(link).map_err(|e| failed(&e))?;
        link.into_file().map_err(|e| failed(&e))
    }

    fn fold_stats(&self) -> FoldStats {
        let mut sum = FoldStats::default();
        if let Ok(slots) = self.stats.get(&0, 0) {
            for PodFoldStats(one) in slots.iter() {
                sum.deaths += one.deaths;
                sum.ring_full += one.ring_full;
                sum.lost += one.lost;
                sum.lost_ns += one.lost_ns;
                sum.timed += one.timed;
                sum.timed_ns += one.timed_ns;
            }
        }
        sum
    }
}

impl TaskSource for BpfSource {
    fn tier(&self) -> Tier {
        Tier::Iter
    }

    fn scan(&mut self, visit: &mut dyn FnMut(&TaskRecord)) -> Result<Scan, SourceError> {
        #[cfg(feature = "kernel-log")]
        self.words.pass_on();
        let begun = Instant::now();
        let mut file = self.open_iterator()?;
        let scan = records::read(&mut file, &mut self.buffer, visit);
        self.scans += 1;
        self.scan_ns += begun.elapsed().as_nanos() as u64;
        scan
    }

    fn deaths(&mut self, visit: &mut dyn FnMut(&TaskRecord)) {
        while let Some(item) = self.deaths.next() {
            if item.len() == TaskRecord::SIZE {
                visit(&records::record(&item));
            }
        }
    }

    fn births(&mut self, visit: &mut dyn FnMut(&CgroupBirth)) {
        let Some(births) = &mut self.births else {
            return;
        };
        while let Some(item) = births.next() {
            if item.len() == CgroupBirth::SIZE {
                visit(&records::birth(&item));
            }
        }
    }

    fn spilled(&mut self, visit: &mut dyn FnMut(SpillKey, Spill)) {
        // Two system calls a key: looked at only when something new was spilled.
        let full = self.fold_stats().ring_full;
        if full == self.spill_seen {
            return;
        }
        self.spill_seen = full;
        for (PodSpillKey(key), values) in self.spill.iter().flatten() {
            let mut sum = Spill::default();
            for PodSpill(one) in values.iter() {
                sum.runtime_ns += one.runtime_ns;
                sum.processes += one.processes;
            }
            visit(key, sum);
        }
    }

    fn wakeup(&self) -> Option<RawFd> {
        Some(self.deaths.as_raw_fd())
    }

    fn costs(&mut self) -> Costs {
        let spill_entry = (size_of::<SpillKey>() + size_of::<Spill>() * self.cpus as usize) as u64;
        Costs {
            fold: self.fold_stats(),
            map_bytes: u64::from(DEATHS_RING_BYTES)
                + u64::from(BIRTHS_RING_BYTES)
                + u64::from(SPILL_ENTRIES) * spill_entry
                + self.cpus * size_of::<FoldStats>() as u64
                + size_of::<Offsets>() as u64,
            scans: self.scans,
            scan_ns: self.scan_ns,
        }
    }
}

/// The running kernel's release.
#[must_use]
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

fn offsets(mounts: &Mounts) -> Result<Offsets, LoadError> {
    let types = Btf::read(Path::new(KERNEL))?;
    let mut offsets = fields::resolve(&types, &kernel_release())?;
    if mounts.cpuacct.is_none() {
        // Not mounted as v1: the controller then sits in the v2 hierarchy and says nothing more.
        offsets.css_set_cpuacct = ABSENT;
    }
    Ok(offsets)
}

fn hear_of_births(ebpf: &mut Ebpf, types: &AyaBtf) -> Result<(), LoadError> {
    let births: &mut BtfTracePoint = program(ebpf, "eco_cgroups")?;
    births
        .load("cgroup_mkdir", types)
        .map_err(|e| refused("loading tp_btf/cgroup_mkdir", &e))?;
    births
        .attach()
        .map_err(|e| refused("attaching to cgroup_mkdir", &e))?;
    Ok(())
}

/// The number of v1's cpuacct hierarchy, or 0: proc(5), `/proc/PID/cgroup`.
fn cpuacct_hierarchy(mounts: &Mounts) -> u32 {
    if mounts.cpuacct.is_none() {
        return 0;
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut lines = own.lines().filter_map(|line| line.split_once(':'));
    let of_cpuacct = lines.find(|(_, rest)| {
        let controllers = rest.split(':').next().unwrap_or_default();
        controllers.split(',').any(|one| one == "cpuacct")
    });
    of_cpuacct
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let missing = || LoadError::Refused {
        step: name,
        why: "not in the object".into(),
    };
    ebpf.program_mut(name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|e| refused(name, &e))
}

fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Refused {
        step: name,
        why: "not in the object".into(),
    })
}

fn refused(step: &'static str, error: &dyn std::error::Error) -> LoadError {
    LoadError::Refused {
        step,
        why: chain(error),
    }
}

/// An error and all that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    // The verifier's log can be pages long; its end says what was wrong.
    if text.len() > 2000 {
        let from = text.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
        text = format!(
            "{}…{}",
            text.chars().take(300).collect::<String>(),
            &text[from..]
        );
    }
    text
}

/// Parsing the kernel's types takes some 55 MB for a moment; this gives the pages back.
fn return_unused_pages() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, touches only the allocator's free lists.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Says that a type of eco-common may be copied to and from the kernel as bytes. A wrapper,
/// as both the type and the trait are foreign here.
macro_rules! pod {
    ($wrapper:ident, $inner:ty) => {
        #[repr(transparent)]
        #[derive(Clone, Copy, Default)]
        struct $wrapper($inner);
        // SAFETY: `repr(C)` integers without padding: any bytes are a value.
        unsafe impl Pod for $wrapper {}
    };
}

pod!(PodOffsets, Offsets);
pod!(PodSpillKey, SpillKey);
pod!(PodSpill, Spill);
pod!(PodFoldStats, FoldStats);
