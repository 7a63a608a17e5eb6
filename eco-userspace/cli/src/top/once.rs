// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco top` for scripts: one table or one object, or a line of JSON per interval.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use eco_agent::api::Units;

use super::{
    kind::{Kind, joules},
    view::{name, number, percent},
};
use crate::{
    client::Client,
    exit::{self, Failure, Outcome},
    out::{self, printable, quantity},
};

/// Prints one table, or the object itself.
pub(super) fn print(units: &Units, kind: Kind, json: bool) -> Result<(), Failure> {
    if json {
        out::print_json(units)
    } else {
        out::print(&table(units, kind))
    }
}

/// Writes a line of JSON per interval, until the reader has gone or the agent has.
pub(super) fn follow(socket: &Path, kind: Kind, top: u32, interval: Duration) -> Outcome {
    let client = Client::new(socket)?;
    loop {
        let units = client.units(kind.label(), top, interval)?;
        let line = serde_json::to_string(&units)
            .map_err(|error| Failure::absent(format!("units cannot be written: {error}")))?;
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(exit::DONE),
            Err(error) => return Err(Failure::absent(format!("stdout: {error}"))),
        }
        drop(stdout);
        thread::sleep(interval);
    }
}

fn table(units: &Units, kind: Kind) -> String {
    let node = &units.node;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  {} CPUs  {} processes  CPU {} %  {}",
        printable(&node.name),
        node.cpus,
        node.processes,
        percent(node.cpu_percent),
        printable(&units.at),
    );
    for (domain, watts) in &node.watts {
        let idle = node.idle_watts.get(domain);
        let idle = idle.map_or(String::new(), |idle| {
            format!(", idle {}", quantity(*idle, "W"))
        });
        let label = if node.estimated {
            "estimated"
        } else {
            "measured"
        };
        let _ = writeln!(
            text,
            "{}  {} {label}{idle}",
            printable(domain),
            quantity(*watts, "W")
        );
    }
    if let Some(rate) = node.carbon_grams_per_hour {
        let _ = writeln!(text, "carbon  {}", quantity(rate, "g/h"));
    }
    let (first, last) = if kind == Kind::Process {
        ("PID", "COMMAND")
    } else {
        ("TASKS", "NAME")
    };
    let _ = writeln!(
        text,
        "\n{first:>8} {:<10} {:>8} {:>9} {:>10}  {last}",
        "USER", "CPU%", "W", "J"
    );
    for unit in &units.units {
        let first = match unit.pid {
            Some(pid) => pid.to_string(),
            None if kind == Kind::Process => "-".to_owned(),
            None => unit.tasks.to_string(),
        };
        let _ = writeln!(
            text,
            "{first:>8} {:<10} {:>8} {:>9} {:>10}  {}",
            printable(unit.user.as_deref().unwrap_or("-")),
            percent(unit.cpu_percent),
            number(unit.watts),
            number(joules(unit)),
            name(unit),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use eco_agent::api::{Node, Unit};

    use super::*;

    #[test]
    fn one_table_says_whether_it_is_an_estimate() {
        let units = Units {
            at: "2026-01-02T03:04:05Z".into(),
            node: Node {
                name: "n1".into(),
                cpus: 2,
                cpu_percent: 45.25,
                watts: [("package".to_owned(), 6.25)].into(),
                idle_watts: [("package".to_owned(), 4.0)].into(),
                estimated: true,
                processes: 3,
                ..Node::default()
            },
            units: vec![Unit {
                pid: Some(7),
                user: Some("ann".into()),
                label: "bad\x1bname".into(),
                cpu_percent: 40.0,
                watts: 2.0,
                ..Unit::default()
            }],
            ..Units::default()
        };
        assert_eq!(
            table(&units, Kind::Process),
            "\
n1  2 CPUs  3 processes  CPU 45.2 %  2026-01-02T03:04:05Z
package  6.25 W estimated, idle 4.00 W

     PID USER           CPU%         W          J  COMMAND
       7 ann            40.0      2.00       0.00  bad\u{fffd}name
"
        );
    }
}
