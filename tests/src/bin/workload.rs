// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Work of a known size, for others to measure.
//!
//! Every command ends by writing to the file of `--report`, as JSON, what the kernel says that
//! this process and its reaped children used.

use std::{
    env, fs, io, mem,
    path::PathBuf,
    process::{self, Command},
    ptr, thread,
    time::{Duration, Instant},
};

use eco_tests::workload::Report;

const USAGE: &str = "\
usage: workload [--report FILE] COMMAND
  burn SECONDS [THREADS]           each thread burns that much CPU time
  phases SECONDS COUNT             burns COUNT times, and stops itself before, between and after
  storm COUNT MICROSECONDS         children one after the other, each burning that much
  churn SECONDS                    processes of all kinds come and go
  daemon SECONDS                   leaves a daemon behind that burns and reports
  sleepers PROCESSES THREADS       reports, and sleeps until it is killed
  switch BLOCKS SWITCHES           two processes on one CPU that wake each other";

fn main() {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let mut file = None;
    if words.first().is_some_and(|word| word == "--report") && words.len() > 1 {
        file = Some(PathBuf::from(&words[1]));
        words.drain(..2);
    }
    let to = ReportTo(file);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut ns_per_switch = 0.0;
    match *words.as_slice() {
        ["burn", seconds] => burn(span(seconds)),
        ["burn", seconds, threads] => burn_on(number(threads), span(seconds)),
        ["phases", seconds, count] => phases(span(seconds), number(count)),
        ["storm", count, micros] => storm(number(count), Duration::from_micros(number(micros))),
        ["churn", seconds] => churn(span(seconds)),
        ["daemon", seconds] => return daemon(span(seconds), &to),
        ["sleepers", processes, threads] => sleepers(number(processes), number(threads), &to),
        ["switch", blocks, switches] => ns_per_switch = switch(number(blocks), number(switches)),
        _ => fail(USAGE),
    }
    to.write(ns_per_switch);
}

struct ReportTo(Option<PathBuf>);

impl ReportTo {
    fn write(&self, ns_per_switch: f64) {
        let Some(file) = &self.0 else { return };
        let report = Report {
            cpu_us: used_us(),
            ns_per_switch,
        };
        let text = serde_json::to_string(&report).unwrap_or_default();
        // Whoever waits for the file must not find half of it.
        let part = file.with_extension("part");
        if let Err(error) = fs::write(&part, text).and_then(|()| fs::rename(&part, file)) {
            fail(&format!("{}: {error}", file.display()));
        }
    }
}

/// Uses so much CPU time of the calling thread.
fn burn(span: Duration) {
    let end = thread_cpu() + span;
    while thread_cpu() < end {
        for i in 0..500_u32 {
            std::hint::black_box(i);
        }
    }
}

fn burn_on(threads: u64, span: Duration) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| burn(span));
        }
    });
}

fn phases(span: Duration, count: u64) {
    for _ in 0..count {
        stop();
        burn(span);
    }
    stop();
}

fn stop() {
    // SAFETY: stops this process until somebody lets it go on.
    unsafe { libc::raise(libc::SIGSTOP) };
}

fn storm(count: u64, span: Duration) {
    for _ in 0..count {
        wait_for(fork_to(|| burn(span)));
    }
}

/// Short and long, forked and executed, with threads and without, reaped and orphaned: in an
/// order that is the same in every run.
fn churn(span: Duration) {
    let begun = Instant::now();
    let mut random = 1_u64;
    let mut long = Vec::new();
    while begun.elapsed() < span {
        // Knuth's MMIX generator; any would do.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let micros = Duration::from_micros((random >> 33) % 5_000);
        match (random >> 56) % 8 {
            0 => drop(Command::new("/bin/true").status()),
            1 => burn_on(4, micros / 4),
            2 => wait_for(fork_to(|| burn_on(3, micros / 3))),
            3 => wait_for(fork_to(|| orphan(micros))),
            4 if long.len() < 8 => long.push(fork_to(|| burn(micros * 100))),
            4 => long.drain(..).for_each(wait_for),
            _ => wait_for(fork_to(|| burn(micros))),
        }
    }
    long.into_iter().for_each(wait_for);
}

/// A child that nobody waits for.
fn orphan(span: Duration) {
    fork_to(|| burn(span));
}

/// A daemon in a session of its own, whose parent is gone.
fn daemon(span: Duration, to: &ReportTo) {
    let parent = fork_to(|| {
        // SAFETY: takes nothing.
        unsafe { libc::setsid() };
        fork_to(|| {
            burn(span);
            to.write(0.0);
        });
    });
    wait_for(parent);
}

fn sleepers(processes: u64, threads: u64, to: &ReportTo) {
    for _ in 1..processes {
        fork_to(|| sleep_on(threads));
    }
    to.write(0.0);
    sleep_on(threads);
}

fn sleep_on(threads: u64) {
    // SAFETY: constants only. A child must not outlive the one that is killed in the end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    for _ in 1..threads {
        let sleeper = thread::Builder::new().stack_size(16 << 10);
        if let Err(error) = sleeper.spawn(|| thread::sleep(Duration::MAX)) {
            fail(&format!("a thread: {error}"));
        }
    }
    thread::sleep(Duration::MAX);
}

/// The median time of a switch over `blocks`, in ns.
fn switch(blocks: u64, switches: u64) -> f64 {
    let (ping, pong) = (pipe(), pipe());
    let echo = fork_to(|| {
        run_first();
        close(ping.1);
        let mut byte = 0;
        while pass(ping.0, pong.1, &mut byte) {}
    });
    close(ping.0);
    run_first();
    let mut byte = 1;
    let mut times: Vec<f64> = (0..blocks)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..switches / 2 {
                // SAFETY: one byte of a live local to a pipe.
                unsafe { libc::write(ping.1, (&raw const byte).cast(), 1) };
                // SAFETY: the same the other way.
                unsafe { libc::read(pong.0, (&raw mut byte).cast(), 1) };
            }
            begun.elapsed().as_nanos() as f64 / switches as f64
        })
        .collect();
    close(ping.1);
    wait_for(echo);
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn pass(from: i32, to: i32, byte: &mut u8) -> bool {
    // SAFETY: one byte into a live local.
    let got = unsafe { libc::read(from, (&raw mut *byte).cast(), 1) };
    // SAFETY: one byte out of it.
    got == 1 && unsafe { libc::write(to, (&raw const *byte).cast(), 1) } == 1
}

/// Nobody else takes turns with the two that are timed. Where that is refused, they are timed
/// with whoever does.
fn run_first() {
    let parameters = libc::sched_param { sched_priority: 50 };
    // SAFETY: the parameters are a live local; 0 is the caller.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}

fn pipe() -> (i32, i32) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
        fail(&format!("pipe: {}", io::Error::last_os_error()));
    }
    (ends[0], ends[1])
}

fn close(descriptor: i32) {
    // SAFETY: the callers close each descriptor once.
    unsafe { libc::close(descriptor) };
}

/// A child that does `work` and nothing else.
fn fork_to(work: impl FnOnce()) -> i32 {
    // SAFETY: no other thread of this process runs when this is called, so the child may go on
    // as the parent would.
    match unsafe { libc::fork() } {
        0 => {
            work();
            // SAFETY: ends the child, whose parent's buffers are not its to write.
            unsafe { libc::_exit(0) }
        }
        child if child > 0 => child,
        _ => fail(&format!("fork: {}", io::Error::last_os_error())),
    }
}

fn wait_for(child: i32) {
    // SAFETY: waits for a child of this process; the status is not asked for.
    unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn used_us() -> u64 {
    let usage = |who| {
        // SAFETY: rusage is plain data, and a live local while the kernel fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = mem::zeroed();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        us(usage.ru_utime) + us(usage.ru_stime)
    };
    usage(libc::RUSAGE_SELF) + usage(libc::RUSAGE_CHILDREN)
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| fail(&format!("{word:?} is no number\n{USAGE}")))
}

fn span(word: &str) -> Duration {
    let seconds = word
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.unwrap_or_else(|| fail(&format!("{word:?} is no number of seconds\n{USAGE}")))
}

fn fail(why: &str) -> ! {
    eprintln!("workload: {why}");
    process::exit(2);
}
