// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lies within what: the processes of a pod, the containers of a job.

use eco_usage::Slot;
use rustc_hash::FxHashMap;

use super::{Caller, UnitsRequest, may_see};
use crate::{
    api,
    core::Core,
    ledger::accounts::{AccountId, Kind},
    series::{Tags, ViewSeries},
};

/// A unit whose parts are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    kind: Kind,
    name: String,
}

impl Within {
    /// Reads `KIND:NAME`; of pods, the uid stands for the name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let kind = Kind::from_label(kind).filter(|kind| is_whole(*kind))?;
        (!name.is_empty()).then(|| Self {
            kind,
            name: name.to_owned(),
        })
    }
}

/// Who lies where, as far as a request wants to know.
pub(super) struct Parts {
    caller: Caller,
    whole: Whole,
    parents: bool,
    around: FxHashMap<AccountId, Vec<AccountId>>,
}

/// Whose parts are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// The machine's: all.
    Machine,
    /// A unit's.
    Unit(AccountId),
    /// Those of one that is not here, or not to be seen.
    Unknown,
}

impl Parts {
    pub(super) fn new(core: &Core, request: &UnitsRequest, caller: Caller) -> Self {
        let whole = match &request.within {
            None => Whole::Machine,
            Some(within) => {
                let mut views = core.books.views.iter();
                let view = views.find(|v| v.kind == within.kind && v.name == within.name);
                let seen = view.filter(|view| may_see(core, view, caller));
                seen.map_or(Whole::Unknown, |view| Whole::Unit(view.account))
            }
        };
        // Processes say themselves where they are.
        let containers = request.kind.is_none_or(|kind| kind == Kind::Container);
        let others = request.kind != Some(Kind::Process);
        let needed = containers || (others && (request.parents || whole != Whole::Machine));
        let around = if needed {
            core.homes.surroundings(&core.jobs)
        } else {
            FxHashMap::default()
        };
        Self {
            caller,
            whole,
            parents: request.parents,
            around,
        }
    }

    /// Whether a view is among the parts.
    pub(super) fn holds(&self, view: AccountId) -> bool {
        match self.whole {
            Whole::Machine => true,
            Whole::Unknown => false,
            Whole::Unit(whole) => self.around(view).contains(&whole),
        }
    }

    /// What a process lies in, if that is wanted; `None` where it is not among the parts.
    pub(super) fn parents(&self, core: &Core, slot: Slot) -> Option<Option<Vec<String>>> {
        if self.whole == Whole::Machine && !self.parents {
            return Some(None);
        }
        let process = core.usage.process(slot)?;
        let by_descent = core.jobs.of_slot(slot, &core.usage, true);
        let views = core
            .homes
            .known_views(process.cgroup, process.uid, by_descent, &core.jobs);
        let is_part = match self.whole {
            Whole::Machine => true,
            Whole::Unknown => false,
            Whole::Unit(whole) => views.contains(&Some(whole)),
        };
        let names = || self.names(core, views.into_iter().flatten());
        is_part.then(|| self.parents.then(names))
    }

    /// Says where a view lies.
    pub(super) fn place(&self, core: &Core, view: &ViewSeries, unit: Option<&mut api::Unit>) {
        let Some(unit) = unit else {
            return;
        };
        let around = self.around(view.account);
        if view.kind == Kind::Container {
            let of_pod = around.iter().find_map(|account| {
                let around = core.books.views.of(*account)?;
                (around.kind == Kind::PodContainer).then_some(around)
            });
            if let Some(Tags::Pod { container, .. }) = of_pod.map(|view| &view.tags) {
                unit.pod = of_pod.map(|view| view.title());
                unit.container = Some(container.clone()).filter(|name| !name.is_empty());
            }
        }
        if self.parents {
            unit.parents = Some(self.names(core, around.iter().copied()));
        }
    }

    fn around(&self, view: AccountId) -> &[AccountId] {
        self.around.get(&view).map_or(&[], Vec::as_slice)
    }

    fn names(&self, core: &Core, accounts: impl Iterator<Item = AccountId>) -> Vec<String> {
        let views = accounts.filter_map(|account| core.books.views.of(account));
        views
            .filter(|view| is_whole(view.kind) && may_see(core, view, self.caller))
            .map(|view| format!("{}:{}", view.kind.label(), view.name))
            .collect()
    }
}

/// Whether units of a kind can be asked for their parts.
fn is_whole(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Process | Kind::Kernel | Kind::Other | Kind::PodContainer
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_is_a_kind_and_a_name_that_may_hold_colons() {
        let within = |kind, name: &str| {
            Some(Within {
                kind,
                name: name.into(),
            })
        };
        assert_eq!(Within::parse("pod:12-ab"), within(Kind::Pod, "12-ab"));
        assert_eq!(Within::parse("cgroup:/a:b"), within(Kind::Cgroup, "/a:b"));
        for bad in [
            "",
            "pod",
            "pod:",
            "process:x[1]@2",
            "pod_container:x",
            ":x",
            "Pod:x",
        ] {
            assert_eq!(Within::parse(bad), None, "{bad}");
        }
    }
}
