// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Past runs for people: a line each in 80 columns, or a page of one.

use eco_history::run::{KeptRun, Run};
use jiff::{Timestamp, tz::TimeZone};

use crate::out::{printable, quantity, span};

/// The list, the latest first, with what its marks mean.
pub(super) fn list(runs: &[KeptRun]) -> String {
    if runs.is_empty() {
        return "No such runs.\n".to_owned();
    }
    let mut text = format!(
        "{:>5}  {:<16}  {:<14} {:>11} {:>9} {:>9} {:>6}\n",
        "ID", "STARTED", "NAME", "WALL", "ENERGY", "CARBON", "EXIT"
    );
    for kept in runs {
        let run = &kept.run;
        text += &format!(
            "{:>5}  {:<16}  {} {:>11} {:>9} {:>9} {:>6}\n",
            kept.id,
            minute(run.started_ms),
            cut(&printable(&run.name), 14),
            span(seconds(run)),
            energy(run),
            carbon(run),
            run.exit_status
                .map_or("-".to_owned(), |status| status.to_string()),
        );
    }
    if runs.iter().any(|kept| kept.run.estimated) {
        text += "~ estimated, by a model rather than a meter, or in part\n";
    }
    text
}

/// All of one.
pub(super) fn one(kept: &KeptRun) -> String {
    let run = &kept.run;
    let mut text = format!("run {}: {}\n", kept.id, printable(&run.name));
    for (label, value) in lines(run) {
        text += &format!("  {label:<12} {}\n", printable(&value));
    }
    text
}

/// Label and value of all that is known.
pub(super) fn lines(run: &Run) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |label: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push((label.to_owned(), value));
        }
    };
    line("command", Some(run.command.join(" ")));
    line("user", run.user.clone());
    line("started", Some(second(run.started_ms)));
    line("wall time", Some(span(seconds(run))));
    line(
        "exit status",
        run.exit_status.map(|status| status.to_string()),
    );
    line("CPU time", run.cpu_ns.map(|ns| span(ns as f64 / 1e9)));
    line("energy", run.energy_uj.map(|_| energy(run)));
    line(
        "idle share",
        run.idle_uj.map(|uj| quantity(uj as f64 / 1e6, "J")),
    );
    line("carbon", run.carbon_ng.map(|_| carbon(run)));
    line(
        "intensity",
        run.priced
            .as_ref()
            .map(|priced| priced.intensity.provenance()),
    );
    for meter in &run.meters {
        let joules = quantity(meter.energy_uj as f64 / 1e6, "J");
        line(
            "meter",
            Some(format!("{joules}  {}, {}", meter.name, meter.source)),
        );
    }
    line("measured by", Some(run.measured_by.clone()));
    line("from", run.provenance.clone());
    let part = run.part_of.as_ref();
    line(
        "part of job",
        part.map(|part| {
            let rank = part
                .rank
                .map_or(String::new(), |rank| format!(", rank {rank}"));
            format!("{}/{}{rank}", part.manager, part.job)
        }),
    );
    line(
        "commit",
        run.revision
            .as_ref()
            .map(|revision| match &revision.branch {
                Some(branch) => format!("{} on {branch}", revision.commit),
                None => revision.commit.clone(),
            }),
    );
    if let Some(hardware) = &run.hardware {
        let gib = hardware.memory_bytes as f64 / (1_u64 << 30) as f64;
        line("host", Some(hardware.host.clone()));
        line(
            "CPUs",
            Some(format!("{} × {}", hardware.cpus, hardware.cpu)),
        );
        line("memory", (gib > 0.0).then(|| format!("{gib:.1} GiB")));
        line("GPUs", Some(hardware.gpus.clone()));
    }
    for (name, value) in &run.parameters {
        line("parameter", Some(format!("{name} = {value}")));
    }
    for (name, value) in &run.metrics {
        line("metric", Some(format!("{name} = {value}")));
    }
    lines
}

/// Wall time, in seconds.
pub(super) fn seconds(run: &Run) -> f64 {
    run.ended_ms.saturating_sub(run.started_ms).max(0) as f64 / 1e3
}

fn energy(run: &Run) -> String {
    let mark = if run.estimated { "~" } else { "" };
    run.energy_uj.map_or("-".to_owned(), |uj| {
        format!("{mark}{}", quantity(uj as f64 / 1e6, "J"))
    })
}

fn carbon(run: &Run) -> String {
    run.carbon_ng
        .map_or("-".to_owned(), |ng| quantity(ng as f64 / 1e9, "g"))
}

fn minute(unix_ms: i64) -> String {
    shown(unix_ms, "%Y-%m-%d %H:%M")
}

fn second(unix_ms: i64) -> String {
    shown(unix_ms, "%Y-%m-%d %H:%M:%S %:z")
}

/// In this machine's time zone.
fn shown(unix_ms: i64, format: &str) -> String {
    Timestamp::from_millisecond(unix_ms).map_or("?".to_owned(), |at| {
        at.to_zoned(TimeZone::system()).strftime(format).to_string()
    })
}

/// As wide as that, to the character.
fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{:pad$}", "", pad = width - length);
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> KeptRun {
        KeptRun {
            id: 12,
            run: Run {
                name: name.to_owned(),
                started_ms: 1_764_000_000_000,
                ended_ms: 1_764_000_000_000 + 7_500_000,
                energy_uj: Some(12_300_000_000),
                carbon_ng: Some(1_200_000_000),
                estimated: true,
                exit_status: Some(137),
                command: vec!["sh".to_owned(), "\u{1b}[2J".to_owned()],
                ..Run::default()
            },
        }
    }

    #[test]
    fn a_list_fits_a_terminal_whatever_names_there_are() {
        let long = kept(&"ä\n".repeat(200));
        let text = list(&[kept("train"), long]);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let row = text.lines().nth(1).unwrap();
        for part in ["train", "2 h 05 min", "~12.3 kJ", "1.20 g", "137"] {
            assert!(row.contains(part), "{row}");
        }
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn what_is_not_known_of_a_run_is_not_shown_and_nothing_reaches_the_terminal() {
        let text = one(&kept("a"));
        assert!(!text.contains('\u{1b}') && !text.contains("user"), "{text}");
        let bare = one(&KeptRun {
            id: 1,
            run: Run::default(),
        });
        assert!(!bare.contains("energy") && !bare.contains("exit"), "{bare}");
    }

    #[test]
    fn a_clock_that_went_back_gives_no_negative_time() {
        let mut run = kept("a").run;
        run.ended_ms = run.started_ms - 5;
        assert_eq!(seconds(&run), 0.0);
    }
}
