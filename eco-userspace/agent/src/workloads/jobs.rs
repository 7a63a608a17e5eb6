// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs that a caller opened on processes of their own.

use eco_push::trace::TraceContext;
use eco_usage::{ProcessKey, Slot, Usage};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::{
    api::JobRequest,
    ledger::accounts::AccountId,
    workloads::{cluster_job::Part, job_trace::JobTrace},
};

/// How many jobs one user may have open at once.
pub const MOST_PER_USER: usize = 256;

/// How a job's members are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Everything in a cgroup of the job's own, and below it: the path in the v2 hierarchy.
    Cgroup(String),
    /// A process (unless it is left out) and all its descendants.
    Descent {
        /// The root of the tree.
        root: ProcessKey,
        /// Whether the root itself is no member.
        exclude_root: bool,
    },
}

/// An open job.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to close it by.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Who opened it.
    pub uid: u32,
    /// When, RFC 3339.
    pub started: String,
    /// Who belongs to it.
    pub membership: Membership,
    /// Its account.
    pub account: AccountId,
    /// What it is a part of, if it is.
    pub part: Option<Part>,
    /// The trace that it belongs to.
    pub trace: Option<JobTrace>,
    /// Processes that have belonged to it.
    pub processes: u64,
    /// Whether some may have come and gone that `processes` does not count.
    pub missed_deaths: bool,
    /// What the agent had used when it was opened, in ns and µJ.
    pub agent_before: (u64, u64),
    /// The node's energy without an intensity when it was opened, in µJ.
    pub uncovered_before: u64,
}

/// Why a job cannot be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JobError {
    /// No such process.
    #[error("no process {0} is running; give the pid of a running process of yours")]
    NoProcess(u32),
    /// Somebody else's process or cgroup.
    #[error("{0} is not yours; only its owner or root may open a job on it")]
    NotYours(String),
    /// No such cgroup.
    #[error("no cgroup {0} in the v2 hierarchy; make it before you open the job")]
    NoCgroup(String),
    /// Too many.
    #[error("you have {MOST_PER_USER} jobs open already; close one first")]
    TooMany,
    /// A name that no label should hold.
    #[error("a name or an id of a job is empty, longer than 256 bytes or holds control characters")]
    BadName,
    /// No such job.
    #[error("no open job {0}")]
    NoJob(String),
}

/// All open jobs, and who belongs to them by descent.
#[derive(Default)]
pub struct Jobs {
    open: Vec<Job>,
    by_slot: FxHashMap<Slot, AccountId>,
    /// The accounts of larger jobs, by those of their parts.
    larger: FxHashMap<AccountId, AccountId>,
    opened: u64,
}

impl Jobs {
    /// All that are open.
    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.open.iter()
    }

    /// The open job of that id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Job> {
        self.open.iter().find(|job| job.id == id)
    }

    /// Checks a request of `uid`'s, and says whom the job is about.
    ///
    /// # Errors
    /// When the process or cgroup is not there or not theirs, or the name is no name.
    pub fn admit(
        &self,
        request: &JobRequest,
        uid: u32,
        caller: Option<u32>,
        usage: &Usage,
    ) -> Result<Membership, JobError> {
        let name = request.name.as_deref().unwrap_or_default();
        if !is_label(name) {
            return Err(JobError::BadName);
        }
        if self.open.iter().filter(|job| job.uid == uid).count() >= MOST_PER_USER {
            return Err(JobError::TooMany);
        }
        if let Some(path) = &request.cgroup {
            return admit_cgroup(path, uid, usage);
        }
        let pid = request.pid.or(caller).unwrap_or_default();
        let mut found = usage
            .processes()
            .map(|(_, p)| p)
            .filter(|p| p.key.pid == pid);
        let process = found.next().ok_or(JobError::NoProcess(pid))?;
        if uid != 0 && process.uid != uid {
            return Err(JobError::NotYours(format!("process {pid}")));
        }
        let exclude_root = request.exclude_root;
        Ok(Membership::Descent {
            root: process.key,
            exclude_root,
        })
    }

    /// An id that no job before it had.
    pub fn next_id(&mut self, unix_ms: u64) -> String {
        self.opened += 1;
        format!("{unix_ms:x}-{}", self.opened)
    }

    /// Opens a job, with those who are there already.
    pub fn open(&mut self, mut job: Job, usage: &Usage) {
        if let Membership::Descent { root, exclude_root } = job.membership {
            let tree = descendants(usage, root);
            let members = tree
                .into_iter()
                .filter(|(_, key)| !(exclude_root && *key == root));
            for (slot, _) in members {
                job.processes += 1;
                self.by_slot.insert(slot, job.account);
            }
        } else {
            let inside = usage.processes().filter(|(_, p)| {
                let cgroup = usage.cgroup(p.cgroup).and_then(|c| c.paths.as_ref());
                cgroup.is_some_and(|paths| job.holds(&paths.unified))
            });
            job.processes += inside.count() as u64;
        }
        if let Some(larger) = job.part.as_ref().and_then(|part| part.account) {
            self.larger.insert(job.account, larger);
        }
        self.open.push(job);
    }

    /// Goes on with a job that was opened with an earlier agent.
    pub fn resume(&mut self, job: Job, usage: &Usage) {
        let processes = job.processes;
        let id = job.id.clone();
        self.open(job, usage);
        // Who is there now was counted then, or joined while no agent ran.
        if let Some(job) = self.open.iter_mut().find(|job| job.id == id) {
            job.processes = processes;
        }
    }

    /// Closes a job.
    pub fn close(&mut self, id: &str) -> Option<Job> {
        let at = self.open.iter().position(|job| job.id == id)?;
        let job = self.open.swap_remove(at);
        self.by_slot.retain(|_, account| *account != job.account);
        self.larger.remove(&job.account);
        Some(job)
    }

    /// The account of the larger job that a run is a part of.
    #[must_use]
    pub fn larger(&self, run: AccountId) -> Option<AccountId> {
        self.larger.get(&run).copied()
    }

    /// Whether an open run is booked there, as itself or as a part.
    #[must_use]
    pub fn feed(&self, account: AccountId) -> bool {
        let feeds = |job: &Job| job.account == account || self.larger(job.account) == Some(account);
        self.open.iter().any(feeds)
    }

    /// The trace of an open run that is booked there.
    #[must_use]
    pub fn trace(&self, account: AccountId) -> Option<TraceContext> {
        self.open.iter().find_map(|job| {
            let feeds = job.account == account || self.larger(job.account) == Some(account);
            let trace = job.trace.as_ref().filter(|_| feeds);
            trace.map(|trace| trace.context)
        })
    }

    /// Processes were born: each belongs where its parent does.
    pub fn born(&mut self, born: &[Slot], usage: &Usage) {
        if self.open.is_empty() {
            return;
        }
        // Once more as long as somebody joins: a child may be listed before its parent.
        while born.iter().filter(|slot| self.join(**slot, usage)).count() > 0 {}
    }

    fn join(&mut self, slot: Slot, usage: &Usage) -> bool {
        let Some(process) = usage.process(slot) else {
            return false;
        };
        // The agent is nobody's work, though a caller may have started it.
        if self.by_slot.contains_key(&slot) || process.key.pid == std::process::id() {
            return false;
        }
        let by_parent = usage
            .find(process.parent)
            .and_then(|parent| self.by_slot.get(&parent));
        let by_root = || {
            self.open.iter().find_map(|job| match job.membership {
                Membership::Descent { root, .. } if root == process.parent => Some(job.account),
                _ => None,
            })
        };
        let Some(account) = by_parent.copied().or_else(by_root) else {
            return false;
        };
        self.by_slot.insert(slot, account);
        self.count(account, 1);
        true
    }

    /// A process is no more.
    pub fn died(&mut self, slot: Slot) {
        self.by_slot.remove(&slot);
    }

    /// `processes` more have belonged to a job.
    pub fn count(&mut self, account: AccountId, processes: u64) {
        if let Some(job) = self.open.iter_mut().find(|job| job.account == account) {
            job.processes += processes;
        }
    }

    /// Somebody died, and no record told of it. For a job with a cgroup of its own that shows
    /// in the kernel's total of it, where a record that was merely late evens out.
    pub fn missed_death(&mut self, account: AccountId) {
        let mut open = self.open.iter_mut();
        if let Some(job) = open.find(|job| job.account == account)
            && let Membership::Descent { .. } = job.membership
        {
            job.missed_deaths = true;
        }
    }

    /// The job of a process, by descent; or of the unseen children of `parent`.
    #[must_use]
    pub fn of_slot(&self, slot: Slot, usage: &Usage, own: bool) -> Option<AccountId> {
        if let Some(account) = self.by_slot.get(&slot) {
            return Some(*account);
        }
        // The root that is left out itself still passes the job on to its children.
        let key = usage.process(slot).map(|p| p.key)?;
        self.open.iter().find_map(|job| match job.membership {
            Membership::Descent { root, .. } if !own && root == key => Some(job.account),
            _ => None,
        })
    }

    /// Jobs that nobody can close or add to any more: their opener is gone, and so is all that
    /// belonged to them.
    #[must_use]
    pub fn abandoned(&self, usage: &Usage) -> Vec<String> {
        let left = |job: &&Job| match &job.membership {
            Membership::Descent { root, .. } => {
                usage.find(*root).is_none() && self.running(job, usage) == 0
            }
            Membership::Cgroup(path) => usage
                .mounts()
                .unified
                .as_ref()
                .is_none_or(|mount| !mount.join(path.trim_start_matches('/')).exists()),
        };
        self.open
            .iter()
            .filter(left)
            .map(|job| job.id.clone())
            .collect()
    }

    /// How many living processes belong to a job.
    #[must_use]
    pub fn running(&self, job: &Job, usage: &Usage) -> u64 {
        let living = usage
            .processes()
            .filter(|(_, p)| p.state == eco_usage::State::Alive);
        living
            .filter(|(slot, process)| match &job.membership {
                Membership::Descent { .. } => self.by_slot.get(slot) == Some(&job.account),
                Membership::Cgroup(_) => usage
                    .cgroup(process.cgroup)
                    .and_then(|c| c.paths.as_ref())
                    .is_some_and(|paths| job.holds(&paths.unified)),
            })
            .count() as u64
    }
}

impl Job {
    /// Its own span, if one is sent when it closes.
    #[must_use]
    pub fn own_span(&self) -> Option<TraceContext> {
        let trace = self.trace.as_ref()?;
        trace.own.map(|_| trace.context)
    }

    /// Whether one is.
    #[must_use]
    pub fn has_own_span(&self) -> bool {
        self.own_span().is_some()
    }

    /// Whether everything in the v2 cgroup at `path` belongs to this job.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        let Membership::Cgroup(own) = &self.membership else {
            return false;
        };
        path.strip_prefix(own.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether it may be a name, or the value of a label.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 256 && !text.chars().any(char::is_control)
}

fn admit_cgroup(path: &str, uid: u32, usage: &Usage) -> Result<Membership, JobError> {
    use std::os::unix::fs::MetadataExt;
    let missing = || JobError::NoCgroup(path.to_owned());
    let plain =
        path.starts_with('/') && path.len() > 1 && !path.split('/').any(|part| part == "..");
    let mount = usage
        .mounts()
        .unified
        .as_ref()
        .filter(|_| plain)
        .ok_or_else(missing)?;
    let folder = mount.join(path.trim_start_matches('/'));
    let owner = std::fs::metadata(&folder).map_err(|_| missing())?.uid();
    if uid != 0 && owner != uid {
        return Err(JobError::NotYours(format!("cgroup {path}")));
    }
    Ok(Membership::Cgroup(path.trim_end_matches('/').to_owned()))
}

fn descendants(usage: &Usage, root: ProcessKey) -> Vec<(Slot, ProcessKey)> {
    let mut members: Vec<(Slot, ProcessKey)> = usage
        .find(root)
        .map(|slot| (slot, root))
        .into_iter()
        .collect();
    let me = std::process::id();
    let mut at = 0;
    while let Some(&(_, parent)) = members.get(at) {
        let children = usage
            .processes()
            .filter(|(_, p)| p.parent == parent && p.key != parent && p.key.pid != me);
        members.extend(children.map(|(slot, p)| (slot, p.key)));
        at += 1;
    }
    members
}
