// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long a scrape of 10,000 series takes: for the agent to write, and for whoever asks.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    Findings,
    peer::{Peer, Subject},
    table::{Table, quantile, shown},
    thousands::Machine,
};

/// For the agent alone, in ms.
const BAR_MS: f64 = 5.0;

pub(crate) fn run(requests: u32, peers: &[Peer]) -> Result<Findings> {
    let mut machine = Machine::new()?;
    let agent = machine.agent(Vec::new())?;
    machine.work_until_shown(&[&agent])?;
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
