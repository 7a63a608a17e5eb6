// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask build`: both programs of eco.

use std::io::{self, IsTerminal, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::tools::Folder;
use crate::workspace::{Workspace, shown, succeed};

/// What a terminal takes for an order to clear from the cursor to the end of the line.
const CLEAR_LINE: &[u8] = b"\x1b[K";

/// Sets up and builds, with all that cargo says.
pub(crate) fn main(workspace: &Workspace, debug: bool) -> Result<ExitCode> {
    setup::quietly(workspace)?;
    let profile = if debug { "dev" } else { "release" };
    succeed(&mut command(workspace, profile)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Sets up and builds the release programs; silent when they are fresh, so that
/// what is printed next belongs to the caller.
pub(crate) fn release_quietly(workspace: &Workspace) -> Result<()> {
    setup::quietly(workspace)?;
    let mut cargo = command(workspace, "release")?;
    if io::stderr().is_terminal() {
        // Cargo would take the pipe for a file and leave out colours and progress.
        cargo
            .env("CARGO_TERM_COLOR", "always")
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "80");
    }
    let mut child = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(&cargo)))?;
    if let Some(stderr) = child.stderr.take() {
        pass_on(stderr, io::stderr().lock()).context("cannot pass on what cargo says")?;
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("{} ended with {status}", shown(&cargo));
    }
    Ok(())
}

/// The same, and the programs of eco-tests: the benchmarks and the lab.
pub(crate) fn with_test_programs(workspace: &Workspace) -> Result<()> {
    release_quietly(workspace)?;
    succeed(workspace.cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "eco-tests",
        "--bins",
    ]))
}

/// What `bench history` runs.
pub(crate) fn history_example(workspace: &Workspace) -> Result<()> {
    succeed(workspace.cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "eco-history",
        "--example",
        "month",
    ]))
}

fn command(workspace: &Workspace, profile: &str) -> Result<Command> {
    let mut cargo = workspace.cargo();
    cargo
        .args([
            "build",
            "--profile",
            profile,
            "--package",
            "eco-agent",
            "--package",
            "eco-cli",
        ])
        .env("PATH", Folder::locate()?.search_path()?);
    Ok(cargo)
}

/// Copies all but cargo's line that it has finished. A progress bar ends in a carriage
/// return instead of a newline, and has to show at once.
fn pass_on(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in &chunk[..length] {
            line.push(*byte);
            if matches!(byte, b'\n' | b'\r') {
                pass_line(&line, &mut to)?;
                line.clear();
            }
        }
        to.flush()?;
    }
    pass_line(&line, &mut to)
}

fn pass_line(line: &[u8], to: &mut impl Write) -> io::Result<()> {
    if !line
        .windows(b"Finished".len())
        .any(|word| word == b"Finished")
    {
        return to.write_all(line);
    }
    // It begins by clearing the progress bar, and that has to happen.
    if line.starts_with(CLEAR_LINE) {
        to.write_all(CLEAR_LINE)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(input: &str) -> String {
        let mut output = Vec::new();
        pass_on(input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_fresh_build_says_nothing() {
        assert_eq!(
            passed("    Finished `release` profile [optimized] target(s) in 0.20s\n"),
            ""
        );
    }

    #[test]
    fn a_build_that_compiles_shows_all_but_its_end() {
        let said = "   Compiling eco v0.1.0\n    Building [=> ] 1/2\r    Finished `release`\n";
        assert_eq!(
            passed(said),
            "   Compiling eco v0.1.0\n    Building [=> ] 1/2\r"
        );
    }

    #[test]
    fn a_progress_bar_does_not_stay_behind() {
        assert_eq!(
            passed("Building [=> ]\r\x1b[K    Finished `release`\n"),
            "Building [=> ]\r\x1b[K"
        );
    }

    #[test]
    fn a_last_line_without_newline_is_not_lost() {
        assert_eq!(passed("error: it broke"), "error: it broke");
    }
}
