// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An answer of the history, for people in 80 columns and as CSV.

use std::fmt::Write as _;

use super::history::{Meter, Report, Unit};
use crate::out::{printable, quantity, span};

/// The longest title that a line has room for, in characters.
const TITLE: usize = 34;

/// A line for each unit, or for each meter; then where that is from.
pub(super) fn render(report: &Report, is_node: bool) -> String {
    let mut text = String::new();
    if is_node {
        meters(&mut text, report);
    } else {
        units(&mut text, report);
    }
    if report.left_out > 0 {
        let _ = writeln!(text, "and {} more (--top 0)", report.left_out);
    }
    let kind = if report.estimated { "estimated; " } else { "" };
    let idle = if is_node {
        ""
    } else {
        "idle power not included; "
    };
    let measured = span(report.measured_seconds);
    let _ = writeln!(text, "{kind}{idle}measured for {measured}");
    let (Some(from), Some(to)) = (&report.from, &report.to) else {
        let _ = writeln!(text, "history {}: nothing in this time", report.source.file);
        return text;
    };
    let _ = writeln!(text, "from {from} to {to}");
    let _ = writeln!(text, "history {}: {}", report.source.file, tiers(report));
    text
}

/// Each unit's line, under a line of names with units.
pub(super) fn units_csv(report: &Report) -> String {
    let mut text = "title,cpu_seconds,energy_joules,mean_watts,carbon_grams\n".to_owned();
    for unit in &report.units {
        let numbers = [
            Some(unit.cpu_seconds),
            unit.total_joules,
            unit.watts,
            unit.carbon_grams,
        ];
        line(&mut text, &unit.title, &numbers);
    }
    text
}

/// Each meter's line, under a line of names with units.
pub(super) fn meters_csv(report: &Report) -> String {
    let mut text =
        "meter,energy_joules,idle_joules,unattributed_joules,downtime_joules\n".to_owned();
    for meter in &report.node.meters {
        line(&mut text, &meter.name, &amounts(meter).map(Some));
    }
    text
}

fn line(text: &mut String, title: &str, numbers: &[Option<f64>]) {
    text.push_str(&quoted(title));
    for number in numbers {
        text.push(',');
        if let Some(number) = number {
            let _ = write!(text, "{number}");
        }
    }
    text.push('\n');
}

/// RFC 4180.
fn quoted(title: &str) -> String {
    if title.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", title.replace('"', "\"\""))
    } else {
        title.to_owned()
    }
}

fn units(text: &mut String, report: &Report) {
    let _ = writeln!(
        text,
        "{:<TITLE$} {:>9} {:>10} {:>9} {:>11}",
        "NAME", "ENERGY", "MEAN POWER", "CARBON", "CPU TIME"
    );
    for unit in &report.units {
        let Unit {
            total_joules,
            watts,
            carbon_grams,
            ..
        } = unit;
        let _ = writeln!(
            text,
            "{:<TITLE$} {:>9} {:>10} {:>9} {:>11}",
            short(&unit.title),
            amount(*total_joules, "J"),
            amount(*watts, "W"),
            amount(*carbon_grams, "g"),
            span(unit.cpu_seconds),
        );
    }
}

fn meters(text: &mut String, report: &Report) {
    let _ = writeln!(
        text,
        "{:<TITLE$} {:>9} {:>9} {:>12} {:>9}",
        "METER", "ENERGY", "IDLE", "UNATTRIBUTED", "DOWNTIME"
    );
    for meter in &report.node.meters {
        let [energy, idle, unattributed, downtime] = amounts(meter).map(|j| quantity(j, "J"));
        let _ = writeln!(
            text,
            "{:<TITLE$} {energy:>9} {idle:>9} {unattributed:>12} {downtime:>9}",
            short(&meter.name)
        );
    }
    let cpu = span(report.node.cpu_seconds);
    let carbon = report.node.carbon_grams;
    let carbon = carbon.map(|grams| format!(", {} CO2e", quantity(grams, "g")));
    let _ = writeln!(text, "CPU time {cpu}{}", carbon.unwrap_or_default());
}

fn amounts(meter: &Meter) -> [f64; 4] {
    [
        meter.energy_joules,
        meter.idle_joules,
        meter.unattributed_joules,
        meter.downtime_joules,
    ]
}

/// How much of the time each tier answers for: `hours 23 h 00 min, minutes 59 min 00 s`.
fn tiers(report: &Report) -> String {
    let of = |tier: &str| -> i64 {
        let pieces = report.source.pieces.iter();
        let of_tier = pieces.filter(|piece| piece.tier == tier);
        of_tier.map(|piece| piece.seconds).sum()
    };
    let tiers = ["hours", "minutes", "seconds"].map(|tier| (tier, of(tier)));
    let told = tiers.iter().filter(|(_, seconds)| *seconds > 0);
    let told: Vec<String> = told
        .map(|(tier, seconds)| format!("{tier} {}", span(*seconds as f64)))
        .collect();
    told.join(", ")
}

fn amount(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| quantity(value, unit))
}

/// Cut in the middle: what tells units apart stands at either end.
fn short(title: &str) -> String {
    let title: Vec<char> = printable(title).chars().collect();
    if title.len() <= TITLE {
        return title.into_iter().collect();
    }
    let back = TITLE / 2;
    let front = title[..TITLE - back - 1].iter();
    front
        .chain(&['…'])
        .chain(&title[title.len() - back..])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_of_any_length_fits_and_does_nothing_to_a_terminal() {
        let long = format!("shop/{}-x7k2p\u{1b}[2J", "é".repeat(200));
        assert_eq!(short(&long).chars().count(), TITLE);
        assert!(!short(&long).contains('\u{1b}'));
        assert_eq!(short("shop/web"), "shop/web");
    }

    #[test]
    fn a_cell_of_csv_is_one_cell_and_what_is_not_known_is_none() {
        let mut text = String::new();
        line(&mut text, "a,\"b\"\nc", &[Some(1.5), None, Some(0.0)]);
        assert_eq!(text, "\"a,\"\"b\"\"\nc\",1.5,,0\n");
    }
}
