// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine whose true power is known, for any program to measure.
//!
//! `cargo xtask lab` builds eco and becomes this.
#![expect(clippy::print_stdout, reason = "where the tree is, is what it is for")]

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
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

    /// Also put the meters over /sys/class, for the command only.
    #[arg(long)]
    over_sys: bool,

    /// How long it runs without a command.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// What to run, with ECO_SYSFS set to the tree.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

const HELP: &str = "\
The command finds the tree in $ECO_SYSFS, which eco-agent reads, and the cgroup of workload NAME
in $LAB_NAME, its place in upper case.

Examples:
  cargo xtask lab two-sockets -- eco-agent
  cargo xtask lab two-sockets --over-sys -- cat /sys/class/powercap/intel-rapl:0/energy_uj
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
    let prepared = Prepared::new(Scenario::read(&file_of(&arguments.scenario))?)?;
    if arguments.over_sys
        && let Err(why) = mounts::cover_sys(prepared.sysfs())
    {
        eprintln!("lab: skipped --over-sys: {why:#}");
    }
    let lab = prepared.start()?;
    let code = match arguments.command.split_first() {
        None => {
            println!("ECO_SYSFS={}", lab.sysfs().display());
            for (name, value) in lab.variables() {
                println!("{name}={value}");
            }
            thread::sleep(Duration::from_secs(arguments.seconds));
            0
        }
        Some((program, words)) => wait_for(&lab, &arguments.scenario, program, words)?,
    };
    let truth = serde_json::to_string_pretty(&lab.truth()?)?;
    fs::write(&arguments.truth, truth + "\n")
        .with_context(|| arguments.truth.display().to_string())?;
    eprintln!("lab: the truth is in {}", arguments.truth.display());
    Ok(code)
}

/// Runs the command to its end, and gives its status as a shell does.
fn wait_for(lab: &Lab, scenario: &str, program: &str, words: &[String]) -> Result<u8> {
    let mut command = Command::new(program);
    command.args(words).env("ECO_SYSFS", lab.sysfs());
    command.envs(lab.variables());
    for workload in Scenario::read(&file_of(scenario))?.workload {
        let folder = lab.cgroup(&workload.name)?.folder();
        command.env(variable_of(&workload.name), folder);
    }
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

/// `two-sockets` is `tests/lab/two-sockets.toml` of the clone that this was built from.
fn file_of(scenario: &str) -> PathBuf {
    let file = PathBuf::from(scenario);
    let is_name = !scenario.contains(['/', '.']);
    if is_name && !file.exists() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        return folder.join(file).with_extension("toml");
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
