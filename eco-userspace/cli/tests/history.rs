// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `eco run` keeps of a run, and how `eco history` tells of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use common::{json, output, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A user with a home, in a repository.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let heads = home.path().join("work/.git/refs/heads");
        fs::create_dir_all(&heads).unwrap();
        fs::write(heads.join("main"), COMMIT).unwrap();
        fs::write(home.path().join("work/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
        Self { home }
    }

    fn eco(&self, arguments: &[&str]) -> Command {
        let mut command = common::eco(arguments);
        command
            .env("HOME", self.home.path())
            .current_dir(self.home.path().join("work"));
        command
    }

    /// A run that ends well, with these options.
    fn run(&self, options: &[&str], script: &str) -> String {
        let mut arguments = vec!["run", "--measure", "plain", "--quiet"];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        let output = output(&mut self.eco(&arguments));
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }

    fn runs(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["history", "--format", "json"];
        all.extend(arguments);
        let document = json(&output(&mut self.eco(&all)));
        assert_eq!(document["schema"], "eco.history/1");
        document["runs"].as_array().unwrap().clone()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let mut all = vec!["history"];
        all.extend(arguments);
        let output = output(&mut self.eco(&all));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(".local/state/eco/carbon_history.db")
    }
}

#[test]
fn a_run_is_kept_with_its_settings_results_commit_and_machine() {
    let user = User::new();
    assert!(user.text(&[]).starts_with("No runs yet"));
    assert!(user.runs(&[]).is_empty());
    let options = [
        "--name",
        "train",
        "--param",
        "lr=0.1",
        "--metrics",
        "m.json",
        "--region",
        "DE",
    ];
    let script = r#"i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
        echo '{"f1": 0.5, "eval": {"loss": 2}}' > m.json"#;
    assert_eq!(user.run(&options, script), "");
    let runs = user.runs(&[]);
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!(run["name"], "train");
    assert_eq!(run["command"][2], script);
    assert_eq!(
        (&run["exit_status"], &run["origin"]),
        (&0.into(), &"eco".into())
    );
    assert_eq!(run["parameters"], serde_json::json!([["lr", "0.1"]]));
    assert_eq!(
        run["metrics"],
        serde_json::json!([["eval.loss", 2.0], ["f1", 0.5]])
    );
    assert_eq!(run["revision"]["commit"], COMMIT);
    assert_eq!(run["revision"]["branch"], "main");
    assert!(run["hardware"]["cpus"].as_u64().unwrap() > 0, "{run}");
    assert!(run["cpu_ns"].as_u64().unwrap() > 0, "{run}");
    let (energy, carbon) = (run["energy_uj"].as_u64(), run["carbon_ng"].as_u64());
    assert_eq!(energy.is_some(), carbon.is_some(), "{run}");
    assert_eq!(run["priced"]["intensity"]["zone"], "DE");
    // Nobody else may know what was run.
    let mode = fs::metadata(user.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn runs_are_listed_the_latest_first_shown_and_compared() {
    let user = User::new();
    for (name, rate) in [("one", "lr=1"), ("other", "lr=2")] {
        user.run(&["--name", name, "--param", rate], "exit 0");
    }
    let names = |arguments: &[&str]| -> Vec<Value> {
        let runs = user.runs(arguments);
        runs.iter().map(|run| run["name"].clone()).collect()
    };
    assert_eq!(names(&[]), ["other", "one"]);
    assert_eq!(names(&["--most", "1"]), ["other"]);
    assert_eq!(names(&["--name", "one"]), ["one"]);
    assert_eq!(names(&["--since", "1h"]), ["other", "one"]);
    assert!(names(&["--until", "1h"]).is_empty());
    let list = user.text(&[]);
    assert!(
        list.lines().count() >= 3 && list.contains("other"),
        "{list}"
    );
    let shown = user.text(&["show", "1"]);
    assert!(
        shown.contains("lr = 1") && shown.contains(COMMIT),
        "{shown}"
    );
    let compared = user.text(&["compare", "1", "2"]);
    assert!(compared.contains("1  →  2"), "{compared}");
    let none = output(&mut user.eco(&["history", "show", "99"]));
    assert_eq!(none.status.code(), Some(3));
    assert!(stderr(&none).contains("no run 99"), "{}", stderr(&none));
}

#[test]
fn a_run_is_left_out_if_asked_for_and_needs_no_home() {
    let user = User::new();
    user.run(&["--no-history"], "exit 0");
    assert!(!user.file().exists());
    let mut homeless = common::eco(&["run", "--measure", "plain", "--quiet", "--", "true"]);
    let output = output(&mut homeless);
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_history_that_cannot_be_written_is_told_and_changes_nothing_for_the_command() {
    let user = User::new();
    fs::create_dir_all(user.file().parent().unwrap()).unwrap();
    fs::write(user.file(), [0x5a; 9000]).unwrap();
    let said = user.run(&[], "exit 0");
    assert!(
        said.contains("not in the history") && said.contains("damaged"),
        "{said}"
    );
    assert_eq!(fs::read(user.file()).unwrap(), [0x5a; 9000]);
    let read = output(&mut user.eco(&["history"]));
    assert_eq!(read.status.code(), Some(3));
    fs::remove_file(user.file()).unwrap();
    let said = user.run(&["--metrics", "none.json"], "exit 0");
    assert!(said.contains("none.json"), "{said}");
    assert_eq!(user.runs(&[]).len(), 1);
}

#[test]
fn what_is_no_time_or_no_setting_is_refused_with_an_example() {
    let user = User::new();
    for arguments in [
        ["history", "--since", "yesterday-ish"].as_slice(),
        &["history", "--history", "/nonexistent/file.db"],
        &["run", "--param", "lr", "--", "true"],
        &["run", "--param", "a=b", "--no-history", "--", "true"],
    ] {
        let output = output(&mut user.eco(arguments));
        let code = output.status.code();
        assert!(matches!(code, Some(2 | 3)), "{arguments:?}: {code:?}");
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn runs_that_end_at_once_are_all_kept() {
    let user = User::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| user.run(&[], "exit 0"));
        }
    });
    assert_eq!(user.runs(&["--most", "0"]).len(), 8);
}
