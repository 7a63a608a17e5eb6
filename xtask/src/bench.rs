// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask bench`: build what is not fresh, then become the benchmark.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build;
use crate::test::BIN_DIR;
use crate::workspace::Workspace;

/// Does not return when it succeeds. The benchmarks are a program of the tests: they use the
/// same harness, and xtask stays small.
pub(crate) fn main(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    build::with_test_programs(workspace)?;
    if args.iter().any(|arg| arg == "history") {
        build::history_example(workspace)?;
    }
    let bench = workspace.release_dir().join("bench");
    let mut command = Command::new(&bench);
    command.args(args).env(BIN_DIR, workspace.release_dir());
    Err(command.exec()).with_context(|| format!("cannot start {}", bench.display()))
}
