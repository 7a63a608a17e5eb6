// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which domains of a node add up without counting a joule twice.

use std::collections::{HashMap, HashSet};

use eco_agent::ledger::accounts::Sum;
use eco_meter::Domain;

/// For each node, the domains that count into a total, by the agent's own rule. Nodes differ:
/// what is a package here is a whole board there.
#[derive(Debug, Default)]
pub(super) struct Domains {
    counted: HashMap<String, HashSet<&'static str>>,
}

impl Domains {
    /// From every domain label that was seen on every node.
    pub(super) fn seen<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut seen: HashMap<&str, Vec<Domain>> = HashMap::new();
        for (node, label) in pairs {
            let domains = seen.entry(node).or_default();
            if let Some(domain) = domain(label)
                && !domains.contains(&domain)
            {
                domains.push(domain);
            }
        }
        let counted = seen.into_iter().map(|(node, domains)| {
            let sum = Sum::of(&domains);
            let counted = domains.iter().enumerate();
            let counted = counted.filter(|(at, _)| sum.counts(*at));
            (
                node.to_owned(),
                counted.map(|(_, domain)| domain.label()).collect(),
            )
        });
        Self {
            counted: counted.collect(),
        }
    }

    /// Whether a node's joules of this domain count into a total. Where a series has no domain,
    /// it is not one of several that overlap.
    pub(super) fn counts(&self, node: &str, label: &str) -> bool {
        let counted = || self.counted.get(node);
        label.is_empty() || counted().is_some_and(|counted| counted.contains(label))
    }
}

fn domain(label: &str) -> Option<Domain> {
    Domain::ALL
        .into_iter()
        .find(|domain| domain.label() == label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own_rule() {
        let pairs = [
            ("server", "package"),
            ("server", "core"),
            ("server", "dram"),
            ("server", "psys"),
            ("laptop", "psys"),
            ("laptop", "gpu"),
            ("arm", "board"),
        ];
        let domains = Domains::seen(pairs.into_iter());
        let counted = |node| {
            let all = Domain::ALL.map(Domain::label);
            all.into_iter()
                .filter(|label| domains.counts(node, label))
                .collect::<Vec<_>>()
        };
        assert_eq!(counted("server"), ["package", "dram"]);
        assert_eq!(counted("laptop"), ["psys", "gpu"]);
        assert_eq!(counted("arm"), ["board"]);
    }

    #[test]
    fn a_domain_that_nobody_knows_counts_for_nothing() {
        let domains = Domains::seen([("n", "warp")].into_iter());
        assert!(!domains.counts("n", "warp"));
        assert!(!domains.counts("elsewhere", "package"));
        assert!(domains.counts("n", ""));
    }
}
