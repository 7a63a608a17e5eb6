// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The few lines on stderr that end a run.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use super::account::Report;
use crate::out::{Style, printable, quantity, span};

/// Prints the summary. A stderr that is closed is no reason to fail.
pub(crate) fn print(report: &Report) {
    let mut stderr = io::stderr().lock();
    let text = render(report, Style::of(&stderr));
    let _ = stderr.write_all(text.as_bytes());
}

fn render(report: &Report, style: Style) -> String {
    let measured = &report.measured;
    let mut text = String::new();
    let mut line = |label: &str, value: &str, remark: &str| {
        // Padded before it is coloured: escape codes have no width.
        let _ = write!(
            text,
            "  {} {}",
            style.dim(&format!("{label:<11}")),
            style.bold(value)
        );
        if !remark.is_empty() {
            let pad = 12_usize.saturating_sub(value.chars().count());
            let _ = write!(text, "{:pad$} {remark}", "");
        }
        text.push('\n');
    };
    let label = if measured.estimated {
        style.caution("estimated")
    } else {
        "measured".into()
    };
    match measured.energy_joules.total {
        Some(joules) => {
            line(
                "energy",
                &quantity(joules, "J"),
                &format!("{label}, idle power not included"),
            );
            if report.wall_seconds > 0.0 {
                line(
                    "mean power",
                    &quantity(joules / report.wall_seconds, "W"),
                    "",
                );
            }
            let share = quantity(measured.energy_joules.idle_share, "J");
            line(
                "idle share",
                &share,
                "of this machine, by the job's share of its CPU time",
            );
        }
        None => line(
            "energy",
            "unknown",
            "no meter, and no model for this machine",
        ),
    }
    let cpus = measured.cpu_seconds / report.wall_seconds;
    let busy = if cpus.is_finite() {
        format!("{cpus:.2} CPUs on average")
    } else {
        String::new()
    };
    line("CPU time", &span(measured.cpu_seconds), &busy);
    line("wall time", &span(report.wall_seconds), "");
    let least = if measured.processes_exact { "" } else { "≥ " };
    let left = match report.left_running {
        0 => String::new(),
        n => format!("{n} still running"),
    };
    line(
        "processes",
        &format!("{least}{}", measured.processes),
        &left,
    );
    for meter in &measured.meters {
        let from = format!(
            "{}, source {}",
            printable(&meter.name),
            printable(&meter.source)
        );
        line("meter", &quantity(meter.joules, "J"), &from);
    }
    let by = format!(
        "{}; tier {}, by {}",
        measured.measured_by.words(),
        printable(&measured.tier),
        printable(&measured.membership),
    );
    line("seen by", &by, "");
    for note in &measured.notes {
        line("note", &printable(note), "");
    }
    let outcome = match report.exit_status {
        0 => "done".to_owned(),
        status => format!("exit status {status}"),
    };
    format!(
        "eco: {}: {outcome}\n{text}",
        style.bold(&printable(&report.name))
    )
}
