// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files, without running what they describe.

use std::fs;

use eco_tests::servers::{helm::Helm, kubernetes::Cluster};

use crate::{chart, deploy, installation};

/// Without comments: helm and whoever renders write others.
fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    lines.fold(String::new(), |text, line| text + line + "\n")
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
    assert_eq!(
        without_comments(&plain),
        without_comments(&rendered),
        "{advice}"
    );
    installation::namespace(cluster);
    let file = file.display().to_string();
    let dry = ["apply", "--dry-run=server", "-f", &file];
    cluster.kubectl(&dry).unwrap();
}
