// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The paths of cgroups that were made lately, as the kernel told them: of one that came and
//! went between two ticks nothing else has it.

use eco_common::{CGROUP_PATH_LEN, CgroupBirth};
use rustc_hash::FxHashMap;

/// How long a path is kept for the first record of a task in it, in ticks. Who comes later finds
/// the cgroup itself, unless it is gone.
const KEPT_TICKS: u64 = 240;

/// More are not kept: a program that makes cgroups as fast as it can must not fill the memory.
const MOST: usize = 16_384;

/// Paths by id.
#[derive(Debug, Default)]
pub(crate) struct Births {
    unified: FxHashMap<u64, Born>,
    cpuacct: FxHashMap<u64, Born>,
    /// The last tick that was tidied up after.
    tidied: u64,
}

#[derive(Debug)]
struct Born {
    path: String,
    tick: u64,
}

impl Births {
    /// A cgroup was made.
    pub(crate) fn insert(&mut self, birth: &CgroupBirth, tick: u64) {
        let paths = match birth.hierarchy {
            0 => &mut self.unified,
            _ => &mut self.cpuacct,
        };
        let length = birth.length as usize;
        // One that fills its place was cut.
        let is_whole = (1..CGROUP_PATH_LEN - 1).contains(&length);
        let path = birth.path.get(..length).filter(|_| is_whole);
        if let Some(Ok(path)) = path.map(std::str::from_utf8)
            && paths.len() < MOST
        {
            let path = path.to_owned();
            paths.insert(birth.id, Born { path, tick });
        }
    }

    /// The paths that are known of these ids, in v2 and in v1's cpuacct; `None` for neither.
    pub(crate) fn paths(
        &self,
        ids: crate::cgroups::CgroupIds,
    ) -> Option<(Option<String>, Option<String>)> {
        let path = |born: &FxHashMap<u64, Born>, id| Some(born.get(&id)?.path.clone());
        let unified = path(&self.unified, ids.cgroup);
        let cpuacct = path(&self.cpuacct, ids.cpuacct);
        (unified.is_some() || cpuacct.is_some()).then_some((unified, cpuacct))
    }

    /// Forgets the older ones.
    pub(crate) fn forget(&mut self, tick: u64) {
        // Not each tick: a node makes few, and each is looked at.
        if tick < self.tidied + KEPT_TICKS / 4 {
            return;
        }
        self.tidied = tick;
        for paths in [&mut self.unified, &mut self.cpuacct] {
            paths.retain(|_, born| tick < born.tick + KEPT_TICKS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::CgroupIds;

    fn birth(id: u64, hierarchy: u32, path: &[u8]) -> CgroupBirth {
        let mut birth = CgroupBirth {
            id,
            hierarchy,
            length: path.len() as u32,
            path: [0; CGROUP_PATH_LEN],
        };
        birth.path[..path.len()].copy_from_slice(path);
        birth
    }

    fn ids(cgroup: u64, cpuacct: u64) -> CgroupIds {
        CgroupIds { cgroup, cpuacct }
    }

    #[test]
    fn a_path_is_known_by_its_id_and_hierarchy_for_a_while() {
        let mut births = Births::default();
        births.insert(&birth(7, 0, b"/a"), 1);
        births.insert(&birth(7, 2, b"/b"), 1);
        let both = (Some("/a".to_owned()), Some("/b".to_owned()));
        assert_eq!(births.paths(ids(7, 7)), Some(both));
        assert_eq!(births.paths(ids(7, 1)), Some((Some("/a".to_owned()), None)));
        assert_eq!(births.paths(ids(1, 1)), None);
        births.forget(KEPT_TICKS);
        assert!(births.paths(ids(7, 7)).is_some());
        births.forget(2 * KEPT_TICKS);
        assert_eq!(births.paths(ids(7, 7)), None);
    }

    #[test]
    fn a_path_that_was_cut_or_is_no_text_is_not_believed() {
        let mut births = Births::default();
        births.insert(&birth(1, 0, &[b'x'; CGROUP_PATH_LEN - 1]), 1);
        births.insert(&birth(2, 0, b"/\xff"), 1);
        births.insert(&birth(3, 0, b""), 1);
        let mut odd = birth(4, 0, b"/a");
        odd.length = u32::MAX;
        births.insert(&odd, 1);
        assert!((1..=4).all(|id| births.paths(ids(id, 0)).is_none()));
    }

    #[test]
    fn a_flood_of_cgroups_is_bounded() {
        let mut births = Births::default();
        for id in 0..2 * MOST as u64 {
            births.insert(&birth(id, 0, b"/a"), 1);
        }
        assert_eq!(births.unified.len(), MOST);
    }
}
