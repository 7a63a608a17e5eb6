// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading what an agent exposes: the Prometheus text format, those families that eco asks for.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use super::{
    prometheus::quantity,
    query::{FAMILIES, Family},
};

/// One sample: its family, its value, and the values of the labels that make it what it is, in
/// the family's order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) family: &'static Family,
    pub(super) labels: Vec<String>,
    pub(super) value: f64,
}

/// Every sample that can be read. A line that cannot is skipped: one bad series costs itself.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample> {
    text.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let family = FAMILIES.iter().find(|family| family.name == &line[..end])?;
    let mut labels = vec![String::new(); family.identity.len()];
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            let slot = family
                .identity
                .iter()
                .position(|label| *label == name.trim());
            if let Some(slot) = slot {
                labels[slot] = value;
            }
            rest = after;
        }
    }
    let value = quantity(rest.split_ascii_whitespace().next()?)?;
    Some(Sample {
        family,
        labels,
        value,
    })
}

/// What stands before the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(line: &str) -> Option<Vec<String>> {
        samples(line).next().map(|sample| sample.labels)
    }

    #[test]
    fn a_sample_is_read_with_the_labels_of_its_family_in_their_order() {
        let line =
            "eco_unit_cpu_seconds_total{name=\"a\",extra=\"x\",kind=\"user\",node=\"n\"} 2.5";
        let sample = samples(line).next().unwrap();
        assert_eq!(sample.labels, ["n", "user", "a"]);
        assert_eq!(sample.value, 2.5);
    }

    #[test]
    fn quotes_newlines_and_braces_in_a_value_are_read_back() {
        let line = r#"eco_unit_cpu_seconds_total{name="a\"}\n\\,b=\"",kind="k"} 1 1700000000000"#;
        assert_eq!(labels(line).unwrap(), ["", "k", "a\"}\n\\,b=\""]);
    }

    #[test]
    fn what_is_no_sample_of_ecos_is_skipped() {
        for line in [
            "",
            "# TYPE eco_unit_cpu_seconds_total counter",
            "other_total 1",
            "eco_unit_cpu_seconds_total",
            "eco_unit_cpu_seconds_total{",
            "eco_unit_cpu_seconds_total{name=\"",
            "eco_unit_cpu_seconds_total{name=\"a\\",
            "eco_unit_cpu_seconds_total{name=\"a\"}",
            "eco_unit_cpu_seconds_total{name=\"a\"} NaN",
            "eco_unit_cpu_seconds_total{name=\"a\"} -1",
            "eco_unit_cpu_seconds_total{name} 1",
        ] {
            assert_eq!(labels(line), None, "{line}");
        }
        let text = "junk\neco_unit_cpu_seconds_total{name=\"a\"} 1\n\u{0}";
        assert_eq!(samples(text).count(), 1);
    }
}
