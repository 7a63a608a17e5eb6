// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco import`: what other trackers have measured, into the history.

mod carbontracker;
mod clock;
mod codecarbon;
mod column;
mod eco2ai;
mod record;
mod run;
mod store;
mod table;

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use jiff::{Timestamp, tz::TimeZone};

use self::{column::Columns, record::Records, run::ImportedRun};
use crate::{
    exit::{self, Failure, Outcome},
    history::place,
    out::{self, printable, quantity, span},
};

const HELP: &str = "\
Reads CodeCarbon's emissions.csv, eco2AI's emission.csv and CarbonTracker's logs (name one; the
other beside it is found). Each run is taken once, however often it is imported. What cannot be
taken is told with its line, and everything else is taken.

Exit status: 0 all taken; 1 some lines were refused; 2 no such file, or none of these tools'.

Examples:
  eco import --dry-run emissions.csv
  eco import emissions.csv logs/*_carbontracker_output.log
  eco import --time-zone Europe/Berlin --history ./carbon_history.db emission.csv";

/// Take over what CodeCarbon, eco2AI or CarbonTracker have measured
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct ImportArgs {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose they are; else what is in them tells.
    #[arg(long, value_enum)]
    from: Option<Tool>,
    /// Only show what would be taken.
    #[arg(long)]
    dry_run: bool,
    /// The zone of the times in them, which name none; else this machine's.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// The history to put it in; else this user's own, which `eco history` lists.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// A tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// `emissions.csv`.
    Codecarbon,
    /// `emission.csv`.
    Eco2ai,
    /// `…_carbontracker_output.log` and `…_carbontracker.log`.
    Carbontracker,
}

impl Tool {
    /// As the history calls it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Codecarbon => "codecarbon",
            Self::Eco2ai => "eco2ai",
            Self::Carbontracker => "carbontracker",
        }
    }
}

/// Why nothing of a file can be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("there is nothing in it")]
    Empty,
    #[error("its first line is no header: {0}")]
    NoHeader(String),
    #[error("there is no column `{0}`, so it cannot be told what its rows mean")]
    MissingColumn(String),
    #[error("a log of CarbonTracker that tells of no epoch")]
    NoTraining,
    #[error(
        "nothing that eco can import: neither CodeCarbon's emissions.csv, eco2AI's emission.csv \
         nor a log of CarbonTracker; if it is one, say which with --from"
    )]
    Unknown,
}

/// Something to say about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Counted from 1.
    pub(crate) line: u64,
    /// What.
    pub(crate) what: String,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Each run once.
    pub(crate) runs: Vec<ImportedRun>,
    /// Lines that were not taken.
    pub(crate) refused: Vec<Remark>,
    /// Lines that were taken though something is odd about them.
    pub(crate) remarks: Vec<Remark>,
    /// Rows that only say again, or earlier, what another says.
    pub(crate) superseded: u64,
}

pub(crate) fn main(args: &ImportArgs) -> Outcome {
    let zone = clock::zone(args.time_zone.as_deref())?;
    let history = args.history.clone().or_else(place::own).ok_or_else(|| {
        Failure::absent("this user has no home to keep a history in; name a file with --history")
    })?;
    let mut status = exit::DONE;
    let mut text = String::new();
    for path in &args.files {
        let shown = path.display().to_string();
        let shown = printable(&shown);
        let parsed = parse(path, args.from, &zone)
            .map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
        for remark in parsed.remarks.iter().chain(&parsed.refused) {
            exit::warn(&format!(
                "{shown}:{}: {}",
                remark.line,
                printable(&remark.what)
            ));
        }
        if !parsed.refused.is_empty() {
            status = 1;
        }
        let done = if args.dry_run {
            text += &table(&parsed.runs, &zone);
            "would be taken".to_owned()
        } else {
            let kept = store::put(&history, path, &parsed.runs)?;
            format!("of them {kept} new")
        };
        let count = parsed.runs.len();
        let runs = if count == 1 { "run" } else { "runs" };
        text += &format!("{shown}: {count} {runs}, {done}");
        if parsed.superseded > 0 {
            text += &format!("; {} rows say the same earlier or again", parsed.superseded);
        }
        if !parsed.refused.is_empty() {
            text += &format!("; {} lines refused", parsed.refused.len());
        }
        text.push('\n');
    }
    out::print(&text)?;
    Ok(status)
}

/// Reads a file of one of the tools.
///
/// # Errors
/// When it cannot be read, is none of theirs, or lacks a column that is needed.
pub(crate) fn parse(
    path: &Path,
    from: Option<Tool>,
    zone: &TimeZone,
) -> Result<Parsed, ImportError> {
    let tool = match from {
        Some(tool) => tool,
        None => guess(path)?,
    };
    let input = || File::open(path).map(BufReader::new);
    match tool {
        Tool::Codecarbon => codecarbon::parse(input()?, zone),
        Tool::Eco2ai => eco2ai::parse(input()?, zone),
        Tool::Carbontracker => carbontracker::parse(path, zone),
    }
}

/// So many lines at the top are looked at.
const LOOKED_AT: usize = 20;

fn guess(path: &Path) -> Result<Tool, ImportError> {
    let mut records = Records::new(BufReader::new(File::open(path)?));
    let Some(header) = records.next(None)? else {
        return Err(ImportError::Empty);
    };
    if let Ok(cells) = &header.cells {
        let columns = Columns::new(cells);
        if columns.missing(codecarbon::TELLING).is_none() {
            return Ok(Tool::Codecarbon);
        }
        if columns.missing(eco2ai::TELLING).is_none() {
            return Ok(Tool::Eco2ai);
        }
    }
    let mut record = Some(header);
    for _ in 0..LOOKED_AT {
        let Some(Ok(cells)) = record.as_ref().map(|record| record.cells.as_ref()) else {
            break;
        };
        if carbontracker::is_telling(&cells.join(",")) {
            return Ok(Tool::Carbontracker);
        }
        record = records.next(None)?;
    }
    Err(ImportError::Unknown)
}

fn table(runs: &[ImportedRun], zone: &TimeZone) -> String {
    let head = ["STARTED", "DURATION", "ENERGY", "CO2E", "BY", "NAME"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(runs.iter().map(|run| {
        let started = Timestamp::from_millisecond(run.started_ms).unwrap_or_default();
        let started = started.to_zoned(zone.clone());
        let carbon = run.carbon_ng.map(|ng| quantity(ng as f64 / 1e9, "g"));
        let version = run.tool_version.as_deref().unwrap_or_default();
        [
            started.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            span(run.span_ms() as f64 / 1e3),
            quantity(run.energy_uj as f64 / 1e6, "J"),
            carbon.unwrap_or_else(|| "–".to_owned()),
            format!("{} {}", run.tool.label(), printable(version))
                .trim()
                .to_owned(),
            printable(&run.name).into_owned(),
        ]
    }));
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            rows.iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
