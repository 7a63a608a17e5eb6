// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this machine has, as far as any user can see it: for `eco status` without an agent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eco_meter::{
    Finding,
    model::{ModelConfig, ModelMeter},
    powercap,
};
use serde::Serialize;

use super::Page;
use crate::{out::Style, private_agent};

/// What an agent would find.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    kernel: String,
    /// RAPL meters that this user may read, by name.
    meters: Vec<String>,
    findings: Vec<Finding>,
    /// What the model would rest on.
    model: Option<String>,
    /// `v2`, `hybrid`, `v1` or `none`.
    cgroup: &'static str,
    /// Whether the kernel describes its own types, which tier 0 needs.
    btf: bool,
    /// Whether this user may load kernel programs.
    may_use_bpf: bool,
    /// The agent's program, if it is beside this one or in PATH.
    agent_program: Option<PathBuf>,
}

impl Machine {
    pub(super) fn detect() -> Self {
        let found = powercap::discover(Path::new("/sys"));
        let model = ModelMeter::detect(
            Path::new("/proc"),
            Path::new("/sys"),
            &ModelConfig::default(),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            kernel: release.trim().to_owned(),
            meters: found
                .meters
                .iter()
                .map(|meter| meter.descriptor().name.clone())
                .collect(),
            findings: found.findings,
            model: model.ok().map(|model| model.basis().to_owned()),
            cgroup: cgroup_version(&mounts),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            may_use_bpf: private_agent::counts_all(),
            agent_program: private_agent::find(),
        }
    }

    pub(super) fn render(&self, style: Style) -> String {
        let mut page = Page::new(style);
        page.section("This machine, without an agent");
        page.line("kernel", &self.kernel);
        page.line(
            "meters",
            &if self.meters.is_empty() {
                "none that this user may read".to_owned()
            } else {
                self.meters.join(", ")
            },
        );
        if self.meters.is_empty()
            && let Some(basis) = &self.model
        {
            page.line("estimate", basis);
        }
        page.line("cgroups", self.cgroup);
        page.line(
            "kernel types",
            if self.btf {
                "yes (BTF)"
            } else {
                "no BTF: tier procfs only"
            },
        );
        page.line(
            "BPF",
            if self.may_use_bpf {
                "this user may load programs"
            } else {
                "needs root, or CAP_BPF and CAP_PERFMON"
            },
        );
        match &self.agent_program {
            Some(path) => page.line("eco-agent", &path.display().to_string()),
            None => page.line("eco-agent", "not beside this program, nor in PATH"),
        }
        let notes: Vec<String> = self
            .findings
            .iter()
            .map(
                |Finding {
                     place,
                     what,
                     advice,
                 }| {
                    let advice = if advice.is_empty() {
                        String::new()
                    } else {
                        format!(". {advice}")
                    };
                    format!("{place}: {what}{advice}")
                },
            )
            .collect();
        page.advice(&notes);
        page.text
    }
}

fn cgroup_version(mountinfo: &str) -> &'static str {
    let has = |kind: &str| {
        mountinfo.lines().any(|line| {
            line.split_once(" - ")
                .is_some_and(|(_, after)| after.split(' ').next() == Some(kind))
        })
    };
    match (has("cgroup2"), has("cgroup")) {
        (true, false) => "v2",
        (true, true) => "hybrid",
        (false, true) => "v1",
        (false, false) => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_version_follows_from_what_is_mounted() {
        let v2 = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(cgroup_version(v2), "v2");
        assert_eq!(cgroup_version(v1), "v1");
        assert_eq!(cgroup_version(&format!("{v1}{v2}")), "hybrid");
        assert_eq!(cgroup_version("1 1 0:1 / / rw - ext4 cgroup2 rw\n"), "none");
    }

    #[test]
    fn what_this_machine_has_can_always_be_told() {
        let page = Machine::detect().render(Style::PLAIN);
        for label in ["kernel", "meters", "cgroups", "BPF", "eco-agent"] {
            assert!(
                page.contains(&format!("\n  {label}")),
                "{label} is not in\n{page}"
            );
        }
    }
}
