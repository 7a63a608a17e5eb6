// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slurm's jobs and their steps.
//!
//! The number of a job and its step are in the cgroup's path. Whose job it is the path tells on
//! v1 only; else a process of the user's does, or the directory. A job is shown once its user is
//! known, or after a while without one.

use eco_identity::{Users, path::SlurmHome, slurm::JobDirectory};
use eco_usage::CgroupIndex;
use rustc_hash::FxHashMap;

use crate::{
    ledger::accounts::{AccountId, Kind},
    series::{Tags, scrapers::Moment},
    workloads::{
        homes::World,
        provisional::{NAMED_WITHIN, Renamed},
    },
};

/// What `manager` says of Slurm's jobs.
pub(crate) const MANAGER: &str = "slurm";

/// Steps of one job that are remembered: a script may make one a second. One that is older has
/// ended, or gets another account for what it uses in a new cgroup, in the same view.
const MOST_STEPS: usize = 256;

/// The Slurm jobs that something was used in.
pub struct SlurmJobs {
    /// Who knows more of them.
    pub directory: JobDirectory,
    by_id: FxHashMap<u32, Entry>,
    /// Numbers of those that have something that is not shown.
    waiting: Vec<u32>,
}

/// Where what is used in a job's cgroup is booked.
pub(crate) struct SlurmAccounts {
    pub(crate) job: AccountId,
    pub(crate) step: Option<AccountId>,
}

struct Entry {
    account: AccountId,
    since: Moment,
    uid: Option<u32>,
    /// The user's name, once the job is shown.
    shown_for: Option<String>,
    steps: Vec<Step>,
}

struct Step {
    name: String,
    account: AccountId,
    is_shown: bool,
}

impl SlurmJobs {
    /// No jobs yet.
    #[must_use]
    pub fn new(directory: JobDirectory) -> Self {
        Self {
            directory,
            by_id: FxHashMap::default(),
            waiting: Vec::new(),
        }
    }

    /// Something is used by `uid` in a job's cgroup that is seen for the first time.
    pub(crate) fn enter(
        &mut self,
        home: &SlurmHome,
        cgroup: CgroupIndex,
        uid: Option<u32>,
        world: &mut World<'_>,
    ) -> SlurmAccounts {
        let now = world.now;
        let mut open = || world.books.accounts.open();
        let entry = self.by_id.entry(home.job).or_insert_with(|| Entry {
            account: open(),
            since: now,
            uid: None,
            shown_for: None,
            steps: Vec::new(),
        });
        // slurmstepd is root, in everyone's steps.
        let uid = home.user.or(uid.filter(|uid| *uid != 0));
        entry.uid = entry.uid.or(uid);
        let step = home.step.as_ref().map(|name| entry.step(name, open));
        let accounts = SlurmAccounts {
            job: entry.account,
            step,
        };
        if !self.waiting.contains(&home.job) {
            self.waiting.push(home.job);
        }
        let mut processes = world.usage.processes();
        let inside = processes.find(|(_, process)| process.cgroup == cgroup);
        self.directory
            .want(home.job, inside.map(|(_, process)| process.key.pid));
        accounts
    }

    /// Shows those whose user is known, or was not for too long.
    pub(crate) fn settle(&mut self, users: &Users, world: &mut World<'_>, renamed: &mut Renamed) {
        let (by_id, directory) = (&mut self.by_id, &self.directory);
        self.waiting.retain(|id| {
            let Some(entry) = by_id.get_mut(id) else {
                return false;
            };
            let is_late = world.now.saturating_sub(entry.since) >= NAMED_WITHIN;
            let user = entry
                .shown_for
                .clone()
                .or_else(|| entry.uid.map(|uid| users.name(uid)))
                .or_else(|| Some(directory.job(*id)?.user.clone()))
                .or_else(|| is_late.then(String::new));
            let Some(user) = user else {
                return true;
            };
            entry.show(*id, &user, world, renamed);
            entry.shown_for = Some(user);
            false
        });
    }

    /// The series of a job is gone.
    pub(crate) fn forget(&mut self, id: &str, account: AccountId) {
        let Ok(id) = id.parse() else { return };
        if self.by_id.get(&id).is_some_and(|e| e.account == account) {
            self.by_id.remove(&id);
            self.directory.forget(id);
        }
    }
}

impl Entry {
    /// The account of a step, which may be a new one.
    fn step(&mut self, name: &str, open: impl FnOnce() -> AccountId) -> AccountId {
        if let Some(step) = self.steps.iter().find(|step| step.name == name) {
            return step.account;
        }
        let account = open();
        self.steps.push(Step {
            name: name.to_owned(),
            account,
            is_shown: false,
        });
        account
    }

    fn show(&mut self, id: u32, user: &str, world: &mut World<'_>, renamed: &mut Renamed) {
        let tags = Tags::Job {
            manager: MANAGER.into(),
            id: id.to_string(),
        };
        if self.shown_for.is_none() {
            let name = format!("{MANAGER}/{id}");
            let shown = world.adopt(Kind::Job, name, user, tags.clone(), self.account);
            renamed.put(self.account, Some(shown));
            self.account = shown;
        }
        for step in self.steps.iter_mut().filter(|step| !step.is_shown) {
            let name = format!("{MANAGER}/{id}.{}", step.name);
            let shown = world.adopt(Kind::Step, name, user, tags.clone(), step.account);
            renamed.put(step.account, Some(shown));
            step.account = shown;
            step.is_shown = true;
        }
        let surplus = self.steps.len().saturating_sub(MOST_STEPS);
        self.steps.drain(..surplus);
    }
}
