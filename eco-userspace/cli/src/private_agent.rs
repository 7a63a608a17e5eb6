// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An agent for one command only, where none listens.

use std::{
    env,
    ffi::{CString, OsStr},
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{client::Client, out::printable, signals};

const PROGRAM: &str = "eco-agent";
/// An agent that has parsed the kernel's types and loaded its programs is ready in under 1 s.
const READY_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(3);
/// `sun_path` has 108 bytes, with the zero at its end.
const LONGEST_SOCKET: usize = 107;
// capability.h
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A running agent that belongs to this process: dropping it ends it, waits until it has
/// ended, and removes what it left.
pub(crate) struct PrivateAgent {
    pid: i32,
    directory: PathBuf,
    reaped: bool,
}

impl PrivateAgent {
    /// Starts one with that signal mask and waits until it is ready. Fails with a sentence that
    /// says why not. Where it may not count through the kernel it reads procfs: [`counts_all`].
    pub(crate) fn start(mask: &libc::sigset_t) -> Result<(Self, Client), String> {
        let program = find().ok_or_else(|| {
            format!("no {PROGRAM} beside this program or in PATH: install both in one folder")
        })?;
        let directory = temporary_directory()
            .map_err(|error| format!("no temporary directory for a private agent: {error}"))?;
        let pid = match launch(&program, &directory, mask) {
            Ok(pid) => pid,
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                return Err(format!("{}: cannot be run: {error}", program.display()));
            }
        };
        let mut agent = Self {
            pid,
            directory,
            reaped: false,
        };
        match agent.wait_until_ready() {
            Ok(client) => Ok((agent, client)),
            Err(why) => Err(format!("the private agent {why}{}", agent.last_words())),
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes note that somebody else has reaped it.
    pub(crate) fn set_reaped(&mut self) {
        self.reaped = true;
    }

    /// The end of its log, for a message about its failure.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        last_words_of(&String::from_utf8_lossy(&log))
    }

    /// Whether it has ended; reaps it then.
    fn has_ended(&mut self) -> bool {
        if !self.reaped {
            let mut status = 0;
            // SAFETY: the status is a live local.
            let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
            self.reaped = reaped != 0;
        }
        self.reaped
    }

    fn wait_until_ready(&mut self) -> Result<Client, String> {
        let client = Client::new(&self.socket()).map_err(|f| f.message)?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(true) = client.ready() {
                return Ok(client);
            }
            if self.has_ended() {
                return Err("ended at once".to_owned());
            }
            if Instant::now() > deadline {
                return Err(format!("was not ready after {} s", READY_WITHIN.as_secs()));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for PrivateAgent {
    fn drop(&mut self) {
        if !self.reaped {
            signals::send(self.pid, libc::SIGTERM);
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.has_ended() {
            if Instant::now() > deadline {
                signals::send(self.pid, libc::SIGKILL);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The last complaint of a log of JSON lines, or its last line if that is none; with a colon in
/// front, or nothing.
fn last_words_of(log: &str) -> String {
    let lines = log.lines().filter(|line| !line.trim().is_empty());
    let mut last = None;
    for line in lines {
        match serde_json::from_str::<Value>(line) {
            Ok(entry) if matches!(entry["level"].as_str(), Some("ERROR" | "WARN")) => {
                last = entry["message"].as_str().map(str::to_owned);
            }
            Ok(_) => {}
            // Not of the log's making: a message to people, or a panic.
            Err(_) => last = Some(line.to_owned()),
        }
    }
    last.map_or(String::new(), |words| format!(": {}", printable(&words)))
}

/// Whether the effective capabilities of this process suffice for an agent that counts all that
/// runs, through the kernel.
pub(crate) fn counts_all() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let needed = 1 << CAP_BPF | 1 << CAP_PERFMON;
    effective.is_some_and(|held| held & needed == needed)
}

/// The agent's program: beside this one, or in PATH.
pub(crate) fn find() -> Option<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|directory| directory.join(PROGRAM));
    beside
        .into_iter()
        .chain(in_path)
        .find(|candidate| candidate.is_file())
}

fn launch(program: &Path, directory: &Path, mask: &libc::sigset_t) -> io::Result<i32> {
    let log = File::create(directory.join("log"))?;
    let mask = *mask;
    let parent = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let mut command = Command::new(program);
    command
        .arg("--socket")
        .arg(directory.join("agent.sock"))
        .args(["--interval", "1s", "--state"])
        .arg(directory.join("state"))
        // It lives as long as the command; what it knew goes with it.
        .env("ECO_HISTORY__ENABLED", "false")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only (setsid,
    // prctl, getppid, sigprocmask) and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            // A session of its own, so that a terminal's Ctrl-C does not reach it.
            if libc::setsid() < 0
                || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) != 0
            {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent {
                return Err(io::ErrorKind::Interrupted.into());
            }
            signals::restore_mask(&mask)
        });
    }
    let child = command.spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// A new directory that only this user may enter.
fn temporary_directory() -> io::Result<PathBuf> {
    let mut base = env::temp_dir();
    let longest = LONGEST_SOCKET - "/eco-agent-XXXXXX/agent.sock".len();
    if !base.is_absolute() || base.as_os_str().len() > longest {
        base = PathBuf::from("/tmp");
    }
    let template = CString::new(base.join("eco-agent-XXXXXX").as_os_str().as_bytes())?;
    let mut template = template.into_bytes_with_nul();
    // SAFETY: the template is a live, writable C string that ends in six X.
    if unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    template.pop();
    Ok(PathBuf::from(OsStr::from_bytes(&template)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_is_new_private_and_short_enough_for_a_socket() {
        use std::os::unix::fs::PermissionsExt as _;
        let one = temporary_directory().unwrap();
        let two = temporary_directory().unwrap();
        assert_ne!(one, two);
        assert_eq!(
            fs::metadata(&one).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(one.join("agent.sock").as_os_str().len() <= LONGEST_SOCKET);
        fs::remove_dir(one).unwrap();
        fs::remove_dir(two).unwrap();
    }

    #[test]
    fn a_log_ends_with_its_last_complaint() {
        let info = r#"{"level":"INFO","message":"ready"}"#;
        let error = r#"{"level":"ERROR","message":"no \u001b[1mBTF"}"#;
        assert_eq!(
            last_words_of(&format!("{error}\n{info}\n")),
            ": no \u{fffd}[1mBTF"
        );
        assert_eq!(
            last_words_of(&format!("{info}\nthread panicked\n\n")),
            ": thread panicked"
        );
        for quiet in ["", "\n \n", info] {
            assert_eq!(last_words_of(quiet), "");
        }
    }
}
