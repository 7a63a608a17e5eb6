// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tests of the `eco` command share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The `eco` command, with nobody on its socket, no colour and no home to keep a history in.
pub(crate) fn eco(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eco"));
    command
        .args(arguments)
        .env("ECO_SOCKET", "/nonexistent/eco.sock")
        .env("NO_COLOR", "1")
        .env_remove("TMPDIR")
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME");
    hear_signals(&mut command);
    command
}

/// Lets the program be interrupted, also where whoever started the tests had that ignored (a
/// shell's background job, for one): what is ignored is inherited.
pub(crate) fn hear_signals(command: &mut Command) {
    // SAFETY: between fork and exec, and signal(2) may be called there.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// The `workload` example.
pub(crate) fn workload() -> PathBuf {
    example("workload")
}

/// One of the examples, which a whole `cargo test -p eco-cli` builds.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_eco"))
        .with_file_name("examples")
        .join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build -p eco-cli --example {name}",
        path.display()
    );
    path
}

/// The object on stdout.
pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

/// Runs to the end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("eco runs")
}

/// What a run wrote on stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run wrote on stdout.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until something holds; fails the test only when it never does.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < give_up, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A request as the agent got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// An answer: the status, and the raw body.
pub(crate) type Answer = (u16, String);

/// A stand-in for the agent, on a Unix socket of its own.
pub(crate) struct FakeAgent {
    directory: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeAgent {
    /// Answers every request with what `answer` makes of it.
    pub(crate) fn start(answer: impl Fn(&Seen) -> Answer + Send + 'static) -> Self {
        Self::raw(move |seen| {
            let (status, body) = answer(seen);
            let kind = if status < 400 {
                "application/json"
            } else {
                "application/problem+json"
            };
            format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            )
        })
    }

    /// Answers every request with these bytes, be they HTTP or not.
    pub(crate) fn raw(answer: impl Fn(&Seen) -> String + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                record.lock().unwrap().push(request.clone());
                let _ = stream.write_all(answer(&request).as_bytes());
            }
        });
        Self { directory, seen }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> String {
        self.directory
            .path()
            .join("agent.sock")
            .display()
            .to_string()
    }

    /// What it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn read_request(stream: &UnixStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen {
        method,
        path,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
