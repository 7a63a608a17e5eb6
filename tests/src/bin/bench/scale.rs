// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What watching costs as there is more to watch.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use eco_tests::{
    agent::Agent,
    wait,
    workload::{Running, Workload},
};
use serde_json::{Value, json};

use crate::{
    Findings,
    overhead::second_tick,
    peer::{Peer, Subject},
    table::{Table, median, shown},
};

/// Tasks, and how many of them are threads of one process.
const STEPS: [(u64, u64); 4] = [(100, 1), (500, 1), (1_000, 1), (10_000, 10)];

/// By so many tasks the machine's own number of them may vary.
const FEW: u64 = 20;

/// Before anything is counted: caches fill, and the first look at everyone is over.
const WARM_TICKS: u64 = 5;

/// One subject at one number of tasks.
struct Cost {
    who: String,
    cpu_percent: f64,
    resident_mb: f64,
    peak_mb: f64,
    tick_p50_ms: f64,
    tick_p99_ms: f64,
    scrape_ms: f64,
    scrape_kb: f64,
}

pub(crate) fn run(seconds: u32, peers: &[Peer]) -> Result<Findings> {
    let (mut tables, mut steps) = (Vec::new(), Vec::new());
    let residents = tasks_now()?;
    for (tasks, threads) in STEPS {
        let crowd = crowd(tasks.saturating_sub(residents), threads)?;
        let agent = Agent::start(second_tick())?;
        agent.after_ticks(WARM_TICKS)?;
        let (present, processes) = counted(&agent)?;
        let costs = measure(&agent, peers, seconds)?;
        drop(crowd);
        // They end one by one; the next crowd must not be counted together with this one.
        let are_gone = || tasks_now().is_ok_and(|now| now < residents + FEW);
        wait::until("the crowd is gone", are_gone)?;
        tables.push(table(present, processes, seconds, &costs));
        steps.push(json!({
            "tasks": present, "processes": processes,
            "costs": costs.iter().map(Cost::json).collect::<Vec<Value>>(),
        }));
    }
    Ok(Findings {
        tables,
        json: json!({ "bench": "scale", "seconds": seconds, "steps": steps }),
    })
}

/// So many sleeping tasks.
fn crowd(tasks: u64, threads: u64) -> Result<Option<Running>> {
    let processes = tasks / threads;
    if processes == 0 {
        return Ok(None);
    }
    let sleepers = Workload::new(&format!("sleepers {processes} {threads}"))?.start()?;
    sleepers.until_reported()?;
    Ok(Some(sleepers))
}

fn tasks_now() -> Result<u64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let total = text
        .split([' ', '/'])
        .nth(4)
        .and_then(|number| number.parse().ok());
    total.context("/proc/loadavg has no number of tasks")
}

/// Tasks and processes, as the agent counts them.
fn counted(agent: &Agent) -> Result<(u64, u64)> {
    let status = agent.status()?;
    let number = |key: &str| status[key].as_u64().with_context(|| format!("no {key}"));
    Ok((number("tasks")?, number("processes")?))
}

/// One scrape a second of everyone.
fn measure(agent: &Agent, peers: &[Peer], seconds: u32) -> Result<Vec<Cost>> {
    let subjects = Subject::all(agent, peers);
    let mut scrapes: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); subjects.len()];
    let before: Vec<u64> = subjects.iter().map(|s| s.cpu_us()).collect::<Result<_>>()?;
    let begun = Instant::now();
    for second in 1..=seconds {
        for (subject, (times, sizes)) in subjects.iter().zip(&mut scrapes) {
            let scrape = subject.scrape()?;
            times.push(scrape.milliseconds);
            sizes.push(scrape.bytes as f64);
        }
        let next = Duration::from_secs(u64::from(second));
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    let elapsed_us = begun.elapsed().as_micros() as f64;
    let mut costs = Vec::new();
    for ((subject, (times, sizes)), before) in subjects.iter().zip(&scrapes).zip(before) {
        let memory = subject.memory()?;
        let tick = |which| match subject {
            Subject::Eco(agent) => tick_ms(agent, which),
            Subject::Peer(_) => Ok(f64::NAN),
        };
        costs.push(Cost {
            who: subject.name().to_owned(),
            cpu_percent: (subject.cpu_us()? - before) as f64 / elapsed_us * 100.0,
            resident_mb: memory.resident as f64 / 1e6,
            peak_mb: memory.peak as f64 / 1e6,
            tick_p50_ms: tick("p50")?,
            tick_p99_ms: tick("p99")?,
            scrape_ms: median(times),
            scrape_kb: median(sizes) / 1e3,
        });
    }
    Ok(costs)
}

fn tick_ms(agent: &Agent, which: &str) -> Result<f64> {
    let status = agent.status()?;
    let seconds = status["latencies"]["tick"][which].as_f64();
    Ok(seconds.context("/v1/status has no latency of ticks")? * 1e3)
}

fn table(tasks: u64, processes: u64, seconds: u32, costs: &[Cost]) -> Table {
    let title = format!(
        "{tasks} tasks in {processes} processes: {seconds} s at 1 Hz, one scrape each second"
    );
    let columns = [
        "who",
        "CPU %",
        "RSS MB",
        "peak MB",
        "tick p50 ms",
        "p99 ms",
        "scrape ms",
        "kB",
        "CPU × eco",
    ];
    let mut table = Table::new(title, &columns);
    let eco = costs.first().map_or(f64::NAN, |cost| cost.cpu_percent);
    for cost in costs {
        table.row([
            cost.who.clone(),
            shown(cost.cpu_percent, 3),
            shown(cost.resident_mb, 1),
            shown(cost.peak_mb, 1),
            shown(cost.tick_p50_ms, 2),
            shown(cost.tick_p99_ms, 2),
            shown(cost.scrape_ms, 2),
            shown(cost.scrape_kb, 1),
            format!("×{}", shown(cost.cpu_percent / eco, 2)),
        ]);
    }
    table
}

impl Cost {
    fn json(&self) -> Value {
        json!({
            "who": self.who, "cpu_percent": self.cpu_percent, "resident_mb": self.resident_mb,
            "peak_mb": self.peak_mb, "tick_p50_ms": finite(self.tick_p50_ms),
            "tick_p99_ms": finite(self.tick_p99_ms), "scrape_ms": self.scrape_ms,
            "scrape_kb": self.scrape_kb,
        })
    }
}

/// JSON has no NaN.
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}
