// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Data flows from left to right, and so do dependencies: a crate uses only what stands to
//! its left (ARCHITECTURE.md).

use super::Violation;
use super::manifest::{dependencies, members, package};
use super::tree::Tree;

const RULE: &str = "dependency-direction";

/// The rooms of the house, each column to the right of the one before. Crates of one
/// column do not use each other.
const COLUMNS: [&[&str]; 14] = [
    // Compiled before everything else, on every fresh machine.
    &["xtask"],
    &["eco-driver-standin"],
    // The stand-ins are for tests, and whoever asks the driver, the kubelet or the controller is
    // tested with one.
    &[
        "eco-common",
        "eco-driver",
        "eco-nvml-standin",
        "eco-amd-smi-standin",
        "eco-kubernetes-standin",
        "eco-redfish-standin",
    ],
    &["eco-ebpf", "eco-nvml", "eco-amdsmi", "eco-https"],
    &["eco-usage", "eco-meter", "eco-identity", "eco-intensity"],
    &["eco-attribution", "eco-history", "eco-push"],
    // Privileged: it must link nothing of what follows.
    &["eco-agent"],
    &["eco-carbon"],
    &["eco-predictor"],
    &["eco-scheduler", "eco-advisor", "eco-report"],
    &["eco-offset"],
    &["eco-serve"],
    &["eco-cli", "eco-python"],
    &["eco-tests"],
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let packages: Vec<_> = members(tree)
        .filter_map(|(file, text)| Some((file, text, package(text)?)))
        .collect();
    for (file, text, name) in &packages {
        let Some(own) = column(name) else {
            let what = format!("`{name}` has no column in {}", file!());
            found.push(Violation::new(file, 1, RULE, what));
            continue;
        };
        for dependency in dependencies(text) {
            // Xtask is in a column of its own for what it may use, and used by nobody.
            let is_left = |column: usize| column < own && column > 0;
            if column(&dependency.name).is_some_and(|column| !is_left(column)) {
                let what = format!("`{name}` uses `{}`, not to its left", dependency.name);
                found.push(Violation::new(file, dependency.line, RULE, what));
            }
        }
    }
    found
}

fn column(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(user: &str, used: &str) -> bool {
        let text =
            format!("[package]\nname = \"{user}\"\n[dependencies]\n{used}.workspace = true\n");
        let found = check(&Tree::from([("x/Cargo.toml", text.as_str())]));
        assert!(found.len() <= 1 && found.iter().all(|violation| violation.line == 4));
        found.is_empty()
    }

    #[test]
    fn a_crate_uses_what_stands_to_its_left() {
        assert!(is_allowed("eco-usage", "eco-common"));
        assert!(is_allowed("eco-attribution", "eco-meter"));
        assert!(is_allowed("eco-cli", "eco-agent"));
        assert!(is_allowed("eco-tests", "eco-cli"));
        assert!(is_allowed("eco-agent", "serde"));
    }

    #[test]
    fn a_crate_does_not_use_its_right_or_its_neighbour() {
        assert!(!is_allowed("eco-meter", "eco-attribution"));
        assert!(!is_allowed("eco-usage", "eco-meter"));
        assert!(!is_allowed("eco-common", "eco-common"));
    }

    #[test]
    fn the_agent_links_nothing_of_the_world_outside() {
        for right in COLUMNS[6..].concat() {
            assert!(!is_allowed("eco-agent", right), "{right}");
        }
    }

    #[test]
    fn xtask_stands_alone() {
        assert!(!is_allowed("xtask", "eco-common"));
        assert!(!is_allowed("eco-tests", "xtask"));
        assert!(is_allowed("xtask", "anyhow"));
    }

    #[test]
    fn a_new_crate_must_be_given_a_column() {
        let text = "[package]\nname = \"eco-new\"\n";
        assert_eq!(check(&Tree::from([("x/Cargo.toml", text)])).len(), 1);
    }
}
