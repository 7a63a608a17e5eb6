// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask lab`: build what is not fresh, then become the power lab.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build;
use crate::workspace::Workspace;

/// Does not return when it succeeds. The lab is a program of the tests; the command that it runs
/// finds eco's programs, and the tests' own, by name.
pub(crate) fn main(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    build::with_test_programs(workspace)?;
    let programs = workspace.release_dir();
    let lab = programs.join("lab");
    let path = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths([programs].into_iter().chain(env::split_paths(&path))).context("PATH")?;
    let mut command = Command::new(&lab);
    command.args(args).env("PATH", path);
    Err(command.exec()).with_context(|| format!("cannot start {}", lab.display()))
}
