// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows and columns, as kubectl prints them: capitals above, three spaces between, no lines.

use serde_json::Value;

use crate::out::{printable, quantity, span};

/// What stands where a number is not known, as `kubectl top` has it.
const UNKNOWN: &str = "<unknown>";

/// A table of items.
pub(super) struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    is_estimated: bool,
}

impl Table {
    /// The items of an answer: one each, or one for each of their parts.
    pub(super) fn of(answer: &Value, kind: &str, is_wide: bool, by: Option<&str>) -> Self {
        let items = match answer["items"].as_array() {
            Some(items) => items.iter().collect(),
            // An answer about one is that one.
            None if answer["energy_joules"].is_object() => vec![answer],
            None => Vec::new(),
        };
        let naming: &[(&str, &str)] = match kind {
            "pods" => &[("NAMESPACE", "namespace"), ("NAME", "pod")],
            "namespaces" => &[("NAME", "namespace")],
            "nodes" => &[("NAME", "node")],
            _ => &[("MANAGER", "manager"), ("JOB", "job"), ("USER", "user")],
        };
        let mut headers: Vec<String> = naming.iter().map(|(title, _)| (*title).into()).collect();
        headers.extend(by.map(str::to_uppercase));
        headers.extend(["ENERGY", "POWER", "CARBON", "CPU"].map(str::to_owned));
        // A node is where it is.
        let has_nodes = kind != "nodes";
        if is_wide {
            headers.extend(["PACKAGE", "DRAM", "GPU"].map(str::to_owned));
            headers.extend(has_nodes.then(|| "NODES".to_owned()));
        }
        let mut rows = Vec::new();
        let mut is_estimated = false;
        for item in items {
            let mark = item["estimated"].as_bool().unwrap_or(false);
            is_estimated |= mark;
            let parts = by.and(item["by"].as_array());
            let parts = parts.map_or_else(|| vec![item], |parts| parts.iter().collect());
            for part in parts {
                let labels = naming.iter().map(|(_, label)| text(&item[*label]));
                let mut row: Vec<String> = labels.collect();
                row.extend(by.map(|label| text(&part[label])));
                row.extend(amounts(part, mark));
                if is_wide {
                    row.extend(domains(part, mark));
                    row.extend(has_nodes.then(|| nodes(item)));
                }
                rows.push(row);
            }
        }
        Self {
            headers,
            rows,
            is_estimated,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether any number has the mark of an estimate.
    pub(super) fn is_estimated(&self) -> bool {
        self.is_estimated
    }

    /// As lines.
    pub(super) fn text(&self, has_headers: bool) -> String {
        let headers = has_headers.then_some(&self.headers);
        let lines: Vec<&Vec<String>> = headers.into_iter().chain(&self.rows).collect();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headers.len()).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(cell);
                let padding = width - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding + 3));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

fn amounts(part: &Value, mark: bool) -> [String; 4] {
    [
        estimate(mark, amount(&part["energy_joules"]["total"], "J")),
        estimate(mark, amount(&part["power_watts"], "W")),
        estimate(mark, amount(&part["carbon_grams"], "g")),
        part["cpu_seconds"]
            .as_f64()
            .map_or_else(|| UNKNOWN.into(), |seconds| compact(&span(seconds))),
    ]
}

fn domains(part: &Value, mark: bool) -> [String; 3] {
    ["package", "dram", "gpu"].map(|name| match &part["energy_joules"][name] {
        Value::Null => "<none>".to_owned(),
        joules => estimate(mark, amount(joules, "J")),
    })
}

fn nodes(item: &Value) -> String {
    let nodes = item["nodes"].as_array().into_iter().flatten();
    let nodes: Vec<String> = nodes.map(text).collect();
    nodes.join(",")
}

fn amount(value: &Value, unit: &str) -> String {
    value
        .as_f64()
        .map_or_else(|| UNKNOWN.into(), |value| compact(&quantity(value, unit)))
}

/// A cell is one word, so that `awk` and `cut` find the next.
fn compact(text: &str) -> String {
    text.replace(' ', "")
}

fn estimate(mark: bool, amount: String) -> String {
    if mark && amount != UNKNOWN {
        format!("~{amount}")
    } else {
        amount
    }
}

fn text(value: &Value) -> String {
    match value.as_str() {
        None | Some("") => "<none>".to_owned(),
        Some(text) => printable(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({"items": [
            {"namespace": "a", "pod": "long-name", "estimated": true, "nodes": ["n1", "n2"],
             "energy_joules": {"total": 1234.5, "package": 1200.0}, "power_watts": 2.5,
             "carbon_grams": null, "cpu_seconds": 125.0,
             "by": [{"container": "c", "energy_joules": {"total": 4.0}, "power_watts": null,
                     "carbon_grams": null, "cpu_seconds": null}]},
            {"namespace": "a", "pod": "b", "estimated": false, "nodes": [],
             "energy_joules": {"total": 0.0}, "power_watts": null, "carbon_grams": 0.5,
             "cpu_seconds": null},
        ]})
    }

    #[test]
    fn pods_stand_in_columns() {
        let table = Table::of(&answer(), "pods", false, None);
        assert_eq!(
            table.text(true),
            "NAMESPACE   NAME        ENERGY    POWER       CARBON      CPU\n\
             a           long-name   ~1.23kJ   ~2.50W      <unknown>   2min05s\n\
             a           b           0J        <unknown>   500mg       <unknown>\n"
        );
        assert!(table.is_estimated());
        assert!(!table.text(false).contains("NAME"));
    }

    #[test]
    fn wide_shows_domains_and_nodes_and_parts_have_rows_of_their_own() {
        let wide = Table::of(&answer(), "pods", true, None).text(true);
        let node = json!({"node": "n1", "energy_joules": {"total": 1.0}, "nodes": ["n1"]});
        assert!(
            !Table::of(&node, "nodes", true, None)
                .text(true)
                .contains("NODES")
        );
        assert!(wide.contains("NODES\n") && wide.contains("~1.20kJ") && wide.contains("n1,n2"));
        let parts = Table::of(&answer(), "pods", false, Some("container")).text(true);
        assert!(
            parts.contains("CONTAINER") && parts.contains("long-name   c"),
            "{parts}"
        );
    }

    #[test]
    fn one_is_a_table_of_one_and_nothing_is_empty() {
        let one = json!({"node": "n", "energy_joules": {"total": 1.0}});
        assert!(
            Table::of(&one, "nodes", false, None)
                .text(false)
                .starts_with("n   1.00J")
        );
        assert!(Table::of(&json!({"items": []}), "nodes", false, None).is_empty());
        assert!(Table::of(&json!("junk"), "nodes", true, Some("x")).is_empty());
    }

    #[test]
    fn a_cluster_cannot_write_to_the_terminal_itself() {
        let hostile = json!({"items": [{"node": "\u{1b}[2Jn", "energy_joules": {"total": 1.0}}]});
        assert!(
            !Table::of(&hostile, "nodes", false, None)
                .text(true)
                .contains('\u{1b}')
        );
    }
}
