// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CPU time of a process tree without any privilege: the child subreaper.
//!
//! The caller becomes the subreaper of its descendants (`PR_SET_CHILD_SUBREAPER`), so that a
//! process whose parent dies becomes the caller's own child, however it daemonised. Each child
//! that is reaped with `wait4` brings its resource usage: its own and that of every descendant
//! that *it* had reaped. So each CPU second arrives once, whoever reaped it, and what still
//! runs is read from procfs.
//!
//! What this cannot see:
//! - a child of a process that ignores `SIGCHLD` (or set `SA_NOCLDWAIT`) is reaped by the
//!   kernel, which then adds its CPU time to nobody: it is lost;
//! - how many processes there were below one that reaped them itself: the count is "at least";
//! - a living process to better than a clock tick, once one of its threads has died;
//! - a process that another subreaper below (a container's init, systemd) keeps running.

use std::{
    collections::{HashMap, HashSet},
    fs, io, mem,
    path::{Path, PathBuf},
    time::Duration,
};

/// Accounts for everything that descends from this process.
///
/// One per process: `wait4` takes any child, so nobody else may wait for the tree's meanwhile.
#[derive(Debug)]
pub struct Reaper {
    procfs: PathBuf,
    own: i32,
    strangers: HashSet<i32>,
    cpu: Duration,
    reaped: u64,
}

/// A child that has ended and was reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its process id.
    pub pid: i32,
    /// How it ended.
    pub end: End,
    /// CPU time of it and of every descendant that it had reaped.
    pub cpu: Duration,
    /// Whether it was set apart: then its CPU time is not in [`Reaper::dead_cpu`].
    pub stranger: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl End {
    /// The exit status as a shell gives it: 128 + n for a signal n.
    #[must_use]
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// What a look for dead children found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A child had ended.
    Reaped(Reaped),
    /// There are children, and all of them live.
    AllAlive,
    /// There are no children at all.
    NoChildren,
}

/// A descendant that lives (or has ended and waits for its parent to notice).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its process id.
    pub pid: i32,
    /// Its command name, as the kernel keeps it.
    pub comm: String,
    /// CPU time of it and of the descendants that it has reaped.
    pub cpu: Duration,
    /// Whether it has ended already and only waits to be reaped.
    pub zombie: bool,
}

impl Reaper {
    /// Makes the caller the subreaper of its descendants. `procfs` is where `/proc` is mounted.
    ///
    /// Children that the caller has already (a shell may `exec` a program beside running jobs)
    /// are set apart: they are reaped, but are none of the tree's.
    ///
    /// # Errors
    /// When the kernel refuses the subreaper (before Linux 3.4), or when `SIGCHLD` cannot be
    /// set back to its default: an inherited "ignore" would make every exit invisible.
    pub fn new(procfs: &Path) -> io::Result<Self> {
        // SAFETY: plain integers; no memory is passed.
        if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: SIG_DFL is a valid disposition and no handler of ours is replaced.
        if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let strangers = if has_children() {
            children_of(procfs, own)
        } else {
            HashSet::new()
        };
        Ok(Self {
            procfs: procfs.to_owned(),
            own,
            strangers,
            cpu: Duration::ZERO,
            reaped: 0,
        })
    }

    /// Sets a child apart: it and what descends from it are not counted.
    pub fn set_apart(&mut self, pid: i32) {
        self.strangers.insert(pid);
    }

    /// Forgets a child that was set apart and that somebody else has reaped: its number may come
    /// again for a process of the tree.
    pub fn forget(&mut self, pid: i32) {
        self.strangers.remove(&pid);
    }

    /// Whether any child that was set apart has not been reaped yet. Without such a child,
    /// [`Look::NoChildren`] means that the whole tree has ended.
    #[must_use]
    pub fn has_strangers(&self) -> bool {
        !self.strangers.is_empty()
    }

    /// Reaps one child that has ended, without waiting.
    ///
    /// # Errors
    /// What `wait4` says, other than that there are no children.
    pub fn look(&mut self) -> io::Result<Look> {
        let mut status = 0;
        // SAFETY: rusage is plain old data; all zeroes is a valid value.
        let mut usage: libc::rusage = unsafe { mem::zeroed() };
        let pid = loop {
            // SAFETY: both pointers are to live locals of the right types.
            let pid = unsafe {
                libc::wait4(
                    -1,
                    &raw mut status,
                    libc::WNOHANG | libc::__WALL,
                    &raw mut usage,
                )
            };
            if pid >= 0 {
                break pid;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ECHILD) => return Ok(Look::NoChildren),
                _ => return Err(error),
            }
        };
        if pid == 0 {
            return Ok(Look::AllAlive);
        }
        let end = if libc::WIFSIGNALED(status) {
            End::Killed(libc::WTERMSIG(status))
        } else {
            End::Exited(libc::WEXITSTATUS(status))
        };
        let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
        // Removed, because its number may come again for a process of the tree.
        let stranger = self.strangers.remove(&pid);
        if !stranger {
            self.cpu += cpu;
            self.reaped += 1;
        }
        Ok(Look::Reaped(Reaped {
            pid,
            end,
            cpu,
            stranger,
        }))
    }

    /// CPU time of everything that has been reaped so far.
    #[must_use]
    pub fn dead_cpu(&self) -> Duration {
        self.cpu
    }

    /// Processes reaped by the caller itself; those below that their parents reaped are not
    /// in it, so there were at least this many.
    #[must_use]
    pub fn dead_count(&self) -> u64 {
        self.reaped
    }

    /// Every descendant that lives, from one walk through procfs. Processes that come or go
    /// during the walk may be missing; one that cannot be read is skipped.
    #[must_use]
    pub fn living(&self) -> Vec<Living> {
        let mut stats = HashMap::new();
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for stat in all_stats(&self.procfs) {
            children.entry(stat.parent).or_default().push(stat.pid);
            stats.insert(stat.pid, stat);
        }
        let mut found = Vec::new();
        let mut open = vec![self.own];
        while let Some(parent) = open.pop() {
            for pid in children.remove(&parent).unwrap_or_default() {
                if self.strangers.contains(&pid) {
                    continue;
                }
                if let Some(stat) = stats.remove(&pid) {
                    found.push(stat.living(&self.procfs));
                }
                open.push(pid);
            }
        }
        found
    }
}

/// What one line of `/proc/PID/stat` says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    comm: String,
    zombie: bool,
    parent: i32,
    own_ticks: u64,
    reaped_ticks: u64,
}

impl Stat {
    /// `None` for anything that is not such a line.
    fn parse(line: &str) -> Option<Self> {
        // A command name may hold blanks and brackets, so its end is the last bracket.
        let (pid, rest) = line.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1 with pid and comm first: field n is fields[n - 3].
        let number = |n: usize| {
            fields
                .get(n - 3)?
                .parse::<i64>()
                .ok()
                .map(|t| t.max(0) as u64)
        };
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            // A first thread that has exited shows as a zombie while the others live on.
            zombie: matches!(*fields.first()?, "Z" | "X") && number(20)? <= 1,
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(14)?.saturating_add(number(15)?),
            reaped_ticks: number(16)?.saturating_add(number(17)?),
        })
    }

    fn living(self, procfs: &Path) -> Living {
        // The threads' own clocks are exact but forget dead threads; the process's ticks
        // remember them but are coarse. Each is a lower bound, so the larger is nearer.
        let own = ticks_to_duration(self.own_ticks).max(threads_cpu(procfs, self.pid));
        let cpu = own + ticks_to_duration(self.reaped_ticks);
        Living {
            pid: self.pid,
            comm: self.comm,
            cpu,
            zombie: self.zombie,
        }
    }
}

fn all_stats(procfs: &Path) -> impl Iterator<Item = Stat> {
    fs::read_dir(procfs)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.parse::<u32>().ok()?;
            // Bytes, because a command name need not be UTF-8.
            let line = fs::read(entry.path().join("stat")).ok()?;
            Stat::parse(&String::from_utf8_lossy(&line))
        })
}

fn children_of(procfs: &Path, parent: i32) -> HashSet<i32> {
    let children = all_stats(procfs).filter(|stat| stat.parent == parent);
    children.map(|stat| stat.pid).collect()
}

/// Whether this process has children, dead or alive: much cheaper than a walk through procfs.
fn has_children() -> bool {
    // SAFETY: siginfo_t is plain old data, and a live local while the kernel fills it.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0
    }
}

/// The sum of the living threads' run time, from `schedstat` (ns); zero where the kernel has
/// no `CONFIG_SCHED_INFO`.
fn threads_cpu(procfs: &Path, pid: i32) -> Duration {
    let tasks = fs::read_dir(procfs.join(pid.to_string()).join("task"));
    let nanoseconds = tasks.into_iter().flatten().flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.fold(0, u64::saturating_add))
}

fn ticks_to_duration(ticks: u64) -> Duration {
    // SAFETY: no memory is passed.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u64::try_from(per_second).unwrap_or(100).max(1);
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pid: i32, comm: &str, parent: i32, times: [i64; 4]) -> String {
        let [utime, stime, cutime, cstime] = times;
        format!(
            "{pid} ({comm}) S {parent} 1 1 0 -1 4194304 0 0 0 0 {utime} {stime} {cutime} {cstime} \
             20 0 1 0 100 0 0\n"
        )
    }

    fn reaper_on(procfs: &Path, own: i32) -> Reaper {
        Reaper {
            procfs: procfs.to_owned(),
            own,
            strangers: HashSet::new(),
            cpu: Duration::ZERO,
            reaped: 0,
        }
    }

    struct FakeProc(PathBuf);

    impl FakeProc {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("eco-reaper-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn add(&self, pid: i32, comm: &str, parent: i32, times: [i64; 4]) {
            fs::create_dir_all(self.0.join(pid.to_string())).unwrap();
            fs::write(
                self.0.join(format!("{pid}/stat")),
                line(pid, comm, parent, times),
            )
            .unwrap();
        }
    }

    impl Drop for FakeProc {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_command_name_with_brackets_and_blanks_is_read_whole() {
        let stat = Stat::parse(&line(7, "a) S 1 (b", 3, [10, 20, 30, 40])).unwrap();
        assert_eq!((stat.comm.as_str(), stat.parent), ("a) S 1 (b", 3));
        assert_eq!((stat.own_ticks, stat.reaped_ticks), (30, 70));
    }

    #[test]
    fn a_line_that_is_cut_or_garbage_is_no_process() {
        let whole = line(7, "x", 3, [1, 2, 3, 4]);
        for text in ["", "7", "7 (x", "7 (x) S", "x (x) S 3", &whole[..30]] {
            assert_eq!(Stat::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn negative_times_count_as_none() {
        let stat = Stat::parse(&line(7, "x", 3, [-5, 2, -1, -1])).unwrap();
        assert_eq!((stat.own_ticks, stat.reaped_ticks), (2, 0));
    }

    #[test]
    fn living_finds_the_whole_tree_and_nobody_else() {
        let procfs = FakeProc::new("tree");
        procfs.add(1, "init", 0, [0; 4]);
        procfs.add(10, "eco", 1, [0; 4]);
        procfs.add(11, "sh", 10, [1, 0, 0, 0]);
        procfs.add(12, "burn", 11, [100, 0, 0, 0]);
        procfs.add(20, "other", 1, [0; 4]);
        fs::write(procfs.0.join("12/stat.tmp"), "").unwrap();
        let mut pids: Vec<i32> = reaper_on(&procfs.0, 10)
            .living()
            .into_iter()
            .map(|l| l.pid)
            .collect();
        pids.sort_unstable();
        assert_eq!(pids, [11, 12]);
    }

    #[test]
    fn what_descends_from_a_stranger_is_a_stranger() {
        let procfs = FakeProc::new("stranger");
        procfs.add(11, "agent", 10, [9; 4]);
        procfs.add(12, "helper", 11, [9; 4]);
        procfs.add(13, "job", 10, [1, 1, 1, 1]);
        let mut reaper = reaper_on(&procfs.0, 10);
        reaper.set_apart(11);
        let living = reaper.living();
        assert_eq!(living.len(), 1);
        assert_eq!((living[0].pid, living[0].cpu), (13, ticks_to_duration(4)));
    }

    #[test]
    fn an_unreadable_process_costs_only_itself() {
        let procfs = FakeProc::new("unreadable");
        procfs.add(11, "a", 10, [1, 0, 0, 0]);
        fs::create_dir_all(procfs.0.join("12")).unwrap();
        fs::create_dir_all(procfs.0.join("13/stat")).unwrap();
        fs::create_dir_all(procfs.0.join("14")).unwrap();
        fs::write(procfs.0.join("14/stat"), b"14 (\xff\xfe) R 10 1 1").unwrap();
        assert_eq!(reaper_on(&procfs.0, 10).living().len(), 1);
    }

    #[test]
    fn a_signal_reads_as_a_shell_says_it() {
        assert_eq!(End::Killed(libc::SIGTERM).shell_status(), 143);
        assert_eq!(End::Exited(7).shell_status(), 7);
    }
}
