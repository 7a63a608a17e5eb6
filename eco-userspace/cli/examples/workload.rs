// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Work of a known size, to compare measurements with: it uses the CPU time that it is told
//! to, and says on stdout how many microseconds the kernel says it was, children included.
//!
//! ```text
//! workload burn MILLISECONDS
//! workload threads COUNT MILLISECONDS
//! workload children COUNT MICROSECONDS
//! workload daemon MILLISECONDS FILE      # the daemon reports into FILE
//! workload signals FILE                  # notes each signal in FILE; SIGTERM ends it with 42
//! ```

#![expect(clippy::print_stdout, reason = "its answer goes to stdout")]

use std::{env, fs, io, mem, process, ptr, thread};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["burn", milliseconds] => burn(number(milliseconds) * 1_000),
        ["threads", count, milliseconds] => threads(number(count), number(milliseconds) * 1_000),
        ["children", count, microseconds] => children(number(count), number(microseconds)),
        ["daemon", milliseconds, file] => daemon(number(milliseconds) * 1_000, file),
        ["signals", file] => signals(file),
        _ => {
            eprintln!("workload: see the first lines of its source for how to call it");
            process::exit(2);
        }
    }
    println!("{}", used_microseconds());
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| {
        eprintln!("workload: {word:?} is no number");
        process::exit(2);
    })
}

/// Uses CPU time of the calling thread.
fn burn(microseconds: u64) {
    let end = thread_nanoseconds() + microseconds * 1_000;
    while thread_nanoseconds() < end {
        for i in 0..1_000_u64 {
            std::hint::black_box(i);
        }
    }
}

fn threads(count: u64, microseconds: u64) {
    let workers: Vec<_> = (0..count)
        .map(|_| thread::spawn(move || burn(microseconds)))
        .collect();
    for worker in workers {
        let _ = worker.join();
    }
}

fn children(count: u64, microseconds: u64) {
    for _ in 0..count {
        let child = fork();
        if child == 0 {
            burn(microseconds);
            exit_now(0);
        }
        // SAFETY: waits for our own child; the status is not asked for.
        unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
    }
}

/// Leaves a daemon of a session of its own behind, twice removed from this process.
fn daemon(microseconds: u64, file: &str) {
    if fork() == 0 {
        // SAFETY: no memory is passed.
        unsafe { libc::setsid() };
        if fork() == 0 {
            burn(microseconds);
            let written = fs::write(file, used_microseconds().to_string());
            exit_now(i32::from(written.is_err()));
        }
        exit_now(0);
    }
}

/// Waits for signals and appends the number of each to `file`.
fn signals(file: &str) {
    let all = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTERM,
    ];
    // SAFETY: the set is a live local, initialised before it is used; the rest are constants.
    let set = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in all {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        set
    };
    let mut seen = String::new();
    loop {
        let written = fs::write(file, format!("{seen}ready\n"));
        let mut signal = 0;
        // SAFETY: both are live locals.
        unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        seen = format!("{seen}{signal}\n");
        if signal == libc::SIGTERM || written.is_err() {
            let _ = fs::write(file, &seen);
            process::exit(42);
        }
    }
}

fn fork() -> i32 {
    // SAFETY: this process has one thread wherever this is called, so the child may do anything.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        eprintln!("workload: fork: {}", io::Error::last_os_error());
        process::exit(1);
    }
    pid
}

/// Ends a forked child without the parent's buffers being written twice.
fn exit_now(status: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(status) }
}

fn thread_nanoseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn used_microseconds() -> u64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| {
            // SAFETY: rusage is plain old data, and a live local while the kernel fills it.
            let usage = unsafe {
                let mut usage: libc::rusage = mem::zeroed();
                libc::getrusage(who, &raw mut usage);
                usage
            };
            let of = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
            of(usage.ru_utime) + of(usage.ru_stime)
        })
        .sum()
}
