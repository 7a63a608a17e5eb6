// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `eco` command: what people and scripts use. It needs no privilege of its own.

mod calibrate;
mod client;
mod energy;
mod exit;
mod history;
mod intensity;
mod kubectl_eco;
mod out;
mod query;
mod run;
mod serve;
mod status;
mod top;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    Query(query::QueryArgs),
    History(history::HistoryArgs),
    Intensity(intensity::IntensityArgs),
    Calibrate(calibrate::CalibrateArgs),
    Serve(Box<serve::ServeArgs>),
}

const HELP: &str = "\
Exit status: 0 done; 1 a negative answer; 2 wrong usage or input; 3 something needed is not there.
`eco run` exits with the status of the command that it ran.

Example:
  eco run -- make -j4";

fn main() -> ExitCode {
    if is_plug_in() {
        return exit::code(kubectl_eco::main(&kubectl_eco::KubectlEco::parse()));
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => run::main(&cli.socket, args),
        Command::Top(args) => top::main(&cli.socket, &args),
        Command::Status(args) => status::main(&cli.socket, &args),
        Command::Query(args) => query::main(&cli.socket, &args),
        Command::History(args) => history::main(&args),
        Command::Intensity(args) => intensity::main(&cli.socket, args),
        Command::Calibrate(args) => calibrate::main(&args),
        Command::Serve(args) => serve::main(&args),
    };
    exit::code(outcome)
}

/// Whether kubectl started this, under the name of a plug-in of its own.
fn is_plug_in() -> bool {
    let name = env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    name == kubectl_eco::NAME
}
