// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `cargo xtask bench history` measures, as the crate's own user: it writes with the real
//! writer and reads with SQL, and prints one JSON object.
//!
//! - `month fill FILE DAYS UNITS`: so many days at 1 Hz on a made clock, as fast as it goes; then
//!   reads of them.
//! - `month live FILE SECONDS UNITS`: at 1 Hz on the real clock, through the recorder's thread.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures; what is wrong with it is to stop it"
)]

use std::{
    env, fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eco_history::{
    file,
    recorder::Recorder,
    retention::Retention,
    sample::{Meter, MeterAmounts, Sample, Unit, UnitAmounts},
    tier::Tier,
    writer::Writer,
};
use eco_meter::Domain;
use serde_json::json;

const DAY: i64 = 86_400;

/// The first second that is written: a midnight in UTC.
const BEGIN: i64 = 1_799_971_200;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mode, path, length, units] = arguments.as_slice() else {
        eprintln!("usage: month fill|live FILE DAYS|SECONDS UNITS");
        std::process::exit(2);
    };
    let (length, units) = (length.parse().unwrap(), units.parse().unwrap());
    let found = match mode.as_str() {
        "fill" => fill(Path::new(path), length, units),
        _ => live(Path::new(path), length, units),
    };
    println!("{found}");
}

fn fill(path: &Path, days: i64, units: u64) -> serde_json::Value {
    let mut writer = Writer::open(path, Retention::default()).unwrap();
    let mut sample = sample(BEGIN, units);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    for second in 0..days * DAY {
        vary(&mut sample, BEGIN + second);
        writer.put(&sample).unwrap();
    }
    let cpu_seconds = cpu_seconds() - cpu;
    let wall_seconds = began.elapsed().as_secs_f64();
    let used_bytes = writer.used_bytes().unwrap();
    drop(writer);
    let on_disk = |suffix: &str| {
        let path = format!("{}{suffix}", path.display());
        fs::metadata(path).map_or(0, |data| data.len())
    };
    json!({
        "samples": days * DAY,
        "cpu_us_per_sample": cpu_seconds * 1e6 / (days * DAY) as f64,
        "wall_s": wall_seconds,
        "used_bytes": used_bytes,
        "file_bytes": on_disk("") + on_disk("-wal"),
        "read_ms": reads(path, days),
    })
}

/// The slowest of each kind of question, each on a file that was just opened.
fn reads(path: &Path, days: i64) -> serde_json::Value {
    let of_units = |tier: Tier| {
        format!(
            "SELECT unit, sum(package_uj), sum(carbon_ng) FROM unit_{} WHERE at >= ?1 AND at < ?2 \
             GROUP BY unit",
            tier.label()
        )
    };
    let series = "SELECT at, cpu_ns, carbon_ng FROM node_hours WHERE at >= ?1 AND at < ?2";
    let ask = |sql: &str, from: i64, to: i64| {
        let began = Instant::now();
        let db = file::open_to_read(path).unwrap();
        let mut found = db.prepare(sql).unwrap();
        let mut rows = found.query([from, to]).unwrap();
        let mut count = 0;
        while rows.next().unwrap().is_some() {
            count += 1;
        }
        assert!(count > 0, "nothing from {from} to {to}");
        began.elapsed().as_secs_f64() * 1e3
    };
    // The first day may have lost its first minutes to retention, and the last hour is not over.
    let day = |day: i64| (BEGIN + day * DAY, BEGIN + (day + 1) * DAY);
    let any_day = (0..days).map(|at| {
        let (from, to) = day(at);
        ask(&of_units(Tier::Minutes), from, to)
    });
    let whole = (BEGIN, BEGIN + days * DAY);
    json!({
        "units_of_any_day": any_day.fold(0.0, f64::max),
        "units_of_all_days": ask(&of_units(Tier::Hours), whole.0, whole.1),
        "node_over_all_days": ask(series, whole.0, whole.1),
    })
}

fn live(path: &Path, seconds: i64, units: u64) -> serde_json::Value {
    let mut recorder = Recorder::start(path, Retention::default()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut sample = sample(now.as_secs() as i64, units);
    let began = Instant::now();
    let mut making = Duration::ZERO;
    let cpu = cpu_seconds();
    for second in 0..seconds {
        let due = Duration::from_secs(second as u64);
        thread::sleep(due.saturating_sub(began.elapsed()));
        // What making up a sample costs is not the writer's.
        let before = Instant::now();
        let at = sample.at + 1;
        vary(&mut sample, at);
        let copy = sample.clone();
        making += before.elapsed();
        recorder.put(copy);
    }
    // Before the thread is gone, and its CPU time with it.
    let cpu_seconds = cpu_seconds() - cpu - making.as_secs_f64();
    let status = recorder.status();
    drop(recorder);
    json!({
        "seconds": began.elapsed().as_secs_f64(),
        "cpu_percent": 100.0 * cpu_seconds / began.elapsed().as_secs_f64(),
        "written": status.written,
        "problem": status.problem,
    })
}

fn sample(at: i64, units: u64) -> Sample {
    let meter = |name: &str, domain| {
        let meter = Meter {
            name: name.into(),
            domain,
            device: name.into(),
            source: "rapl-powercap".into(),
            estimated: false,
        };
        (Arc::new(meter), MeterAmounts::default())
    };
    let units = (0..units).map(|at| {
        let unit = Unit {
            kind: if at % 3 == 0 { "process" } else { "container" }.into(),
            name: format!("{at:064x}"),
            title: format!("unit {at}"),
            ..Unit::default()
        };
        (Arc::new(unit), UnitAmounts::default())
    });
    Sample {
        at,
        span_ms: 1000,
        meters: vec![
            meter("package-0", Domain::Package),
            meter("dram-0", Domain::Dram),
        ],
        units: units.collect(),
        ..Sample::default()
    }
}

/// Amounts of the size that a busy server has, each another one: a small number takes fewer
/// bytes.
fn vary(sample: &mut Sample, at: i64) {
    sample.at = at;
    let mut random = at as u64;
    let mut next = |below: u64| {
        // Knuth's MMIX generator.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    sample.cpu_ns = 8_000_000_000 + next(1_000_000_000);
    sample.carbon_ng = Some(20_000_000 + next(10_000_000));
    for (_, amounts) in &mut sample.meters {
        amounts.energy_uj = 100_000_000 + next(50_000_000);
        amounts.idle_uj = 40_000_000 + next(1_000_000);
        amounts.unattributed_uj = next(100_000);
    }
    for (_, amounts) in &mut sample.units {
        amounts.cpu_ns = next(200_000_000);
        amounts.energy_uj[0] = Some(next(4_000_000));
        amounts.energy_uj[3] = Some(next(500_000));
        amounts.carbon_ng = Some(next(500_000));
    }
}

/// CPU time of this process's threads so far (proc_pid_schedstat: the first number, in ns).
fn cpu_seconds() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds: u64 = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    nanoseconds as f64 / 1e9
}
