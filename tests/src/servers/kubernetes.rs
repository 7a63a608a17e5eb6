// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A whole Kubernetes of one real node: this machine. Real pods run in real containers, and
//! are in real cgroups below [`Cluster::pods_cgroup`].
//!
//! There is no pod network: pods have `hostNetwork: true`, and reach the API server at
//! [`Cluster::server`], not at the address of the Service `kubernetes`. There is no registry:
//! images are loaded, and pods have `imagePullPolicy: Never`.

mod control_plane;
mod node;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, bail};

use self::{
    control_plane::ControlPlane,
    node::{Devices, Node},
};
use super::{
    authority::{Authority, Identity},
    find_or_skip, image,
    server::{finished, run},
};
use crate::wait;

/// An image that every cluster has: a shell with its tools, and this crate's `workload`.
pub const IMAGE: &str = "docker.io/local/workload:1";

/// The one real node.
pub const NODE: &str = "node-1";

const SERVERS: [&str; 3] = ["kubernetes", "etcd", "containerd"];

/// How long `kubectl wait` does: 5,000 simulated pods take two minutes on a busy machine.
const PATIENCE: &str = "--timeout=300s";

/// A cluster of one's own. Dropped, it leaves nothing. One takes some 10 s to start and 1 GB:
/// a test program starts one, and asks it all that it wants to know.
pub struct Cluster {
    // Dropped in this order: the kubelet first, or it would start anew what ends.
    node: Node,
    control_plane: ControlPlane,
    authority: Authority,
    kubectl: Kubectl,
    scratch: tempfile::TempDir,
}

impl Cluster {
    /// Starts one, and waits until pods can run. Prints `skipped: why` and answers `None` where
    /// that is not possible.
    ///
    /// # Errors
    /// When a server does not get ready: with the end of its log.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with(Devices::Machines)
    }

    /// Starts one in which pods can ask for devices of a plug-in
    /// ([`super::device_plugin::DevicePlugin`]), and must do without tokens, secrets and volumes
    /// in memory. Prints `skipped: why` and answers `None` as [`Self::start`] does.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_devices() -> Result<Option<Self>> {
        Self::start_with(Devices::Own)
    }

    fn start_with(devices: Devices) -> Result<Option<Self>> {
        let Some([kubernetes, etcd, containerd]) = find_or_skip(SERVERS) else {
            return Ok(None);
        };
        // Private: whoever has the keys in it is root on this machine.
        let scratch = tempfile::Builder::new().prefix("eco-test-").tempdir()?;
        let authority = Authority::new(&scratch.path().join("pki"), "cluster-ca")?;
        let control_plane = ControlPlane::start(&kubernetes, &etcd, scratch.path(), &authority)?;
        let kubectl = Kubectl {
            program: kubernetes.path("bin/kubectl"),
            kubeconfig: control_plane.kubeconfig("admin"),
            cache: scratch.path().join("kubectl"),
        };
        let kubelet = control_plane.kubeconfig("kubelet");
        let node = Node::start(
            &kubernetes,
            &containerd,
            scratch.path(),
            &authority,
            &kubelet,
            devices,
        )?;
        let mut cluster = Self {
            node,
            control_plane,
            authority,
            kubectl,
            scratch,
        };
        cluster.furnish(&containerd.path("bin/busybox"))?;
        cluster.node.until_ready(&cluster.kubectl)?;
        Ok(Some(cluster))
    }

    /// The one that all tests of a program share, each in a [`Self::namespace`] of its own;
    /// started when the first asks for it, and gone soon after the program has ended. Prints
    /// `skipped: why` and answers `None` as [`Self::start`] does.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn shared() -> Result<Option<&'static Self>> {
        static SHARED: OnceLock<Result<Option<Cluster>, String>> = OnceLock::new();
        // Each test says so for itself, and says it once.
        if find_or_skip(SERVERS).is_none() {
            return Ok(None);
        }
        match SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}"))) {
            Ok(cluster) => Ok(cluster.as_ref()),
            Err(why) => bail!("{why}"),
        }
    }

    /// An administrator's.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubectl.kubeconfig
    }

    /// Where the API server is: `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn server(&self) -> String {
        self.control_plane.address()
    }

    /// The node's address, which is that of its pods, too; the kubelet has found it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn node_address(&self) -> Result<String> {
        let address = r#"jsonpath={.status.addresses[?(@.type=="InternalIP")].address}"#;
        let told = self.kubectl(&["get", "node", NODE, "-o", address])?;
        // Its IPv4 address first, where it has both.
        let first = told.split(' ').next().unwrap_or_default();
        Ok(first.to_owned())
    }

    /// Who vouches for the cluster's servers and for who speaks with them, the kubelet included.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The kubelet's own API: `https://127.0.0.1:PORT`. It lets in [`Self::kubelet_client`], and
    /// tokens that may `get` `nodes/proxy`.
    #[must_use]
    pub fn kubelet(&self) -> String {
        self.node.address()
    }

    /// Whom the kubelet answers everything.
    #[must_use]
    pub fn kubelet_client(&self) -> &Identity {
        self.control_plane.kubelet_client()
    }

    /// The socket on which the kubelet tells which pod has which device.
    #[must_use]
    pub fn pod_resources(&self) -> PathBuf {
        self.node.root().join("pod-resources/kubelet.sock")
    }

    /// The folder in which device plug-ins find the kubelet's socket and put their own, in a
    /// cluster that has [its own](Self::with_devices).
    #[must_use]
    pub fn device_plugins(&self) -> PathBuf {
        node::device_plugins(self.node.root())
    }

    /// The cgroup of all pods, in every hierarchy: `/PREFIX/kubepods`. The prefix is the
    /// cluster's own, so that two on one machine do not end each other's pods.
    #[must_use]
    pub fn pods_cgroup(&self) -> String {
        format!("{}/kubepods", self.node.cgroup())
    }

    /// A `kubectl` for this cluster, to be given arguments.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        self.kubectl.command()
    }

    /// What `kubectl ARGUMENTS` prints.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(self.kubectl_command().args(arguments))
    }

    /// `kubectl apply`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let mut apply = self.kubectl_command();
        apply
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = apply.spawn().context("cannot start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // Where kubectl has ended before it has read all of it, it says why.
            let _ = stdin.write_all(yaml.as_bytes());
        }
        let output = child.wait_with_output()?;
        finished(&apply, &output).map(drop)
    }

    /// `kubectl wait`: for what must be there already, as `pod/NAME -n NAMESPACE`, waits until
    /// `condition`, as `condition=Ready` or `jsonpath={.status.phase}=Succeeded`.
    ///
    /// # Errors
    /// When it does not get so; with what the cluster knows of it.
    pub fn wait_for(&self, what: &str, condition: &str) -> Result<()> {
        let words: Vec<&str> = what.split(' ').collect();
        self.kubectl.wait(&words, condition)
    }

    /// Makes a namespace in which pods can be made.
    ///
    /// # Errors
    /// When it is there already.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name])?;
        // Pods are refused until their account is there.
        wait::until(&format!("{name} has a service account"), || {
            self.kubectl(&["get", "serviceaccount", "default", "-n", name])
                .is_ok()
        })
    }

    /// A token of a service account, which is made if it is not there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let known = ["get", "serviceaccount", account, "-n", namespace];
        if self.kubectl(&known).is_err() {
            self.kubectl(&["create", "serviceaccount", account, "-n", namespace])?;
        }
        let token = self.kubectl(&["create", "token", account, "-n", namespace])?;
        Ok(token.trim().to_owned())
    }

    /// Makes an image of a folder, and gives it to the node: `name` as pods name it then, best
    /// `docker.io/local/NAME:1`. Static programs need nothing else;
    /// [`image::with_libraries`] brings others.
    ///
    /// # Errors
    /// When the container runtime refuses.
    pub fn load_image(&self, name: &str, root: &Path) -> Result<()> {
        let archive = self.scratch.path().join("image.tar");
        image::save(root, name, &archive)?;
        self.node.load(&archive)?;
        Ok(fs::remove_file(archive)?)
    }

    /// Where servers beside it may keep what they like: gone with it.
    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn furnish(&self, busybox: &Path) -> Result<()> {
        let root = self.scratch.path().join("image");
        image::furnish(&root, busybox)?;
        self.load_image(IMAGE, &root)?;
        Ok(fs::remove_dir_all(&root)?)
    }
}

/// How `kubectl` is called for one cluster.
struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    fn command(&self) -> Command {
        let mut kubectl = Command::new(&self.program);
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig);
        // Or it keeps what it has discovered in the home of whoever tests.
        kubectl.arg("--cache-dir").arg(&self.cache);
        kubectl
    }

    fn wait(&self, what: &[&str], condition: &str) -> Result<()> {
        let mut wait = self.command();
        run(wait.args(["wait", PATIENCE, "--for", condition]).args(what))
            .map(drop)
            .with_context(|| run(self.command().arg("describe").args(what)).unwrap_or_default())
    }
}

/// A name for what is this cluster's on the machine.
fn unique_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    format!("eco-test-kubelet-{}-{number}", std::process::id())
}
