// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods whose GPUs are scripts and files: what a GPU draws is its pod's, whether the driver names
//! the pod's process or nobody at all.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod invented;
mod real;

use std::{fs, path::Path, sync::Mutex, time::Duration};

use anyhow::Result;
use eco_nvml_standin::lab::Lab;
use eco_tests::{
    agent::{Agent, Setup},
    metrics::Metrics,
};

const NAMESPACE: &str = "gpus";

/// GPUs rest for so long after the agent's start, so that it can learn what that costs. Were it
/// shorter on a machine that is too slow, their idle power would be a guess.
const QUIET_SECONDS: f64 = 5.0;

/// What an AMD GPU draws at rest, and on top of that in use, in W.
const AMD: (f64, f64) = (40.0, 120.0);
const AMD_CARD: &str = "card0";
const AMD_ADDRESS: &str = "0000:03:00.0";

/// One test's load is not another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// What the stand-in calls its GPUs.
fn uuid(gpu: usize) -> String {
    format!("GPU-00000000-0000-0000-0000-{gpu:012}")
}

fn file(path: &Path) -> String {
    path.display().to_string()
}

/// The kernel's files of an AMD GPU that nobody has open.
fn put_amd(sysfs: &Path, busy_percent: u32, watts: f64) -> Result<()> {
    let folder = sysfs.join("class/drm").join(AMD_CARD).join("device");
    let chip = folder.join("hwmon/hwmon3");
    fs::create_dir_all(&chip)?;
    fs::write(folder.join("vendor"), "0x1002\n")?;
    let uevent = format!("DRIVER=amdgpu\nPCI_SLOT_NAME={AMD_ADDRESS}\n");
    fs::write(folder.join("uevent"), uevent)?;
    // Each at once, as the kernel writes: the agent may read at any time.
    let put = |file: &Path, text: String| {
        let new = file.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, file))
    };
    let busy = folder.join("gpu_busy_percent");
    put(&busy, format!("{busy_percent}\n"))?;
    put(&chip.join("power1_average"), format!("{}\n", watts * 1e6))?;
    Ok(())
}

struct Observed {
    agent: Agent,
    _lab: Lab,
    sysfs: tempfile::TempDir,
}

impl Observed {
    /// An agent on the GPUs of that script and one of AMD's, which asks about pods like that.
    fn start(script: &str, pods: Vec<(&'static str, String)>) -> Result<Self> {
        let lab = Lab::new(script)?;
        let sysfs = tempfile::tempdir()?;
        put_amd(sysfs.path(), 0, AMD.0)?;
        let mut variables = pods;
        variables.push(("ECO_NVML__LIBRARY", file(&lab.library())));
        variables.push(("ECO_KUBERNETES__SOURCE", "kubelet".into()));
        let agent = Agent::start(Setup {
            interval: Duration::from_millis(250),
            variables,
            ..Setup::metered_by(sysfs.path())
        })?;
        Ok(Self {
            agent,
            _lab: lab,
            sysfs,
        })
    }

    /// All series after the next tick, of which those of GPUs add up to what the GPUs drew. Not
    /// more often: what ends stays for a hundred looks, and is to be there when it is looked for.
    fn look(&self) -> Result<Metrics> {
        self.agent.after_ticks(1)?;
        let metrics = self.agent.scrape()?;
        for sample in metrics.select("eco_conservation_error_joules", &[]) {
            assert_eq!(sample.micro()?, 0, "{}", sample.series());
        }
        let of_gpus = [("domain", "gpu")];
        let mut parts = 0;
        for kind in ["process", "kernel", "other"] {
            let filter = [("domain", "gpu"), ("kind", kind)];
            parts += metrics.sum_micro("eco_unit_energy_joules_total", &filter)?;
        }
        for name in ["idle", "departed", "unattributed"] {
            let name = format!("eco_{name}_energy_joules_total");
            parts += metrics.sum_micro(&name, &of_gpus)?;
        }
        let node = metrics.sum_micro("eco_node_energy_joules_total", &of_gpus)?;
        assert_eq!(parts, node);
        Ok(metrics)
    }
}

/// GPU joules of a pod.
fn of_pod(metrics: &Metrics, pod: &str) -> f64 {
    let labels = [("namespace", NAMESPACE), ("pod", pod), ("domain", "gpu")];
    metrics.sum("eco_pod_energy_joules_total", &labels)
}

/// Joules of one GPU in a metric.
fn of_gpu(metrics: &Metrics, name: &str, device: &str) -> f64 {
    metrics.sum(name, &[("domain", "gpu"), ("device", device)])
}

/// By what rule a GPU is divided.
fn policy(metrics: &Metrics, device: &str) -> String {
    let filter = [("device", device)];
    let mut told = metrics.select("eco_gpu_split_info", &filter);
    let policy = told.next().and_then(|sample| sample.label("policy"));
    policy.unwrap_or_default().to_owned()
}

/// What a GPU drew between two looks, and what of it was idle.
fn drawn(before: &Metrics, after: &Metrics, device: &str) -> (f64, f64) {
    let grown = |name| of_gpu(after, name, device) - of_gpu(before, name, device);
    (
        grown("eco_node_energy_joules_total"),
        grown("eco_idle_energy_joules_total"),
    )
}
