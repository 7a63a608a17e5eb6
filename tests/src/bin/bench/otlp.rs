// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What pushing 10,000 series by OTLP costs an agent: beside one on the same machine that pushes
//! nothing.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use eco_tests::{agent::Agent, servers::collector::Collector, wait};
use serde_json::json;

use crate::{
    Findings,
    table::{Table, shown},
    thousands::Machine,
};

/// How often it pushes.
const INTERVAL: Duration = Duration::from_secs(15);

/// Percent of a core.
const BAR: f64 = 0.2;

/// In MB.
const MEMORY_BAR: f64 = 8.0;

/// The name of its thread that pushes.
const THREAD: &str = "eco-otlp";

pub(crate) fn run(pushes: u32) -> Result<Findings> {
    let Some(mut collector) = Collector::prepare()? else {
        bail!("there is no Collector: cargo xtask servers");
    };
    collector.start()?;
    let mut machine = Machine::new()?;
    let without = machine.agent(Vec::new())?;
    let with = machine.agent(vec![
        ("ECO_OTLP__ENDPOINT", collector.url()),
        ("ECO_OTLP__INTERVAL", format!("{}s", INTERVAL.as_secs())),
    ])?;
    machine.work_until_shown(&[&without, &with])?;
    // The next push is the first of all series; from the one after it nothing grows any more.
    for _ in 0..2 {
        until_pushed(&collector)?;
    }
    let before = [usage(&without)?, usage(&with)?];
    let (begun, first) = (Instant::now(), passes(&collector));
    thread::sleep(INTERVAL * pushes);
    let seconds = begun.elapsed().as_secs_f64();
    let after = [usage(&without)?, usage(&with)?];
    let took = |who: usize| after[who].process_seconds - before[who].process_seconds;
    let thread_seconds = after[1].thread_seconds - before[1].thread_seconds;
    let added_seconds = took(1) - took(0);
    let percent = |used: f64| 100.0 * used / seconds;
    let megabytes = (after[1].resident as f64 - after[0].resident as f64) / 1e6;
    let series = with.scrape()?.iter().count();
    let failed = with.scrape()?.sum("eco_push_failures_total", &[]);
    let passes = passes(&collector).saturating_sub(first);
    let mut table = Table::new(
        format!(
            "{series} series each {} s, {passes} pushes, {failed} failed",
            INTERVAL.as_secs()
        ),
        &[
            "what it costs",
            "ms a push",
            "% of a core",
            "bar",
            "of the bar",
        ],
    );
    let mut row = |what: &str, used: f64| {
        table.row([
            what.to_owned(),
            shown(1e3 * used / passes.max(1) as f64, 1),
            shown(percent(used), 3),
            shown(BAR, 1),
            shown(percent(used) / BAR, 2),
        ]);
    };
    row("the thread that pushes", thread_seconds);
    row("all, beside an agent that does not", added_seconds);
    let mut memory = Table::new("Memory".to_owned(), &["", "MB more", "bar", "of the bar"]);
    memory.row([
        "resident".to_owned(),
        shown(megabytes, 1),
        shown(MEMORY_BAR, 0),
        shown(megabytes / MEMORY_BAR, 2),
    ]);
    Ok(Findings {
        tables: vec![table, memory],
        json: json!({
            "bench": "otlp", "series": series, "interval_seconds": INTERVAL.as_secs(),
            "pushes": passes, "failed": failed, "thread_percent": percent(thread_seconds),
            "added_percent": percent(added_seconds), "bar_percent": BAR,
            "resident_mb": megabytes, "bar_mb": MEMORY_BAR,
        }),
    })
}

/// What an agent has used so far.
struct Usage {
    process_seconds: f64,
    thread_seconds: f64,
    resident: u64,
}

fn usage(agent: &Agent) -> Result<Usage> {
    Ok(Usage {
        process_seconds: agent.cpu_us()? as f64 / 1e6,
        thread_seconds: thread_seconds(agent.pid())?,
        resident: agent.memory()?.resident,
    })
}

/// CPU time of the thread that pushes, to the nanosecond; 0 where there is none.
fn thread_seconds(pid: u32) -> Result<f64> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == THREAD {
            let text = fs::read_to_string(task.join("schedstat"))?;
            let ns = text
                .split_whitespace()
                .next()
                .context("schedstat is empty")?;
            return Ok(ns.parse::<f64>()? / 1e9);
        }
    }
    Ok(0.0)
}

fn passes(collector: &Collector) -> usize {
    collector.points("eco.ticks").len()
}

fn until_pushed(collector: &Collector) -> Result<()> {
    let known = passes(collector);
    wait::until("it pushes", || passes(collector) > known)
}
