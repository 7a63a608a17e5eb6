// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A Slurm cluster of one node: this machine. Its jobs are in cgroups as everywhere: by v1's
//! freezer, cpuacct and memory, `/slurm_NODE/uid_UID/job_ID/step_STEP`.

mod accounting;

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

use self::accounting::Accounting;
use super::{
    Installed, find_or_skip, free_port,
    server::{Launch, Server, run},
};
use crate::{cgroup, programs, wait};

/// The libraries that came with Slurm's packages, and its plug-ins.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The key that munge's peers share is as long as munge makes one itself.
const KEY_BYTES: usize = 128;

/// What a cluster has beside its jobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// slurmdbd(8) and its database: sacct(1) answers.
    pub accounting: bool,
    /// A shell script, run as root where a job has ended, with Slurm's commands in its `PATH`.
    pub epilog: Option<&'a str>,
}

/// A cluster of one's own. Dropped, it leaves nothing, and kills its jobs.
pub struct Slurm {
    _slurmd: Server,
    _slurmctld: Server,
    _accounting: Option<Accounting>,
    _munged: Server,
    installed: Installed,
    node: String,
    scratch: tempfile::TempDir,
}

impl Slurm {
    /// Starts one, and waits until jobs can run. Prints `skipped: why` and answers `None` where
    /// that is not possible.
    ///
    /// # Errors
    /// When a daemon does not get ready: with the end of its log.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with(Setup::default())
    }

    /// The same, with more.
    ///
    /// # Errors
    /// When a daemon does not get ready: with the end of its log.
    pub fn start_with(setup: Setup<'_>) -> Result<Option<Self>> {
        let Some([installed]) = find_or_skip(["slurm"]) else {
            return Ok(None);
        };
        if !cgroup::everywhere("").any(|root| root.join("cgroup.clone_children").exists()) {
            super::skip("Slurm 22 without systemd needs cgroup v1");
            return Ok(None);
        }
        let of_accounting = if setup.accounting {
            let Some([found]) = find_or_skip(["slurm-accounting"]) else {
                return Ok(None);
            };
            Some(found)
        } else {
            None
        };
        // Jobs of any user write there.
        let scratch = programs::public_folder()?;
        let node = unique_name();
        let slurm = Unstarted {
            installed: &installed,
            scratch: scratch.path(),
            node: &node,
        };
        let munged = slurm.start_munged()?;
        let accounting = of_accounting.map(|found| Accounting::start(&slurm, &found));
        let accounting = accounting.transpose()?;
        let mut more = accounting
            .as_ref()
            .map_or_else(String::new, Accounting::settings);
        if let Some(script) = setup.epilog {
            more += &slurm.write_epilog(script)?;
        }
        slurm.configure(&more)?;
        if let Some(accounting) = &accounting {
            accounting.register(&slurm)?;
        }
        let slurmctld = slurm.launch("slurmctld")?.arg("-D").arg("-i").start()?;
        let mut slurmd = slurm
            .launch("slurmd")?
            .arg("-D")
            .arg("-N")
            .arg(&node)
            .arg("-d")
            .arg(installed.path("usr/sbin/slurmstepd"))
            .cgroup(&format!("/slurm_{node}"))
            .start()?;
        slurmd.until_ready(|| {
            run(command(&installed, scratch.path(), "sinfo").args(["-h", "-o", "%T"]))
                .is_ok_and(|state| state.trim() == "idle")
        })?;
        Ok(Some(Self {
            _slurmd: slurmd,
            _slurmctld: slurmctld,
            _accounting: accounting,
            _munged: munged,
            installed,
            node,
            scratch,
        }))
    }

    /// One of Slurm's commands, as `srun`, set up for this cluster and to be given arguments.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = command(&self.installed, self.folder(), name);
        // Slurm runs a job in the folder that it was submitted from.
        command.current_dir(self.folder());
        command
    }

    /// What somebody else needs to call Slurm's commands: variables by name and value.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        environment(&self.installed, self.folder())
    }

    /// Where one of Slurm's commands is.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.installed.path("usr/bin").join(name)
    }

    /// Submits a shell script, and gives the job's id.
    ///
    /// # Errors
    /// When Slurm refuses it.
    pub fn sbatch(&self, options: &[&str], script: &str) -> Result<u32> {
        static SCRIPTS: AtomicU32 = AtomicU32::new(0);
        let number = SCRIPTS.fetch_add(1, Ordering::Relaxed);
        let file = self.folder().join(format!("script-{number}"));
        fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
        let mut sbatch = self.command("sbatch");
        sbatch
            .arg("--parsable")
            .args(["-o", "output-%j"])
            .args(options);
        Ok(run(sbatch.arg(file))?.trim().parse()?)
    }

    /// `scontrol ARGUMENTS`.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn scontrol(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("scontrol").args(arguments))
    }

    /// Waits until a job has ended well, with all tasks if it is an array.
    ///
    /// # Errors
    /// When it ends otherwise, or not at all: with what Slurm knows of it.
    pub fn until_completed(&self, job: u32) -> Result<()> {
        let show = || self.scontrol(&["show", "job", &job.to_string()]);
        let ended = wait::until_some(&format!("job {job} ends"), || {
            let shown = show().ok()?;
            let words = shown.split_whitespace();
            let states: Vec<&str> = words.filter_map(|w| w.strip_prefix("JobState=")).collect();
            let is_over = |state| !["PENDING", "RUNNING", "COMPLETING"].contains(state);
            states
                .iter()
                .all(is_over)
                .then(|| states.iter().all(|state| *state == "COMPLETED"))
        });
        match ended {
            Ok(true) => Ok(()),
            _ => bail!("job {job}: {}", show()?),
        }
    }

    /// What a job has printed.
    ///
    /// # Errors
    /// When it has not begun.
    pub fn output(&self, job: u32) -> Result<String> {
        let file = self.folder().join(format!("output-{job}"));
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// The cgroup of a job of root's, in those hierarchies that Slurm uses.
    #[must_use]
    pub fn job_cgroup(&self, job: u32) -> String {
        format!("/slurm_{}/uid_0/job_{job}", self.node)
    }

    /// The node's name: this cluster's own, so that two on one machine have different cgroups.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where scripts and output are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

/// Where a cluster is going to be.
struct Unstarted<'a> {
    installed: &'a Installed,
    scratch: &'a Path,
    node: &'a str,
}

impl Unstarted<'_> {
    fn launch(&self, name: &'static str) -> Result<Launch> {
        self.launch_program(name, &self.installed.path("usr/sbin").join(name))
    }

    /// One that came by itself.
    fn launch_program(&self, name: &'static str, program: &Path) -> Result<Launch> {
        let launch = Launch::new(name, self.scratch, program)?;
        let environment = environment(self.installed, self.scratch);
        Ok(environment
            .into_iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value)))
    }

    /// Vouches for who speaks: only who has its key believes it.
    fn start_munged(&self) -> Result<Server> {
        let launch = self.launch("munged")?;
        let state = launch.state().to_owned();
        let key = state.join("key");
        let mut bytes = [0_u8; KEY_BYTES];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        fs::write(&key, bytes)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let socket = munge_socket(self.scratch);
        let mut server = launch
            .arg("--foreground")
            .flag("key-file", &key)
            .flag("socket", &socket)
            .flag("pid-file", state.join("pid"))
            .flag("log-file", state.join("munged.log"))
            .flag("seed-file", state.join("seed"))
            .start()?;
        server.until_ready(|| socket.exists())?;
        Ok(server)
    }

    /// As Slurm wants it, a file that root may run. The answer is a line of slurm.conf(5).
    fn write_epilog(&self, script: &str) -> Result<String> {
        let file = self.scratch.join("epilog.sh");
        let mut text = "#!/bin/sh\n".to_owned();
        let path = ("PATH", self.installed.path("usr/bin"));
        // Of slurmd's own environment it gets nothing.
        for (name, value) in environment(self.installed, self.scratch)
            .into_iter()
            .chain([path])
        {
            text += &format!("export {name}='{}'\n", value.display());
        }
        text += "PATH=$PATH:/usr/bin:/bin\n";
        text += script;
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        Ok(format!("Epilog={}\n", file.display()))
    }

    /// slurm.conf(5), with `more` lines, and cgroup.conf(5) beside it.
    fn configure(&self, more: &str) -> Result<()> {
        let scratch = self.scratch.display();
        let munge = munge_socket(self.scratch);
        let plugins = self.installed.path(LIBRARIES).join("slurm-wlm");
        let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
        let host = host.trim();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!(
            "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={}
SlurmdPort={}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={}
PluginDir={}
PlugStackConfig=/dev/null
StateSaveLocation={scratch}/slurmctld
SlurmdSpoolDir={scratch}/slurmd
SlurmctldPidFile={scratch}/slurmctld/pid
SlurmdPidFile={scratch}/slurmd/pid
MpiDefault=none
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
MailProg=/bin/true
NodeName={} NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:16
{more}",
            free_port()?,
            free_port()?,
            munge.display(),
            plugins.display(),
            self.node,
        );
        fs::write(configuration(self.scratch), text)?;
        let cgroups = "CgroupAutomount=no\nCgroupMountpoint=/sys/fs/cgroup\n";
        Ok(fs::write(self.scratch.join("cgroup.conf"), cgroups)?)
    }
}

fn command(installed: &Installed, scratch: &Path, name: &str) -> Command {
    let mut command = Command::new(installed.path("usr/bin").join(name));
    command.envs(environment(installed, scratch));
    command
}

/// The libraries are not where the loader looks by itself.
fn environment(installed: &Installed, scratch: &Path) -> [(&'static str, PathBuf); 2] {
    let libraries = installed.path(LIBRARIES);
    let mut path = libraries.clone().into_os_string();
    path.push(":");
    path.push(libraries.join("slurm-wlm"));
    [
        ("SLURM_CONF", configuration(scratch)),
        ("LD_LIBRARY_PATH", path.into()),
    ]
}

fn configuration(scratch: &Path) -> PathBuf {
    scratch.join("slurm.conf")
}

fn munge_socket(scratch: &Path) -> PathBuf {
    scratch.join("munged/socket")
}

fn unique_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    format!("ecotest{}n{number}", std::process::id())
}
