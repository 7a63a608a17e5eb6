// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An AMD GPU whose truth is known: amd-smi goes by a script, the kernel's files are made up.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use eco_amd_smi_standin::lab::Lab;
use eco_tests::{
    agent::{Agent, Setup},
    http, needs, wait,
};
use serde_json::{Value, json};

const ADDRESS: &str = "0000:03:00.0";

/// The GPU's id in the compute driver's files.
const GPU_ID: u32 = 4711;

/// What the card's own sensor says: not the truth, so that it shows whose word is counted.
const SENSOR: &str = "900000000\n";

/// Idle power is learned in this time, in whose last part the queues are made.
const QUIET_SECONDS: f64 = 10.0;
const QUEUES_SECONDS: u64 = 8;
const BUSY_SECONDS: f64 = 8.0;

/// A process that does nothing on the CPU.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One card, on which nothing runs.
fn put_card(sysfs: &Path) {
    let folder = sysfs.join("class/drm/card0/device");
    let chip = folder.join("hwmon/hwmon3");
    let node = sysfs.join("class/kfd/kfd/topology/nodes/1");
    for folder in [&chip, &node] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(folder.join("vendor"), "0x1002\n").unwrap();
    let uevent = format!("DRIVER=amdgpu\nPCI_SLOT_NAME={ADDRESS}\n");
    fs::write(folder.join("uevent"), uevent).unwrap();
    fs::write(folder.join("gpu_busy_percent"), "0\n").unwrap();
    fs::write(chip.join("power1_average"), SENSOR).unwrap();
    fs::write(node.join("gpu_id"), format!("{GPU_ID}\n")).unwrap();
    fs::write(node.join("properties"), "domain 0\nlocation_id 768\n").unwrap();
}

/// The driver says that the card is busy, with the queues of `pids`.
fn put_queues(sysfs: &Path, pids: &[u32]) {
    let folder = sysfs.join("class/drm/card0/device");
    fs::write(folder.join("gpu_busy_percent"), "80\n").unwrap();
    for pid in pids {
        let queues = sysfs.join(format!("class/kfd/kfd/proc/{pid}"));
        fs::create_dir_all(&queues).unwrap();
        fs::write(queues.join(format!("vram_{GPU_ID}")), "4096\n").unwrap();
    }
}

fn gpu(agent: &Agent) -> Value {
    let status = agent.status().unwrap();
    let meters = status["meters"].as_array().unwrap();
    let mut gpus = meters.iter().filter(|meter| meter["domain"] == "gpu");
    let found = gpus.next().unwrap().clone();
    assert!(gpus.next().is_none(), "counted twice: {status}");
    found
}

#[test]
fn the_energy_of_an_amd_gpu_goes_to_the_processes_that_have_queues_on_it() {
    needs!(Programs, Root);
    const IDLE_WATTS: f64 = 60.0;
    const WATTS: f64 = 240.0;
    let sleepers = [Sleeper::new(), Sleeper::new()];
    let pids = sleepers.each_ref().map(|sleeper| sleeper.0.id());
    let sysfs = tempfile::tempdir().unwrap();
    put_card(sysfs.path());
    let script = format!(
        "[[gpu]]\naddress = \"{ADDRESS}\"\nidle_watts = {IDLE_WATTS:.1}\n[[gpu.load]]\n\
         start = {QUIET_SECONDS:.1}\nend = {:.1}\nwatts = {WATTS:.1}\n",
        QUIET_SECONDS + BUSY_SECONDS
    );
    let lab = Lab::new(&script).unwrap();
    let library = lab.library().to_string_lossy().into_owned();
    let agent = Agent::start(Setup {
        variables: vec![("ECO_AMDSMI__LIBRARY", library)],
        ..Setup::metered_by(sysfs.path())
    })
    .unwrap();
    let jobs = pids.map(|pid| {
        let request = json!({ "pid": pid });
        let answer = http::ask(&agent.socket(), "POST", "/v1/jobs", Some(&request)).unwrap();
        answer.json().unwrap()["id"].as_str().unwrap().to_owned()
    });
    // The script begins when the agent loads the library: a moment ago.
    thread::sleep(Duration::from_secs(QUEUES_SECONDS));
    put_queues(sysfs.path(), &pids);
    // Until the load is over: the last power is idle again, and all was counted.
    let drawn = WATTS * BUSY_SECONDS;
    let joules = || gpu(&agent)["joules"].as_f64().unwrap();
    let is_over = || {
        let found = gpu(&agent);
        let watts = found["watts"].as_f64().unwrap();
        joules() > drawn && watts < 1.2 * IDLE_WATTS
    };
    wait::until("the load is over", is_over).unwrap();
    let found = gpu(&agent);
    assert_eq!(found["source"], "amd-smi");
    assert_eq!(found["device"], "card0");
    let paid = jobs.map(|id| {
        let path = format!("/v1/jobs/{id}");
        let answer = http::ask(&agent.socket(), "DELETE", &path, None).unwrap();
        let closed = answer.json().unwrap();
        closed["energy_joules"]["gpu"].as_f64().unwrap()
    });
    println!("{drawn:.0} J in the script; paid: {paid:.1?}");
    for joules in paid {
        let error = joules / (drawn / 2.0) - 1.0;
        assert!(error.abs() <= 0.02, "{joules:.1} J: {error:+.4}");
    }
    let metrics = agent.scrape().unwrap();
    for sample in metrics.select("eco_conservation_error_joules", &[]) {
        assert_eq!(sample.micro().unwrap(), 0, "{}", sample.series());
    }
    let labels = [("domain", "gpu"), ("source", "amd-smi")];
    assert!(metrics.sum("eco_node_energy_joules_total", &labels) >= drawn);
    assert_eq!(
        metrics.labels("eco_gpu_split_info", "policy"),
        ["time-sliced"]
    );
}

#[test]
fn an_amd_smi_that_hangs_holds_up_no_tick_and_loses_no_joule() {
    needs!(Programs, Root);
    let sysfs = tempfile::tempdir().unwrap();
    put_card(sysfs.path());
    let script = format!(
        "[[gpu]]\naddress = \"{ADDRESS}\"\nidle_watts = 100.0\n[[fault]]\n\
         call = \"amdsmi_get_energy_count\"\nat = 3.0\nseconds = 4.0\nwhat = \"hang\"\n"
    );
    let lab = Lab::new(&script).unwrap();
    let library = lab.library().to_string_lossy().into_owned();
    let agent = Agent::start(Setup {
        variables: vec![("ECO_AMDSMI__LIBRARY", library)],
        ..Setup::metered_by(sysfs.path())
    })
    .unwrap();
    let quality = || gpu(&agent)["quality"].as_str().unwrap().to_owned();
    let joules = || gpu(&agent)["joules"].as_f64().unwrap();
    wait::until("it hangs", || quality().contains("hangs")).unwrap();
    let before = joules();
    let ticks = agent.ticks().unwrap();
    wait::until("it answers", || quality() == "measured").unwrap();
    assert!(agent.ticks().unwrap() > ticks);
    // At least from the fault's beginning to its end, less what was known before it.
    let gained = joules() - before;
    println!("{gained:.1} J of the time in which it hung");
    assert!(gained >= 300.0, "{gained:.1} J");
    let late = agent.scrape().unwrap();
    assert!(late.sum("eco_gpu_late_answers_total", &[("device", "card0")]) >= 1.0);
}
