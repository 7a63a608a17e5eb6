// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CPU time that everyone is charged together, against what the machine used: energy follows it,
//! so who is charged twice makes all others pay too little.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use eco_tests::{
    agent::{Agent, Setup},
    cgroup::machine_cpu_ns,
    needs, programs,
    workload::Workload,
};

/// The span that is asked for and the one that was measured differ by a tick on either side.
const TOLERANCE: f64 = 0.05;

/// One test's load would blur the edges of another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// Runs `load`, and holds what all are charged for the time against the kernel's own account.
fn assert_charged_once(load: impl FnOnce()) {
    let _alone = MACHINE.lock();
    let agent = Agent::start(Setup::default()).unwrap();
    // Long enough for the agent to have found who is hidden from its iterator.
    agent.after_ticks(24).unwrap();
    let (before, begun) = (machine_cpu_ns().unwrap(), Instant::now());
    load();
    agent.after_ticks(3).unwrap();
    let truth = (machine_cpu_ns().unwrap() - before) as f64 / 1e9;
    let window = begun.elapsed().as_millis();
    let units = agent
        .json(&format!("/v1/units?top=0&window={window}ms"))
        .unwrap();
    let percent = units["node"]["cpu_percent"].as_f64().unwrap();
    let charged = percent / 100.0 * units["window_seconds"].as_f64().unwrap();
    println!(
        "charged {charged:.3} s of {truth:.3} s; {}",
        agent.status().unwrap()["discrepancies"]
    );
    let off = charged / truth - 1.0;
    assert!(
        off.abs() <= TOLERANCE,
        "off by {off:+.3}: {charged:.3} s of {truth:.3} s"
    );
}

#[test]
fn whoever_comes_and_goes_is_charged_once() {
    needs!(Programs, Root, Bpf, ExactCpu);
    assert_charged_once(|| {
        Workload::new("churn 8").unwrap().run().unwrap();
    });
}

#[test]
fn a_family_that_is_killed_at_once_is_charged_once() {
    needs!(Programs, Root, Bpf, ExactCpu);
    assert_charged_once(|| {
        for round in 0..8 {
            let work = programs::workload().display().to_string();
            // A mother, and a child that has reaped two grandchildren.
            let script = format!("sh -c '{work} burn 0.3; {work} burn 0.3; exec sleep 600' & wait");
            let mut mother = Command::new("sh")
                .args(["-c", &script])
                .process_group(0)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            // At another point of the tick each time.
            thread::sleep(Duration::from_millis(900 + 31 * round));
            // SAFETY: signals a group that this test has made.
            unsafe { libc::kill(-(mother.id() as i32), libc::SIGKILL) };
            mother.wait().unwrap();
        }
    });
}
