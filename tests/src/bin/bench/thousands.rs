// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An agent that shows 10,000 series.

use std::{thread, time::Duration};

use anyhow::Result;
use eco_tests::{
    agent::{Agent, Setup},
    power::PowerTree,
    process_tree::{FakeProcess, ProcessTree},
    wait,
};

/// Each has energy and carbon of two domains, and CPU time.
const PROCESSES: u32 = 2_000;

/// A machine of so many processes.
pub(crate) struct Machine {
    power: PowerTree,
    processes: ProcessTree,
    ticks: u64,
}

impl Machine {
    /// One where nobody works yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            power: PowerTree::with_dram()?,
            processes: ProcessTree::new()?,
            ticks: 0,
        })
    }

    /// An agent on it.
    pub(crate) fn agent(&self, variables: Vec<(&'static str, String)>) -> Result<Agent> {
        let own = [
            ("ECO_TOP", "10000".to_owned()),
            ("ECO_TIER", "procfs".to_owned()),
            ("ECO_CARBON__ZONE", "DE".to_owned()),
        ];
        Agent::start(Setup {
            procfs: Some(self.processes.path().to_owned()),
            variables: own.into_iter().chain(variables).collect(),
            ..Setup::metered_by(self.power.sysfs())
        })
    }

    /// Has all processes work until those agents show each of them.
    pub(crate) fn work_until_shown(&mut self, agents: &[&Agent]) -> Result<()> {
        wait::until("all processes are shown", || {
            self.ticks += 10;
            let work = (1..=PROCESSES).try_for_each(|pid| {
                self.processes.put(&FakeProcess {
                    pid,
                    parent: 1,
                    comm: "work".into(),
                    cpu_ticks: self.ticks,
                    start_ticks: 5,
                })
            });
            let all_shown = agents.iter().all(|agent| {
                let text = agent.get("/metrics");
                text.is_ok_and(|text| series(&text.body) >= 5 * PROCESSES as usize)
            });
            thread::sleep(Duration::from_millis(300));
            work.is_ok() && all_shown
        })
    }
}

fn series(text: &str) -> usize {
    let lines = text.lines();
    lines
        .filter(|line| line.contains("kind=\"process\""))
        .count()
}
