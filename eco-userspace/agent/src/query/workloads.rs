// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods and the jobs of other managers.

use std::time::Duration;

use super::{
    Caller, USERS_WINDOW, carbon_by_domain, estimated, may_see, present_by_domain, sources, unit,
    whole,
};
use crate::{
    api,
    core::Core,
    ledger::{accounts::Kind, window::Booked},
    series::{Tags, ViewSeries},
    workloads::slurm,
};

/// A pod by its name: of several, the one that was met last. `None` if nothing of it is shown.
#[must_use]
pub fn pod(
    core: &Core,
    namespace: &str,
    name: &str,
    window: Option<Duration>,
    caller: Caller,
) -> Option<api::Pod> {
    // Account numbers come again, so their order says nothing of what was met last.
    let views = core
        .books
        .views
        .iter()
        .filter(|view| view.kind == Kind::Pod);
    let named = views.filter(|view| match &view.tags {
        Tags::Pod {
            namespace: of, pod, ..
        } => of == namespace && pod == name,
        _ => false,
    });
    let view = named
        .filter(|view| may_see(core, view, caller))
        .max_by_key(|view| (core.homes.is_alive(view, &core.jobs), view.phase.since()))?;
    let Tags::Pod { uid, .. } = &view.tags else {
        return None;
    };
    let booked = booked(core, window, caller);
    let measured = measured(core, view, &booked)?;
    let known = core.homes.pods.known(uid).cloned().unwrap_or_default();
    let owner = |owner: &eco_identity::kubernetes::Owner| api::Owner {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
    };
    let requests = known.requests();
    let register = core.homes.pods.directory.register();
    let devices = register.devices().iter().filter(|device| {
        // The kubelet names the pod, not its uid; the living one has the device.
        device.namespace == namespace && device.pod == name
    });
    Some(api::Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.clone(),
        node: core.node.clone(),
        labels: known.labels.clone(),
        owner: known.owner.as_ref().map(owner),
        job: known.job.as_ref().map(owner),
        requests: api::Requests {
            cpu_milli: requests.cpu_milli,
            memory_bytes: requests.memory_bytes,
            gpus: requests.gpus,
        },
        devices: devices.map(|device| device.id.clone()).collect(),
        window_seconds: booked.span.as_secs_f64(),
        cpu_percent: measured.cpu_percent,
        watts: measured.watts,
        cpu_seconds: measured.cpu_seconds,
        energy_joules: measured.energy_joules,
        carbon_grams: measured.carbon_grams,
        containers: containers(core, uid, &booked),
        estimated: estimated(core),
        sources: sources(core),
        tier: core.usage.tier().label().into(),
    })
}

/// A job of `manager`, of eco's one that runs have joined; `None` if nothing of it is shown.
#[must_use]
pub fn managed_job(
    core: &Core,
    manager: &str,
    id: &str,
    window: Option<Duration>,
    caller: Caller,
) -> Option<api::ManagedJob> {
    let is_of = |view: &&ViewSeries| match &view.tags {
        Tags::Job {
            manager: of,
            id: job,
        } => of == manager && job == id,
        _ => false,
    };
    let views = || core.books.views.iter().filter(is_of);
    // Two users may have a job of one id of eco's.
    let mut jobs = views().filter(|view| view.kind == Kind::Job);
    let view = jobs.find(|view| may_see(core, view, caller))?;
    let booked = booked(core, window, caller);
    let measured = measured(core, view, &booked)?;
    let steps = views().filter(|view| view.kind == Kind::Step);
    let told = (manager == slurm::MANAGER)
        .then(|| core.homes.slurm.directory.job(id.parse().ok()?))
        .flatten();
    let told = told.as_deref();
    let word = |text: fn(&eco_identity::slurm::SlurmJob) -> &String| {
        told.map(text).filter(|text| !text.is_empty()).cloned()
    };
    Some(api::ManagedJob {
        manager: manager.to_owned(),
        id: id.to_owned(),
        name: word(|job| &job.name).unwrap_or_else(|| id.to_owned()),
        user: view.user.clone(),
        account: word(|job| &job.account),
        partition: word(|job| &job.partition),
        array: told
            .and_then(|job| job.array)
            .map(|(array, task)| format!("{array}_{task}")),
        node: core.node.clone(),
        window_seconds: booked.span.as_secs_f64(),
        cpu_percent: measured.cpu_percent,
        watts: measured.watts,
        cpu_seconds: measured.cpu_seconds,
        energy_joules: measured.energy_joules,
        carbon_grams: measured.carbon_grams,
        steps: steps.map(|step| self::step(core, step)).collect(),
        estimated: estimated(core),
        sources: sources(core),
        tier: core.usage.tier().label().into(),
    })
}

fn containers(core: &Core, pod: &str, booked: &Booked) -> Vec<api::PodContainer> {
    let views = core.books.views.iter();
    let of_pod = views.filter(|view| view.kind == Kind::PodContainer);
    let mut containers: Vec<api::PodContainer> = of_pod
        .filter_map(|view| {
            let Tags::Pod { uid, container, .. } = &view.tags else {
                return None;
            };
            let measured = (uid == pod).then(|| measured(core, view, booked))??;
            Some(api::PodContainer {
                name: container.clone(),
                cpu_percent: measured.cpu_percent,
                watts: measured.watts,
                cpu_seconds: measured.cpu_seconds,
                energy_joules: measured.energy_joules,
                carbon_grams: measured.carbon_grams,
            })
        })
        .collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    containers
}

fn step(core: &Core, view: &ViewSeries) -> api::Step {
    let (cpu_ns, energy, carbon) = whole(core, view.account);
    let manager = view
        .name
        .split_once('/')
        .map_or(view.name.as_str(), |(_, id)| id);
    api::Step {
        id: manager.to_owned(),
        cpu_seconds: cpu_ns as f64 / 1e9,
        energy_joules: present_by_domain(core, &energy),
        carbon_grams: carbon_by_domain(core, &carbon),
    }
}

fn booked(core: &Core, window: Option<Duration>, caller: Caller) -> Booked {
    let least = match caller {
        Caller::Administrator => Duration::ZERO,
        Caller::User(_) => USERS_WINDOW,
    };
    core.recent.last(window.unwrap_or_default().max(least))
}

/// Power over a window, and all since the view is known, those under earlier agents included.
fn measured(core: &Core, view: &ViewSeries, booked: &Booked) -> Option<api::Unit> {
    let mut unit = unit(core, view.kind, view.name.clone(), view.account, booked)?;
    let (cpu_ns, energy, carbon) = whole(core, view.account);
    unit.energy_joules = present_by_domain(core, &energy);
    unit.carbon_grams = carbon_by_domain(core, &carbon);
    unit.cpu_seconds = cpu_ns as f64 / 1e9;
    Some(unit)
}
