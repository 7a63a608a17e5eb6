// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `eco` command: what people and scripts use. It needs no privilege of its own.

mod calibrate;
mod client;
mod energy;
mod exit;
mod intensity;
mod out;
mod run;
mod status;
mod top;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Energy of what runs on this machine.
#[derive(Parser)]
#[command(name = "eco", version, after_help = HELP)]
struct Cli {
    /// Where the agent listens.
    #[arg(
        long,
        global = true,
        env = "ECO_SOCKET",
        value_name = "PATH",
        default_value = "/run/eco/agent.sock"
    )]
    socket: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Top(top::TopArgs),
    Status(status::StatusArgs),
    Intensity(intensity::IntensityArgs),
    Calibrate(calibrate::CalibrateArgs),
}

const HELP: &str = "\
Exit status: 0 done; 1 a negative answer; 2 wrong usage or input; 3 something needed is not there.
`eco run` exits with the status of the command that it ran.

Example:
  eco run -- make -j4";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => run::main(&cli.socket, args),
        Command::Top(args) => top::main(&cli.socket, &args),
        Command::Status(args) => status::main(&cli.socket, &args),
        Command::Intensity(args) => intensity::main(&cli.socket, args),
        Command::Calibrate(args) => calibrate::main(&args),
    };
    exit::code(outcome)
}
