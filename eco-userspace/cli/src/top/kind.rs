// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be listed, and in which order.

use std::cmp::Ordering;

use clap::ValueEnum;
use eco_agent::api::Unit;

use crate::energy;

/// What is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Processes.
    #[default]
    Process,
    /// Kubernetes pods.
    Pod,
    /// Containers.
    Container,
    /// Jobs: `eco run`, Slurm, Kubernetes.
    Job,
    /// Systemd units.
    Systemd,
    /// Users.
    User,
    /// Virtual machines.
    Vm,
    /// Cgroups that are nothing of the above.
    Cgroup,
    /// Steps of Slurm jobs.
    Step,
    /// Parts of jobs: ranks, and what `eco run` runs within another's job.
    Run,
}

impl Kind {
    /// In the order of Tab and of the menu.
    pub(crate) const ALL: [Self; 10] = [
        Self::Process,
        Self::Pod,
        Self::Container,
        Self::Job,
        Self::Systemd,
        Self::User,
        Self::Vm,
        Self::Cgroup,
        Self::Step,
        Self::Run,
    ];

    /// The value of the API's `kind`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Job => "job",
            Self::Systemd => "systemd",
            Self::User => "user",
            Self::Vm => "vm",
            Self::Cgroup => "cgroup",
            Self::Step => "step",
            Self::Run => "run",
        }
    }

    /// Many of it, for people.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Process => "processes",
            Self::Pod => "pods",
            Self::Container => "containers",
            Self::Job => "jobs",
            Self::Systemd => "systemd units",
            Self::User => "users",
            Self::Vm => "virtual machines",
            Self::Cgroup => "cgroups",
            Self::Step => "steps",
            Self::Run => "runs",
        }
    }

    /// What a unit of this kind consists of, the most telling first; nothing for a process.
    pub(crate) fn parts(self) -> &'static [Self] {
        match self {
            Self::Process => &[],
            Self::Pod => &[Self::Container, Self::Process],
            Self::Job => &[
                Self::Process,
                Self::Step,
                Self::Pod,
                Self::Container,
                Self::Run,
            ],
            _ => &[Self::Process],
        }
    }
}

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// CPU time over the window.
    Cpu,
    /// Power over the window.
    #[default]
    Watts,
    /// Energy since the unit is known.
    Energy,
    /// Process id, or the number of tasks.
    Pid,
    /// Owner.
    User,
    /// Command or name.
    Name,
}

impl Sort {
    /// In the order of the menu.
    pub(crate) const ALL: [Self; 6] = [
        Self::Cpu,
        Self::Watts,
        Self::Energy,
        Self::Pid,
        Self::User,
        Self::Name,
    ];

    /// For the menu.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU%",
            Self::Watts => "W",
            Self::Energy => "ENERGY",
            Self::Pid => "PID or TASKS",
            Self::User => "USER",
            Self::Name => "NAME",
        }
    }

    /// Whether the largest comes first; names and process ids go up from the smallest.
    pub(crate) fn is_descending(self) -> bool {
        matches!(self, Self::Cpu | Self::Watts | Self::Energy)
    }

    /// The usual order.
    pub(crate) fn compare(self, a: &Unit, b: &Unit) -> Ordering {
        let order = match self {
            Self::Cpu => b.cpu_percent.total_cmp(&a.cpu_percent),
            Self::Watts => b.watts.total_cmp(&a.watts),
            Self::Energy => joules(b).total_cmp(&joules(a)),
            Self::Pid if a.pid.is_none() => a.tasks.cmp(&b.tasks),
            Self::Pid => a.pid.cmp(&b.pid),
            Self::User => a.user.cmp(&b.user),
            Self::Name => a.label.cmp(&b.label),
        };
        // Ties must not dance from one tick to the next.
        order
            .then_with(|| a.pid.cmp(&b.pid))
            .then_with(|| a.name.cmp(&b.name))
    }
}

/// The energy of a unit over domains that do not contain each other, in J.
pub(crate) fn joules(unit: &Unit) -> f64 {
    energy::total(&unit.energy_joules).unwrap_or(0.0)
}

/// What tells a unit from all others of its kind: the name, and of pods the uid.
pub(crate) fn key(unit: &Unit) -> &str {
    unit.uid.as_deref().unwrap_or(&unit.name)
}
