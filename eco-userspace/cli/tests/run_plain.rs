// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco run` as a plain user, against what the kernel itself says of the same work.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use common::{eco, output, stderr, stdout, until, workload};
use serde_json::Value;

/// Runs a command under `eco run` and gives its output and the JSON.
fn run(arguments: &[&str]) -> (Output, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let mut all = vec![
        "run",
        "--measure",
        "plain",
        "--json",
        json.to_str().unwrap(),
        "--",
    ];
    all.extend(arguments);
    let output = output(&mut eco(&all));
    let text = fs::read_to_string(&json).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    (output, serde_json::from_str(&text).unwrap())
}

fn shell(script: &str) -> (Output, Value) {
    run(&["sh", "-c", script])
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Starting and ending a process costs this much that the process cannot report itself.
const START_AND_END: f64 = 0.02;

/// `cpu_seconds` is what the work itself reported in µs, and what its start and end cost.
fn assert_cpu(json: &Value, reported: &str) {
    let truth = reported.trim().parse::<f64>().expect(reported) / 1e6;
    let measured = json["cpu_seconds"].as_f64().unwrap();
    assert!(
        measured >= truth * 0.999 && measured <= truth * 1.005 + START_AND_END,
        "measured {measured} s, the kernel says {truth} s"
    );
}

#[test]
fn the_exit_status_is_the_commands() {
    for wanted in [0, 1, 3, 255] {
        let (output, json) = shell(&format!("exit {wanted}"));
        assert_eq!(status(&output), wanted);
        assert_eq!(json["exit_status"], wanted);
    }
}

#[test]
fn death_by_a_signal_is_128_and_the_signal() {
    let (output, json) = shell("kill -KILL $$");
    assert_eq!(
        (status(&output), &json["exit_status"]),
        (137, &Value::from(137))
    );
}

#[test]
fn a_command_that_does_not_exist_is_127_and_explained() {
    let (output, json) = run(&["no-such-command-anywhere"]);
    assert_eq!(status(&output), 127);
    assert_eq!(json["exit_status"], 127);
    assert!(
        stderr(&output).contains("command not found in PATH"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_cannot_be_executed_is_126_and_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plain.txt");
    fs::write(&file, "text").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for path in [file.as_path(), Path::new("/")] {
        let (output, json) = run(&[path.to_str().unwrap()]);
        assert_eq!(
            (status(&output), &json["exit_status"]),
            (126, &Value::from(126))
        );
        assert!(
            stderr(&output).contains("not executable"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_script_without_its_interpreter_is_told_apart_from_a_missing_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("script");
    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, _) = run(&[file.to_str().unwrap()]);
    assert_eq!(status(&output), 127);
    assert!(
        stderr(&output).contains("interpreter"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_streams_are_the_commands_own() {
    let mut child = eco(&[
        "run",
        "--measure",
        "plain",
        "--",
        "sh",
        "-c",
        "cat; echo err >&2",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        stdout(&output),
        "through\n",
        "nothing of eco's own on stdout"
    );
    assert!(
        stderr(&output).starts_with("err\neco: sh: done\n"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_json_has_the_promised_shape() {
    let (_, json) = run(&["true"]);
    assert_eq!(json["schema"], "eco.run/1");
    assert_eq!(json["name"], "true");
    assert_eq!(json["command"], serde_json::json!(["true"]));
    assert_eq!(json["tier"], "rusage");
    for key in ["wall_seconds", "cpu_seconds"] {
        assert!(json[key].as_f64().unwrap() >= 0.0, "{key}");
    }
    assert!(json["processes"].as_u64().unwrap() >= 1);
    for key in ["total", "package", "dram", "gpu", "idle_share"] {
        assert!(json["energy_joules"][key].as_f64().unwrap() >= 0.0, "{key}");
    }
    for key in ["carbon_grams", "intensity"] {
        assert!(json.get(key).unwrap().is_null(), "{key}");
    }
    assert!(json["estimated"].is_boolean());
    for key in ["name", "source"] {
        assert!(json["meters"][0][key].is_string(), "{key}");
    }
    for key in ["cpu_seconds", "energy_joules"] {
        assert!(json["self"][key].as_f64().unwrap() >= 0.0, "{key}");
    }
    let moment = |key: &str| {
        json[key]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    assert!(moment("started") <= moment("ended"));
}

#[test]
fn a_busy_loop_is_measured_as_the_kernel_says() {
    let (output, json) = run(&[workload().to_str().unwrap(), "burn", "1000"]);
    assert_cpu(&json, &stdout(&output));
    assert!(json["energy_joules"]["total"].as_f64().unwrap() > 0.0);
}

#[test]
fn eight_threads_are_measured_as_the_kernel_says() {
    let (output, json) = run(&[workload().to_str().unwrap(), "threads", "8", "150"]);
    assert_cpu(&json, &stdout(&output));
}

#[test]
fn children_too_short_to_be_sampled_are_measured_as_the_kernel_says() {
    let (output, json) = run(&[workload().to_str().unwrap(), "children", "300", "2000"]);
    assert_cpu(&json, &stdout(&output));
}

#[test]
fn every_part_of_a_pipeline_is_measured() {
    let work = workload().display().to_string();
    let (output, json) = shell(&format!("{work} burn 300 | {{ {work} burn 300; cat; }}"));
    let reported: u64 = stdout(&output)
        .lines()
        .map(|line| line.parse::<u64>().unwrap())
        .sum();
    assert_cpu(&json, &reported.to_string());
    assert!(reported >= 600_000);
}

#[test]
fn a_daemon_that_outlives_its_parents_is_waited_for_and_measured() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    let (_, json) = run(&[
        workload().to_str().unwrap(),
        "daemon",
        "500",
        report.to_str().unwrap(),
    ]);
    assert_cpu(&json, &fs::read_to_string(&report).unwrap());
    assert_eq!(json["left_running"], 0);
}

#[test]
fn without_waiting_the_daemon_is_left_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let output = output(&mut eco(&[
        "run",
        "--measure",
        "plain",
        "--no-wait",
        "--json",
        "-",
        "--",
        "sh",
        "-c",
        &format!(
            "sleep 600 >/dev/null 2>&1 & echo $! >{}",
            pid_file.display()
        ),
    ]));
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let left: i32 = fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // SAFETY: a signal to the process that this test has started.
    unsafe { libc::kill(left, libc::SIGKILL) };
    assert_eq!(json["left_running"], 1);
    assert!(
        stderr(&output).contains("1 still running"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_signal_to_eco_goes_on_to_the_command_once() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("signals");
    let mut command = eco(&["run", "--measure", "plain", "--"]);
    command
        .arg(workload())
        .arg("signals")
        .arg(&report)
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let eco_pid = child.id() as i32;
    let mut expected = String::new();
    for signal in [
        libc::SIGUSR1,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGUSR2,
        libc::SIGTERM,
    ] {
        until("the command is ready", || {
            fs::read_to_string(&report).is_ok_and(|text| text == format!("{expected}ready\n"))
        });
        // SAFETY: a signal to the process that this test has started.
        unsafe { libc::kill(eco_pid, signal) };
        expected = format!("{expected}{signal}\n");
    }
    assert_eq!(
        child.wait().unwrap().code(),
        Some(42),
        "eco outlives them all"
    );
    assert_eq!(fs::read_to_string(&report).unwrap(), expected);
}

#[test]
fn a_signal_ends_the_waiting_but_not_what_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let script = format!("sleep 600 & echo $! >{}", pid_file.display());
    let mut child = eco(&["run", "--measure", "plain", "--", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(
        line.contains("waiting for 1 process that it left behind (sleep)"),
        "{line}"
    );
    let left: i32 = fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // SAFETY: signals to processes that this test has started.
    unsafe {
        libc::kill(child.id() as i32, libc::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(
            libc::kill(left, libc::SIGKILL),
            0,
            "the leftover still lived"
        );
    }
}

#[test]
fn an_interrupt_before_there_is_a_command_keeps_it_from_running() {
    let mut command = eco(&["run", "--measure", "plain", "--", "echo", "ran"]);
    // SAFETY: async-signal-safe. The signal stays pending through exec.
    unsafe {
        command.pre_exec(|| {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::raise(libc::SIGINT);
            Ok(())
        });
    }
    let output = output(&mut command);
    assert_eq!((status(&output), stdout(&output).as_str()), (130, ""));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let mut command = eco(&[
        "run",
        "--measure",
        "plain",
        "--",
        "sh",
        "-c",
        "kill -HUP $$; echo on",
    ]);
    // SAFETY: async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let output = output(&mut command);
    assert_eq!((status(&output), stdout(&output).as_str()), (0, "on\n"));
}

#[test]
fn exits_are_seen_even_where_sigchld_was_ignored() {
    let mut command = eco(&["run", "--measure", "plain", "--", "sh", "-c", "exit 5"]);
    // SAFETY: async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    assert_eq!(status(&output(&mut command)), 5);
}

#[test]
fn children_that_eco_was_born_with_are_none_of_the_jobs() {
    let script = format!(
        "sleep 600 >/dev/null 2>&1 & echo $!; exec {} run --measure plain --json - -- true",
        env!("CARGO_BIN_EXE_eco")
    );
    let output = output(
        Command::new("sh")
            .args(["-c", &script])
            .env("NO_COLOR", "1")
            .env_remove("HOME")
            .env_remove("XDG_STATE_HOME"),
    );
    let text = stdout(&output);
    let (pid, json) = text.split_once('\n').unwrap();
    // SAFETY: a signal to the process that this test has started.
    unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (&json["processes"], &json["left_running"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let json = directory.path().join("no/such/run.json");
    let output = output(&mut eco(&[
        "run",
        "--measure",
        "plain",
        "--json",
        json.to_str().unwrap(),
        "--",
        "touch",
        marker.to_str().unwrap(),
    ]));
    assert_eq!(status(&output), 3);
    assert!(
        stderr(&output).contains("nothing was run"),
        "{}",
        stderr(&output)
    );
    assert!(!marker.exists());
}

#[test]
fn a_full_disk_loses_neither_the_result_nor_the_failure() {
    let run = |script: &str| {
        output(&mut eco(&[
            "run",
            "--measure",
            "plain",
            "--json",
            "/dev/full",
            "--",
            "sh",
            "-c",
            script,
        ]))
    };
    let fine = run("exit 0");
    assert_eq!(status(&fine), 3);
    assert!(
        stderr(&fine).contains("\"schema\": \"eco.run/1\""),
        "{}",
        stderr(&fine)
    );
    assert_eq!(
        status(&run("exit 7")),
        7,
        "the command's own failure comes first"
    );
}

#[test]
fn quiet_says_nothing() {
    let output = output(&mut eco(&["run", "-q", "--measure", "plain", "--", "true"]));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_command_is_needed() {
    assert_eq!(status(&output(&mut eco(&["run"]))), 2);
    assert_eq!(
        status(&output(&mut eco(&["run", "--no-such-flag", "--", "true"]))),
        2
    );
}
