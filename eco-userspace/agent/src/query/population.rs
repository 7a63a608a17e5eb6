// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How many processes live in each view.

use eco_usage::State;
use rustc_hash::FxHashMap;

use crate::{core::Core, ledger::accounts::AccountId};

/// Living processes by view.
#[derive(Default)]
pub(super) struct Population(FxHashMap<AccountId, u64>);

impl Population {
    /// Counts those that live now, in one walk over all.
    pub(super) fn of(core: &Core) -> Self {
        let mut counts = FxHashMap::default();
        for (slot, process) in core.usage.processes() {
            if process.state != State::Alive {
                continue;
            }
            let by_descent = core.jobs.of_slot(slot, &core.usage, true);
            let views = core
                .homes
                .known_views(process.cgroup, process.uid, by_descent, &core.jobs);
            for view in views.into_iter().flatten() {
                *counts.entry(view).or_default() += 1;
            }
        }
        Self(counts)
    }

    /// Those of one view.
    pub(super) fn in_view(&self, view: AccountId) -> u64 {
        self.0.get(&view).copied().unwrap_or(0)
    }
}
