// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeping a run in its user's history.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use eco_history::{
    hardware,
    run::{self, Hardware, MOST_VALUES, MeterEnergy, PartOf, Revision, Run},
    sample::Priced,
};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{account::Report, revision};
use crate::{exit::Failure, history::place, out::printable};

/// A file of metrics that is longer is none.
const LONGEST_METRICS: u64 = 1 << 20;

/// What is known of a run beside what it used.
pub(crate) struct Record {
    file: PathBuf,
    parameters: Vec<(String, String)>,
    metrics: Option<PathBuf>,
    revision: Option<Revision>,
    hardware: Hardware,
}

impl Record {
    /// Looks round before the command starts: it may change what is checked out. `None` where
    /// this user has no folder for state.
    pub(crate) fn begin(
        parameters: &[(String, String)],
        metrics: Option<&Path>,
    ) -> Result<Option<Self>, Failure> {
        let Some(file) = place::own() else {
            let is_asked = !parameters.is_empty() || metrics.is_some();
            return match is_asked {
                true => Err(Failure::absent(
                    "neither HOME nor XDG_STATE_HOME says where to keep a history; set one, or \
                     leave --param and --metrics",
                )),
                false => Ok(None),
            };
        };
        Ok(Some(Self {
            file,
            parameters: parameters.to_vec(),
            metrics: metrics.map(Path::to_owned),
            revision: env::current_dir().ok().as_deref().and_then(revision::of),
            hardware: hardware::of(Path::new("/proc")),
        }))
    }

    /// Keeps the run. What goes wrong is told, and changes nothing for the command.
    pub(crate) fn keep(self, report: &Report, times: [Timestamp; 2]) -> Vec<String> {
        let mut troubles = Vec::new();
        let metrics = self.metrics.as_deref().map(read_metrics);
        let metrics = match metrics.transpose() {
            Ok(metrics) => metrics.unwrap_or_default(),
            Err(why) => {
                troubles.push(why);
                Vec::new()
            }
        };
        let file = self.file.clone();
        let run = self.run(report, times, metrics);
        if let Err(why) = run::keep(&file, &run) {
            troubles.push(format!("this run is not in the history: {why}"));
        }
        troubles
    }

    fn run(self, report: &Report, times: [Timestamp; 2], metrics: Vec<(String, f64)>) -> Run {
        let [started, ended] = times;
        let measured = &report.measured;
        let carbon = &report.carbon;
        let intensity = carbon.intensity.clone();
        let part = measured.part_of.as_ref();
        Run {
            origin: "eco".to_owned(),
            key: format!("{:x}-{:x}", started.as_nanosecond(), std::process::id()),
            name: report.name.clone(),
            user: user(),
            started_ms: started.as_millisecond(),
            ended_ms: ended.as_millisecond(),
            command: report.command.clone(),
            exit_status: Some(report.exit_status.into()),
            part_of: part.map(|part| PartOf {
                manager: part.manager.clone(),
                job: part.job.clone(),
                rank: part.rank,
            }),
            cpu_ns: Some(scaled(measured.cpu_seconds, 1e9)),
            energy_uj: measured.energy_joules.total.map(|j| scaled(j, 1e6)),
            idle_uj: Some(scaled(measured.energy_joules.idle_share, 1e6)),
            carbon_ng: carbon.grams.map(|grams| scaled(grams, 1e9)),
            priced: intensity
                .zip(carbon.pue)
                .map(|(intensity, pue)| Priced { intensity, pue }),
            estimated: measured.estimated,
            measured_by: measured.measured_by.label().to_owned(),
            provenance: None,
            revision: self.revision,
            hardware: Some(self.hardware),
            meters: measured
                .meters
                .iter()
                .map(|meter| MeterEnergy {
                    name: meter.name.clone(),
                    domain: meter.domain.clone(),
                    source: meter.source.clone(),
                    energy_uj: scaled(meter.joules, 1e6),
                })
                .collect(),
            parameters: self.parameters,
            metrics,
        }
    }
}

/// The numbers that a command wrote: an object of numbers; objects within it are told by
/// `outer.inner`, and everything else is no metric.
fn read_metrics(path: &Path) -> Result<Vec<(String, f64)>, String> {
    let told = |why: &dyn std::fmt::Display| {
        let path = path.display().to_string();
        format!("--metrics {}: {why}; none are kept", printable(&path))
    };
    let file = fs::File::open(path).map_err(|why| told(&why))?;
    let mut text = String::new();
    let mut bounded = file.take(LONGEST_METRICS + 1);
    bounded
        .read_to_string(&mut text)
        .map_err(|why| told(&why))?;
    if text.len() as u64 > LONGEST_METRICS {
        return Err(told(&"is longer than 1 MiB"));
    }
    let object: Map<String, Value> =
        serde_json::from_str(&text).map_err(|why| told(&format!("is no JSON object: {why}")))?;
    let mut metrics = Vec::new();
    flatten("", &object, &mut metrics);
    metrics.truncate(MOST_VALUES);
    Ok(metrics)
}

fn flatten(prefix: &str, object: &Map<String, Value>, metrics: &mut Vec<(String, f64)>) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => flatten(&format!("{name}."), inner, metrics),
            Value::Bool(is) => metrics.push((name, f64::from(u8::from(*is)))),
            _ => metrics.extend(value.as_f64().map(|number| (name, number))),
        }
    }
}

/// Whole units; what is no quantity is none (`as` maps it so).
fn scaled(value: f64, by: f64) -> u64 {
    (value * by).round() as u64
}

/// The name that this user goes by, or their number.
fn user() -> Option<String> {
    // SAFETY: returns a number, and touches nothing.
    let uid = unsafe { libc::getuid() };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    Some(named.unwrap_or_else(|| uid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_the_numbers_of_an_object_and_bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_metrics(&path)
        };
        let found = read(r#"{"loss": 0.5, "eval": {"f1": 1, "ok": true}, "note": "x"}"#).unwrap();
        let wanted = [("eval.f1", 1.0), ("eval.ok", 1.0), ("loss", 0.5)];
        let mut found: Vec<_> = found
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        found.sort_by(|one, other| one.0.cmp(other.0));
        assert_eq!(found, wanted);
        for bad in ["", "[1]", "{\"a\": 1", "{\"a\": NaN}"] {
            let why = read(bad).unwrap_err();
            assert!(
                why.contains("m.json") && why.contains("no JSON object"),
                "{why}"
            );
        }
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(LONGEST_METRICS as usize));
        assert!(read(&long).unwrap_err().contains("longer"));
        assert!(read_metrics(&folder.path().join("none")).is_err());
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        assert_eq!(scaled(1.5, 1e6), 1_500_000);
        for bad in [f64::NAN, -1.0] {
            assert_eq!(scaled(bad, 1e6), 0);
        }
    }
}
