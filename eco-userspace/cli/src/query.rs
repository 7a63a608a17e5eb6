// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco query`: what a pod, a job or an open run has used on this node.

mod account;
mod elapsed;

use std::{path::Path, time::Duration};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use self::account::Account;
use crate::{
    client::{Client, FoundJob},
    exit::{self, Failure, Outcome},
    out::{self, printable},
};

const HELP: &str = "\
A job of Slurm is named slurm/ID, one of Kubernetes kubernetes/NAMESPACE/NAME; eco/ID is a job that
runs have joined, or a run that is open. A pod is named NAMESPACE/NAME. All is what this node's
agent has seen of it, idle not included.

Examples:
  eco query job slurm/4711
  eco query pod shop/web-0 --format json
  eco query job slurm/4711 --format line         # for the end of the job's output
  eco query job slurm/4711 --format comment      # for sacct's AdminComment";

/// What a pod or a job has used on this node
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct QueryArgs {
    /// What it is.
    kind: Kind,
    /// Which.
    name: String,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How long it has run, as Slurm writes it ([D-]HH:MM:SS, MM:SS or minutes): a line then says
    /// its average power.
    #[arg(long, value_name = "TIME", value_parser = elapsed::parse)]
    elapsed: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A job of Slurm, Kubernetes or eco.
    Job,
    /// A pod.
    Pod,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For people, in one line.
    Line,
    /// All that the agent says.
    Json,
    /// One line without blanks: eco:1;energy_j=…;cpu_s=…;carbon_g=…;node=….
    Comment,
}

pub(crate) fn main(socket: &Path, args: &QueryArgs) -> Outcome {
    let client = Client::new(socket)?;
    let parts: Vec<&str> = args.name.split('/').collect();
    match (args.kind, parts.as_slice()) {
        (Kind::Pod, [namespace, name]) => {
            let pod = client.pod(namespace, name)?;
            write(&pod, Account::of_pod(&pod), args)
        }
        (Kind::Job, [manager, id @ ..]) if !id.is_empty() => match client.job(manager, id)? {
            FoundJob::Managed(job) => write(&job, Account::of_job(&job), args),
            FoundJob::Run(run) => {
                let node = client.status()?.node;
                write(&run, Account::of_run(&run, &node, Timestamp::now()), args)
            }
        },
        (Kind::Pod, _) => Err(Failure::usage(format!(
            "{}: a pod is named NAMESPACE/NAME",
            printable(&args.name)
        ))),
        (Kind::Job, _) => Err(Failure::usage(nameless(&args.name))),
    }
}

/// Why a job's name is none. The number that Slurm prints is what most will try.
fn nameless(name: &str) -> String {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let guess = if is_number {
        format!(" (did you mean slurm/{name}?)")
    } else {
        String::new()
    };
    format!(
        "{}: a job is named slurm/ID, kubernetes/NAMESPACE/NAME or eco/ID{guess}",
        printable(name)
    )
}

fn write<T: Serialize>(answer: &T, account: Account<'_>, args: &QueryArgs) -> Outcome {
    let account = account.over(args.elapsed);
    match args.format {
        Format::Table => out::print(&account.table())?,
        Format::Line => out::print(&account.line())?,
        Format::Json => out::print_json(answer)?,
        Format::Comment => out::print(&account.comment())?,
    }
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_taken_for_slurms() {
        assert!(nameless("4711").ends_with("(did you mean slurm/4711?)"));
        for other in ["", "train", "47a"] {
            assert!(!nameless(other).contains("did you mean"), "{other}");
        }
    }
}
