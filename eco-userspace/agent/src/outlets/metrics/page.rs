// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/metrics.md, written from the catalogue that `/metrics` is written with.

use std::fmt::Write;

use super::catalogue::{SECTIONS, Section};
use crate::{
    ledger::accounts::Kind,
    outlets::{
        exposition::{Family, Type},
        kepler,
    },
};

/// How the page begins.
const HEAD: &str = include_str!("page.head.md");

/// Between eco's own families and Kepler's.
const KEPLER: &str = "
## Kepler's names

With `--compat kepler` these are served beside all of the above, from the same books; each has
`node_name` where the others have `node`. [moving-over.md](moving-over.md) says how they differ
from what Kepler itself serves.
";

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.replace("{kinds}", &kinds());
    for section in SECTIONS {
        write_section(&mut page, "##", section);
    }
    page.push_str(KEPLER);
    for section in kepler::catalogue::SECTIONS {
        write_section(&mut page, "###", section);
    }
    page
}

fn kinds() -> String {
    let labels: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("`{}`", kind.label()))
        .collect();
    labels.join(", ")
}

fn write_section(page: &mut String, level: &str, (title, families): &Section) {
    let _ = writeln!(
        page,
        "\n{level} {title}\n\n| name | type | labels | |\n|---|---|---|---|"
    );
    for family in *families {
        write_family(page, family);
    }
}

fn write_family(page: &mut String, family: &Family) {
    let kind = match family.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
        Type::Info => "info",
    };
    let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
    let _ = writeln!(
        page,
        "| `{}` | {kind} | {} | {} |",
        family.name,
        labels.join(", "),
        family.help
    );
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    fn all() -> impl Iterator<Item = &'static Family> {
        let sections = SECTIONS.iter().chain(kepler::catalogue::SECTIONS);
        sections.flat_map(|(_, families)| families.iter().copied())
    }

    #[test]
    fn the_page_is_what_the_code_says() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let kept = fs::read_to_string(file).unwrap_or_default();
        let advice = "cargo run -p eco-agent -- --print-metrics > docs/metrics.md";
        assert!(kept == markdown(), "docs/metrics.md is old: {advice}");
    }

    #[test]
    fn a_name_says_its_type_and_is_there_once() {
        let mut seen = HashSet::new();
        for family in all() {
            assert!(seen.insert(family.name), "{} is there twice", family.name);
            let is_counter = family.kind == Type::Counter;
            assert_eq!(
                is_counter,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            assert!(family.help.ends_with('.') && !family.help.contains('\n'));
        }
    }
}
