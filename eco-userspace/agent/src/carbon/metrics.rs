// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The carbon series of `/metrics`. Without any intensity ever there is none; once there was
//! one they stay, as every counter does.

use eco_attribution::Reason;
use eco_intensity::Emissions;
use eco_meter::Domain;
use jiff::Timestamp;

use super::books::CarbonRow;
use crate::{
    core::Core,
    ledger::accounts::Kind,
    outlets::{
        exposition::Exposition,
        metrics::{
            catalogue, each_device, each_domain,
            workloads::{job_labels, labelled, pod_labels, units},
        },
    },
    series::{Phase, ViewSeries},
};

/// Writes them all.
pub(crate) fn write(core: &Core, text: &mut Exposition<'_>) {
    if !core.books.carbon.is_open() {
        return;
    }
    write_intensity(core, text);
    write_node(core, text);
    write_units(core, text);
    write_jobs(core, text);
    write_pods(core, text);
}

fn write_intensity(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::CARBON_INTENSITY_GRAMS_PER_KWH);
    if let Some(intensity) = core.intensities.current(Timestamp::now()) {
        let labels = [
            ("zone", intensity.zone.as_str()),
            ("source", intensity.source.as_str()),
            ("kind", intensity.kind.label()),
            (
                "estimated",
                if intensity.estimated { "true" } else { "false" },
            ),
        ];
        text.real(&labels, intensity.g_per_kwh.get());
    }
    text.family(&catalogue::CARBON_PUE);
    text.real(&[], core.intensities.pue().get());
    text.family(&catalogue::CARBON_UNCOVERED_ENERGY);
    let uncovered = &core.books.carbon.uncovered;
    each_device(core, text, &[], |text, at, labels| {
        text.joules(labels, uncovered.get(at).copied().unwrap_or(0));
    });
}

fn write_node(core: &Core, text: &mut Exposition<'_>) {
    let carbon = &core.books.carbon;
    text.family(&catalogue::NODE_CARBON);
    for (at, slot) in core.meters.iter().enumerate() {
        let d = &slot.descriptor;
        let estimated = d.source.is_estimate();
        let labels = [
            ("domain", d.domain.label()),
            ("device", d.device.as_str()),
            ("source", d.source.label()),
            ("estimated", if estimated { "true" } else { "false" }),
        ];
        text.real(&labels, carbon.node.get(at).grams().0);
    }
    text.family(&catalogue::IDLE_CARBON);
    devices(core, text, &carbon.idle, &[]);
    text.family(&catalogue::DEPARTED_CARBON);
    devices(core, text, &carbon.departed, &[]);
    text.family(&catalogue::UNATTRIBUTED_CARBON);
    for (reason, row) in Reason::ALL.iter().zip(&carbon.unattributed) {
        devices(core, text, row, &[("reason", reason.label())]);
    }
    text.family(&catalogue::CARBON_CONSERVATION_ERROR_GRAMS);
    each_device(core, text, &[], |text, at, labels| {
        let error = carbon.conservation_error(at, &core.books.board);
        let grams = Emissions(error.unsigned_abs()).grams().0;
        text.real(labels, if error < 0 { -grams } else { grams });
    });
}

fn write_units(core: &Core, text: &mut Exposition<'_>) {
    let books = &core.books;
    text.family(&catalogue::UNIT_CARBON);
    let other = [("kind", "other"), ("name", "other")];
    let kernel = [("kind", "kernel"), ("name", "kernel")];
    domains(core, text, [&books.carbon.other, NONE], &other);
    domains(core, text, [&books.carbon.kernel, NONE], &kernel);
    for series in books.board.iter() {
        let labels = [("kind", "process"), ("name", series.label.as_str())];
        domains(core, text, [&series.carbon, NONE], &labels);
    }
    let mut title = String::new();
    for view in units(core) {
        labelled(view, &mut title, |labels| {
            domains(core, text, shown(core, view), labels);
        });
    }
}

fn write_jobs(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::JOB_CARBON);
    let views = core.books.views.iter();
    for job in views.filter(|view| view.kind == Kind::Job) {
        domains(core, text, shown(core, job), &job_labels(job));
    }
}

fn write_pods(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::POD_CARBON);
    for (view, labels) in core.books.views.iter().filter_map(pod_labels) {
        domains(core, text, shown(core, view), &labels);
    }
}

/// A row in which everything is zero.
const NONE: &CarbonRow = &CarbonRow::EMPTY;

/// What a view shows: nothing until its zero was seen, then its account on top of what it had
/// before this agent.
fn shown<'a>(core: &'a Core, view: &'a ViewSeries) -> [&'a CarbonRow; 2] {
    let hidden = matches!(view.phase, Phase::Announced(_));
    match core.books.accounts.get(view.account) {
        Some(account) if !hidden => [&account.carbon, &view.base_carbon],
        _ => [NONE, NONE],
    }
}

/// One sample a meter.
fn devices(core: &Core, text: &mut Exposition<'_>, row: &CarbonRow, more: &[(&str, &str)]) {
    each_device(core, text, more, |text, at, labels| {
        text.real(labels, row.get(at).grams().0);
    });
}

/// One sample a domain, over its devices: the sum of two rows.
fn domains(core: &Core, text: &mut Exposition<'_>, rows: [&CarbonRow; 2], labels: &[(&str, &str)]) {
    each_domain(core, labels, |domain, labels| {
        let emissions: Emissions = rows.iter().map(|row| of_domain(core, row, domain)).sum();
        text.real(labels, emissions.grams().0);
    });
}

fn of_domain(core: &Core, row: &CarbonRow, domain: Domain) -> Emissions {
    let cells = row.iter().zip(&core.domains);
    cells
        .filter(|(_, d)| **d == domain)
        .map(|(cell, _)| cell)
        .sum()
}
