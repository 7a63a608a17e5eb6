// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the chart's service accounts may do: what they need, and nothing else.

use std::{collections::BTreeSet, fs};

use eco_tests::{needs, servers::kubernetes::Cluster};
use serde_json::json;

use crate::installation::{Installation, NAMESPACE};

const AGENT: &str = "system:serviceaccount:eco:eco-agent";
const SERVE: &str = "system:serviceaccount:eco:eco-serve";
/// An account to which nobody has given anything.
const NOBODY: &str = "system:serviceaccount:eco:default";
/// Kubernetes' own, of its autoscaler of pods.
const AUTOSCALER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

#[test]
fn each_service_account_may_do_what_it_needs_and_nothing_else() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    let cluster = installed.cluster;
    assert_eq!(
        granted(cluster, AGENT, NAMESPACE),
        set(&["nodes/pods [] [] [get]"])
    );
    let everywhere = [
        "pods [] [] [list]",
        "subjectaccessreviews.authorization.k8s.io [] [] [create]",
        "tokenreviews.authentication.k8s.io [] [] [create]",
    ];
    assert_eq!(granted(cluster, SERVE, NAMESPACE), set(&everywhere));
    // Where the API server writes down how its front proxy is recognised.
    let proxy = "configmaps [] [extension-apiserver-authentication] [get list watch]";
    let there = [&everywhere[..], &[proxy]].concat();
    assert_eq!(granted(cluster, SERVE, "kube-system"), set(&there));
}

#[test]
fn the_api_server_says_yes_and_no_to_what_is_asked_of_it() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    for (account, question, answer) in [
        (AGENT, "get nodes --subresource=pods", true),
        // With these one may run commands in pods.
        (AGENT, "get nodes --subresource=proxy", false),
        (AGENT, "create pods --subresource=exec -A", false),
        (AGENT, "list pods -A", false),
        (AGENT, "get secrets -A", false),
        (SERVE, "list pods -A", true),
        (SERVE, "create tokenreviews.authentication.k8s.io", true),
        (SERVE, "watch pods -A", false),
        (SERVE, "delete pods -n eco", false),
        (SERVE, "get secrets -n eco", false),
        (SERVE, "get nodes --subresource=pods", false),
    ] {
        let mut words = vec!["auth", "can-i"];
        words.extend(question.split(' '));
        words.extend(["--as", account]);
        // It ends with 1 when the answer is no.
        let said = installed.cluster.kubectl_command().args(words).output();
        let said = said.unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        let is_allowed = text.trim() == "yes";
        assert_eq!(is_allowed, answer, "{account} {question}: {said:?}");
        assert!(is_allowed || text.starts_with("no"), "{question}: {said:?}");
    }
}

#[test]
fn the_autoscaler_may_read_the_metrics_of_all_pods_and_nobody_else_may_unasked() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    // kubectl asks for no subresource that is not in discovery: the API server itself is asked.
    let may = |user: &str, metric: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user,
                "resourceAttributes": {
                    "verb": "get",
                    "group": "custom.metrics.k8s.io",
                    "resource": "pods",
                    "subresource": metric,
                    "namespace": "shop",
                },
            },
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("review.json");
        fs::write(&file, review.to_string()).unwrap();
        let create = ["create", "-o", "jsonpath={.status.allowed}", "-f"];
        let create = [&create[..], &[file.to_str().unwrap()]].concat();
        installed.cluster.kubectl(&create).unwrap() == "true"
    };
    for metric in ["power_watts", "energy_joules", "carbon_grams"] {
        assert!(may(AUTOSCALER, metric), "{metric}");
        assert!(!may(NOBODY, metric), "{metric}");
        assert!(!may(AGENT, metric), "{metric}");
    }
}

/// What an account may do in a namespace that [`NOBODY`] may not, in kubectl's columns: resource,
/// paths, names, verbs.
fn granted(cluster: &Cluster, account: &str, namespace: &str) -> BTreeSet<String> {
    let rules = |account: &str| -> BTreeSet<String> {
        let list = ["auth", "can-i", "--list", "--no-headers", "-n", namespace];
        let list = [&list[..], &["--as", account]].concat();
        let told = cluster.kubectl(&list).unwrap();
        let lines = told.lines();
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let everybodys = rules(NOBODY);
    assert!(!everybodys.is_empty());
    &rules(account) - &everybodys
}

fn set(rules: &[&str]) -> BTreeSet<String> {
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}
