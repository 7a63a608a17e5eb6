// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A writer that is killed in the middle of its work, again and again.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use eco_history::{
    FILE_NAME, file,
    retention::Retention,
    sample::{Sample, Unit, UnitAmounts},
    writer::Writer,
};

/// Tells this very program, started again, where to write.
const PLACE: &str = "HISTORY_TO_KILL";

/// Not a test: the writer that is killed. Says each second that was put.
#[test]
fn the_writer_that_is_killed() {
    let Some(path) = std::env::var_os(PLACE) else {
        return;
    };
    let path = Path::new(&path);
    let mut writer = Writer::open(path, Retention::default()).unwrap();
    let units = (0..50).map(|name| {
        let unit = Unit {
            kind: "container".into(),
            name: name.to_string(),
            ..Unit::default()
        };
        let mut amounts = UnitAmounts {
            cpu_ns: 1,
            ..UnitAmounts::default()
        };
        amounts.energy_uj[0] = Some(1);
        (Arc::new(unit), amounts)
    });
    let mut sample = Sample {
        at: last(path).map_or(1_800_000_000, |at| at + 1),
        span_ms: 1000,
        units: units.collect(),
        ..Sample::default()
    };
    loop {
        writer.put(&sample).unwrap();
        writeln!(std::io::stderr(), "put {}", sample.at).unwrap();
        sample.at += 1;
    }
}

#[test]
fn a_writer_that_is_killed_loses_at_most_the_tick_that_was_on_its_way() {
    let full = std::env::var_os("TEST_LENGTH").is_some_and(|length| length == "full");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    for round in 0..if full { 100 } else { 10 } {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_writer_that_is_killed", "--nocapture"])
            .env(PLACE, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stderr.take().unwrap()).lines();
        let told = |line: String| {
            line.strip_prefix("put ")
                .and_then(|at| at.parse::<i64>().ok())
        };
        // A different place in a minute each time.
        for _ in 0..20 + 7 * (round % 9) {
            lines.next().unwrap().unwrap();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let said = lines.map_while(Result::ok).filter_map(told).last();
        let db = file::open(&path).unwrap();
        file::check(&db, &path).unwrap();
        let kept = last(&path).unwrap();
        if let Some(said) = said {
            assert!(kept == said || kept == said + 1, "{said} put, {kept} kept");
        }
        let (seconds, units): (i64, i64) = db
            .query_row(
                "SELECT (SELECT count(*) FROM node_seconds), (SELECT count(*) FROM unit_seconds)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(
            seconds,
            kept - 1_800_000_000 + 1,
            "none in between is missing"
        );
        assert_eq!(units, 50 * seconds, "a tick is there whole or not at all");
    }
}

fn last(path: &Path) -> Option<i64> {
    let db = file::open_to_read(path).ok()?;
    db.query_row("SELECT max(at) FROM node_seconds", [], |row| row.get(0))
        .ok()?
}
