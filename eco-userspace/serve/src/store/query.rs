// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be asked of a store, whichever store it is.

use std::time::Duration;

/// A family of eco's series, by the name that is promised, with the labels that make one of its
/// series what it is. Whatever else a store puts beside them (`instance`, `job`, a replica's
/// name) says who scraped it, not what it is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) identity: &'static [&'static str],
}

macro_rules! families {
    ($($constant:ident = $name:literal by $($label:literal)+;)+) => {
        $(pub(crate) static $constant: Family = Family {
            name: $name,
            identity: &[$($label),+],
        };)+
        /// All of them.
        pub(crate) static FAMILIES: &[&Family] = &[$(&$constant),+];
    };
}

families! {
    NODE_ENERGY = "eco_node_energy_joules_total"
        by "node" "domain" "device" "source" "estimated";
    NODE_CARBON = "eco_node_carbon_grams_total"
        by "node" "domain" "device" "source" "estimated";
    IDLE_ENERGY = "eco_idle_energy_joules_total" by "node" "domain" "device" "source";
    UNATTRIBUTED_ENERGY = "eco_unattributed_energy_joules_total"
        by "node" "domain" "device" "source" "reason";
    UNIT_ENERGY = "eco_unit_energy_joules_total" by "node" "kind" "name" "domain";
    UNIT_CPU = "eco_unit_cpu_seconds_total" by "node" "kind" "name";
    POD_ENERGY = "eco_pod_energy_joules_total"
        by "node" "namespace" "pod" "container" "uid" "domain";
    POD_CARBON = "eco_pod_carbon_grams_total"
        by "node" "namespace" "pod" "container" "uid" "domain";
    POD_CPU = "eco_pod_cpu_seconds_total" by "node" "namespace" "pod" "container" "uid";
    JOB_ENERGY = "eco_job_energy_joules_total" by "node" "manager" "job" "user" "domain";
    JOB_CARBON = "eco_job_carbon_grams_total" by "node" "manager" "job" "user" "domain";
    JOB_CPU = "eco_job_cpu_seconds_total" by "node" "manager" "job" "user";
    INTENSITY = "eco_carbon_intensity_grams_per_kwh"
        by "node" "zone" "source" "kind" "estimated";
}

/// What of a series is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Its last value.
    Last,
    /// How much it grew over so long.
    Increase(Duration),
    /// How much it grew per second, over so long.
    Rate(Duration),
}

/// What is asked of a label's value. An absent label is an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
    Present,
    Absent,
}

impl Test {
    /// Whether a value passes.
    pub(crate) fn passes(&self, value: &str) -> bool {
        let is_among = |values: &[String]| values.iter().any(|wanted| wanted == value);
        match self {
            Self::OneOf(values) => is_among(values),
            Self::NoneOf(values) => !is_among(values),
            Self::Present => !value.is_empty(),
            Self::Absent => value.is_empty(),
        }
    }
}

/// A label and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) label: &'static str,
    pub(crate) test: Test,
}

impl Matcher {
    /// The label has this value.
    pub(crate) fn is(label: &'static str, value: impl Into<String>) -> Self {
        Self::one_of(label, vec![value.into()])
    }

    /// The label has one of these.
    pub(crate) fn one_of(label: &'static str, values: Vec<String>) -> Self {
        Self {
            label,
            test: Test::OneOf(values),
        }
    }
}

/// A question: the sums, by some labels, of a reading of those series that pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) family: &'static Family,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) by: Vec<&'static str>,
    pub(crate) reading: Reading,
}

/// One sum.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The values of the labels that were asked for, in that order; empty where there is none.
    pub(crate) labels: Vec<String>,
    /// Finite, and never below zero.
    pub(crate) value: f64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// What is missing from it, in words: a part of the store, or an agent, did not answer.
    pub(crate) warnings: Vec<String>,
}
