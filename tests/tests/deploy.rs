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
    sync::Once,
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

/// As eco serve has it in the agents' namespace: Kubernetes puts ECO_SERVE_SERVICE_HOST into the
/// environment of every pod there that does not refuse it, and the agent takes no variable that
/// it does not know.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: eco-serve, namespace: eco}
spec: {ports: [{port: 443}]}
";

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

/// Both tests are in it; whoever comes first makes it.
fn namespace(cluster: &Cluster) {
    static MADE: Once = Once::new();
    MADE.call_once(|| cluster.namespace("eco").unwrap());
}

/// Without comments: helm and whoever renders write others.
fn manifests(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// The image that deploy/image/Dockerfile describes, without Docker.
fn load_image(cluster: &Cluster) {
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
}

/// The agents alone, as a node without a network can run them. Returns their port.
fn install(cluster: &Cluster, helm: &Helm<'_>, state: &Path) -> u16 {
    let port = free_port();
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
            state.display()
        ),
        &format!("--set=agent.kubeletUrl=https://$(HOST_IP):{kubelet_port}"),
        "--set=agent.config.carbon.zone=DE",
    ])
    .unwrap();
    port
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
    assert_eq!(manifests(&plain), manifests(&rendered), "{advice}");
    namespace(cluster);
    let file = file.display().to_string();
    let dry = ["apply", "--dry-run=server", "-f", &file];
    cluster.kubectl(&dry).unwrap();
}

#[test]
fn the_charts_agent_measures_its_neighbours_on_a_real_node_without_privilege() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(cluster) else {
        return;
    };
    namespace(cluster);
    cluster.namespace("shop").unwrap();
    cluster.apply(&neighbour()).unwrap();
    cluster.apply(SERVICE).unwrap();
    load_image(cluster);
    let state = tempfile::tempdir().unwrap();
    let port = install(cluster, &helm, state.path());
    let ask = |path: &str| -> Option<Value> {
        let answer = http::get(&format!("http://127.0.0.1:{port}{path}")).ok()?;
        answer.json().ok()
    };
    wait::until("the agent answers", || ask("/v1/status").is_some()).unwrap_or_else(|why| {
        let said = cluster.kubectl(&["describe", "pods", "-n", "eco"]);
        panic!("{why}: {said:?}")
    });
    let status = ask("/v1/status").unwrap();
    assert_eq!(status["tier"], "iter", "{status}");
    assert!(
        status["capabilities"].as_array().unwrap().len() <= 4,
        "{status}"
    );
    let pod = wait::until_some("the neighbour has joules under its name", || {
        let pod = ask("/v1/pods/shop/neighbour")?;
        (pod["cpu_seconds"].as_f64()? > 1.0).then_some(pod)
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", ask("/v1/status")));
    for account in ["energy_joules", "carbon_grams"] {
        assert!(pod[account]["package"].as_f64().unwrap() > 0.0, "{pod}");
    }
    let set = ["get", "daemonset", "eco-agent", "-n", "eco", "-o", "json"];
    let set: Value = serde_json::from_str(&cluster.kubectl(&set).unwrap()).unwrap();
    let context = &set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["privileged"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert!(context["capabilities"]["add"].as_array().unwrap().len() <= 4);
}
