// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Processes that are no more, whose mother ended in the same tick: somebody above them has
//! waited for them, and it is not known who until their last records come, if they do.
//!
//! Whoever it was now has all that they ever used among what they reaped, and none of it is
//! new: forgotten, it would be charged a second time.

use crate::process::{ProcessKey, Table};

/// How many ancestors an orphan is followed through.
const LONGEST_CHAIN: usize = 32;

/// An orphan whose reaper does not show up within so many ticks is forgotten.
const PATIENCE_TICKS: u64 = 8;

/// What a process has reaped and nobody has explained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unexplained {
    /// All of it.
    pub(crate) all_ns: u64,
    /// What is to be charged now, as no record is expected any more.
    pub(crate) due_ns: u64,
    /// To what it is known.
    pub(crate) grain_ns: u64,
}

#[derive(Debug)]
struct Orphan {
    key: ProcessKey,
    known_ns: u64,
    /// Who may have reaped it; `None`: anyone, as nobody knows its mother.
    above: Option<Vec<ProcessKey>>,
    tick: u64,
}

/// All orphans that nobody is known to have reaped.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Vec<Orphan>);

impl Orphans {
    /// `key` is gone, and `known_ns` of what it and its reaped descendants used was charged.
    pub(crate) fn add(
        &mut self,
        key: ProcessKey,
        mother: ProcessKey,
        known_ns: u64,
        table: &Table,
        tick: u64,
    ) {
        let mut above = Vec::new();
        let mut next = mother;
        // Those who ended in this tick are still in the table.
        while let Some(process) = table.find(next).and_then(|slot| table.get(slot)) {
            above.push(next);
            if process.parent == next || above.len() == LONGEST_CHAIN {
                break;
            }
            next = process.parent;
        }
        self.0.push(Orphan {
            key,
            known_ns,
            above: Some(above),
            tick,
        });
    }

    /// Children of `mother`, whom nobody has seen, used `known_ns`, which was charged.
    pub(crate) fn add_children_of(&mut self, mother: ProcessKey, known_ns: u64, tick: u64) {
        if known_ns > 0 {
            self.0.push(Orphan {
                key: mother,
                known_ns,
                above: None,
                tick,
            });
        }
    }

    /// The mother's last record has come, and tells of her children too.
    pub(crate) fn drop_children_of(&mut self, mother: ProcessKey) {
        self.0
            .retain(|orphan| orphan.key != mother || orphan.above.is_some());
    }

    /// Its last record has come, and names the reaper: what was known of it is theirs.
    pub(crate) fn claim(&mut self, key: ProcessKey) -> Option<u64> {
        let mut all = self.0.iter();
        let at = all.position(|orphan| orphan.key == key && orphan.above.is_some())?;
        Some(self.0.swap_remove(at).known_ns)
    }

    /// What orphans explain of what `reaper` has reaped.
    pub(crate) fn explain(&mut self, reaper: ProcessKey, open: Unexplained) -> u64 {
        let mut explained = 0;
        self.0.retain(|orphan| {
            let left = open.all_ns.saturating_sub(explained);
            let is_above = |above: &Vec<_>| above.contains(&reaper);
            let is_theirs = left > 0
                && orphan.known_ns <= left.saturating_add(open.grain_ns)
                && orphan.above.as_ref().is_some_and(is_above);
            if is_theirs {
                explained += orphan.known_ns.min(left);
            }
            !is_theirs
        });
        // Those who may be anyone's last: each ns once, and no more than is due.
        self.0.retain_mut(|orphan| {
            if orphan.above.is_none() {
                let due = open.due_ns.saturating_sub(explained);
                let taken = orphan.known_ns.min(due);
                explained += taken;
                orphan.known_ns -= taken;
            }
            orphan.known_ns > 0
        });
        explained
    }

    /// Forgets those that are old.
    pub(crate) fn tidy(&mut self, tick: u64) {
        self.0.retain(|orphan| tick < orphan.tick + PATIENCE_TICKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    const GRAIN_NS: u64 = 20_000_000;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey {
            pid,
            start_ns: u64::from(pid),
        }
    }

    fn open(ns: u64, grain_ns: u64) -> Unexplained {
        Unexplained {
            all_ns: ns,
            due_ns: ns,
            grain_ns,
        }
    }

    /// 1 is the parent of 2, 2 of 3, and so on.
    fn line(length: u32) -> Table {
        let mut table = Table::default();
        for pid in 1..=length {
            let parent = key(pid.saturating_sub(1).max(1));
            table.insert(Process {
                key: key(pid),
                parent,
                ..Process::default()
            });
        }
        table
    }

    #[test]
    fn whoever_above_has_reaped_as_much_is_explained_once() {
        let mut orphans = Orphans::default();
        orphans.add(key(4), key(3), 70, &line(3), 1);
        assert_eq!(
            orphans.explain(key(9), open(1_000_000, 0)),
            0,
            "no ancestor"
        );
        assert_eq!(orphans.explain(key(1), open(0, 0)), 0, "has reaped nothing");
        assert_eq!(orphans.explain(key(1), open(100, 0)), 70);
        assert_eq!(orphans.explain(key(1), open(100, 0)), 0);
    }

    #[test]
    fn an_orphan_larger_than_what_was_reaped_is_not_taken() {
        let mut orphans = Orphans::default();
        orphans.add(key(4), key(3), 10 * GRAIN_NS, &line(3), 1);
        assert_eq!(orphans.explain(key(1), open(GRAIN_NS, GRAIN_NS)), 0);
        // Short by less than two clock ticks: the same thing, read coarsely.
        assert_eq!(
            orphans.explain(key(1), open(10 * GRAIN_NS - 1, GRAIN_NS)),
            10 * GRAIN_NS - 1
        );
    }

    #[test]
    fn children_of_an_unknown_mother_are_anyones_to_the_last_ns() {
        let mut orphans = Orphans::default();
        orphans.add_children_of(key(8), 70, 1);
        assert_eq!(orphans.explain(key(1), open(50, 0)), 50);
        assert_eq!(orphans.explain(key(2), open(50, 0)), 20);
        orphans.add_children_of(key(8), 70, 1);
        orphans.drop_children_of(key(8));
        assert_eq!(
            orphans.explain(key(1), open(50, 0)),
            0,
            "her own record tells"
        );
    }

    #[test]
    fn a_last_record_settles_it_and_the_old_are_forgotten() {
        let mut orphans = Orphans::default();
        orphans.add(key(4), key(3), 70, &line(3), 1);
        orphans.add(key(5), key(3), 80, &line(3), 1);
        assert_eq!(orphans.claim(key(5)), Some(80));
        assert_eq!(orphans.claim(key(5)), None);
        orphans.tidy(1 + PATIENCE_TICKS);
        assert_eq!(orphans.claim(key(4)), None);
    }

    #[test]
    fn a_chain_without_end_ends() {
        let mut orphans = Orphans::default();
        orphans.add(key(900), key(800), 1, &line(800), 1);
        assert_eq!(orphans.0[0].above.as_ref().unwrap().len(), LONGEST_CHAIN);
        let mut table = Table::default();
        table.insert(Process {
            key: key(1),
            parent: key(2),
            ..Process::default()
        });
        table.insert(Process {
            key: key(2),
            parent: key(1),
            ..Process::default()
        });
        orphans.add(key(3), key(1), 1, &table, 1);
    }
}
