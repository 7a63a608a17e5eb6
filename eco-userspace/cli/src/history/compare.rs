// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two runs side by side.

use std::collections::BTreeSet;

use eco_history::run::{KeptRun, Run};

use super::table;
use crate::out::{printable, quantity, span};

/// What both used and by how much that differs, then all else in which they differ.
pub(super) fn text(runs: &[KeptRun; 2]) -> String {
    let [one, other] = runs;
    let heading = |kept: &KeptRun| format!("{} {}", kept.id, printable(&kept.run.name));
    let mut text = row("", &heading(one), &heading(other), "CHANGE");
    for (label, value, unit) in AMOUNTS {
        let values = [value(&one.run), value(&other.run)];
        if values == [None, None] {
            continue;
        }
        let shown = values.map(|value| value.map_or("-".to_owned(), |value| words(value, unit)));
        text += &row(label, &shown[0], &shown[1], &change(values));
    }
    for (name, values) in metrics(&one.run, &other.run) {
        let shown = values.map(|value| value.map_or("-".to_owned(), |value| value.to_string()));
        text += &row(&printable(&name), &shown[0], &shown[1], &change(values));
    }
    let differences = differences(&one.run, &other.run);
    if !differences.is_empty() {
        text += "\nDiffers in\n";
        for (label, values) in differences {
            let [one, other] = values.map(|value| match value.is_empty() {
                true => "-".to_owned(),
                false => printable(&value).into_owned(),
            });
            text += &format!("  {label:<14} {one}  →  {other}\n");
        }
    }
    text
}

type Amount = (&'static str, fn(&Run) -> Option<f64>, &'static str);

const AMOUNTS: [Amount; 5] = [
    ("wall time", |run| Some(table::seconds(run)), "s"),
    ("CPU time", |run| run.cpu_ns.map(|ns| ns as f64 / 1e9), "s"),
    ("energy", |run| run.energy_uj.map(|uj| uj as f64 / 1e6), "J"),
    ("mean power", mean_watts, "W"),
    ("carbon", |run| run.carbon_ng.map(|ng| ng as f64 / 1e9), "g"),
];

fn mean_watts(run: &Run) -> Option<f64> {
    let seconds = table::seconds(run);
    let joules = run.energy_uj? as f64 / 1e6;
    (seconds > 0.0).then(|| joules / seconds)
}

fn words(value: f64, unit: &str) -> String {
    match unit {
        "s" => span(value),
        _ => quantity(value, unit),
    }
}

/// From the one to the other, in percent of the one.
fn change(values: [Option<f64>; 2]) -> String {
    match values {
        [Some(one), Some(other)] if one != 0.0 && one.is_finite() && other.is_finite() => {
            format!("{:+.1} %", (other / one - 1.0) * 100.0)
        }
        _ => String::new(),
    }
}

fn row(label: &str, one: &str, other: &str, change: &str) -> String {
    let line = format!("{label:<16} {one:>18} {other:>18} {change:>10}");
    line.trim_end().to_owned() + "\n"
}

/// Of either, by name.
fn metrics(one: &Run, other: &Run) -> Vec<(String, [Option<f64>; 2])> {
    let of = |run: &Run, name: &str| {
        let mut found = run.metrics.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| *value)
    };
    let names: BTreeSet<&String> = [one, other]
        .into_iter()
        .flat_map(|run| run.metrics.iter().map(|(name, _)| name))
        .collect();
    names
        .into_iter()
        .map(|name| (name.clone(), [of(one, name), of(other, name)]))
        .collect()
}

/// Label and both values of what is told of either and not the same.
fn differences(one: &Run, other: &Run) -> Vec<(String, [String; 2])> {
    let told = |run: &Run| -> Vec<(String, String)> {
        let mut told = vec![
            ("command".to_owned(), run.command.join(" ")),
            ("measured by".to_owned(), run.measured_by.clone()),
            ("estimated".to_owned(), run.estimated.to_string()),
        ];
        let status = run.exit_status.map(|status| status.to_string());
        told.push(("exit status".to_owned(), status.unwrap_or_default()));
        if let Some(revision) = &run.revision {
            told.push(("commit".to_owned(), revision.commit.clone()));
            told.push((
                "branch".to_owned(),
                revision.branch.clone().unwrap_or_default(),
            ));
        }
        if let Some(hardware) = &run.hardware {
            told.push(("host".to_owned(), hardware.host.clone()));
            told.push((
                "CPUs".to_owned(),
                format!("{} × {}", hardware.cpus, hardware.cpu),
            ));
            told.push(("GPUs".to_owned(), hardware.gpus.clone()));
        }
        if let Some(priced) = &run.priced {
            told.push(("intensity".to_owned(), priced.intensity.provenance()));
        }
        told.extend(run.parameters.iter().cloned());
        told
    };
    let (one, other) = (told(one), told(other));
    let of = |told: &[(String, String)], label: &str| {
        let mut found = told.iter().filter(|(known, _)| known == label);
        found
            .next()
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    let mut seen = BTreeSet::new();
    one.iter()
        .chain(&other)
        .filter(|(label, _)| seen.insert(label.clone()))
        .map(|(label, _)| (label.clone(), [of(&one, label), of(&other, label)]))
        .filter(|(_, [one, other])| one != other)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: i64, joules: u64, rate: &str) -> KeptRun {
        KeptRun {
            id,
            run: Run {
                name: "train".to_owned(),
                ended_ms: 10_000,
                energy_uj: Some(joules * 1_000_000),
                parameters: vec![("lr".to_owned(), rate.to_owned())],
                metrics: vec![("f1".to_owned(), 0.5)],
                ..Run::default()
            },
        }
    }

    #[test]
    fn two_runs_are_told_apart_by_what_they_used_and_by_what_was_set() {
        let text = text(&[kept(1, 100, "0.1"), kept(2, 125, "0.2")]);
        let line = |label: &str| {
            let found = text
                .lines()
                .find(|line| line.trim_start().starts_with(label));
            found.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        assert!(
            line("energy").ends_with("100 J              125 J    +25.0 %"),
            "{text}"
        );
        assert!(line("mean power").contains("12.5 W"), "{text}");
        assert!(line("f1").ends_with("+0.0 %"), "{text}");
        assert!(line("lr").ends_with("0.1  →  0.2"), "{text}");
        assert!(
            !text.contains("carbon") && !text.contains("command"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn what_one_has_and_the_other_has_not_is_no_change_in_percent() {
        let mut other = kept(2, 0, "0.1");
        other.run.energy_uj = None;
        other.run.metrics.clear();
        let text = text(&[kept(1, 100, "0.1"), other]);
        let energy = text
            .lines()
            .find(|line| line.starts_with("energy"))
            .unwrap();
        assert!(energy.ends_with('-'), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
