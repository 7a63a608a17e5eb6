// SPDX-License-Identifier: Apache-2.0 OR MIT
//! helm, as whoever installs a chart calls it.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::{find_or_skip, kubernetes::Cluster, server::run};

/// helm for one cluster.
pub struct Helm<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
}

impl<'a> Helm<'a> {
    /// Finds it. Prints `skipped: why` and answers `None` where it is not.
    #[must_use]
    pub fn find(cluster: &'a Cluster) -> Option<Self> {
        let [installed] = find_or_skip(["helm"])?;
        Some(Self {
            cluster,
            program: installed.path("bin/helm"),
        })
    }

    /// What `helm ARGUMENTS` prints.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let home = self.cluster.scratch().join("helm");
        let mut helm = Command::new(&self.program);
        helm.env("KUBECONFIG", self.cluster.kubeconfig())
            // Nothing of whoever tests is read or written.
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"));
        run(helm.args(arguments))
    }
}
