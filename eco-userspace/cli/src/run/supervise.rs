// SPDX-License-Identifier: Apache-2.0 OR MIT
//! While the command runs: signals go on to it, children are reaped, meters are read.

use std::{
    io,
    time::{Duration, Instant},
};

use eco_usage::reaper::{End, Living, Look, Reaper};
use jiff::Timestamp;

use super::{cgroup::JobCgroup, job::Job, plain::PlainMeters};
use crate::{
    exit::warn,
    out::printable,
    signals::{self, Signal, Signals},
};

/// How often the plain meters are read, where they are the only ones.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often they are read beside an agent, in case that fails.
const RARE_SAMPLE: Duration = Duration::from_secs(10);
/// A look through procfs comes no sooner than this many times what the last one took: it may
/// cost a hundredth of one CPU, however many processes there are.
const THRIFT: u32 = 100;
/// How long leftovers are waited for without a word.
const QUIET: Duration = Duration::from_secs(2);
/// The longest chain of parents that is followed.
const DEEPEST: usize = 1_000;

/// Watches over a running job.
pub(crate) struct Supervisor<'a> {
    /// The command's process.
    pub(crate) main: i32,
    /// The job's name.
    pub(crate) name: &'a str,
    /// The signals to pass on.
    pub(crate) signals: &'a Signals,
    /// Accounts for what has ended.
    pub(crate) reaper: &'a mut Reaper,
    /// Read once a second.
    pub(crate) meters: &'a mut PlainMeters,
    /// Hears of the private agent's end.
    pub(crate) job: &'a mut Job,
    /// Whether to wait for what outlives the command.
    pub(crate) wait: bool,
}

/// How a job ended.
pub(crate) struct Ended {
    /// The command's process; `None` if it never ran.
    pub(crate) main_pid: Option<i32>,
    /// The command's exit status, as a shell gives it.
    pub(crate) status: i32,
    /// When the job ended.
    pub(crate) at: Timestamp,
    /// When the job ended.
    pub(crate) clock: Instant,
    /// CPU time of the job: of its cgroup, or from resource usage and procfs.
    pub(crate) job_cpu: Duration,
    /// Processes of the job that still run.
    pub(crate) left: u64,
}

/// Whether this process has children.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Children {
    Some,
    None,
}

/// When to do what next.
struct Due {
    /// Read the meters.
    sample: Option<Instant>,
    /// Look whether anything of the job is left.
    look: Option<Instant>,
    no_look_before: Instant,
    /// Say what is waited for.
    word: Option<Instant>,
}

impl Due {
    fn new(sample_interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            sample: Some(now + sample_interval),
            look: None,
            no_look_before: now,
            word: None,
        }
    }

    /// Whether something is due now; then it is not any more.
    fn take(when: &mut Option<Instant>, now: Instant) -> bool {
        when.take_if(|when| *when <= now).is_some()
    }

    /// Until the next thing is due.
    fn time_left(&self) -> Duration {
        let next = [self.sample, self.look, self.word]
            .into_iter()
            .flatten()
            .min();
        next.map_or(RARE_SAMPLE, |next| {
            next.saturating_duration_since(Instant::now())
        })
    }
}

impl Ended {
    /// For a command that could not be started.
    pub(crate) fn not_started(status: i32) -> Self {
        Self {
            main_pid: None,
            status,
            at: Timestamp::now(),
            clock: Instant::now(),
            job_cpu: Duration::ZERO,
            left: 0,
        }
    }
}

impl Supervisor<'_> {
    /// Runs until the job has ended, or is waited for no more.
    ///
    /// # Errors
    /// When children cannot be waited for.
    pub(crate) fn run(mut self) -> io::Result<Ended> {
        let mut main_end: Option<End> = None;
        let mut due = Due::new(self.sample_interval());
        let children = loop {
            let children = self.reap(&mut main_end, &mut due)?;
            if main_end.is_some() && (children == Children::None || !self.wait) {
                break children;
            }
            let now = Instant::now();
            let speak = Due::take(&mut due.word, now);
            if Due::take(&mut due.look, now) || speak {
                let left = self.left();
                if left.is_empty() {
                    break Children::None;
                }
                due.no_look_before = now + now.elapsed() * THRIFT;
                if speak {
                    self.announce(&left);
                }
            }
            if Due::take(&mut due.sample, now) {
                self.meters.sample(self.job_cpu());
                due.sample = Some(now + self.sample_interval().max(now.elapsed() * THRIFT));
            }
            if let Some(signal) = self.signals.wait(due.time_left())
                && self.handle(signal, main_end.is_some())
            {
                break children;
            }
        };
        Ok(self.end(main_end.map_or(0, End::shell_status), children))
    }

    fn sample_interval(&self) -> Duration {
        if self.job.has_agent() {
            RARE_SAMPLE
        } else {
            SAMPLE
        }
    }

    fn end(self, status: i32, children: Children) -> Ended {
        let (at, clock) = (Timestamp::now(), Instant::now());
        let (job_cpu, left) = match children {
            Children::None => (self.booked(), 0),
            Children::Some => (self.job_cpu(), self.left().len() as u64),
        };
        self.meters.sample(job_cpu);
        Ended {
            main_pid: Some(self.main),
            status,
            at,
            clock,
            job_cpu,
            left,
        }
    }

    /// Reaps all that has ended, and notes what is due then.
    fn reap(&mut self, main_end: &mut Option<End>, due: &mut Due) -> io::Result<Children> {
        loop {
            let child = match self.reaper.look()? {
                Look::Reaped(child) => child,
                Look::AllAlive => return Ok(Children::Some),
                Look::NoChildren => return Ok(Children::None),
            };
            if child.stranger {
                self.job.stranger_ended(child.pid);
            } else if child.pid == self.main && main_end.is_none() {
                *main_end = Some(child.end);
                due.word = Some(Instant::now() + QUIET);
            }
            // Whoever ends last of the job ends as a child of ours. Without strangers the
            // kernel then says that there are no children; with them it takes a look.
            if main_end.is_some() && self.reaper.has_strangers() {
                due.look.get_or_insert(due.no_look_before);
            }
        }
    }

    /// The job's processes that still run.
    fn left(&self) -> Vec<Living> {
        if let Some(cgroup) = self.job.cgroup() {
            return cgroup.members().into_iter().map(member).collect();
        }
        let look = || {
            let mut left = self.reaper.living();
            left.retain(|process| !process.zombie);
            left
        };
        // One look at procfs can miss a process that was just forked by one that has just
        // died; a second one cannot miss it again.
        let first = look();
        if first.is_empty() { look() } else { first }
    }

    /// CPU time of the job so far.
    fn job_cpu(&self) -> Duration {
        if self.job.cgroup().is_some() {
            return self.booked();
        }
        self.booked()
            + self
                .reaper
                .living()
                .iter()
                .map(|process| process.cpu)
                .sum::<Duration>()
    }

    /// CPU time that the kernel has booked for the job: in its cgroup, or else as resource
    /// usage of what has ended.
    fn booked(&self) -> Duration {
        let dead = self.reaper.dead_cpu();
        self.job
            .cgroup()
            .and_then(JobCgroup::cpu)
            .map_or(dead, |cgroup| cgroup.max(dead))
    }

    fn announce(&self, left: &[Living]) {
        let mut names: Vec<&str> = left.iter().map(|process| process.comm.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let more = if names.len() > 5 { ", …" } else { "" };
        names.truncate(5);
        let processes = if left.len() == 1 {
            "process"
        } else {
            "processes"
        };
        warn(&format!(
            "{} has exited; waiting for {} {processes} that it left behind ({}{more}); Ctrl-C \
             stops waiting",
            printable(self.name),
            left.len(),
            printable(&names.join(", ")),
        ));
    }

    /// Deals with a signal. Says whether to wait no more.
    fn handle(&self, signal: Signal, main_has_ended: bool) -> bool {
        if signal.number == libc::SIGCHLD {
            return false;
        }
        if main_has_ended && signal.asks_to_end() {
            return true;
        }
        // What a terminal sends reaches the command by itself: it is in the same process
        // group. What a process of the job sent is for eco: it could have sent it to itself.
        if let Some(sender) = signal.sender
            && !main_has_ended
            && !descends(sender, self.main)
        {
            signals::send(self.main, signal.number);
        }
        if signal.number == libc::SIGTSTP {
            // The shell that started us waits for us to stop, not for the command.
            signals::send(std::process::id() as i32, libc::SIGSTOP);
        }
        false
    }
}

/// A process of a cgroup, with its name.
fn member(pid: i32) -> Living {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Living {
        pid,
        comm: comm.trim_end().to_owned(),
        cpu: Duration::ZERO,
        zombie: false,
    }
}

/// Whether `pid` is `ancestor` or descends from it.
fn descends(mut pid: i32, ancestor: i32) -> bool {
    for _ in 0..DEEPEST {
        if pid == ancestor {
            return true;
        }
        if pid <= 1 {
            return false;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        match parent.and_then(|parent| parent.trim().parse().ok()) {
            Some(parent) => pid = parent,
            None => return false,
        }
    }
    false
}
