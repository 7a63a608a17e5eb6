// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What eco costs and what it catches, beside any other exporter that already runs here.
//!
//! `cargo xtask bench` builds eco and becomes this.
#![expect(
    clippy::print_stdout,
    reason = "what a benchmark prints is what it is for"
)]

mod capture;
mod gpus;
mod history;
mod memory;
mod otlp;
mod overhead;
mod peer;
mod scale;
mod scrape;
mod serve;
mod table;
mod thousands;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use eco_tests::needs::Need;
use serde_json::Value;

use crate::{peer::Peer, table::Table};

/// Measure eco, and other exporters beside it in the same run.
#[derive(Parser)]
#[command(name = "cargo xtask bench", after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    what: What,

    /// Write one JSON object instead of tables.
    #[arg(long, global = true)]
    json: bool,

    /// An exporter that runs already: its name, its process id and where it serves metrics.
    #[arg(long = "peer", global = true, value_name = "NAME=PID@URL")]
    peers: Vec<Peer>,
}

const HELP: &str = "\
Medians of several rounds; run it on a machine that does nothing else.

Examples:
  cargo xtask bench overhead
  cargo xtask bench capture --rounds 5 --json
  cargo xtask bench scale --peer kepler=4711@http://127.0.0.1:28282/metrics";

#[derive(Subcommand)]
enum What {
    /// Time of a context switch with the agent off and on, in turn
    Overhead {
        /// Pairs of off and on.
        #[arg(long, default_value_t = 12)]
        rounds: u32,
    },
    /// Share of the CPU time of short-lived children that is seen
    Capture {
        /// Runs of each storm.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// CPU, memory and latency at 100, 500, 1,000 and 10,000 tasks
    Scale {
        /// How long each number of tasks is measured.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// CPU and memory with eight GPUs and four hundred processes on them, and without any
    Gpus {
        /// How long it is measured.
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// Memory with everything on: history, both pushes, Kepler's series, pods and Slurm jobs
    Memory {
        /// How long it works before it is looked at.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// How long a scrape of 10,000 series takes
    Scrape {
        /// How often it is scraped.
        #[arg(long, default_value_t = 200)]
        requests: u32,
    },
    /// What pushing 10,000 series by OTLP each 15 s costs
    Otlp {
        /// How often it pushes while it is measured.
        #[arg(long, default_value_t = 8)]
        pushes: u32,
    },
    /// What a month of history takes: on disk, to read, to write, and in fsyncs
    History {
        /// How much is written at once.
        #[arg(long, default_value_t = 30)]
        days: u32,
        /// How long it is written at 1 Hz, twice. Fsyncs come each five minutes.
        #[arg(long, default_value_t = 610)]
        seconds: u32,
    },
    /// How long eco serve takes to answer about a cluster of 10,000 pods
    Serve {
        /// How often each question is asked.
        #[arg(long, default_value_t = 300)]
        requests: u32,
    },
}

/// What a benchmark found.
struct Findings {
    tables: Vec<Table>,
    json: Value,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for need in [Need::Programs, Need::Root, Need::Cgroup] {
        if let Some(why) = need.missing() {
            eprintln!("bench: {why}");
            return ExitCode::from(3);
        }
    }
    match run(&arguments) {
        Ok(findings) if arguments.json => println!("{:#}", findings.json),
        Ok(findings) => findings.tables.iter().for_each(|table| println!("{table}")),
        Err(why) => {
            eprintln!("bench: {why:#}");
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}

fn run(arguments: &Arguments) -> Result<Findings> {
    let peers = &arguments.peers;
    match arguments.what {
        What::Overhead { rounds } => overhead::run(rounds.max(1), peers),
        What::Capture { rounds } => capture::run(rounds.max(1), peers),
        What::Scale { seconds } => scale::run(seconds.max(1), peers),
        What::Gpus { seconds } => gpus::run(seconds.max(1)),
        What::Memory { seconds } => memory::run(seconds.max(1)),
        What::Scrape { requests } => scrape::run(requests.max(1), peers),
        What::Otlp { pushes } => otlp::run(pushes.max(1)),
        What::History { days, seconds } => history::run(days.max(1), seconds.max(1)),
        What::Serve { requests } => serve::run(requests.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
