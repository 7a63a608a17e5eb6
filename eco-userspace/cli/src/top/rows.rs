// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lines of the list: which units, in which order, and how they hang together.

use std::collections::{HashMap, HashSet};

use eco_agent::api::Unit;

use super::kind::Sort;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which of the units.
    pub(crate) unit: usize,
    /// What stands before the name in a tree.
    pub(crate) branch: String,
}

/// What is shown of the units, and how.
pub(crate) struct Arrangement<'a> {
    /// Only units that have this in what they show, whatever its case.
    pub(crate) filter: &'a str,
    /// Only units of this user.
    pub(crate) user: Option<&'a str>,
    /// The order.
    pub(crate) sort: Sort,
    /// Whether it is turned round.
    pub(crate) inverted: bool,
    /// Whether processes hang below their parents.
    pub(crate) tree: bool,
}

impl Arrangement<'_> {
    /// The lines.
    pub(crate) fn rows(&self, units: &[Unit]) -> Vec<Row> {
        let words = self.filter.to_lowercase();
        let mut shown: Vec<usize> = (0..units.len())
            .filter(|&i| matches(&units[i], &words))
            .filter(|&i| self.user.is_none() || units[i].user.as_deref() == self.user)
            .collect();
        shown.sort_by(|&a, &b| {
            let order = self.sort.compare(&units[a], &units[b]);
            if self.inverted {
                order.reverse()
            } else {
                order
            }
        });
        if self.tree {
            return tree(units, &shown);
        }
        let flat = shown.into_iter().map(|unit| Row {
            unit,
            branch: String::new(),
        });
        flat.collect()
    }
}

/// Whether a unit has the words, which are in lower case, in what it shows.
pub(crate) fn matches(unit: &Unit, lower_case: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(lower_case);
    lower_case.is_empty()
        || has(&unit.label)
        || has(&unit.name)
        || [&unit.pod, &unit.container]
            .into_iter()
            .flatten()
            .any(|text| has(text))
        || unit.pid.is_some_and(|pid| pid.to_string() == lower_case)
}

/// Hangs each process below its parent, where that is shown too. `shown` is in order.
fn tree(units: &[Unit], shown: &[usize]) -> Vec<Row> {
    let pids: HashSet<u32> = shown.iter().filter_map(|&i| units[i].pid).collect();
    let mut children: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for &i in shown {
        match units[i].parent {
            Some(parent) if pids.contains(&parent) && units[i].pid != Some(parent) => {
                children.entry(parent).or_default().push(i);
            }
            _ => roots.push(i),
        }
    }
    let mut rows = Vec::with_capacity(shown.len());
    let mut placed = HashSet::new();
    // After the roots come all, for those whose parents are a circle: that cannot be, but an
    // agent could say so, and nobody may vanish for it.
    for root in roots.into_iter().chain(shown.iter().copied()) {
        let mut open = vec![(root, String::new(), String::new())];
        while let Some((unit, branch, below)) = open.pop() {
            if !placed.insert(unit) {
                continue;
            }
            rows.push(Row { unit, branch });
            let own = units[unit]
                .pid
                .and_then(|pid| children.remove(&pid))
                .unwrap_or_default();
            let last = own.len().saturating_sub(1);
            for (n, child) in own.into_iter().enumerate().rev() {
                let (corner, bar) = if n == last {
                    ("└─ ", "   ")
                } else {
                    ("├─ ", "│  ")
                };
                open.push((child, format!("{below}{corner}"), format!("{below}{bar}")));
            }
        }
    }
    rows
}
