// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an agent may do, and what it shows to whom.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command},
};

use anyhow::Result;
use eco_tests::{
    agent::{Agent, Setup},
    cgroup::Cgroup,
    http::{self, Response},
    needs,
    user::{self, NOBODY},
};
use serde_json::{Value, json};

/// Bits of include/uapi/linux/capability.h that a running agent still uses.
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// A process of somebody's. Dropped, it is killed.
struct Sleeper(Child);

impl Sleeper {
    fn of(uid: u32) -> Self {
        Self(
            Command::new("sleep")
                .arg("600")
                .uid(uid)
                .gid(uid)
                .spawn()
                .unwrap(),
        )
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn as_nobody(agent: &Agent, method: &str, path: &str, body: Option<&Value>) -> Response {
    let ask = || -> Result<Response> { http::ask(&agent.socket(), method, path, body) };
    user::acting_as(NOBODY, ask).unwrap().unwrap()
}

/// The process ids that an answer of `/v1/units` shows.
fn shown(units: &Value) -> Vec<u32> {
    let units = units["units"].as_array().unwrap();
    units
        .iter()
        .filter_map(|unit| u32::try_from(unit["pid"].as_u64()?).ok())
        .collect()
}

#[test]
fn a_user_sees_their_own_processes_and_root_sees_all() {
    needs!(Programs, Root, OtherUser);
    let agent = Agent::start(Setup::default()).unwrap();
    let (mine, roots) = (Sleeper::of(NOBODY), Sleeper::of(0));
    agent.after_ticks(2).unwrap();
    let all = shown(&agent.json("/v1/units").unwrap());
    assert!(
        all.contains(&mine.pid()) && all.contains(&roots.pid()),
        "{all:?}"
    );
    let answer = as_nobody(&agent, "GET", "/v1/units", None).json().unwrap();
    let own = shown(&answer);
    assert!(own.contains(&mine.pid()), "{own:?}");
    for pid in own {
        let uid = fs::metadata(format!("/proc/{pid}"))
            .map(|data| std::os::unix::fs::MetadataExt::uid(&data));
        // One that has ended meanwhile has no owner to look up.
        assert!(
            uid.is_err() || uid.is_ok_and(|uid| uid == NOBODY),
            "{pid} is not theirs"
        );
    }
    for unit in answer["units"].as_array().unwrap() {
        let kind = unit["kind"].as_str().unwrap();
        assert!(["process", "user", "job"].contains(&kind), "{unit}");
    }
}

#[test]
fn metrics_of_everyone_are_not_for_everyone() {
    needs!(Programs, Root, OtherUser);
    let agent = Agent::start(Setup::default()).unwrap();
    let answer = as_nobody(&agent, "GET", "/metrics", None);
    assert_eq!(answer.status, 403);
    assert_eq!(answer.content_type, "application/problem+json");
    assert!(!answer.body.contains("eco_unit_energy"), "{}", answer.body);
}

#[test]
fn a_job_is_opened_on_ones_own_processes_only() {
    needs!(Programs, Root, OtherUser, Cgroup);
    let agent = Agent::start(Setup::default()).unwrap();
    let (mine, roots) = (Sleeper::of(NOBODY), Sleeper::of(0));
    let cgroup = Cgroup::new("roots").unwrap();
    agent.after_ticks(2).unwrap();
    let open = |request: Value| as_nobody(&agent, "POST", "/v1/jobs", Some(&request));
    assert_eq!(open(json!({ "pid": roots.pid() })).status, 403);
    assert_eq!(open(json!({ "cgroup": cgroup.path() })).status, 403);
    let opened = open(json!({ "pid": mine.pid() }));
    assert_eq!(opened.status, 201, "{}", opened.body);
}

#[test]
fn a_job_of_somebody_else_is_not_there() {
    needs!(Programs, Root, OtherUser, Cgroup);
    let agent = Agent::start(Setup::default()).unwrap();
    let cgroup = Cgroup::new("roots").unwrap();
    let job = agent.open_job("roots", &cgroup).unwrap();
    let answer = as_nobody(&agent, "GET", "/v1/units?kind=job", None)
        .json()
        .unwrap();
    assert_eq!(answer["units"].as_array().unwrap().len(), 0, "{answer}");
    let path = format!("/v1/jobs/{}", job.id());
    assert_eq!(as_nobody(&agent, "GET", &path, None).status, 404);
    assert_eq!(as_nobody(&agent, "DELETE", &path, None).status, 404);
    job.close().unwrap();
}

#[test]
fn a_running_agent_holds_only_the_capabilities_that_a_tick_uses() {
    needs!(Programs, Root);
    let agent = Agent::start(Setup::default()).unwrap();
    agent.after_ticks(2).unwrap();
    let wanted = CAP_BPF | CAP_PERFMON | CAP_DAC_READ_SEARCH;
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(set))
                .unwrap();
            let held = u64::from_str_radix(line.trim(), 16).unwrap();
            assert_eq!(held & !wanted, 0, "{set} {held:x}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
}

/// What the kernel says of each descriptor of a process.
fn descriptors(pid: u32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .collect()
}

#[test]
fn nothing_is_attached_to_a_context_switch() {
    needs!(Programs, Root, Bpf);
    let agent = Agent::start(Setup::default()).unwrap();
    assert_eq!(agent.lesser_tier().unwrap(), None);
    let links: Vec<String> = descriptors(agent.pid())
        .into_iter()
        .filter(|info| info.contains("link_type:"))
        .collect();
    let mut names: Vec<&str> = links
        .iter()
        .flat_map(|info| info.lines())
        .filter_map(|line| line.strip_prefix("tp_name:"))
        .map(str::trim)
        .collect();
    names.sort_unstable();
    // A task that is freed, and a cgroup that is made: neither is a switch.
    assert_eq!(names, ["cgroup_mkdir", "sched_process_free"], "{links:?}");
    let others = links.iter().filter(|info| !info.contains("tp_name:"));
    for link in others {
        assert!(
            link.contains("iter"),
            "neither the fold nor the iterator: {link}"
        );
    }
}

#[test]
fn nobody_is_served_over_the_network_unless_that_was_asked_for() {
    needs!(Programs, Root);
    let agent = Agent::start(Setup::default()).unwrap();
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        sockets.extend(
            target
                .strip_prefix("socket:[")
                .map(|s| s.trim_end_matches(']').to_owned()),
        );
    }
    assert!(!sockets.is_empty());
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let path = Path::new("/proc/net").join(table);
        let text = fs::read_to_string(path).unwrap_or_default();
        for line in text.lines().skip(1) {
            let inode = line.split_whitespace().nth(9).unwrap_or_default();
            assert!(
                !sockets.iter().any(|socket| socket == inode),
                "{table}: {line}"
            );
        }
    }
}

#[test]
fn who_comes_over_the_network_may_read_and_change_nothing() {
    needs!(Programs, Root);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut setup = Setup::default();
    setup
        .arguments
        .extend(["--listen".into(), free.to_string().into()]);
    let agent = Agent::start(setup).unwrap();
    let metrics = http::get(&format!("http://{free}/metrics")).unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("eco_node_energy_joules_total"));
    let pid = json!({ "pid": agent.pid() });
    let answer = http::post(&format!("http://{free}/v1/jobs"), &pid).unwrap();
    assert_eq!(answer.status, 403, "{}", answer.body);
}
