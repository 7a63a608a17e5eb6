// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a calibration found, for people and for programs.

use std::fmt::Write as _;

use eco_meter::profile::Profile;
use serde::Serialize;

use super::{load::Step, measure::Measured};
use crate::out::{Style, printable, span};

/// A calibration; `--json` writes it as it is.
#[derive(Serialize)]
pub(super) struct Report {
    /// The true meter.
    pub(super) source: String,
    pub(super) steps: Vec<Row>,
    /// What was fitted; absent if it was refused.
    pub(super) profile: Option<Profile>,
    /// Why the fit was refused.
    pub(super) refused: Option<String>,
    /// Where the profile was saved.
    pub(super) saved: Option<String>,
    /// Odd rows, gaps, slow meters.
    pub(super) notes: Vec<String>,
}

/// What would be done; `--dry-run --json` writes it.
#[derive(Serialize)]
pub(super) struct Plan {
    pub(super) source: String,
    /// The steps' names, in order.
    pub(super) steps: Vec<String>,
    /// All of them together.
    pub(super) seconds: f64,
    pub(super) output: String,
}

/// One step.
#[derive(Serialize)]
pub(super) struct Row {
    name: String,
    busy_cpus: f64,
    /// Current over highest frequency.
    frequency: f64,
    active_cores: f64,
    pub(super) watts: f64,
}

impl Row {
    pub(super) fn new(step: &Step, measured: &Measured) -> Self {
        Self {
            name: step.name.clone(),
            busy_cpus: measured.busy_cpus,
            frequency: measured.frequency,
            active_cores: measured.active_cores,
            watts: measured.watts,
        }
    }
}

impl Report {
    pub(super) fn render(&self, style: Style) -> String {
        let source = printable(&self.source);
        let mut text = format!("{}\n", style.bold(&format!("Measured by {source}")));
        let head = format!(
            "  {:<24} {:>9} {:>9} {:>12} {:>9}",
            "step", "busy CPUs", "frequency", "active cores", "W"
        );
        // A String takes all that is written to it.
        let _ = writeln!(text, "{}", style.dim(&head));
        for row in &self.steps {
            let _ = writeln!(
                text,
                "  {:<24} {:>9.2} {:>7.0} % {:>12.2} {:>9.2}",
                row.name,
                row.busy_cpus,
                100.0 * row.frequency,
                row.active_cores,
                row.watts
            );
        }
        if let Some(profile) = &self.profile {
            let (fitted, error) = (profile.coefficients, profile.error);
            let _ = writeln!(
                text,
                "\n{}\n  idle                {:.2} W\n  busy CPU            {:.2} W at full \
                 frequency\n  active core         {:.2} W\n  error               {:.2} W ({:.1} %) \
                 on average, {:.2} W ({:.1} %) at worst,\n                      each step predicted \
                 from the others",
                style.bold("This machine"),
                fitted.idle_watts,
                fitted.busy_cpu_watts,
                fitted.active_core_watts,
                error.mean_watts,
                error.mean_percent,
                error.worst_watts,
                error.worst_percent,
            );
        }
        if let Some(path) = &self.saved {
            let _ = writeln!(
                text,
                "\nSaved to {}; an agent that has no meter uses it from its next start.",
                printable(path)
            );
        }
        for note in &self.notes {
            let _ = writeln!(
                text,
                "{}",
                style.caution(&format!("note: {}", printable(note)))
            );
        }
        text
    }
}

impl Plan {
    pub(super) fn render(&self) -> String {
        format!(
            "Meter: {}\nSteps: {}\nTime:  {}\nSaved to: {}\nNothing was loaded, measured or saved.\n",
            printable(&self.source),
            self.steps.join("; "),
            span(self.seconds),
            printable(&self.output)
        )
    }
}
