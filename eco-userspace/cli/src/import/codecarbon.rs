// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CodeCarbon's `emissions.csv`, of any generation: 12 columns in 2020 to 38 in version 3.3.
//!
//! A row is a run, written when it ends and at each flush: then it has the sums so far, and the
//! longest row of a run is the one that counts. `timestamp` is when the row was written.

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

/// All that a file must have. Names and units: codecarbon/output_methods/emissions_data.py.
pub(super) const NEEDED: &[&str] = &["timestamp", "duration", "energy_consumed", "emissions"];

/// What else a file of CodeCarbon has, and no other tool's.
pub(super) const TELLING: &[&str] = &["timestamp", "energy_consumed"];

const PARTS: [(&str, Domain); 3] = [
    ("cpu_energy", Domain::Package),
    ("gpu_energy", Domain::Gpu),
    ("ram_energy", Domain::Dram),
];

/// Kept with the run as they are.
const PARAMETERS: &[&str] = &[
    "experiment_id",
    "country_iso_code",
    "region",
    "cloud_provider",
    "cloud_region",
    "os",
    "python_version",
    "tracking_mode",
];

pub(super) fn parse(input: impl BufRead, zone: &TimeZone) -> Result<Parsed, ImportError> {
    let mut by_key: HashMap<String, usize> = HashMap::new();
    table::read(input, NEEDED, |row, parsed| {
        let (run, remark) = run(row, zone)?;
        if let Some(at) = by_key.get(&run.key) {
            let known = &mut parsed.runs[*at];
            if run.span_ms() >= known.span_ms() {
                *known = run;
            }
            parsed.superseded += 1;
        } else {
            by_key.insert(run.key.clone(), parsed.runs.len());
            parsed.runs.push(run);
        }
        Ok(remark)
    })
}

fn run(row: &Row<'_>, zone: &TimeZone) -> Result<(ImportedRun, Verdict), String> {
    let written = row.text("timestamp").ok_or("`timestamp` is empty")?;
    let ended_ms = clock::millis(written, zone)?;
    let seconds = row.number("duration")?;
    let energy_uj = row.amount("energy_consumed", Quantity::Energy, "kWh")?;
    let carbon_ng = row.amount_if_any("emissions", Quantity::Carbon, "kg")?;
    let mut parts = Vec::new();
    for (column, domain) in PARTS {
        if let Some(uj) = row.amount_if_any(column, Quantity::Energy, "kWh")? {
            parts.push((domain, uj));
        }
    }
    let project = row.text("project_name").unwrap_or("codecarbon");
    let name = match row.text("task_name") {
        Some(task) => format!("{project}/{task}"),
        None => project.to_owned(),
    };
    // `experiment_id` was unique in 2020 and is shared by many runs since: not a key.
    let key = match (row.text("run_id"), row.text("task_name")) {
        (Some(run), Some(task)) => format!("{run}/{task}"),
        (Some(run), None) => run.to_owned(),
        (None, _) => table::digest(row.cells),
    };
    let mut run = ImportedRun {
        key,
        tool: Tool::Codecarbon,
        tool_version: row.text("codecarbon_version").map(str::to_owned),
        name,
        started_ms: 0,
        ended_ms,
        energy_uj: 0,
        parts: Vec::new(),
        carbon_ng: None,
        hardware: hardware(row),
        parameters: parameters(row),
        line: row.line,
    };
    run.begin_before_end(seconds)?;
    let remark = run.take_amounts(energy_uj, &parts, carbon_ng)?;
    Ok((run, remark))
}

fn hardware(row: &Row<'_>) -> Hardware {
    let gigabytes = row.number("ram_total_size").unwrap_or(0.0);
    let gpu = row.text("gpu_model").unwrap_or_default();
    Hardware {
        host: String::new(),
        cpu: row.text("cpu_model").unwrap_or_default().to_owned(),
        cpus: row.count("cpu_count"),
        // CodeCarbon: `psutil.virtual_memory().total / 1024**3`.
        memory_bytes: (gigabytes * 1_073_741_824.0) as u64,
        gpus: gpu.to_owned(),
    }
}

fn parameters(row: &Row<'_>) -> Vec<(String, String)> {
    let kept = PARAMETERS.iter().filter_map(|name| {
        let text = row.text(name)?;
        Some(((*name).to_owned(), text.to_owned()))
    });
    // The joules of such a row hold it already.
    let pue = row.number("pue").ok().filter(|pue| *pue > 1.0);
    kept.chain(pue.map(|pue| ("pue".to_owned(), pue.to_string())))
        .collect()
}
