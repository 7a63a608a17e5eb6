// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test`: every test of the workspace, and one line that counts them.

mod tally;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use self::tally::Tally;
use crate::tools::Folder;
use crate::workspace::{OPTIONAL, Workspace, shown};
use crate::{build, setup};

/// Where end-to-end tests find `eco` and `eco-agent`.
pub(crate) const BIN_DIR: &str = "ECO_BIN_DIR";

/// The package whose tests start the release programs.
const END_TO_END: &str = "eco-tests";

/// What makes libtest show what passing tests printed.
const SHOW_OUTPUT: &str = "--show-output";

/// Runs the tests and prints last, alone on a line: `N passed, N failed, N skipped`.
///
/// A test that cannot run prints a line `skipped: why` and returns. It counts as skipped,
/// never as passed.
pub(crate) fn main(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    let (for_cargo, for_programs) = split(args);
    if wants_release_programs(for_cargo) {
        build::release_quietly(workspace)?;
    } else {
        setup::quietly(workspace)?;
    }
    let mut cargo = command(workspace, for_cargo, for_programs)?;
    let mut tally = Tally::default();
    let succeeded = run(&mut cargo, wants_output(for_programs), &mut tally)?;
    tally.finish(succeeded);
    print!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn command(
    workspace: &Workspace,
    for_cargo: &[OsString],
    for_programs: &[OsString],
) -> Result<Command> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--no-fail-fast"]);
    if selected(for_cargo).next().is_none() {
        cargo.args(["--workspace", "--exclude", "eco-ebpf"]);
        cargo.args(["--features", OPTIONAL]);
    }
    cargo.args(for_cargo).arg("--").args(for_programs);
    if !wants_output(for_programs) {
        // Without it libtest keeps to itself what a passing test printed: its `skipped:`.
        cargo.arg(SHOW_OUTPUT);
    }
    cargo
        .env("PATH", Folder::locate()?.search_path()?)
        .env(BIN_DIR, workspace.release_dir());
    Ok(cargo)
}

/// Passes on what the tests print while they print it; what passing tests printed only when
/// asked for `all`. Returns whether cargo succeeded.
fn run(cargo: &mut Command, all: bool, tally: &mut Tally) -> Result<bool> {
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(cargo)))?;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .context("cannot read what tests print")?
            > 0
        {
            tally.read(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            if all || !tally.is_in_successes() {
                std::io::stdout()
                    .write_all(&line)
                    .context("cannot pass on what tests print")?;
            }
            line.clear();
        }
    }
    Ok(child.wait().context("cannot wait for cargo")?.success())
}

fn split(args: &[OsString]) -> (&[OsString], &[OsString]) {
    match args.iter().position(|word| word == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[]),
    }
}

fn wants_output(for_programs: &[OsString]) -> bool {
    for_programs.iter().any(|word| word == SHOW_OUTPUT)
}

/// Whether the tests that `args` select need eco built: all do, and those from end to end.
/// Someone who works on one crate should not wait for the release build.
fn wants_release_programs(args: &[OsString]) -> bool {
    let mut selected = selected(args).peekable();
    selected.peek().is_none() || selected.any(|package| package == END_TO_END)
}

/// The packages that cargo's arguments name: `-p X`, `-pX`, `--package X`, `--package=X`.
fn selected(args: &[OsString]) -> impl Iterator<Item = &OsStr> {
    args.iter().enumerate().filter_map(|(at, word)| {
        let text = word.to_str()?;
        if matches!(text, "-p" | "--package") {
            return args.get(at + 1).map(OsString::as_os_str);
        }
        let joined = match text.strip_prefix("--package=") {
            Some(package) => Some(package),
            None => text.strip_prefix("-p"),
        };
        joined.map(OsStr::new)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn arguments_after_two_dashes_are_for_the_test_programs() {
        let args = words("-p eco-meter -- --test-threads 1");
        let (cargo, programs) = split(&args);
        assert_eq!(cargo, words("-p eco-meter"));
        assert_eq!(programs, words("--test-threads 1"));
    }

    #[test]
    fn a_package_is_recognised_however_it_is_written() {
        for line in [
            "-p eco-meter",
            "-peco-meter",
            "--package eco-meter",
            "--package=eco-meter",
        ] {
            assert_eq!(
                selected(&words(line)).collect::<Vec<_>>(),
                ["eco-meter"],
                "{line}"
            );
        }
    }

    #[test]
    fn only_end_to_end_tests_need_the_release_programs() {
        assert!(wants_release_programs(&words("")));
        assert!(wants_release_programs(&words("some_filter")));
        assert!(wants_release_programs(&words("-p eco-meter -p eco-tests")));
        assert!(!wants_release_programs(&words("-p eco-meter")));
    }
}
