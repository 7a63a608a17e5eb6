// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A real cluster on this machine, and what runs in its pods.

use std::process::Command;

use eco_tests::{
    cgroup,
    servers::{
        kubernetes::{Cluster, IMAGE, NODE},
        kwok::Kwok,
        server::run,
    },
    wait,
};
use serde_json::Value;

/// A pod that works until it is ended: busy for all of one CPU.
fn burner(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hostNetwork: true
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, 'while :; do :; done']
    resources: {{requests: {{cpu: 10m}}}}
"
    )
}

#[test]
fn a_pod_works_in_its_cgroup_and_ends_with_its_cluster() {
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    cluster.apply(&burner("default", "burner")).unwrap();
    cluster.wait_for("pod/burner", "condition=Ready").unwrap();
    let uid = cluster
        .kubectl(&["get", "pod", "burner", "-o", "jsonpath={.metadata.uid}"])
        .unwrap();
    let path = format!("{}/burstable/pod{uid}", cluster.pods_cgroup());
    let folders: Vec<_> = cgroup::everywhere(&path).collect();
    assert!(folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
    wait::until("the pod has used CPU time by each account there is", || {
        let mut accounts = folders
            .iter()
            .filter_map(|folder| cgroup::cpu_us(folder).ok());
        accounts.all(|used| used > 200_000)
    })
    .unwrap();

    drop(cluster);
    assert!(!folders.iter().any(|folder| folder.exists()), "{folders:?}");
}

#[test]
fn the_kubelet_tells_its_pods_to_whom_it_knows() {
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    cluster.namespace("told").unwrap();
    cluster.apply(&burner("told", "one")).unwrap();
    cluster
        .wait_for("pod/one -n told", "condition=Ready")
        .unwrap();
    // Kubectl speaks HTTPS with a certificate: here with the kubelet, past the API server.
    let client = cluster.kubelet_client();
    let ask = |identify: bool| {
        let mut kubectl = Command::new(cluster.kubectl_command().get_program());
        kubectl.env("KUBECONFIG", "/dev/null");
        kubectl.arg("--server").arg(cluster.kubelet());
        kubectl
            .arg("--certificate-authority")
            .arg(cluster.authority().certificate());
        if identify {
            kubectl
                .arg("--client-certificate")
                .arg(&client.certificate)
                .arg("--client-key")
                .arg(&client.key);
        }
        run(kubectl.args(["get", "--raw", "/pods"]))
    };
    let pods: Value = serde_json::from_str(&ask(true).unwrap()).unwrap();
    let items = pods["items"].as_array().unwrap();
    assert!(items.iter().any(|pod| pod["metadata"]["name"] == "one"));
    assert!(ask(false).is_err());
    assert!(cluster.pod_resources().exists());
    cluster
        .kubectl(&["delete", "pod", "one", "-n", "told"])
        .unwrap();
}

#[test]
fn a_token_may_what_its_account_may() {
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    cluster.namespace("own").unwrap();
    cluster.namespace("other").unwrap();
    let token = cluster.token("own", "reader").unwrap();
    cluster
        .kubectl(&[
            "create",
            "rolebinding",
            "reader",
            "-n",
            "own",
            "--clusterrole=view",
            "--serviceaccount=own:reader",
        ])
        .unwrap();
    let pods_of = |namespace: &str| {
        let mut kubectl = Command::new(cluster.kubectl_command().get_program());
        kubectl
            .env("KUBECONFIG", "/dev/null")
            .arg("--server")
            .arg(cluster.server())
            .arg("--certificate-authority")
            .arg(cluster.authority().certificate())
            .args(["--token", &token, "get", "pods", "-n", namespace]);
        run(&mut kubectl)
    };
    wait::until("the binding is known", || pods_of("own").is_ok()).unwrap();
    let refused = pods_of("other").unwrap_err().to_string();
    assert!(refused.contains("Forbidden"), "{refused}");
}

#[test]
fn simulated_pods_run_beside_the_real_node() {
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    let Some(kwok) = Kwok::start(cluster).unwrap() else {
        return;
    };
    kwok.add_nodes(3).unwrap();
    cluster.namespace("simulated").unwrap();
    kwok.deploy("simulated", "web", 100).unwrap();
    let nodes = cluster
        .kubectl(&[
            "get",
            "pods",
            "-n",
            "simulated",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[*].spec.nodeName}",
        ])
        .unwrap();
    assert_eq!(nodes.split(' ').count(), 100);
    assert!(!nodes.contains(NODE), "{nodes}");
}
