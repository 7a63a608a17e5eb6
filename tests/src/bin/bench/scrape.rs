// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long a scrape of 10,000 series takes: for the agent to write, and for whoever asks.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use eco_tests::{
    agent::{Agent, Setup},
    power::PowerTree,
    process_tree::{FakeProcess, ProcessTree},
    wait,
};
use serde_json::json;

use crate::{
    Findings,
    peer::{Peer, Subject},
    table::{Table, quantile, shown},
};

/// Each has energy and carbon of two domains, and CPU time.
const PROCESSES: u32 = 2_000;

/// For the agent alone, in ms.
const BAR_MS: f64 = 5.0;

pub(crate) fn run(requests: u32, peers: &[Peer]) -> Result<Findings> {
    let power = PowerTree::with_dram()?;
    let processes = ProcessTree::new()?;
    let agent = Agent::start(Setup {
        procfs: Some(processes.path().to_owned()),
        variables: vec![
            ("ECO_TOP", "10000".to_owned()),
            ("ECO_TIER", "procfs".to_owned()),
            ("ECO_CARBON__ZONE", "DE".to_owned()),
        ],
        ..Setup::metered_by(power.sysfs())
    })?;
    let mut ticks = 0;
    wait::until("all processes are shown", || {
        ticks += 10;
        let work = (1..=PROCESSES).try_for_each(|pid| {
            processes.put(&FakeProcess {
                pid,
                parent: 1,
                comm: "work".into(),
                cpu_ticks: ticks,
                start_ticks: 5,
            })
        });
        let text = agent.get("/metrics").map(|answer| answer.body);
        thread::sleep(Duration::from_millis(300));
        work.is_ok() && text.is_ok_and(|text| series(&text) >= 5 * PROCESSES as usize)
    })?;
    let mut table = Table::new(
        format!("{requests} scrapes"),
        &[
            "who",
            "series",
            "kB",
            "asked p50 ms",
            "p99 ms",
            "written, mean ms",
            "bar ms",
        ],
    );
    let mut rows = Vec::new();
    for subject in Subject::all(&agent, peers) {
        let seconds =
            || Ok::<f64, anyhow::Error>(agent.scrape()?.sum("eco_scrape_seconds_sum", &[]));
        let before = seconds()?;
        let (mut took, mut bytes, mut count) = (Vec::new(), 0, 0);
        for _ in 0..requests {
            let scrape = subject.scrape()?;
            took.push(scrape.milliseconds);
            (bytes, count) = (scrape.bytes, scrape.metrics.iter().count());
        }
        ensure!(count > 0, "{} has no series", subject.name());
        // The two scrapes around it are counted once: the last is not in its own answer.
        let written = match subject {
            Subject::Eco(_) => (seconds()? - before) * 1e3 / f64::from(requests + 1),
            Subject::Peer(_) => f64::NAN,
        };
        table.row([
            subject.name().to_owned(),
            count.to_string(),
            (bytes / 1000).to_string(),
            shown(quantile(&took, 0.5), 2),
            shown(quantile(&took, 0.99), 2),
            shown(written, 2),
            shown(BAR_MS, 0),
        ]);
        rows.push(json!({
            "who": subject.name(), "series": count, "bytes": bytes, "written_mean_ms": written,
            "asked_p50_ms": quantile(&took, 0.5), "asked_p99_ms": quantile(&took, 0.99),
            "bar_ms": BAR_MS,
        }));
    }
    Ok(Findings {
        tables: vec![table],
        json: json!({ "bench": "scrape", "requests": requests, "rows": rows }),
    })
}

fn series(text: &str) -> usize {
    let lines = text.lines();
    lines
        .filter(|line| line.contains("kind=\"process\""))
        .count()
}
