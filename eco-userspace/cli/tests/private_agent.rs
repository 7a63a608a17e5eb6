// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent that `eco run` starts for itself: found, used, and never left behind.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail the test, or say why they skip it"
)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{example, json, output, stderr, until, workload};

/// A folder with `eco` and a stand-in for `eco-agent` beside it.
struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    /// `None`, with a word about why, where this user could not start a private agent anyway.
    fn new() -> Option<Self> {
        // SAFETY: no memory is passed.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: a private agent needs root");
            return None;
        }
        // Links, so that each program finds the other beside itself.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let eco = Path::new(env!("CARGO_BIN_EXE_eco"));
        fs::hard_link(eco, folder.path().join("eco")).unwrap();
        fs::hard_link(example("stub_agent"), folder.path().join("eco-agent")).unwrap();
        Some(Self { folder })
    }

    fn run(&self, stub: &str, command: &[&str]) -> Command {
        let mut run = Command::new(self.folder.path().join("eco"));
        run.args(["run", "--json", "-", "--"])
            .args(command)
            .env("ECO_SOCKET", "/nonexistent/eco.sock")
            .env("STUB", stub)
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("STUB_SAYS", self.says())
            .env("TMPDIR", self.folder.path());
        common::hear_signals(&mut run);
        run
    }

    fn says(&self) -> PathBuf {
        self.folder.path().join("says")
    }

    /// The stand-in's process id and socket, once it has told them.
    fn agent(&self) -> (i32, PathBuf) {
        let said = fs::read_to_string(self.says()).unwrap();
        let (pid, socket) = said.split_once(' ').expect("a process id and a path");
        (pid.parse().unwrap(), PathBuf::from(socket))
    }
}

fn lives(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn a_private_agent_measures_and_leaves_nothing() {
    let Some(installed) = Installed::new() else {
        return;
    };
    let output = output(&mut installed.run("", &["true"]));
    let json = json(&output);
    assert_eq!(json["measured_by"], "private-agent");
    assert_eq!(
        (&json["cpu_seconds"], &json["processes"]),
        (&7.5.into(), &1.into())
    );
    let (pid, socket) = installed.agent();
    assert!(!lives(pid));
    assert!(!socket.parent().unwrap().exists());
}

#[test]
fn leftovers_are_waited_for_beside_a_private_agent() {
    let Some(installed) = Installed::new() else {
        return;
    };
    let report = installed.folder.path().join("report");
    let work = workload().display().to_string();
    let run = &[
        "sh",
        "-c",
        &format!("{work} daemon 200 {}", report.display()),
    ];
    let output = output(&mut installed.run("", run));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(report.exists(), "the daemon had the time to finish");
}

#[test]
fn an_agent_that_cannot_start_is_told_with_its_own_words_and_the_run_goes_on() {
    let Some(installed) = Installed::new() else {
        return;
    };
    let output = output(&mut installed.run("dies", &["sh", "-c", "exit 5"]));
    assert_eq!(output.status.code(), Some(5));
    let json = json(&output);
    assert_eq!(json["tier"], "rusage");
    let note = json["notes"][0].as_str().unwrap();
    assert!(note.contains("stub: no kernel types here"), "{note}");
}

#[test]
fn an_agent_that_leaves_midway_does_not_lose_the_run() {
    let Some(installed) = Installed::new() else {
        return;
    };
    let says = installed.says().display().to_string();
    let wait = format!("while kill -0 $(cut -d' ' -f1 {says}) 2>/dev/null; do sleep 0.01; done");
    let output = output(&mut installed.run("leaves", &["sh", "-c", &wait]));
    assert_eq!(output.status.code(), Some(0));
    let json = json(&output);
    assert_eq!(json["measured_by"], "plain-user");
    assert_eq!(
        json["processes"].as_u64(),
        Some(1),
        "the agent is not one of the job's"
    );
    assert!(
        json["notes"][0]
            .as_str()
            .unwrap()
            .contains("ended before the job"),
        "{json}"
    );
}

#[test]
fn a_private_agent_does_not_outlive_an_eco_that_was_killed() {
    let Some(installed) = Installed::new() else {
        return;
    };
    let marker = installed.folder.path().join("runs");
    let script = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600",
        marker.display()
    );
    let mut eco = installed.run("", &["sh", "-c", &script]).spawn().unwrap();
    until("the command runs", || marker.exists());
    let (pid, _) = installed.agent();
    assert!(lives(pid));
    eco.kill().unwrap();
    eco.wait().unwrap();
    until("the agent ends", || !lives(pid));
    let command: i32 = fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
    // SAFETY: a signal to the process that this test has started.
    unsafe { libc::kill(command, libc::SIGKILL) };
}
