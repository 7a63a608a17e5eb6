// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tick: read who used the CPU, read the meters, book every joule.
//!
//! One thread owns all of this. Nothing is locked; outlets ask between two ticks.

mod charges;
pub mod gpus;
pub mod meters;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eco_attribution::{IdlePolicy, Interval};
use eco_identity::{Users, kubernetes::PodDirectory, slurm::JobDirectory};
use eco_meter::{Domain, Finding, Load};
use eco_push::Queue;
use eco_usage::{Frame, Process, ProcessKey, Slot, Usage};
use jiff::Timestamp;
use rustc_hash::FxHashMap;

use crate::{
    carbon::Intensities,
    config::{Compat, Config},
    core::{gpus::Gpus, meters::MeterSlot},
    ledger::{
        accounts::{AccountId, Row},
        books::{Books, Use},
        saved::{SavedJob, Store},
        window::Recent,
    },
    outlets::{
        history::{self, History},
        kepler::Kepler,
        push::OutletTally,
        traces::{self, Traces},
    },
    own::latency::Latencies,
    series::{
        ProcessName,
        scrapers::{Moment, Scrapers},
    },
    workloads::{
        homes::{Homes, World},
        jobs::Jobs,
        pods::Pods,
        slurm::SlurmJobs,
    },
};

/// How long a process's power of late counts for its rank.
const RANK_MEMORY: Duration = Duration::from_secs(30);

/// Names of users and the list of meters are looked at again after this many ticks.
const HOUSEKEEPING_TICKS: u64 = 60;

/// Everything that a tick touches.
pub struct Core {
    /// How the agent was asked to run.
    pub config: Config,
    /// The node's name.
    pub node: String,
    /// CPUs online.
    pub cpus: u32,
    /// Who used the CPU.
    pub usage: Usage,
    /// Why this tier.
    pub tier_reason: String,
    /// The last sample.
    pub frame: Frame,
    /// The meters, in the order of every row.
    pub meters: Vec<MeterSlot>,
    /// Their domains, in the same order.
    pub domains: Vec<Domain>,
    /// What the search for meters noticed.
    pub findings: Vec<Finding>,
    /// The books.
    pub books: Books,
    /// Which intensity carbon is counted at.
    pub intensities: Intensities,
    /// Which views a use belongs to.
    pub homes: Homes,
    /// Open jobs.
    pub jobs: Jobs,
    /// Who used the GPUs.
    pub gpus: Gpus,
    /// Who scrapes.
    pub scrapers: Scrapers,
    /// How long the agent's own steps take.
    pub latencies: Latencies,
    /// How each outlet fares that pushes.
    pub outlets: Vec<OutletTally>,
    /// What waits to be pushed, by signal.
    pub queues: Vec<(&'static str, Arc<Queue>)>,
    /// The spans of jobs.
    pub traces: Traces,
    /// Where counters are kept.
    pub store: Store,
    /// When this agent started.
    pub started: Instant,
    /// Ticks done.
    pub ticks: u64,
    /// Ticks in which the living could not be read.
    pub failed_scans: u64,
    /// What Kepler's series need, if they are asked for.
    pub(crate) kepler: Option<Kepler>,
    /// How long the next answer to a scrape is about to be, in bytes.
    pub(crate) scrape_bytes: usize,
    /// The largest estimate shown of the time spent in the fold of the dead, in seconds: it is a
    /// sampled mean times a count, and the mean may fall where a counter must not.
    pub(crate) fold_seconds: f64,
    /// The last minute, for means over a window.
    pub recent: Recent,
    /// What is kept of each tick on disk.
    pub history: History,
    /// All energy of this agent and those before it, in µJ by meter.
    pub own_energy: Row,
    /// The part of it that is from those before, in µJ by meter.
    pub(crate) own_base: Row,
    /// Bookings of each slot's process.
    pub processes: Vec<Option<AccountId>>,
    /// The slot of each process's account.
    pub slots: FxHashMap<AccountId, Slot>,
    /// Series of an earlier agent that wait for their process to be seen again.
    pub(crate) orphans: FxHashMap<ProcessKey, ProcessName>,
    /// Jobs of an earlier agent that wait for the first tick.
    pub(crate) resuming: Vec<SavedJob>,
    /// Used in this tick and not paid for yet.
    pub(crate) uses: Vec<Use>,
    /// Whether this tick has counted already.
    counted: bool,
    /// Whether some of this tick's use is not known.
    partial: bool,
    /// Accounts of those who died in this tick.
    leaving: Vec<AccountId>,
    /// `node` and `idle` of each meter as they were before the tick.
    before: Vec<(u64, u64)>,
    last_at: Option<Instant>,
    boot_unix_ns: u64,
}

impl Core {
    /// Opens the sources, finds the meters and goes on from the counters of an earlier agent.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let opened = eco_usage::open(config.usage_wanted(), config.procfs.clone());
        tracing::info!(
            tier = opened.usage.tier().label(),
            reason = opened.reason,
            "cpu time is counted"
        );
        let cpus = cpus_online();
        let mut bank = meters::discover(&config, cpus);
        let gpus = Gpus::open(&config, &mut bank);
        let books = Books::new(config.idle_policy, config.top);
        let kepler = config.compat.map(|Compat::Kepler| {
            let cpuinfo = std::fs::read_to_string(config.procfs.join("cpuinfo"));
            Kepler::new(&cpuinfo.unwrap_or_default())
        });
        let mut core = Self {
            node: config.node_name(),
            cpus,
            usage: opened.usage,
            tier_reason: opened.reason,
            frame: Frame::default(),
            meters: bank.slots,
            domains: Vec::new(),
            findings: bank.findings,
            books,
            intensities: Intensities::new(config.carbon.clone()),
            homes: Homes::new(
                Users::open(&PathBuf::from("/etc/passwd")),
                Pods::new(PodDirectory::new(config.kubernetes.clone())),
                SlurmJobs::new(JobDirectory::new(config.slurm.clone())),
            ),
            jobs: Jobs::default(),
            gpus,
            scrapers: Scrapers::default(),
            latencies: Latencies::default(),
            outlets: Vec::new(),
            queues: Vec::new(),
            traces: Traces::default(),
            store: Store::open(config.state.as_deref()),
            started: Instant::now(),
            ticks: 0,
            failed_scans: 0,
            kepler,
            scrape_bytes: 0,
            fold_seconds: 0.0,
            recent: Recent::default(),
            history: History::default(),
            own_energy: Row::new(),
            own_base: Row::new(),
            processes: Vec::new(),
            slots: FxHashMap::default(),
            orphans: FxHashMap::default(),
            resuming: Vec::new(),
            uses: Vec::new(),
            counted: false,
            partial: false,
            leaving: Vec::new(),
            before: Vec::new(),
            last_at: None,
            boot_unix_ns: boot_unix_ns(),
            config,
        };
        core.resume();
        core
    }

    /// What it takes to know who used what, beside what every tick needs.
    #[must_use]
    pub fn needs(&self) -> Option<caps::Capability> {
        let reads_processes = self.config.slurm.reads_environments();
        let also = reads_processes.then_some(crate::own::privileges::TO_READ_PROCESSES);
        self.gpus.needs().or(also)
    }

    /// Time since this agent started.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.started.elapsed()
    }

    /// What opening views needs.
    pub(crate) fn world(&mut self) -> World<'_> {
        World {
            now: self.now(),
            usage: &self.usage,
            jobs: &self.jobs,
            books: &mut self.books,
        }
    }

    /// One tick: counts who used the CPU, and pays for it with what the meters counted.
    pub fn tick(&mut self) {
        let begun = Instant::now();
        self.gpus.ask();
        self.count();
        self.pay();
        self.latencies.tick.record(begun.elapsed());
    }

    /// Counts who used the CPU since it was counted last. May be done several times in a tick:
    /// all is then paid for together, as records of the dead come late and a short interval's
    /// joules are not theirs.
    pub fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            let span = self.last_at.map_or(Duration::ZERO, |last| last.elapsed());
            self.books
                .begin_tick((-span.as_secs_f32() / RANK_MEMORY.as_secs_f32()).exp());
        }
        if let Err(why) = self.usage.sample(&mut self.frame) {
            self.failed_scans += 1;
            self.partial = true;
            tracing::warn!(error = %why, "tasks not read in this tick");
        }
        self.ticks += 1;
        self.welcome();
        let known = self.uses.len();
        self.resolve();
        self.books.book_cpu(&self.uses[known..]);
        self.part();
    }

    /// Reads the meters and books what they counted, with all that goes with the end of a tick.
    fn pay(&mut self) {
        let now = Instant::now();
        let span = self
            .last_at
            .map_or(Duration::ZERO, |last| now.duration_since(last));
        self.last_at = Some(now);
        if self.config.idle_policy == IdlePolicy::Equal {
            self.add_resting();
        }
        let uses = std::mem::take(&mut self.uses);
        let books = &self.books;
        self.before.clear();
        self.before
            .extend(books.node.iter().zip(&books.idle).map(|(n, i)| (*n, *i)));
        let partial = std::mem::take(&mut self.partial);
        self.books
            .set_carbon_rate(self.intensities.rate(Timestamp::now()));
        self.sample_gpus();
        self.read_meters(&uses, partial);
        let busy_ns = uses.iter().map(|used| used.ns).sum();
        self.remember(span, busy_ns);
        history::record(self, span, busy_ns);
        self.uses = uses;
        self.uses.clear();
        self.counted = false;
        self.book_own();
        traces::record(self);
        self.bury();
        self.move_series();
        self.watch_for_kepler();
        if self.ticks.is_multiple_of(HOUSEKEEPING_TICKS) {
            self.homes.refresh_users();
            crate::workloads::work::close_abandoned(self);
            let now = self.now();
            self.books
                .views
                .leave_dead(now, |view| self.homes.is_alive(view, &self.jobs));
        }
        let saving = Instant::now();
        self.save();
        self.latencies.save.record(saving.elapsed());
    }

    /// Opens accounts for those who were born.
    fn welcome(&mut self) {
        let born = std::mem::take(&mut self.frame.born);
        self.processes.resize(self.usage.capacity(), None);
        self.jobs.born(&born, &self.usage);
        for &slot in &born {
            let Some(process) = self.usage.process(slot) else {
                continue;
            };
            if process.kernel {
                continue;
            }
            let account = self.books.accounts.open();
            if let Some(name) = self.orphans.remove(&process.key) {
                self.books.board.adopt(&name, account);
            }
            self.processes[slot.index()] = Some(account);
            self.slots.insert(account, slot);
            self.join_job_by_cgroup(slot);
        }
        self.frame.born = born;
        if self.ticks == 1 {
            // Whoever an earlier agent showed and who is not here any more has left.
            self.orphans.clear();
            self.books.board.leave_orphans(self.started.elapsed());
            self.resume_jobs();
        }
    }

    fn join_job_by_cgroup(&mut self, slot: Slot) {
        let cgroup = self
            .usage
            .process(slot)
            .and_then(|p| self.usage.cgroup(p.cgroup));
        let Some(paths) = cgroup.and_then(|c| c.paths.as_ref()) else {
            return;
        };
        let holders: Vec<AccountId> = self
            .jobs
            .iter()
            .filter(|j| j.holds(&paths.unified))
            .map(|j| j.account)
            .collect();
        for account in holders {
            self.jobs.count(account, 1);
        }
    }

    fn read_meters(&mut self, uses: &[Use], partial: bool) {
        let load = Load {
            busy_ns: self.frame.busy_ns,
            cpus: self.cpus,
        };
        for (at, slot) in self.meters.iter_mut().enumerate() {
            if !slot.is_present() {
                continue;
            }
            let (uses, partial) = match self.gpus.users_of(at) {
                Some(users) => {
                    slot.in_doubt |= users.in_doubt;
                    (users.uses, users.partial)
                }
                None => (uses, partial),
            };
            let begun = Instant::now();
            let counted = slot.read(&load);
            self.latencies.meter.record(begun.elapsed());
            let Some(counted) = counted else {
                slot.carry(uses);
                continue;
            };
            let mut all = std::mem::take(&mut slot.carried);
            all.extend_from_slice(uses);
            let busy_ns: u64 = all.iter().map(|used| used.ns).sum();
            let teaches = slot.teaches();
            if !partial && teaches && !counted.gap && !counted.span.is_zero() {
                let busy_cpus = busy_ns as f64 / counted.span.as_nanos() as f64;
                slot.baseline.observe(slot.watts, busy_cpus, counted.span);
            }
            let interval = Interval {
                energy: counted.energy,
                span: counted.span,
                idle_power: slot.idle_power().map(|idle| idle.watts),
            };
            self.books.book_energy(at, &interval, &all, partial);
            all.clear();
            slot.carried = all;
        }
    }

    /// Keeps the tick for means over a window.
    fn remember(&mut self, span: Duration, busy_ns: u64) {
        let books = &self.books;
        let node = books
            .node
            .iter()
            .zip(&self.before)
            .map(|(now, before)| now - before.0);
        let idle = books
            .idle
            .iter()
            .zip(&self.before)
            .map(|(now, before)| now - before.1);
        self.recent
            .record(span, busy_ns, &books.accounts, node, idle);
    }

    /// The agent's own share is kept apart too.
    fn book_own(&mut self) {
        let Some(account) = self.own_account() else {
            return;
        };
        let Some(own) = self.books.accounts.get(account) else {
            return;
        };
        let before = self.own_energy.len();
        self.own_energy.resize(own.energy.len().max(before), 0);
        let base = &self.own_base;
        for (at, cell) in self.own_energy.iter_mut().enumerate() {
            let earlier = base.get(at).copied().unwrap_or(0);
            *cell = earlier + own.energy.get(at).copied().unwrap_or(0);
        }
    }

    /// The agent's own account.
    #[must_use]
    pub fn own_account(&self) -> Option<AccountId> {
        let me = std::process::id();
        let (slot, _) = self.usage.processes().find(|(_, p)| p.key.pid == me)?;
        self.processes.get(slot.index()).copied().flatten()
    }

    /// Parts with those who are no more. Their accounts stay until the tick is paid for.
    fn part(&mut self) {
        for at in 0..self.frame.gone.len() {
            let slot = self.frame.gone[at];
            self.part_from_gpus(slot);
            self.jobs.died(slot);
            if let Some(account) = self.processes.get_mut(slot.index()).and_then(Option::take) {
                self.slots.remove(&account);
                self.leaving.push(account);
            }
        }
        let now = self.now();
        for at in 0..self.frame.cgroups_gone.len() {
            self.homes
                .forget(self.frame.cgroups_gone[at], &mut self.books, now);
        }
    }

    /// Closes the accounts of those who are no more.
    fn bury(&mut self) {
        let now = self.now();
        for account in self.leaving.drain(..) {
            self.books.board.leave(account, now);
            self.books.accounts.close(account);
        }
    }

    /// When a process started, in seconds of Unix time.
    #[must_use]
    pub fn start_unix(&self, process: &Process) -> u64 {
        (self.boot_unix_ns + process.key.start_ns) / 1_000_000_000
    }
}

/// When the machine was booted, in ns of Unix time.
fn boot_unix_ns() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_nanos() as u64).saturating_sub(eco_usage::clock::boottime_ns())
}

fn cpus_online() -> u32 {
    // SAFETY: takes a constant and returns a number.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(online).unwrap_or(1).max(1)
}
