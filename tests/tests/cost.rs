// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an agent takes while it watches a crowd. Time is for `cargo xtask bench`: a test that
//! shares its machine can tell memory and bytes only.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::time::Duration;

use eco_tests::{
    agent::{Agent, Memory, Setup},
    needs,
    workload::Workload,
};

const MEGABYTE: u64 = 1_000_000;

/// Memory after some ticks and scrapes among so many sleepers, and the bytes of a scrape.
fn among(processes: u32, threads: u32) -> (Memory, usize) {
    let crowd = Workload::new(&format!("sleepers {processes} {threads}")).unwrap();
    let crowd = crowd.start().unwrap();
    crowd.until_reported().unwrap();
    let agent = Agent::start(Setup {
        interval: Duration::from_secs(1),
        ..Setup::default()
    });
    let agent = agent.unwrap();
    let mut bytes = 0;
    for _ in 0..3 {
        agent.after_ticks(1).unwrap();
        bytes = agent.get("/metrics").unwrap().body.len();
    }
    let status = agent.status().unwrap();
    assert!(
        status["processes"].as_u64().unwrap() >= processes.into(),
        "{status}"
    );
    (agent.memory().unwrap(), bytes)
}

#[test]
fn among_five_hundred_processes_an_agent_stays_within_twelve_megabytes() {
    needs!(Programs, Root, Bpf);
    let (memory, bytes) = among(500, 1);
    assert!(memory.resident <= 12 * MEGABYTE, "{memory:?}");
    assert!(memory.peak <= 64 * MEGABYTE, "{memory:?}");
    assert!(bytes <= 150_000, "a scrape has {bytes} bytes");
}

#[test]
fn among_ten_thousand_tasks_an_agent_stays_within_thirty_megabytes() {
    needs!(Programs, Root, Bpf);
    let (memory, bytes) = among(1_000, 10);
    assert!(memory.resident <= 30 * MEGABYTE, "{memory:?}");
    assert!(bytes <= 150_000, "a scrape has {bytes} bytes");
}
