// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco serve` under test, and clusters of nodes that exist as samples in a store only.

mod fleet;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use self::fleet::{
    Fleet, IDLE_WATTS, NodeLoad, OTHER_WATTS, POD_DRAM_WATTS, POD_WATTS, PodLoad, Scrapes,
};
use crate::{
    http, programs,
    servers::{
        free_port,
        kubernetes::Cluster,
        server::{Launch, Server},
    },
};

/// An `eco serve` of one's own. Dropped, it is killed.
pub struct Serve {
    server: Server,
    port: u16,
    _scratch: tempfile::TempDir,
}

impl Serve {
    /// Starts one with these arguments beside `--listen`, which everybody may ask, in the clear.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let (mut server, scratch) = launch("127.0.0.1", port, arguments)?;
        server.until_ready(|| {
            let ready = http::get(&format!("http://127.0.0.1:{port}/readyz"));
            ready.is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self {
            server,
            port,
            _scratch: scratch,
        })
    }

    /// Starts one that the API server decides for: over TLS, so nothing here can tell when it is
    /// ready. It listens at `address`, where the API server is to find it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn delegated(address: &str, arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let (server, scratch) = launch(address, port, arguments)?;
        Ok(Self {
            server,
            port,
            _scratch: scratch,
        })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The most memory that it has had so far, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        let pid = self.server.pid().context("eco serve has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmHWM")?.trim().parse::<u64>()? * 1024)
    }

    /// Gets a path, whatever the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, path: &str) -> Result<http::Response> {
        http::get(&format!("http://127.0.0.1:{}{path}", self.port))
    }

    /// Gets a path whose answer is a success in JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        if answer.status != 200 {
            bail!("{path}: HTTP {}: {}", answer.status, answer.body);
        }
        answer.json().with_context(|| path.to_owned())
    }
}

/// Leave to ask a cluster which pods there are, and for nothing else: what the chart gives to
/// eco serve for that.
pub struct PodReader {
    arguments: Vec<String>,
    _folder: tempfile::TempDir,
}

impl PodReader {
    /// Made in `namespace`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn new(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let token = cluster.token(namespace, "eco-serve")?;
        let role = ["create", "clusterrole", "pod-reader"];
        cluster.kubectl(&[&role[..], &["--verb=list", "--resource=pods"]].concat())?;
        cluster.kubectl(&[
            "create",
            "clusterrolebinding",
            "pod-reader",
            "--clusterrole=pod-reader",
            &format!("--serviceaccount={namespace}:eco-serve"),
        ])?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("token");
        fs::write(&file, token)?;
        let text = |path: &Path| path.display().to_string();
        let authority = text(cluster.authority().certificate());
        Ok(Self {
            arguments: vec![
                "--access=everybody".into(),
                format!("--kubernetes={}", cluster.server()),
                format!("--kubernetes-ca-file={authority}"),
                format!("--kubernetes-token-file={}", text(&file)),
            ],
            _folder: folder,
        })
    }

    /// For [`Serve::start`]: everybody on this machine may ask it then.
    #[must_use]
    pub fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
}

fn launch(address: &str, port: u16, arguments: &[&str]) -> Result<(Server, tempfile::TempDir)> {
    let scratch = tempfile::Builder::new().prefix("eco-test-").tempdir()?;
    let mut launch = Launch::new("eco-serve", scratch.path(), &programs::eco())?
        .arg("serve")
        .flag("listen", format!("{address}:{port}"));
    for argument in arguments {
        launch = launch.arg(argument);
    }
    Ok((launch.start()?, scratch))
}
