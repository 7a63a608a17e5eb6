// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who pays for a GPU: each GPU's use, joined to the processes, containers, users and jobs that
//! the CPU side knows.
//!
//! A driver knows processes by their id alone, and tells of them late: a process may be gone,
//! and its id another's. So those who left are remembered for a while, and a process is who it
//! says only if it was there at the time.

mod allocation;

use std::time::{SystemTime, UNIX_EPOCH};

use eco_attribution::IdlePolicy;
use eco_meter::amdgpu::Prompt;
use eco_usage::{
    Slot,
    gpu::{
        GpuFrame, GpuSource, NvmlUse,
        amdgpu::{AmdUse, Clients},
    },
};
use rustc_hash::FxHashMap;

use self::allocation::{Allocations, Charged};
use crate::{
    config::Config,
    core::{
        Core,
        meters::{Bank, MeterSlot},
    },
    ledger::{
        accounts::AccountId,
        books::{Payer, Use, VIEWS},
    },
    outlets::{exposition::Exposition, metrics::catalogue},
    own::privileges,
    workloads::homes::World,
};

/// For how many ticks those who left are remembered: a driver samples once a second at least.
const REMEMBERED_TICKS: u64 = 3;

/// All GPUs whose users are known.
#[derive(Default)]
pub struct Gpus {
    watched: Vec<Watched>,
    /// Processes that are no more, by id.
    parted: FxHashMap<u32, Parted>,
    /// Who holds which GPU, for when its driver names nobody.
    allocations: Allocations,
    /// Whether a GPU's users are known by the files that they have open.
    reads_open_files: bool,
}

/// One GPU.
struct Watched {
    /// Its meter's place.
    meter: usize,
    device: String,
    source: Box<dyn GpuSource>,
    /// Where the meter is asked apart from the source.
    prompt: Option<Prompt>,
    frame: GpuFrame,
    uses: Vec<Use>,
    /// Whether it is known who used it up to now.
    is_known: bool,
    /// Whether it may have been used though it was at rest.
    in_doubt: bool,
}

struct Parted {
    who: Who,
    started_ns: u64,
    tick: u64,
}

/// Who answers for a process.
#[derive(Clone, Copy)]
struct Who {
    payer: Payer,
    views: [Option<AccountId>; VIEWS],
}

/// What is known of a GPU's users in this tick.
pub(crate) struct Users<'a> {
    /// Each with its part of the GPU's time.
    pub(crate) uses: &'a [Use],
    /// Whether some of it is missing.
    pub(crate) partial: bool,
    /// Whether it may have been used though nobody is known to have: no lesson in idle power.
    pub(crate) in_doubt: bool,
}

impl Gpus {
    /// Finds the GPUs, adds their meters to `bank`, and looks at each once.
    pub(crate) fn open(config: &Config, bank: &mut Bank) -> Self {
        let options = eco_nvml::Options {
            // These threads are made before the others give up their privileges.
            on_thread: Some(|| drop(privileges::drop_unused(None))),
            ..eco_nvml::Options::of(&config.nvml_library)
        };
        let search = eco_meter::nvml::discover(&options, &config.sysfs);
        bank.findings.extend(search.found.findings);
        let mut gpus = Self::default();
        for (meter, device) in search.found.meters.into_iter().zip(search.devices) {
            let source = Box::new(NvmlUse::new(device));
            gpus.watch(MeterSlot::new(meter, 1), source, None, bank);
        }
        gpus.find_amd(config, bank);
        gpus.ask();
        for gpu in &mut gpus.watched {
            gpu.sample();
        }
        gpus
    }

    fn find_amd(&mut self, config: &Config, bank: &mut Bank) {
        let options = eco_amdsmi::Options {
            on_thread: Some(|| drop(privileges::drop_unused(None))),
            ..eco_amdsmi::Options::of(&config.amdsmi_library)
        };
        let search = eco_meter::amdgpu::discover(&config.sysfs, &options);
        bank.findings.extend(search.findings);
        self.reads_open_files = !search.gpus.is_empty();
        let clients = Clients::new(config.procfs.clone());
        for gpu in search.gpus {
            let (card, clients) = (gpu.card, clients.clone());
            let source = AmdUse::new(&config.sysfs, card.address, &card.folder, clients);
            let slot = MeterSlot::new(gpu.meter, 1);
            self.watch(slot, Box::new(source), gpu.prompt, bank);
        }
    }

    /// What it takes to know a GPU's users, beside what every tick needs.
    #[must_use]
    pub fn needs(&self) -> Option<caps::Capability> {
        self.reads_open_files
            .then_some(privileges::TO_READ_PROCESSES)
    }

    fn watch(
        &mut self,
        slot: MeterSlot,
        source: Box<dyn GpuSource>,
        prompt: Option<Prompt>,
        bank: &mut Bank,
    ) {
        self.watched.push(Watched {
            meter: bank.slots.len(),
            device: slot.descriptor.device.clone(),
            source,
            prompt,
            frame: GpuFrame::default(),
            uses: Vec::new(),
            is_known: false,
            in_doubt: false,
        });
        bank.slots.push(slot);
    }

    /// Says that GPUs will be looked at soon.
    pub(crate) fn ask(&mut self) {
        for gpu in &mut self.watched {
            gpu.source.ask();
            if let Some(prompt) = &gpu.prompt {
                prompt.ask();
            }
        }
    }

    /// Who used the GPU of that meter in this tick; `None` for a meter of something else.
    pub(crate) fn users_of(&self, meter: usize) -> Option<Users<'_>> {
        let gpu = self.watched.iter().find(|gpu| gpu.meter == meter)?;
        Some(Users {
            uses: &gpu.uses,
            partial: !gpu.is_known,
            in_doubt: gpu.in_doubt,
        })
    }
}

impl Watched {
    fn sample(&mut self) {
        self.uses.clear();
        self.in_doubt = false;
        let sampled = self.source.sample(&mut self.frame);
        if let Err(why) = &sampled {
            // Once: the meter's quality tells for how long.
            if self.is_known {
                tracing::warn!(gpu = self.device, error = %why, "its users are not known");
            }
            self.frame.clear();
        }
        self.is_known = sampled.is_ok();
    }

    /// Takes in how a time is paid for in which the driver named nobody.
    fn charge(&mut self, charged: Charged) {
        self.uses.extend(charged.uses);
        self.in_doubt = charged.in_doubt;
        if let Some(policy) = charged.policy {
            self.frame.policy = policy;
        }
    }
}

impl Core {
    /// Looks at every GPU, and works out who answers for what was used there.
    pub(crate) fn sample_gpus(&mut self) {
        if self.gpus.watched.is_empty() {
            return;
        }
        let mut watched = std::mem::take(&mut self.gpus.watched);
        let by_id = self.slots_by_id();
        let at_boot_ns = boottime_of();
        let directory = &self.homes.pods.directory;
        self.gpus.allocations.refresh(directory);
        for gpu in &mut watched {
            gpu.sample();
            for used in &gpu.frame.uses {
                // Where idle is shared equally, whoever holds a GPU pays a part of it.
                if used.busy_ns == 0 && self.config.idle_policy != IdlePolicy::Equal {
                    continue;
                }
                let who = self.who(used.pid, at_boot_ns(used.last_unix_us), &by_id);
                gpu.uses.push(Use {
                    payer: who.payer,
                    views: who.views,
                    ns: used.busy_ns,
                    eligible: matches!(who.payer, Payer::Process(_)),
                });
            }
            gpu.charge(self.by_allocation(&gpu.frame));
        }
        self.gpus.watched = watched;
        let now = self.ticks;
        self.gpus
            .parted
            .retain(|_, parted| now < parted.tick + REMEMBERED_TICKS);
    }

    /// How the time is paid for in which the driver named nobody.
    fn by_allocation(&self, frame: &GpuFrame) -> Charged {
        let mut charged = Charged::default();
        for unnamed in &frame.unnamed {
            let allocations = &self.gpus.allocations;
            let holders = allocations.holders(unnamed, &self.homes, &self.jobs);
            charged.add(unnamed, &holders);
        }
        charged
    }

    /// Remembers who answers for a process that is no more. Before its job forgets it.
    pub(crate) fn part_from_gpus(&mut self, slot: Slot) {
        if self.gpus.watched.is_empty() {
            return;
        }
        let account = self.processes.get(slot.index()).copied().flatten();
        let Some(key) = self.usage.process(slot).map(|process| process.key) else {
            return;
        };
        if let Some(who) = account.and_then(|account| self.who_is(slot, account)) {
            let tick = self.ticks;
            let parted = Parted {
                who,
                started_ns: key.start_ns,
                tick,
            };
            self.gpus.parted.insert(key.pid, parted);
        }
    }

    fn slots_by_id(&self) -> FxHashMap<u32, Slot> {
        let living = self.slots.values();
        living
            .filter_map(|slot| Some((self.usage.process(*slot)?.key.pid, *slot)))
            .collect()
    }

    /// Who had this id at that time, in ns of `CLOCK_BOOTTIME`.
    fn who(&mut self, pid: u32, at_ns: u64, by_id: &FxHashMap<u32, Slot>) -> Who {
        let living = by_id.get(&pid).copied().filter(|slot| {
            let process = self.usage.process(*slot);
            process.is_some_and(|process| process.key.start_ns <= at_ns)
        });
        let known = living.and_then(|slot| {
            let account = self.processes.get(slot.index()).copied().flatten()?;
            self.who_is(slot, account)
        });
        let parted = || {
            let parted = self.gpus.parted.get(&pid)?;
            (parted.started_ns <= at_ns).then_some(parted.who)
        };
        known.or_else(parted).unwrap_or(Who {
            payer: Payer::Nobody,
            views: [None; VIEWS],
        })
    }

    fn who_is(&mut self, slot: Slot, account: AccountId) -> Option<Who> {
        let now = self.now();
        let process = self.usage.process(slot)?;
        let by_descent = self.jobs.of_slot(slot, &self.usage, true);
        let mut world = World {
            usage: &self.usage,
            jobs: &self.jobs,
            books: &mut self.books,
            now,
        };
        let uid = Some(process.uid);
        let views = self
            .homes
            .views(process.cgroup, uid, by_descent, &mut world);
        Some(Who {
            payer: Payer::Process(account),
            views,
        })
    }
}

/// From µs of Unix time to ns of `CLOCK_BOOTTIME`, as the two stand now: the one may be set.
fn boottime_of() -> impl Fn(u64) -> u64 {
    let boot_us = eco_usage::clock::boottime_ns() / 1000;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_us = unix.unwrap_or_default().as_micros() as u64;
    move |at_us| {
        (boot_us + at_us)
            .saturating_sub(unix_us)
            .saturating_mul(1000)
    }
}

/// What `/metrics` says of GPUs, beside their energy.
pub(crate) fn write(core: &Core, text: &mut Exposition<'_>) {
    let watched = &core.gpus.watched;
    if watched.is_empty() {
        return;
    }
    text.family(&catalogue::GPU_SPLIT_INFO);
    for gpu in watched {
        let policy = gpu.frame.policy.label();
        text.integer(&[("device", &gpu.device), ("policy", policy)], 1);
    }
    text.family(&catalogue::GPU_LATE_ANSWERS);
    for gpu in watched {
        let late = gpu.source.late() + gpu.prompt.as_ref().map_or(0, Prompt::late);
        text.integer(&[("device", &gpu.device)], late.into());
    }
}
