// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `eco` asks an agent, and what it makes of the answers, good and bad.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod common;

use std::{
    fs,
    process::Output,
    sync::atomic::{AtomicUsize, Ordering},
};

use common::{Answer, FakeAgent, Seen, eco, output, stderr, stdout};
use serde_json::{Value, json};

fn job(cpu_seconds: f64) -> Value {
    json!({
        "id": "j-1", "manager": "eco", "name": "true", "user": "ann",
        "started": "2026-01-02T03:04:05Z", "membership": "cgroup",
        "cpu_seconds": cpu_seconds, "processes": 7, "running": 0,
        "energy_joules": {"package": 5.0, "core": 3.0, "dram": 1.5},
        "idle_share_joules": 2.25,
        "meters": [{"name": "package-0", "domain": "package", "source": "rapl-powercap", "joules": 5.0}],
        "estimated": false, "tier": "iter",
        "agent_cpu_seconds": 0.01, "agent_energy_joules": 0.02
    })
}

fn problem(status: u16, detail: &str) -> Answer {
    let body = json!({"type": "about:blank", "title": "x", "status": status, "detail": detail});
    (status, body.to_string())
}

/// An agent that follows one job.
fn follows(seen: &Seen) -> Answer {
    match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/v1/jobs") => (201, job(0.0).to_string()),
        ("DELETE", "/v1/jobs/j-1") => (200, job(1.25).to_string()),
        _ => problem(404, "no such thing"),
    }
}

fn run(agent: &FakeAgent, more: &[&str]) -> (Output, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let mut arguments = vec![
        "run",
        "--measure",
        "agent",
        "--json",
        json.to_str().unwrap(),
    ];
    arguments.extend(more);
    let output = output(eco(&arguments).env("ECO_SOCKET", agent.socket()));
    let text = fs::read_to_string(&json).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    (output, serde_json::from_str(&text).unwrap())
}

fn asked(agent: &FakeAgent) -> Vec<String> {
    agent
        .seen()
        .iter()
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect()
}

#[test]
fn the_agents_account_is_the_result() {
    let agent = FakeAgent::start(follows);
    let (output, json) = run(&agent, &["--name", "train", "--", "sh", "-c", "exit 4"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(asked(&agent), ["POST /v1/jobs", "DELETE /v1/jobs/j-1"]);
    assert_eq!(
        (&json["name"], &json["measured_by"]),
        (&"train".into(), &"agent".into())
    );
    assert_eq!(
        (&json["cpu_seconds"], &json["processes"]),
        (&1.25.into(), &7.into())
    );
    assert_eq!(
        (&json["tier"], &json["estimated"]),
        (&"iter".into(), &false.into())
    );
    let energy = &json["energy_joules"];
    assert_eq!(
        (&energy["total"], &energy["idle_share"]),
        (&6.5.into(), &2.25.into())
    );
    assert_eq!(
        json["self"],
        json!({"cpu_seconds": 0.01, "energy_joules": 0.02})
    );
    assert_eq!(json["meters"][0]["source"], "rapl-powercap");
    assert!(
        stderr(&output).contains("energy      6.50 J       measured"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_the_agent_counted_in_grams_is_passed_on_with_its_provenance() {
    let agent = FakeAgent::start(|seen| match seen.method.as_str() {
        "POST" => (201, job(0.0).to_string()),
        _ => {
            let mut closed = job(1.25);
            closed["carbon_grams"] = json!({"package": 0.5, "core": 0.3, "dram": 0.15});
            closed["carbon"] = json!({"pue": 1.4, "intensity": {
                "zone": "DE", "g_per_kwh": 360.0, "kind": "marginal", "source": "x\u{1b}[2Jy",
                "estimated": true
            }});
            closed["carbon_is_partial"] = json!(true);
            (200, closed.to_string())
        }
    });
    let (output, json) = run(&agent, &["--", "true"]);
    assert_eq!(
        (&json["carbon_grams"], &json["pue"]),
        (&0.65.into(), &1.4.into())
    );
    assert_eq!(json["intensity"]["kind"], "marginal");
    let said = stderr(&output);
    assert!(said.contains("650 mg"), "{said}");
    assert!(
        said.contains("zone DE, marginal, x\u{fffd}[2Jy, estimated, PUE 1.4"),
        "{said}"
    );
    assert!(
        said.contains("for a part of the run no intensity was known"),
        "{said}"
    );
}

#[test]
fn an_intensity_is_pushed_as_it_was_given() {
    let agent = FakeAgent::start(|_| (200, json!({"intensity": null, "pue": 1.0}).to_string()));
    let set = [
        "intensity",
        "set",
        "360",
        "--zone",
        "DE",
        "--kind",
        "marginal",
        "--valid-for",
        "1h",
    ];
    let done = output(eco(&set).env("ECO_SOCKET", agent.socket()));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(asked(&agent), ["PUT /v1/intensity"]);
    let body: Value = serde_json::from_str(&agent.seen()[0].body).unwrap();
    assert_eq!(
        (&body["g_per_kwh"], &body["kind"]),
        (&360.0.into(), &"marginal".into())
    );
    assert!(
        body["valid_until"].as_str().unwrap().ends_with('Z'),
        "{body}"
    );
    let set = ["intensity", "set", "-360", "--zone", "DE"];
    let refused = output(eco(&set).env("ECO_SOCKET", agent.socket()));
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("from 0 to 3000"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(agent.seen().len(), 1, "nobody was asked");
}

#[test]
fn the_table_says_of_each_zone_where_its_number_comes_from() {
    let zones = output(&mut eco(&["intensity", "zones"]));
    assert_eq!(zones.status.code(), Some(0));
    let text = stdout(&zones);
    let germany = text.lines().find(|line| line.starts_with("DE ")).unwrap();
    assert!(germany.contains("2023") && germany.contains("Ember") && germany.contains("CC BY 4.0"));
}

#[test]
fn the_job_is_open_before_the_command_runs_and_closed_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let path = marker.clone();
    let agent = FakeAgent::start(move |seen| match (seen.method.as_str(), path.exists()) {
        ("POST", false) | ("DELETE", true) => follows(seen),
        _ => problem(500, "in the wrong order"),
    });
    let (output, json) = run(&agent, &["--", "touch", marker.to_str().unwrap()]);
    assert_eq!(
        (output.status.code(), &json["measured_by"]),
        (Some(0), &"agent".into())
    );
}

#[test]
fn the_command_starts_in_the_cgroup_that_the_agent_was_told_and_it_is_gone_afterwards() {
    let agent = FakeAgent::start(follows);
    let directory = tempfile::tempdir().unwrap();
    let seen_inside = directory.path().join("cgroup");
    let script = format!("cat /proc/self/cgroup >{}", seen_inside.display());
    run(&agent, &["--", "sh", "-c", &script]);
    let request: Value = serde_json::from_str(&agent.seen()[0].body).unwrap();
    let Some(path) = request["cgroup"].as_str() else {
        println!("skipped: this user may make no cgroup here");
        assert_eq!(
            request["exclude_root"], true,
            "then the job is known by descent"
        );
        return;
    };
    let inside = fs::read_to_string(seen_inside).unwrap();
    assert!(
        inside.lines().any(|line| line == format!("0::{path}")),
        "{path}: {inside}"
    );
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        assert!(!fs::exists(format!("{mount}{path}")).unwrap());
    }
}

#[test]
fn an_agent_that_wants_no_cgroup_is_asked_by_descent() {
    let agent = FakeAgent::start(|seen| {
        if seen.body.contains("\"cgroup\":\"") {
            problem(400, "no such cgroup here")
        } else {
            follows(seen)
        }
    });
    let (_, json) = run(&agent, &["--", "true"]);
    assert_eq!(json["measured_by"], "agent");
    let posted = agent
        .seen()
        .into_iter()
        .rfind(|seen| seen.method == "POST")
        .unwrap();
    let request: Value = serde_json::from_str(&posted.body).unwrap();
    assert_eq!(
        (&request["exclude_root"], &request["pid"]),
        (&true.into(), &Value::Null)
    );
}

#[test]
fn an_agent_that_loses_the_job_does_not_lose_the_run() {
    for answer in [
        problem(404, "no job j-1: the agent was restarted"),
        (200, "<html>hello</html>".to_owned()),
        (200, "{\"id\": \"j-1\"".to_owned()),
        (500, String::new()),
    ] {
        let agent = FakeAgent::start(move |seen| match seen.method.as_str() {
            "POST" => follows(seen),
            _ => answer.clone(),
        });
        let (output, json) = run(&agent, &["--", "sh", "-c", "exit 6"]);
        assert_eq!(output.status.code(), Some(6));
        assert_eq!(
            (&json["tier"], &json["measured_by"]),
            (&"rusage".into(), &"plain-user".into())
        );
        assert!(json["cpu_seconds"].as_f64().unwrap() > 0.0);
        let note = json["notes"][0].as_str().unwrap();
        assert!(note.contains("this is what eco itself saw"), "{note}");
    }
}

#[test]
fn an_agent_that_missed_cpu_time_is_corrected() {
    let agent = FakeAgent::start(|seen| match seen.method.as_str() {
        "POST" => follows(seen),
        _ => (200, job(0.0).to_string()),
    });
    let work = common::workload().display().to_string();
    let (_, json) = run(&agent, &["--", &work, "burn", "200"]);
    assert!(
        json["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("the agent saw 0.000 s"),
        "{json}"
    );
    assert!(json["cpu_seconds"].as_f64().unwrap() >= 0.2);
    assert_eq!(json["estimated"], true);
}

#[test]
fn an_agent_that_must_be_there_and_is_not_is_an_error() {
    let output = output(&mut eco(&["run", "--measure", "agent", "--", "true"]));
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("no agent listens on /nonexistent/eco.sock; start one"));
}

#[test]
fn top_prints_one_table_or_the_object_itself() {
    let units = json!({
        "at": "2026-01-02T03:04:05Z", "window_seconds": 1.0,
        "node": {
            "name": "n1", "cpus": 2, "cpu_percent": 50.0, "watts": {"package": 6.25},
            "idle_watts": {}, "energy_joules": {}, "idle_joules": {}, "unattributed_joules": {},
            "estimated": true, "processes": 3
        },
        "units": [{
            "kind": "container", "name": "abc", "label": "web", "tasks": 4, "cpu_percent": 40.0,
            "watts": 2.0, "cpu_seconds": 9.0, "energy_joules": {"package": 12.0}
        }]
    });
    let text = units.to_string();
    let agent = FakeAgent::start(move |_| (200, text.clone()));
    let top = |more: &[&str]| {
        let mut arguments = vec!["top", "--once", "--kind", "container", "--top", "5"];
        arguments.extend(more);
        output(eco(&arguments).env("ECO_SOCKET", agent.socket()))
    };
    let table = top(&[]);
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    assert!(
        stdout(&table).contains("package  6.25 W estimated\n"),
        "{}",
        stdout(&table)
    );
    assert!(stdout(&table).contains("       4 -              40.0      2.00      12.00  web\n"));
    assert_eq!(
        serde_json::from_str::<Value>(&stdout(&top(&["--json"]))).unwrap(),
        units
    );
    assert_eq!(
        asked(&agent)[0],
        "GET /v1/units?kind=container&top=5&window=1000ms"
    );
}

#[test]
fn status_shows_the_agents_own_or_without_one_what_the_machine_has() {
    let agent = FakeAgent::start(|_| {
        let status = json!({
            "version": "0.1.0", "pid": 9, "node": "n1", "kernel": "6.18", "cpus": 2,
            "uptime_seconds": 5.0, "interval_seconds": 1.0, "ticks": 5, "tier": "iter",
            "tier_reason": "", "meters": [], "identity": ["procfs"], "processes": 3, "tasks": 4,
            "discrepancies": {"late": 2}, "self_cost": {
                "cpu_seconds": 0.0, "cpu_percent": 0.0, "resident_bytes": 0,
                "energy_joules": 0.0, "bpf_map_bytes": 0
            }, "latencies": {}, "capabilities": [], "state": {"directory": ""}, "advice": []
        });
        (200, status.to_string())
    });
    let with = output(eco(&["status"]).env("ECO_SOCKET", agent.socket()));
    assert_eq!(with.status.code(), Some(0), "{}", stderr(&with));
    assert!(
        stdout(&with).contains("ledgers        late 2"),
        "{}",
        stdout(&with)
    );
    let without = output(&mut eco(&["status", "--json"]));
    assert_eq!(without.status.code(), Some(3));
    let answer: Value = serde_json::from_str(&stdout(&without)).unwrap();
    assert!(answer["agent"].is_null() && answer["machine"]["btf"].is_boolean());
    assert!(
        stderr(&without).contains("sudo eco-agent"),
        "{}",
        stderr(&without)
    );
}

#[test]
fn whatever_a_socket_answers_the_message_is_clear_and_the_status_3() {
    for (answer, words) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
            "a web page",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"at\": 12",
            "bad JSON",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "bad JSON (missing field",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"at\":",
            "broke off",
        ),
        (
            "HTTP/1.1 500 X\r\ncontent-length: 4\r\n\r\noops",
            "HTTP 500",
        ),
        ("SSH-2.0-OpenSSH_9.6\r\n", "something other than HTTP"),
        ("", "broke off"),
    ] {
        let agent = FakeAgent::raw(move |_| answer.to_owned());
        for command in [&["top", "--once"][..], &["status"]] {
            let output = output(eco(command).env("ECO_SOCKET", agent.socket()));
            assert_eq!(output.status.code(), Some(3), "{answer:?}");
            let said = stderr(&output);
            assert!(
                said.contains(words) && said.contains(&agent.socket()),
                "{answer:?}: {said}"
            );
        }
    }
}

#[test]
fn a_refusal_is_passed_on_in_the_agents_own_words() {
    let agent = FakeAgent::start(|_| problem(403, "this user may not \u{1b}[2Jsee units"));
    let output = output(eco(&["top", "--once"]).env("ECO_SOCKET", agent.socket()));
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(
        said.contains("this user may not \u{fffd}[2Jsee units (HTTP 403)"),
        "{said}"
    );
}

#[test]
fn following_ends_when_the_agent_goes() {
    let left = AtomicUsize::new(2);
    let units = r#"{"at":"","window_seconds":1.0,"node":{"name":"","cpus":1,"cpu_percent":0.0,"watts":{},"idle_watts":{},"energy_joules":{},"idle_joules":{},"unattributed_joules":{},"estimated":false,"processes":0},"units":[]}"#;
    let agent = FakeAgent::start(move |_| {
        let served = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if served.is_ok() {
            (200, units.to_owned())
        } else {
            problem(503, "stopping")
        }
    });
    let output =
        output(eco(&["top", "--json", "--interval", "0.1"]).env("ECO_SOCKET", agent.socket()));
    assert_eq!(
        (output.status.code(), stdout(&output).lines().count()),
        (Some(3), 2)
    );
    assert!(stderr(&output).contains("stopping"));
}

#[test]
fn the_live_view_needs_a_terminal() {
    let output = output(&mut eco(&["top"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--once"));
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["top", "--help"],
        &["status", "--help"],
        &["intensity", "--help"],
    ] {
        let help = output(&mut eco(command));
        assert_eq!(help.status.code(), Some(0));
        assert!(stdout(&help).contains("Example"), "{command:?}");
    }
}
