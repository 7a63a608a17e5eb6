// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco query`: what somebody has used on this node. What a pod, a job or an open run has used as
//! long as the agent knows it, and by the history what anybody used at any time.

mod account;
mod elapsed;
mod history;
mod table;

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

With --from, --to, --window or --history the answer is the history's, for any kind, with or
without a name: each second once, from the tier that holds it. Where the end of the time cuts a
minute or an hour whose seconds are not kept any more, the whole of it counts, and the answer
says which time it covers.

Examples:
  eco query job slurm/4711
  eco query pod shop/web-0 --format json
  eco query job slurm/4711 --format line         # for the end of the job's output
  eco query job slurm/4711 --format comment      # for sacct's AdminComment
  eco query container --window 7d
  eco query pod shop/web-0 --from 2026-11-24 --to 2026-11-25 --format json
  eco query node --from 30d --history carbon_history.db";

/// What a pod, a job or anybody else has used on this node
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct QueryArgs {
    /// What it is.
    kind: Kind,
    /// Which; the history lists all of the kind without one.
    name: Option<String>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How long it has run, as Slurm writes it ([D-]HH:MM:SS, MM:SS or minutes): a line then says
    /// its average power.
    #[arg(long, value_name = "TIME", value_parser = elapsed::parse)]
    elapsed: Option<Duration>,
    #[command(flatten)]
    past: history::PastArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A job of Slurm, Kubernetes or eco.
    Job,
    /// A pod.
    Pod,
    /// The pods of a namespace.
    Namespace,
    /// A container.
    Container,
    /// A systemd service or scope.
    #[value(alias = "unit")]
    Systemd,
    /// All processes of a user.
    User,
    /// A part of a job.
    Run,
    /// A step of a Slurm job.
    Step,
    /// A virtual machine.
    Vm,
    /// A cgroup that is nothing else.
    Cgroup,
    /// Processes of one command; the kernel's threads, and all that are not shown by name.
    Process,
    /// The whole machine, by its meters.
    Node,
}

impl Kind {
    /// As it is written.
    fn label(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Node => "node",
            Self::Job => "job",
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Systemd => "systemd",
            Self::User => "user",
            Self::Run => "run",
            Self::Step => "step",
            Self::Vm => "vm",
            Self::Cgroup => "cgroup",
            Self::Process => "process",
        }
    }

    /// The kinds of units that are looked up for it; none for the node itself.
    fn units(self) -> &'static [&'static str] {
        match self {
            Self::Node => &[],
            Self::Namespace | Self::Pod => &["pod"],
            // With those whom nobody shows by name: so the list adds up to what the meters say.
            Self::Process => &["process", "kernel", "other"],
            Self::Job => &["job"],
            Self::Container => &["container"],
            Self::Systemd => &["systemd"],
            Self::User => &["user"],
            Self::Run => &["run"],
            Self::Step => &["step"],
            Self::Vm => &["vm"],
            Self::Cgroup => &["cgroup"],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For people, in one line.
    Line,
    /// All that is known.
    Json,
    /// The history: a line of names with units, and one for each.
    Csv,
    /// One line without blanks: eco:1;energy_j=…;cpu_s=…;carbon_g=…;node=….
    Comment,
}

pub(crate) fn main(socket: &Path, args: &QueryArgs) -> Outcome {
    if args.past.are_given() {
        if args.elapsed.is_some() {
            let why = "--elapsed is for a job's line by the agent; the history knows its own times";
            return Err(Failure::usage(why));
        }
        return history::main(args.kind, args.name.as_deref(), args.format, &args.past);
    }
    let name = args.name.as_deref().ok_or_else(|| {
        Failure::usage("which? give a name, or --window 1h for all of this kind by the history")
    })?;
    if args.format == Format::Csv {
        return Err(Failure::usage(
            "--format csv is the history's; give --from or --window",
        ));
    }
    let client = Client::new(socket)?;
    let parts: Vec<&str> = name.split('/').collect();
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
            printable(name)
        ))),
        (Kind::Job, _) => Err(Failure::usage(nameless(name))),
        (kind, _) => Err(Failure::usage(format!(
            "of a {} the agent tells in `eco top`, and the history here; give --from or --window",
            kind.label()
        ))),
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
        Format::Table | Format::Csv => out::print(&account.table())?,
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
