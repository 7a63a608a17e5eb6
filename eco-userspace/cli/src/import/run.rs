// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run as another tool measured it, and whether its numbers can be true.

use eco_history::run::{Hardware, UnixMillis};
use eco_meter::Domain;

use super::Tool;

/// Longer than any training: ten years, in s.
const LONGEST: f64 = 3.2e8;

/// No machine draws more, in W; joules that were taken for kWh look like this.
const MOST_WATTS: f64 = 1e6;

/// No grid emits more, in g/kWh: the dirtiest fuel, lignite, is at 1,100 to 1,700 (IPCC AR5 WG3,
/// annex III), before a PUE. Grams that were taken for kg look like this.
const MOST_GRAMS_PER_KWH: f64 = 5_000.0;

/// How far the parts may be from their sum: what rounding does.
const TOLERANCE: f64 = 0.01;

/// One that has ended. Joules are as its tool counted them: with idle, with constants for what
/// it does not meter, and with the PUE that it was given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImportedRun {
    /// The tool's own id of the run, or else a digest of what it says: the same at each import.
    pub(crate) key: String,
    /// Who measured.
    pub(crate) tool: Tool,
    /// Its version, where it says so.
    pub(crate) tool_version: Option<String>,
    /// The project.
    pub(crate) name: String,
    /// When it began.
    pub(crate) started_ms: UnixMillis,
    /// When it ended.
    pub(crate) ended_ms: UnixMillis,
    /// All of it, in µJ.
    pub(crate) energy_uj: u64,
    /// Of it, in µJ, where that is told.
    pub(crate) parts: Vec<(Domain, u64)>,
    /// What that emitted, in ng CO2e.
    pub(crate) carbon_ng: Option<u64>,
    /// What it ran on.
    pub(crate) hardware: Hardware,
    /// What else the tool says that is worth keeping.
    pub(crate) parameters: Vec<(String, String)>,
    /// Where in the file.
    pub(crate) line: u64,
}

impl ImportedRun {
    /// How long it took.
    pub(crate) fn span_ms(&self) -> i64 {
        self.ended_ms - self.started_ms
    }

    /// Sets the start, `seconds` before the end.
    ///
    /// # Errors
    /// When nothing takes that long.
    pub(super) fn begin_before_end(&mut self, seconds: f64) -> Result<(), String> {
        self.started_ms = self.ended_ms - span_ms(seconds)?;
        Ok(())
    }

    /// Sets the end, `seconds` after the start.
    ///
    /// # Errors
    /// As [`Self::begin_before_end`].
    pub(super) fn end_after_start(&mut self, seconds: f64) -> Result<(), String> {
        self.ended_ms = self.started_ms + span_ms(seconds)?;
        Ok(())
    }

    /// Takes µJ and ng, and says where they contradict each other.
    ///
    /// # Errors
    /// When they cannot be in the units that they should be in.
    pub(super) fn take_amounts(
        &mut self,
        energy_uj: f64,
        parts: &[(Domain, f64)],
        carbon_ng: Option<f64>,
    ) -> Result<Option<String>, String> {
        // A clock of whole seconds makes short runs look shorter still.
        let seconds = (self.span_ms() as f64 / 1e3).max(1.0);
        let watts = energy_uj / 1e6 / seconds;
        if watts > MOST_WATTS {
            return Err(format!(
                "{watts:.0} W over {seconds:.0} s is more than a machine draws: is its energy in \
                 another unit?"
            ));
        }
        if let Some(ng) = carbon_ng {
            let kwh = energy_uj / 3.6e12;
            // What is emitted without energy is as wrong.
            if ng / 1e9 > MOST_GRAMS_PER_KWH * kwh {
                return Err(format!(
                    "{:.3} g CO2e for {kwh:.6} kWh is more than any grid emits: is one of them in \
                     another unit?",
                    ng / 1e9
                ));
            }
        }
        self.energy_uj = energy_uj.round() as u64;
        self.carbon_ng = carbon_ng.map(|ng| ng.round() as u64);
        self.parts = parts
            .iter()
            .map(|(domain, uj)| (*domain, uj.round() as u64))
            .collect();
        let sum: f64 = parts.iter().map(|(_, uj)| uj).sum();
        let is_off = !parts.is_empty() && (sum - energy_uj).abs() > TOLERANCE * energy_uj.max(sum);
        Ok(is_off.then(|| {
            format!(
                "taken, but its parts add up to {:.3} J and it says {:.3} J in all",
                sum / 1e6,
                energy_uj / 1e6
            )
        }))
    }
}

fn span_ms(seconds: f64) -> Result<i64, String> {
    if !(0.0..=LONGEST).contains(&seconds) {
        return Err(format!("`{seconds:e}` s is longer than anything runs"));
    }
    Ok((seconds * 1e3).round() as i64)
}
