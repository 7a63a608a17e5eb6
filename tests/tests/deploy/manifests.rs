// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files, without running what they describe.

use std::{fs, path::Path, sync::OnceLock};

use eco_tests::servers::{helm::Helm, kubernetes::Cluster};
use serde_json::{Value, json};

use crate::{chart, deploy, installation::NAMESPACE};

/// Values that can only be mistakes, and the key that helm is to name. Whoever misspells a key would
/// not notice that nothing comes of it.
const MISTAKES: [(&str, &str); 18] = [
    ("agent.port=many", "port"),
    ("agent.port=70000", "port"),
    ("agent.port=9510.5", "port"),
    ("agent.hostNetwrok=true", "hostNetwrok"),
    ("agent.hostNetwork=maybe", "hostNetwork"),
    ("agent.state=var/lib/eco", "state"),
    ("agent.podSource=docker", "podSource"),
    ("agent.kubeletCaFile=ca.crt", "kubeletCaFile"),
    ("serve.replicas=-1", "replicas"),
    ("serve.store=prometheus:9090", "store"),
    ("serve.powerWindow=1min", "powerWindow"),
    ("serve.apiServer=http://127.0.0.1:6443", "apiServer"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("image.repository=", "repository"),
    ("networkPolice.enabled=true", "networkPolice"),
    ("serviceMonitor.interval=15", "interval"),
    // The policy would let everybody in.
    (
        r"networkPolicy.scrapers.kubernetes\.io/metadata\.name=null",
        "scrapers",
    ),
    ("caBundle=-----BEGIN CERTIFICATE-----", "caBundle"),
];

/// Values that are right each, and make no sense together.
const CONTRADICTIONS: [(&str, &str); 2] = [
    ("serve.kedaClientCaSecret=keda-ca", "tlsSecret"),
    // The API server would not believe the certificate that serve makes itself.
    ("caBundle=Zm9v", "tlsSecret"),
];

/// Without comments: helm and whoever renders write others.
fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_plain_manifests_are_the_charts_and_a_real_api_server_takes_them() {
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(cluster) else {
        return;
    };
    helm.run(&["lint", "--strict", &chart()]).unwrap();
    let chart = chart();
    let render = [
        "template",
        "eco",
        &chart,
        "--namespace=eco",
        "--kube-version=1.34.0",
    ];
    let rendered = helm.run(&render).unwrap();
    let file = deploy("kubernetes/eco.yaml");
    let plain = fs::read_to_string(&file).unwrap();
    let advice = "render deploy/kubernetes/eco.yaml anew, as it says at its top";
    assert_eq!(
        without_comments(&plain),
        without_comments(&rendered),
        "{advice}"
    );
    let taken = are_taken_by_the_api_server(cluster);
    assert!(taken.is_ok(), "{taken:?}");
}

/// Tried before the chart is installed, which has objects of the same names: by whichever test comes
/// first.
pub(crate) fn are_taken_by_the_api_server(cluster: &Cluster) -> &'static Result<(), String> {
    static TAKEN: OnceLock<Result<(), String>> = OnceLock::new();
    TAKEN.get_or_init(|| {
        cluster.namespace(NAMESPACE).unwrap();
        let file = deploy("kubernetes/eco.yaml").display().to_string();
        let dry = cluster.kubectl(&["apply", "--dry-run=server", "-f", &file]);
        dry.map(drop).map_err(|why| format!("{why:#}"))
    })
}

#[test]
fn values_that_can_only_be_mistakes_are_refused_by_their_name() {
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(cluster) else {
        return;
    };
    let chart = chart();
    let render = |value: &str| {
        let render = ["template", "eco", &chart, "--kube-version=1.34.0"];
        helm.run(&[&render[..], &["--set", value]].concat())
    };
    for (value, named) in MISTAKES.into_iter().chain(CONTRADICTIONS) {
        let refused = render(value).expect_err(value);
        let refused = format!("{refused:#}");
        let said = refused.split_once(": ").map_or("", |(_, said)| said);
        assert!(said.contains(named), "{value}: {refused}");
    }
    // And what is none is taken.
    render("serve.hostNetwork=true,serve.apiServer=https://192.0.2.1:6443").unwrap();
}

/// A cluster that lets no pod do more than it must has namespaces of Pod Security's strictest
/// level.
#[test]
fn serves_pod_is_let_into_a_restricted_namespace() {
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(cluster) else {
        return;
    };
    cluster.namespace("restricted").unwrap();
    let level = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", "restricted", level];
    cluster.kubectl(&label).unwrap();
    let account = ["create", "serviceaccount", "eco-serve", "-n", "restricted"];
    cluster.kubectl(&account).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let try_it = |values: &str| {
        let pod = serves_pod(cluster, &helm, values, folder.path());
        let file = folder.path().join("pod.json");
        fs::write(&file, pod.to_string()).unwrap();
        let file = file.display().to_string();
        cluster.kubectl(&["create", "--dry-run=server", "-f", &file])
    };
    try_it("serve.replicas=1").unwrap();
    let refused = try_it("serve.hostNetwork=true").unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("violates PodSecurity"), "{refused}");
}

/// The pod that the chart's Deployment would have.
fn serves_pod(cluster: &Cluster, helm: &Helm<'_>, values: &str, folder: &Path) -> Value {
    let only = "templates/serve.yaml";
    let chart = chart();
    let render = ["template", "eco", &chart, "--kube-version=1.34.0"];
    let render = [&render[..], &["--set", values, "--show-only", only]].concat();
    let rendered = helm.run(&render).unwrap();
    let mut manifests = rendered.split("\n---\n");
    let deployment = manifests.find(|text| text.contains("\nkind: Deployment\n"));
    let file = folder.join("deployment.yaml");
    fs::write(&file, deployment.unwrap()).unwrap();
    let file = file.display().to_string();
    let as_json = ["create", "--dry-run=client", "-o", "json", "-f", &file];
    let deployment = cluster.kubectl(&as_json).unwrap();
    let mut pod: Value = serde_json::from_str(&deployment).unwrap();
    let spec = pod["spec"]["template"]["spec"].take();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "eco-serve", "namespace": "restricted"},
        "spec": spec,
    })
}
