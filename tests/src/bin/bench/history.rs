// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a month of history takes: on disk, to read, to write, and in fsyncs.
//!
//! The tests link no crate of the product: eco-history's own example writes and reads, and this
//! looks at it from outside. Fsyncs are counted by strace, in the kernel's own words.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use eco_tests::programs;
use serde_json::{Value, json};

use crate::{
    Findings,
    table::{Table, shown},
};

/// How many units each second has.
const UNITS: u32 = 50;

/// Of `docs/history.md`; the size and the CPU are for a month at 1 Hz.
const BAR_MB: f64 = 200.0;
const BAR_READ_MS: f64 = 100.0;
const BAR_CPU_PERCENT: f64 = 0.05;
const BAR_FSYNCS_A_MINUTE: f64 = 1.0;

/// How long a new file is being made, at most: that has fsyncs of its own, once.
const OPENING_S: f64 = 10.0;

pub(crate) fn run(days: u32, live_seconds: u32) -> Result<Findings> {
    let folder = tempfile::tempdir()?;
    let filled = month(
        None,
        &["fill", &days.to_string()],
        &folder.path().join("fill.db"),
    )?;
    let trace = folder.path().join("fsyncs");
    let live_file = folder.path().join("live.db");
    let live = month(None, &["live", &live_seconds.to_string()], &live_file)?;
    let traced_file = folder.path().join("traced.db");
    let traced = month(
        Some(&trace),
        &["live", &live_seconds.to_string()],
        &traced_file,
    );
    let fsyncs_a_minute = match traced {
        Ok(traced) => 60.0 * fsyncs(&trace)? as f64 / number(&traced, "/seconds")?,
        Err(why) => {
            eprintln!("bench: fsyncs are not counted: {why:#}");
            f64::NAN
        }
    };
    let title =
        format!("{days} days of history at 1 Hz, {UNITS} units; {live_seconds} s of it live");
    let table = table(title, &filled, &live, fsyncs_a_minute)?;
    Ok(Findings {
        tables: vec![table],
        json: json!({
            "fill": filled,
            "live": live,
            "fsyncs_per_minute": fsyncs_a_minute.is_finite().then_some(fsyncs_a_minute),
        }),
    })
}

fn table(title: String, filled: &Value, live: &Value, fsyncs_a_minute: f64) -> Result<Table> {
    let mut table = Table::new(title, &["what", "measured", "bar"]);
    let mut row = |what: &str, measured: f64, digits: usize, bar: Option<f64>| {
        let bar = bar.map_or("–".to_owned(), |bar| format!("≤ {bar}"));
        table.row([what.to_owned(), shown(measured, digits), bar]);
    };
    row(
        "in use, MB",
        number(filled, "/used_bytes")? / 1e6,
        1,
        Some(BAR_MB),
    );
    row(
        "file and log, MB",
        number(filled, "/file_bytes")? / 1e6,
        1,
        None,
    );
    for (what, at) in [
        (
            "units of a day, the slowest, ms",
            "/read_ms/units_of_any_day",
        ),
        ("units of all days, ms", "/read_ms/units_of_all_days"),
        (
            "node by hour over all days, ms",
            "/read_ms/node_over_all_days",
        ),
    ] {
        row(what, number(filled, at)?, 1, Some(BAR_READ_MS));
    }
    // 1 µs a sample is 0.0001 % of a core at one sample a second.
    let filling_percent = number(filled, "/cpu_us_per_sample")? / 1e4;
    row(
        "writer as fast as it goes, % of a core at 1 Hz",
        filling_percent,
        4,
        Some(BAR_CPU_PERCENT),
    );
    row(
        "writer live, % of a core",
        number(live, "/cpu_percent")?,
        4,
        Some(BAR_CPU_PERCENT),
    );
    row(
        "fsyncs a minute, once it is open",
        fsyncs_a_minute,
        2,
        Some(BAR_FSYNCS_A_MINUTE),
    );
    Ok(table)
}

/// Runs the example, and gives what it found.
fn month(trace: Option<&Path>, what: &[&str; 2], file: &Path) -> Result<Value> {
    let program = programs::history_month();
    let mut command = match trace {
        Some(trace) => {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-ttt", "-e", "trace=fsync,fdatasync", "-o"]);
            strace.arg(trace).arg(&program);
            strace
        }
        None => Command::new(&program),
    };
    command
        .arg(what[0])
        .arg(file)
        .arg(what[1])
        .arg(UNITS.to_string());
    let output = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", program.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Calls that were begun after the file was open: one that another thread interrupts has a second
/// line. Each begins with thread and time.
fn fsyncs(trace: &Path) -> Result<usize> {
    let text = fs::read_to_string(trace)?;
    let begun: Vec<f64> = text
        .lines()
        .filter(|line| line.contains("sync("))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
        .collect();
    let first = begun.first().copied().unwrap_or(0.0);
    Ok(begun.iter().filter(|at| **at > first + OPENING_S).count())
}

fn number(found: &Value, at: &str) -> Result<f64> {
    let number = found.pointer(at).and_then(Value::as_f64);
    number.with_context(|| format!("{at} is missing in {found}"))
}
