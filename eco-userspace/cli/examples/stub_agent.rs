// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `eco run` takes for its private agent in tests: it listens where it is told, follows
//! any job, and ends as `STUB` says: `dies` at once, `leaves` once a job is open.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    process, thread,
    time::Duration,
};

const JOB: &str = r#"{"id":"1","manager":"eco","name":"x","user":"0","started":"2026-01-02T03:04:05Z","membership":"cgroup","cpu_seconds":7.5,"processes":1,"running":0,"energy_joules":{"package":3.0},"idle_share_joules":1.0,"meters":[],"estimated":true,"tier":"iter","agent_cpu_seconds":0.0,"agent_energy_joules":0.0}"#;

fn main() {
    let stub = env::var("STUB").unwrap_or_default();
    if stub == "dies" {
        eprintln!("stub: no kernel types here");
        process::exit(1);
    }
    let socket = env::args()
        .skip_while(|word| word != "--socket")
        .nth(1)
        .unwrap_or_default();
    if let Ok(file) = env::var("STUB_SAYS") {
        let _ = std::fs::write(file, format!("{} {socket}", process::id()));
    }
    let listener = match UnixListener::bind(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("stub: {socket}: {error}");
            process::exit(1);
        }
    };
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = String::new();
        let mut reader = BufReader::new(&stream);
        while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{JOB}",
            JOB.len()
        );
        if stub == "leaves" && request.starts_with("POST") {
            // The answer has to arrive first; the command waits for this process to be gone.
            thread::sleep(Duration::from_millis(50));
            process::exit(1);
        }
    }
}
