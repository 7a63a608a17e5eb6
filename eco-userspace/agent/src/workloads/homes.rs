// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which views a use belongs to: by the cgroup it was used in, and by its user.
//!
//! Worked out once per cgroup and once per user, not on the tick.

use std::collections::hash_map::Entry;

use eco_identity::{Home, Users, classify, kubernetes::Pod};
use eco_usage::{CgroupIndex, CgroupPaths, Usage};
use rustc_hash::FxHashMap;

use crate::{
    carbon::books::CarbonRow,
    ledger::{
        accounts::{AccountId, Kind},
        books::{Books, VIEWS},
    },
    series::{Phase, Tags, ViewSeries, scrapers::Moment},
    workloads::{
        cluster_job,
        jobs::Jobs,
        pods::Pods,
        provisional::{Provisional, Renamed},
        slurm::SlurmJobs,
    },
};

/// The views of each cgroup and user.
pub struct Homes {
    /// Pods, and the jobs that they are parts of.
    pub pods: Pods,
    /// Slurm's jobs.
    pub slurm: SlurmJobs,
    by_cgroup: FxHashMap<CgroupIndex, Views>,
    by_user: FxHashMap<u32, AccountId>,
    /// How many cgroups an account is the view of.
    cgroups: FxHashMap<AccountId, u32>,
    provisional: Provisional,
    users: Users,
}

/// The views of what is used in a cgroup, whoever uses it.
#[derive(Clone, Copy, Default)]
struct Views {
    /// Container, service, place, pod, container of the pod, job of another manager, step.
    by_path: [Option<AccountId>; 7],
    /// A job of eco's that owns the cgroup, and one that owns a cgroup around it.
    jobs: [Option<AccountId>; 2],
}

impl Views {
    /// With those that no cgroup tells.
    fn all(
        self,
        user: Option<AccountId>,
        by_descent: Option<AccountId>,
        jobs: &Jobs,
    ) -> [Option<AccountId>; VIEWS] {
        let [inner, outer] = self.jobs;
        // A job by descent within one by cgroup, or the other way round.
        let (inner, outer) = match by_descent {
            Some(job) if inner != Some(job) && outer != Some(job) => (Some(job), inner.or(outer)),
            _ => (inner, outer),
        };
        let larger = |run: Option<AccountId>| jobs.larger(run?);
        // Nothing is booked on one account twice.
        let one = larger(inner).filter(|job| Some(*job) != outer);
        let other = larger(outer).filter(|job| Some(*job) != inner && Some(*job) != one);
        let [container, systemd, place, pod, of_pod, managed, step] = self.by_path;
        [
            container, systemd, user, inner, outer, place, pod, of_pod, managed, step, one, other,
        ]
    }
}

/// Where each stands in [`Views::by_path`].
const CONTAINER: usize = 0;
const PLACE: usize = 2;
const POD: usize = 3;
const OF_POD: usize = 4;

impl Homes {
    /// Nothing known yet.
    #[must_use]
    pub fn new(users: Users, pods: Pods, slurm: SlurmJobs) -> Self {
        Self {
            pods,
            slurm,
            by_cgroup: FxHashMap::default(),
            by_user: FxHashMap::default(),
            cgroups: FxHashMap::default(),
            provisional: Provisional::default(),
            users,
        }
    }

    /// A user's name, or their number.
    #[must_use]
    pub fn user_name(&self, uid: u32) -> String {
        self.users.name(uid)
    }

    /// Reads the users' names again if they changed.
    pub fn refresh_users(&mut self) {
        self.users.refresh();
    }

    /// All views of what was used in `cgroup` by `uid`, in a job by descent or not.
    pub fn views(
        &mut self,
        cgroup: CgroupIndex,
        uid: Option<u32>,
        by_descent: Option<AccountId>,
        world: &mut World<'_>,
    ) -> [Option<AccountId>; VIEWS] {
        let home = match self.by_cgroup.get(&cgroup) {
            Some(home) => *home,
            None => self.move_in(cgroup, uid, world),
        };
        let user = uid.map(|uid| self.user(uid, world));
        home.all(user, by_descent, world.jobs)
    }

    /// The same, of the views that are known; nobody is charged, and nothing is opened.
    #[must_use]
    pub fn known_views(
        &self,
        cgroup: CgroupIndex,
        uid: u32,
        by_descent: Option<AccountId>,
        jobs: &Jobs,
    ) -> [Option<AccountId>; VIEWS] {
        let home = self.by_cgroup.get(&cgroup).copied().unwrap_or_default();
        home.all(self.by_user.get(&uid).copied(), by_descent, jobs)
    }

    /// For each view that is known by cgroups, the views that hold all of these cgroups too.
    #[must_use]
    pub fn surroundings(&self, jobs: &Jobs) -> FxHashMap<AccountId, Vec<AccountId>> {
        let mut around: FxHashMap<AccountId, Vec<AccountId>> = FxHashMap::default();
        for views in self.by_cgroup.values() {
            let larger = || views.jobs.iter().filter_map(|run| jobs.larger((*run)?));
            let own = || views.by_path.iter().chain(&views.jobs).flatten().copied();
            let all = || own().chain(larger());
            for one in all() {
                match around.entry(one) {
                    Entry::Vacant(new) => _ = new.insert(all().filter(|&a| a != one).collect()),
                    Entry::Occupied(mut known) => {
                        known.get_mut().retain(|a| all().any(|b| b == *a))
                    }
                }
            }
        }
        around
    }

    /// The views of the container and of the virtual machine or bare cgroup that a cgroup is
    /// in, as far as something was used in it.
    pub(crate) fn places(&self, cgroup: CgroupIndex) -> [Option<AccountId>; 2] {
        let views = self.by_cgroup.get(&cgroup);
        views.map_or([None; 2], |views| {
            [views.by_path[CONTAINER], views.by_path[PLACE]]
        })
    }

    /// The views that all of a pod's container of that name is in; of all of the pod, where that
    /// container has not run. `None` if nothing of the pod runs.
    pub(crate) fn views_of_pod(
        &self,
        pod: &Pod,
        container: &str,
        jobs: &Jobs,
    ) -> Option<[Option<AccountId>; VIEWS]> {
        let (pod, container) = self.pods.accounts_of(pod, container)?;
        let common = |place: usize, account: AccountId| {
            let cgroups = self.by_cgroup.values();
            let inside = cgroups.filter(|views| views.by_path[place] == Some(account));
            let mut all = inside.map(|views| views.all(None, None, jobs));
            let first = all.next()?;
            Some(all.fold(first, |common, views| {
                common.map(|view| view.filter(|view| views.contains(&Some(*view))))
            }))
        };
        let of_container = container.and_then(|account| common(OF_POD, account));
        of_container.or_else(|| common(POD, pod))
    }

    /// A cgroup of the container whose view that is, and the account of the container in its
    /// pod, where it is in one.
    pub(crate) fn home_of_container(
        &self,
        account: AccountId,
    ) -> Option<(CgroupIndex, Option<AccountId>)> {
        let mut cgroups = self.by_cgroup.iter();
        let is_of = |views: &Views| views.by_path[CONTAINER] == Some(account);
        let (cgroup, views) = cgroups.find(|(_, views)| is_of(views))?;
        Some((*cgroup, views.by_path[OF_POD]))
    }

    /// Jobs came or went: what cgroups belong to is worked out anew.
    pub fn jobs_changed(&mut self, usage: &Usage, jobs: &Jobs) {
        for (cgroup, views) in &mut self.by_cgroup {
            views.jobs = owners(*cgroup, usage, jobs);
        }
    }

    /// A cgroup is no more.
    pub fn forget(&mut self, cgroup: CgroupIndex, books: &mut Books, now: Moment) {
        let Some(views) = self.by_cgroup.remove(&cgroup) else {
            return;
        };
        for account in views.by_path.into_iter().flatten() {
            if self.let_go(account) {
                books.views.leave(account, now);
            }
        }
    }

    /// Names what could not be named until now. After each tick, when all is paid for.
    pub fn settle(&mut self, world: &mut World<'_>) {
        let mut renamed = Renamed::default();
        self.pods.settle(world, &mut renamed);
        self.slurm.settle(&self.users, world, &mut renamed);
        for pod in renamed.evicted.drain(..) {
            self.evict(pod, world);
        }
        self.rename(&renamed);
        self.provisional
            .settle(renamed, &mut world.books.accounts, world.now);
    }

    /// The series of a view is gone.
    pub fn closed(&mut self, view: &ViewSeries) {
        match (view.kind, &view.tags) {
            (Kind::Pod, Tags::Pod { uid, .. }) => self.pods.forget(uid, view.account),
            (Kind::Job, Tags::Job { manager, id })
                if manager == crate::workloads::slurm::MANAGER =>
            {
                self.slurm.forget(id, view.account);
            }
            _ => {}
        }
    }

    /// Whether something may still be booked on a view.
    #[must_use]
    pub fn is_alive(&self, view: &ViewSeries, jobs: &Jobs) -> bool {
        match view.kind {
            Kind::Run => jobs.feed(view.account),
            Kind::Job if view.tags == Tags::None || is_own(&view.tags) => jobs.feed(view.account),
            Kind::User => self
                .by_user
                .values()
                .any(|account| *account == view.account),
            _ => self.cgroups.contains_key(&view.account),
        }
    }

    fn move_in(&mut self, cgroup: CgroupIndex, uid: Option<u32>, world: &mut World<'_>) -> Views {
        let paths = world.usage.cgroup(cgroup).and_then(|c| c.paths.clone());
        let home = paths.map_or_else(Home::default, |paths| whose(&paths));
        let container = home.container.map(|container| container.id);
        let place = match home.machine {
            Some(machine) => Some((Kind::Vm, machine.name)),
            None => home.path.map(|path| (Kind::Cgroup, path)),
        };
        let (pod, of_pod, of_job) = match &home.pod {
            Some(pod) => {
                let accounts = self.pods.enter(pod, world);
                (Some(accounts.pod), Some(accounts.container), accounts.job)
            }
            None => (None, None, None),
        };
        let (slurm, step) = match &home.slurm {
            Some(slurm) => {
                let accounts = self.slurm.enter(slurm, cgroup, uid, world);
                (Some(accounts.job), accounts.step)
            }
            None => (None, None),
        };
        let mut view = |kind, name: Option<String>| Some(world.view(kind, &name?, ""));
        let views = Views {
            by_path: [
                view(Kind::Container, container),
                view(Kind::Systemd, home.systemd),
                place.and_then(|(kind, name)| view(kind, Some(name))),
                pod,
                of_pod,
                // A Slurm job in a pod is the more particular of two.
                slurm.or(of_job),
                step,
            ],
            jobs: owners(cgroup, world.usage, world.jobs),
        };
        for account in views.by_path.into_iter().flatten() {
            *self.cgroups.entry(account).or_default() += 1;
        }
        self.by_cgroup.insert(cgroup, views);
        views
    }

    /// One cgroup less has that view; whether it was the last.
    fn let_go(&mut self, account: AccountId) -> bool {
        let left = self.cgroups.entry(account).or_default();
        *left = left.saturating_sub(1);
        let was_last = *left == 0;
        if was_last {
            self.cgroups.remove(&account);
        }
        was_last
    }

    /// What is known of a pod now makes other views of it: its cgroups move in anew.
    fn evict(&mut self, pod: AccountId, world: &mut World<'_>) {
        let of_pod = |views: &Views| views.by_path[POD] == Some(pod);
        let cgroups: Vec<CgroupIndex> = self
            .by_cgroup
            .iter()
            .filter(|(_, views)| of_pod(views))
            .map(|(cgroup, _)| *cgroup)
            .collect();
        for cgroup in cgroups {
            self.forget(cgroup, world.books, world.now);
        }
    }

    /// Cgroups whose provisional accounts have names now go by these.
    fn rename(&mut self, renamed: &Renamed) {
        if renamed.accounts.is_empty() {
            return;
        }
        for views in self.by_cgroup.values_mut() {
            for slot in &mut views.by_path {
                if let Some(into) = slot.and_then(|from| renamed.accounts.get(&from)) {
                    *slot = *into;
                }
            }
        }
        for (from, into) in &renamed.accounts {
            let cgroups = self.cgroups.remove(from).unwrap_or_default();
            if let Some(into) = into
                && cgroups > 0
            {
                *self.cgroups.entry(*into).or_default() += cgroups;
            }
        }
    }

    fn user(&mut self, uid: u32, world: &mut World<'_>) -> AccountId {
        if let Some(account) = self.by_user.get(&uid) {
            return *account;
        }
        let account = world.view(Kind::User, &self.users.name(uid), "");
        self.by_user.insert(uid, account);
        account
    }
}

/// What working out views needs of the rest.
pub struct World<'a> {
    /// Who is there.
    pub usage: &'a Usage,
    /// Which jobs are open.
    pub jobs: &'a Jobs,
    /// Where accounts are kept.
    pub books: &'a mut Books,
    /// The time.
    pub now: Moment,
}

impl World<'_> {
    /// The account of a view, opened on first sight.
    pub fn view(&mut self, kind: Kind, name: &str, user: &str) -> AccountId {
        if let Some(account) = self.books.views.find(kind, name) {
            return account;
        }
        let account = self.books.accounts.open();
        self.announce(kind, name.to_owned(), user, Tags::None, account);
        account
    }

    /// The account of a view whose first uses are on `provisional`: that one, unless the view
    /// has one already.
    pub fn adopt(
        &mut self,
        kind: Kind,
        name: String,
        user: &str,
        tags: Tags,
        provisional: AccountId,
    ) -> AccountId {
        if let Some(account) = self.books.views.find(kind, &name) {
            return account;
        }
        self.announce(kind, name, user, tags, provisional);
        provisional
    }

    fn announce(&mut self, kind: Kind, name: String, user: &str, tags: Tags, account: AccountId) {
        self.books.views.announce(ViewSeries {
            kind,
            name,
            account,
            phase: Phase::Announced(self.now),
            base_energy: vec![0; self.books.node.len()],
            base_carbon: CarbonRow::EMPTY,
            base_cpu_ns: 0,
            user: user.to_owned(),
            tags,
        });
    }
}

/// Who lives in a cgroup. Slurm 22 moves tasks in v1 only, and what it has moved may be in a v2
/// cgroup of its own as well: that of an `eco run` in a job.
pub(crate) fn whose(paths: &CgroupPaths) -> Home {
    let mut home = classify(paths.telling());
    home.slurm = home.slurm.or_else(|| classify(&paths.cpuacct).slurm);
    home
}

/// Whether it is a job of eco's that runs have joined.
fn is_own(tags: &Tags) -> bool {
    matches!(tags, Tags::Job { manager, .. } if manager == cluster_job::MANAGER)
}

/// The job that owns a cgroup, and one around it.
fn owners(cgroup: CgroupIndex, usage: &Usage, jobs: &Jobs) -> [Option<AccountId>; 2] {
    let Some(paths) = usage.cgroup(cgroup).and_then(|c| c.paths.as_ref()) else {
        return [None; 2];
    };
    let mut owners = [None; 2];
    for (slot, job) in owners
        .iter_mut()
        .zip(jobs.iter().filter(|job| job.holds(&paths.unified)))
    {
        *slot = Some(job.account);
    }
    owners
}
