// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a context switch costs with the agent off and on.
//!
//! Two processes on one CPU wake each other over pipes, with a real-time priority. The agent is
//! started and stopped between the runs, in turn first and second, so that what drifts drifts
//! for both; what counts is the median of the differences within a pair.

use std::{fs, thread, time::Duration};

use anyhow::Result;
use eco_tests::{
    agent::{Agent, Setup},
    workload::Workload,
};
use serde_json::json;

use crate::{
    Findings,
    peer::Peer,
    table::{Table, median, quantile, shown},
};

/// Blocks of a run, of which the median is taken, and switches of a block.
const BLOCKS: u32 = 60;
const SWITCHES: u32 = 10_000;

pub(crate) fn run(rounds: u32, peers: &[Peer]) -> Result<Findings> {
    if !peers.is_empty() {
        eprintln!("bench: overhead starts and stops what it measures; peers stay as they are");
    }
    let (mut off, mut on) = (Vec::new(), Vec::new());
    let mut attached = 0;
    for round in 0..rounds {
        let first_off = round % 2 == 0;
        if first_off {
            off.push(storm()?);
        }
        let mut agent = Agent::start(second_tick())?;
        agent.after_ticks(2)?;
        on.push(storm()?);
        attached = attached.max(on_switch(agent.pid()));
        agent.stop()?;
        drop(agent);
        if !first_off {
            off.push(storm()?);
        }
    }
    let added: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on - off).collect();
    let slowdown: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on / off).collect();
    let title = format!(
        "Context-switch storm, {rounds} pairs of {BLOCKS} blocks of {SWITCHES} switches (medians)"
    );
    let mut table = Table::new(
        title,
        &[
            "agent",
            "ns/switch",
            "added ns",
            "quartiles",
            "slowdown",
            "on sched_switch",
        ],
    );
    let none = || "–".to_owned();
    table.row([
        "off".to_owned(),
        shown(median(&off), 1),
        none(),
        none(),
        none(),
        none(),
    ]);
    table.row([
        "on".to_owned(),
        shown(median(&on), 1),
        shown(median(&added), 1),
        format!(
            "{} … {}",
            shown(quantile(&added, 0.25), 1),
            shown(quantile(&added, 0.75), 1)
        ),
        format!("×{}", shown(median(&slowdown), 4)),
        format!("{attached} programs"),
    ]);
    let json = json!({
        "bench": "overhead", "rounds": rounds, "switches": u64::from(BLOCKS) * u64::from(SWITCHES),
        "off_ns": off, "on_ns": on,
        "median_off_ns": median(&off), "median_on_ns": median(&on),
        "median_added_ns": median(&added), "median_slowdown": median(&slowdown),
        "programs_on_sched_switch": attached,
    });
    Ok(Findings {
        tables: vec![table],
        json,
    })
}

/// The default configuration.
pub(crate) fn second_tick() -> Setup {
    Setup {
        interval: Duration::from_secs(1),
        ..Setup::default()
    }
}

/// ns per switch, on the last CPU: the first serves most interrupts.
fn storm() -> Result<f64> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let work = Workload::new(&format!("switch {BLOCKS} {SWITCHES}"))?;
    Ok(work.on_cpu(cpus - 1).run()?.ns_per_switch)
}

/// How many programs of a process are attached to `sched_switch`.
fn on_switch(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.filter(|info| info.contains("sched_switch")).count()
}
