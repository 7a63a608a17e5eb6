// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Views under the names that their owners know: jobs and pods.

use super::{catalogue, shown, shown_cpu_ns, write_domains, write_traced_domains};
use crate::{
    core::Core,
    ledger::accounts::Kind,
    outlets::exposition::Exposition,
    series::{Tags, ViewSeries},
};

/// The views that are units. A pod's containers are shown with the pod.
pub(crate) fn units(core: &Core) -> impl Iterator<Item = &ViewSeries> {
    let views = core.books.views.iter();
    views.filter(|view| view.kind != Kind::PodContainer)
}

/// Gives `write` a unit's labels; its title is put together in `title`. Pods of one name are told
/// apart by their uid.
pub(crate) fn labelled(view: &ViewSeries, title: &mut String, write: impl FnOnce(&[(&str, &str)])) {
    title.clear();
    view.write_title(title);
    let labels = [("kind", view.kind.label()), ("name", title.as_str())];
    match &view.tags {
        Tags::Pod { uid, .. } => write(&[labels[0], labels[1], ("uid", uid)]),
        _ => write(&labels),
    }
}

pub(super) fn write_jobs(core: &Core, text: &mut Exposition<'_>) {
    let jobs = || {
        let views = core.books.views.iter();
        views.filter(|view| view.kind == Kind::Job)
    };
    text.family(&catalogue::JOB_ENERGY);
    for job in jobs() {
        let (energy, base) = shown(core, job);
        let trace = core.jobs.trace(job.account);
        write_traced_domains(core, text, energy, base, &job_labels(job), trace);
    }
    text.family(&catalogue::JOB_CPU);
    for job in jobs() {
        text.seconds(&job_labels(job), shown_cpu_ns(core, job));
    }
}

pub(crate) fn job_labels(job: &ViewSeries) -> [(&str, &str); 3] {
    let (manager, id) = match &job.tags {
        Tags::Job { manager, id } => (manager.as_str(), id.as_str()),
        _ => ("eco", job.name.as_str()),
    };
    [("manager", manager), ("job", id), ("user", &job.user)]
}

pub(super) fn write_pods(core: &Core, text: &mut Exposition<'_>) {
    let containers = || core.books.views.iter().filter_map(pod_labels);
    text.family(&catalogue::POD_ENERGY);
    for (view, labels) in containers() {
        let (energy, base) = shown(core, view);
        write_domains(core, text, energy, base, &labels);
    }
    text.family(&catalogue::POD_CPU);
    for (view, labels) in containers() {
        text.seconds(&labels, shown_cpu_ns(core, view));
    }
}

pub(crate) fn pod_labels(view: &ViewSeries) -> Option<(&ViewSeries, [(&str, &str); 4])> {
    let Tags::Pod {
        namespace,
        pod,
        uid,
        container,
    } = &view.tags
    else {
        return None;
    };
    (view.kind == Kind::PodContainer).then_some((
        view,
        [
            ("namespace", namespace.as_str()),
            ("pod", pod.as_str()),
            ("container", container.as_str()),
            ("uid", uid.as_str()),
        ],
    ))
}
