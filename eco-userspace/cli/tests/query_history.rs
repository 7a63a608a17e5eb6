// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco query` by a history that the agent's own writer has written.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use common::{eco, json, output, stderr, stdout};
use eco_history::{
    FILE_NAME, file,
    retention::Retention,
    sample::{Meter, MeterAmounts, Sample, Unit, UnitAmounts},
    writer::Writer,
};
use eco_meter::Domain;

/// 2027-01-15T08:00:00Z.
const START: i64 = 1_800_000_000;
const SECONDS: i64 = 2 * 3_600 + 90;

/// Two pods of one namespace, one of them of a name that means harm.
const PODS: [(&str, &str, u64); 2] = [
    ("u1", "shop/web", 1_000_000),
    ("u2", "shop/\u{1b}[2J,\"x\"", 250_000),
];

/// A history of two hours and a half minute: 1 J/s and 0.25 J/s of pods, which are the same joules
/// as those of a process and of what is not shown by name, and 2 J/s of the meter.
fn history() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut writer = Writer::open(&path, Retention::default()).unwrap();
    let meter = Arc::new(Meter {
        name: "package-0".into(),
        domain: Domain::Package,
        device: "package-0".into(),
        source: "rapl-powercap".into(),
        estimated: false,
    });
    let processes = [("python", 1_000_000), ("other", 250_000)];
    let mut units = PODS
        .map(|(name, title, uj)| {
            let mut amounts = UnitAmounts {
                cpu_ns: 500_000_000,
                carbon_ng: Some(7),
                ..UnitAmounts::default()
            };
            amounts.energy_uj[0] = Some(uj);
            let unit = Unit {
                kind: "pod".into(),
                name: name.into(),
                title: title.into(),
                namespace: Some("shop".into()),
                ..Unit::default()
            };
            (Arc::new(unit), amounts)
        })
        .to_vec();
    units.extend(processes.map(|(name, uj)| {
        let kind = if name == "other" { name } else { "process" };
        let mut amounts = UnitAmounts::default();
        amounts.energy_uj[0] = Some(uj);
        let unit = Unit {
            kind: kind.into(),
            name: name.into(),
            title: name.into(),
            ..Unit::default()
        };
        (Arc::new(unit), amounts)
    }));
    let counted = MeterAmounts {
        energy_uj: 2_000_000,
        idle_uj: 750_000,
        ..MeterAmounts::default()
    };
    for second in 0..SECONDS {
        let sample = Sample {
            at: START + second,
            span_ms: 1000,
            cpu_ns: 1_000_000_000,
            meters: vec![(meter.clone(), counted)],
            units: units.clone(),
            ..Sample::default()
        };
        writer.put(&sample).unwrap();
    }
    (folder, path)
}

fn query(path: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["query"];
    all.extend(arguments);
    all.extend(["--history", path.to_str().unwrap()]);
    output(&mut eco(&all))
}

/// All that there is.
const ALL: [&str; 4] = [
    "--from",
    "2027-01-15T08:00:00Z",
    "--to",
    "2027-01-15T11:00:00Z",
];

fn ask(path: &Path, arguments: &[&str]) -> Output {
    query(path, &[arguments, &ALL].concat())
}

#[test]
fn what_a_pod_used_is_told_with_the_source_and_the_tiers_that_it_is_from() {
    let (_folder, path) = history();
    let answer = json(&ask(&path, &["pod", "shop/web", "--format", "json"]));
    assert_eq!(answer["schema"], "eco.query/1");
    assert_eq!(answer["units"].as_array().unwrap().len(), 1);
    let unit = &answer["units"][0];
    assert_eq!(unit["total_joules"], SECONDS as f64);
    assert_eq!(unit["energy_joules"]["package"], SECONDS as f64);
    assert!(unit["energy_joules"]["dram"].is_null(), "not metered");
    assert_eq!(unit["watts"], 1.0);
    assert_eq!(unit["cpu_seconds"], SECONDS as f64 / 2.0);
    assert_eq!(answer["measured_seconds"], SECONDS as f64);
    assert_eq!(answer["estimated"], false);
    assert_eq!(answer["source"]["kind"], "history");
    let tiers = answer["source"]["pieces"].as_array().unwrap();
    let tiers: Vec<&str> = tiers
        .iter()
        .map(|piece| piece["tier"].as_str().unwrap())
        .collect();
    assert_eq!(tiers, ["hours", "minutes", "seconds"]);

    let table = stdout(&ask(&path, &["pod"]));
    assert!(
        table.contains("shop/web") && table.contains("7.29 kJ"),
        "{table}"
    );
    assert!(
        table.contains("hours 2 h 00 min, minutes 1 min 00 s, seconds 1 min 00 s"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table:?}");
    let named = table.lines().filter(|line| !line.starts_with("history "));
    for line in named {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_namespace_is_its_pods_and_the_node_its_meters() {
    let (_folder, path) = history();
    let of = |name: &str| json(&ask(&path, &["namespace", name, "--format", "json"]));
    assert_eq!(of("shop")["units"].as_array().unwrap().len(), 2);
    let other = ask(&path, &["namespace", "other"]);
    assert_eq!(other.status.code(), Some(3), "{}", stderr(&other));
    let node = json(&ask(&path, &["node", "--format", "json"]));
    let meter = &node["node"]["meters"][0];
    assert_eq!(meter["energy_joules"], 2.0 * SECONDS as f64);
    assert_eq!(meter["idle_joules"], 0.75 * SECONDS as f64);
    assert!(
        node["node"]["carbon_grams"].is_null(),
        "no intensity was known"
    );
    let processes = json(&ask(&path, &["process", "--format", "json"]));
    let of_all = processes["units"].as_array().unwrap().iter();
    let of_all: f64 = of_all
        .map(|unit| unit["total_joules"].as_f64().unwrap())
        .sum();
    assert_eq!(
        of_all,
        (2.0 - 0.75) * SECONDS as f64,
        "with what is not shown by name"
    );
    let csv = stdout(&ask(&path, &["node", "--format", "csv"]));
    assert_eq!(
        csv.lines().nth(1).unwrap(),
        format!("package-0,{},{},0,0", 2 * SECONDS, 5467.5)
    );
}

#[test]
fn csv_has_units_in_its_names_and_a_pods_name_stays_in_its_cell() {
    let (_folder, path) = history();
    let csv = stdout(&ask(&path, &["pod", "--format", "csv", "--top", "2"]));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "title,cpu_seconds,energy_joules,mean_watts,carbon_grams"
    );
    assert!(lines[1].starts_with("shop/web,3645,7290,1,"), "{csv}");
    assert!(
        lines[2].starts_with("\"shop/\u{1b}[2J,\"\"x\"\"\",3645,1822.5,0.25,"),
        "{csv}"
    );
    let first = stdout(&ask(&path, &["pod", "--top", "1"]));
    assert!(first.contains("and 1 more"), "{first}");
}

#[test]
fn a_time_without_an_agent_is_told_as_such() {
    let (_folder, path) = history();
    let before = [
        "node",
        "--from",
        "2020-01-01T00:00:00Z",
        "--to",
        "2020-01-02T00:00:00Z",
    ];
    let told = query(&path, &before);
    assert!(told.status.success(), "{}", stderr(&told));
    assert!(
        stdout(&told).contains("nothing in this time"),
        "{}",
        stdout(&told)
    );
}

#[test]
fn wrong_usage_and_files_that_are_none_are_told_and_left_as_they_are() {
    let (folder, path) = history();
    let usage: [&[&str]; 4] = [
        &["pod", "--from", "2027-01-16", "--to", "2027-01-15"],
        &["pod", "--from", "yesterday"],
        &["pod", "--window", "0s"],
        &["pod", "--window", "1h", "--format", "comment"],
    ];
    for arguments in usage {
        assert_eq!(
            query(&path, arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    for arguments in [&["query", "container", "c"][..], &["query", "pod"]] {
        let refused = output(&mut eco(arguments));
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            stderr(&refused).contains("--window"),
            "{}",
            stderr(&refused)
        );
    }
    let none = query(&folder.path().join("none.db"), &["pod"]);
    assert_eq!(none.status.code(), Some(3));
    assert!(
        stderr(&none).contains("no history here yet"),
        "{}",
        stderr(&none)
    );
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, [7; 5_000]).unwrap();
    let newer = folder.path().join("newer.db");
    file::open(&newer)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .expect("a newer eco writes that");
    for (path, what) in [(garbage, "damaged"), (newer, "newer eco")] {
        let before = std::fs::read(&path).unwrap();
        let told = query(&path, &["pod"]);
        assert_eq!(told.status.code(), Some(3));
        assert!(stderr(&told).contains(what), "{}", stderr(&told));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
