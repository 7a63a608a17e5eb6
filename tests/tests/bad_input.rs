// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the world does to an agent: each a clear message or a labelled degradation, and never
//! the end of an agent that runs.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eco_tests::{
    agent::{Agent, Setup},
    http, needs, programs,
};
use serde_json::json;

fn node(agent: &Agent) -> f64 {
    agent
        .scrape()
        .unwrap()
        .sum("eco_node_energy_joules_total", &[])
}

fn state_problem(agent: &Agent) -> String {
    agent.status().unwrap()["state"]["problem"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_second_agent_on_the_socket_says_so_and_leaves_the_first_alone() {
    needs!(Programs, Root);
    let mut first = Agent::start(Setup::default()).unwrap();
    let same = Setup {
        socket: Some(first.socket()),
        state: Some(first.state()),
        ..Setup::default()
    };
    let mut second = Agent::spawn(same).unwrap();
    let status = second.until_ended().unwrap();
    assert_eq!(status.code(), Some(3), "{}", second.log());
    assert!(
        second.log().contains("another eco-agent"),
        "{}",
        second.log()
    );
    drop(second);
    first.after_ticks(2).unwrap();
    assert!(first.is_alive());
    assert_eq!(state_problem(&first), "");
}

#[test]
fn two_agents_on_one_state_folder_do_not_write_over_each_other() {
    needs!(Programs, Root);
    let first = Agent::start(Setup::default()).unwrap();
    let second = Agent::start(Setup {
        state: Some(first.state()),
        ..Setup::default()
    })
    .unwrap();
    second.after_ticks(2).unwrap();
    assert!(!state_problem(&second).is_empty(), "nothing is said");
    assert_eq!(state_problem(&first), "");
}

#[test]
fn a_file_where_the_socket_should_be_is_left_as_it_is() {
    needs!(Programs, Root);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("precious");
    fs::write(&file, "data").unwrap();
    let setup = Setup {
        socket: Some(file.clone()),
        ..Setup::default()
    };
    let mut agent = Agent::spawn(setup).unwrap();
    assert_eq!(agent.until_ended().unwrap().code(), Some(3));
    assert!(agent.log().contains("precious"), "{}", agent.log());
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_told_and_costs_only_the_memory() {
    needs!(Programs, Root);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let setup = Setup {
        state: Some(file.join("state")),
        ..Setup::default()
    };
    let agent = Agent::start(setup).unwrap();
    agent.after_ticks(2).unwrap();
    assert!(node(&agent) > 0.0);
    let problem = state_problem(&agent);
    assert!(problem.contains("file/state"), "{problem:?}");
}

/// A file system of a few pages.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let place = CString::new(folder.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: five C strings that outlive the call.
        let mounted = unsafe {
            let options = c"size=16k";
            let kind = c"tmpfs";
            libc::mount(
                kind.as_ptr(),
                place.as_ptr(),
                kind.as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        (mounted == 0).then_some(Self(folder))
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let place = CString::new(self.0.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_full_disk_is_told_and_does_not_stop_the_agent() {
    needs!(Programs, Root);
    let Some(disk) = TinyDisk::mount() else {
        println!("skipped: no file system may be mounted here");
        return;
    };
    disk.fill();
    let setup = Setup {
        state: Some(disk.0.path().to_owned()),
        ..Setup::default()
    };
    let mut agent = Agent::start(setup).unwrap();
    agent.after_ticks(3).unwrap();
    let before = node(&agent);
    let problem = state_problem(&agent);
    assert!(!problem.is_empty(), "nothing is said");
    agent.after_ticks(2).unwrap();
    assert!(node(&agent) > before);
    assert_eq!(agent.stop().unwrap().code(), Some(0), "{}", agent.log());
}

/// The files of an agent that has run for some ticks and was killed, the latest last.
fn left_behind(agent: &mut Agent) -> Vec<PathBuf> {
    agent.after_ticks(5).unwrap();
    agent.kill().unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(agent.state())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::metadata(path).unwrap().len() > 0)
        // The history beside them is SQLite's, and looked after by eco-history's tests.
        .filter(|path| !path.to_string_lossy().contains("carbon_history"))
        .collect();
    files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    assert!(!files.is_empty(), "nothing was kept");
    files
}

fn cut_in_half(file: &Path) {
    let whole = fs::read(file).unwrap();
    fs::write(file, &whole[..whole.len() / 2]).unwrap();
}

#[test]
fn a_state_file_cut_in_half_costs_no_more_than_the_last_tick() {
    needs!(Programs, Root);
    let mut agent = Agent::start(Setup::default()).unwrap();
    agent.after_ticks(5).unwrap();
    let before = node(&agent);
    let files = left_behind(&mut agent);
    cut_in_half(files.last().unwrap());
    agent.restart().unwrap();
    assert!(node(&agent) >= before, "{} after {before}", node(&agent));
}

#[test]
fn state_files_that_are_all_damaged_are_told_and_a_new_count_begins_at_zero() {
    needs!(Programs, Root);
    let garbage = |file: &Path| fs::write(file, [0xA5; 3_000]).unwrap();
    let json = |file: &Path| fs::write(file, "{\"schema\": 1, \"meters\": [[[[").unwrap();
    let damages: [fn(&Path); 3] = [cut_in_half, garbage, json];
    for damage in damages {
        let mut agent = Agent::start(Setup::default()).unwrap();
        let files = left_behind(&mut agent);
        let before_log = agent.log().len();
        files.iter().for_each(|file| damage(file));
        agent.restart().unwrap();
        agent.after_ticks(2).unwrap();
        let said = format!("{}{}", &agent.log()[before_log..], state_problem(&agent));
        assert!(said.contains("ledger"), "nothing is said: {said}");
        // Some ticks of the model's few watts, not a counter's raw value.
        assert!(node(&agent) < 2_000.0, "{}", node(&agent));
    }
}

#[test]
fn a_state_of_a_newer_version_is_neither_read_nor_written_over() {
    needs!(Programs, Root);
    let mut agent = Agent::start(Setup::default()).unwrap();
    let files = left_behind(&mut agent);
    let newer = newer_state();
    for file in &files {
        fs::write(file, &newer).unwrap();
    }
    agent.restart().unwrap();
    agent.after_ticks(3).unwrap();
    let problem = state_problem(&agent);
    assert!(problem.contains("newer"), "{problem:?}");
    agent.stop().unwrap();
    for file in &files {
        assert_eq!(
            fs::read(file).unwrap(),
            newer,
            "{} was written over",
            file.display()
        );
    }
}

/// A whole, sound file whose version has not been invented yet.
fn newer_state() -> Vec<u8> {
    let body = br#"{"schema":4000000000,"sequence":7}"#;
    let header = format!(
        "eco-ledger {:08x} {:12}\n",
        crc32fast::hash(body),
        body.len()
    );
    [header.as_bytes(), body].concat()
}

#[test]
fn a_wrong_command_line_is_2_and_says_what_would_be_right() {
    needs!(Programs);
    for (arguments, said) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--interval", "1ms"], "100ms"),
        (&["--interval", "soon"], "interval"),
        (&["--listen", "nowhere"], "listen"),
        (&["--config", "/no/such/file.toml"], "/no/such/file.toml"),
    ] {
        let output = Command::new(programs::eco_agent())
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn whatever_comes_in_at_the_socket_the_next_one_is_served() {
    needs!(Programs, Root);
    let mut agent = Agent::start(Setup::default()).unwrap();
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5_000));
    for bytes in [
        b"\0\xff\xfe garbage \r\n\r\n".as_slice(),
        b"GET /metrics HTTP/1.1\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{",
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        long.as_bytes(),
        many.as_bytes(),
        b"",
    ] {
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        // It may hang up before it has heard everything.
        let _ = stream.write_all(bytes);
        let _ = stream.read(&mut [0; 512]);
    }
    let idle: Vec<UnixStream> = (0..200)
        .filter_map(|_| UnixStream::connect(agent.socket()).ok())
        .collect();
    agent.after_ticks(2).unwrap();
    drop(idle);
    assert!(agent.is_alive());
}

#[test]
fn a_question_that_makes_no_sense_is_answered_with_a_problem_document() {
    needs!(Programs, Root);
    let agent = Agent::start(Setup::default()).unwrap();
    for path in [
        "/",
        "/v1/units?kind=nonsense",
        "/v1/units?top=-1",
        "/v1/units?window=x",
        "/v1/jobs/no-such-job",
        "/v1/jobs/eco/no-such-job",
    ] {
        let response = agent.get(path).unwrap();
        assert!(
            (400..500).contains(&response.status),
            "{path}: {}",
            response.status
        );
        assert_eq!(response.content_type, "application/problem+json", "{path}");
        let problem = response.json().unwrap();
        assert_eq!(problem["status"], response.status, "{path}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{path}");
    }
}

#[test]
fn a_job_that_makes_no_sense_is_refused_and_says_why() {
    needs!(Programs, Root);
    let agent = Agent::start(Setup::default()).unwrap();
    for request in [
        json!({ "cgroup": "/no/such/cgroup" }),
        json!({ "cgroup": "/../../etc" }),
        json!({ "cgroup": "" }),
        json!({ "cgroup": "/" }),
        json!({ "pid": 0 }),
        json!({ "pid": u32::MAX }),
        json!({ "pid": -1 }),
        json!({ "name": "x".repeat(10_000) }),
        json!({ "name": "two\nlines" }),
        json!({ "no_such_key": 1 }),
        json!([]),
        json!("text"),
    ] {
        let answer = http::ask(&agent.socket(), "POST", "/v1/jobs", Some(&request)).unwrap();
        assert!(
            (400..500).contains(&answer.status),
            "{request}: {}",
            answer.status
        );
        assert_eq!(answer.content_type, "application/problem+json", "{request}");
    }
    let answer = http::ask(&agent.socket(), "DELETE", "/v1/jobs/never-opened", None).unwrap();
    assert_eq!(answer.status, 404);
}
