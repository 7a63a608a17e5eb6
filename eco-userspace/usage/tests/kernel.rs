// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ledger on the running kernel: what it charges against what the kernel itself counted.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic names the line that failed"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says so on its output")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use eco_usage::{Frame, Tier, Usage, Wanted};

fn open() -> Option<Usage> {
    let opened = eco_usage::open(Wanted::Best, PathBuf::from("/proc"));
    if opened.usage.tier() == Tier::Iter {
        return Some(opened.usage);
    }
    println!(
        "skipped: the kernel does not let this test load BPF: {}",
        opened.reason
    );
    None
}

/// A v2 cgroup of the test's own, removed with it.
struct Home {
    folder: PathBuf,
    path: String,
}

impl Home {
    fn new(usage: &Usage, name: &str) -> Option<Self> {
        let mount = usage.mounts().unified.clone()?;
        let path = format!("/eco-test-{name}-{}", std::process::id());
        let folder = mount.join(path.trim_start_matches('/'));
        if let Err(why) = fs::create_dir(&folder) {
            println!(
                "skipped: no cgroup can be made at {}: {why}",
                folder.display()
            );
            return None;
        }
        Some(Self { folder, path })
    }

    /// One below this.
    fn inner(&self, name: &str) -> Self {
        let (folder, path) = (self.folder.join(name), format!("{}/{name}", self.path));
        fs::create_dir(&folder).unwrap();
        Self { folder, path }
    }

    fn run(&self, script: &str) {
        let script = format!("echo $$ > {}/cgroup.procs; {script}", self.folder.display());
        let status = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{script}");
    }

    fn kernel_ns(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join("cpu.stat")).unwrap();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("usage_usec "))
            .unwrap();
        line.trim().parse::<u64>().unwrap() * 1000
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

fn charged_in(usage: &Usage, frame: &Frame, path: &str) -> u64 {
    let inside = |c: &&eco_usage::Charge| {
        let paths = usage.cgroup(c.cgroup).and_then(|c| c.paths.as_ref());
        paths.is_some_and(|p| p.unified == path || p.unified.starts_with(&format!("{path}/")))
    };
    frame.charges.iter().filter(inside).map(|c| c.ns).sum()
}

#[test]
fn what_short_lived_children_used_is_charged_in_their_cgroup_to_the_microsecond() {
    let Some(mut usage) = open() else { return };
    let Some(home) = Home::new(&usage, "short") else {
        return;
    };
    assert!(usage.watch(&home.path));
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    let mut charged = 0;
    for _ in 0..3 {
        home.run("i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done");
        usage.sample(&mut frame).unwrap();
        charged += charged_in(&usage, &frame, &home.path);
    }
    usage.sample(&mut frame).unwrap();
    charged += charged_in(&usage, &frame, &home.path);
    let counted = home.kernel_ns();
    let off = charged.abs_diff(counted);
    assert!(
        off <= counted / 1000,
        "charged {charged} ns, the kernel counted {counted} ns"
    );
    println!("{:?}", frame.counters);
}

#[test]
fn threads_that_come_and_go_are_charged_to_their_process() {
    let Some(mut usage) = open() else { return };
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    let before = process_cpu_ns();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        for _ in 0..50 {
            thread::spawn(|| std::hint::black_box((0..20_000u64).sum::<u64>()))
                .join()
                .unwrap();
        }
    }
    thread::sleep(Duration::from_millis(200));
    usage.sample(&mut frame).unwrap();
    let used = process_cpu_ns() - before;
    let mine = own_charge(&usage, &frame);
    // The process's own clock misses what a thread did since the last clock tick when it left.
    assert!(mine + mine / 50 >= used, "charged {mine} ns of {used} ns");
}

#[test]
fn a_process_that_was_there_before_us_is_charged_only_what_it_uses_from_now_on() {
    let Some(mut usage) = open() else { return };
    let mut frame = Frame::default();
    let before_first = process_cpu_ns();
    usage.sample(&mut frame).unwrap();
    assert_eq!(frame.charges, []);
    assert!(frame.processes > 0);
    let after_first = process_cpu_ns();
    while process_cpu_ns() - after_first < 50_000_000 {}
    let least = process_cpu_ns() - after_first;
    usage.sample(&mut frame).unwrap();
    let most = process_cpu_ns() - before_first;
    let mine = own_charge(&usage, &frame);
    assert!(
        (least * 9 / 10..=most * 11 / 10).contains(&mine),
        "charged {mine} ns of {least} to {most} ns"
    );
}

#[test]
fn every_charge_has_an_owner_or_a_cgroup_and_none_is_larger_than_the_tick_allows() {
    let Some(mut usage) = open() else { return };
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    let cpus = thread::available_parallelism().unwrap().get() as u64;
    let mut last = Instant::now();
    for _ in 0..10 {
        let _ = Command::new("sh")
            .args(["-c", "for i in 1 2 3 4 5; do /bin/true & done; wait"])
            .status();
        let waited = last.elapsed().as_nanos() as u64;
        last = Instant::now();
        usage.sample(&mut frame).unwrap();
        let sum: u64 = frame.charges.iter().map(|c| c.ns).sum();
        // Late records may bring what was used some ticks ago.
        assert!(
            sum <= 5 * cpus * waited,
            "{sum} ns in {waited} ns on {cpus} CPUs"
        );
        let mut seen = HashMap::new();
        for charge in &frame.charges {
            assert!(usage.cgroup(charge.cgroup).is_some());
            assert!(
                charge
                    .owner
                    .is_none_or(|slot| usage.process(slot).is_some())
            );
            let twice = seen.insert((charge.owner, charge.own, charge.cgroup), ());
            assert!(twice.is_none(), "{charge:?} twice");
        }
    }
}

fn own_charge(usage: &Usage, frame: &Frame) -> u64 {
    let me = std::process::id();
    let is_mine = |c: &&eco_usage::Charge| {
        c.own
            && c.owner
                .and_then(|slot| usage.process(slot))
                .is_some_and(|p| p.key.pid == me)
    };
    frame.charges.iter().filter(is_mine).map(|c| c.ns).sum()
}

fn process_cpu_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec, a constant clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn procfs_finds_the_same_processes() {
    let Some(mut usage) = open() else { return };
    let mut plain = eco_usage::open(Wanted::Procfs, PathBuf::from("/proc")).usage;
    let mut frame = Frame::default();
    // The hidden are found by the second comparison, at the latest.
    for _ in 0..20 {
        usage.sample(&mut frame).unwrap();
    }
    plain.sample(&mut frame).unwrap();
    usage.sample(&mut Frame::default()).unwrap();
    let alive = |usage: &Usage| {
        let mut pids: Vec<u32> = usage.processes().map(|(_, p)| p.key.pid).collect();
        pids.retain(|pid| Path::new("/proc").join(pid.to_string()).exists());
        pids.sort_unstable();
        pids
    };
    let (by_bpf, by_procfs) = (alive(&usage), alive(&plain));
    let missing: Vec<_> = by_procfs
        .iter()
        .filter(|pid| !by_bpf.contains(pid))
        .collect();
    assert!(missing.len() <= 2, "BPF does not see {missing:?}");
}

#[test]
fn a_cgroup_within_a_watched_one_is_not_charged_twice() {
    let Some(mut usage) = open() else { return };
    let Some(outer) = Home::new(&usage, "outer") else {
        return;
    };
    let inner = outer.inner("inner");
    assert!(usage.watch(&outer.path));
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    let mut charged = 0;
    for _ in 0..3 {
        assert!(usage.watch(&inner.path));
        // The dead are still on their way when the kernel's totals are read and the watch ends.
        inner.run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
        usage.sample(&mut frame).unwrap();
        charged += charged_in(&usage, &frame, &outer.path);
        usage.unwatch(&inner.path);
    }
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(50));
        usage.sample(&mut frame).unwrap();
        charged += charged_in(&usage, &frame, &outer.path);
    }
    let counted = outer.kernel_ns();
    assert!(counted > 50_000_000, "{counted} ns is too little to tell");
    let off = charged.abs_diff(counted);
    assert!(
        // Each shell's start, before it moved in, is in its record and not in the cgroup's total.
        off <= counted / 50,
        "charged {charged} ns, the kernel counted {counted} ns"
    );
}

#[test]
fn what_an_orphan_had_reaped_is_not_charged_again_to_whoever_reaps_the_orphan() {
    let Some(mut usage) = open() else { return };
    // SAFETY: takes numbers. Orphans of this process's children are its own from now on.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    // A mother whose child has reaped half a second of work; all three end at once.
    let work = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    let script = format!("sh -c '( {work} ); echo $$; exec sleep 600' & wait");
    let mut mother = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let said = mother.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).unwrap();
    let orphan: i32 = line.trim().parse().unwrap();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(50));
        usage.sample(&mut frame).unwrap();
    }
    let before = process_cpu_ns() + reaped_ns();
    mother.kill().unwrap();
    mother.wait().unwrap();
    // SAFETY: a process that this test has started, and that only this process can reap.
    unsafe {
        libc::kill(orphan, libc::SIGKILL);
        libc::waitpid(orphan, std::ptr::null_mut(), 0);
    }
    assert!(
        process_cpu_ns() + reaped_ns() - before > 100_000_000,
        "too little to tell"
    );
    let mut mine = 0;
    for tick in 0..8 {
        // At first at once: their last records have not come yet.
        thread::sleep(Duration::from_millis(50 * tick.min(1)));
        usage.sample(&mut frame).unwrap();
        mine += charged_to_me_for_children(&usage, &frame);
    }
    assert!(mine < 100_000_000, "{mine} ns are charged again");
}

/// What this process is charged for children in its own cgroup.
fn charged_to_me_for_children(usage: &Usage, frame: &Frame) -> u64 {
    let for_me = |c: &&eco_usage::Charge| {
        let owner = c.owner.and_then(|slot| usage.process(slot));
        owner.is_some_and(|p| p.key.pid == std::process::id() && p.cgroup == c.cgroup && !c.own)
    };
    frame.charges.iter().filter(for_me).map(|c| c.ns).sum()
}

fn reaped_ns() -> u64 {
    // SAFETY: rusage is plain data, and a live local while the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

#[test]
fn a_cgroup_that_came_and_went_between_two_samples_has_its_name() {
    let Some(mut usage) = open() else { return };
    let Some(home) = Home::new(&usage, "brief") else {
        return;
    };
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    let inner = home.inner("inner");
    let path = inner.path.clone();
    inner.run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    let counted = inner.kernel_ns();
    drop(inner);
    assert!(counted > 20_000_000, "{counted} ns is too little to tell");
    let least = counted / 10 * 9;
    assert!(sampled_in(&mut usage, &mut frame, &path, least) >= least);
}

#[test]
fn who_was_moved_after_the_last_sample_is_charged_where_it_ended() {
    let Some(mut usage) = open() else { return };
    let Some(home) = Home::new(&usage, "moved") else {
        return;
    };
    let mut frame = Frame::default();
    usage.sample(&mut frame).unwrap();
    let script = "read line; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    usage.sample(&mut frame).unwrap();
    fs::write(home.folder.join("cgroup.procs"), child.id().to_string()).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    let counted = home.kernel_ns();
    assert!(counted > 20_000_000, "{counted} ns is too little to tell");
    let least = counted / 10 * 9;
    assert!(sampled_in(&mut usage, &mut frame, &home.path, least) >= least);
}

/// What is charged in a cgroup until its dead have been told of, which may take several samples.
fn sampled_in(usage: &mut Usage, frame: &mut Frame, path: &str, least: u64) -> u64 {
    let mut charged = 0;
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(20));
        usage.sample(frame).unwrap();
        charged += charged_in(usage, frame, path);
        if charged >= least {
            break;
        }
    }
    charged
}
