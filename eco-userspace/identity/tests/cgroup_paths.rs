// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths as runtimes really make them.

use std::collections::HashSet;

use eco_identity::{Home, classify};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    path: Vec<Row>,
}

/// A path, and all that it must say.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    from: String,
    path: String,
    container: Option<String>,
    runtime: Option<String>,
    pod: Option<String>,
    qos: Option<String>,
    pod_container: Option<String>,
    slurm_job: Option<u32>,
    slurm_step: Option<String>,
    slurm_task: Option<u32>,
    slurm_node: Option<String>,
    slurm_user: Option<u32>,
    machine: Option<String>,
    hypervisor: Option<String>,
    systemd: Option<String>,
    slice: Option<String>,
    user: Option<u32>,
    eco_run: Option<u32>,
    named_by_path: bool,
}

impl Row {
    fn found(&self) -> Self {
        let home = classify(&self.path);
        let Home {
            container,
            pod,
            slurm,
            machine,
            systemd,
            slice,
            user,
            eco_run,
            path,
        } = home;
        if let Some(path) = &path {
            assert_eq!(*path, self.path);
        }
        Self {
            from: self.from.clone(),
            path: self.path.clone(),
            runtime: container.as_ref().map(|c| c.runtime.label().to_owned()),
            container: container.map(|c| c.id),
            qos: pod.as_ref().map(|pod| pod.qos.label().to_owned()),
            pod_container: pod.as_ref().and_then(|pod| pod.container.clone()),
            pod: pod.map(|pod| pod.uid),
            slurm_job: slurm.as_ref().map(|slurm| slurm.job),
            slurm_step: slurm.as_ref().and_then(|slurm| slurm.step.clone()),
            slurm_task: slurm.as_ref().and_then(|slurm| slurm.task),
            slurm_user: slurm.as_ref().and_then(|slurm| slurm.user),
            slurm_node: slurm.and_then(|slurm| slurm.node),
            hypervisor: machine.as_ref().map(|m| m.hypervisor.label().to_owned()),
            machine: machine.map(|machine| machine.name),
            systemd,
            slice,
            user,
            eco_run,
            named_by_path: path.is_some(),
        }
    }
}

#[test]
fn every_shape_of_the_table_says_what_it_must_and_nothing_else() {
    let table: Table = toml::from_str(include_str!("cgroup-paths.toml")).unwrap();
    let shapes: HashSet<&str> = table.path.iter().map(|row| row.path.as_str()).collect();
    assert!(shapes.len() >= 60, "{} shapes", shapes.len());
    let wrong: Vec<_> = table
        .path
        .iter()
        .map(|row| (row, row.found()))
        .filter(|(row, found)| *row != found)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
