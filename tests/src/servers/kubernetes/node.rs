// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This machine as a node: containerd, and the kubelet above it.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{IMAGE, Kubectl, NODE, unique_name};
use crate::{
    cgroup,
    servers::{
        Installed,
        authority::{Authority, Identity},
        free_port,
        server::{Launch, Server, run},
    },
};

pub(super) struct Node {
    kubelet: Server,
    containerd: Server,
    ctr: PathBuf,
    socket: PathBuf,
    root: PathBuf,
    port: u16,
    cgroup: String,
}

impl Node {
    pub(super) fn start(
        kubernetes: &Installed,
        containerd: &Installed,
        scratch: &Path,
        authority: &Authority,
        kubeconfig: &Path,
        devices: Devices,
    ) -> Result<Self> {
        let socket = scratch.join("containerd/socket");
        let runtime = start_containerd(containerd, scratch, &socket)?;
        let cgroup = format!("/{}", unique_name());
        let port = free_port()?;
        let address = machine_address();
        let mut hosts = vec!["127.0.0.1", NODE];
        hosts.extend(address.as_deref());
        let serving = authority.issue("kubelet-server", NODE, "", &hosts)?;
        let launch = launch_kubelet(&kubernetes.path("bin/kubelet"), scratch, devices)?;
        // Short: sockets are in it, and their paths have at most 107 characters.
        let root = launch.state().to_owned();
        let config = root.join("config.yaml");
        let settings = Settings {
            authority: authority.certificate(),
            serving: &serving,
            socket: &socket,
            cgroup: &cgroup,
            port,
            devices,
        };
        fs::write(&config, settings.yaml())?;
        let launch = launch
            .flag("config", &config)
            .flag("kubeconfig", kubeconfig)
            .flag("hostname-override", NODE)
            .flag("root-dir", &root)
            .flag("cert-dir", root.join("pki"))
            .cgroup(&cgroup);
        make_cgroup(&cgroup)?;
        Ok(Self {
            kubelet: launch.start()?,
            containerd: runtime,
            ctr: containerd.path("usr/bin/ctr"),
            socket,
            root,
            port,
            cgroup,
        })
    }

    pub(super) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The kubelet's own folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The cgroup that stands for the machine to the kubelet.
    pub(super) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Gives it an image that `docker save` or [`crate::servers::image::save`] wrote.
    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        let mut import = Command::new(&self.ctr);
        import.arg("--address").arg(&self.socket);
        import.args(["--namespace", "k8s.io", "images", "import"]);
        run(import.args(["--snapshotter", "native"]).arg(archive)).map(drop)
    }

    /// Waits until pods can run.
    pub(super) fn until_ready(&mut self, kubectl: &Kubectl) -> Result<()> {
        let is_known = |what: [&str; 2]| run(kubectl.command().arg("get").args(what)).is_ok();
        self.kubelet.until_ready(|| {
            // Without the account, pods are refused.
            is_known(["node", NODE]) && is_known(["serviceaccount", "default"])
        })?;
        kubectl
            .wait(&["node", NODE], "condition=Ready")
            .with_context(|| format!("{}\n{}", self.containerd.log_end(), self.kubelet.log_end()))
    }
}

/// Whose device plug-ins a kubelet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Devices {
    /// Whichever kubelet of the machine was started last, as all have one folder for them.
    Machines,
    /// Its own. It then sees mounts of its own, and what it mounts for pods (tokens, secrets,
    /// volumes in memory), nobody else does: pods must do without.
    Own,
}

/// Where a kubelet meets device plug-ins, whatever its `--root-dir` is.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";

/// Puts a folder of its own there, for itself and what it becomes.
const WITH_OWN_DEVICES: &str =
    r#"mkdir -p "$1" "$2" && mount --bind "$1" "$2" && shift 2 && exec "$@""#;

fn launch_kubelet(kubelet: &Path, scratch: &Path, devices: Devices) -> Result<Launch> {
    if devices == Devices::Machines {
        return Launch::new("kubelet", scratch, kubelet);
    }
    let launch = Launch::new("kubelet", scratch, Path::new("unshare"))?;
    let own = device_plugins(launch.state());
    Ok(launch
        .arg("--mount")
        .arg("sh")
        .arg("-c")
        .arg(WITH_OWN_DEVICES)
        .arg("kubelet")
        .arg(own)
        .arg(DEVICE_PLUGINS)
        .arg(kubelet))
}

/// Where device plug-ins of a node of its own put their sockets.
pub(super) fn device_plugins(root: &Path) -> PathBuf {
    root.join("device-plugins")
}

fn start_containerd(containerd: &Installed, scratch: &Path, socket: &Path) -> Result<Server> {
    let launch = Launch::new(
        "containerd",
        scratch,
        &containerd.path("usr/bin/containerd"),
    )?;
    let state = launch.state().to_owned();
    // Pods are in the host's network: it only has to be there.
    let networks = state.join("cni");
    fs::create_dir_all(&networks)?;
    fs::write(
        networks.join("loopback.conflist"),
        r#"{"cniVersion": "0.4.0", "name": "lo", "plugins": [{"type": "loopback"}]}"#,
    )?;
    let config = state.join("config.toml");
    fs::write(&config, containerd_config(containerd, &state, socket))?;
    let tasks = state.join("run/io.containerd.runtime.v2.task/k8s.io");
    let mut server = launch.flag("config", &config).tasks(&tasks).start()?;
    let ctr = containerd.path("usr/bin/ctr");
    server.until_ready(|| {
        let mut version = Command::new(&ctr);
        run(version.arg("--address").arg(socket).arg("version")).is_ok()
    })?;
    Ok(server)
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE nobody may lower it, and runc dies.
/// `native`: plain folders, for machines whose file system cannot be overlaid.
fn containerd_config(containerd: &Installed, state: &Path, socket: &Path) -> String {
    let (state, socket) = (state.display(), socket.display());
    let runc = containerd.path("usr/sbin/runc");
    let runc = runc.display();
    format!(
        r#"version = 2
root = "{state}/root"
state = "{state}/run"
[debug]
  level = "warn"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{state}/cni"
  conf_dir = "{state}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  Root = "{state}/runc"
"#
    )
}

/// What differs between two kubelets.
struct Settings<'a> {
    authority: &'a Path,
    serving: &'a Identity,
    socket: &'a Path,
    cgroup: &'a str,
    port: u16,
    devices: Devices,
}

impl Settings<'_> {
    /// The kubelet's configuration. Nothing that the rest of the machine does, a full disk or
    /// swap, is to have it turn pods away.
    fn yaml(&self) -> String {
        let Self {
            cgroup: root_cgroup,
            port,
            ..
        } = self;
        let authority = self.authority.display();
        let certificate = self.serving.certificate.display();
        let key = self.serving.key.display();
        let socket = self.socket.display();
        // Who waits for devices waits for the node to say that it has them.
        let haste = match self.devices {
            Devices::Machines => "",
            Devices::Own => "nodeStatusUpdateFrequency: 1s\n",
        };
        format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
port: {port}
healthzPort: 0
tlsCertFile: '{certificate}'
tlsPrivateKeyFile: '{key}'
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true, cacheTTL: 1s}}
  x509: {{clientCAFile: '{authority}'}}
authorization: {{mode: Webhook}}
containerRuntimeEndpoint: 'unix://{socket}'
cgroupDriver: cgroupfs
cgroupRoot: '{root_cgroup}'
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {{imagefs.available: '0%', nodefs.available: '0%', nodefs.inodesFree: '0%'}}
imageGCHighThresholdPercent: 100
resolvConf: ''
{haste}"
        )
    }
}

/// The address that the kubelet takes for the node's: the one from which the machine would go out.
fn machine_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent. An address for documentation, RFC 5737.
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// The kubelet wants it to be there.
fn make_cgroup(path: &str) -> Result<()> {
    for folder in cgroup::everywhere(path) {
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        // v1's cpuset: empty at first, and then nobody may enter.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let parent = folder.parent().map(|parent| parent.join(file));
            if let Some(value) = parent.and_then(|parent| fs::read(parent).ok()) {
                let own = folder.join(file);
                fs::write(&own, value).with_context(|| own.display().to_string())?;
            }
        }
    }
    Ok(())
}
