// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco query`: what somebody has used on this node. What a pod or a job of Slurm or Kubernetes
//! has used as long as the agent knows it, and by the history what anybody used at any time.

mod history;
mod table;

use std::path::Path;

use clap::{Args, ValueEnum};
use eco_agent::api::{ByDomain, ManagedJob, Pod};
use serde::Serialize;

use crate::{
    client::Client,
    energy,
    exit::{self, Failure, Outcome},
    out::{self, printable, quantity},
};

const HELP: &str = "\
A job of Slurm is named slurm/ID, one of Kubernetes kubernetes/NAMESPACE/NAME; a pod is named
NAMESPACE/NAME. All is what this node's agent has seen of it, idle not included.

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
    #[command(flatten)]
    past: history::PastArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A job of eco, Slurm or Kubernetes.
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
    /// Processes of one command.
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

    /// The kind of units that is looked up for it; none for the node itself.
    fn unit(self) -> Option<&'static str> {
        match self {
            Self::Node => None,
            Self::Namespace => Some(Self::Pod.label()),
            other => Some(other.label()),
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
            let account = Account::of_pod(&pod);
            write(&pod, &account, args.format)
        }
        (Kind::Job, [manager, id @ ..]) if !id.is_empty() => {
            let job = client.managed_job(manager, id)?;
            let account = Account::of_job(&job);
            write(&job, &account, args.format)
        }
        (Kind::Pod, _) => Err(Failure::usage(format!(
            "{}: a pod is named NAMESPACE/NAME",
            printable(name)
        ))),
        (Kind::Job, _) => Err(Failure::usage(format!(
            "{}: a job is named slurm/ID or kubernetes/NAMESPACE/NAME",
            printable(name)
        ))),
        (kind, _) => Err(Failure::usage(format!(
            "of a {} the agent tells in `eco top`, and the history here; give --from or --window",
            kind.label()
        ))),
    }
}

/// What pods and jobs have in common.
struct Account<'a> {
    title: String,
    /// Who answers for it, and the like.
    about: Vec<(&'static str, String)>,
    energy: &'a ByDomain,
    carbon: Option<&'a ByDomain>,
    cpu_seconds: f64,
    watts: f64,
    node: &'a str,
    estimated: bool,
}

impl<'a> Account<'a> {
    fn of_pod(pod: &'a Pod) -> Self {
        let owner = pod.owner.as_ref();
        let owner = owner.map(|owner| ("owner", format!("{} {}", owner.kind, owner.name)));
        Self {
            title: format!("{}/{}", pod.namespace, pod.name),
            about: owner.into_iter().collect(),
            energy: &pod.energy_joules,
            carbon: pod.carbon_grams.as_ref(),
            cpu_seconds: pod.cpu_seconds,
            watts: pod.watts,
            node: &pod.node,
            estimated: pod.estimated,
        }
    }

    fn of_job(job: &'a ManagedJob) -> Self {
        let told = [
            ("name", Some(&job.name)),
            ("user", Some(&job.user)),
            ("account", job.account.as_ref()),
            ("partition", job.partition.as_ref()),
            ("array", job.array.as_ref()),
        ];
        let told = told
            .into_iter()
            .filter_map(|(what, text)| Some((what, text?.clone())));
        Self {
            title: format!("{} job {}", job.manager, job.id),
            about: told.filter(|(_, text)| !text.is_empty()).collect(),
            energy: &job.energy_joules,
            carbon: job.carbon_grams.as_ref(),
            cpu_seconds: job.cpu_seconds,
            watts: job.watts,
            node: &job.node,
            estimated: job.estimated,
        }
    }

    fn table(&self) -> String {
        let mut rows = self.about.clone();
        let note = if self.estimated { "  estimated" } else { "" };
        if let Some(joules) = energy::total(self.energy) {
            rows.push(("energy", quantity(joules, "J") + note));
        }
        if let Some(grams) = self.carbon.and_then(energy::total) {
            rows.push(("carbon", quantity(grams, "g")));
        }
        rows.push(("CPU time", quantity(self.cpu_seconds, "s")));
        rows.push(("power now", quantity(self.watts, "W")));
        rows.push(("node", self.node.to_owned()));
        let mut text = format!("{}\n", printable(&self.title));
        for (what, value) in rows {
            text += &format!("  {what:<10}  {}\n", printable(&value));
        }
        text
    }

    fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(joules) = energy::total(self.energy) {
            let note = if self.estimated { " (estimated)" } else { "" };
            parts.push(quantity(joules, "J") + note);
        }
        if let Some(grams) = self.carbon.and_then(energy::total) {
            parts.push(quantity(grams, "g CO2e"));
        }
        parts.push(quantity(self.cpu_seconds, "s of CPU"));
        let text = format!("eco: {}: {} on {}", self.title, parts.join(", "), self.node);
        printable(&text).to_string() + "\n"
    }

    /// Whoever reads it splits at `;` and `=`: neither may be in a value.
    fn comment(&self) -> String {
        let mut text = "eco:1".to_owned();
        if let Some(joules) = energy::total(self.energy) {
            text += &format!(";energy_j={joules:.3}");
        }
        text += &format!(";cpu_s={:.3}", self.cpu_seconds);
        if let Some(grams) = self.carbon.and_then(energy::total) {
            text += &format!(";carbon_g={grams:.6}");
        }
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-._".contains(*c);
        let node: String = self.node.chars().filter(is_plain).collect();
        text += &format!(";node={node}");
        if self.estimated {
            text += ";estimated=1";
        }
        text + "\n"
    }
}

fn write<T: Serialize>(answer: &T, account: &Account<'_>, format: Format) -> Outcome {
    match format {
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

    fn job() -> ManagedJob {
        ManagedJob {
            manager: "slurm".to_owned(),
            id: "7".to_owned(),
            user: "ada\u{1b}[2J".to_owned(),
            node: "n1;x=y".to_owned(),
            cpu_seconds: 2.5,
            energy_joules: [("package", 10.0), ("core", 9.0), ("dram", 1.0)]
                .map(|(domain, joules)| (domain.to_owned(), joules))
                .into(),
            carbon_grams: Some([("package".to_owned(), 0.25)].into()),
            ..ManagedJob::default()
        }
    }

    #[test]
    fn a_comment_is_one_word_that_can_be_taken_apart() {
        let job = job();
        let text = Account::of_job(&job).comment();
        assert_eq!(
            text,
            "eco:1;energy_j=11.000;cpu_s=2.500;carbon_g=0.250000;node=n1xy\n"
        );
        assert!(!text.trim_end().contains(char::is_whitespace));
    }

    #[test]
    fn a_line_says_what_is_known_and_is_one() {
        let mut job = job();
        job.id = "7\nforged".to_owned();
        job.estimated = true;
        let line = Account::of_job(&job).line();
        let told = "11.0 J (estimated), 250 mg CO2e, 2.50 s of CPU on n1;x=y\n";
        assert!(
            line.starts_with("eco: slurm job 7") && line.ends_with(told),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        job.carbon_grams = None;
        job.energy_joules.clear();
        assert!(
            Account::of_job(&job)
                .line()
                .ends_with(": 2.50 s of CPU on n1;x=y\n")
        );
    }

    #[test]
    fn without_an_intensity_or_a_meter_nothing_is_said_of_them() {
        let mut job = job();
        job.carbon_grams = None;
        job.energy_joules.clear();
        let account = Account::of_job(&job);
        assert_eq!(account.comment(), "eco:1;cpu_s=2.500;node=n1xy\n");
        assert!(!account.table().contains("energy"));
    }

    #[test]
    fn what_a_stranger_named_does_nothing_to_a_terminal() {
        let job = job();
        assert!(!Account::of_job(&job).table().contains('\u{1b}'));
    }
}
