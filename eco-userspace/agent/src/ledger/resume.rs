// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Going on from the counters of an earlier agent, and leaving them for the next.

use eco_attribution::Reason;
use eco_meter::Load;
use eco_usage::ProcessKey;

use crate::{
    carbon::books::CarbonRow,
    core::{Core, meters::MeterSlot},
    ledger::{
        accounts::{Kind, Row},
        saved::{Saved, SavedJob, SavedMeter, SavedPart, SavedPhase, SavedProcess, SavedView},
    },
    series::{Phase, ProcessSeries, ViewSeries, scrapers::Moment},
    workloads::{
        cluster_job::Part,
        job_trace::JobTrace,
        jobs::{Job, Membership},
    },
};

impl Core {
    /// Takes over what an earlier agent left; what its meters counted since belongs to nobody.
    pub(crate) fn resume(&mut self) {
        let saved = self.store.load().unwrap_or_default();
        let same_boot = saved.boot_id == boot_id();
        let places = self.match_meters(&saved.meters);
        self.size_rows();
        self.intensities.push(saved.pushed_intensity);
        if saved.counts_carbon {
            self.books.open_carbon();
        }
        // Of the time in which no agent ran, only what is configured is known.
        self.books.set_carbon_rate(self.intensities.standing_rate());
        for (meter, &at) in saved.meters.iter().zip(&places) {
            self.resume_meter(at, meter, same_boot);
        }
        self.own_base.clone_from(&self.own_energy);
        self.books.kernel_cpu_ns = saved.kernel_cpu_ns;
        self.books.other_cpu_ns = saved.other_cpu_ns;
        let spread = |energy: &[u64]| {
            let mut row: Row = vec![0; self.meters.len()];
            for (uj, &at) in energy.iter().zip(&places) {
                row[at] = *uj;
            }
            row
        };
        let carbon_meters = if saved.counts_carbon {
            self.meters.len()
        } else {
            0
        };
        let spread_carbon = |carbon: &CarbonRow| {
            let mut row = CarbonRow::zeros(carbon_meters);
            for (emissions, &at) in carbon.iter().zip(&places) {
                row.add(at, emissions);
            }
            row
        };
        for process in saved.processes {
            let mut series = restored(&process, spread(&process.energy), same_boot);
            series.carbon = spread_carbon(&process.carbon);
            self.books.board.restore(series);
            if same_boot {
                let key = ProcessKey {
                    pid: process.name.pid,
                    start_ns: process.name.start_ns,
                };
                self.orphans.insert(key, process.name);
            }
        }
        for view in saved.views {
            let account = self.books.accounts.open();
            self.books.views.announce(ViewSeries {
                kind: view.kind,
                base_energy: spread(&view.energy),
                base_carbon: spread_carbon(&view.carbon),
                base_cpu_ns: view.cpu_ns,
                name: view.name,
                user: view.user,
                tags: view.tags,
                account,
                phase: phase(view.phase),
            });
        }
        if same_boot {
            self.resuming = saved.jobs;
        }
    }

    /// Opens the jobs of an earlier agent again, now that it is known who is there.
    pub(crate) fn resume_jobs(&mut self) {
        for saved in std::mem::take(&mut self.resuming) {
            if let Membership::Cgroup(path) = &saved.membership
                && !self.usage.watch(path)
            {
                tracing::warn!(job = saved.id, "its cgroup went while no agent ran: closed");
                continue;
            }
            let views = &mut self.books.views;
            let kind = saved.part.as_ref().map_or(Kind::Job, |_| Kind::Run);
            let Some(account) = views.find(kind, &saved.id) else {
                continue;
            };
            let part = saved.part.map(|part| Part {
                job: part.job,
                rank: part.rank,
                account: part.view.and_then(|view| views.find(Kind::Job, &view)),
            });
            self.books.job_idle.insert(account, saved.idle_share);
            self.jobs.resume(
                Job {
                    id: saved.id,
                    name: saved.name,
                    uid: saved.uid,
                    started: saved.started,
                    membership: saved.membership,
                    account,
                    part,
                    trace: saved.trace.as_ref().and_then(JobTrace::resumed),
                    processes: saved.processes,
                    // Of those who died meanwhile nobody knows.
                    missed_deaths: true,
                    agent_before: (0, self.books.sum.total(&self.own_base)),
                    uncovered_before: saved.uncovered_before,
                },
                &self.usage,
            );
        }
        self.homes.jobs_changed(&self.usage, &self.jobs);
    }

    /// Leaves the counters for the next agent.
    pub(crate) fn save(&mut self) {
        if !self.store.is_writing() {
            return;
        }
        let mut saved = Saved {
            boot_id: boot_id().to_owned(),
            meters: (0..self.meters.len())
                .map(|at| self.saved_meter(at))
                .collect(),
            counts_carbon: self.books.carbon.is_open(),
            pushed_intensity: self.intensities.pushed().cloned(),
            kernel_cpu_ns: self.books.kernel_cpu_ns,
            other_cpu_ns: self.books.other_cpu_ns,
            processes: self.books.board.iter().map(saved_process).collect(),
            views: self
                .books
                .views
                .iter()
                .filter_map(|view| self.saved_view(view))
                .collect(),
            jobs: self.jobs.iter().map(|job| self.saved_job(job)).collect(),
            ..Saved::default()
        };
        self.store.save(&mut saved);
    }

    /// Where each saved meter is among ours now; those that are gone are kept as absent.
    fn match_meters(&mut self, saved: &[SavedMeter]) -> Vec<usize> {
        let cpus = self.cpus;
        let mut places = Vec::new();
        for earlier in saved {
            let key = |d: &eco_meter::Descriptor| (d.domain, d.device.clone(), d.source);
            let wanted = key(&earlier.descriptor);
            let found = self
                .meters
                .iter()
                .position(|slot| key(&slot.descriptor) == wanted);
            places.push(found.unwrap_or_else(|| {
                self.meters
                    .push(MeterSlot::absent(earlier.descriptor.clone(), cpus));
                self.meters.len() - 1
            }));
        }
        places
    }

    fn resume_meter(&mut self, at: usize, saved: &SavedMeter, same_boot: bool) {
        let books = &mut self.books;
        books.node[at] = saved.node;
        books.idle[at] = saved.idle;
        books.kernel_energy[at] = saved.kernel;
        books.other_energy[at] = saved.other;
        books.departed[at] = saved.departed;
        for (row, uj) in books.unattributed.iter_mut().zip(&saved.unattributed) {
            row[at] = *uj;
        }
        self.own_energy[at] = saved.own;
        books.carbon.resume(at, &saved.carbon);
        let slot = &mut self.meters[at];
        if saved.baseline.cpus() == slot.baseline.cpus() {
            slot.baseline = saved.baseline.clone();
        }
        // The first read sets the meter's base, which is where downtime ends.
        if slot
            .read(&Load {
                busy_ns: 0,
                cpus: self.cpus,
            })
            .is_some()
        {
            tracing::warn!(
                meter = slot.descriptor.name,
                "counted before its first read"
            );
        }
        let earlier = saved.position.filter(|_| same_boot);
        if let Some(meanwhile) = earlier.and_then(|position| slot.counted_since(&position)) {
            tracing::info!(
                meter = slot.descriptor.name,
                joules = meanwhile.joules().0,
                "counted while no agent ran; belongs to nobody"
            );
            books.book_downtime(at, meanwhile);
            self.history.book_downtime(at, meanwhile.0);
        }
    }

    fn saved_meter(&self, at: usize) -> SavedMeter {
        let (slot, books) = (&self.meters[at], &self.books);
        SavedMeter {
            descriptor: slot.descriptor.clone(),
            position: slot.position(),
            baseline: slot.baseline.clone(),
            node: books.node[at],
            idle: books.idle[at],
            kernel: books.kernel_energy[at],
            other: books.other_energy[at],
            departed: books.departed[at],
            unattributed: (0..Reason::ALL.len())
                .map(|r| books.unattributed[r][at])
                .collect(),
            own: self.own_energy.get(at).copied().unwrap_or(0),
            carbon: books.carbon.saved(at),
        }
    }

    fn saved_view(&self, view: &ViewSeries) -> Option<SavedView> {
        let account = self.books.accounts.get(view.account)?;
        let energy = account
            .energy
            .iter()
            .zip(&view.base_energy)
            .map(|(a, b)| a + b)
            .collect();
        let mut carbon = account.carbon.clone();
        carbon.add_all(&view.base_carbon);
        Some(SavedView {
            carbon,
            kind: view.kind,
            name: view.name.clone(),
            user: view.user.clone(),
            tags: view.tags.clone(),
            cpu_ns: account.cpu_ns + view.base_cpu_ns,
            energy,
            phase: saved_phase(view.phase),
        })
    }
}

impl Core {
    fn saved_job(&self, job: &Job) -> SavedJob {
        SavedJob {
            id: job.id.clone(),
            name: job.name.clone(),
            uid: job.uid,
            started: job.started.clone(),
            membership: job.membership.clone(),
            processes: job.processes,
            uncovered_before: job.uncovered_before,
            trace: job.trace.as_ref().and_then(JobTrace::saved),
            part: job.part.as_ref().map(|part| SavedPart {
                job: part.job.clone(),
                rank: part.rank,
                view: part
                    .account
                    .and_then(|account| Some(self.books.views.of(account)?.name.clone())),
            }),
            idle_share: self
                .books
                .job_idle
                .get(&job.account)
                .copied()
                .unwrap_or(0.0),
        }
    }
}

fn restored(process: &SavedProcess, energy: Row, same_boot: bool) -> ProcessSeries {
    let phase = if same_boot {
        phase(process.phase)
    } else {
        Phase::Leaving(Moment::ZERO)
    };
    ProcessSeries {
        name: process.name.clone(),
        label: process.label.clone(),
        account: None,
        phase,
        energy,
        carbon: CarbonRow::EMPTY,
        cpu_ns: process.cpu_ns,
    }
}

fn saved_process(series: &ProcessSeries) -> SavedProcess {
    SavedProcess {
        name: series.name.clone(),
        label: series.label.clone(),
        cpu_ns: series.cpu_ns,
        energy: series.energy.clone(),
        carbon: series.carbon.clone(),
        phase: saved_phase(series.phase),
    }
}

fn phase(saved: SavedPhase) -> Phase {
    match saved {
        SavedPhase::Announced => Phase::Announced(Moment::ZERO),
        SavedPhase::Live => Phase::Live,
        SavedPhase::Leaving => Phase::Leaving(Moment::ZERO),
    }
}

fn saved_phase(phase: Phase) -> SavedPhase {
    match phase {
        Phase::Announced(_) => SavedPhase::Announced,
        Phase::Live => SavedPhase::Live,
        Phase::Leaving(_) => SavedPhase::Leaving,
    }
}

/// The running boot's id; empty where the kernel does not say, and then no raw counter of an
/// earlier agent's is trusted unless it did not know either.
fn boot_id() -> &'static str {
    static ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}
