// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One server that runs for a test, and ends with it: through this crate's `keeper`, which the
//! kernel tells when the test is gone, whether it returned, panicked or was killed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{programs, wait};

/// A server that is to be started.
pub struct Launch {
    name: &'static str,
    state: PathBuf,
    keeper: Command,
    command: Vec<Box<OsStr>>,
}

/// A server that runs. Dropped, it is killed, with all that it started.
pub struct Server {
    name: &'static str,
    keeper: Child,
    log: PathBuf,
}

impl Launch {
    /// Makes its folder: `scratch`/`name`.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn new(name: &'static str, scratch: &Path, program: &Path) -> Result<Self> {
        let state = scratch.join(name);
        fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
        let mut keeper = Command::new(programs::keeper());
        keeper.arg("--state").arg(&state);
        keeper.arg("--scratch").arg(scratch);
        Ok(Self {
            name,
            state,
            keeper,
            command: vec![program.as_os_str().into()],
        })
    }

    /// Where it may keep what it likes.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.push(argument.as_ref().into());
        self
    }

    /// `--NAME=VALUE`.
    #[must_use]
    pub fn flag(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut flag = std::ffi::OsString::from(format!("--{name}="));
        flag.push(value);
        self.arg(flag)
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.keeper.env(name, value);
        self
    }

    /// A cgroup that it will make, by its path in every hierarchy: gone in the end, with what
    /// runs in it.
    #[must_use]
    pub fn cgroup(mut self, path: &str) -> Self {
        self.keeper.arg("--cgroup").arg(path);
        self
    }

    /// Where it keeps the tasks if it is containerd, whose shims' sockets would
    /// stay.
    #[must_use]
    pub fn tasks(mut self, folder: &Path) -> Self {
        self.keeper.arg("--tasks").arg(folder);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When this crate's `keeper` is not built, or there is no place for the log.
    pub fn start(mut self) -> Result<Server> {
        let log = self.state.join("log");
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        self.keeper
            .arg("--")
            .args(&self.command)
            // Held open, and closed by the kernel with this process.
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output);
        let keeper = self.keeper.spawn();
        Ok(Server {
            name: self.name,
            keeper: keeper.with_context(|| programs::keeper().display().to_string())?,
            log,
        })
    }
}

impl Server {
    /// Waits until `is_ready`.
    ///
    /// # Errors
    /// When it never is, or the server ends instead: with the last lines of its log.
    pub fn until_ready(&mut self, mut is_ready: impl FnMut() -> bool) -> Result<()> {
        let what = format!("{} is ready", self.name);
        let waited = wait::until(&what, || !self.is_alive() || is_ready());
        if waited.is_ok() && self.is_alive() {
            return Ok(());
        }
        bail!(
            "{} does not get ready; its log ends:\n{}",
            self.name,
            self.log_end()
        )
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.keeper.try_wait(), Ok(None))
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let keeper = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        // The keeper's first child; orphans that it has inherited come later.
        children.ok()?.split(' ').next()?.parse().ok()
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Its last lines.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.keeper.stdin.take() {
            // Without it, the keeper would take the whole test for gone.
            let _ = stdin.write_all(b".");
        }
        let _ = self.keeper.wait();
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it fails: with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    finished(command, &output)
}

pub(crate) fn finished(command: &Command, output: &std::process::Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
