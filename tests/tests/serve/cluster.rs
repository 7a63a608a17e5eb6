// SPDX-License-Identifier: Apache-2.0 OR MIT
//! In a cluster: as an aggregated API behind a real API server, with its roles and its
//! autoscaler.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use eco_tests::{
    agent::{Agent, Setup},
    programs,
    serve::{Fleet, POD_DRAM_WATTS, POD_WATTS, Serve},
    servers::{
        free_port,
        helm::Helm,
        kubernetes::{Cluster, IMAGE, NODE},
        prometheus::{Kind, Store, scrape},
        server::run,
    },
    wait,
};
use serde_json::Value;

use crate::one_cluster_at_a_time;

pub(crate) const METRICS: &str = "/apis/custom.metrics.k8s.io/v1beta2";
const ECO: &str = "/apis/eco-observer.github.io/v1";

/// `eco serve` behind the API server of a cluster.
struct Api<'a> {
    cluster: &'a Cluster,
    _serve: Serve,
    _scratch: tempfile::TempDir,
}

impl<'a> Api<'a> {
    /// With leave to ask the API server what it must, and no more.
    fn start(cluster: &'a Cluster, helm: &Helm<'_>, store: &Store, power_window: &str) -> Self {
        cluster.namespace("eco").unwrap();
        let token = cluster.token("eco", "eco-serve").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let token_file = scratch.path().join("token");
        fs::write(&token_file, token).unwrap();
        cluster.apply(&roles(helm)).unwrap();
        let address = cluster.node_address().unwrap();
        let arguments = [
            "--store",
            &store.url(),
            "--power-window",
            power_window,
            "--kubernetes",
            &cluster.server(),
            "--kubernetes-ca-file",
            cluster.authority().certificate().to_str().unwrap(),
            "--kubernetes-token-file",
            token_file.to_str().unwrap(),
        ];
        let serve = Serve::delegated(&address, &arguments).unwrap();
        let port = serve.port().to_string();
        let aggregation = AGGREGATION
            .replace("PORT", &port)
            .replace("ADDRESS", &address);
        cluster.apply(&aggregation).unwrap();
        for service in ["v1beta2.custom.metrics.k8s.io", "v1.eco-observer.github.io"] {
            let what = format!("apiservice/{service}");
            cluster.wait_for(&what, "condition=Available").unwrap();
        }
        Self {
            cluster,
            _serve: serve,
            _scratch: scratch,
        }
    }

    fn raw(&self, path: &str) -> Result<Value> {
        let text = self.cluster.kubectl(&["get", "--raw", path])?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The chart's own roles: what eco serve may, what the autoscaler may, what viewers may.
fn roles(helm: &Helm<'_>) -> String {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/eco");
    let chart = chart.display().to_string();
    let render = [
        "template",
        "eco",
        &chart,
        "--namespace=eco",
        "--kube-version=1.34.0",
    ];
    let rendered = helm.run(&render).unwrap();
    let is_role = |manifest: &&str| {
        let kinds = ["ClusterRole", "ClusterRoleBinding", "RoleBinding"];
        kinds
            .iter()
            .any(|kind| manifest.contains(&format!("\nkind: {kind}\n")))
    };
    let roles: Vec<&str> = rendered.split("\n---\n").filter(is_role).collect();
    roles.join("\n---\n")
}

/// The chart's Service has pods; this one has a process of the node's.
const AGGREGATION: &str = "
apiVersion: v1
kind: Service
metadata: {name: eco-serve, namespace: eco}
spec: {ports: [{name: https, port: PORT}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: eco-serve
  namespace: eco
  labels: {kubernetes.io/service-name: eco-serve}
addressType: IPv4
endpoints: [{addresses: [ADDRESS], conditions: {ready: true}}]
ports: [{name: https, port: PORT}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta2.custom.metrics.k8s.io}
spec:
  group: custom.metrics.k8s.io
  version: v1beta2
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: eco-serve, namespace: eco, port: PORT}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.eco-observer.github.io}
spec:
  group: eco-observer.github.io
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: eco-serve, namespace: eco, port: PORT}
";

/// Pods that no node takes: they exist, and that is all.
fn waiting_pod(namespace: &str, name: &str, app: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}
spec:
  nodeSelector: {{nobody: has-this}}
  automountServiceAccountToken: false
  containers: [{{name: main, image: {IMAGE}, imagePullPolicy: Never}}]
---
"
    )
}

pub(crate) fn quantity(value: &Value) -> f64 {
    let text = value.as_str().unwrap();
    let (number, scale) = match text.strip_suffix('m') {
        Some(milli) => (milli, 1e-3),
        None => match text.strip_suffix('u') {
            Some(micro) => (micro, 1e-6),
            None => (text, 1.0),
        },
    };
    number.parse::<f64>().unwrap() * scale
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["describedObject"]["name"].as_str().unwrap())
        .collect()
}

/// A kubeconfig with a token and nothing else.
fn kubeconfig(cluster: &Cluster, token: &str, folder: &Path) -> std::path::PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: '{}'}}}}]
users: [{{name: u, user: {{token: '{token}'}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u, namespace: team-0}}}}]
current-context: x
",
        cluster.server(),
        cluster.authority().certificate().display(),
    );
    fs::write(&path, text).unwrap();
    path
}

/// `kubectl eco ARGUMENTS`: kubectl finds the plug-in on the PATH by its name.
fn kubectl_eco(cluster: &Cluster, folder: &Path, config: &Path, arguments: &[&str]) -> Output {
    let plug_in = folder.join("kubectl-eco");
    if !plug_in.exists() {
        symlink(programs::eco(), &plug_in).unwrap();
    }
    let kubectl = Path::new(cluster.kubectl_command().get_program()).to_owned();
    let mut folders = vec![folder.to_owned(), kubectl.parent().unwrap().to_owned()];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    Command::new(kubectl)
        .env("PATH", env::join_paths(folders).unwrap())
        .env("KUBECONFIG", config)
        .arg("eco")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_cluster_asks_eco_as_a_part_of_itself() {
    let _turn = one_cluster_at_a_time();
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(&cluster) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let fleet = Fleet {
        nodes: 1,
        pods: 4,
        per_namespace: 2,
        start: now.as_secs_f64() - 1800.0,
        scrapes: 160,
        interval: 15.0,
    };
    let Some(store) = Store::start(Kind::Prometheus, "", fleet.samples()).unwrap() else {
        return;
    };
    // The window covers what the samples lack, should this take longer than they last.
    let api = Api::start(&cluster, &helm, &store, "10m");
    cluster.namespace("team-0").unwrap();
    cluster.namespace("team-1").unwrap();
    let pods = [
        ("team-0", "pod-0", "a"),
        ("team-0", "pod-1", "b"),
        ("team-1", "pod-2", "a"),
    ];
    let pods = pods.map(|(namespace, name, app)| waiting_pod(namespace, name, app));
    cluster.apply(&pods.concat()).unwrap();

    a_metric_is_found_by_name_by_star_and_by_selector(&api);
    discovery_knows_the_metrics(&cluster);
    a_tenants_token_sees_its_namespace_only(&cluster);
}

fn a_metric_is_found_by_name_by_star_and_by_selector(api: &Api<'_>) {
    let pods = format!("{METRICS}/namespaces/team-0/pods");
    let one = api.raw(&format!("{pods}/pod-0/power_watts")).unwrap();
    let watts = POD_WATTS + POD_DRAM_WATTS;
    let found = quantity(&one["items"][0]["value"]);
    assert!((found - watts).abs() < 0.2, "{one}");
    let all = api.raw(&format!("{pods}/*/power_watts")).unwrap();
    assert_eq!(names(&all), ["pod-0", "pod-1"]);
    let some = api
        .raw(&format!("{pods}/*/energy_joules?labelSelector=app%3Db"))
        .unwrap();
    assert_eq!(names(&some), ["pod-1"]);
    // In team-1 pod-3 has series, and is not there.
    let real = api
        .raw(&format!("{METRICS}/namespaces/team-1/pods/*/power_watts"))
        .unwrap();
    assert_eq!(names(&real), ["pod-2"]);
    let cores = "metricLabelSelector=domain%3Dcore";
    let core = api
        .raw(&format!("{pods}/pod-0/power_watts?{cores}"))
        .unwrap();
    assert_ne!(core["items"][0]["value"], one["items"][0]["value"]);
    let absent = api.raw(&format!("{pods}/pod-0/carbon_grams")).unwrap_err();
    assert!(absent.to_string().contains("carbon intensity"), "{absent}");
}

fn discovery_knows_the_metrics(cluster: &Cluster) {
    let list = cluster.kubectl(&["get", "--raw", METRICS]).unwrap();
    assert!(list.contains("pods/power_watts"), "{list}");
    let services = cluster.kubectl(&["api-versions"]).unwrap();
    assert!(
        services.contains("custom.metrics.k8s.io/v1beta2"),
        "{services}"
    );
}

fn a_tenants_token_sees_its_namespace_only(cluster: &Cluster) {
    let token = cluster.token("team-0", "tenant").unwrap();
    // A viewer of the namespace, as every cluster has them.
    let view = [
        "create",
        "rolebinding",
        "viewer",
        "-n",
        "team-0",
        "--clusterrole=view",
    ];
    let tenant = ["--serviceaccount=team-0:tenant"];
    cluster.kubectl(&[&view[..], &tenant].concat()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(cluster, &token, folder.path());
    let raw = |path: &str| {
        let mut kubectl = Command::new(cluster.kubectl_command().get_program());
        kubectl.env("KUBECONFIG", &config);
        run(kubectl.args(["get", "--raw", path]))
    };
    for (own, others) in [
        (
            format!("{METRICS}/namespaces/team-0/pods/*/power_watts"),
            format!("{METRICS}/namespaces/team-1/pods/*/power_watts"),
        ),
        (
            format!("{ECO}/namespaces/team-0/pods?window=10m"),
            format!("{ECO}/namespaces/team-1/pods?window=10m"),
        ),
        (
            format!("{ECO}/namespaces/team-0/pods/pod-0"),
            format!("{ECO}/pods"),
        ),
    ] {
        wait::until("the tenant's role is known", || raw(&own).is_ok()).unwrap();
        let refused = raw(&others).unwrap_err().to_string();
        assert!(refused.contains("Forbidden"), "{others}: {refused}");
    }

    let eco = |arguments: &[&str]| kubectl_eco(cluster, folder.path(), &config, arguments);
    let pods = eco(&["pods", "--window", "10m", "--sort", "name"]);
    let text = String::from_utf8_lossy(&pods.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("NAMESPACE   NAME    ENERGY"),
        "{pods:?}"
    );
    assert!(
        lines[1].starts_with("team-0      pod-0   3.") && lines[1].contains("kJ"),
        "{text}"
    );
    assert_eq!(lines.len(), 3, "{text}");
    let labelled = eco(&["pods", "--window", "10m", "-l", "app=b", "--no-headers"]);
    let text = String::from_utf8_lossy(&labelled.stdout);
    assert!(
        text.starts_with("team-0   pod-1 ") && text.lines().count() == 1,
        "{labelled:?}"
    );
    let yaml = eco(&["pod", "pod-0", "-o", "yaml"]);
    assert!(
        String::from_utf8_lossy(&yaml.stdout).contains("\npod: pod-0\n"),
        "{yaml:?}"
    );
    let refused = eco(&["nodes"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Forbidden"),
        "{refused:?}"
    );
}

/// An agent that knows the cluster's pods, from the kubelet.
fn agent(cluster: &Cluster) -> (Agent, String) {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let client = cluster.kubelet_client();
    let text = |path: &Path| path.display().to_string();
    let agent = Agent::start(Setup {
        arguments: vec!["--listen".into(), address.clone().into()],
        variables: vec![
            ("ECO_KUBERNETES__SOURCE", "kubelet".into()),
            ("ECO_KUBERNETES__URL", cluster.kubelet()),
            ("ECO_KUBERNETES__CERTIFICATE", text(&client.certificate)),
            ("ECO_KUBERNETES__KEY", text(&client.key)),
            (
                "ECO_KUBERNETES__CA",
                text(cluster.authority().certificate()),
            ),
            ("ECO_KUBERNETES__NODE", NODE.into()),
        ],
        ..Setup::default()
    });
    (agent.unwrap(), address)
}

/// A deployment whose pods work as long as a file of the node's is there.
fn deployment(switch: &Path) -> String {
    let folder = switch.parent().unwrap().display();
    let file = switch.file_name().unwrap().display();
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: work, namespace: team}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: work}}}}
  template:
    metadata: {{labels: {{app: work}}}}
    spec:
      hostNetwork: true
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: {IMAGE}
        imagePullPolicy: Never
        command:
        - sh
        - -c
        - 'while :; do if [ -e /switch/{file} ]; then i=0; while [ $i -lt 20000 ]; do
          i=$((i+1)); done; else sleep 1; fi; done'
        resources: {{requests: {{cpu: 10m}}}}
        volumeMounts: [{{name: switch, mountPath: /switch}}]
      volumes: [{{name: switch, hostPath: {{path: {folder}}}}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: work, namespace: team}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: work}}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - type: Pods
    pods:
      metric: {{name: power_watts}}
      target: {{type: AverageValue, averageValue: 200m}}
  behavior:
    scaleDown: {{stabilizationWindowSeconds: 0}}
"
    )
}

#[test]
fn an_autoscaler_follows_the_watts_of_real_pods() {
    let _turn = one_cluster_at_a_time();
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    let Some(helm) = Helm::find(&cluster) else {
        return;
    };
    let (_agent, address) = agent(&cluster);
    let config = scrape("eco", &[&address]);
    let Some(store) = Store::start(Kind::Prometheus, &config, []).unwrap() else {
        return;
    };
    let _api = Api::start(&cluster, &helm, &store, "10s");
    cluster.namespace("team").unwrap();
    let folder = programs::public_folder().unwrap();
    let switch = folder.path().join("on");
    fs::write(&switch, "").unwrap();
    cluster.apply(&deployment(&switch)).unwrap();
    let replicas = || {
        let path = ["get", "deployment", "work", "-n", "team", "-o"];
        let ready = "jsonpath={.status.readyReplicas}";
        let ready = cluster.kubectl(&[&path[..], &[ready]].concat());
        ready.ok().and_then(|text| text.trim().parse::<u32>().ok())
    };
    let scaled = |to: u32| {
        wait::until(&format!("there are {to} replicas"), || {
            replicas() == Some(to)
        })
        .unwrap_or_else(|why| {
            let told = cluster.kubectl(&["describe", "hpa", "work", "-n", "team"]);
            panic!("{why}\n{}", told.unwrap_or_default());
        });
    };
    scaled(3);
    fs::remove_file(&switch).unwrap();
    scaled(1);
}
