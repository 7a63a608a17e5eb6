// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a span says of energy and carbon: `energy_joules`, `carbon_grams` and `cpu_seconds` as in
//! the rest of the API, under `eco.`; and names of OpenTelemetry's conventions where it has them.

use std::borrow::Cow;

use eco_push::otlp::Attribute;

use super::trail::Used;
use crate::{
    api,
    core::Core,
    query,
    workloads::{
        cluster_job::{self, ClusterJob},
        jobs::Job,
        pods,
    },
};

type Attributes<'a> = Vec<(Cow<'a, str>, Attribute<'a>)>;

/// Of a job that is closed.
pub(super) fn of_job<'a>(core: &Core, job: &Job, account: &'a api::Job) -> Attributes<'a> {
    let mut all = of_whole(&cluster_job::named(job));
    let (_, energy_uj, grams) = query::used(core, job.account);
    all.push(("eco.run.id".into(), text(&account.id)));
    all.push(("user.name".into(), text(&account.user)));
    if let Some(rank) = job.part.as_ref().and_then(|part| part.rank) {
        all.push(("eco.rank".into(), Attribute::Count(rank.into())));
    }
    all.push(("eco.cpu_seconds".into(), number(account.cpu_seconds)));
    if let Some(energy_uj) = energy_uj {
        all.push(("eco.energy_joules".into(), number(energy_uj as f64 / 1e6)));
        let idle = number(account.idle_share_joules);
        all.push(("eco.idle_share_joules".into(), idle));
    }
    for (domain, joules) in &account.energy_joules {
        all.push((
            format!("eco.{domain}.energy_joules").into(),
            number(*joules),
        ));
    }
    if let Some(grams) = grams {
        all.push(("eco.carbon_grams".into(), number(grams)));
        let is_partial = Attribute::Flag(account.carbon_is_partial);
        all.push(("eco.carbon_is_partial".into(), is_partial));
    }
    all.push(("eco.processes".into(), Attribute::Count(account.processes)));
    all.push(("eco.estimated".into(), Attribute::Flag(account.estimated)));
    all.push(("eco.tier".into(), text(&account.tier)));
    all
}

/// Of a job on all its nodes: no node knows what it used on the others.
pub(super) fn of_whole(job: &ClusterJob) -> Attributes<'static> {
    let owned = |text: &str| Attribute::Text(text.to_owned().into());
    let mut all: Attributes<'static> = vec![
        ("eco.job.manager".into(), owned(&job.manager)),
        ("eco.job.id".into(), owned(&job.id)),
    ];
    if job.manager == pods::MANAGER
        && let Some((namespace, name)) = job.id.split_once('/')
    {
        all.push(("k8s.namespace.name".into(), owned(namespace)));
        all.push(("k8s.job.name".into(), owned(name)));
    }
    all
}

/// Of a window in a job.
pub(super) fn of_window<'a>(used: &Used) -> impl Iterator<Item = (Cow<'a, str>, Attribute<'a>)> {
    let grams = used.grams.map(|grams| ("eco.carbon_grams", grams));
    let joules = used.joules.map(|joules| ("eco.energy_joules", joules));
    let always = [
        ("eco.cpu_seconds", used.cpu_seconds),
        ("eco.resolution_seconds", used.resolution_seconds),
    ];
    let all = always.into_iter().chain(joules).chain(grams);
    all.map(|(key, value)| (key.into(), number(value)))
}

fn text(text: &str) -> Attribute<'_> {
    Attribute::Text(text.into())
}

fn number(number: f64) -> Attribute<'static> {
    Attribute::Number(number)
}
