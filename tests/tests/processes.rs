// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entries of `/proc` that vanish, hide and lie cost themselves alone: no tick is lost.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{thread, time::Duration};

use eco_tests::{
    agent::{Agent, Setup},
    length, needs,
    process_tree::{FakeProcess, Flaw, ProcessTree},
    user::NOBODY,
    workload::Workload,
};

/// Rounds of 20 ms, and how many ticks of the agent there are in them at least.
fn rounds() -> (u64, u64) {
    length::of((400, 10), (5_000, 1_000))
}

/// Clock ticks that the steady process uses in a round.
const STEADY_TICKS: u64 = 3;

fn fast() -> Setup {
    Setup {
        interval: Duration::from_millis(100),
        ..Setup::default()
    }
}

fn process(pid: u32, comm: &str, cpu_ticks: u64) -> FakeProcess {
    FakeProcess {
        pid,
        parent: 1,
        comm: comm.into(),
        cpu_ticks,
        start_ticks: 5 + u64::from(pid),
    }
}

fn failed_scans(agent: &Agent) -> f64 {
    agent.scrape().unwrap().sum("eco_failed_scans_total", &[])
}

/// CPU seconds of a process, as `/v1/units` has them.
fn cpu_seconds(agent: &Agent, pid: u32) -> f64 {
    let units = agent.json("/v1/units?kind=process").unwrap();
    let mut units = units["units"].as_array().unwrap().iter();
    let unit = units.find(|unit| unit["pid"] == pid);
    unit.unwrap_or_else(|| panic!("no process {pid}"))["cpu_seconds"]
        .as_f64()
        .unwrap()
}

/// All that can go wrong with entries goes wrong, round after round, beside one sound process.
fn torment(tree: &ProcessTree) -> u64 {
    let mut used = 0;
    for round in 1..=rounds().0 {
        used = round * STEADY_TICKS;
        tree.put(&process(100, "steady", 1_000 + used)).unwrap();
        for (at, flaw) in (0..).zip(Flaw::ALL) {
            let pid = 200 + at;
            if (round + u64::from(at)) % 3 == 0 {
                tree.remove(pid).unwrap();
                tree.put(&process(pid, "(odd) name\n", round)).unwrap();
            } else {
                tree.spoil(pid, flaw).unwrap();
            }
        }
        let fresh = 1_000 + u32::try_from(round).unwrap();
        tree.put(&process(fresh, "short", 1)).unwrap();
        tree.remove(fresh - 3).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    used
}

fn assert_unharmed(setup: Setup) {
    let tree = ProcessTree::new().unwrap();
    tree.put(&process(1, "init", 100)).unwrap();
    tree.put(&process(100, "steady", 1_000)).unwrap();
    let setup = Setup {
        procfs: Some(tree.path().to_owned()),
        ..setup
    };
    let mut agent = Agent::start(setup).unwrap();
    agent.after_ticks(1).unwrap();
    let before = agent.ticks().unwrap();
    let used = torment(&tree);
    agent.after_ticks(2).unwrap();
    assert!(agent.is_alive());
    assert!(agent.ticks().unwrap() >= before + rounds().1);
    assert_eq!(failed_scans(&agent), 0.0, "{}", agent.log());
    // SAFETY: takes a constant and returns a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let (seen, truth) = (cpu_seconds(&agent, 100), used as f64 / per_second);
    assert!((seen - truth).abs() < 1e-6, "{seen} s of {truth} s");
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}

#[test]
fn entries_that_vanish_and_lie_cost_themselves_alone() {
    needs!(Programs, Root);
    assert_unharmed(fast());
}

#[test]
fn entries_that_may_not_be_read_cost_themselves_alone() {
    needs!(Programs, Root);
    // To root nothing is locked.
    assert_unharmed(Setup {
        user: Some(NOBODY),
        ..fast()
    });
}

#[test]
fn no_tick_is_lost_while_processes_come_and_go() {
    needs!(Programs, Root);
    for tier in ["auto", "procfs"] {
        let mut setup = fast();
        setup.variables.push(("ECO_TIER", tier.to_owned()));
        let agent = Agent::start(setup).unwrap();
        let churn = Workload::new(&format!("churn {}", length::of(5, 105)))
            .unwrap()
            .start()
            .unwrap();
        let before = agent.ticks().unwrap();
        churn.finish().unwrap();
        assert!(agent.ticks().unwrap() >= before + rounds().1);
        assert_eq!(failed_scans(&agent), 0.0, "{tier}: {}", agent.log());
    }
}
