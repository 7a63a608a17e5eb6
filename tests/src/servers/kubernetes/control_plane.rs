// SPDX-License-Identifier: Apache-2.0 OR MIT
//! etcd, the API server with its aggregation layer, the controllers and the scheduler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use rcgen::KeyPair;

use super::NODE;
use crate::servers::{
    Installed,
    authority::{Authority, Identity},
    free_port,
    server::{Launch, Server, run},
};

/// The API server accepts who proves by a certificate of this authority that it speaks for
/// somebody else: its own aggregation layer, towards servers like eco's.
const FRONT_PROXY: &str = "front-proxy-client";

/// The API server itself, towards the kubelet.
const KUBELET_CLIENT: &str = "kubelet-client";

pub(super) struct ControlPlane {
    _scheduler: Server,
    _controllers: Server,
    _apiserver: Server,
    _etcd: Server,
    pki: PathBuf,
    port: u16,
    kubelet_client: Identity,
}

impl ControlPlane {
    pub(super) fn start(
        kubernetes: &Installed,
        etcd: &Installed,
        scratch: &Path,
        authority: &Authority,
    ) -> Result<Self> {
        let pki = scratch.join("pki");
        for (file, name, group) in clients() {
            authority.issue(file, &name, group, &[])?;
        }
        // With this the API server signs service accounts' tokens.
        let accounts = KeyPair::generate()?;
        fs::write(pki.join("accounts.key"), accounts.serialize_pem())?;
        fs::write(pki.join("accounts.pub"), accounts.public_key_pem())?;
        let etcd_port = free_port()?;
        let port = free_port()?;
        let etcd = start_etcd(etcd, scratch, etcd_port)?;
        let apiserver = launch_apiserver(kubernetes, scratch, authority, etcd_port, port)?;
        let kubelet_client = Identity {
            certificate: pki.join("kubelet-client.crt"),
            key: pki.join("kubelet-client.key"),
        };
        let mut apiserver = apiserver.start()?;
        for (file, ..) in clients() {
            write_kubeconfig(&pki, file, port)?;
        }
        let admin = pki.join("admin.kubeconfig");
        apiserver.until_ready(|| {
            let mut kubectl = Command::new(kubernetes.path("bin/kubectl"));
            kubectl.arg("--kubeconfig").arg(&admin);
            run(kubectl.args(["get", "--raw", "/readyz"])).is_ok()
        })?;
        Ok(Self {
            _scheduler: start_scheduler(kubernetes, scratch)?,
            _controllers: start_controllers(kubernetes, scratch, authority)?,
            _apiserver: apiserver,
            _etcd: etcd,
            pki,
            port,
            kubelet_client,
        })
    }

    pub(super) fn address(&self) -> String {
        address(self.port)
    }

    /// The file with which one of [`clients`] speaks with the API server.
    pub(super) fn kubeconfig(&self, file: &str) -> PathBuf {
        self.pki.join(format!("{file}.kubeconfig"))
    }

    pub(super) fn kubelet_client(&self) -> &Identity {
        &self.kubelet_client
    }
}

/// Who speaks with the API server or for it: the file's name, who it is, and of which group.
fn clients() -> [(&'static str, String, &'static str); 5] {
    let client = |file, name: &str, group| (file, name.to_owned(), group);
    [
        client("admin", "admin", "system:masters"),
        client("controllers", "system:kube-controller-manager", ""),
        client("scheduler", "system:kube-scheduler", ""),
        ("kubelet", format!("system:node:{NODE}"), "system:nodes"),
        client(KUBELET_CLIENT, KUBELET_CLIENT, "system:masters"),
    ]
}

fn start_etcd(etcd: &Installed, scratch: &Path, port: u16) -> Result<Server> {
    let launch = Launch::new("etcd", scratch, &etcd.path("bin/etcd"))?;
    let data = launch.state().join("data");
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    launch
        .flag("data-dir", data)
        .flag("listen-client-urls", &client)
        .flag("advertise-client-urls", &client)
        .flag("listen-peer-urls", &peer)
        .flag("initial-advertise-peer-urls", &peer)
        .flag("initial-cluster", format!("default={peer}"))
        // The data need not outlive the machine.
        .flag("unsafe-no-fsync", "true")
        .start()
}

fn launch_apiserver(
    kubernetes: &Installed,
    scratch: &Path,
    authority: &Authority,
    etcd_port: u16,
    port: u16,
) -> Result<Launch> {
    let pki = scratch.join("pki");
    let hosts = ["127.0.0.1", "localhost", "kubernetes.default.svc"];
    let serving = authority.issue("apiserver", "kube-apiserver", "", &hosts)?;
    let front = Authority::new(&pki, "front-proxy-ca")?;
    let proxy = front.issue("front-proxy", FRONT_PROXY, "", &[])?;
    let launch = Launch::new("apiserver", scratch, &kubernetes.path("bin/kube-apiserver"))?;
    let certificates = launch.state().to_owned();
    Ok(launch
        .flag("etcd-servers", format!("http://127.0.0.1:{etcd_port}"))
        .flag("bind-address", "127.0.0.1")
        .flag("secure-port", port.to_string())
        .flag("cert-dir", certificates)
        .flag("tls-cert-file", serving.certificate)
        .flag("tls-private-key-file", serving.key)
        // Nobody reaches it by the Service `kubernetes`, and the loopback is no address for one.
        .flag("endpoint-reconciler-type", "none")
        // Nor any other: an aggregated API is reached at the endpoints of its Service.
        .flag("enable-aggregator-routing", "true")
        .flag("service-cluster-ip-range", "10.96.0.0/16")
        .flag("allow-privileged", "true")
        // Or `kubectl logs` and `exec` look for the node by its name, which no DNS knows.
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("client-ca-file", authority.certificate())
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("service-account-issuer", "https://kubernetes.default.svc")
        .flag("service-account-key-file", pki.join("accounts.pub"))
        .flag("service-account-signing-key-file", pki.join("accounts.key"))
        .flag("kubelet-client-certificate", pki.join("kubelet-client.crt"))
        .flag("kubelet-client-key", pki.join("kubelet-client.key"))
        .flag("requestheader-client-ca-file", front.certificate())
        .flag("requestheader-allowed-names", FRONT_PROXY)
        .flag("requestheader-username-headers", "X-Remote-User")
        .flag("requestheader-group-headers", "X-Remote-Group")
        .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .flag("proxy-client-cert-file", proxy.certificate)
        .flag("proxy-client-key-file", proxy.key))
}

fn start_controllers(
    kubernetes: &Installed,
    scratch: &Path,
    authority: &Authority,
) -> Result<Server> {
    let pki = scratch.join("pki");
    let program = kubernetes.path("bin/kube-controller-manager");
    Launch::new("controllers", scratch, &program)?
        .flag("kubeconfig", pki.join("controllers.kubeconfig"))
        .flag("secure-port", "0")
        .flag("leader-elect", "false")
        .flag("use-service-account-credentials", "true")
        .flag("service-account-private-key-file", pki.join("accounts.key"))
        .flag("root-ca-file", authority.certificate())
        // A HorizontalPodAutoscaler looks every 15 s otherwise.
        .flag("horizontal-pod-autoscaler-sync-period", "5s")
        // Thousands of simulated pods would take minutes.
        .flag("kube-api-qps", "500")
        .flag("kube-api-burst", "1000")
        .start()
}

fn start_scheduler(kubernetes: &Installed, scratch: &Path) -> Result<Server> {
    let kubeconfig = scratch.join("pki/scheduler.kubeconfig");
    Launch::new("scheduler", scratch, &kubernetes.path("bin/kube-scheduler"))?
        .flag("kubeconfig", kubeconfig)
        .flag("secure-port", "0")
        .flag("leader-elect", "false")
        .flag("kube-api-qps", "500")
        .flag("kube-api-burst", "1000")
        .start()
}

fn write_kubeconfig(pki: &Path, file: &str, port: u16) -> Result<()> {
    let server = address(port);
    let pki_folder = pki.display();
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: {file}}}}}]
clusters:
- name: test
  cluster: {{server: '{server}', certificate-authority: '{pki_folder}/cluster-ca.crt'}}
users:
- name: {file}
  user:
    client-certificate: '{pki_folder}/{file}.crt'
    client-key: '{pki_folder}/{file}.key'
"
    );
    Ok(fs::write(pki.join(format!("{file}.kubeconfig")), text)?)
}

fn address(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}
