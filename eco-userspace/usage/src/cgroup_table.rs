// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cgroups that are known, and the watch on some of them: what the kernel counted for the
//! whole cgroup against what was charged in it, so that nothing that died unseen is lost.

use std::path::{Path, PathBuf};

use eco_common::CgroupBirth;
use rustc_hash::FxHashMap;

use crate::{
    births::Births,
    cgroups::{self, CgroupIds, CgroupPaths, Hierarchy, Mounts},
};

/// How long a cgroup without processes is remembered, in ticks: its last deaths may yet come.
const LINGER_TICKS: u64 = 10;

/// How many cgroups are watched by themselves, because processes died in them lately. Each
/// costs one small read per tick (~10 µs).
const AUTOMATIC_WATCHES: usize = 16;

/// A watch is dropped after this many ticks without a death.
const WATCH_TICKS: u64 = 5;

/// Reading a total and scanning the tasks are not one moment. An unexplained part smaller than
/// this is that gap, not a lost process (ns).
const SKEW_NS: u64 = 1_000_000;

/// Where a cgroup is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupIndex(pub u32);

impl CgroupIndex {
    /// The number, for a table beside this one.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A cgroup in which a process was seen.
#[derive(Clone, Debug, Default)]
pub struct Cgroup {
    /// Its ids.
    pub ids: CgroupIds,
    /// Its paths; `None` when it was gone before anyone could look.
    pub paths: Option<CgroupPaths>,
    /// Processes in it that are known.
    pub processes: u32,
    /// CPU time charged in it since it is known, in ns.
    pub charged_ns: u64,
    touched: u64,
    deaths: u64,
}

/// A cgroup whose kernel total is compared with what was charged in it.
struct Watch {
    path: String,
    hierarchy: Hierarchy,
    /// Asked for by name, from the cgroup's birth: exact, and settled in the same tick.
    explicit: bool,
    home: CgroupIndex,
    members: Vec<CgroupIndex>,
    /// Charged in members that are no more.
    departed_ns: u64,
    /// What is compared starts here.
    base: Option<(u64, u64)>,
    total_ns: Option<u64>,
    credit_ns: u64,
    remainder_ns: u64,
    touched: u64,
}

/// All cgroups that are known.
#[derive(Default)]
pub(crate) struct CgroupTable {
    slots: Vec<Option<Cgroup>>,
    free: Vec<u32>,
    by_ids: FxHashMap<CgroupIds, u32>,
    /// Paths of those that were made lately.
    births: Births,
    /// The deepest first: what is charged inside one counts for those around it.
    watches: Vec<Watch>,
    /// The last tick that was tidied up after.
    tick: u64,
}

impl CgroupTable {
    pub(crate) fn get(&self, index: CgroupIndex) -> Option<&Cgroup> {
        self.slots.get(index.index())?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CgroupIndex, &Cgroup)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, c)| Some((CgroupIndex(i as u32), c.as_ref()?)))
    }

    /// A cgroup was made.
    pub(crate) fn born(&mut self, birth: &CgroupBirth, tick: u64) {
        self.births.insert(birth, tick);
    }

    /// The entry for `ids`, made on first sight; `pid` is a process in it, for its path.
    pub(crate) fn enter(
        &mut self,
        ids: CgroupIds,
        pid: Option<u32>,
        places: &Places<'_>,
    ) -> CgroupIndex {
        if let Some(&index) = self.by_ids.get(&ids) {
            return CgroupIndex(index);
        }
        let born = self.births.paths(ids);
        let paths = born
            .and_then(|born| places.complete(ids, born))
            .or_else(|| {
                pid.and_then(|pid| CgroupPaths::of_process(places.procfs, pid, places.mounts))
                    .filter(|paths| places.agree(ids, paths))
                    .or_else(|| places.search(ids))
            });
        self.insert(ids, paths, places.tick)
    }

    fn insert(&mut self, ids: CgroupIds, paths: Option<CgroupPaths>, tick: u64) -> CgroupIndex {
        let cgroup = Cgroup {
            ids,
            paths,
            touched: tick,
            ..Cgroup::default()
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(cgroup);
                index
            }
            None => {
                self.slots.push(Some(cgroup));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_ids.insert(ids, index);
        let index = CgroupIndex(index);
        for at in 0..self.watches.len() {
            if self.contains(&self.watches[at], index) {
                self.watches[at].members.push(index);
            }
        }
        index
    }

    pub(crate) fn joined(&mut self, index: CgroupIndex, by: i32) {
        if let Some(Some(cgroup)) = self.slots.get_mut(index.index()) {
            cgroup.processes = cgroup.processes.saturating_add_signed(by);
        }
    }

    /// Books `ns` in a cgroup.
    pub(crate) fn charge(&mut self, index: CgroupIndex, ns: u64, tick: u64) {
        if let Some(Some(cgroup)) = self.slots.get_mut(index.index()) {
            cgroup.charged_ns += ns;
            cgroup.touched = tick;
        }
    }

    /// Notes a death, and takes from `ns` what was charged for it in advance.
    /// `None`: no watch there, so ask the parent's ledger.
    pub(crate) fn death(&mut self, index: CgroupIndex, ns: u64, tick: u64) -> Option<u64> {
        if let Some(Some(cgroup)) = self.slots.get_mut(index.index()) {
            cgroup.deaths += 1;
            cgroup.touched = tick;
        }
        // The deepest: an outer watch has its own, smaller, remainder. There may be two of one
        // cgroup, of which the older is on its way out.
        let mut inside = self
            .watches
            .iter_mut()
            .filter(|w| w.members.contains(&index))
            .peekable();
        let deepest = inside.peek()?.path.len();
        let mut due = ns;
        for watch in inside.take_while(|w| w.path.len() == deepest) {
            watch.touched = tick;
            let taken = watch.credit_ns.min(due);
            watch.credit_ns -= taken;
            due -= taken;
        }
        Some(due)
    }

    pub(crate) fn is_watched(&self, index: CgroupIndex) -> bool {
        self.watches.iter().any(|w| w.members.contains(&index))
    }

    /// Watches the v2 cgroup at `path` from now on, exactly: it must hold no process yet, or
    /// what it holds and held before is left out.
    pub(crate) fn watch(&mut self, path: &str, places: &Places<'_>) -> Option<CgroupIndex> {
        let mount = places.mounts.unified.as_ref()?;
        let id = cgroups::id_of(mount, path)?;
        let known = self
            .iter()
            .find(|(_, c)| c.ids.cgroup == id)
            .map(|(index, _)| index);
        let paths = CgroupPaths {
            unified: path.to_owned(),
            cpuacct: "/".to_owned(),
        };
        let home = known.unwrap_or_else(|| {
            // The other half of the pair is whatever the first process in it brings; until
            // then this entry stands for the cgroup itself.
            self.insert(
                CgroupIds {
                    cgroup: id,
                    cpuacct: u64::MAX,
                },
                Some(paths),
                places.tick,
            )
        });
        let now = cgroups::usage_ns(places.mounts, Hierarchy::Unified, path)?;
        let at = self.add_watch(path.to_owned(), Hierarchy::Unified, true, home, places.tick);
        self.watches[at].base = Some((now, self.charged(&self.watches[at])));
        Some(home)
    }

    /// CPU time of the watched cgroup that the kernel counted and no record has told of, in ns.
    pub(crate) fn unrecorded_ns(&self, path: &str) -> Option<u64> {
        let mut asked_for = self.watches.iter().filter(|w| w.explicit && w.path == path);
        asked_for.next().map(|watch| watch.credit_ns)
    }

    /// From now on it is a watch like any other: it lasts until the records of those have come
    /// for whom it charged in advance.
    pub(crate) fn unwatch(&mut self, path: &str) {
        let asked_for = |w: &&mut Watch| w.explicit && w.path == path;
        for watch in self.watches.iter_mut().filter(asked_for) {
            watch.explicit = false;
            watch.touched = self.tick;
        }
    }

    /// Reads the totals of all watched cgroups. Before the scan, so that what the scan sees is
    /// never behind them.
    pub(crate) fn read_totals(&mut self, mounts: &Mounts) {
        for watch in &mut self.watches {
            watch.total_ns = cgroups::usage_ns(mounts, watch.hierarchy, &watch.path);
        }
    }

    /// Gives out what the kernel counted and nobody was charged for.
    pub(crate) fn remainders(&mut self, tick: u64, charge: &mut dyn FnMut(CgroupIndex, u64)) {
        for at in 0..self.watches.len() {
            let charged = self.charged(&self.watches[at]);
            let watch = &mut self.watches[at];
            let Some(total) = watch.total_ns else {
                continue;
            };
            let Some((base_total, base_charged)) = watch.base else {
                watch.base = Some((total, charged));
                continue;
            };
            let counted = total.saturating_sub(base_total);
            let unexplained = counted.saturating_sub(charged.saturating_sub(base_charged));
            // One tick of patience: the records of most are on their way.
            let due = if watch.explicit {
                unexplained
            } else {
                unexplained.min(watch.remainder_ns).saturating_sub(SKEW_NS)
            };
            watch.remainder_ns = unexplained - due;
            if due > 0 {
                watch.credit_ns += due;
                let home = watch.home;
                self.charge(home, due, tick);
                charge(home, due);
            }
        }
    }

    /// Starts watches where processes die, ends those that rest, and forgets cgroups that are
    /// empty for long. Gives out the forgotten.
    pub(crate) fn tidy(&mut self, tick: u64, gone: &mut Vec<CgroupIndex>) {
        self.tick = tick;
        self.births.forget(tick);
        self.watches
            .retain(|w| w.explicit || tick < w.touched + WATCH_TICKS);
        for at in 0..self.slots.len() {
            let index = CgroupIndex(at as u32);
            let Some(Some(cgroup)) = self.slots.get_mut(at) else {
                continue;
            };
            let deaths = std::mem::take(&mut cgroup.deaths);
            let home_of_watch = self.watches.iter().any(|w| w.home == index && w.explicit);
            if cgroup.processes == 0 && tick > cgroup.touched + LINGER_TICKS && !home_of_watch {
                self.forget(index);
                gone.push(index);
            } else if deaths > 0 && self.watches.len() < AUTOMATIC_WATCHES {
                self.watch_automatically(index, tick);
            }
        }
    }

    fn watch_automatically(&mut self, index: CgroupIndex, tick: u64) {
        let Some(paths) = self.get(index).and_then(|c| c.paths.clone()) else {
            return;
        };
        let Some(hierarchy) = paths.ledger() else {
            return;
        };
        if !self.is_watched(index) {
            self.add_watch(paths.telling().to_owned(), hierarchy, false, index, tick);
        }
    }

    fn add_watch(
        &mut self,
        path: String,
        hierarchy: Hierarchy,
        explicit: bool,
        home: CgroupIndex,
        tick: u64,
    ) -> usize {
        let mut watch = Watch {
            path,
            hierarchy,
            explicit,
            home,
            members: Vec::new(),
            departed_ns: 0,
            base: None,
            total_ns: None,
            credit_ns: 0,
            remainder_ns: 0,
            touched: tick,
        };
        watch.members = self
            .iter()
            .map(|(i, _)| i)
            .filter(|&i| self.contains(&watch, i))
            .collect();
        let at = self
            .watches
            .partition_point(|w| w.path.len() >= watch.path.len());
        self.watches.insert(at, watch);
        at
    }

    fn contains(&self, watch: &Watch, index: CgroupIndex) -> bool {
        let Some(paths) = self.get(index).and_then(|c| c.paths.as_ref()) else {
            return false;
        };
        let path = match watch.hierarchy {
            Hierarchy::Unified => &paths.unified,
            Hierarchy::Cpuacct => &paths.cpuacct,
        };
        path.strip_prefix(watch.path.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn charged(&self, watch: &Watch) -> u64 {
        let living = watch
            .members
            .iter()
            .filter_map(|&i| self.get(i))
            .map(|c| c.charged_ns);
        watch.departed_ns + living.sum::<u64>()
    }

    fn forget(&mut self, index: CgroupIndex) {
        let Some(cgroup) = self.slots.get_mut(index.index()).and_then(Option::take) else {
            return;
        };
        self.by_ids.remove(&cgroup.ids);
        self.free.push(index.0);
        self.watches.retain(|w| w.home != index);
        for watch in &mut self.watches {
            if let Some(at) = watch.members.iter().position(|&m| m == index) {
                watch.members.swap_remove(at);
                watch.departed_ns += cgroup.charged_ns;
            }
        }
    }
}

/// Where to look for paths, and the number of the tick.
pub(crate) struct Places<'a> {
    pub(crate) procfs: &'a Path,
    pub(crate) mounts: &'a Mounts,
    pub(crate) tick: u64,
}

impl Places<'_> {
    /// Whether `paths`, read from a process that may have moved or been replaced since, are
    /// those of `ids`.
    fn agree(&self, ids: CgroupIds, paths: &CgroupPaths) -> bool {
        let Some(mount) = &self.mounts.unified else {
            return true;
        };
        cgroups::id_of(mount, &paths.unified) == Some(ids.cgroup)
    }

    /// Both paths, of which one at least is known from the cgroup's birth.
    fn complete(
        &self,
        ids: CgroupIds,
        born: (Option<String>, Option<String>),
    ) -> Option<CgroupPaths> {
        let (unified, cpuacct) = born;
        Some(CgroupPaths {
            unified: unified.or_else(|| find(&self.mounts.unified, ids.cgroup))?,
            cpuacct: cpuacct.or_else(|| find(&self.mounts.cpuacct, ids.cpuacct))?,
        })
    }

    fn search(&self, ids: CgroupIds) -> Option<CgroupPaths> {
        Some(CgroupPaths {
            unified: find(&self.mounts.unified, ids.cgroup)?,
            cpuacct: find(&self.mounts.cpuacct, ids.cpuacct)?,
        })
    }
}

fn find(mount: &Option<PathBuf>, id: u64) -> Option<String> {
    match mount {
        Some(mount) => cgroups::find_by_id(mount, id),
        None => Some("/".to_owned()),
    }
}
