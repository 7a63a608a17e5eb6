// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slurm's jobs and steps, by the cgroups of `slurmd` and `slurmstepd`.
//!
//! v1: `/slurm/uid_U/job_J/step_S/task_T`; v2:
//! `/system.slice/slurmstepd.scope/job_J/step_S/user/task_T`. A Slurm that was built with
//! `--enable-multiple-slurmd` puts the node's name in: `/slurm_NODE`, `NODE_slurmstepd.scope`.

/// A job, and the step within it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlurmHome {
    /// The job's number. An array's task has one of its own.
    pub job: u32,
    /// The step: `batch`, `extern`, `interactive`, or a number; `None` in the job's own cgroup.
    pub step: Option<String>,
    /// The task within the step, counted on this node.
    pub task: Option<u32>,
    /// The node's name, where several run on one machine.
    pub node: Option<String>,
    /// The user, where the path says (v1).
    pub user: Option<u32>,
}

/// The way down Slurm's part of a path.
#[derive(Default)]
pub(super) struct Walk {
    depth: Depth,
    home: SlurmHome,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Depth {
    #[default]
    Outside,
    Root,
    Job,
    Step,
}

impl Walk {
    /// The job, once its part of the path was passed.
    pub(super) fn found(&self) -> Option<&SlurmHome> {
        matches!(self.depth, Depth::Job | Depth::Step).then_some(&self.home)
    }

    pub(super) fn step(&mut self, part: &str) {
        if let Some(node) = root(part).filter(|_| self.found().is_none()) {
            self.depth = Depth::Root;
            self.home = SlurmHome {
                node: node.map(str::to_owned),
                ..SlurmHome::default()
            };
            return;
        }
        match self.depth {
            Depth::Outside => {}
            Depth::Root => {
                if let Some(uid) = number(part, "uid_") {
                    self.home.user = Some(uid);
                } else if let Some(job) = number(part, "job_") {
                    self.home.job = job;
                    self.depth = Depth::Job;
                } else {
                    // `system`: slurmstepd itself.
                    self.depth = Depth::Outside;
                }
            }
            Depth::Job => {
                let step = part.strip_prefix("step_").filter(|name| is_step(name));
                if let Some(step) = step {
                    self.home.step = Some(step.to_owned());
                    self.depth = Depth::Step;
                }
            }
            Depth::Step => {
                if self.home.task.is_none() {
                    self.home.task = number(part, "task_");
                }
            }
        }
    }
}

/// Slurm's own root, and the node's name if it has one.
fn root(part: &str) -> Option<Option<&str>> {
    if part == "slurm" || part == "slurmstepd.scope" {
        return Some(None);
    }
    let node = part
        .strip_prefix("slurm_")
        .or_else(|| part.strip_suffix("_slurmstepd.scope"))?;
    (!node.is_empty()).then_some(Some(node))
}

/// `batch`, `7`, and `7+1` of a heterogeneous job.
fn is_step(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+';
    (1..=32).contains(&name.len()) && name.bytes().all(is_plain)
}

fn number(part: &str, prefix: &str) -> Option<u32> {
    let digits = part.strip_prefix(prefix)?;
    // `parse` would take a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::super::classify;

    #[test]
    fn what_only_looks_like_a_job_is_none() {
        for path in [
            "/job_7",
            "/slurm/job_",
            "/slurm/uid_0/job_+7",
            "/slurm/uid_0/job_99999999999",
            "/slurm/uid_0/x/job_7",
            "/system.slice/slurmstepd.scope/system",
            "/system.slice/notslurmstepd.scope/job_7",
        ] {
            assert_eq!(classify(path).slurm, None, "{path}");
        }
    }
}
