// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What watching GPUs costs: an agent on eight of them with four hundred processes, beside one on
//! none, in the same seconds. The driver is the stand-in, whose own work is in the first one's.

use std::{
    fmt::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use eco_nvml_standin::lab::Lab;
use eco_tests::agent::{Agent, Setup};
use serde_json::json;

use crate::{
    Findings,
    overhead::second_tick,
    table::{Table, shown},
};

const GPUS: usize = 8;
const PROCESSES_EACH: usize = 50;

/// Before anything is counted: the driver is loaded, and the first look at everyone is over.
const WARM_TICKS: u64 = 5;

pub(crate) fn run(seconds: u32) -> Result<Findings> {
    let sleepers = Sleepers::new(GPUS * PROCESSES_EACH)?;
    let driver = Lab::new(&script(&sleepers)?)?;
    let with = |library: String| {
        Agent::start(Setup {
            variables: vec![("ECO_NVML__LIBRARY", library)],
            ..second_tick()
        })
    };
    let agents = [
        (
            "8 GPUs, 400 processes",
            with(driver.library().display().to_string())?,
        ),
        ("no GPU", with("/nonexistent".to_owned())?),
    ];
    for (_, agent) in &agents {
        agent.after_ticks(WARM_TICKS)?;
    }
    let used = || -> Result<Vec<u64>> { agents.iter().map(|(_, agent)| agent.cpu_us()).collect() };
    let (before, begun) = (used()?, Instant::now());
    for second in 1..=seconds {
        for (_, agent) in &agents {
            agent.scrape()?;
        }
        let next = Duration::from_secs(u64::from(second));
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    let elapsed_us = begun.elapsed().as_micros() as f64;
    let percent: Vec<f64> = used()?
        .iter()
        .zip(before)
        .map(|(now, before)| (now - before) as f64 / elapsed_us * 100.0)
        .collect();
    let title = format!("{seconds} s at 1 Hz, one scrape each second");
    let mut table = Table::new(title, &["agent", "CPU %", "RSS MB", "CPU × no GPU"]);
    let mut found = Vec::new();
    for ((name, agent), cpu) in agents.iter().zip(&percent) {
        let resident_mb = agent.memory()?.resident as f64 / 1e6;
        let ratio = cpu / percent[1];
        table.row([
            (*name).to_owned(),
            shown(*cpu, 3),
            shown(resident_mb, 1),
            format!("×{}", shown(ratio, 2)),
        ]);
        found.push(json!({ "agent": name, "cpu_percent": cpu, "resident_mb": resident_mb }));
    }
    Ok(Findings {
        tables: vec![table],
        json: json!({ "bench": "gpus", "seconds": seconds, "agents": found }),
    })
}

fn script(sleepers: &Sleepers) -> Result<String> {
    let mut script = String::new();
    for of_gpu in sleepers.0.chunks(PROCESSES_EACH) {
        writeln!(script, "[[gpu]]\nidle_watts = 50.0")?;
        for child in of_gpu {
            let pid = child.id();
            writeln!(script, "[[gpu.process]]\npid = {pid}\nwatts = 4.0\nsm = 2")?;
        }
    }
    Ok(script)
}

/// Processes that do nothing on the CPU. Dropped, they end.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn new(number: usize) -> Result<Self> {
        let mut sleepers = Self(Vec::with_capacity(number));
        for _ in 0..number {
            let mut sleep = Command::new("sleep");
            sleepers
                .0
                .push(sleep.arg("3600").stdin(Stdio::null()).spawn()?);
        }
        Ok(sleepers)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
