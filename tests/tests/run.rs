// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco run` against what the kernel itself says of the same work.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands"
)]

use std::thread;

use eco_tests::{
    agent::{Agent, Setup},
    length, needs,
    run::{self, By, Outcome},
    user::NOBODY,
};

/// The node's agent, as it runs by default.
fn node_agent() -> Agent {
    let second = std::time::Duration::from_secs(1);
    Agent::start(Setup {
        interval: second,
        ..Setup::default()
    })
    .unwrap()
}

fn by(agent: &Agent) -> By {
    By::Agent(agent.socket())
}

/// The node's agent again and again, and a private one at last.
fn often(agent: &Agent) -> impl Iterator<Item = By> {
    let times = length::of(3, 19);
    std::iter::repeat_n(by(agent), times).chain([By::Private])
}

/// How far what was measured is from what the kernel says: `0.01` is one part in a hundred.
fn error(outcome: &Outcome) -> f64 {
    let (measured, truth) = (
        outcome.cpu_seconds().unwrap(),
        outcome.reported_seconds().unwrap(),
    );
    assert!(truth > 0.0, "{outcome:?}");
    println!(
        "measured {measured:.6} s of {truth:.6} s: {:.4}",
        measured / truth
    );
    measured / truth - 1.0
}

fn assert_within(outcome: &Outcome, least: f64, most: f64) {
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let error = error(outcome);
    assert!(
        (least..=most).contains(&error),
        "off by {error:.5}: {outcome:?}"
    );
}

fn assert_exact(outcome: &Outcome) {
    assert_eq!(outcome.json["tier"], "iter", "{outcome:?}");
}

#[test]
fn a_busy_loop_is_measured_within_half_a_percent() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    for by in [by(&agent), By::Private] {
        let outcome = run::workload(&by, length::of("burn 4", "burn 20")).unwrap();
        assert_exact(&outcome);
        assert_within(&outcome, -0.005, 0.005);
        assert!(outcome.json["energy_joules"]["total"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn of_children_that_live_two_milliseconds_less_than_one_in_a_thousand_is_lost() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    for by in often(&agent) {
        let outcome = run::workload(&by, length::of("storm 1500 2000", "storm 6000 2000")).unwrap();
        assert_exact(&outcome);
        assert_within(&outcome, -0.001, 0.005);
    }
}

#[test]
fn of_children_that_live_a_fifth_of_a_millisecond_less_than_one_in_a_thousand_is_lost() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    for by in often(&agent) {
        let outcome = run::workload(&by, length::of("storm 5000 200", "storm 20000 200")).unwrap();
        assert_exact(&outcome);
        assert_within(&outcome, -0.001, 0.005);
    }
}

#[test]
fn eight_threads_are_measured_within_one_percent() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    let outcome = run::workload(&by(&agent), length::of("burn 0.5 8", "burn 10 8")).unwrap();
    assert!(outcome.reported_seconds().unwrap() >= 4.0);
    assert_exact(&outcome);
    assert_within(&outcome, -0.01, 0.01);
}

#[test]
fn every_part_of_a_pipeline_is_measured() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    let script = "$WORKLOAD --report a.report burn 1 | $WORKLOAD --report b.report burn 0.5 | \
                  ( $WORKLOAD --report c.report storm 200 1000; cat )";
    let outcome = run::shell(&by(&agent), script).unwrap();
    assert_exact(&outcome);
    assert_within(&outcome, -0.01, 0.01);
}

#[test]
fn a_daemon_that_outlives_its_parents_is_part_of_the_run() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    for by in [by(&agent), By::Private] {
        let outcome = run::workload(&by, "daemon 2").unwrap();
        assert_exact(&outcome);
        assert_within(&outcome, -0.01, 0.01);
        assert_eq!(outcome.json["left_running"], 0);
    }
}

#[test]
fn a_plain_user_loses_nothing_that_was_waited_for() {
    needs!(Programs, OtherUser);
    for (arguments, tolerance) in [
        ("burn 2", 0.005),
        ("storm 800 2000", 0.005),
        ("burn 0.25 8", 0.01),
        ("daemon 1", 0.01),
    ] {
        let outcome = run::workload(&By::Plain(NOBODY), arguments).unwrap();
        assert_eq!(outcome.json["measured_by"], "plain-user", "{outcome:?}");
        assert_within(&outcome, -tolerance, tolerance);
    }
}

#[test]
fn two_runs_at_once_are_told_apart() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    thread::scope(|scope| {
        let one = scope.spawn(|| run::workload(&by(&agent), "storm 600 2000").unwrap());
        let other = scope.spawn(|| run::workload(&by(&agent), "burn 2").unwrap());
        for outcome in [one.join().unwrap(), other.join().unwrap()] {
            assert_within(&outcome, -0.005, 0.01);
        }
    });
}

#[test]
fn a_run_within_a_run_is_part_of_both() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    let eco = eco_tests::programs::eco().display().to_string();
    let socket = agent.socket().display().to_string();
    let inner = format!("{eco} run --quiet --measure agent --socket {socket} --json inner.json --");
    let script = format!(
        "$WORKLOAD --report a.report burn 1; {inner} $WORKLOAD --report b.report burn 1; \
         cat inner.json"
    );
    let outcome = run::shell(&by(&agent), &script).unwrap();
    // The inner eco's own work belongs to the outer run, and says nothing of itself.
    assert_within(&outcome, -0.01, 0.04);
    let inner: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let inner = inner["cpu_seconds"].as_f64().unwrap();
    assert!((1.0..1.02).contains(&inner), "{inner}");
}

#[test]
fn whoever_measures_the_exit_status_is_the_commands() {
    needs!(Programs, Root);
    let agent = node_agent();
    for by in [by(&agent), By::Private, By::Plain(0)] {
        for (script, status) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
        ] {
            let outcome = run::shell(&by, script).unwrap();
            assert_eq!(outcome.status, status, "{script}: {outcome:?}");
            assert_eq!(outcome.json["exit_status"], status, "{script}");
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_127_and_costs_nothing() {
    needs!(Programs, Root);
    let agent = node_agent();
    for by in [by(&agent), By::Private] {
        let outcome = run::run(&by, &[], &["no-such-command-anywhere"]).unwrap();
        assert_eq!(outcome.status, 127);
        assert!(
            outcome.stderr.contains("no-such-command-anywhere"),
            "{}",
            outcome.stderr
        );
        assert!(outcome.cpu_seconds().unwrap() < 0.1, "{outcome:?}");
    }
}

#[test]
fn no_run_leaves_a_cgroup_behind() {
    needs!(Programs, Root, Cgroup);
    let agent = node_agent();
    let probe = eco_tests::cgroup::Cgroup::new("probe").unwrap();
    let mount = probe.folder().parent().unwrap();
    let outcome = run::shell(&by(&agent), "sleep 0 & exit 3").unwrap();
    assert_eq!(outcome.status, 3);
    let eco_pids: Vec<String> = std::fs::read_dir(mount)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix("eco-run-").map(str::to_owned))
        .filter(|pid| !std::path::Path::new("/proc").join(pid).exists())
        .collect();
    assert!(eco_pids.is_empty(), "{eco_pids:?}");
}

#[test]
fn a_count_of_processes_that_is_not_all_of_them_says_so() {
    needs!(Programs, Root, Bpf);
    let agent = node_agent();
    for by in [by(&agent), by(&agent), By::Private] {
        let outcome = run::workload(&by, "storm 3000 200").unwrap();
        let counted = outcome.json["processes"].as_u64().unwrap();
        let is_exact = outcome.json["processes_exact"].as_bool().unwrap();
        println!("counted {counted}, exact: {is_exact}");
        // The storm itself is one more.
        assert!(counted <= 3001, "{outcome:?}");
        assert_eq!(is_exact, counted == 3001, "{outcome:?}");
    }
}
