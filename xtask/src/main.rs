// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask`: everything a person types while developing eco.
//!
//! Each subcommand is one file with one entry function. This crate is compiled before
//! anything else on a fresh machine, and the first measured number waits for it: it
//! depends on clap and anyhow, both of which the workspace compiles anyway, and on no
//! crate of the house.
#![expect(clippy::print_stdout, reason = "what xtask prints is what it is for")]

mod bench;
mod build;
mod kernels;
mod lab;
mod lint;
mod picture;
mod run;
mod servers;
mod setup;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything a person types while developing eco"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the build needs into eco's own tool folder
    ///
    /// The folder is $ECO_TOOLS, else $XDG_CACHE_HOME/eco/tools, else ~/.cache/eco/tools:
    /// outside the clone, so that all clones share it.
    Setup,
    /// Set up, then build eco-agent and eco
    Build {
        /// Build the dev profile instead of the release profile
        #[arg(long)]
        debug: bool,
    },
    /// Set up, build, then measure a command: cargo xtask run -- CMD…
    ///
    /// What stands before `--` goes to `eco run`: cargo xtask run --json out.json -- make
    Run {
        /// Options of `eco run`, then `--` and the command
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, build, then run every test of the workspace and count what was skipped
    ///
    /// ARGS go to `cargo test`: cargo xtask test -p eco-meter wrap
    Test {
        /// Arguments of `cargo test`; what stands after `--` goes to the test programs
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, build, then benchmark: cargo xtask bench overhead | capture | scale
    ///
    /// Prints medians, side by side with any exporter that --peer names.
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmark; --help tells
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, build, then run CMD on a machine whose true power is known: cargo xtask lab
    /// two-sockets -- CMD…
    ///
    /// The scenario is a file, or the name of one in tests/lab.
    #[command(disable_help_flag = true)]
    Lab {
        /// Arguments of the lab; --help tells
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Bring kernels that tests boot in a virtual machine, and the emulator
    Kernels,
    /// Bring the real servers that tests start: Kubernetes, Slurm, Prometheus and others
    ///
    /// Into eco's own tool folder, once. Nothing is installed into the system or started.
    Servers {
        /// Only these
        names: Vec<String>,
    },
    /// Draw docs/top.svg anew: `eco top`, from the session in docs/top.ecotop
    Picture,
    /// Check format, clippy, licences and sources of dependencies, and tidy
    Lint,
    /// Check the few rules of the house that a machine can check
    Tidy,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Setup => setup::main(&workspace),
        Command::Build { debug } => build::main(&workspace, debug),
        Command::Run { .. } => run::main(&workspace, &args_as_typed()),
        Command::Test { .. } => test::main(&workspace, &args_as_typed()),
        Command::Bench { .. } => bench::main(&workspace, &args_as_typed()),
        Command::Lab { .. } => lab::main(&workspace, &args_as_typed()),
        Command::Kernels => kernels::main(),
        Command::Servers { names } => servers::main(&workspace, &names),
        Command::Picture => picture::main(&workspace),
        Command::Lint => lint::main(&workspace),
        Command::Tidy => tidy::main(&workspace),
    }
}

/// What follows the subcommand, with the `--` that clap would take out.
fn args_as_typed() -> Vec<OsString> {
    std::env::args_os().skip(2).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_eco_run_are_not_taken_for_our_own() {
        let cli = Cli::try_parse_from(["xtask", "run", "--json", "f", "--", "ls", "--help"]);
        assert!(matches!(cli.unwrap().command, Command::Run { .. }));
    }

    #[test]
    fn running_nothing_is_wrong_usage() {
        let error = Cli::try_parse_from(["xtask", "run"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }
}
