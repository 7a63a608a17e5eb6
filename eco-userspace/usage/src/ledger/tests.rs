// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ledger against a kernel made up here, of which every nanosecond is known.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use eco_common::{Spill, SpillKey, flags};
use proptest::prelude::*;

use super::*;

const INIT: u32 = 1;

/// A process of the made-up kernel.
#[derive(Clone, Default)]
struct Task {
    start_ns: u64,
    parent: u32,
    runtime_ns: u64,
    reaped_ns: u64,
}

/// All that is alive, and the last records that nobody has fetched.
#[derive(Default)]
struct Kernel {
    tasks: BTreeMap<u32, Task>,
    freed: Vec<TaskRecord>,
    /// Freed in a moment: between leaving the table and this a task is in neither place.
    leaving: Vec<TaskRecord>,
    used_ns: u64,
    born: u32,
    /// The next scan ends after so many records.
    cut: Option<usize>,
}

impl Kernel {
    fn record(&self, pid: u32) -> TaskRecord {
        let task = &self.tasks[&pid];
        let parent = self.tasks.get(&task.parent);
        TaskRecord {
            start_ns: task.start_ns,
            leader_start_ns: task.start_ns,
            runtime_ns: task.runtime_ns,
            reaped_ns: task.reaped_ns,
            parent: task.parent,
            parent_start_ns: parent.map_or(0, |parent| parent.start_ns),
            pid,
            tgid: pid,
            ..TaskRecord::default()
        }
    }

    fn fork(&mut self, parent: u32) {
        self.born += 1;
        let task = Task {
            start_ns: boottime_ns(),
            parent,
            ..Task::default()
        };
        self.tasks.insert(INIT + self.born, task);
    }

    fn run(&mut self, pid: u32, ns: u64) {
        if let Some(task) = self.tasks.get_mut(&pid) {
            task.runtime_ns += ns;
            self.used_ns += ns;
        }
    }

    /// The same, but no program runs when it is freed.
    fn exit_unseen(&mut self, pid: u32) {
        self.exit(pid);
        self.leaving.pop();
    }

    /// Its parent waits for it at once; its children become init's.
    fn exit(&mut self, pid: u32) {
        let mut record = self.record(pid);
        record.flags |= flags::DEAD;
        record.dead_threads_ns = record.runtime_ns;
        self.leaving.push(record);
        let Some(dead) = self.tasks.remove(&pid) else {
            return;
        };
        if let Some(parent) = self.tasks.get_mut(&dead.parent) {
            parent.reaped_ns += dead.runtime_ns + dead.reaped_ns;
        }
        for task in self.tasks.values_mut().filter(|task| task.parent == pid) {
            task.parent = INIT;
        }
    }

    /// The `nth` of those who may do anything.
    fn pick(&self, nth: usize) -> u32 {
        let at = nth % self.tasks.len();
        self.tasks.keys().nth(at).copied().unwrap_or(INIT)
    }
}

struct Source(Arc<Mutex<Kernel>>);

impl TaskSource for Source {
    fn tier(&self) -> Tier {
        Tier::Iter
    }

    fn scan(&mut self, visit: &mut dyn FnMut(&TaskRecord)) -> Result<Scan, SourceError> {
        let mut kernel = self.0.lock().unwrap();
        let cut = kernel.cut.take();
        let mut records = 0;
        for pid in kernel.tasks.keys() {
            if cut.is_some_and(|cut| records >= cut as u64) {
                return Err(SourceError::Torn { records, torn: 1 });
            }
            visit(&kernel.record(*pid));
            records += 1;
        }
        Ok(Scan { records })
    }

    fn deaths(&mut self, visit: &mut dyn FnMut(&TaskRecord)) {
        let mut kernel = self.0.lock().unwrap();
        for record in kernel.freed.drain(..) {
            visit(&record);
        }
        let leaving = std::mem::take(&mut kernel.leaving);
        kernel.freed = leaving;
    }

    fn spilled(&mut self, _: &mut dyn FnMut(SpillKey, Spill)) {}

    fn wakeup(&self) -> Option<std::os::fd::RawFd> {
        None
    }

    fn costs(&mut self) -> Costs {
        Costs::default()
    }
}

/// A ledger over a kernel that has nothing but init, which has run for an hour.
fn ledger() -> (Usage, Arc<Mutex<Kernel>>) {
    let kernel = Arc::new(Mutex::new(Kernel::default()));
    let init = Task {
        start_ns: 1,
        runtime_ns: 3_600_000_000_000,
        ..Task::default()
    };
    kernel.lock().unwrap().tasks.insert(INIT, init);
    let source = Box::new(Source(kernel.clone()));
    let usage = Usage::new(source, "/nonexistent".into(), Mounts::default());
    (usage, kernel)
}

fn sample(usage: &mut Usage) -> (u64, bool) {
    let mut frame = Frame::default();
    let is_whole = usage.sample(&mut frame).is_ok();
    (frame.charges.iter().map(|charge| charge.ns).sum(), is_whole)
}

#[derive(Clone, Debug)]
enum Step {
    Fork(usize),
    Run(usize, u64),
    Exit(usize),
    Tick,
    /// A tick whose scan ends after so many records.
    Torn(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<usize>().prop_map(Step::Fork),
        4 => (any::<usize>(), 1u64..10_000_000).prop_map(|(who, ns)| Step::Run(who, ns)),
        2 => any::<usize>().prop_map(Step::Exit),
        2 => Just(Step::Tick),
        1 => (0usize..6).prop_map(Step::Torn),
    ]
}

/// Does all of it, rests, and returns what was charged and what was used, in ns.
fn live(steps: Vec<Step>, exit: fn(&mut Kernel, u32)) -> (u64, u64) {
    let (mut usage, kernel) = ledger();
    let mut charged = sample(&mut usage).0;
    for step in steps {
        let mut now = kernel.lock().unwrap();
        match step {
            Step::Fork(who) => {
                let parent = now.pick(who);
                now.fork(parent);
            }
            Step::Run(who, ns) => {
                let pid = now.pick(who);
                now.run(pid, ns);
            }
            Step::Exit(who) => {
                let pid = now.pick(who);
                if pid != INIT {
                    exit(&mut now, pid);
                }
            }
            Step::Tick | Step::Torn(_) => {
                if let Step::Torn(records) = step {
                    now.cut = Some(records);
                }
                drop(now);
                charged += sample(&mut usage).0;
            }
        }
    }
    for _ in 0..8 {
        charged += sample(&mut usage).0;
    }
    let used = kernel.lock().unwrap().used_ns;
    (charged, used)
}

proptest! {
    #[test]
    fn all_that_is_used_is_charged_once_though_scans_are_cut_off(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (charged, used) = live(steps, Kernel::exit);
        prop_assert_eq!(charged, used);
    }

    #[test]
    fn nothing_is_charged_twice_though_deaths_go_unseen(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (charged, used) = live(steps, |kernel, pid| {
            // Where a mother and her child die unseen in one moment, amounts are all that is
            // left to tell who reaped whom, and they may be alike.
            let is_mother = kernel.tasks.values().any(|task| task.parent == pid);
            if pid % 2 == 0 && kernel.tasks[&pid].parent == INIT && !is_mother {
                kernel.exit_unseen(pid);
            } else {
                kernel.exit(pid);
            }
        });
        prop_assert!(charged <= used, "{} of {}", charged, used);
    }
}

#[test]
fn a_child_whose_death_went_unseen_is_paid_for_by_whoever_waited_for_it() {
    let (mut usage, kernel) = ledger();
    sample(&mut usage);
    kernel.lock().unwrap().fork(INIT);
    kernel.lock().unwrap().run(INIT + 1, 9);
    kernel.lock().unwrap().exit_unseen(INIT + 1);
    let charged: u64 = (0..4).map(|_| sample(&mut usage).0).sum();
    assert_eq!(charged, 9);
}

#[test]
fn a_first_scan_that_was_cut_off_makes_nobody_pay_for_the_past() {
    let (mut usage, kernel) = ledger();
    kernel.lock().unwrap().cut = Some(0);
    assert_eq!(sample(&mut usage), (0, false));
    assert_eq!(sample(&mut usage), (0, true));
    kernel.lock().unwrap().run(INIT, 7);
    assert_eq!(sample(&mut usage), (7, true));
    assert_eq!(usage.counters.torn_reads, 1);
}

#[test]
fn a_scan_that_was_cut_off_buries_nobody() {
    let (mut usage, kernel) = ledger();
    kernel.lock().unwrap().fork(INIT);
    sample(&mut usage);
    let known = usage.processes().count();
    for _ in 0..20 {
        kernel.lock().unwrap().cut = Some(1);
        sample(&mut usage);
    }
    assert_eq!(usage.processes().count(), known);
    kernel.lock().unwrap().run(INIT + 1, 5);
    assert_eq!(sample(&mut usage), (5, true));
}
