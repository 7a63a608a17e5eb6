// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a node's agent keeps of the jobs that were closed, read by `eco history`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::process::Command;

use eco_tests::{
    agent::{Agent, Setup},
    needs, programs,
    run::{self, By},
    wait,
};
use serde_json::Value;

/// The agent's runs, the latest first.
fn runs(agent: &Agent) -> Vec<Value> {
    let output = Command::new(programs::eco())
        .args(["history", "--format", "json", "--history"])
        .arg(agent.state().join("carbon_history.db"))
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    document["runs"].as_array().cloned().unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_closed_job_is_kept_with_what_its_user_was_told_and_outlives_the_agent() {
    needs!(Programs, Root, Bpf);
    let mut agent = Agent::start(Setup::default()).unwrap();
    agent.push_intensity("DE", 300.0).unwrap();
    agent.after_ticks(1).unwrap();
    let by = By::Agent(agent.socket());
    let options = ["--name", "train", "--job", "exp-1"];
    let outcome = run::run(&by, &options, &["sh", "-c", "exec $WORKLOAD burn 0.5"]).unwrap();
    wait::until("the run is kept", || !runs(&agent).is_empty()).unwrap();
    agent.kill().unwrap();
    agent.restart().unwrap();
    let found = runs(&agent);
    assert_eq!(found.len(), 1, "{found:?}");
    let (run, told) = (&found[0], &outcome.json);

    assert_eq!(
        (&run["name"], &run["user"]),
        (&"train".into(), &"root".into())
    );
    assert_eq!(run["part_of"]["job"], "exp-1");
    assert!(run["hardware"]["cpus"].as_u64().unwrap() > 0);
    // What it was told of the cgroup of its own is what the kernel booked, to the microsecond.
    let near = |kept: f64, told: f64| (kept - told).abs() <= 0.001 * told + 1e-4;
    let cpu_seconds = number(&run["cpu_ns"]) / 1e9;
    assert!(near(cpu_seconds, number(&told["cpu_seconds"])), "{told:#}");
    let joules = number(&run["energy_uj"]) / 1e6;
    let wanted = number(&told["energy_joules"]["total"]);
    assert!(near(joules, wanted), "{joules} J of {wanted} J");
    // 3.6 MJ are a kWh.
    let grams = number(&run["carbon_ng"]) / 1e9;
    assert!(near(grams, joules * 300.0 / 3.6e6), "{grams} g");
    assert_eq!(run["priced"]["intensity"]["zone"], "DE");
}
