// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco-agent` under test: started, asked, killed and started again.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    cgroup::Cgroup,
    http::{self, Response},
    lab::Lab,
    launch,
    metrics::Metrics,
    node::Node,
    programs, wait,
};

/// How an agent is to be started. The default is what most tests want: the machine's own
/// processes and meters, and a short tick.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `--interval`.
    pub interval: Duration,
    /// `--sysfs`, if not the machine's own.
    pub sysfs: Option<PathBuf>,
    /// `--procfs`, if not the machine's own.
    pub procfs: Option<PathBuf>,
    /// `--state`, if not a new folder of its own.
    pub state: Option<PathBuf>,
    /// `--socket`, if not one of its own.
    pub socket: Option<PathBuf>,
    /// Further arguments.
    pub arguments: Vec<OsString>,
    /// Variables: settings that have no flag.
    pub variables: Vec<(&'static str, String)>,
    /// The user to run as, if not this one.
    pub user: Option<u32>,
    /// The node to run on, if not this machine itself.
    pub node: Option<Arc<Node>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            sysfs: None,
            procfs: None,
            state: None,
            socket: None,
            arguments: Vec::new(),
            variables: Vec::new(),
            user: None,
            node: None,
        }
    }
}

impl Setup {
    /// The default, with the meters under `sysfs`.
    #[must_use]
    pub fn metered_by(sysfs: &Path) -> Self {
        Self {
            sysfs: Some(sysfs.to_owned()),
            ..Self::default()
        }
    }

    /// The default, on a machine of the power lab.
    #[must_use]
    pub fn in_lab(lab: &Lab) -> Self {
        Self {
            variables: lab.variables(),
            ..Self::metered_by(lab.sysfs())
        }
    }
}

/// An agent of one's own. Dropped, it is killed and leaves nothing.
pub struct Agent {
    setup: Setup,
    home: tempfile::TempDir,
    child: Child,
    cgroup: Option<Cgroup>,
    ended: Option<ExitStatus>,
}

/// What an agent takes of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// At most, so far.
    pub peak: u64,
}

impl Agent {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead: with its log.
    pub fn start(setup: Setup) -> Result<Self> {
        let mut agent = Self::spawn(setup)?;
        agent.until_ready()?;
        Ok(agent)
    }

    /// Starts one that may well end at once.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn spawn(setup: Setup) -> Result<Self> {
        let home = programs::public_folder()?;
        // Without one, its CPU time is not told apart; everything else works.
        let cgroup = Cgroup::new("agent").ok();
        let child = launch(&setup, home.path(), cgroup.as_ref())?;
        Ok(Self {
            setup,
            home,
            child,
            cgroup,
            ended: None,
        })
    }

    /// Starts it again, on the same state and socket, after it was stopped or killed.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = launch(&self.setup, self.home.path(), self.cgroup.as_ref())?;
        self.ended = None;
        self.until_ready()
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if self.ended.is_none() {
            launch::signal(&self.child, libc::SIGKILL);
        }
        self.until_ended()
    }

    /// Asks it to end, as a service manager does, and waits for that.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if self.ended.is_none() {
            launch::signal(&self.child, libc::SIGTERM);
        }
        self.until_ended()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it never does.
    pub fn until_ended(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let child = &mut self.child;
        let status = wait::until_some("the agent ends", || child.try_wait().ok().flatten())?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.ended.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_of(&self.setup, self.home.path())
    }

    /// Where it keeps its counters.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        state_of(&self.setup, self.home.path())
    }

    /// All that it has said, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Asks it for something.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<Response> {
        http::ask(&self.socket(), "GET", path, None)
    }

    /// Asks it for something that is JSON.
    ///
    /// # Errors
    /// When it does not answer, or not with that.
    pub fn json(&self, path: &str) -> Result<Value> {
        expect_json(self.get(path)?, path)
    }

    /// `/v1/status`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value> {
        self.json("/v1/status")
    }

    /// `PUT /v1/intensity`.
    ///
    /// # Errors
    /// When it refuses.
    pub fn push_intensity(&self, zone: &str, g_per_kwh: f64) -> Result<()> {
        let request = json!({
            "zone": zone, "g_per_kwh": g_per_kwh, "kind": "average", "source": "a test"
        });
        let answer = http::ask(&self.socket(), "PUT", "/v1/intensity", Some(&request))?;
        expect_json(answer, "PUT /v1/intensity").map(drop)
    }

    /// Scrapes it.
    ///
    /// # Errors
    /// When it does not answer, or not with metrics.
    pub fn scrape(&self) -> Result<Metrics> {
        let response = self.get("/metrics")?;
        if response.status != 200 {
            bail!("/metrics: {} {}", response.status, response.body);
        }
        Metrics::parse(&response.body)
    }

    /// Waits until it has done so many more ticks.
    ///
    /// # Errors
    /// When it does not.
    pub fn after_ticks(&self, more: u64) -> Result<()> {
        let wanted = self.ticks()? + more;
        wait::until(&format!("{more} more ticks"), || {
            self.ticks().is_ok_and(|now| now >= wanted)
        })
    }

    /// How many ticks it has done.
    ///
    /// # Errors
    /// When it does not say.
    pub fn ticks(&self) -> Result<u64> {
        self.status()?["ticks"]
            .as_u64()
            .context("/v1/status has no ticks")
    }

    /// Opens a job on everything in a cgroup.
    ///
    /// # Errors
    /// When the agent refuses.
    pub fn open_job(&self, name: &str, cgroup: &Cgroup) -> Result<Job<'_>> {
        let request = json!({ "name": name, "cgroup": cgroup.path() });
        let answer = http::ask(&self.socket(), "POST", "/v1/jobs", Some(&request))?;
        let opened = expect_json(answer, "POST /v1/jobs")?;
        let id = opened["id"]
            .as_str()
            .context("a job without an id")?
            .to_owned();
        Ok(Job { agent: self, id })
    }

    /// Why it does not count by the iterator, if so.
    ///
    /// # Errors
    /// When it does not say.
    pub fn lesser_tier(&self) -> Result<Option<String>> {
        let status = self.status()?;
        let reason = status["tier_reason"].as_str().unwrap_or_default();
        Ok((status["tier"] != "iter").then(|| reason.to_owned()))
    }

    /// CPU time of all its lives, from its own cgroup, in µs.
    ///
    /// # Errors
    /// When it has no cgroup of its own.
    pub fn cpu_us(&self) -> Result<u64> {
        self.cgroup
            .as_ref()
            .context("the agent has no cgroup of its own")?
            .cpu_us()
    }

    /// Its memory.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.pid())
    }

    fn until_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        let child = &mut self.child;
        let mut ended = None;
        wait::until("the agent is ready", || {
            ended = child.try_wait().ok().flatten();
            ended.is_some()
                || http::ask(&socket, "GET", "/readyz", None).is_ok_and(|r| r.status == 200)
        })?;
        self.ended = ended;
        match ended {
            None => Ok(()),
            Some(status) => bail!("the agent ended with {status}: {}", self.log()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A job that is open.
pub struct Job<'a> {
    agent: &'a Agent,
    id: String,
}

impl Job<'_> {
    /// What the agent calls it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Closes it, and gives its account.
    ///
    /// # Errors
    /// When the agent refuses.
    pub fn close(self) -> Result<JobAccount> {
        let path = format!("/v1/jobs/{}", self.id);
        let answer = http::ask(&self.agent.socket(), "DELETE", &path, None)?;
        JobAccount::read(&expect_json(answer, &path)?)
    }
}

/// What a job used.
#[derive(Clone, Debug)]
pub struct JobAccount {
    /// In seconds.
    pub cpu_seconds: f64,
    /// Of the package, in joules, without idle.
    pub package_joules: f64,
    /// Processes that belonged to it.
    pub processes: u64,
}

impl JobAccount {
    fn read(job: &Value) -> Result<Self> {
        Ok(Self {
            cpu_seconds: job["cpu_seconds"].as_f64().context("no cpu_seconds")?,
            package_joules: job["energy_joules"]["package"].as_f64().unwrap_or(0.0),
            processes: job["processes"].as_u64().context("no processes")?,
        })
    }
}

/// The memory of a process.
///
/// # Errors
/// When it does not run.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |key: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(number.with_context(|| format!("/proc/{pid}/status has no {key}"))? * 1024)
    };
    Ok(Memory {
        resident: kilobytes("VmRSS:")?,
        peak: kilobytes("VmHWM:")?,
    })
}

fn expect_json(response: Response, what: &str) -> Result<Value> {
    if response.status >= 300 {
        bail!("{what}: {} {}", response.status, response.body);
    }
    response.json()
}

fn socket_of(setup: &Setup, home: &Path) -> PathBuf {
    setup
        .socket
        .clone()
        .unwrap_or_else(|| home.join("agent.sock"))
}

fn state_of(setup: &Setup, home: &Path) -> PathBuf {
    setup.state.clone().unwrap_or_else(|| home.join("state"))
}

fn launch(setup: &Setup, home: &Path, cgroup: Option<&Cgroup>) -> Result<Child> {
    let mut program = programs::eco_agent();
    if setup.user.is_some() {
        program = programs::publish(&program, home)?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.join("log"))?;
    let mut command = Command::new(&program);
    command
        .arg("--interval")
        .arg(format!("{}ms", setup.interval.as_millis()))
        .arg("--socket")
        .arg(socket_of(setup, home))
        .arg("--state")
        .arg(state_of(setup, home))
        .args(&setup.arguments)
        .envs(
            setup
                .variables
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        )
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(File::from(std::os::fd::OwnedFd::from(log)));
    for (flag, folder) in [("--sysfs", &setup.sysfs), ("--procfs", &setup.procfs)] {
        if let Some(folder) = folder {
            command.arg(flag).arg(folder);
        }
    }
    if let Some(cgroup) = cgroup {
        cgroup.hold(&mut command)?;
    }
    if let Some(node) = &setup.node {
        node.hold(&mut command)?;
    }
    if let Some(user) = setup.user {
        command.uid(user).gid(user);
        fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    // An agent whose test was killed must not stay.
    // SAFETY: one system call with constants.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            Ok(())
        });
    }
    command
        .spawn()
        .with_context(|| program.display().to_string())
}
