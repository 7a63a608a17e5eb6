// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is put is there, once, whatever the clock and the process do.

use eco_meter::Domain;

use super::*;
use crate::sample::{MeterAmounts, UnitAmounts};

/// A sample of one second: a unit burns 5 µJ of the meter's 7, one is idle, one nobody's.
fn sample(at: UnixSeconds) -> Sample {
    let meter = Meter {
        name: "package-0".into(),
        domain: Domain::Package,
        device: "package-0".into(),
        source: "rapl-powercap".into(),
        estimated: false,
    };
    let unit = Unit {
        kind: "container".into(),
        name: "c".into(),
        title: "c".into(),
        ..Unit::default()
    };
    let mut amounts = UnitAmounts {
        cpu_ns: 3,
        ..UnitAmounts::default()
    };
    amounts.energy_uj[0] = Some(5);
    Sample {
        at,
        span_ms: 1000,
        cpu_ns: 3,
        meters: vec![(
            Arc::new(meter),
            MeterAmounts {
                energy_uj: 7,
                idle_uj: 1,
                unattributed_uj: 1,
                downtime_uj: 0,
            },
        )],
        units: vec![(Arc::new(unit), amounts)],
        ..Sample::default()
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(crate::FILE_NAME);
    (folder, path)
}

fn writer(path: &Path) -> Writer {
    Writer::open(path, Retention::default()).unwrap()
}

fn energy(writer: &Writer, table: &str) -> (i64, i64) {
    let sql = format!("SELECT count(*), coalesce(sum(package_uj), 0) FROM unit_{table}");
    writer
        .db
        .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

/// A full hour in Unix seconds.
const HOUR: i64 = 1_800_000_000;

#[test]
fn seconds_add_up_to_minutes_and_those_to_hours() {
    let (_folder, path) = place();
    let mut writer = writer(&path);
    for second in 0..=7_200 {
        writer.put(&sample(HOUR + second)).unwrap();
    }
    assert_eq!(energy(&writer, "hours"), (2, 2 * 3_600 * 5));
    assert_eq!(energy(&writer, "minutes"), (120, 7_200 * 5));
    assert_eq!(energy(&writer, "seconds"), (7_201, 7_201 * 5));
}

#[test]
fn two_ticks_in_one_second_are_both_there() {
    let (_folder, path) = place();
    let mut writer = writer(&path);
    for _ in 0..3 {
        writer.put(&sample(HOUR)).unwrap();
    }
    assert_eq!(energy(&writer, "seconds"), (1, 15));
}

#[test]
fn an_hour_that_comes_once_more_is_added_not_doubled_and_is_noted() {
    let (_folder, path) = place();
    let mut writer = writer(&path);
    let whole: Vec<i64> = (0..4_000).chain(400..4_000).chain(4_000..7_500).collect();
    for second in &whole {
        writer.put(&sample(HOUR + second)).unwrap();
    }
    let (_, hours) = energy(&writer, "hours");
    assert_eq!(hours, (7_200 + 3_600) * 5);
    let (_, minutes) = energy(&writer, "minutes");
    assert_eq!(minutes, (7_440 + 3_600) * 5, "the last is not over");
    let noted: String = writer
        .db
        .query_row("SELECT what FROM events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(noted, "the clock went back by 3600 s");
}

#[test]
fn what_a_writer_left_behind_is_added_up_by_the_next() {
    let (_folder, path) = place();
    let mut first = writer(&path);
    for second in 0..90 {
        first.put(&sample(HOUR + second)).unwrap();
    }
    drop(first);
    let mut second = writer(&path);
    second.put(&sample(HOUR + 10_000)).unwrap();
    assert_eq!(energy(&second, "minutes"), (2, 90 * 5));
    assert_eq!(energy(&second, "hours"), (1, 90 * 5));
}

#[test]
fn what_is_too_old_goes_but_not_because_a_clock_jumped() {
    let (_folder, path) = place();
    let mut writer = writer(&path);
    for second in 0..120 {
        writer.put(&sample(HOUR + second)).unwrap();
    }
    let year = 366 * 86_400;
    for second in 0..120 {
        writer.put(&sample(HOUR + year + second)).unwrap();
    }
    let (rows, _) = energy(&writer, "seconds");
    assert_eq!(rows, 240, "the clock may be wrong");
    for second in 120..900 {
        writer.put(&sample(HOUR + year + second)).unwrap();
    }
    let (rows, _) = energy(&writer, "seconds");
    assert_eq!(rows, 900, "it was right for ten minutes");
}

#[test]
fn a_file_that_is_too_large_loses_its_oldest_seconds_and_keeps_their_sums() {
    let (_folder, path) = place();
    let retention = Retention {
        most_bytes: 200 << 10,
        ..Retention::default()
    };
    let mut writer = Writer::open(&path, retention).unwrap();
    let mut whole = sample(HOUR);
    for name in 0..20 {
        let unit = Unit {
            kind: "container".into(),
            name: name.to_string(),
            ..Unit::default()
        };
        whole.units.push((Arc::new(unit), whole.units[0].1));
    }
    for second in 0..3_600 {
        whole.at = HOUR + second;
        writer.put(&whole).unwrap();
    }
    let (seconds, _) = energy(&writer, "seconds");
    assert!(seconds < 21 * 1_300, "{seconds}");
    let (minutes, _) = energy(&writer, "minutes");
    assert_eq!(minutes, 59 * 21);
}

#[test]
fn a_damaged_page_is_found_when_the_file_is_opened() {
    let (_folder, path) = place();
    let mut first = writer(&path);
    for second in 0..2_000 {
        first.put(&sample(HOUR + second)).unwrap();
    }
    drop(first);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let opened = Writer::open(&path, Retention::default());
    assert!(matches!(opened.err(), Some(FileError::Damaged { .. })));
    file::set_aside(&path).unwrap();
    writer(&path).put(&sample(HOUR)).unwrap();
}

#[test]
fn a_sample_is_put_once_though_what_is_done_each_minute_fails() {
    let (_folder, path) = place();
    let retention = Retention {
        seconds: std::time::Duration::from_secs(60),
        ..Retention::default()
    };
    let mut writer = Writer::open(&path, retention).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE DELETE ON node_seconds
        BEGIN SELECT raise(ABORT, 'no room'); END";
    writer.db.execute_batch(refuse).unwrap();
    let mut unwritten: Option<Sample> = None;
    let mut refused = 0;
    // Nothing goes before the clock has been steady for a while.
    let seconds = STEADY + 200;
    for second in 0..seconds {
        let mut next = sample(HOUR + second);
        if let Some(mut waiting) = unwritten.take() {
            waiting.merge(next);
            next = waiting;
        }
        if writer.put(&next).is_err() {
            refused += 1;
            unwritten = Some(next);
        }
    }
    assert!(refused > 0, "deleting must have been tried");
    writer.db.execute_batch("DROP TRIGGER refuse").unwrap();
    let (rows, written) = energy(&writer, "seconds");
    let waiting = unwritten.map_or(0, |sample| sample.units[0].1.energy_uj[0].unwrap_or(0));
    assert_eq!(written + signed(waiting), 5 * seconds);
    writer.put(&sample(HOUR + seconds)).unwrap();
    let left = energy(&writer, "seconds").0;
    assert!(left < rows, "and then it goes: {left} of {rows}");
}
