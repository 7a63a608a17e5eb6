// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco calibrate` on a machine made of files, whose counters follow a known truth.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod common;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{eco, json, output, stderr, stdout};
use tempfile::TempDir;

const IDLE_WATTS: f64 = 20.0;
const CPU_WATTS: f64 = 8.0;

/// A `/proc` and a `/sys` in one folder. The only work on this machine is that of one process:
/// what else runs on the machine of the tests does not disturb them.
struct Lab {
    root: TempDir,
    watts: fn(busy_cpus: f64) -> f64,
}

impl Lab {
    fn new(watts: fn(f64) -> f64) -> Self {
        let lab = Self {
            root: tempfile::tempdir().unwrap(),
            watts,
        };
        lab.put(
            "cpuinfo",
            "processor : 0\nvendor_id : Lab\nmodel name : Lab CPU\n",
        );
        lab.put("stat", "cpu  0 0 0 0 0 0 0 0\n");
        lab.put("devices/system/cpu/online", "0-1\n");
        lab
    }

    fn with_rapl(self) -> Self {
        let zone = "class/powercap/intel-rapl:0";
        self.put(&format!("{zone}/name"), "package-0\n");
        self.put(&format!("{zone}/max_energy_range_uj"), "262143328850\n");
        self.put(&format!("{zone}/energy_uj"), "1000\n");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Whole or not at all: the command reads while this writes.
    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = self.path("new");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, path).unwrap();
    }

    /// Runs the command while its own CPU time drives the counters.
    fn calibrate(&self, arguments: &[&str]) -> Output {
        let root = self.root.path().to_str().unwrap();
        let profile = self.path("model.toml");
        let mut all = vec![
            "calibrate",
            "--sysfs",
            root,
            "--procfs",
            root,
            "--seconds",
            "2",
        ];
        if !arguments.contains(&"--output") {
            all.extend(["--output", profile.to_str().unwrap()]);
        }
        all.extend(arguments);
        let mut command = eco(&all);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.drive(&mut child);
        child.wait_with_output().unwrap()
    }

    fn drive(&self, child: &mut Child) {
        let mut wall = fs::OpenOptions::new()
            .append(true)
            .open(self.path("wall.csv"))
            .ok();
        let (mut joules, mut then, mut ticks_then) = (0.0, Instant::now(), 0);
        while child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(20));
            let ticks = ticks_of(child.id()).unwrap_or(ticks_then);
            let (now, busy) = (Instant::now(), (ticks - ticks_then) as f64 / 100.0);
            let seconds = (now - then).as_secs_f64();
            let watts = (self.watts)(busy / seconds);
            joules += watts * seconds;
            (then, ticks_then) = (now, ticks);
            self.put("stat", &format!("cpu  {ticks} 0 0 0 0 0 0 0\n"));
            if self.path("class/powercap").exists() {
                let micro = (joules * 1e6) as u64 + 1_000;
                self.put(
                    "class/powercap/intel-rapl:0/energy_uj",
                    &format!("{micro}\n"),
                );
            }
            if let Some(file) = &mut wall {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                // A row says what is drawn until the next one.
                let start = since.as_secs_f64() - seconds;
                writeln!(file, "{start:.4},{watts:.4}").unwrap();
            }
        }
    }
}

/// User and system time of a process, in ticks of 10 ms.
fn ticks_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn linear(busy_cpus: f64) -> f64 {
    IDLE_WATTS + CPU_WATTS * busy_cpus
}

fn assert_truth(output: &Output) {
    let report = json(output);
    let found = |key: &str| report["profile"]["coefficients"][key].as_f64().unwrap();
    let idle = found("idle_watts");
    let cpu = found("busy_cpu_watts") + found("active_core_watts");
    assert!((idle / IDLE_WATTS - 1.0).abs() < 0.05, "{report:#}");
    assert!((cpu / CPU_WATTS - 1.0).abs() < 0.1, "{report:#}");
    let worst = report["profile"]["error"]["worst_percent"]
        .as_f64()
        .unwrap();
    assert!(worst < 10.0, "{report:#}");
}

#[test]
fn what_rapl_shows_becomes_the_profile_of_this_machine() {
    let lab = Lab::new(linear).with_rapl();
    let output = lab.calibrate(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_truth(&output);
    let machine = eco_meter::profile::Machine::detect(lab.root.path(), lab.root.path());
    let profile = eco_meter::profile::Profile::read(&lab.path("model.toml"), &machine).unwrap();
    assert_eq!(profile.source, "rapl-powercap: package-0");
    assert_eq!(machine.cpus, 2);
}

#[test]
fn what_a_wall_meter_wrote_meanwhile_becomes_the_profile_and_odd_rows_are_told() {
    let lab = Lab::new(linear);
    fs::write(lab.path("wall.csv"), "time,watts\nyesterday,5\n").unwrap();
    let wall = lab.path("wall.csv");
    let output = lab.calibrate(&["--json", "--wall", wall.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_truth(&output);
    let notes = json(&output)["notes"].to_string();
    assert!(notes.contains("line 2:"), "{notes}");
}

#[test]
fn a_meter_that_does_not_see_the_load_is_refused_and_nothing_is_saved() {
    let lab = Lab::new(|_| IDLE_WATTS).with_rapl();
    let output = lab.calibrate(&["--from", "rapl"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("nothing was saved: the power did not rise"),
        "{}",
        stderr(&output)
    );
    assert!(!lab.path("model.toml").exists());
}

#[test]
fn without_a_true_meter_the_way_to_one_is_shown() {
    let lab = Lab::new(linear);
    for from in ["auto", "rapl"] {
        let output = lab.calibrate(&["--from", from]);
        assert_eq!(output.status.code(), Some(3));
        assert!(
            stderr(&output).contains("eco calibrate --wall FILE.csv"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_dry_run_shows_the_plan_and_does_nothing() {
    let lab = Lab::new(linear).with_rapl();
    let output = lab.calibrate(&["--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let plan = stdout(&output);
    assert!(plan.contains("rapl-powercap: package-0"), "{plan}");
    assert!(plan.contains("Steps: idle; "), "{plan}");
    assert!(!lab.path("model.toml").exists());
}

#[test]
fn wrong_usage_is_told_before_any_load() {
    let missing = Path::new("/nowhere/wall.csv").to_str().unwrap();
    for (arguments, reason) in [
        (&["--from", "csv"][..], "--wall FILE.csv"),
        (&["--from", "rapl", "--wall", missing], "two meters"),
        (&["--wall", missing], "No such file"),
        (&["--seconds", "1"], "2..=3600"),
    ] {
        let mut all = vec!["calibrate"];
        all.extend(arguments);
        let output = output(eco(&all).stdin(Stdio::null()));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
    let lab = Lab::new(linear).with_rapl();
    let output = lab.calibrate(&["--output", "/proc/nowhere/model.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("--output"), "{}", stderr(&output));
}
