// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What Kepler calls processes and containers beside what eco does.

use eco_identity::classify;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    core::Core,
    ledger::accounts::{AccountId, Kind},
    series::{ProcessSeries, Tags, ViewSeries},
};

/// How many characters of a container's id stand for its name where nobody told one.
const SHORT_ID: usize = 12;

/// Labels by series, each as it was when the series was first seen.
#[derive(Debug, Default)]
pub(super) struct Labels {
    processes: FxHashMap<String, ProcessLabels>,
    containers: FxHashMap<AccountId, ContainerLabels>,
}

/// Of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessLabels {
    /// Its id, as text.
    pub(super) pid: String,
    /// The container that it runs in; empty for none.
    pub(super) container: String,
    /// The virtual machine that it is; empty for none.
    pub(super) vm: String,
    /// Whether another process of this id and name has come since: two series would be one.
    pub(super) is_succeeded: bool,
}

/// Of a container.
#[derive(Clone, Debug, Default)]
pub(super) struct ContainerLabels {
    /// What its pod calls it, or the beginning of its id.
    pub(super) name: String,
    /// Who runs it; empty if its cgroup does not tell.
    pub(super) runtime: &'static str,
    /// Its pod's uid; empty for none.
    pub(super) pod: String,
}

impl ProcessLabels {
    /// Kepler's `type`.
    pub(super) fn kind(&self) -> &'static str {
        match (self.container.is_empty(), self.vm.is_empty()) {
            (false, _) => "container",
            (true, false) => "vm",
            (true, true) => "regular",
        }
    }
}

impl Labels {
    /// Learns of those who are new, and forgets those whose series are gone.
    pub(super) fn keep_up(&mut self, core: &Core) {
        for series in core.books.board.iter() {
            if !self.processes.contains_key(&series.label) {
                self.welcome(core, series);
            }
        }
        for view in core.books.views.iter() {
            if view.kind == Kind::Container
                && !self.containers.contains_key(&view.account)
                && let Some(labels) = container(core, view)
            {
                self.containers.insert(view.account, labels);
            }
        }
        self.forget(core);
    }

    /// Those of a process, by its series' label.
    pub(super) fn process(&self, label: &str) -> Option<&ProcessLabels> {
        self.processes.get(label)
    }

    /// Those of a container, once all are known.
    pub(super) fn container(&self, account: AccountId) -> Option<&ContainerLabels> {
        self.containers.get(&account)
    }

    fn welcome(&mut self, core: &Core, series: &ProcessSeries) {
        let name = &series.name;
        let is_earlier = |other: &&ProcessSeries| {
            (other.name.pid, &other.name.comm) == (name.pid, &name.comm)
                && other.name.start_ns < name.start_ns
        };
        for earlier in core.books.board.iter().filter(is_earlier) {
            if let Some(labels) = self.processes.get_mut(&earlier.label) {
                labels.is_succeeded = true;
            }
        }
        self.processes
            .insert(series.label.clone(), process(core, series));
    }

    fn forget(&mut self, core: &Core) {
        let books = &core.books;
        if self.processes.len() > books.board.iter().count() {
            let shown: FxHashSet<&str> = books.board.iter().map(|s| s.label.as_str()).collect();
            self.processes.retain(|l, _| shown.contains(l.as_str()));
        }
        self.containers
            .retain(|account, _| books.views.of(*account).is_some());
    }
}

fn process(core: &Core, series: &ProcessSeries) -> ProcessLabels {
    let cgroup = series
        .account
        .and_then(|account| core.slots.get(&account))
        .and_then(|slot| core.usage.process(*slot))
        .map(|process| process.cgroup);
    let places = cgroup.map(|cgroup| core.homes.places(cgroup));
    let [container, machine] = places.unwrap_or_default();
    let name_of = |account: Option<AccountId>, kind| {
        let view = account.and_then(|account| core.books.views.of(account));
        let named = view.filter(|view| view.kind == kind);
        named.map_or_else(String::new, |view| view.name.clone())
    };
    ProcessLabels {
        pid: series.name.pid.to_string(),
        container: name_of(container, Kind::Container),
        vm: name_of(machine, Kind::Vm),
        is_succeeded: false,
    }
}

/// `None` as long as the name of its pod is waited for.
fn container(core: &Core, view: &ViewSeries) -> Option<ContainerLabels> {
    let short = || view.name.chars().take(SHORT_ID).collect();
    let Some((cgroup, of_pod)) = core.homes.home_of_container(view.account) else {
        // Gone within a tick, or of an earlier agent.
        return Some(ContainerLabels {
            name: short(),
            ..ContainerLabels::default()
        });
    };
    let paths = core.usage.cgroup(cgroup).and_then(|c| c.paths.as_ref());
    let home = paths.map(|paths| classify(paths.telling()));
    let runtime = home.and_then(|home| home.container);
    let runtime = runtime.map_or("", |container| container.runtime.label());
    let Some(of_pod) = of_pod else {
        return Some(ContainerLabels {
            name: short(),
            runtime,
            pod: String::new(),
        });
    };
    let Tags::Pod { uid, container, .. } = &core.books.views.of(of_pod)?.tags else {
        return None;
    };
    let name = Some(container.clone()).filter(|name| !name.is_empty());
    Some(ContainerLabels {
        name: name.unwrap_or_else(short),
        runtime,
        pod: uid.clone(),
    })
}
