// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether the books of the nodes behind an answer add up.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use serde::Serialize;

use super::{domains::Domains, subject::MAKING_UP_A_NODE};
use crate::store::{
    Store, StoreError,
    query::{
        IDLE_ENERGY, Matcher, NODE_ENERGY, POD_ENERGY, Query, Reading, Row, UNATTRIBUTED_ENERGY,
        UNIT_ENERGY,
    },
};

/// More nodes than these are not named in a question: the store is asked about all.
const NAMED_IN_A_QUESTION: usize = 50;

/// The books of some nodes over a window, in joules, each joule once.
///
/// `node = units + idle + unattributed + remainder`. Agents keep the remainder at zero in each
/// of their ticks; what is left here is what the store's own arithmetic adds (Prometheus
/// extrapolates an increase to the ends of its window), and scrapes that were missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Conservation {
    /// What the meters counted.
    node_joules: f64,
    /// What was charged to processes and the kernel, pods among them.
    units_joules: f64,
    /// The part of that which has the name of a pod.
    pods_joules: f64,
    /// What the machines would have used anyway.
    idle_joules: f64,
    /// What belongs to nobody.
    unattributed_joules: f64,
    /// What does not add up.
    remainder_joules: f64,
}

/// What is known of nodes.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// `None`: the store knows no meter of theirs.
    pub(super) conservation: Option<Conservation>,
    /// The nodes with an estimate among the meters that count.
    pub(super) estimates: HashSet<String>,
    pub(super) warnings: Vec<String>,
}

/// Asks for the books of these nodes.
pub(super) async fn read(
    store: &Store,
    nodes: &BTreeSet<String>,
    window: Duration,
) -> Result<Books, StoreError> {
    let query = |family| {
        let mut matchers = Vec::new();
        if nodes.len() <= NAMED_IN_A_QUESTION {
            matchers.push(Matcher::one_of("node", nodes.iter().cloned().collect()));
        }
        Query {
            family,
            matchers,
            by: vec!["node", "domain"],
            reading: Reading::Increase(window),
        }
    };
    let mut meters = query(&NODE_ENERGY);
    meters.by.push("estimated");
    let (idle, unattributed) = (query(&IDLE_ENERGY), query(&UNATTRIBUTED_ENERGY));
    let (mut units, pods) = (query(&UNIT_ENERGY), query(&POD_ENERGY));
    let kinds = MAKING_UP_A_NODE.iter().map(|&kind| kind.to_owned());
    units
        .matchers
        .push(Matcher::one_of("kind", kinds.collect()));
    let (meters, idle, unattributed, units, pods) = tokio::try_join!(
        store.read(&meters),
        store.read(&idle),
        store.read(&unattributed),
        store.read(&units),
        store.read(&pods),
    )?;
    let warnings = [&meters, &idle, &unattributed, &units, &pods];
    let warnings = warnings.map(|rows| rows.warnings.clone()).concat();
    if meters.rows.is_empty() {
        return Ok(Books {
            warnings,
            ..Books::default()
        });
    }
    let domains = Domains::seen(meters.rows.iter().map(place));
    let counts = |row: &&Row| {
        let (node, domain) = place(row);
        nodes.contains(node) && domains.counts(node, domain)
    };
    let total = |rows: &[Row]| rows.iter().filter(counts).map(|row| row.value).sum();
    let (node, idle, unattributed): (f64, f64, f64) = (
        total(&meters.rows),
        total(&idle.rows),
        total(&unattributed.rows),
    );
    let units: f64 = total(&units.rows);
    let estimates = meters.rows.iter().filter(counts);
    let estimates = estimates.filter(|row| row.labels.get(2).is_some_and(|e| e == "true"));
    Ok(Books {
        conservation: Some(Conservation {
            node_joules: node,
            units_joules: units,
            pods_joules: total(&pods.rows),
            idle_joules: idle,
            unattributed_joules: unattributed,
            remainder_joules: node - units - idle - unattributed,
        }),
        estimates: estimates.map(|row| place(row).0.to_owned()).collect(),
        warnings,
    })
}

fn place(row: &Row) -> (&str, &str) {
    let label = |at| row.labels.get(at).map_or("", String::as_str);
    (label(0), label(1))
}
