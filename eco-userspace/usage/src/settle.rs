// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The first and the third ledger: what the living used, and what the kernel's own totals say
//! of those whose deaths went unseen.

use crate::{
    frame::{Charge, Frame},
    ledger::{PATIENCE_TICKS, Usage},
    orphans::Unexplained,
    process::{Slot, State},
    source::Tier,
};

/// What a process reaped is known to a clock tick only where it is read from procfs, user and
/// system time each (ns, at 100 ticks a second).
const COARSE_NS: u64 = 20_000_000;

impl Usage {
    /// Charges what the living used, and notes who is no longer there.
    pub(crate) fn settle_living(&mut self, frame: &mut Frame) {
        let tick = self.tick;
        let mut vanished = Vec::new();
        let mut given_up = Vec::new();
        for (slot, process) in self.table.iter_mut() {
            let account = &mut process.account;
            if account.scan != tick {
                match process.state {
                    State::Alive => {
                        process.state = State::Vanished(tick);
                        let known = account.total_ns.saturating_add(account.reaped_ns);
                        vanished.push((process.key, process.parent, known));
                    }
                    State::Vanished(since) if tick >= since + PATIENCE_TICKS => given_up.push(slot),
                    _ => {}
                }
                continue;
            }
            frame.processes += 1;
            let dead = if account.total_ns == u64::MAX {
                // First sight of an old one: what its threads left behind is old too.
                account.freed_ns = account.dead_threads_ns;
                account.total_ns = account.living_ns + account.dead_threads_ns;
                account.explained_ns = account.reaped_ns;
                continue;
            } else if tick >= account.freed_from {
                account.dead_threads_ns.max(account.freed_ns)
            } else {
                account.dead_threads_ns
            };
            let total = account.living_ns + dead;
            let fresh = total.saturating_sub(account.total_ns);
            account.total_ns += fresh;
            account.tick_ns += fresh;
        }
        for (key, parent, known) in vanished {
            match self.table.by_key_mut(parent) {
                Some(mother) if mother.account.scan == tick => {
                    mother.account.explained_ns = mother.account.explained_ns.saturating_add(known);
                }
                _ => self.orphans.add(key, parent, known, &self.table, tick),
            }
        }
        for slot in given_up {
            self.counters.records_missing += 1;
            if let Some(process) = self.table.get_mut(slot) {
                process.state = State::Gone;
            }
            self.retire(slot, frame);
        }
    }

    /// Books what was found to be each process's own.
    pub(crate) fn charge_processes(&mut self, frame: &mut Frame) {
        let tick = self.tick;
        for (slot, process) in self.table.iter_mut() {
            let ns = std::mem::take(&mut process.account.tick_ns);
            if ns > 0 {
                process.charged_ns += ns;
                self.cgroups.charge(process.cgroup, ns, tick);
                frame.add(Charge {
                    owner: Some(slot),
                    own: true,
                    cgroup: process.cgroup,
                    ns,
                    processes: 0,
                });
            }
        }
    }

    /// What a parent reaped and no record explained: its children whose deaths went unseen.
    pub(crate) fn settle_parents(&mut self, frame: &mut Frame) {
        let tick = self.tick;
        let is_exact = self.source.tier() == Tier::Iter;
        for (slot, process) in self.table.iter_mut() {
            if process.state != State::Alive || process.account.reaped_ns == 0 {
                continue;
            }
            let account = &mut process.account;
            // Records of children that nobody waited for (SIGCHLD ignored) explain more than
            // was reaped: they must not hide a later loss.
            let open = account.reaped_ns.saturating_sub(account.credit_ns);
            account.explained_ns = account.explained_ns.min(open);
            // One tick of patience. What explains a later child is held against an earlier one,
            // so a loss may show later than it could, but nothing is charged twice.
            let ripe = account.reaped_before_ns.saturating_sub(account.credit_ns);
            let mut due = ripe.saturating_sub(account.explained_ns);
            if due > 0 {
                let is_exact = is_exact && !self.hidden.contains(process.key.pid);
                let unexplained = Unexplained {
                    all_ns: open - account.explained_ns,
                    due_ns: due,
                    grain_ns: if is_exact { 0 } else { COARSE_NS },
                };
                let explained = self.orphans.explain(process.key, unexplained);
                account.explained_ns += explained;
                due = due.saturating_sub(explained);
            }
            account.reaped_before_ns = account.reaped_ns;
            if due == 0 || self.cgroups.is_watched(process.cgroup) {
                continue;
            }
            account.credit_ns += due;
            self.counters.parent_remainder_ns += due;
            self.cgroups.charge(process.cgroup, due, tick);
            frame.add(Charge {
                owner: Some(slot),
                own: false,
                cgroup: process.cgroup,
                ns: due,
                processes: 0,
            });
        }
        self.orphans.tidy(tick);
    }

    /// What the kernel counted for a cgroup and nobody was charged for.
    pub(crate) fn settle_cgroups(&mut self, frame: &mut Frame) {
        let counters = &mut self.counters;
        self.cgroups.remainders(self.tick, &mut |cgroup, ns| {
            counters.cgroup_remainder_ns += ns;
            frame.add(Charge {
                owner: None,
                own: false,
                cgroup,
                ns,
                processes: 0,
            });
        });
        self.cgroups.tidy(self.tick, &mut frame.cgroups_gone);
    }

    pub(crate) fn retire(&mut self, slot: Slot, frame: &mut Frame) {
        frame.gone.push(slot);
        if let Some(process) = self.table.get(slot) {
            self.cgroups.joined(process.cgroup, -1);
        }
    }
}
