// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is to be known of a Slurm job beside its number: name, user, account, partition, array.
//!
//! The cgroup tells the job and the step ([`crate::path`]). The rest stands in the environment
//! of the job's own processes, which costs the cluster nothing; where it does not, `scontrol`
//! asks the controller. Both happen on a thread of its own, once per job. A process may have
//! changed its environment: who must not trust a user with the name of their own job's account
//! sets `slurm.source` to `scontrol`. The job's number and its user are the kernel's word.

mod environment;
mod scontrol;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

pub use self::scontrol::ScontrolError;
use crate::Advised;

/// Whom to ask about jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The environment, and `scontrol` for what does not stand there.
    #[default]
    Auto,
    /// The environment of the job's processes.
    Environment,
    /// `scontrol`.
    Scontrol,
    /// Nobody: jobs are known by number and user.
    Off,
}

impl Source {
    /// All that can be configured.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Environment, Self::Scontrol, Self::Off];

    /// As the configuration calls it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Environment => "environment",
            Self::Scontrol => "scontrol",
            Self::Off => "off",
        }
    }
}

/// How jobs are looked up.
#[derive(Clone, Debug)]
pub struct SlurmConfig {
    /// Whom to ask.
    pub source: Source,
    /// The program; looked for in the usual places if `None`.
    pub scontrol: Option<PathBuf>,
    /// Where processes are.
    pub procfs: PathBuf,
}

/// Where Slurm keeps its configuration, by distribution and with `--conf-server`.
const CONFIGURATIONS: [&str; 3] = ["/etc/slurm", "/etc/slurm-llnl", "/run/slurm/conf"];

impl SlurmConfig {
    /// Whether the environment of other users' processes is read.
    #[must_use]
    pub fn reads_environments(&self) -> bool {
        let has_slurm = || CONFIGURATIONS.iter().any(|place| Path::new(place).exists());
        match self.source {
            Source::Environment => true,
            Source::Auto => has_slurm() || std::env::var_os("SLURM_CONF").is_some(),
            Source::Scontrol | Source::Off => false,
        }
    }
}

/// A job. Empty is what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlurmJob {
    /// Its number.
    pub id: u32,
    /// The array that it is a task of, and which.
    pub array: Option<(u32, u32)>,
    /// Its name.
    pub name: String,
    /// Its user's name.
    pub user: String,
    /// The account that it is charged to.
    pub account: String,
    /// The partition that it runs in.
    pub partition: String,
}

/// A controller that did not answer is left alone for this long.
const REST: Duration = Duration::from_secs(30);

/// More jobs than this are not remembered: a node runs some hundred at a time.
const MOST_JOBS: usize = 4096;

/// What is known of jobs.
pub struct JobDirectory {
    config: SlurmConfig,
    shared: Arc<Shared>,
    start: Once,
    questions: mpsc::Sender<Question>,
    /// Taken by the thread.
    asked: Mutex<Option<mpsc::Receiver<Question>>>,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<HashMap<u32, Known>>,
    generation: AtomicU64,
    trouble: Mutex<Option<Advised>>,
}

/// What has come of a question.
enum Known {
    /// An answer.
    Job(Arc<SlurmJob>),
    /// Nothing yet: asked, or not to be found out.
    Asked,
}

struct Question {
    job: u32,
    pid: Option<u32>,
}

impl JobDirectory {
    /// A directory that has asked nobody yet.
    #[must_use]
    pub fn new(config: SlurmConfig) -> Self {
        let (questions, asked) = mpsc::channel();
        Self {
            config,
            shared: Arc::default(),
            start: Once::new(),
            questions,
            asked: Mutex::new(Some(asked)),
        }
    }

    /// What is known of a job.
    #[must_use]
    pub fn job(&self, id: u32) -> Option<Arc<SlurmJob>> {
        match lock(&self.shared.jobs).get(&id)? {
            Known::Job(job) => Some(Arc::clone(job)),
            Known::Asked => None,
        }
    }

    /// A number that is another one whenever more is known.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Has a job looked up, of which `pid` is a process. The first time this starts the thread;
    /// what is known is not asked again.
    pub fn want(&self, id: u32, pid: Option<u32>) {
        if self.config.source == Source::Off {
            return;
        }
        {
            let mut jobs = lock(&self.shared.jobs);
            if jobs.len() >= MOST_JOBS || matches!(jobs.get(&id), Some(Known::Job(_))) {
                return;
            }
            jobs.insert(id, Known::Asked);
        }
        self.start.call_once(|| {
            let Some(asked) = lock(&self.asked).take() else {
                return;
            };
            let (config, shared) = (self.config.clone(), Arc::clone(&self.shared));
            // Without a thread jobs go by their numbers.
            let _ = thread::Builder::new()
                .name("eco-slurm".into())
                .spawn(move || answer(&config, &shared, &asked));
        });
        // Refused only where no thread could be started.
        let _ = self.questions.send(Question { job: id, pid });
    }

    /// A job has ended, and its last joule was exported.
    pub fn forget(&self, id: u32) {
        lock(&self.shared.jobs).remove(&id);
    }

    /// What is wrong with `scontrol`, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<Advised> {
        lock(&self.shared.trouble).clone()
    }
}

/// Answers until the directory is dropped.
fn answer(config: &SlurmConfig, shared: &Shared, asked: &mpsc::Receiver<Question>) {
    let mut rests_until: Option<Instant> = None;
    for Question { job, pid } in asked {
        let is_known = || matches!(lock(&shared.jobs).get(&job), Some(Known::Job(_)));
        if is_known() {
            continue;
        }
        let environment = match config.source {
            Source::Auto | Source::Environment => {
                pid.and_then(|pid| environment::job(&config.procfs, pid, job))
            }
            Source::Scontrol | Source::Off => None,
        };
        let may_ask = matches!(config.source, Source::Auto | Source::Scontrol);
        let is_resting = rests_until.is_some_and(|until| Instant::now() < until);
        let found = match environment {
            None if may_ask && !is_resting => {
                let asked = scontrol::job(config.scontrol.as_deref(), job);
                let trouble = asked.as_ref().err();
                rests_until = trouble.map(|_| Instant::now() + REST);
                *lock(&shared.trouble) = trouble.map(ScontrolError::advised);
                asked.ok()
            }
            found => found,
        };
        if let Some(found) = found {
            // Unless it ended meanwhile.
            if let Some(known) = lock(&shared.jobs).get_mut(&job) {
                *known = Known::Job(Arc::new(found));
                shared.generation.fetch_add(1, Ordering::Release);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that may be shown: bounded, and without control characters.
fn plain(text: &str) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(256).collect()
}

#[cfg(test)]
mod tests;
