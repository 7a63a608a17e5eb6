// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One job of many runs: ranks, runs within runs, and what a launcher says of them.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{sync::Mutex, thread};

use eco_tests::{
    agent::{Agent, Setup},
    needs, programs,
    run::{self, By, Outcome},
    wait,
};
use serde_json::Value;

/// Of what the programs themselves say that they used, so much must be under the job's name.
const BAR: f64 = 0.99;

/// eco's own start of a command, and the shell's, are the job's too.
const MORE: f64 = 1.10;

/// One test's load is not another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// A node's agent.
fn node() -> Agent {
    Agent::start(Setup::default()).unwrap()
}

/// A rank of the job that burns so many CPU seconds.
fn rank(agent: &Agent, job: &str, number: u32, seconds: f64) -> Outcome {
    let script = format!("exec $WORKLOAD --report {number}.report burn {seconds}");
    let by = By::Agent(agent.socket());
    run::run(&by, &["--job", job], &["sh", "-c", &script]).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[track_caller]
fn assert_whole(found: f64, truth: f64) {
    assert!(
        (BAR * truth..=MORE * truth + 0.02).contains(&found),
        "{found} of {truth}"
    );
}

#[test]
fn two_ranks_on_one_node_are_one_job_and_each_knows_its_part() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let agent = node();
    let outcomes = thread::scope(|scope| {
        let ranks = [(0, 0.5), (1, 1.5)].map(|(number, seconds)| {
            let agent = &agent;
            scope.spawn(move || rank(agent, "train 7", number, seconds))
        });
        ranks.map(|rank| rank.join().unwrap())
    });
    let mut truth = 0.0;
    for outcome in &outcomes {
        let used = outcome.reported_seconds().unwrap();
        // The end of one rank does not end the other, whose own part is whole.
        assert_whole(outcome.cpu_seconds().unwrap(), used);
        let part = &outcome.json["part_of"];
        assert_eq!(
            (&part["manager"], &part["job"]),
            (&"eco".into(), &"train 7".into())
        );
        truth += used;
    }
    let last = &outcomes[1];
    let total = number(&last.json["part_of"]["on_this_node"]["cpu_seconds"]);
    assert_whole(total, truth);
    assert!(last.stderr.contains("part of job"), "{}", last.stderr);

    let answer = agent.json("/v1/jobs/eco/train%207").unwrap();
    assert_whole(number(&answer["cpu_seconds"]), truth);
    // Nothing else of eco's is a job: the sum over all jobs counts each joule once.
    wait::until("the series", || {
        let all = agent
            .scrape()
            .unwrap()
            .sum("eco_job_cpu_seconds_total", &[]);
        assert!(all <= MORE * truth + 0.02, "{all} of {truth}");
        all >= BAR * truth
    })
    .unwrap();
}

#[test]
fn a_run_within_a_run_and_a_rank_that_starts_anew_are_the_same_job() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let agent = node();
    let eco = programs::eco().display().to_string();
    let socket = agent.socket().display().to_string();
    let inner = format!("{eco} run --quiet --measure agent --socket {socket} --json inner.json --");
    let script = format!("{inner} $WORKLOAD --report b.report burn 0.5; cat inner.json");
    let by = By::Agent(agent.socket());
    let outer = run::shell(&by, &script).unwrap();
    let inner: Value = serde_json::from_str(&outer.stdout).unwrap();
    assert_eq!(inner["part_of"]["manager"], "eco", "{inner}");
    let mut truth = outer.cpu_seconds().unwrap();
    for _ in 0..2 {
        truth += rank(&agent, "again", 0, 0.3).reported_seconds().unwrap();
    }
    wait::until("the series", || {
        let all = agent
            .scrape()
            .unwrap()
            .sum("eco_job_cpu_seconds_total", &[]);
        assert!(all <= MORE * truth + 0.02, "{all} of {truth}");
        all >= BAR * truth
    })
    .unwrap();
}

#[test]
fn the_ranks_of_torchrun_are_one_job_by_its_environment() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let agent = node();
    // torchrun itself is not here: these are the variables that it sets.
    for (run_id, rank) in [("exp", 0), ("exp", 1)] {
        let variables = [
            ("TORCHELASTIC_RUN_ID", run_id.to_owned()),
            ("RANK", rank.to_string()),
            ("WORLD_SIZE", "2".to_owned()),
        ];
        let by = By::Agent(agent.socket());
        let outcome = run::launched(&by, &variables, "exec $WORKLOAD burn 0.2").unwrap();
        let part = &outcome.json["part_of"];
        assert_eq!(part["job"], "torchrun-exp", "{outcome:?}");
        assert_eq!((&part["rank"], &part["ranks"]), (&rank.into(), &2.into()));
        assert_eq!(part["launcher"], "torchrun");
    }
}
