// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts what was read into the history.

use std::path::Path;

use eco_history::{
    file::{self, FileError},
    run::{self, MeterEnergy, Run},
    rusqlite::{Transaction, TransactionBehavior},
};
use eco_meter::Domain;

use super::run::ImportedRun;
use crate::exit::Failure;

/// Keeps each run that the history does not have yet: all or, where it cannot be written, none.
/// Says how many were new.
///
/// # Errors
/// When the history cannot be written.
pub(crate) fn put(history: &Path, from: &Path, runs: &[ImportedRun]) -> Result<usize, Failure> {
    let failed = |why: FileError| Failure::absent(format!("{why}; nothing was imported"));
    let db = file::open_shared(history).map_err(failed)?;
    let of = |why| failed(FileError::of(history, why));
    let change = Transaction::new_unchecked(&db, TransactionBehavior::Immediate).map_err(of)?;
    let mut new = 0;
    for imported in runs {
        let is_new = run::put(&change, &kept(imported, from)).map_err(of)?;
        new += usize::from(is_new);
    }
    change.commit().map_err(of)?;
    Ok(new)
}

fn kept(imported: &ImportedRun, from: &Path) -> Run {
    let tool = imported.tool.label();
    let version = imported.tool_version.as_deref().unwrap_or_default();
    let source = format!("{tool} {version}").trim_end().to_owned();
    let meters = imported
        .parts
        .iter()
        .map(|(domain, energy_uj)| MeterEnergy {
            name: meter(*domain).to_owned(),
            domain: domain.label().to_owned(),
            source: source.clone(),
            energy_uj: *energy_uj,
        });
    let hardware = &imported.hardware;
    let is_known = !hardware.cpu.is_empty() || !hardware.gpus.is_empty();
    Run {
        origin: tool.to_owned(),
        key: imported.key.clone(),
        name: imported.name.clone(),
        started_ms: imported.started_ms,
        ended_ms: imported.ended_ms,
        energy_uj: Some(imported.energy_uj),
        carbon_ng: imported.carbon_ng,
        // All three take a constant for memory, or for a CPU without counters.
        estimated: true,
        measured_by: "import".to_owned(),
        provenance: Some(format!("{source}, {}:{}", from.display(), imported.line)),
        hardware: is_known.then(|| hardware.clone()),
        meters: meters.collect(),
        parameters: imported.parameters.clone(),
        ..Run::default()
    }
}

/// As the trackers call it.
fn meter(domain: Domain) -> &'static str {
    match domain {
        Domain::Package => "cpu",
        Domain::Dram => "ram",
        other => other.label(),
    }
}
