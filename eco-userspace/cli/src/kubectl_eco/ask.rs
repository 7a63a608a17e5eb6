// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bringing a question to the cluster's `eco serve`, and its answer back.

use std::{collections::BTreeSet, io, path::PathBuf, process::Command};

use clap::Args;
use eco_serve::{Client, ClientError, GROUP, Remote};
use serde_json::Value;

use super::Question;
use crate::{client::path_segment, exit::Failure, out::printable};

/// A pod's namespace and its name.
pub(super) type Pod = (String, String);

/// Where to ask. What a kubeconfig and kubectl know is left to kubectl.
#[derive(Clone, Debug, Args)]
pub(super) struct Asker {
    /// kubectl's option.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// kubectl's option.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// kubectl's option: as somebody else.
    #[arg(long = "as", global = true, value_name = "USER")]
    as_user: Option<String>,

    /// kubectl's option: as one of this group.
    #[arg(long, global = true, value_name = "GROUP")]
    as_group: Vec<String>,

    /// An `eco serve` to ask directly, past the API server.
    #[arg(long, global = true, value_name = "URL")]
    serve: Option<String>,

    /// A bearer token for it.
    #[arg(long, global = true, value_name = "FILE", requires = "serve")]
    token_file: Option<PathBuf>,

    /// CAs in PEM for it.
    #[arg(long, global = true, value_name = "FILE", requires = "serve")]
    ca_file: Option<PathBuf>,
}

impl Asker {
    /// The namespace of the kubeconfig's context.
    pub(super) fn namespace(&self) -> Result<String, Failure> {
        if self.serve.is_some() {
            return Err(Failure::usage(
                "which namespace? name one with -n, or all with -A",
            ));
        }
        let name = self.kubectl(&["config", "view", "--minify", "-o", "jsonpath={..namespace}"])?;
        let name = name.trim();
        Ok(if name.is_empty() { "default" } else { name }.to_owned())
    }

    /// The pods that have such labels now: of one namespace, or of all.
    pub(super) fn labelled(
        &self,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<BTreeSet<Pod>, Failure> {
        if self.serve.is_some() {
            return Err(Failure::usage(
                "labels are the API server's to say, and --serve goes past it: leave -l out",
            ));
        }
        let place = match namespace {
            Some(name) => format!("--namespace={name}"),
            None => "--all-namespaces".into(),
        };
        let lines =
            r#"jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}"#;
        let selector = format!("--selector={labels}");
        let told = self.kubectl(&["get", "pods", &place, &selector, "-o", lines])?;
        let pods = told.lines().filter_map(|line| line.split_once(' '));
        Ok(pods
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect())
    }

    /// Asks.
    pub(super) fn ask(&self, asked: &Question, options: &[(&str, &str)]) -> Result<Value, Failure> {
        let Some(url) = &self.serve else {
            let path = path(&format!("/apis/{GROUP}/v1"), asked, options, true);
            let answer = self.kubectl(&["get", "--raw", &path])?;
            return serde_json::from_str(&answer).map_err(|why| {
                Failure::absent(format!("the cluster's answer to {path} is no JSON: {why}"))
            });
        };
        let remote = Remote {
            ca_file: self.ca_file.clone(),
            token_file: self.token_file.clone(),
            ..Remote::at(url)
        };
        let path = path("/v1", asked, options, false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Failure::absent(format!("this process may open no more: {why}")))?;
        let answer = runtime.block_on(async { Client::new(&remote)?.get(&path).await });
        answer.map_err(|why: ClientError| Failure::absent(printable(&why.to_string())))
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("kubectl");
        command.args(arguments);
        if let Some(file) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        let named = [("--context", &self.context), ("--as", &self.as_user)];
        for (option, value) in named {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        for group in &self.as_group {
            command.args(["--as-group", group]);
        }
        let output = command.output().map_err(|why| {
            if why.kind() == io::ErrorKind::NotFound {
                Failure::absent(
                    "there is no kubectl on the PATH, which knows the cluster; install it, or ask \
                     an eco serve directly with --serve URL",
                )
            } else {
                Failure::absent(format!("kubectl cannot be started: {why}"))
            }
        })?;
        if output.status.success() {
            return String::from_utf8(output.stdout)
                .map_err(|_| Failure::absent("kubectl answers with what is no text"));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = printable(said.trim()).into_owned();
        Err(Failure::absent(match advice(&said) {
            Some(advice) => format!("{said}; {advice}"),
            None => said,
        }))
    }
}

/// What to do about what kubectl says.
fn advice(said: &str) -> Option<String> {
    // The API server's own words where no APIService has the group, as kubectl repeats them.
    let is_missing = said.contains("could not find the requested resource");
    let is_down = said.contains("ServiceUnavailable") || said.contains("service unavailable");
    if is_missing {
        return Some("is eco serve installed here? See docs/kubernetes.md".into());
    }
    is_down.then(|| format!("see `kubectl get apiservice v1.{GROUP}` and the log of eco-serve"))
}

/// The path of a question. Aggregated, it follows Kubernetes' own order, for its roles; and jobs
/// are always asked for in the query, as their ids may hold what a name there may not.
fn path(base: &str, asked: &Question, options: &[(&str, &str)], is_aggregated: bool) -> String {
    let kind = asked.kind;
    let mut path = String::from(base);
    let mut query: Vec<String> = options
        .iter()
        .map(|(name, value)| format!("{name}={}", path_segment(value)))
        .collect();
    let mut add = |segment: &str| {
        path.push('/');
        path.push_str(&path_segment(segment));
    };
    match (&asked.namespace, kind) {
        (Some(namespace), "pods") if is_aggregated => {
            for segment in ["namespaces", namespace, "pods"] {
                add(segment);
            }
        }
        (Some(namespace), "pods") => ["pods", namespace.as_str()].into_iter().for_each(&mut add),
        _ => add(kind),
    }
    match &asked.name {
        Some(name) if kind == "jobs" => query.push(format!("job={}", path_segment(name))),
        Some(name) => add(name),
        None => {}
    }
    if query.is_empty() {
        path
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &'static str, namespace: Option<&str>, name: Option<&str>) -> Question {
        Question {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn questions_have_the_paths_of_each_face() {
        let window = [("window", "1h")];
        let pods = asked("pods", Some("a"), Some("p"));
        assert_eq!(path("/v1", &pods, &window, false), "/v1/pods/a/p?window=1h");
        assert_eq!(
            path("/apis/x/v1", &pods, &window, true),
            "/apis/x/v1/namespaces/a/pods/p?window=1h"
        );
        let all = asked("pods", None, None);
        assert_eq!(path("/v1", &all, &[], true), "/v1/pods");
        let job = asked("jobs", None, Some("7_1/x"));
        assert_eq!(
            path("/v1", &job, &window, true),
            "/v1/jobs?window=1h&job=7_1%2Fx"
        );
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        let hostile = asked("pods", Some("../x"), Some("a?b&c"));
        assert_eq!(
            path("/v1", &hostile, &[], false),
            "/v1/pods/..%2Fx/a%3Fb%26c"
        );
    }
}
