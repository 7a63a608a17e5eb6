// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of the CPU time of short-lived children is seen, against their own resource usage.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use eco_tests::{agent::Agent, cgroup::Cgroup, workload::Workload};
use serde_json::{Value, json};

use crate::{
    Findings,
    overhead::second_tick,
    peer::{Peer, Seen, Subject},
    table::{Table, median, shown},
};

/// Children, and µs of each: the bars of the project.
const STORMS: [(u32, u32); 2] = [(6_000, 2_000), (50_000, 200)];

const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Shares of the truth, by who saw them and where.
type Shares = BTreeMap<(String, String), Vec<f64>>;

pub(crate) fn run(rounds: u32, peers: &[Peer]) -> Result<Findings> {
    let (mut tables, mut storms) = (Vec::new(), Vec::new());
    for (children, micros) in STORMS {
        let mut shares = Shares::new();
        let mut truths = Vec::new();
        for _ in 0..rounds {
            truths.push(storm(children, micros, peers, &mut shares)?);
        }
        tables.push(table(children, micros, rounds, &truths, &shares));
        storms.push(json!({
            "children": children, "micros": micros, "rusage_seconds": truths,
            "seen": shares.iter().map(|((who, place), all)| json!({
                "who": who, "where": place, "shares": all, "median": median(all),
            })).collect::<Vec<Value>>(),
        }));
    }
    let json = json!({ "bench": "capture", "rounds": rounds, "storms": storms });
    Ok(Findings { tables, json })
}

fn table(children: u32, micros: u32, rounds: u32, truths: &[f64], shares: &Shares) -> Table {
    let title = format!(
        "{children} children of {micros} µs: {} s by their own resource usage \
         ({rounds} rounds, medians)",
        shown(median(truths), 2)
    );
    let mut table = Table::new(title, &["who", "where", "seen", "least", "× eco's job"]);
    let eco = shares
        .get(&("eco".to_owned(), JOB.to_owned()))
        .map_or(f64::NAN, |all| median(all));
    for ((who, place), all) in shares {
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        table.row([
            who.clone(),
            place.clone(),
            format!("{} %", shown(median(all) * 100.0, 3)),
            format!("{} %", shown(least * 100.0, 3)),
            format!("×{}", shown(median(all) / eco, 3)),
        ]);
    }
    table
}

const JOB: &str = "the job's account";

/// Runs one storm; gives its CPU seconds.
fn storm(children: u32, micros: u32, peers: &[Peer], shares: &mut Shares) -> Result<f64> {
    let agent = Agent::start(second_tick())?;
    let home = Cgroup::new("bench")?;
    let job = agent.open_job("bench", &home)?;
    let subjects = Subject::all(&agent, peers);
    let mark = home.path().trim_start_matches('/').to_owned();
    let marks = [mark.as_str(), "workload", job.id()];
    let over = AtomicBool::new(false);
    // The parent lives on after its storm, so that whoever looks rarely has a chance to see it.
    let work = Workload::new(&format!("storm {children} {micros}"))?.within(&home)?;
    let mut seen: Vec<Seen> = subjects.iter().map(|_| Seen::default()).collect();
    let look = |seen: &mut Vec<Seen>| -> Result<()> {
        for (subject, seen) in subjects.iter().zip(seen) {
            seen.observe(&subject.scrape()?.metrics, &marks);
        }
        Ok(())
    };
    for _ in 0..3 {
        look(&mut seen)?;
        thread::sleep(SCRAPE_EVERY);
    }
    let report = thread::scope(|scope| {
        let scrapes = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look(&mut seen)?;
                thread::sleep(SCRAPE_EVERY);
            }
            Ok::<(), anyhow::Error>(())
        });
        let report = work.run();
        over.store(true, Ordering::Relaxed);
        scrapes
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        report
    })?;
    for _ in 0..2 {
        thread::sleep(SCRAPE_EVERY);
        look(&mut seen)?;
    }
    let truth = report.cpu_seconds();
    let mut add = |who: &str, place: &str, seconds: f64| {
        let key = (who.to_owned(), place.to_owned());
        shares.entry(key).or_default().push(seconds / truth);
    };
    for (subject, seen) in subjects.iter().zip(&seen) {
        for (metric, seconds) in seen.by_metric() {
            add(subject.name(), metric, *seconds);
        }
        if seen.by_metric().is_empty() {
            add(subject.name(), "no series of it", 0.0);
        }
    }
    add("eco", JOB, job.close()?.cpu_seconds);
    Ok(truth)
}
