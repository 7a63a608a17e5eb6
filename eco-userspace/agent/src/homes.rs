// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which views a use belongs to: by the cgroup it was used in, and by its user.
//!
//! Worked out once per cgroup and once per user, not on the tick.

use eco_identity::{Home, Users, classify};
use eco_usage::{CgroupIndex, Usage};
use rustc_hash::FxHashMap;

use crate::{
    accounts::{AccountId, Kind},
    books::{Books, VIEWS},
    jobs::Jobs,
    scrapers::Moment,
    series::{Phase, ViewSeries},
};

/// The views of each cgroup and user.
pub struct Homes {
    by_cgroup: FxHashMap<CgroupIndex, Views>,
    by_user: FxHashMap<u32, AccountId>,
    /// How many cgroups an account is the view of.
    cgroups: FxHashMap<AccountId, u32>,
    users: Users,
}

#[derive(Clone, Copy, Default)]
struct Views {
    container: Option<AccountId>,
    systemd: Option<AccountId>,
    /// A job that owns the cgroup, and one that owns a cgroup around it.
    jobs: [Option<AccountId>; 2],
}

impl Homes {
    /// Nothing known yet.
    #[must_use]
    pub fn new(users: Users) -> Self {
        Self {
            by_cgroup: FxHashMap::default(),
            by_user: FxHashMap::default(),
            cgroups: FxHashMap::default(),
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
            None => self.move_in(cgroup, world),
        };
        let user = uid.map(|uid| self.user(uid, world));
        let [inner, outer] = home.jobs;
        // A job by descent within one by cgroup, or the other way round.
        let (inner, outer) = match by_descent {
            Some(job) if inner != Some(job) && outer != Some(job) => (Some(job), inner.or(outer)),
            _ => (inner, outer),
        };
        [home.container, home.systemd, user, inner, outer]
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
        for account in [views.container, views.systemd].into_iter().flatten() {
            let left = self.cgroups.entry(account).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.cgroups.remove(&account);
                books.views.leave(account, now);
            }
        }
    }

    /// Whether something may still be booked on a view.
    #[must_use]
    pub fn is_alive(&self, view: &ViewSeries, jobs: &Jobs) -> bool {
        match view.kind {
            Kind::Job => jobs.iter().any(|job| job.account == view.account),
            Kind::User => self
                .by_user
                .values()
                .any(|account| *account == view.account),
            _ => self.cgroups.contains_key(&view.account),
        }
    }

    fn move_in(&mut self, cgroup: CgroupIndex, world: &mut World<'_>) -> Views {
        let paths = world.usage.cgroup(cgroup).and_then(|c| c.paths.clone());
        let home = paths.map_or_else(Home::default, |paths| classify(paths.telling()));
        let mut view = |kind, name: Option<String>| {
            let account = world.view(kind, &name?, "");
            *self.cgroups.entry(account).or_default() += 1;
            Some(account)
        };
        let views = Views {
            container: view(Kind::Container, home.container.map(|container| container.id)),
            systemd: view(Kind::Systemd, home.systemd),
            jobs: owners(cgroup, world.usage, world.jobs),
        };
        self.by_cgroup.insert(cgroup, views);
        views
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
        self.books.views.announce(ViewSeries {
            kind,
            name: name.to_owned(),
            account,
            phase: Phase::Announced(self.now),
            base_energy: vec![0; self.books.node.len()],
            base_cpu_ns: 0,
            user: user.to_owned(),
        });
        account
    }
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
