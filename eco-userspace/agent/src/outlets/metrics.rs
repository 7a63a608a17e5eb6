// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `/metrics` shows, read straight from the books.

pub(crate) mod catalogue;
pub mod page;
pub(crate) mod workloads;

use std::time::Duration;

use eco_attribution::Reason;
use eco_meter::Domain;
use eco_push::trace::TraceContext;
use jiff::Timestamp;

use crate::{
    core::Core,
    ledger::accounts::Row,
    outlets::exposition::{Dialect, Exemplar, Exposition},
    own::latency::Distribution,
    series::{Phase, ViewSeries},
};

/// Bounds of the latency histograms, in seconds.
const BOUNDS: [(&str, f64); 9] = [
    ("0.0005", 0.0005),
    ("0.001", 0.001),
    ("0.0025", 0.0025),
    ("0.005", 0.005),
    ("0.01", 0.01),
    ("0.025", 0.025),
    ("0.05", 0.05),
    ("0.25", 0.25),
    ("1", 1.0),
];

/// Writes everything into `out`, whose earlier content goes.
pub fn render(core: &mut Core, dialect: Dialect, out: &mut String) {
    let node = core.node.clone();
    let mut text = Exposition::new(out, dialect, &node);
    write_node(core, &mut text);
    write_units(core, &mut text);
    workloads::write_jobs(core, &mut text);
    workloads::write_pods(core, &mut text);
    write_conservation(core, &mut text);
    crate::carbon::metrics::write(core, &mut text);
    crate::core::gpus::write(core, &mut text);
    crate::outlets::kepler::metrics::write(core, &mut text);
    write_ledgers(core, &mut text);
    write_own(core, &mut text);
    write_bpf(core, &mut text);
    crate::outlets::push::write(core, &mut text);
    text.finish();
}

fn write_node(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::NODE_ENERGY);
    for (at, slot) in core.meters.iter().enumerate() {
        let d = &slot.descriptor;
        let estimated = if d.source.is_estimate() {
            "true"
        } else {
            "false"
        };
        let labels = [
            ("domain", d.domain.label()),
            ("device", d.device.as_str()),
            ("source", d.source.label()),
            ("estimated", estimated),
        ];
        text.joules(&labels, core.books.node[at]);
    }
    text.family(&catalogue::IDLE_ENERGY);
    write_devices(core, text, &core.books.idle, &[]);
    text.family(&catalogue::DEPARTED_ENERGY);
    write_devices(core, text, &core.books.departed, &[]);
    text.family(&catalogue::UNATTRIBUTED_ENERGY);
    for (reason, row) in Reason::ALL.iter().zip(&core.books.unattributed) {
        write_devices(core, text, row, &[("reason", reason.label())]);
    }
    text.family(&catalogue::METER_STILL_READS);
    for slot in core.meters.iter().filter(|slot| slot.is_present()) {
        let d = &slot.descriptor;
        let labels = [("domain", d.domain.label()), ("device", d.device.as_str())];
        text.integer(&labels, slot.still.into());
    }
}

/// One sample a meter.
fn write_devices(core: &Core, text: &mut Exposition<'_>, row: &Row, more: &[(&str, &str)]) {
    each_device(core, text, more, |text, at, labels| {
        text.joules(labels, row.get(at).copied().unwrap_or(0));
    });
}

/// Writes a sample a meter, given its place and labels. Two sources of one device are told apart
/// by `source`.
pub(crate) fn each_device(
    core: &Core,
    text: &mut Exposition<'_>,
    more: &[(&str, &str)],
    mut write: impl FnMut(&mut Exposition<'_>, usize, &[(&str, &str)]),
) {
    for (at, slot) in core.meters.iter().enumerate() {
        let d = &slot.descriptor;
        let mut labels = [("", ""); 4];
        labels[0] = ("domain", d.domain.label());
        labels[1] = ("device", &d.device);
        labels[2] = ("source", d.source.label());
        let mut used = 3;
        for label in more.iter().take(1) {
            labels[used] = *label;
            used += 1;
        }
        write(text, at, &labels[..used]);
    }
}

/// The most labels that a series has beside its domain.
const MOST_LABELS: usize = 4;

/// Calls `write` once a domain, which may have many meters, with that domain as a label more.
pub(crate) fn each_domain(
    core: &Core,
    labels: &[(&str, &str)],
    mut write: impl FnMut(Domain, &[(&str, &str)]),
) {
    debug_assert!(labels.len() <= MOST_LABELS, "{labels:?} are too many");
    let mut all = [("", ""); MOST_LABELS + 1];
    let used = labels.len().min(MOST_LABELS);
    all[..used].copy_from_slice(&labels[..used]);
    let mut done = [false; Domain::ALL.len()];
    for domain in &core.domains {
        if !std::mem::replace(&mut done[domain.slot()], true) {
            all[used] = ("domain", domain.label());
            write(*domain, &all[..=used]);
        }
    }
}

fn write_units(core: &Core, text: &mut Exposition<'_>) {
    let books = &core.books;
    text.family(&catalogue::UNIT_ENERGY);
    let other = [("kind", "other"), ("name", "other")];
    let kernel = [("kind", "kernel"), ("name", "kernel")];
    write_domains(core, text, &books.other_energy, None, &other);
    write_domains(core, text, &books.kernel_energy, None, &kernel);
    for series in books.board.iter() {
        let labels = [("kind", "process"), ("name", series.label.as_str())];
        write_domains(core, text, &series.energy, None, &labels);
    }
    let mut title = String::new();
    for view in workloads::units(core) {
        let (energy, base) = shown(core, view);
        workloads::labelled(view, &mut title, |labels| {
            write_domains(core, text, energy, base, labels)
        });
    }
    text.family(&catalogue::UNIT_CPU);
    text.seconds(&other, books.other_cpu_ns);
    text.seconds(&kernel, books.kernel_cpu_ns);
    for series in books.board.iter() {
        text.seconds(
            &[("kind", "process"), ("name", series.label.as_str())],
            series.cpu_ns,
        );
    }
    for view in workloads::units(core) {
        let cpu_ns = shown_cpu_ns(core, view);
        workloads::labelled(view, &mut title, |labels| text.seconds(labels, cpu_ns));
    }
}

/// What a view shows: nothing until its zero was seen, then its account on top of what it had
/// before this agent.
pub(crate) fn shown<'a>(core: &'a Core, view: &'a ViewSeries) -> (&'a [u64], Option<&'a Row>) {
    let hidden = matches!(view.phase, Phase::Announced(_));
    match core.books.accounts.get(view.account) {
        Some(account) if !hidden => (&account.energy, Some(&view.base_energy)),
        _ => (&[], None),
    }
}

fn shown_cpu_ns(core: &Core, view: &ViewSeries) -> u64 {
    let hidden = matches!(view.phase, Phase::Announced(_));
    match core.books.accounts.get(view.account) {
        Some(account) if !hidden => account.cpu_ns + view.base_cpu_ns,
        _ => 0,
    }
}

/// One sample a domain, over its devices.
fn write_domains(
    core: &Core,
    text: &mut Exposition<'_>,
    row: &[u64],
    base: Option<&Row>,
    labels: &[(&str, &str)],
) {
    write_traced_domains(core, text, row, base, labels, None);
}

/// The same, of what a trace uses.
fn write_traced_domains(
    core: &Core,
    text: &mut Exposition<'_>,
    row: &[u64],
    base: Option<&Row>,
    labels: &[(&str, &str)],
    trace: Option<TraceContext>,
) {
    let now_ms = trace.map_or(0, |_| Timestamp::now().as_millisecond().unsigned_abs());
    each_domain(core, labels, |domain, labels| {
        let before = base.map_or(0, |base| sum(core, base, domain));
        let uj = before + sum(core, row, domain);
        let exemplar = trace.map(|trace| Exemplar::new(trace, uj, now_ms));
        text.joules_of(labels, uj, exemplar.as_ref());
    });
}

fn write_conservation(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::CONSERVATION_ERROR_JOULES);
    for (at, slot) in core.meters.iter().enumerate() {
        let d = &slot.descriptor;
        let error = core.books.conservation_error(at).unwrap_or(0);
        let labels = [
            ("domain", d.domain.label()),
            ("device", d.device.as_str()),
            ("source", d.source.label()),
        ];
        text.real(&labels, error as f64 / 1e6);
    }
}

fn write_ledgers(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::USAGE_DISCREPANCIES);
    for (kind, value) in core.frame.counters.named() {
        text.integer(&[("kind", kind)], value.into());
    }
    text.family(&catalogue::FAILED_SCANS);
    text.integer(&[], core.failed_scans.into());
    text.family(&catalogue::TICKS);
    text.integer(&[], core.ticks.into());
    text.family(&catalogue::NODE_PROCESSES);
    text.integer(&[], core.frame.processes.into());
}

fn write_own(core: &Core, text: &mut Exposition<'_>) {
    text.family(&catalogue::AGENT_CPU);
    text.seconds(&[], crate::own::cpu_ns());
    text.family(&catalogue::AGENT_ENERGY);
    each_domain(core, &[], |domain, labels| {
        text.joules(labels, sum(core, &core.own_energy, domain));
    });
    text.family(&catalogue::AGENT_RESIDENT_BYTES);
    text.integer(&[], crate::own::resident_bytes().into());
    text.family(&catalogue::AGENT_TICK_SECONDS);
    write_histogram(text, &core.latencies.tick);
    text.family(&catalogue::METER_READ_SECONDS);
    write_histogram(text, &core.latencies.meter);
    text.family(&catalogue::SCRAPE_SECONDS);
    write_histogram(text, &core.latencies.scrape);
    text.family(&catalogue::TIER_INFO);
    text.integer(&[("tier", core.usage.tier().label())], 1);
    text.family(&catalogue::BUILD_INFO);
    text.integer(&[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn write_bpf(core: &mut Core, text: &mut Exposition<'_>) {
    let costs = core.usage.costs();
    let fold = costs.fold;
    text.family(&catalogue::BPF_RUN_SECONDS);
    let mean = fold.timed_ns as f64 / fold.timed.max(1) as f64;
    text.seconds(&[("program", "tasks")], costs.scan_ns);
    core.fold_seconds = core.fold_seconds.max(mean * fold.deaths as f64 / 1e9);
    text.real(&[("program", "deaths")], core.fold_seconds);
    text.family(&catalogue::BPF_RUN_COUNT);
    text.integer(&[("program", "tasks")], costs.scans.into());
    text.integer(&[("program", "deaths")], fold.deaths.into());
    text.family(&catalogue::BPF_MAP_BYTES);
    text.integer(&[], costs.map_bytes.into());
    text.family(&catalogue::BPF_RING_FULL);
    text.integer(&[], fold.ring_full.into());
    text.family(&catalogue::BPF_DEATHS_LOST);
    text.integer(&[], fold.lost.into());
}

fn write_histogram(text: &mut Exposition<'_>, distribution: &Distribution) {
    let within = BOUNDS.map(|(label, s)| (label, distribution.within(Duration::from_secs_f64(s))));
    text.histogram(
        &within,
        distribution.count(),
        distribution.total().as_nanos() as u64,
    );
}

pub(crate) fn sum(core: &Core, row: &[u64], domain: Domain) -> u64 {
    row.iter()
        .zip(&core.domains)
        .filter(|(_, d)| **d == domain)
        .map(|(uj, _)| uj)
        .sum()
}
