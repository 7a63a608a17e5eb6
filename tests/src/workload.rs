// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Work of a known size: this crate's own `workload`, and what it says that it used.

use std::{
    fs, mem,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{cgroup::Cgroup, launch, programs, wait};

/// What a workload says of itself when it is done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its own resource usage and that of its reaped children, user and system, in µs.
    pub cpu_us: u64,
    /// Of a context-switch storm: the median time of one switch, in ns.
    #[serde(default)]
    pub ns_per_switch: f64,
}

impl Report {
    /// Reads the file that `--report` named.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// CPU time in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_us as f64 / 1e6
    }
}

/// A workload that is to be started.
pub struct Workload {
    command: Command,
    folder: tempfile::TempDir,
    report: PathBuf,
}

impl Workload {
    /// `workload ARGUMENTS`.
    ///
    /// # Errors
    /// When there is no place for its report.
    pub fn new(arguments: &str) -> Result<Self> {
        let folder = programs::public_folder()?;
        let report = folder.path().join("report");
        let mut command = Command::new(programs::workload());
        command
            .arg("--report")
            .arg(&report)
            .args(arguments.split(' '))
            .stdin(Stdio::null());
        // SAFETY: one system call with constants.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                Ok(())
            });
        }
        Ok(Self {
            command,
            folder,
            report,
        })
    }

    /// In a cgroup.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn within(mut self, cgroup: &Cgroup) -> Result<Self> {
        cgroup.hold(&mut self.command)?;
        Ok(self)
    }

    /// On one CPU.
    #[must_use]
    pub fn on_cpu(mut self, cpu: usize) -> Self {
        launch::pin(&mut self.command, cpu);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut self) -> Result<Running> {
        let child = self.command.spawn().context("cannot start the workload")?;
        Ok(Running {
            child,
            _folder: self.folder,
            report: self.report,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(self) -> Result<Report> {
        self.start()?.finish()
    }
}

/// A workload that runs. Dropped, it is killed.
pub struct Running {
    child: Child,
    _folder: tempfile::TempDir,
    report: PathBuf,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it fails.
    pub fn finish(mut self) -> Result<Report> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the workload ended with {status}");
        }
        Report::read(&self.report)
    }

    /// Waits until it has stopped itself, as `phases` does between two phases.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn until_stopped(&self) -> Result<()> {
        // SAFETY: siginfo is plain data, and a live local while the kernel fills it.
        let seen = unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let options = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
            (
                libc::waitid(libc::P_PID, self.child.id(), &raw mut info, options),
                info.si_code,
            )
        };
        match seen {
            (0, libc::CLD_STOPPED) => Ok(()),
            _ => bail!("the workload ended where it should have stopped"),
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        launch::signal(&self.child, libc::SIGCONT);
    }

    /// Waits until it says that it is set up, as `sleepers` does.
    ///
    /// # Errors
    /// When it never does.
    pub fn until_reported(&self) -> Result<()> {
        wait::until("the workload is set up", || self.report.exists())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
