// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The job that a run is a part of, as its cluster calls it: on however many nodes, under one id.
//!
//! A run is what `POST /v1/jobs` opens. Where it is a part of something larger (a rank, a
//! command in a batch script, a run within a run) it is a unit of kind `run`, and its joules are
//! shown as a job's once: those of the larger job. In order:
//!
//! 1. an id that the caller insists on, under `eco`;
//! 2. the job of Slurm or Kubernetes whose cgroup the caller is in. That is the kernel's word,
//!    and those joules are booked by the cgroup already: nothing is booked here;
//! 3. an id that whoever launched the ranks gave them all, under `eco`;
//! 4. a run of the same user's around it.
//!
//! Ids of the second kind cannot be claimed, and those of the others are their user's own: two
//! users with one id have two jobs.

use eco_identity::path::Home;
use eco_usage::{Process, Slot};
use serde::{Deserialize, Serialize};

use crate::{
    api::JobRequest,
    core::Core,
    ledger::accounts::{AccountId, Kind},
    series::Tags,
    workloads::{
        homes::whose,
        jobs::{self, Job, JobError},
        pods, slurm,
    },
};

/// What `manager` says of eco's own jobs.
pub(crate) const MANAGER: &str = "eco";

/// A job as its series are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterJob {
    /// `eco`, `slurm` or `kubernetes`.
    pub manager: String,
    /// As that manager calls it.
    pub id: String,
}

/// What makes a run a part of a job.
#[derive(Clone, Debug)]
pub struct Part {
    /// The job.
    pub job: ClusterJob,
    /// Which of its ranks, if it has any.
    pub rank: Option<u32>,
    /// Where its runs are booked together; `None` for another manager's job.
    pub account: Option<AccountId>,
}

/// The job that `uid`'s new run is a part of, if it is. `pid` is the caller.
///
/// # Errors
/// When the id of the request is no label.
pub(crate) fn of(
    core: &mut Core,
    request: &JobRequest,
    uid: u32,
    pid: Option<u32>,
) -> Result<Option<Part>, JobError> {
    let asked = request.job.as_ref();
    if asked.is_some_and(|id| id.is_empty() || !jobs::is_label(id)) {
        return Err(JobError::BadName);
    }
    let rank = request.rank;
    let insisted = asked.filter(|_| !request.by_launcher);
    let by_cgroup = || Some(by_cgroup(core, pid?)).flatten();
    if insisted.is_none()
        && let Some(job) = by_cgroup()
    {
        let account = None;
        return Ok(Some(Part { job, rank, account }));
    }
    if let Some(id) = asked {
        return Ok(Some(Part {
            job: ClusterJob {
                manager: MANAGER.into(),
                id: id.clone(),
            },
            rank,
            account: Some(joined(core, id, uid)),
        }));
    }
    let around = pid.and_then(|pid| around(core, pid));
    Ok(around.filter(|job| job.uid == uid).map(|job| Part {
        job: named(job),
        rank,
        account: match &job.part {
            Some(part) => part.account,
            None => Some(job.account),
        },
    }))
}

/// Whether `pid` is in a pod that nobody has named yet and somebody may: then it is asked for.
pub(crate) fn awaits_name(core: &mut Core, pid: u32) -> bool {
    core.tick();
    let directory = &core.homes.pods.directory;
    let Some(pod) = home(core, pid).and_then(|home| home.pod) else {
        return false;
    };
    let is_missing = directory.register().pod(&pod.uid).is_none();
    if is_missing {
        directory.want(&pod.uid, pod.container.as_deref());
    }
    is_missing && directory.is_on()
}

/// As its series are called.
pub(crate) fn named(job: &Job) -> ClusterJob {
    match &job.part {
        Some(part) => part.job.clone(),
        None => ClusterJob {
            manager: MANAGER.into(),
            id: job.id.clone(),
        },
    }
}

fn by_cgroup(core: &Core, pid: u32) -> Option<ClusterJob> {
    let home = home(core, pid)?;
    if let Some(slurm) = home.slurm {
        return Some(ClusterJob {
            manager: slurm::MANAGER.into(),
            id: slurm.job.to_string(),
        });
    }
    let register = core.homes.pods.directory.register();
    let pod = register.pod(&home.pod?.uid)?;
    let job = pod.job.as_ref()?;
    Some(ClusterJob {
        manager: pods::MANAGER.into(),
        id: format!("{}/{}", pod.namespace, job.name),
    })
}

/// The run that a process belongs to.
pub(crate) fn around(core: &Core, pid: u32) -> Option<&Job> {
    let (slot, process) = process(core, pid)?;
    if let Some(account) = core.jobs.of_slot(slot, &core.usage, true) {
        return core.jobs.iter().find(|job| job.account == account);
    }
    let cgroup = core.usage.cgroup(process.cgroup)?;
    let paths = cgroup.paths.as_ref()?;
    core.jobs.iter().find(|job| job.holds(&paths.unified))
}

fn home(core: &Core, pid: u32) -> Option<Home> {
    let (_, process) = process(core, pid)?;
    let cgroup = core.usage.cgroup(process.cgroup)?;
    Some(whose(cgroup.paths.as_ref()?))
}

fn process(core: &Core, pid: u32) -> Option<(Slot, &Process)> {
    let mut processes = core.usage.processes();
    processes.find(|(_, process)| process.key.pid == pid)
}

/// The view of a user's job of that id, which may be a new one.
fn joined(core: &mut Core, id: &str, uid: u32) -> AccountId {
    let user = core.homes.user_name(uid);
    let mut world = core.world();
    let fresh = world.books.accounts.open();
    let tags = Tags::Job {
        manager: MANAGER.into(),
        id: id.to_owned(),
    };
    // As `slurm/4711`; the user is in it, since an id is their own.
    let name = format!("{MANAGER}/{user}/{id}");
    let account = world.adopt(Kind::Job, name, &user, tags, fresh);
    if account != fresh {
        world.books.accounts.close(fresh);
    }
    account
}
