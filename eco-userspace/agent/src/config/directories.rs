// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is asked for names: the kubelet or the API server, and Slurm.

use std::{env, path::PathBuf};

use eco_identity::{
    kubernetes::{self, KubernetesConfig},
    slurm::{self, SlurmConfig},
};

use super::{ConfigError, Settings, host_name};

impl Settings {
    pub(super) fn kubernetes(&self) -> Result<KubernetesConfig, ConfigError> {
        let path = |key: &str| self.some(key).map(PathBuf::from);
        let source = self.get("kubernetes.source");
        let source = kubernetes::Source::ALL
            .into_iter()
            .find(|known| known.label() == source);
        let source = source
            .ok_or_else(|| self.bad("kubernetes.source", "must be auto, kubelet, api or off"))?;
        let url = self.some("kubernetes.url");
        if url.is_some_and(|url| !is_base(url)) {
            return Err(self.bad(
                "kubernetes.url",
                "must be https://HOST or https://HOST:PORT",
            ));
        }
        let certificate = path("kubernetes.certificate");
        if certificate.is_none() && self.some("kubernetes.key").is_some() {
            return Err(self.bad("kubernetes.key", "needs kubernetes.certificate"));
        }
        let labels = self.get("kubernetes.labels").split(',').map(str::trim);
        Ok(KubernetesConfig {
            source,
            url: url.map(str::to_owned),
            token_file: path("kubernetes.token_file"),
            certificate,
            key: path("kubernetes.key"),
            ca: path("kubernetes.ca"),
            insecure: self.is_true("kubernetes.insecure")?,
            node: self.kubernetes_node(),
            labels: labels
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            pod_resources: self.get("kubernetes.pod_resources").into(),
        })
    }

    /// As a DaemonSet's pod is told it by the downward API, or as the node is called.
    fn kubernetes_node(&self) -> String {
        let configured = self.some("kubernetes.node").or_else(|| self.some("node"));
        configured
            .map(str::to_owned)
            .or_else(|| env::var("NODE_NAME").ok().filter(|name| !name.is_empty()))
            .unwrap_or_else(host_name)
    }

    pub(super) fn slurm(&self) -> Result<SlurmConfig, ConfigError> {
        let source = self.get("slurm.source");
        let source = slurm::Source::ALL
            .into_iter()
            .find(|known| known.label() == source);
        Ok(SlurmConfig {
            source: source.ok_or_else(|| {
                self.bad("slurm.source", "must be auto, environment, scontrol or off")
            })?,
            scontrol: self.some("slurm.scontrol").map(PathBuf::from),
            procfs: self.get("procfs").into(),
        })
    }
}

/// A token goes there, so it is encrypted; and paths are eco's to add.
fn is_base(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|rest| {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte);
        !rest.is_empty() && rest.bytes().all(is_plain)
    })
}
