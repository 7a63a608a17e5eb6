// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every joule that a meter counted is in exactly one place: at any scrape, and as Prometheus
//! adds over time.
//!
//! One experiment, of which each test states one finding: processes of all kinds come and go,
//! many more than are shown by name, and a scrape comes each second.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{sync::OnceLock, thread, time::Duration};

use anyhow::Result;
use eco_tests::{
    agent::{Agent, Setup},
    increase::{Falls, Increase, PAYERS, books, carbon_books},
    length,
    metrics::Metrics,
    needs,
    power::PowerTree,
    workload::Workload,
};

fn seconds() -> u64 {
    length::of(30, 60)
}

/// So few are shown by name that they are always taking turns.
const TOP: &str = "6";

/// What a kWh emits from some second on, in g: the machine's grid is a restless one.
const GRID: [(u64, f64); 3] = [(0, 360.0), (10, 24.5), (20, 871.25)];

/// Books may be off by what a number on paper is rounded to.
const MILLIJOULE_UJ: i128 = 1_000;

fn scrapes() -> &'static [Metrics] {
    // One that failed is not tried again for each test.
    static SCRAPES: OnceLock<Result<Vec<Metrics>>> = OnceLock::new();
    SCRAPES.get_or_init(experiment).as_ref().unwrap()
}

fn experiment() -> Result<Vec<Metrics>> {
    let tree = PowerTree::with_dram()?;
    let mut setup = Setup::metered_by(tree.sysfs());
    setup.variables.push(("ECO_TOP", TOP.to_owned()));
    setup.variables.push(("ECO_CARBON__PUE", "1.3".to_owned()));
    let constant = GRID[0].1.to_string();
    setup.variables.push(("ECO_CARBON__G_PER_KWH", constant));
    let agent = Agent::start(setup)?;
    let mut churns = Vec::new();
    for _ in 0..3 {
        churns.push(Workload::new(&format!("churn {}", seconds()))?.start()?);
    }
    let mut scrapes = Vec::new();
    for second in 0..seconds() {
        if let Some((_, g_per_kwh)) = GRID[1..].iter().find(|(from, _)| *from == second) {
            agent.push_intensity("restless", *g_per_kwh)?;
        }
        scrapes.push(agent.scrape()?);
        thread::sleep(Duration::from_secs(1));
    }
    Ok(scrapes)
}

/// What Prometheus adds up over all scrapes: what all units, idle and nobody have come by, against
/// what the node has, at least so much. `counters` is what the names have between who and `total`.
fn assert_adds_up(counters: &str, least: i128) {
    let mut increase = Increase::default();
    for metrics in scrapes() {
        increase.observe(metrics).unwrap();
    }
    let name = |whose: &str| format!("eco_{whose}_{counters}_total");
    for domain in ["package", "dram"] {
        let units = PAYERS
            .iter()
            .map(|kind| increase.of(&name("unit"), kind, domain));
        let parts = units.sum::<i128>()
            + increase.of(&name("idle"), "", domain)
            + increase.of(&name("unattributed"), "", domain);
        let node = increase.of(&name("node"), "", domain);
        let off = parts as f64 / node as f64 - 1.0;
        println!("{domain}: {parts} of {node}: {off:+.5}");
        assert!(node > least, "{domain}: {node}");
        assert!(off.abs() <= 0.005, "{domain}: off by {off:+.5}");
    }
}

#[test]
fn at_any_scrape_the_parts_are_the_node_to_the_millijoule() {
    needs!(Programs, Root, ExactCpu);
    for (second, metrics) in scrapes().iter().enumerate() {
        let books = books(metrics).unwrap();
        assert_eq!(books.len(), 2, "package and dram");
        for (domain, node, parts) in books {
            let off = node - parts;
            assert!(
                off.abs() <= MILLIJOULE_UJ,
                "scrape {second}, {domain}: {off} uJ are missing"
            );
        }
        assert_eq!(metrics.sum("eco_conservation_error_joules", &[]), 0.0);
    }
}

#[test]
fn over_time_what_prometheus_adds_is_the_node() {
    needs!(Programs, Root, ExactCpu);
    // In uJ.
    assert_adds_up("energy_joules", 10_000_000);
}

#[test]
fn at_any_scrape_the_parts_emitted_what_the_node_did() {
    needs!(Programs, Root, ExactCpu);
    for (second, metrics) in scrapes().iter().enumerate() {
        let books = carbon_books(metrics);
        assert_eq!(books.len(), 2, "package and dram");
        for (domain, node, parts) in books {
            let off = (node - parts).abs();
            assert!(
                off <= 1e-9 * node,
                "scrape {second}, {domain}: {parts} g is not {node} g"
            );
        }
        assert_eq!(metrics.sum("eco_carbon_conservation_error_grams", &[]), 0.0);
    }
}

#[test]
fn over_time_the_carbon_that_prometheus_adds_is_the_nodes() {
    needs!(Programs, Root, ExactCpu);
    assert_adds_up("carbon_grams", 0);
}

#[test]
fn each_tick_is_counted_at_the_intensity_of_its_time() {
    needs!(Programs, Root, ExactCpu);
    let of = |metrics: &Metrics, name| metrics.sum(name, &[("domain", "package")]);
    let mut before: Option<&Metrics> = None;
    let mut seen = Vec::new();
    for metrics in scrapes() {
        if let Some(before) = before {
            let grown = |name| of(metrics, name) - of(before, name);
            let joules = grown("eco_node_energy_joules_total");
            let grams = grown("eco_node_carbon_grams_total");
            seen.push(grams / joules * 3.6e6 / 1.3);
        }
        before = Some(metrics);
    }
    for (at, g_per_kwh) in seen.iter().enumerate() {
        // Scrapes around a change see both.
        let possible = GRID.windows(2).find_map(|pair| {
            (pair[1].0 == at as u64 + 1)
                .then(|| (pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1)))
        });
        let now = GRID.iter().rev().find(|(from, _)| *from <= at as u64);
        let now = now.map_or(0.0, |(_, g_per_kwh)| *g_per_kwh);
        let (least, most) = possible.unwrap_or((now, now));
        // Joules are printed to the microjoule.
        let range = least * 0.999_99..=most * 1.000_01;
        assert!(range.contains(g_per_kwh), "second {at}: {g_per_kwh} g/kWh");
    }
}

#[test]
fn these_tests_could_fail_for_processes_did_come_and_go() {
    needs!(Programs, Root, ExactCpu);
    let last = scrapes().last().unwrap();
    assert!(last.sum("eco_departed_energy_joules_total", &[]) > 0.0);
    let by_kind = |kind| last.sum("eco_unit_energy_joules_total", &[("kind", kind)]);
    assert!(by_kind("process") > 0.0 && by_kind("other") > 0.0);
}

#[test]
fn no_counter_falls() {
    needs!(Programs, Root, ExactCpu);
    let mut falls = Falls::default();
    scrapes().iter().for_each(|metrics| falls.observe(metrics));
    assert!(falls.found().is_empty(), "{:#?}", falls.found());
}

#[test]
fn processes_by_name_are_bounded_and_the_dead_leave() {
    needs!(Programs, Root, ExactCpu);
    let top: usize = TOP.parse().unwrap();
    for metrics in scrapes() {
        let filter = [("kind", "process"), ("domain", "package")];
        let shown = metrics
            .select("eco_unit_energy_joules_total", &filter)
            .count();
        // Those who leave stay for one more scrape.
        assert!(shown <= 2 * top, "{shown} processes are shown");
    }
}

#[test]
fn a_counter_starts_at_zero_whatever_the_meter_stood_at() {
    needs!(Programs, Root, ExactCpu);
    let first = scrapes().first().unwrap();
    let node = first.sum("eco_node_energy_joules_total", &[("domain", "package")]);
    // The raw counter stands at 262 kJ; since the agent's start not even a minute has passed.
    assert!(node < 60.0 * 60.0, "{node} J");
}
