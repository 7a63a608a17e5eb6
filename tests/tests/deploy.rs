// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is in deploy/: that it is what it says, and that a real cluster takes it and runs it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use eco_tests::{
    http, needs, programs,
    servers::{
        helm::Helm,
        image,
        kubernetes::{Cluster, IMAGE},
    },
    wait,
};
use serde_json::Value;

/// The image that the test makes of both programs.
const ECO: &str = "docker.io/local/eco";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

fn chart() -> String {
    deploy("helm/eco").display().to_string()
}

/// A pod of somebody else, which uses the CPU.
fn neighbour() -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: neighbour, namespace: shop}}
spec:
  hostNetwork: true
  automountServiceAccountToken: false
  containers:
  - {{name: main, image: '{IMAGE}', imagePullPolicy: Never, command: [sh, -c, 'while :; do :; done']}}
"
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_real_node_runs_the_chart_which_is_what_the_plain_manifests_say() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(&cluster) else {
        return;
    };
    helm.run(&["lint", "--strict", &chart()]).unwrap();
    let rendered = ["template", "eco", &chart(), "--namespace", "eco"];
    let rendered = [&rendered[..], &["--kube-version", "1.34.0"]].concat();
    let rendered = helm.run(&rendered).unwrap();
    let plain = fs::read_to_string(deploy("kubernetes/eco.yaml")).unwrap();
    let plain: String = plain
        .lines()
        .filter(|line| !line.starts_with("# "))
        .fold(String::new(), |text, line| text + line + "\n");
    let without_comments: String = rendered
        .lines()
        .filter(|line| !line.starts_with("# "))
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(
        plain, without_comments,
        "render deploy/kubernetes/eco.yaml anew"
    );

    // The API server takes all of it; then the part that a node without a network can run.
    cluster.namespace("eco").unwrap();
    cluster.namespace("shop").unwrap();
    let file = deploy("kubernetes/eco.yaml").display().to_string();
    let dry = ["apply", "--dry-run=server", "-f", &file];
    cluster.kubectl(&dry).unwrap();
    cluster.apply(&neighbour()).unwrap();
    let root = tempfile::tempdir().unwrap();
    for folder in [
        "bin",
        "etc/eco",
        "proc",
        "sys",
        "host/sys",
        "run/eco",
        "var/lib/eco",
        "tmp",
        "dev",
    ] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::write(
        root.path().join("etc/passwd"),
        "root:x:0:0:root:/:/bin/sh\n",
    )
    .unwrap();
    for program in [programs::eco_agent(), programs::eco()] {
        image::with_libraries(&program, root.path()).unwrap();
    }
    cluster
        .load_image(&format!("{ECO}:1"), root.path())
        .unwrap();
    let port = free_port();
    let state = tempfile::tempdir().unwrap();
    let kubelet = cluster.pod_resources();
    let kubelet = kubelet.ancestors().nth(2).unwrap().display();
    let kubelet_port = cluster.kubelet();
    let kubelet_port = kubelet_port.rsplit(':').next().unwrap();
    helm.run(&[
        "install",
        "eco",
        &chart(),
        "--namespace=eco",
        &format!("--set=image.repository={ECO},image.tag=1,image.pullPolicy=Never"),
        &format!("--set=agent.hostNetwork=true,agent.port={port},serve.enabled=false"),
        &format!(
            "--set=agent.kubelet={kubelet},agent.state={}",
            state.path().display()
        ),
        &format!("--set=agent.config.carbon.zone=DE,agent.kubeletPort={kubelet_port}"),
    ])
    .unwrap();
    let ask = |path: &str| -> Option<Value> {
        let answer = http::get(&format!("http://127.0.0.1:{port}{path}")).ok()?;
        answer.json().ok()
    };
    wait::until("the agent's pod is ready", || {
        ask("/readyz").is_some() || ask("/v1/status").is_some()
    })
    .unwrap_or_else(|why| {
        let said = cluster.kubectl(&["describe", "pods", "-n", "eco"]);
        let log = cluster.kubectl(&["logs", "-n", "eco", "ds/eco-agent"]);
        panic!("{why}: {said:?} {log:?}")
    });
    let status = ask("/v1/status").unwrap();
    assert_eq!(status["tier"], "iter", "{status}");
    let held = status["self"]["capabilities"].as_array();
    assert!(held.is_none_or(|held| held.len() <= 4), "{status}");
    let pod = wait::until_some("the neighbour has joules under its name", || {
        let pod = ask("/v1/pods/shop/neighbour")?;
        (pod["cpu_seconds"].as_f64()? > 1.0).then_some(pod)
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", ask("/v1/status")));
    assert!(
        pod["energy_joules"]["package"].as_f64().unwrap() > 0.0,
        "{pod}"
    );
    assert!(
        pod["carbon_grams"]["package"].as_f64().unwrap() > 0.0,
        "{pod}"
    );
    let set = ["get", "daemonset", "eco-agent", "-n", "eco", "-o", "json"];
    let set: Value = serde_json::from_str(&cluster.kubectl(&set).unwrap()).unwrap();
    let context = &set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["privileged"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert!(context["capabilities"]["add"].as_array().unwrap().len() <= 4);
}
