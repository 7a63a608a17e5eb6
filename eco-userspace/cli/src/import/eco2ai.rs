// SPDX-License-Identifier: Apache-2.0 OR MIT
//! eco2AI's `emission.csv`.
//!
//! A run has one row, or in training one for each epoch, under the same `id`: they add up.
//! `start_time` is the clock on the wall; joules hold the PUE that was given.

use std::{collections::HashMap, io::BufRead};

use eco_history::run::Hardware;
use eco_meter::Domain;
use jiff::tz::TimeZone;

use super::{
    ImportError, Parsed, Tool, clock,
    column::{Quantity, Row},
    run::ImportedRun,
    table::{self, Verdict},
};

/// All that a file must have, with or without a unit behind: eco2ai/emission_track.py.
pub(super) const NEEDED: &[&str] = &[
    "start_time",
    "duration",
    "power_consumption",
    "CO2_emissions",
];

/// What else a file of eco2AI has, and no other tool's.
pub(super) const TELLING: &[&str] = &["start_time", "power_consumption"];

/// Since version 0.3.13, if asked for.
const PARTS: [(&str, Domain); 3] = [
    ("CPU_consumption", Domain::Package),
    ("GPU_consumption", Domain::Gpu),
    ("RAM_consumption", Domain::Dram),
];

const PARAMETERS: &[&str] = &["experiment_description", "region/country", "OS"];

pub(super) fn parse(input: impl BufRead, zone: &TimeZone) -> Result<Parsed, ImportError> {
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut rows = std::collections::HashSet::new();
    table::read(input, NEEDED, |row, parsed| {
        // Files of several machines that were put together may have a row twice.
        if !rows.insert(table::digest(row.cells)) {
            parsed.superseded += 1;
            return Ok(None);
        }
        let (run, remark) = run(row, zone)?;
        if let Some(at) = by_key.get(&run.key) {
            add(&mut parsed.runs[*at], &run);
        } else {
            by_key.insert(run.key.clone(), parsed.runs.len());
            parsed.runs.push(run);
        }
        Ok(remark)
    })
}

fn run(row: &Row<'_>, zone: &TimeZone) -> Result<(ImportedRun, Verdict), String> {
    let began = row.text("start_time").ok_or("`start_time` is empty")?;
    let started_ms = clock::millis(began, zone)?;
    let seconds = row.number("duration")?;
    let energy_uj = row.amount("power_consumption", Quantity::Energy, "kWh")?;
    let carbon_ng = row.amount_if_any("CO2_emissions", Quantity::Carbon, "kg")?;
    let mut parts = Vec::new();
    for (column, domain) in PARTS {
        if let Some(uj) = row.amount_if_any(column, Quantity::Energy, "kWh")? {
            parts.push((domain, uj));
        }
    }
    let parameters = PARAMETERS.iter().filter_map(|name| {
        let text = row.text(name)?;
        Some(((*name).to_owned(), text.to_owned()))
    });
    let mut run = ImportedRun {
        key: row
            .text("id")
            .map_or_else(|| table::digest(row.cells), str::to_owned),
        tool: Tool::Eco2ai,
        tool_version: None,
        name: row.text("project_name").unwrap_or("eco2ai").to_owned(),
        started_ms,
        ended_ms: started_ms,
        energy_uj: 0,
        parts: Vec::new(),
        carbon_ng: None,
        hardware: Hardware {
            cpu: row.text("CPU_name").unwrap_or_default().to_owned(),
            gpus: gpus(row),
            ..Hardware::default()
        },
        parameters: parameters.collect(),
        line: row.line,
    };
    run.end_after_start(seconds)?;
    let remark = run.take_amounts(energy_uj, &parts, carbon_ng)?;
    Ok((run, remark))
}

/// Without any it writes ` 0 device(s)`.
fn gpus(row: &Row<'_>) -> String {
    let text = row.text("GPU_name").unwrap_or_default();
    if text.starts_with("0 device") {
        return String::new();
    }
    text.to_owned()
}

/// Another epoch of the same run.
fn add(run: &mut ImportedRun, more: &ImportedRun) {
    run.started_ms = run.started_ms.min(more.started_ms);
    run.ended_ms = run.ended_ms.max(more.ended_ms);
    run.energy_uj = run.energy_uj.saturating_add(more.energy_uj);
    run.carbon_ng = match (run.carbon_ng, more.carbon_ng) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        // A part that is not known makes the whole unknown.
        _ => None,
    };
    for (domain, uj) in &more.parts {
        match run.parts.iter_mut().find(|(known, _)| known == domain) {
            Some((_, sum)) => *sum = sum.saturating_add(*uj),
            None => run.parts.push((*domain, *uj)),
        }
    }
}
