// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `/metrics` shows, read straight from the books.

pub(crate) mod workloads;

use std::time::Duration;

use eco_attribution::Reason;
use eco_meter::Domain;

use crate::{
    accounts::Row,
    core::Core,
    exposition::{Dialect, Exposition, Type},
    latency::Distribution,
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
    crate::gpus::write(core, &mut text);
    write_ledgers(core, &mut text);
    write_own(core, &mut text);
    write_bpf(core, &mut text);
    #[cfg(feature = "push")]
    crate::push::write(core, &mut text);
    text.finish();
}

fn write_node(core: &Core, text: &mut Exposition<'_>) {
    text.family(
        "eco_node_energy_joules_total",
        Type::Counter,
        "Energy that a meter counted since eco first ran on this machine.",
    );
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
    text.family(
        "eco_idle_energy_joules_total",
        Type::Counter,
        "The part that the machine would have used anyway.",
    );
    write_devices(core, text, &core.books.idle, &[]);
    text.family(
        "eco_departed_energy_joules_total",
        Type::Counter,
        "Energy of processes that were shown by name and are no more.",
    );
    write_devices(core, text, &core.books.departed, &[]);
    text.family(
        "eco_unattributed_energy_joules_total",
        Type::Counter,
        "Energy that belongs to nobody, by reason.",
    );
    for (reason, row) in Reason::ALL.iter().zip(&core.books.unattributed) {
        write_devices(core, text, row, &[("reason", reason.label())]);
    }
    text.family(
        "eco_meter_still_reads",
        Type::Gauge,
        "Reads in a row in which a meter did not move.",
    );
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

fn write_units(core: &Core, text: &mut Exposition<'_>) {
    let books = &core.books;
    text.family(
        "eco_unit_energy_joules_total",
        Type::Counter,
        "Energy of a unit. Kinds process, kernel and other make up the node; the rest are views.",
    );
    let other = [("kind", "other"), ("name", "other")];
    let kernel = [("kind", "kernel"), ("name", "kernel")];
    write_domains(core, text, &books.other_energy, None, &other);
    write_domains(core, text, &books.kernel_energy, None, &kernel);
    for series in books.board.iter() {
        let labels = [("kind", "process"), ("name", series.label.as_str())];
        write_domains(core, text, &series.energy, None, &labels);
    }
    for view in workloads::units(core) {
        let (energy, base) = shown(core, view);
        workloads::labelled(view, |labels| {
            write_domains(core, text, energy, base, labels)
        });
    }
    text.family(
        "eco_unit_cpu_seconds_total",
        Type::Counter,
        "CPU time of a unit.",
    );
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
        workloads::labelled(view, |labels| text.seconds(labels, cpu_ns));
    }
}

/// What a view shows: nothing until its zero was seen, then its account on top of what it had
/// before this agent.
fn shown<'a>(core: &'a Core, view: &'a ViewSeries) -> (&'a [u64], Option<&'a Row>) {
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
    let mut all = [("", ""); 5];
    let used = labels.len().min(4);
    all[..used].copy_from_slice(&labels[..used]);
    let mut done = [false; Domain::ALL.len()];
    for domain in &core.domains {
        if std::mem::replace(&mut done[domain.slot()], true) {
            continue;
        }
        all[used] = ("domain", domain.label());
        let before = base.map_or(0, |base| sum(core, base, *domain));
        text.joules(&all[..=used], before + sum(core, row, *domain));
    }
}

fn write_conservation(core: &Core, text: &mut Exposition<'_>) {
    text.family(
        "eco_conservation_error_joules",
        Type::Gauge,
        "What the books miss of what a meter counted. Always 0.",
    );
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
    text.family(
        "eco_usage_discrepancies",
        Type::Gauge,
        "Where the ledgers of CPU time did not agree, since the agent started, by kind.",
    );
    for (kind, value) in core.frame.counters.named() {
        text.integer(&[("kind", kind)], value.into());
    }
    text.family(
        "eco_failed_scans_total",
        Type::Counter,
        "Ticks in which tasks were not read.",
    );
    text.integer(&[], core.failed_scans.into());
    text.family("eco_ticks_total", Type::Counter, "Ticks done.");
    text.integer(&[], core.ticks.into());
    text.family("eco_node_processes", Type::Gauge, "Processes alive.");
    text.integer(&[], core.frame.processes.into());
}

fn write_own(core: &Core, text: &mut Exposition<'_>) {
    text.family(
        "eco_agent_cpu_seconds_total",
        Type::Counter,
        "CPU time of this agent.",
    );
    text.seconds(&[], crate::own::cpu_ns());
    text.family(
        "eco_agent_energy_joules_total",
        Type::Counter,
        "The agent's own share, which is in its process's too.",
    );
    let mut done = [false; Domain::ALL.len()];
    for domain in &core.domains {
        if !std::mem::replace(&mut done[domain.slot()], true) {
            text.joules(
                &[("domain", domain.label())],
                sum(core, &core.own_energy, *domain),
            );
        }
    }
    text.family(
        "eco_agent_resident_bytes",
        Type::Gauge,
        "Memory of this agent.",
    );
    text.integer(&[], crate::own::resident_bytes().into());
    text.family(
        "eco_agent_tick_seconds",
        Type::Histogram,
        "Time that a tick takes.",
    );
    write_histogram(text, &core.latencies.tick);
    text.family(
        "eco_meter_read_seconds",
        Type::Histogram,
        "Time that reading a meter takes.",
    );
    write_histogram(text, &core.latencies.meter);
    text.family(
        "eco_scrape_seconds",
        Type::Histogram,
        "Time that answering a scrape takes.",
    );
    write_histogram(text, &core.latencies.scrape);
    text.family("eco_tier_info", Type::Info, "How CPU time is known.");
    text.integer(&[("tier", core.usage.tier().label())], 1);
    text.family("eco_build_info", Type::Info, "This agent.");
    text.integer(&[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn write_bpf(core: &mut Core, text: &mut Exposition<'_>) {
    let costs = core.usage.costs();
    let fold = costs.fold;
    text.family(
        "eco_bpf_run_seconds_total",
        Type::Counter,
        "Time in eco's kernel programs: scans as measured, the fold as sampled.",
    );
    let mean = fold.timed_ns as f64 / fold.timed.max(1) as f64;
    text.seconds(&[("program", "tasks")], costs.scan_ns);
    core.fold_seconds = core.fold_seconds.max(mean * fold.deaths as f64 / 1e9);
    text.real(&[("program", "deaths")], core.fold_seconds);
    text.family(
        "eco_bpf_run_count_total",
        Type::Counter,
        "Runs of eco's kernel programs.",
    );
    text.integer(&[("program", "tasks")], costs.scans.into());
    text.integer(&[("program", "deaths")], fold.deaths.into());
    text.family(
        "eco_bpf_map_bytes",
        Type::Gauge,
        "Kernel memory of eco's maps.",
    );
    text.integer(&[], costs.map_bytes.into());
    text.family(
        "eco_bpf_ring_full_total",
        Type::Counter,
        "Deaths that were kept under their cgroup alone, as the ring was full.",
    );
    text.integer(&[], fold.ring_full.into());
    text.family(
        "eco_bpf_deaths_lost_total",
        Type::Counter,
        "Deaths that no map had room for.",
    );
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

fn sum(core: &Core, row: &[u64], domain: Domain) -> u64 {
    row.iter()
        .zip(&core.domains)
        .filter(|(_, d)| **d == domain)
        .map(|(uj, _)| uj)
        .sum()
}
