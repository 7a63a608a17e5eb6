// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco run` under test.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{programs, workload::Report};

/// Who is to measure.
#[derive(Clone, Debug)]
pub enum By {
    /// The agent on this socket.
    Agent(PathBuf),
    /// An agent for this run only.
    Private,
    /// `eco` itself, as this user.
    Plain(u32),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// As a shell has it.
    pub status: i32,
    /// What `--json` wrote; null where there is none.
    pub json: Value,
    /// What was written on stdout.
    pub stdout: String,
    /// What was written on stderr.
    pub stderr: String,
    folder: tempfile::TempDir,
}

impl Outcome {
    /// `cpu_seconds`.
    ///
    /// # Errors
    /// When the JSON has none.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.json["cpu_seconds"]
            .as_f64()
            .with_context(|| format!("no cpu_seconds: {self:?}"))
    }

    /// What the workloads that wrote into the run's folder say that they used, together.
    ///
    /// # Errors
    /// When one said nothing.
    pub fn reported_seconds(&self) -> Result<f64> {
        let mut sum = 0.0;
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "report")
            {
                sum += Report::read(&path)?.cpu_seconds();
            }
        }
        Ok(sum)
    }
}

/// Runs `eco run OPTIONS -- sh -c SCRIPT`.
///
/// In the script `$WORKLOAD` is this crate's workload, and `*.report` in the working folder are
/// what [`Outcome::reported_seconds`] reads.
///
/// # Errors
/// When it cannot be started.
pub fn shell(by: &By, script: &str) -> Result<Outcome> {
    run(by, &[], &["sh", "-c", script])
}

/// Runs `eco run --json … -- workload --report … ARGUMENTS`.
///
/// # Errors
/// When it cannot be started.
pub fn workload(by: &By, arguments: &str) -> Result<Outcome> {
    shell(
        by,
        &format!("exec $WORKLOAD --report main.report {arguments}"),
    )
}

/// Runs `eco run OPTIONS --json … -- COMMAND`.
///
/// # Errors
/// When it cannot be started.
pub fn run(by: &By, options: &[&str], words: &[&str]) -> Result<Outcome> {
    execute(by, &[], options, words)
}

/// Runs [`shell`] with these variables, as a launcher sets them.
///
/// # Errors
/// When it cannot be started.
pub fn launched(by: &By, variables: &[(&str, String)], script: &str) -> Result<Outcome> {
    execute(by, variables, &[], &["sh", "-c", script])
}

fn execute(
    by: &By,
    variables: &[(&str, String)],
    options: &[&str],
    words: &[&str],
) -> Result<Outcome> {
    let folder = programs::public_folder()?;
    let json = folder.path().join("run.json");
    let mut command = prepare(by, folder.path())?;
    command
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .args(options)
        .arg("--json")
        .arg(&json)
        .arg("--")
        .args(words);
    let output = command.output().context("cannot start eco")?;
    let text = fs::read_to_string(&json).unwrap_or_default();
    let status = output.status;
    Ok(Outcome {
        status: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        json: serde_json::from_str(&text).unwrap_or(Value::Null),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        folder,
    })
}

fn prepare(by: &By, folder: &Path) -> Result<Command> {
    let (mut eco, mut workload) = (programs::eco(), programs::workload());
    if let By::Plain(_) = by {
        eco = programs::publish(&eco, folder)?;
        workload = programs::publish(&workload, folder)?;
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    let mut command = Command::new(eco);
    command
        .arg("run")
        .current_dir(folder)
        .env("WORKLOAD", workload)
        .env("NO_COLOR", "1")
        // What tests run is not of the history of whoever tests.
        .env("XDG_STATE_HOME", folder.join("state"))
        .env_remove("ECO_SOCKET")
        .stdin(Stdio::null());
    match by {
        By::Agent(socket) => {
            command.args(["--measure", "agent", "--socket"]).arg(socket);
        }
        By::Private => {
            command.args(["--measure", "private"]);
        }
        By::Plain(user) => {
            command.args(["--measure", "plain"]).uid(*user).gid(*user);
        }
    }
    Ok(command)
}
