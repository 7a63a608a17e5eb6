// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `kubectl eco`: what pods, namespaces, nodes and jobs cost, in kubectl's own style.
//!
//! This binary under the name `kubectl-eco` is a plug-in of kubectl's. Questions go through
//! `kubectl get --raw`, so that whatever a kubeconfig can hold (clusters behind proxies, logins
//! by other programs, impersonation) works as it does for kubectl; a plug-in is never without it.

mod ask;
mod table;
mod yaml;

use std::collections::BTreeSet;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use self::{
    ask::{Asker, Pod},
    table::Table,
};
use crate::{
    exit::{self, Failure, Outcome, warn},
    out,
};

/// The name that kubectl looks for.
pub(crate) const NAME: &str = "kubectl-eco";

const HELP: &str = "\
Examples:
  kubectl eco pods -n team-a --window 24h --sort carbon
  kubectl eco pods -l app=web --by container
  kubectl eco nodes -o wide
  kubectl eco namespaces -o json
  kubectl eco jobs --by node";

/// What pods, namespaces, nodes and jobs cost, in joules and grams CO2e.
#[derive(Parser)]
#[command(name = "kubectl eco", bin_name = "kubectl eco", version, after_help = HELP)]
pub(crate) struct KubectlEco {
    #[command(subcommand)]
    subject: SubjectArg,

    #[command(flatten)]
    wishes: Wishes,

    #[command(flatten)]
    asker: Asker,
}

#[derive(Clone, Debug, Subcommand)]
enum SubjectArg {
    /// Pods of a namespace.
    #[command(visible_aliases = ["pod", "po"])]
    Pods(NameArg),
    /// Namespaces: the sums of their pods.
    #[command(visible_aliases = ["namespace", "ns"])]
    Namespaces(NameArg),
    /// Nodes, idle included.
    #[command(visible_aliases = ["node", "no"])]
    Nodes(NameArg),
    /// Jobs of Slurm, of Kubernetes and of eco, over all nodes.
    #[command(visible_alias = "job")]
    Jobs(NameArg),
}

#[derive(Clone, Debug, Args)]
struct NameArg {
    /// Only this one.
    name: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct Wishes {
    /// The namespace; the kubeconfig's own if absent.
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,

    /// All namespaces.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Only pods with these labels, of those that there are now: app=web,tier!=test.
    #[arg(short = 'l', long, global = true, value_name = "LABELS")]
    selector: Option<String>,

    /// What is summed over, ending now: 5m, 1h, 7d; if absent 1h, or all that is kept.
    #[arg(long, global = true, value_name = "TIME")]
    window: Option<String>,

    /// What comes first: the most of it; a name from A.
    #[arg(long, global = true, value_enum, default_value_t = Sort::Energy)]
    sort: Sort,

    /// A row for each part: container, node, domain, …
    #[arg(long, global = true, value_name = "LABEL")]
    by: Option<String>,

    /// How to write it.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Output>,

    /// Leave the headers out.
    #[arg(long, global = true)]
    no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Energy,
    Power,
    Carbon,
    Cpu,
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Wide,
    Json,
    Yaml,
}

/// What is asked for, without the options.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    /// `pods`, `namespaces`, …
    kind: &'static str,
    /// Pods only; `None`: all.
    namespace: Option<String>,
    name: Option<String>,
}

/// Asks, and shows.
pub(crate) fn main(command: &KubectlEco) -> Outcome {
    let wishes = &command.wishes;
    let (kind, name) = match &command.subject {
        SubjectArg::Pods(NameArg { name }) => ("pods", name),
        SubjectArg::Namespaces(NameArg { name }) => ("namespaces", name),
        SubjectArg::Nodes(NameArg { name }) => ("nodes", name),
        SubjectArg::Jobs(NameArg { name }) => ("jobs", name),
    };
    let namespace = match (&wishes.namespace, kind) {
        (Some(namespace), _) => Some(namespace.clone()),
        (None, "pods") if !wishes.all_namespaces => Some(command.asker.namespace()?),
        _ => None,
    };
    let question = Question {
        kind,
        namespace,
        name: name.clone(),
    };
    let window = wishes.window.as_deref();
    let mut options: Vec<_> = window
        .map(|window| ("window", window))
        .into_iter()
        .collect();
    options.extend(wishes.by.as_deref().map(|by| ("by", by)));
    let labelled = match &wishes.selector {
        None => None,
        Some(_) if kind != "pods" => {
            return Err(Failure::usage(
                "only pods have labels to select by: leave -l out, or ask for pods",
            ));
        }
        Some(labels) => Some(
            command
                .asker
                .labelled(question.namespace.as_deref(), labels)?,
        ),
    };
    let mut answer = command.asker.ask(&question, &options)?;
    if let Some(labelled) = labelled {
        keep(&mut answer, &labelled);
    }
    sort(&mut answer, wishes.sort);
    show(&answer, &question, wishes)?;
    Ok(exit::DONE)
}

fn show(answer: &Value, question: &Question, wishes: &Wishes) -> Outcome {
    match wishes.output {
        Some(Output::Json) => out::print_json(answer)?,
        Some(Output::Yaml) => out::print(&yaml::document(answer))?,
        wide => {
            for warning in answer["warnings"].as_array().into_iter().flatten() {
                warn(&out::printable(warning.as_str().unwrap_or_default()));
            }
            let table = Table::of(answer, question.kind, wide.is_some(), wishes.by.as_deref());
            if table.is_empty() {
                let place = question.namespace.as_ref();
                let place = place.map(|name| format!(" in {name} namespace"));
                warn(&format!(
                    "no resources found{} in the last {}",
                    place.unwrap_or_default(),
                    out::span(answer["window_seconds"].as_f64().unwrap_or_default())
                ));
            } else {
                out::print(&table.text(!wishes.no_headers))?;
            }
            if table.is_estimated() {
                warn("energy is estimated where ~ stands before it: no meter is there");
            }
        }
    }
    Ok(exit::DONE)
}

/// Leaves only these pods in an answer.
fn keep(answer: &mut Value, labelled: &BTreeSet<Pod>) {
    if let Some(items) = answer["items"].as_array_mut() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        items.retain(|item| labelled.contains(&(text(&item["namespace"]), text(&item["pod"]))));
    }
}

/// Puts what was asked for first. What is not known comes last.
fn sort(answer: &mut Value, by: Sort) {
    let Some(items) = answer["items"].as_array_mut() else {
        return;
    };
    let amount = |item: &Value| {
        let value = match by {
            Sort::Energy => &item["energy_joules"]["total"],
            Sort::Power => &item["power_watts"],
            Sort::Carbon => &item["carbon_grams"],
            Sort::Cpu => &item["cpu_seconds"],
            Sort::Name => return 0.0,
        };
        value.as_f64().unwrap_or(-1.0)
    };
    let name = |item: &Value| {
        let labels = ["namespace", "pod", "node", "manager", "job"];
        labels.map(|label| item[label].as_str().unwrap_or_default().to_owned())
    };
    items.sort_by(|a, b| {
        amount(b)
            .total_cmp(&amount(a))
            .then_with(|| name(a).cmp(&name(b)))
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_most_comes_first_and_the_unknown_last() {
        let item = |pod: &str, carbon: Value| json!({"pod": pod, "carbon_grams": carbon});
        let mut answer = json!({"items": [
            item("none", Value::Null), item("b", json!(1)), item("a", json!(1)), item("c", json!(2)),
        ]});
        sort(&mut answer, Sort::Carbon);
        let items = answer["items"].as_array().unwrap().iter();
        let order: Vec<_> = items.map(|item| item["pod"].as_str().unwrap()).collect();
        assert_eq!(order, ["c", "a", "b", "none"]);
    }

    #[test]
    fn labels_leave_the_pods_that_have_them() {
        let item = |namespace: &str, pod: &str| json!({"namespace": namespace, "pod": pod});
        let mut answer = json!({"items": [item("a", "x"), item("b", "x"), item("a", "y"), {}]});
        let labelled = BTreeSet::from([("a".to_owned(), "x".to_owned())]);
        keep(&mut answer, &labelled);
        assert_eq!(answer["items"], json!([item("a", "x")]));
    }

    #[test]
    fn options_stand_before_and_after_the_subject_as_with_kubectl() {
        for line in [
            "kubectl-eco -n a pods --window 5m",
            "kubectl-eco pods -n a --window=5m -o wide",
            "kubectl-eco po x -n a --window 5m --sort carbon",
        ] {
            let parsed = KubectlEco::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(parsed.wishes.namespace.as_deref(), Some("a"), "{line}");
            assert_eq!(parsed.wishes.window.as_deref(), Some("5m"), "{line}");
        }
        assert!(KubectlEco::try_parse_from(["kubectl-eco", "pods", "-A", "-n", "a"]).is_err());
    }
}
