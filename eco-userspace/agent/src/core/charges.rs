// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who answers for CPU time: the process that pays for it, and the views that it is in.

use eco_usage::Charge;
use rustc_hash::FxHashSet;

use crate::{
    core::Core,
    ledger::books::{Payer, Use},
    workloads::homes::World,
};

impl Core {
    /// Works out who answers for each charge.
    pub(crate) fn resolve(&mut self) {
        let mut uses = std::mem::take(&mut self.uses);
        let now = self.now();
        for at in 0..self.frame.charges.len() {
            let charge = self.frame.charges[at];
            let (payer, uid) = self.payer(&charge);
            let by_descent = charge
                .owner
                .and_then(|slot| self.jobs.of_slot(slot, &self.usage, charge.own));
            let mut world = World {
                usage: &self.usage,
                jobs: &self.jobs,
                books: &mut self.books,
                now,
            };
            let views = self.homes.views(charge.cgroup, uid, by_descent, &mut world);
            for view in views.iter().flatten().filter(|_| !charge.own) {
                if charge.processes > 0 {
                    self.jobs.count(*view, charge.processes);
                } else {
                    self.jobs.missed_death(*view);
                }
            }
            let eligible = matches!(payer, Payer::Process(_));
            uses.push(Use {
                payer,
                views,
                ns: charge.ns,
                eligible,
            });
        }
        self.uses = uses;
    }

    /// Who pays for a charge, and whose user it is.
    fn payer(&self, charge: &Charge) -> (Payer, Option<u32>) {
        let Some((slot, process)) = charge
            .owner
            .and_then(|slot| Some((slot, self.usage.process(slot)?)))
        else {
            return (Payer::Nobody, None);
        };
        if process.kernel {
            // What kernel threads start is the kernel's too, short-lived helpers included.
            return (Payer::Kernel, None);
        }
        let account = self.processes.get(slot.index()).copied().flatten();
        // Children that ended unseen are their parent's doing, unless they live elsewhere or
        // were merely handed to init.
        let answers = charge.own || (process.key.pid != 1 && process.cgroup == charge.cgroup);
        match account.filter(|_| answers) {
            Some(account) => (Payer::Process(account), Some(process.uid)),
            None => (Payer::Nobody, (!charge.own).then_some(process.uid)),
        }
    }

    /// Where idle is shared equally, those who rest pay too.
    pub(crate) fn add_resting(&mut self) {
        let busy: FxHashSet<Payer> = self.uses.iter().map(|used| used.payer).collect();
        let now = self.now();
        for (account, slot) in &self.slots {
            let payer = Payer::Process(*account);
            let Some(process) = self.usage.process(*slot).filter(|_| !busy.contains(&payer)) else {
                continue;
            };
            let by_descent = self.jobs.of_slot(*slot, &self.usage, true);
            let mut world = World {
                usage: &self.usage,
                jobs: &self.jobs,
                books: &mut self.books,
                now,
            };
            let uid = Some(process.uid);
            let views = self
                .homes
                .views(process.cgroup, uid, by_descent, &mut world);
            self.uses.push(Use {
                payer,
                views,
                ns: 0,
                eligible: true,
            });
        }
    }
}
