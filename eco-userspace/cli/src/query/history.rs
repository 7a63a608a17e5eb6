// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was used from one time to another, by the history: the agent itself remembers minutes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use eco_agent::config::parse_duration;
use eco_history::{
    file,
    read::{self, Answer, Piece, Question, UnitAnswer},
    sample::{EnergyByDomain, total_uj},
};
use eco_meter::Domain;
use jiff::Timestamp;
use serde::Serialize;

use super::{Format, Kind, table};
use crate::{
    exit::{self, Failure, Outcome},
    history::{self, place},
    out::{self, printable},
};

/// How far back an answer reaches if nobody says, in seconds.
const HOUR: i64 = 3_600;

/// Which time, and in which file it is looked up.
#[derive(Args)]
pub(super) struct PastArgs {
    /// Ask the history, from this time on: a span back from now (2h, 7d), a day (2026-11-25) or
    /// RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<i64>,

    /// Up to this time; now if absent.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<i64>,

    /// So long up to --to, instead of --from; an hour if neither is given.
    #[arg(long, value_name = "SPAN", value_parser = length, conflicts_with = "from")]
    window: Option<i64>,

    /// The history; the agent's if absent.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// So many of those that used most; 0 is all.
    #[arg(long, value_name = "N", default_value_t = 50)]
    top: usize,
}

impl PastArgs {
    /// Whether the history is asked, and not the agent.
    pub(super) fn are_given(&self) -> bool {
        self.from.is_some() || self.to.is_some() || self.window.is_some() || self.history.is_some()
    }
}

/// What `--format json` writes.
#[derive(Serialize)]
pub(super) struct Report {
    schema: &'static str,
    kind: &'static str,
    name: Option<String>,
    /// What the answer covers, RFC 3339; null if there is nothing.
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    asked: Asked,
    /// For how long of that an agent measured.
    pub(super) measured_seconds: f64,
    pub(super) source: Source,
    pub(super) estimated: bool,
    pub(super) node: Node,
    pub(super) units: Vec<Unit>,
    /// Units that `--top` left out.
    pub(super) left_out: usize,
}

#[derive(Serialize)]
struct Asked {
    from: String,
    to: String,
}

/// Where the answer is from.
#[derive(Serialize)]
pub(super) struct Source {
    kind: &'static str,
    pub(super) file: String,
    pub(super) pieces: Vec<Part>,
}

/// A part of the time, and the tier that answered for it.
#[derive(Serialize)]
pub(super) struct Part {
    pub(super) tier: &'static str,
    from: String,
    to: String,
    #[serde(skip)]
    pub(super) seconds: i64,
}

#[derive(Serialize)]
pub(super) struct Node {
    pub(super) cpu_seconds: f64,
    pub(super) carbon_grams: Option<f64>,
    carbon_is_partial: bool,
    pub(super) meters: Vec<Meter>,
}

#[derive(Serialize)]
pub(super) struct Meter {
    pub(super) name: String,
    domain: &'static str,
    source: String,
    estimated: bool,
    pub(super) energy_joules: f64,
    pub(super) idle_joules: f64,
    pub(super) unattributed_joules: f64,
    pub(super) downtime_joules: f64,
}

#[derive(Serialize)]
pub(super) struct Unit {
    kind: String,
    name: String,
    pub(super) title: String,
    user: Option<String>,
    namespace: Option<String>,
    manager: Option<String>,
    pub(super) cpu_seconds: f64,
    /// Each joule once, without idle.
    pub(super) total_joules: Option<f64>,
    /// The mean over the time that was measured.
    pub(super) watts: Option<f64>,
    energy_joules: BTreeMap<&'static str, f64>,
    pub(super) carbon_grams: Option<f64>,
    carbon_is_partial: bool,
}

/// Answers from the history.
pub(super) fn main(kind: Kind, name: Option<&str>, format: Format, args: &PastArgs) -> Outcome {
    if matches!(format, Format::Line | Format::Comment) {
        return Err(Failure::usage(
            "--format line and comment tell what the agent knows now; the history has table, json \
             and csv",
        ));
    }
    let to = args.to.unwrap_or_else(|| Timestamp::now().as_second());
    let length = args.window.unwrap_or(HOUR);
    let from = args.from.unwrap_or_else(|| to.saturating_sub(length));
    if from >= to {
        return Err(Failure::usage(format!(
            "the window is empty: from {} to {}",
            rfc3339(from),
            rfc3339(to)
        )));
    }
    let path = args.history.as_deref().unwrap_or(Path::new(place::NODE));
    let mut answer = ask(path, kind, name, from, to)?;
    if let (Kind::Namespace, Some(name)) = (kind, name) {
        let within = |unit: &UnitAnswer| unit.unit.namespace.as_deref() == Some(name);
        answer.units.retain(within);
    }
    if let Some(name) = name
        && answer.units.is_empty()
        && kind != Kind::Node
    {
        return Err(Failure::absent(format!(
            "{}: no {} {} used anything from {} to {}; without a name all are listed",
            path.display(),
            kind.label(),
            printable(name),
            rfc3339(from),
            rfc3339(to)
        )));
    }
    let report = Report::of(kind, name, (from, to), path, answer, args.top);
    match format {
        Format::Json => out::print_json(&report)?,
        Format::Csv if kind == Kind::Node => out::print(&table::meters_csv(&report))?,
        Format::Csv => out::print(&table::units_csv(&report))?,
        Format::Table | Format::Line | Format::Comment => {
            out::print(&table::render(&report, kind == Kind::Node))?;
        }
    }
    Ok(exit::DONE)
}

fn ask(path: &Path, kind: Kind, name: Option<&str>, from: i64, to: i64) -> Result<Answer, Failure> {
    let advice = "; the agent's is for root, --history names another";
    let failed = |why: file::FileError| Failure::absent(format!("{why}{advice}"));
    let db = file::open_to_read(path).map_err(failed)?;
    // What lies in a namespace is looked for among its pods.
    let name = name.filter(|_| kind != Kind::Namespace).map(str::to_owned);
    let question = Question {
        from,
        to,
        kinds: kind.units().to_vec(),
        name,
    };
    read::answer(&db, &question).map_err(|why| failed(file::FileError::of(path, why)))
}

impl Report {
    fn of(
        kind: Kind,
        name: Option<&str>,
        (from, to): (i64, i64),
        path: &Path,
        answer: Answer,
        top: usize,
    ) -> Self {
        let measured_seconds = answer.span_ms as f64 / 1e3;
        let all = answer.units.len();
        let top = if top == 0 { all } else { top.min(all) };
        let covered = |at: Option<i64>| at.map(rfc3339);
        Self {
            schema: "eco.query/1",
            kind: kind.label(),
            name: name.map(str::to_owned),
            from: covered(answer.pieces.iter().map(|piece| piece.from).min()),
            to: covered(answer.pieces.iter().map(|piece| piece.to).max()),
            asked: Asked {
                from: rfc3339(from),
                to: rfc3339(to),
            },
            measured_seconds,
            estimated: answer.is_estimated(),
            source: Source {
                kind: "history",
                file: path.display().to_string(),
                pieces: answer.pieces.iter().map(Part::of).collect(),
            },
            node: Node::of(&answer),
            units: answer.units[..top]
                .iter()
                .map(|unit| Unit::of(unit, measured_seconds))
                .collect(),
            left_out: all - top,
        }
    }
}

impl Part {
    fn of(piece: &Piece) -> Self {
        Self {
            tier: piece.tier.label(),
            from: rfc3339(piece.from),
            to: rfc3339(piece.to),
            seconds: piece.to - piece.from,
        }
    }
}

impl Node {
    fn of(answer: &Answer) -> Self {
        let meters = answer.meters.iter().map(|(meter, amounts)| Meter {
            name: meter.name.clone(),
            domain: meter.domain.label(),
            source: meter.source.clone(),
            estimated: meter.estimated,
            energy_joules: joules(amounts.energy_uj),
            idle_joules: joules(amounts.idle_uj),
            unattributed_joules: joules(amounts.unattributed_uj),
            downtime_joules: joules(amounts.downtime_uj),
        });
        Self {
            cpu_seconds: seconds(answer.cpu_ns),
            carbon_grams: answer.carbon_ng.map(grams),
            carbon_is_partial: answer.carbon_is_partial,
            meters: meters.collect(),
        }
    }
}

impl Unit {
    fn of(answer: &UnitAnswer, measured_seconds: f64) -> Self {
        let (unit, amounts) = (&answer.unit, &answer.amounts);
        let total_joules = total_uj(&amounts.energy_uj).map(joules);
        let watts = total_joules.map(|joules| joules / measured_seconds);
        Self {
            kind: unit.kind.clone(),
            name: unit.name.clone(),
            title: unit.title.clone(),
            user: unit.user.clone(),
            namespace: unit.namespace.clone(),
            manager: unit.manager.clone(),
            cpu_seconds: seconds(amounts.cpu_ns),
            total_joules,
            watts: watts.filter(|watts| watts.is_finite()),
            energy_joules: by_domain(&amounts.energy_uj),
            carbon_grams: amounts.carbon_ng.map(grams),
            carbon_is_partial: answer.carbon_is_partial,
        }
    }
}

fn by_domain(energy: &EnergyByDomain) -> BTreeMap<&'static str, f64> {
    let known = Domain::ALL.iter().zip(energy);
    known
        .filter_map(|(domain, uj)| Some((domain.label(), joules((*uj)?))))
        .collect()
}

fn joules(uj: u64) -> f64 {
    uj as f64 / 1e6
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn grams(ng: u64) -> f64 {
    ng as f64 / 1e9
}

fn rfc3339(at: i64) -> String {
    // A number that is no time on any calendar is told as it is.
    Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// In Unix seconds.
fn moment(text: &str) -> Result<i64, String> {
    history::moment(text).map(|ms| ms.div_euclid(1000))
}

/// In seconds.
fn length(text: &str) -> Result<i64, String> {
    let length = parse_duration(text).map(|length| length.as_secs());
    let length = length.and_then(|length| i64::try_from(length).ok());
    length.filter(|length| *length > 0).ok_or_else(|| {
        format!(
            "`{}` is no length of time; give one such as 90m or 7d",
            printable(text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_at_least_a_second() {
        assert_eq!(length("90m"), Ok(5_400));
        for bad in [
            "",
            "0s",
            "10ms",
            "-1h",
            "2026-11-25",
            "99999999999999999999d",
        ] {
            assert!(length(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_that_is_on_no_calendar_is_a_number() {
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
    }
}
