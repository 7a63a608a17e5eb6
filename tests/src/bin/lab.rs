// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine whose true power is known, for any program to measure.
//!
//! `cargo xtask lab` builds eco and becomes this.
#![expect(clippy::print_stdout, reason = "where the tree is, is what it is for")]

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use eco_tests::lab::{Lab, Prepared, mounts, scenario::Scenario};

/// Run a command on a machine whose true power is known.
#[derive(Parser)]
#[command(name = "cargo xtask lab", after_help = HELP)]
struct Arguments {
    /// A file, or the name of one in tests/lab.
    scenario: String,

    /// Where the truth is written at the end, as JSON.
    #[arg(long, value_name = "FILE", default_value = "lab-truth.json")]
    truth: PathBuf,

    /// Also put the tree over /sys, for the command only.
    #[arg(long)]
    over_sys: bool,

    /// How long it runs without a command, if it is not stopped before.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// What to run, with ECO_SYSFS set to the tree.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

const HELP: &str = "\
The command finds all that eco-agent needs in its environment: the tree in $ECO_SYSFS, the
controller in $ECO_REDFISH__URL, the NVIDIA driver in $ECO_NVML__LIBRARY. $LAB_NAME is the folder
of workload NAME's cgroup. Without a command, these are printed. docs/lab.md tells the rest.

Examples:
  cargo xtask lab two-sockets -- eco-agent
  cargo xtask lab two-sockets --over-sys -- cat /sys/class/powercap/intel-rapl:0/energy_uj
  cargo xtask lab gpu-node -- sh -c 'eco-agent & sleep 20; eco top --once'
  cargo xtask lab rough --truth truth.json --seconds 20";

/// No lab could be set up; any other status is the command's.
const NO_LAB: u8 = 125;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("lab: {why:#}");
            ExitCode::from(NO_LAB)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    let scenario = read(&arguments.scenario)?;
    // Before hours of measuring rather than after them.
    let mut truth =
        File::create(&arguments.truth).with_context(|| arguments.truth.display().to_string())?;
    if arguments.command.is_empty() {
        hold_back_signals();
    }
    let workloads: Vec<String> = scenario.workload.iter().map(|w| w.name.clone()).collect();
    let prepared = Prepared::new(scenario)?;
    if arguments.over_sys
        && let Err(why) = mounts::cover_sys(prepared.sysfs())
    {
        eprintln!("lab: skipped --over-sys: {why:#}");
    }
    let lab = prepared.start()?;
    let code = match arguments.command.split_first() {
        None => {
            for (name, value) in variables(&lab, &workloads)? {
                println!("{name}={value}");
            }
            until_signal(Duration::from_secs(arguments.seconds));
            0
        }
        Some((program, words)) => wait_for(&lab, &workloads, program, words)?,
    };
    let text = serde_json::to_string_pretty(&lab.truth()?)?;
    writeln!(truth, "{text}").with_context(|| arguments.truth.display().to_string())?;
    eprintln!("lab: the truth is in {}", arguments.truth.display());
    Ok(code)
}

/// How a program finds all of it.
fn variables(lab: &Lab, workloads: &[String]) -> Result<Vec<(String, String)>> {
    let sysfs = lab.sysfs().display().to_string();
    let mut variables = vec![("ECO_SYSFS".to_owned(), sysfs)];
    for (name, value) in lab.variables() {
        variables.push((name.to_owned(), value));
    }
    for workload in workloads {
        let folder = lab.cgroup(workload)?.folder().display().to_string();
        variables.push((variable_of(workload), folder));
    }
    Ok(variables)
}

/// What a person stops it with: the truth is still to be written, and what was made to go.
fn stopping() -> libc::sigset_t {
    // SAFETY: the set is plain data, made empty before it is used; the calls only write it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        set
    }
}

/// For this thread and those that it starts, not for commands: the standard library gives each an
/// empty mask.
fn hold_back_signals() {
    let set = stopping();
    // SAFETY: a live set; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
}

/// Waits so long, or until somebody stops it.
fn until_signal(span: Duration) {
    let until = Instant::now() + span;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let set = stopping();
        // SAFETY: the set and the time are live locals; who sent the signal is not asked for.
        let got = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const left) };
        // Interrupted by something else, it goes on.
        if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Runs the command to its end, and gives its status as a shell does.
fn wait_for(lab: &Lab, workloads: &[String], program: &str, words: &[String]) -> Result<u8> {
    let mut command = Command::new(program);
    command.args(words).envs(variables(lab, workloads)?);
    // ^C is for the command; the truth is still to be written.
    // SAFETY: no handler is installed, here or in the child.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let status = command.status().with_context(|| program.to_owned())?;
    let of_signal = status.signal().map(|number| 128 + number);
    let code = status.code().or(of_signal).unwrap_or_default();
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A scenario by its name or file. Where there is none of that name, those that there are.
fn read(scenario: &str) -> Result<Scenario> {
    let file = file_of(scenario);
    let is_name = file != Path::new(scenario);
    ensure!(
        !is_name || file.exists(),
        "{scenario} is no scenario; there are: {}",
        names().join(", ")
    );
    Scenario::read(&file)
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = entries.filter_map(|entry| stem(entry.path())).collect();
    names.sort();
    names
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

/// `two-sockets` is `tests/lab/two-sockets.toml` of the clone that this was built from.
fn file_of(scenario: &str) -> PathBuf {
    let file = PathBuf::from(scenario);
    let is_name = !scenario.contains(['/', '.']);
    if is_name && !file.exists() {
        return folder().join(file).with_extension("toml");
    }
    file
}

fn variable_of(workload: &str) -> String {
    let name = workload.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("LAB_{name}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_scenario_of_the_house_is_known_by_its_name() {
        assert!(file_of("two-sockets").is_file());
        assert_eq!(file_of("./x.toml"), Path::new("./x.toml"));
        assert_eq!(variable_of("a-b"), "LAB_A_B");
    }
}
