// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The chart, installed once for all tests of this program: both programs run as pods of the
//! real node, and a store scrapes the agent.

use std::{fs, path::Path, process::Command, sync::OnceLock};

use eco_tests::{
    http, programs,
    servers::{
        Installed, free_port,
        helm::Helm,
        image,
        kubernetes::{Cluster, IMAGE},
        prometheus::{Kind, Store, scrape},
        server::run,
    },
};
use serde_json::{Value, json};

use crate::{chart, manifests, monitoring};

/// The image that is made of both programs, with this crate's `workload` for those who use it.
pub(crate) const ECO_IMAGE: &str = "docker.io/local/eco:1";

/// Where it is installed.
pub(crate) const NAMESPACE: &str = "eco";

/// What runs.
pub(crate) struct Installation {
    pub(crate) cluster: &'static Cluster,
    /// The agent's port on the node.
    pub(crate) agent_port: u16,
    /// The port of eco serve on the node.
    pub(crate) serve_port: u16,
    _store: Store,
    _state: tempfile::TempDir,
}

impl Installation {
    /// Installs it when the first test asks. Prints `skipped: why` and answers `None` where that
    /// is not possible.
    #[expect(clippy::print_stdout, reason = "how a test says that it is skipped")]
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Installation> = OnceLock::new();
        // Each test says for itself what is missing.
        let cluster = Cluster::shared().unwrap()?;
        let helm = Helm::find(cluster)?;
        if let Err(why) = Installed::find("prometheus") {
            println!("skipped: {why}");
            return None;
        }
        Some(SHARED.get_or_init(|| Self::install(cluster, &helm)))
    }

    fn install(cluster: &'static Cluster, helm: &Helm<'_>) -> Self {
        // Whether they are is its own test's to say.
        let _ = manifests::are_taken_by_the_api_server(cluster);
        cluster.namespace("shop").unwrap();
        cluster.apply(&busy_pod("neighbour")).unwrap();
        monitoring::define(cluster);
        load_image(cluster);
        let (agent_port, serve_port) = (free_port().unwrap(), free_port().unwrap());
        let scraped = scrape("eco", &[&format!("127.0.0.1:{agent_port}")]);
        let store = Store::start(Kind::Prometheus, &scraped, []);
        let store = store.unwrap().unwrap();
        let state = tempfile::tempdir().unwrap();
        let kubelet = cluster.pod_resources();
        let kubelet = kubelet.ancestors().nth(2).unwrap();
        let kubelet_port = cluster.kubelet();
        let kubelet_port = kubelet_port.rsplit(':').next().unwrap();
        let (repository, tag) = ECO_IMAGE.rsplit_once(':').unwrap();
        let values = json!({
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "agent": {
                // There is no network of pods.
                "hostNetwork": true,
                "port": agent_port,
                "kubelet": kubelet,
                "kubeletUrl": format!("https://$(HOST_IP):{kubelet_port}"),
                "state": state.path(),
                "config": {"carbon": {"zone": "DE"}},
            },
            "serve": {
                "hostNetwork": true,
                // Nor kube-proxy, which makes the Service `kubernetes` an address.
                "apiServer": cluster.server(),
                "port": serve_port,
                "replicas": 1,
                "store": store.url(),
                "powerWindow": "10s",
            },
            "tlsSecret": "eco-serve",
            "caBundle": certificate(cluster),
            "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": true},
        });
        let file = state.path().join("values.json");
        fs::write(&file, values.to_string()).unwrap();
        let file = file.display().to_string();
        let chart = chart();
        let install = ["install", "eco", &chart, "--namespace", NAMESPACE];
        helm.run(&[&install[..], &["--values", &file]].concat())
            .unwrap();
        Self {
            cluster,
            agent_port,
            serve_port,
            _store: store,
            _state: state,
        }
    }

    /// What the agent answers, if it does.
    pub(crate) fn ask_agent(&self, path: &str) -> Option<Value> {
        let answer = http::get(&format!("http://127.0.0.1:{}{path}", self.agent_port)).ok()?;
        answer.json().ok()
    }

    /// `kubectl get WHAT -o json`.
    pub(crate) fn get(&self, what: &[&str]) -> Value {
        let get = [&["get", "-o", "json"], what].concat();
        serde_json::from_str(&self.cluster.kubectl(&get).unwrap()).unwrap()
    }

    /// What the cluster knows of eco's pods, for those who look why a test failed.
    pub(crate) fn told(&self) -> String {
        let told = self
            .cluster
            .kubectl(&["describe", "pods", "-n", NAMESPACE])
            .unwrap_or_else(|why| why.to_string());
        let logs = ["logs", "-n", NAMESPACE, "deployment/eco-serve", "--tail=20"];
        let logs = self.cluster.kubectl(&logs);
        format!("{told}\n{}", logs.unwrap_or_else(|why| why.to_string()))
    }
}

/// A pod of somebody else, in the namespace `shop`, which uses the CPU.
pub(crate) fn busy_pod(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}
spec:
  hostNetwork: true
  automountServiceAccountToken: false
  containers:
  - {{name: main, image: '{IMAGE}', imagePullPolicy: Never, command: [sh, -c, 'while :; do :; done']}}
"
    )
}

/// Gives eco serve a certificate under which the API server knows it. Returns who signed it, as
/// the chart wants that.
fn certificate(cluster: &Cluster) -> String {
    let hosts = ["eco-serve.eco.svc"];
    let identity = cluster
        .authority()
        .issue("eco-serve", "eco-serve", "", &hosts)
        .unwrap();
    let text = |path: &Path| path.display().to_string();
    let (certificate, key) = (text(&identity.certificate), text(&identity.key));
    cluster
        .kubectl(&[
            "create",
            "secret",
            "tls",
            "eco-serve",
            "-n",
            NAMESPACE,
            &format!("--cert={certificate}"),
            &format!("--key={key}"),
        ])
        .unwrap();
    let authority = cluster.authority().certificate();
    run(Command::new("base64").arg("--wrap=0").arg(authority)).unwrap()
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
    for program in [programs::eco_agent(), programs::eco(), programs::workload()] {
        image::with_libraries(&program, root.path()).unwrap();
    }
    cluster.load_image(ECO_IMAGE, root.path()).unwrap();
}
