// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CarbonTracker's logs: `…_carbontracker_output.log` says what the training used and emitted,
//! `…_carbontracker.log` the mean watts of each component in each epoch. One is looked for
//! beside the other, so that whichever is named, both are one run. What is only predicted is not
//! imported.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use eco_history::run::{Hardware, UnixMillis};
use eco_meter::Domain;
use jiff::tz::TimeZone;

use super::{
    ImportError, Parsed, Remark, Tool, clock,
    column::{self, Quantity, factor},
    record::Lines,
    run::ImportedRun,
    table,
};

const OUTPUT: &str = "_carbontracker_output.log";
const STANDARD: &str = "_carbontracker.log";

/// Whether a line is one of such a log. Messages: carbontracker/tracker.py and loggerutil.py.
pub(super) fn is_telling(line: &str) -> bool {
    line.contains("CarbonTracker:") || line.contains("carbontracker version ")
}

pub(super) fn parse(path: &Path, zone: &TimeZone) -> Result<Parsed, ImportError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, beside) = if let Some(stem) = name.strip_suffix(OUTPUT) {
        (stem, Some(format!("{stem}{STANDARD}")))
    } else if let Some(stem) = name.strip_suffix(STANDARD) {
        (stem, Some(format!("{stem}{OUTPUT}")))
    } else {
        (name.as_ref(), None)
    };
    let beside: Option<PathBuf> = beside
        .map(|name| path.with_file_name(name))
        .filter(|path| path.is_file());
    let mut log = Log::default();
    log.read(path, zone, None)?;
    if let Some(beside) = &beside {
        let name = beside.file_name().unwrap_or_default().to_string_lossy();
        log.read(beside, zone, Some(&name))?;
    }
    log.finish(stem)
}

/// What both logs say.
#[derive(Default)]
struct Log {
    version: Option<String>,
    pue: Option<f64>,
    /// The message that names the components, the same in both.
    components: String,
    began_ms: Option<UnixMillis>,
    at_ms: Option<UnixMillis>,
    /// Where epochs are told.
    first_epoch: Option<u64>,
    /// In s.
    epochs: Vec<f64>,
    last_epoch_ms: Option<UnixMillis>,
    /// In µJ, without PUE.
    parts: Vec<(Domain, f64)>,
    g_per_kwh: Option<f64>,
    block: Block,
    actual: Vec<Actual>,
    predicted: Option<u64>,
    parsed: Parsed,
}

/// Which lines come.
#[derive(Default)]
enum Block {
    #[default]
    None,
    Actual(Actual),
    Predicted,
}

#[derive(Clone, Default)]
struct Actual {
    line: u64,
    at_ms: UnixMillis,
    seconds: Option<f64>,
    energy_uj: Option<f64>,
    carbon_ng: Option<f64>,
}

impl Log {
    fn read(
        &mut self,
        path: &Path,
        zone: &TimeZone,
        beside: Option<&str>,
    ) -> Result<(), ImportError> {
        let mut lines = Lines::new(BufReader::new(File::open(path)?));
        while let Some(line) = lines.next()? {
            let number = line.number;
            let taken = match &line.text {
                Some(text) => self.take(number, text, zone),
                None => Err("longer than 64 KiB, so no line of CarbonTracker".to_owned()),
            };
            if let Err(what) = taken {
                let what = match beside {
                    Some(name) => format!("(of {name}) {what}"),
                    None => what,
                };
                self.parsed.refused.push(Remark { line: number, what });
            }
        }
        self.end_block();
        Ok(())
    }

    fn take(&mut self, line: u64, text: &str, zone: &TimeZone) -> Result<(), String> {
        // 2022-11-14 15:42:43,123 - …
        if let Some(Ok(at_ms)) = text.get(..19).map(|time| clock::millis(time, zone)) {
            self.end_block();
            self.at_ms = Some(at_ms);
            self.began_ms = Some(self.began_ms.map_or(at_ms, |began| began.min(at_ms)));
        }
        if let Some(version) = after(text, "carbontracker version ") {
            self.version = Some(first_word(version).to_owned());
        } else if let Some(pue) = after(text, "PUE coefficient of ") {
            self.pue = column::number(first_word(pue))
                .ok()
                .filter(|pue| *pue >= 1.0);
        } else if let Some(found) = after(text, "The following components were found:") {
            self.components = found.trim().to_owned();
        } else if let Some(duration) = after(text, "Duration:") {
            let seconds = clock::span(duration).ok_or("`Duration` is no span of time")?;
            self.first_epoch.get_or_insert(line);
            self.last_epoch_ms = self.at_ms;
            self.epochs.push(seconds);
        } else if let Some(usage) = after(text, "Average power usage (W) for ") {
            self.take_power(usage)?;
        } else if let Some(was) = after(text, "Average carbon intensity during training was ") {
            let number = column::number(first_word(was));
            self.g_per_kwh = Some(number.map_err(|why| format!("the carbon intensity {why}"))?);
        } else if text.contains("Actual consumption") {
            self.block = Block::Actual(Actual {
                line,
                at_ms: self.at_ms.ok_or("no time stands before this")?,
                ..Actual::default()
            });
        } else if text.contains("Predicted consumption") {
            self.predicted.get_or_insert(line);
            self.block = Block::Predicted;
        } else if let Block::Actual(actual) = &mut self.block {
            actual.take(text)?;
        }
        Ok(())
    }

    /// `gpu: [136.86 137.2]`, `cpu: 50.0`, `cpu: None`: of the epoch that was told before.
    fn take_power(&mut self, usage: &str) -> Result<(), String> {
        let (component, watts) = usage.split_once(':').ok_or("half a line")?;
        let seconds = *self.epochs.last().ok_or("no epoch stands before this")?;
        let domain = match component.trim().to_ascii_lowercase().as_str() {
            "cpu" => Domain::Package,
            "gpu" => Domain::Gpu,
            other => return Err(format!("`{other}` is no component that eco knows")),
        };
        let mut sum = 0.0;
        let list = watts.trim().trim_start_matches('[').trim_end_matches(']');
        for word in list.split([' ', ',']).filter(|word| !word.is_empty()) {
            if word == "None" {
                return Err(format!(
                    "no power of the {component} in this epoch, so none is counted"
                ));
            }
            sum += column::number(word).map_err(|why| format!("the power {why}"))?;
        }
        let uj = sum * seconds * 1e6;
        match self.parts.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, sum)) => *sum += uj,
            None => self.parts.push((domain, uj)),
        }
        Ok(())
    }

    fn end_block(&mut self) {
        if let Block::Actual(actual) = std::mem::take(&mut self.block) {
            self.actual.push(actual);
        }
    }

    fn finish(mut self, stem: &str) -> Result<Parsed, ImportError> {
        let mut parsed = std::mem::take(&mut self.parsed);
        let key = table::digest(&[stem, &self.components]);
        let actual = std::mem::take(&mut self.actual);
        if actual.is_empty() {
            match (self.first_epoch, self.predicted) {
                (Some(line), _) => match self.of_epochs(stem, key, line) {
                    Ok(run) => parsed.runs.push(run),
                    Err(what) => parsed.refused.push(Remark { line, what }),
                },
                (None, Some(line)) => parsed.refused.push(Remark {
                    line,
                    what: "only what was predicted: no epoch's end is told".to_owned(),
                }),
                (None, None) if parsed.refused.is_empty() => return Err(ImportError::NoTraining),
                (None, None) => {}
            }
            return Ok(parsed);
        }
        let is_one = actual.len() == 1;
        for (at, actual) in actual.into_iter().enumerate() {
            let line = actual.line;
            let key = if at == 0 {
                key.clone()
            } else {
                format!("{key}/{at}")
            };
            match self.of_output(stem, key, &actual, is_one) {
                Ok((run, None)) => parsed.runs.push(run),
                Ok((run, Some(what))) => {
                    parsed.runs.push(run);
                    parsed.remarks.push(Remark { line, what });
                }
                Err(what) => parsed.refused.push(Remark { line, what }),
            }
        }
        Ok(parsed)
    }

    fn of_output(
        &self,
        stem: &str,
        key: String,
        actual: &Actual,
        is_one: bool,
    ) -> Result<(ImportedRun, table::Verdict), String> {
        let cut = "what was used is not all there: half a log?";
        let (seconds, energy_uj) = (actual.seconds.ok_or(cut)?, actual.energy_uj.ok_or(cut)?);
        let mut run = self.empty(stem, key, actual.line, actual.at_ms);
        run.begin_before_end(seconds)?;
        // Between epochs it runs too, only unmeasured.
        if let Some(began_ms) = self.began_ms.filter(|_| is_one) {
            run.started_ms = run.started_ms.min(began_ms);
        }
        let pue = self.pue.unwrap_or(1.0);
        let parts = self.parts.iter().filter(|_| is_one);
        let parts: Vec<(Domain, f64)> = parts.map(|(domain, uj)| (*domain, uj * pue)).collect();
        let verdict = run.take_amounts(energy_uj, &parts, actual.carbon_ng)?;
        Ok((run, verdict))
    }

    /// A training that was stopped tells its epochs and no sum.
    fn of_epochs(&self, stem: &str, key: String, line: u64) -> Result<ImportedRun, String> {
        let ended_ms = self
            .last_epoch_ms
            .ok_or("no time stands before the epochs")?;
        let mut run = self.empty(stem, key, line, ended_ms);
        run.begin_before_end(self.epochs.iter().sum())?;
        let pue = self.pue.unwrap_or(1.0);
        let parts: Vec<(Domain, f64)> = self
            .parts
            .iter()
            .map(|(domain, uj)| (*domain, uj * pue))
            .collect();
        let energy_uj: f64 = parts.iter().map(|(_, uj)| uj).sum();
        // g/kWh to ng/µJ: 1e9 / 3.6e12.
        let carbon_ng = self.g_per_kwh.map(|grams| energy_uj * grams / 3_600.0);
        run.take_amounts(energy_uj, &parts, carbon_ng)?;
        Ok(run)
    }

    fn empty(&self, stem: &str, key: String, line: u64, ended_ms: UnixMillis) -> ImportedRun {
        let pue = self.pue.map(|pue| ("pue".to_owned(), pue.to_string()));
        let intensity = self.g_per_kwh;
        let intensity = intensity.map(|grams| ("g_per_kwh".to_owned(), grams.to_string()));
        let epochs =
            (!self.epochs.is_empty()).then(|| ("epochs".to_owned(), self.epochs.len().to_string()));
        ImportedRun {
            key,
            tool: Tool::Carbontracker,
            tool_version: self.version.clone(),
            name: stem.to_owned(),
            started_ms: ended_ms,
            ended_ms,
            energy_uj: 0,
            parts: Vec::new(),
            carbon_ng: None,
            hardware: Hardware {
                cpu: devices(&self.components, "CPU"),
                gpus: devices(&self.components, "GPU"),
                ..Hardware::default()
            },
            parameters: [pue, intensity, epochs].into_iter().flatten().collect(),
            line,
        }
    }
}

impl Actual {
    /// `\tEnergy:\t0.000131 kWh`.
    fn take(&mut self, text: &str) -> Result<(), String> {
        let Some((name, value)) = text.trim().split_once(':') else {
            return Ok(());
        };
        match name {
            "Time" => {
                let seconds = clock::span(value).ok_or("`Time` is no span of time")?;
                self.seconds = Some(seconds);
            }
            "Energy" => self.energy_uj = Some(amount(name, value, Quantity::Energy)?),
            // Where no intensity was known.
            "CO2eq" if first_word(value.trim()).eq_ignore_ascii_case("nan") => {}
            "CO2eq" => self.carbon_ng = Some(amount(name, value, Quantity::Carbon)?),
            _ => {}
        }
        Ok(())
    }
}

fn amount(name: &str, value: &str, quantity: Quantity) -> Result<f64, String> {
    let (count, unit) = value
        .trim()
        .split_once(' ')
        .ok_or_else(|| format!("`{name}` has no unit: half a line?"))?;
    let factor = factor(quantity, unit.trim())
        .ok_or_else(|| format!("`{name}` is in `{unit}`, a unit that eco does not know"))?;
    let count = column::number(count).map_err(|why| format!("`{name}` {why}"))?;
    Ok(count * factor)
}

fn after<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    text.split_once(phrase).map(|(_, rest)| rest)
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// `GPU with device(s) A, B. CPU with device(s) cpu:0.`: a model may have dots and blanks.
fn devices(components: &str, of: &str) -> String {
    const WITH: &str = " with device(s) ";
    let Some(rest) = after(components, &format!("{of}{WITH}")) else {
        return String::new();
    };
    let end = rest.find(WITH).and_then(|end| rest[..end].rfind(". "));
    let list = end.map_or(rest, |end| &rest[..end]);
    list.trim().trim_end_matches('.').to_owned()
}
