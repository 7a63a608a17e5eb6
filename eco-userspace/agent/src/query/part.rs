// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The job that a run is a part of, all of it on this node.

use super::{present_by_domain, whole};
use crate::{
    api,
    core::Core,
    ledger::accounts::{AccountId, Kind},
    series::Tags,
    workloads::{cluster_job, cluster_job::ClusterJob, jobs::Job},
};

/// What a run is a part of, if it is.
pub(super) fn of(core: &Core, run: &Job) -> Option<api::PartOf> {
    let part = run.part.as_ref()?;
    let account = part.account.or_else(|| managed(core, &part.job));
    let total = account.map(|account| whole(core, account));
    let is_beside = |other: &&Job| match part.account {
        Some(account) => other.part.as_ref().and_then(|part| part.account) == Some(account),
        None => cluster_job::named(other) == part.job,
    };
    Some(api::PartOf {
        manager: part.job.manager.clone(),
        job: part.job.id.clone(),
        rank: part.rank,
        runs: core.jobs.iter().filter(is_beside).count() as u64,
        cpu_seconds: total.as_ref().map(|(cpu_ns, ..)| *cpu_ns as f64 / 1e9),
        energy_joules: total
            .map(|(_, energy, _)| present_by_domain(core, &energy))
            .unwrap_or_default(),
    })
}

/// The account of another manager's job, once it is shown.
fn managed(core: &Core, job: &ClusterJob) -> Option<AccountId> {
    let mut views = core.books.views.iter();
    let view = views.find(|view| {
        let Tags::Job { manager, id } = &view.tags else {
            return false;
        };
        view.kind == Kind::Job && (manager, id) == (&job.manager, &job.id)
    })?;
    Some(view.account)
}
