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
    let outcome = match report.exit_status {
        0 => "done".to_owned(),
        status => format!("exit status {status}"),
    };
    let mut text = format!("eco: {}: {outcome}\n", style.bold(&printable(&report.name)));
    for (label, value, remark) in lines(report, style) {
        // Padded before it is coloured: escape codes have no width.
        let label = format!("{label:<11}");
        let _ = write!(text, "  {} {}", style.dim(&label), style.bold(&value));
        if !remark.is_empty() {
            let pad = 12_usize.saturating_sub(value.chars().count());
            let _ = write!(text, "{:pad$} {remark}", "");
        }
        text.push('\n');
    }
    text
}

/// Label, value and remark of each line.
fn lines(report: &Report, style: Style) -> Vec<(&'static str, String, String)> {
    let measured = &report.measured;
    let mut lines = energy_lines(report, style);
    let mut line = |label, value: String, remark: &str| {
        lines.push((label, value, remark.to_owned()));
    };
    let cpus = measured.cpu_seconds / report.wall_seconds;
    let busy = if cpus.is_finite() {
        format!("{cpus:.2} CPUs on average")
    } else {
        String::new()
    };
    line("CPU time", span(measured.cpu_seconds), &busy);
    line("wall time", span(report.wall_seconds), "");
    let least = if measured.processes_exact { "" } else { "≥ " };
    let left = match report.left_running {
        0 => String::new(),
        n => format!("{n} still running"),
    };
    line("processes", format!("{least}{}", measured.processes), &left);
    for meter in &measured.meters {
        let from = format!(
            "{}, source {}",
            printable(&meter.name),
            printable(&meter.source)
        );
        line("meter", quantity(meter.joules, "J"), &from);
    }
    if let Some(part) = &measured.part_of {
        let remark = part.remark();
        line("part of job", printable(&part.name()).into_owned(), &remark);
    }
    let by = format!(
        "{}; tier {}, by {}",
        measured.measured_by.words(),
        printable(&measured.tier),
        printable(&measured.membership),
    );
    line("seen by", by, "");
    for note in &measured.notes {
        line("note", printable(note).into_owned(), "");
    }
    lines
}

fn energy_lines(report: &Report, style: Style) -> Vec<(&'static str, String, String)> {
    let energy = &report.measured.energy_joules;
    let Some(joules) = energy.total else {
        let why = "no meter, and no model for this machine";
        return vec![("energy", "unknown".to_owned(), why.to_owned())];
    };
    let label = if report.measured.estimated {
        style.caution("estimated")
    } else {
        "measured".into()
    };
    let mut lines = vec![(
        "energy",
        quantity(joules, "J"),
        format!("{label}, idle power not included"),
    )];
    if report.wall_seconds > 0.0 {
        lines.push((
            "mean power",
            quantity(joules / report.wall_seconds, "W"),
            String::new(),
        ));
    }
    if let Some(grams) = report.carbon.grams {
        let from = printable(&report.carbon.provenance()).into_owned();
        lines.push(("carbon", quantity(grams, "g"), from));
    }
    let of = "of the machine's idle energy, by share of its CPU time";
    lines.push((
        "idle share",
        quantity(energy.idle_share, "J"),
        of.to_owned(),
    ));
    lines
}
