// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco export`: the samples of a history, for other programs.

#[cfg(feature = "parquet")]
mod parquet;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use eco_history::{
    UnixSeconds,
    file::{self, FileError},
    run::UnixMillis,
    rusqlite::{Connection, Row, types::ValueRef},
    tier::Tier,
};
use serde_json::{Map, Value};

use crate::{
    exit::{self, Failure, Outcome},
    history::{moment, place},
};

const HELP: &str = "\
The file is only read, and the agent writes on meanwhile. The agent's own file is root's. Columns
are named with their units: docs/history.md. A value that is not known is empty in CSV and null in
JSON.

TIME is a span back from now (90s, 2h, 7d), a day (2026-11-25) or RFC 3339.

Examples:
  sudo eco export --from 7d -o week.csv
  sudo eco export --what node --tier hours --format jsonl | gzip > node.jsonl.gz";

/// Write the history's samples as CSV or JSON lines
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct ExportArgs {
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// What.
    #[arg(long, value_enum, default_value_t = What::Units)]
    what: What,
    /// How finely.
    #[arg(long, value_parser = tier, default_value = "minutes", value_name = "seconds|minutes|hours")]
    tier: Tier,
    /// At that time or later.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<UnixMillis>,
    /// Before that time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<UnixMillis>,
    /// Where to; it appears when it is whole. Else to stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The history; else the node's.
    #[arg(long, value_name = "FILE", default_value = place::NODE)]
    history: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet, into a file; of an eco that was built with `--features parquet`.
    Parquet,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// What each unit used.
    Units,
    /// What each meter counted.
    Meters,
    /// The node as a whole.
    Node,
}

/// So many rows' times are read at once, in rows of the tier: while the output waits for its
/// reader, nothing keeps the agent from bringing its log into the file.
const AT_ONCE: i64 = 600;

pub(crate) fn main(args: &ExportArgs) -> Outcome {
    let path = &args.history;
    let failed = |why: FileError| Failure::absent(why.to_string());
    let db = file::open_to_read(path).map_err(failed)?;
    let mut rows = Rows {
        sql: sql(args.what, args.tier),
        table: format!("{}_{}", args.what.table(), args.tier.label()),
        step: AT_ONCE * args.tier.seconds(),
        from: args.from.map_or(i64::MIN / 2, seconds_up),
        to: args.to.map_or(i64::MAX / 2, seconds_up),
        db: &db,
    };
    let failed = |why| failed(FileError::of(path, why));
    let names = rows.names().map_err(failed)?;
    let mut read = || rows.next().map_err(failed);
    if args.format == Format::Parquet {
        return to_parquet(args.output.as_deref(), &names, &mut read);
    }
    let Some(output) = &args.output else {
        return match write(io::stdout().lock(), args.format, &names, &mut read) {
            Err(Stopped::Failed(why)) => Err(why),
            // A reader that has gone (`| head`) is no error.
            Err(Stopped::Io(why)) if why.kind() != io::ErrorKind::BrokenPipe => Err(
                Failure::absent(format!("stdout: {why}; the output is incomplete")),
            ),
            _ => Ok(exit::DONE),
        };
    };
    to_file(output, |file| write(file, args.format, &names, &mut read))?;
    Ok(exit::DONE)
}

#[cfg(feature = "parquet")]
fn to_parquet(output: Option<&Path>, names: &[String], read: &mut Read<'_>) -> Outcome {
    let output =
        output.ok_or_else(|| Failure::usage("Parquet goes into a file; name it with -o"))?;
    to_file(output, |file| parquet::write(file, names, read))?;
    Ok(exit::DONE)
}

#[cfg(not(feature = "parquet"))]
fn to_parquet(_: Option<&Path>, _: &[String], _: &mut Read<'_>) -> Outcome {
    Err(Failure::absent(
        "this eco writes no Parquet; build one with `cargo build --release -p eco-cli --features \
         parquet`, or use --format csv",
    ))
}

/// Gives the next rows, until there are none.
type Read<'a> = dyn FnMut() -> Result<Option<Vec<Vec<Value>>>, Failure> + 'a;

/// Writes beside it first, so that what has the name is whole.
fn to_file(output: &Path, write: impl FnOnce(File) -> Result<(), Stopped>) -> Result<(), Failure> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let io_failed = |why: io::Error| Failure::absent(format!("{}: {why}", output.display()));
    let written = File::create(&beside).map_err(Stopped::Io).and_then(write);
    let written = written.and_then(|()| fs::rename(&beside, output).map_err(Stopped::Io));
    written.map_err(|why| {
        let _ = fs::remove_file(&beside);
        match why {
            Stopped::Io(why) => io_failed(why),
            Stopped::Failed(why) => why,
        }
    })
}

/// Why an export ended early.
enum Stopped {
    Io(io::Error),
    Failed(Failure),
}

fn write(
    to: impl Write,
    format: Format,
    names: &[String],
    read: &mut Read<'_>,
) -> Result<(), Stopped> {
    let mut to = BufWriter::new(to);
    if format == Format::Jsonl {
        while let Some(rows) = read().map_err(Stopped::Failed)? {
            for row in rows {
                let object: Map<String, Value> = names.iter().cloned().zip(row).collect();
                serde_json::to_writer(&mut to, &object).map_err(|why| Stopped::Io(why.into()))?;
                to.write_all(b"\n").map_err(Stopped::Io)?;
            }
        }
    } else {
        let mut csv = csv::Writer::from_writer(&mut to);
        let io = |why: csv::Error| Stopped::Io(why.into());
        csv.write_record(names).map_err(io)?;
        while let Some(rows) = read().map_err(Stopped::Failed)? {
            for row in &rows {
                csv.write_record(row.iter().map(cell)).map_err(io)?;
            }
        }
        csv.flush().map_err(Stopped::Io)?;
    }
    to.flush().map_err(Stopped::Io)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Reads batch by batch.
struct Rows<'a> {
    db: &'a Connection,
    sql: String,
    table: String,
    step: i64,
    from: UnixSeconds,
    to: UnixSeconds,
}

impl Rows<'_> {
    /// The columns.
    fn names(&self) -> eco_history::rusqlite::Result<Vec<String>> {
        let found = self.db.prepare(&self.sql)?;
        Ok(found.column_names().map(str::to_owned).collect())
    }

    /// The next rows, of which there are some.
    fn next(&mut self) -> eco_history::rusqlite::Result<Option<Vec<Vec<Value>>>> {
        // Over what is not there it goes in one step.
        let sql = format!(
            "SELECT min(at) FROM {} WHERE at >= ?1 AND at < ?2",
            self.table
        );
        let first: Option<UnixSeconds> = self
            .db
            .query_row(&sql, [self.from, self.to], |row| row.get(0))?;
        let Some(first) = first else { return Ok(None) };
        let end = self.to.min(first + self.step);
        let mut found = self.db.prepare_cached(&self.sql)?;
        let count = found.column_count();
        let rows = found.query_map([first, end], |row| values(row, count))?;
        let rows = rows.collect::<Result<_, _>>()?;
        self.from = end;
        Ok(Some(rows))
    }
}

fn values(row: &Row<'_>, count: usize) -> eco_history::rusqlite::Result<Vec<Value>> {
    (0..count)
        .map(|at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => number.into(),
                ValueRef::Real(number) => number.into(),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    String::from_utf8_lossy(text).into_owned().into()
                }
            })
        })
        .collect()
}

impl What {
    fn table(self) -> &'static str {
        match self {
            Self::Units => "unit",
            Self::Meters => "meter",
            Self::Node => "node",
        }
    }
}

/// All that the schema has (docs/history.md), with names for ids.
fn sql(what: What, tier: Tier) -> String {
    let tier = tier.label();
    match what {
        What::Units => format!(
            "SELECT at AS at_unix_s, kind, name, title, user, namespace, manager, cpu_ns,
                package_uj, core_uj, uncore_uj, dram_uj, psys_uj, gpu_uj, board_uj, carbon_ng
             FROM unit_{tier} s JOIN units u ON u.id = s.unit
             WHERE at >= ?1 AND at < ?2 ORDER BY at, kind, name"
        ),
        What::Meters => format!(
            "SELECT at AS at_unix_s, name, domain, device, source, estimated, energy_uj, idle_uj,
                unattributed_uj, downtime_uj
             FROM meter_{tier} s JOIN meters m ON m.id = s.meter
             WHERE at >= ?1 AND at < ?2 ORDER BY at, domain, name"
        ),
        What::Node => format!(
            "SELECT at AS at_unix_s, span_ms, cpu_ns, carbon_ng, s.g_per_kwh, zone,
                kind AS intensity_kind, source AS intensity_source,
                estimated AS intensity_estimated, pue, left_out
             FROM node_{tier} s LEFT JOIN intensities i ON i.id = s.intensity
             WHERE at >= ?1 AND at < ?2 ORDER BY at"
        ),
    }
}

fn tier(label: &str) -> Result<Tier, String> {
    Tier::from_label(label).ok_or_else(|| "use seconds, minutes or hours".to_owned())
}

/// The first whole second at or after.
fn seconds_up(millis: UnixMillis) -> UnixSeconds {
    millis.div_euclid(1000) + i64::from(millis.rem_euclid(1000) > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eco_history::{
        retention::Retention,
        sample::{Sample, Unit, UnitAmounts},
        writer::Writer,
    };

    use super::*;

    const BEGIN: i64 = 1_799_971_200;

    /// A writer that still has the file open, and two hours of it with a gap between.
    fn written(path: &Path) -> Writer {
        let mut writer = Writer::open(path, Retention::default()).unwrap();
        let unit = Arc::new(Unit {
            kind: "pod".into(),
            name: "p".into(),
            title: "a \"quoted\", name\nover two lines".into(),
            ..Unit::default()
        });
        let mut amounts = UnitAmounts {
            cpu_ns: 7,
            ..UnitAmounts::default()
        };
        amounts.energy_uj[0] = Some(5);
        for at in [0, 1, 2, 7_200, 7_201, 7_300] {
            let sample = Sample {
                at: BEGIN + at,
                span_ms: 1000,
                units: vec![(unit.clone(), amounts)],
                ..Sample::default()
            };
            writer.put(&sample).unwrap();
        }
        writer
    }

    fn args(history: &Path, output: &Path, more: &[&str]) -> ExportArgs {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: ExportArgs,
        }
        let paths = [history, output].map(|path| path.to_str().unwrap());
        let words = ["eco", "--history", paths[0], "-o", paths[1]];
        let words = words.iter().chain(more);
        <Cli as clap::Parser>::parse_from(words).args
    }

    #[test]
    fn what_is_exported_adds_up_to_what_was_written_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, output) = (folder.path().join("h.db"), folder.path().join("o.csv"));
        let _writer = written(&path);
        main(&args(&path, &output, &["--tier", "seconds"]))
            .ok()
            .unwrap();
        let mut csv = csv::Reader::from_path(&output).unwrap();
        let headers = csv.headers().unwrap().clone();
        let place = |name: &str| headers.iter().position(|header| header == name).unwrap();
        let (uj, title, gpu) = (place("package_uj"), place("title"), place("gpu_uj"));
        let rows: Vec<_> = csv.records().map(Result::unwrap).collect();
        let sum: u64 = rows.iter().map(|row| row[uj].parse::<u64>().unwrap()).sum();
        assert_eq!((rows.len(), sum), (6, 30));
        assert_eq!(&rows[0][title], "a \"quoted\", name\nover two lines");
        assert_eq!(&rows[0][gpu], "", "not metered is not zero");
    }

    #[test]
    fn times_cut_and_json_says_what_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let (path, output) = (folder.path().join("h.db"), folder.path().join("o.jsonl"));
        let _writer = written(&path);
        let rows = |more: &[&str]| -> Vec<Value> {
            let more = [&["--format", "jsonl", "--tier", "seconds"], more].concat();
            main(&args(&path, &output, &more)).ok().unwrap();
            let text = fs::read_to_string(&output).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let node = rows(&["--what", "node"]);
        assert_eq!(node.len(), 6);
        assert!(node[0]["carbon_ng"].is_null() && node[0]["span_ms"] == 1000);
        let from = jiff::Timestamp::from_second(BEGIN + 1).unwrap().to_string();
        let to = jiff::Timestamp::from_second(BEGIN + 7_201)
            .unwrap()
            .to_string();
        let cut = rows(&["--from", &from, "--to", &to]);
        let times: Vec<i64> = cut
            .iter()
            .map(|row| row["at_unix_s"].as_i64().unwrap() - BEGIN)
            .collect();
        assert_eq!(times, [1, 2, 7_200]);
        assert!(rows(&["--what", "meters"]).is_empty());
        let (what, csv) = (["--what", "meters"], ["--format", "csv"]);
        main(&args(&path, &output, &[what, csv].concat()))
            .ok()
            .unwrap();
        let text = fs::read_to_string(&output).unwrap();
        assert!(
            text.starts_with("at_unix_s,name,domain"),
            "columns are told without rows: {text}"
        );
    }

    #[test]
    fn without_a_history_no_file_appears() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("o.csv");
        assert!(main(&args(&folder.path().join("none.db"), &output, &[])).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
