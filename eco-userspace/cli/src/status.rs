// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco status`: what the agent has detected; without one, what it would find here.

mod machine;

use std::{fmt::Write as _, io, path::Path};

use clap::Args;
use eco_agent::api::{Latency, MeterStatus, Status};
use serde::Serialize;

use self::machine::Machine;
use crate::{
    client::{Client, ClientError},
    exit::{self, Outcome},
    intensity,
    out::{self, Style, bytes, printable, quantity, span},
};

const HELP: &str = "\
Exits with 3 when no agent answers; what the machine itself has is shown then.

Examples:
  eco status
  eco status --json | jq '.meters[] | select(.estimated)'";

/// What was detected, how well it works, what it costs, and what is missing.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct StatusArgs {
    /// Write JSON: the agent's status, or an object with `agent: null`.
    #[arg(long)]
    json: bool,
}

/// What `--json` writes where no agent answers.
#[derive(Serialize)]
struct NoAgent<'a> {
    agent: Option<()>,
    socket: String,
    reason: String,
    machine: &'a Machine,
}

/// Shows the status.
pub(crate) fn main(socket: &Path, args: &StatusArgs) -> Outcome {
    let style = Style::of(&io::stdout());
    match Client::new(socket)?.status() {
        Ok(status) if args.json => out::print_json(&status).map(|()| exit::DONE),
        Ok(status) => out::print(&render(&status, socket, style)).map(|()| exit::DONE),
        Err(error) => {
            let machine = Machine::detect();
            if args.json {
                let answer = NoAgent {
                    agent: None,
                    socket: socket.display().to_string(),
                    reason: error.to_string(),
                    machine: &machine,
                };
                out::print_json(&answer)?;
            } else {
                out::print(&machine.render(style))?;
            }
            exit::warn(&with_advice(&error));
            Ok(exit::ABSENT)
        }
    }
}

fn with_advice(error: &ClientError) -> String {
    match error {
        ClientError::NoAgent(_) => format!(
            "{error}; start one with `sudo eco-agent`, or name another socket with --socket. \
             `eco run` works without"
        ),
        _ => error.to_string(),
    }
}

fn render(status: &Status, socket: &Path, style: Style) -> String {
    let mut page = Page::new(style);
    page.section("Agent");
    page.line(
        "node",
        &format!("{}, {} CPUs, {}", status.node, status.cpus, status.kernel),
    );
    page.line(
        "version",
        &format!("{}, pid {}", status.version, status.pid),
    );
    page.line("socket", &socket.display().to_string());
    page.line(
        "up",
        &format!("{}, {} ticks", span(status.uptime_seconds), status.ticks),
    );
    page.line("tick", &span(status.interval_seconds));

    page.section("Meters");
    if status.meters.is_empty() {
        page.line("none", "no energy is known on this machine");
    }
    for meter in &status.meters {
        page.styled(&meter.name, &meter_line(meter, style));
    }

    usage(&mut page, status);
    page.section("Identity");
    page.line("from", &or_none(&status.identity));
    own_cost(&mut page, status);

    page.section("Carbon");
    for (label, value) in intensity::lines(&status.carbon, style) {
        page.styled(label, &value);
    }

    page.section("State");
    let directory = &status.state.directory;
    page.line(
        "kept in",
        if directory.is_empty() {
            "memory only"
        } else {
            directory
        },
    );
    if let Some(problem) = &status.state.problem {
        page.styled("problem", &style.caution(&printable(problem)));
    }
    history(&mut page, status, style);
    page.advice(&status.advice);
    page.list("Notes", &status.notes);
    page.text
}

fn history(page: &mut Page, status: &Status, style: Style) {
    page.section("History");
    let Some(history) = &status.history else {
        page.line("kept", "no");
        return;
    };
    page.line(
        "file",
        &format!("{}, {}", history.file, bytes(history.bytes)),
    );
    let mut samples = format!("{} written", history.written);
    if history.merged > 0 {
        samples += &format!(", {} added to the next one", history.merged);
    }
    page.line("samples", &samples);
    if let Some(problem) = &history.problem {
        page.styled("problem", &style.caution(&printable(problem)));
    }
}

fn usage(page: &mut Page, status: &Status) {
    page.section("CPU time");
    page.line("tier", &format!("{}: {}", status.tier, status.tier_reason));
    page.line(
        "seen",
        &format!("{} processes, {} threads", status.processes, status.tasks),
    );
    let disagreements: Vec<String> = status
        .discrepancies
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| match kind.strip_suffix("_ns") {
            Some(kind) => format!("{kind} {}", span(*count as f64 / 1e9)),
            None => format!("{kind} {count}"),
        })
        .collect();
    let agree = disagreements.is_empty();
    page.line(
        "ledgers",
        &if agree {
            "agree".to_owned()
        } else {
            disagreements.join(", ")
        },
    );
}

fn own_cost(page: &mut Page, status: &Status) {
    let own = &status.self_cost;
    page.section("Its own cost");
    page.line(
        "CPU",
        &format!(
            "{:.3} % of a core, {}",
            own.cpu_percent,
            span(own.cpu_seconds)
        ),
    );
    let maps = bytes(own.bpf_map_bytes);
    page.line(
        "memory",
        &format!("{}, BPF maps {maps}", bytes(own.resident_bytes)),
    );
    page.line("energy", &quantity(own.energy_joules, "J"));
    for (step, latency) in &status.latencies {
        page.line(step, &latency_line(latency));
    }
    page.line("holds", &or_none(&status.capabilities));
}

fn meter_line(meter: &MeterStatus, style: Style) -> String {
    let watts = quantity(meter.watts, "W");
    let idle = match meter.idle_watts {
        Some(idle) => format!(
            "idle {} ({})",
            quantity(idle, "W"),
            printable(&meter.idle_basis)
        ),
        None => "idle not known yet".to_owned(),
    };
    let label = if meter.estimated {
        style.caution("estimated")
    } else {
        "measured".into()
    };
    let quality = match meter.quality.as_str() {
        "measured" | "estimated" => String::new(),
        other => format!(", {}", style.caution(&printable(other))),
    };
    // A model has a value whenever it is asked for one.
    let period = meter.update_seconds.filter(|_| !meter.estimated);
    let period = period.map_or_else(String::new, |s| {
        format!(", a new value each {}", quantity(s, "s"))
    });
    let (domain, source) = (printable(&meter.domain), printable(&meter.source));
    format!(
        "{domain:<8} {watts:>8}  {:>9}  {idle}; source {source}, {label}{period}{quality}",
        quantity(meter.joules, "J"),
    )
}

fn latency_line(latency: &Latency) -> String {
    if latency.count == 0 {
        return "none yet".to_owned();
    }
    format!(
        "p50 {}, p99 {}, max {} ({} times)",
        quantity(latency.p50, "s"),
        quantity(latency.p99, "s"),
        quantity(latency.max, "s"),
        latency.count,
    )
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// Sections of aligned lines.
struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn new(style: Style) -> Self {
        Self {
            text: String::new(),
            style,
        }
    }

    fn section(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = writeln!(self.text, "{}", self.style.bold(title));
    }

    fn line(&mut self, label: &str, value: &str) {
        self.styled(label, &printable(value));
    }

    /// A line whose value is safe already, and may have colours.
    fn styled(&mut self, label: &str, value: &str) {
        // Padded before it is coloured: escape codes have no width.
        let label = self
            .style
            .dim(&format!("{:<14}", printable(label)))
            .into_owned();
        let _ = writeln!(self.text, "  {label} {value}");
    }

    fn advice(&mut self, advice: &[String]) {
        self.list("What is missing", advice);
    }

    /// A section of lines; none where there are no lines.
    fn list(&mut self, title: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.section(title);
        for line in lines {
            let _ = writeln!(self.text, "  - {}", printable(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use eco_agent::api::HistoryStatus;

    use super::*;

    fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 7,
            node: "n1".into(),
            kernel: "Linux 6.18".into(),
            cpus: 2,
            uptime_seconds: 187.0,
            interval_seconds: 1.0,
            ticks: 187,
            tier: "iter".into(),
            tier_reason: "every task, dead ones included".into(),
            meters: vec![MeterStatus {
                name: "model".into(),
                domain: "package".into(),
                source: "model".into(),
                estimated: true,
                quality: "estimated".into(),
                joules: 1234.5,
                watts: 6.25,
                idle_watts: Some(4.0),
                idle_basis: "model".into(),
                ..MeterStatus::default()
            }],
            advice: vec!["no RAPL: ask the host".into()],
            notes: vec!["amd-smi: is not installed".into()],
            ..Status::default()
        }
    }

    #[test]
    fn a_status_shows_every_section_and_marks_an_estimate() {
        let page = render(&status(), Path::new("/run/eco/agent.sock"), Style::PLAIN);
        for part in [
            "Agent\n  node           n1, 2 CPUs, Linux 6.18\n",
            "  up             3 min 07 s, 187 ticks\n",
            "  model          package    6.25 W    1.23 kJ  idle 4.00 W (model); source model, \
             estimated\n",
            "  tier           iter: every task, dead ones included\n",
            "  ledgers        agree\n",
            "Carbon\n  intensity      not known: no carbon is counted\n",
            "  kept in        memory only\n",
            "What is missing\n  - no RAPL: ask the host\n",
            "Notes\n  - amd-smi: is not installed\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }

    #[test]
    fn an_agent_cannot_write_to_the_terminal_itself() {
        let mut hostile = status();
        hostile.node = "\x1b[2Jn1".into();
        hostile.meters[0].name = "a\nb".into();
        hostile.meters[0].quality = "\x1b]0;x\x07".into();
        hostile.state.problem = Some("\x1b[31m".into());
        hostile.history = Some(HistoryStatus {
            file: "/\x1b[31m".into(),
            problem: Some("the disk is full\x1b[31m".into()),
            ..HistoryStatus::default()
        });
        let page = render(&hostile, Path::new("/x"), Style::PLAIN);
        assert!(
            !page.contains('\x1b') && page.contains("a\u{fffd}b") && page.contains("disk is full"),
            "{page}"
        );
    }
}
