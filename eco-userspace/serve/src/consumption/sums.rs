// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows of a store, added up under the name of an item or of one of its parts.

use std::collections::{BTreeMap, BTreeSet};

use super::domains::Domains;
use crate::store::query::Row;

/// Which labels a store is asked for, and what each is good for.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    labels: Vec<&'static str>,
    named: usize,
    breakdown: Option<usize>,
    node: usize,
    domain: usize,
}

impl Layout {
    /// The labels that name an item, the one that it is broken down by, and the two that a sum
    /// over domains needs. PromQL wants none of them twice.
    pub(crate) fn new(naming: &[&'static str], breakdown: Option<&'static str>) -> Self {
        let mut labels = naming.to_vec();
        let mut place = |label| {
            labels
                .iter()
                .position(|known| *known == label)
                .unwrap_or_else(|| {
                    labels.push(label);
                    labels.len() - 1
                })
        };
        Self {
            breakdown: breakdown.map(&mut place),
            node: place("node"),
            domain: place("domain"),
            named: naming.len(),
            labels,
        }
    }

    /// What to ask for.
    pub(crate) fn labels(&self) -> Vec<&'static str> {
        self.labels.clone()
    }

    /// The label that items are broken down by.
    pub(super) fn breakdown(&self) -> Option<&'static str> {
        self.breakdown.map(|at| self.labels[at])
    }

    /// An item's name.
    pub(super) fn names(&self, key: &[String]) -> BTreeMap<&'static str, String> {
        let names = self.labels.iter().copied().zip(key.iter().cloned());
        names.collect()
    }
}

/// One sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    /// Each joule once.
    pub(crate) total: f64,
    pub(crate) by_domain: BTreeMap<String, f64>,
    pub(crate) nodes: BTreeSet<String>,
}

/// Sums by name.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    sums: BTreeMap<Vec<String>, Sum>,
}

impl Sums {
    /// One for each item.
    pub(crate) fn whole(rows: &[Row], layout: &Layout) -> Self {
        Self::of(rows, layout, None)
    }

    /// One for each part of an item: the last of a key is the part's label. A part by domain is
    /// that domain, whether or not it counts into the whole.
    pub(super) fn parts(rows: &[Row], layout: &Layout) -> Self {
        Self::of(rows, layout, layout.breakdown)
    }

    fn of(rows: &[Row], layout: &Layout, part: Option<usize>) -> Self {
        let at = |row, place| label(row, place);
        let pairs = rows
            .iter()
            .map(|row| (at(row, layout.node), at(row, layout.domain)));
        let domains = Domains::seen(pairs);
        let each_counts = part == Some(layout.domain);
        let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
        for row in rows {
            let mut key: Vec<String> = row.labels.iter().take(layout.named).cloned().collect();
            if let Some(place) = part {
                key.push(label(row, place).to_owned());
            }
            let (node, domain) = (label(row, layout.node), label(row, layout.domain));
            let sum = sums.entry(key).or_default();
            if each_counts || domains.counts(node, domain) {
                sum.total += row.value;
            }
            if !domain.is_empty() {
                *sum.by_domain.entry(domain.to_owned()).or_default() += row.value;
            }
            if !node.is_empty() && !sum.nodes.contains(node) {
                sum.nodes.insert(node.to_owned());
            }
        }
        Self { sums }
    }

    /// All, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[String], &Sum)> {
        self.sums.iter().map(|(key, sum)| (key.as_slice(), sum))
    }

    /// The total under a name; `None` where there was no row.
    pub(super) fn total(&self, key: &[String]) -> Option<f64> {
        self.sums.get(key).map(|sum| sum.total)
    }
}

fn label(row: &Row, place: usize) -> &str {
    row.labels.get(place).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(labels: &[&str], value: f64) -> Row {
        Row {
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            value,
        }
    }

    #[test]
    fn no_label_is_asked_for_twice() {
        let nodes = Layout::new(&["node"], Some("domain"));
        assert_eq!(nodes.labels(), ["node", "domain"]);
        let pods = Layout::new(&["namespace", "pod"], Some("container"));
        assert_eq!(
            pods.labels(),
            ["namespace", "pod", "container", "node", "domain"]
        );
    }

    #[test]
    fn a_pod_on_two_unlike_nodes_is_the_sum_by_each_nodes_own_rule() {
        let layout = Layout::new(&["pod"], None);
        let rows = [
            row(&["a", "n1", "package"], 10.0),
            row(&["a", "n1", "core"], 7.0),
            row(&["a", "n2", "board"], 5.0),
        ];
        let sums = Sums::whole(&rows, &layout);
        let (_, sum) = sums.iter().next().unwrap();
        assert_eq!(sum.total, 15.0);
        assert_eq!(sum.by_domain["core"], 7.0);
        assert_eq!(sum.nodes.len(), 2);
    }

    #[test]
    fn parts_by_domain_show_each_domain_whole() {
        let layout = Layout::new(&["pod"], Some("domain"));
        let rows = [
            row(&["a", "package", "n"], 10.0),
            row(&["a", "core", "n"], 7.0),
        ];
        let parts = Sums::parts(&rows, &layout);
        let core = ["a".to_owned(), "core".to_owned()];
        assert_eq!(parts.total(&core), Some(7.0));
        assert_eq!(Sums::whole(&rows, &layout).total(&core[..1]), Some(10.0));
    }

    #[test]
    fn what_has_no_row_is_unknown_rather_than_zero() {
        let sums = Sums::whole(&[], &Layout::new(&["pod"], None));
        assert_eq!(sums.total(&["a".to_owned()]), None);
    }
}
