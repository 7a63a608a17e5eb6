// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pod, as far as eco wants to know it; read from the API's JSON, of which nearly all is
//! passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{
    owner::{self, Owner},
    quantity,
};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its uid in the API.
    pub uid: String,
    /// Other uids that its cgroup may have: a static pod is in the cgroup of its manifest's hash.
    pub aliases: Vec<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it runs on.
    pub node: String,
    /// Those of its labels that are allowed.
    pub labels: BTreeMap<String, String>,
    /// The root of its owners; `None` for a pod that somebody made by hand, and a static one.
    pub owner: Option<Owner>,
    /// The job that it is a part of.
    pub job: Option<Owner>,
    /// Its containers, the init and ephemeral ones too.
    pub containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// The runtime's ids of its runs, the latest last: it has a new one after each restart.
    pub ids: Vec<String>,
    /// What it asked for.
    pub requests: Requests,
}

/// What a container asked for; 0 where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// CPU, in thousandths.
    pub cpu_milli: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// GPUs of any maker, or slices of them.
    pub gpus: u64,
}

impl Pod {
    /// What all its containers asked for, together.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let mut sum = Requests::default();
        for container in &self.containers {
            let one = container.requests;
            sum.cpu_milli = sum.cpu_milli.saturating_add(one.cpu_milli);
            sum.memory_bytes = sum.memory_bytes.saturating_add(one.memory_bytes);
            sum.gpus = sum.gpus.saturating_add(one.gpus);
        }
        sum
    }
}

/// A list of pods, as the kubelet and the API server give it.
#[derive(Deserialize)]
pub(super) struct PodList {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) items: Vec<ApiPod>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    pub(super) resource_version: String,
    pub(super) r#continue: String,
}

/// A pod of the API.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiPod {
    pub(super) metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
    #[serde(deserialize_with = "nullable")]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    name: String,
    namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    annotations: Annotations,
    #[serde(deserialize_with = "nullable")]
    owner_references: Vec<OwnerReference>,
    creation_timestamp: Option<String>,
}

/// Annotations can be long, and two are wanted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.hash")]
    config_hash: Option<String>,
    #[serde(rename = "kubernetes.io/config.mirror")]
    config_mirror: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<ApiContainer>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<ApiContainer>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<ApiContainer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ApiContainer {
    name: String,
    #[serde(deserialize_with = "nullable")]
    resources: Resources,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    #[serde(deserialize_with = "nullable")]
    requests: BTreeMap<String, Quantity>,
    #[serde(deserialize_with = "nullable")]
    limits: BTreeMap<String, Quantity>,
}

/// The API server writes text, a person may have written a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Text(String),
    Number(f64),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID", deserialize_with = "nullable")]
    container_id: String,
    #[serde(deserialize_with = "nullable")]
    last_state: LastState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LastState {
    #[serde(deserialize_with = "nullable")]
    terminated: Terminated,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID", deserialize_with = "nullable")]
    container_id: String,
}

impl ApiPod {
    /// What eco keeps of it, with the labels that `allowed` lists; `None` for what is no pod.
    pub(super) fn keep(self, allowed: &[String]) -> Option<Pod> {
        let Self {
            metadata: meta,
            spec,
            status,
        } = self;
        if meta.uid.is_empty() || meta.name.is_empty() || meta.namespace.is_empty() {
            return None;
        }
        let created = meta
            .creation_timestamp
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(jiff::Timestamp::as_second);
        let controller = meta
            .owner_references
            .iter()
            .find(|owner| owner.controller == Some(true))
            // A mirror pod is "owned" by its node.
            .filter(|owner| owner.kind != "Node");
        let owner =
            controller.map(|owner| owner::root(&owner.kind, &owner.name, &meta.labels, created));
        let job = owner::job(&meta.labels, owner.as_ref());
        let hashes = [meta.annotations.config_hash, meta.annotations.config_mirror];
        let mut aliases: Vec<String> = hashes.into_iter().flatten().collect();
        aliases.retain(|alias| *alias != meta.uid);
        aliases.dedup();
        let mut labels = meta.labels;
        labels.retain(|key, _| allowed.contains(key));
        Some(Pod {
            uid: meta.uid,
            aliases,
            namespace: meta.namespace,
            name: meta.name,
            node: spec.node_name.clone(),
            labels,
            owner,
            job,
            containers: containers(spec, &status),
        })
    }
}

fn containers(spec: Spec, status: &Status) -> Vec<Container> {
    let statuses = || {
        let Status {
            container_statuses: main,
            init_container_statuses: init,
            ephemeral_container_statuses: ephemeral,
        } = status;
        main.iter().chain(init).chain(ephemeral)
    };
    let specs = spec
        .containers
        .into_iter()
        .chain(spec.init_containers)
        .chain(spec.ephemeral_containers);
    specs
        .map(|container| {
            let runs = statuses().filter(|status| status.name == container.name);
            let ids = runs
                .flat_map(|run| [&run.last_state.terminated.container_id, &run.container_id])
                .filter_map(|id| plain_id(id))
                .collect();
            Container {
                requests: container.resources.total(),
                name: container.name,
                ids,
            }
        })
        .collect()
}

/// `containerd://<id>`, as the runtime itself writes it.
fn plain_id(id: &str) -> Option<String> {
    let id = id.split_once("://").map_or(id, |(_, id)| id);
    (!id.is_empty()).then(|| id.to_owned())
}

impl Resources {
    fn total(&self) -> Requests {
        // A limit without a request is the request.
        let wanted = |name: &str, scale| {
            let quantity = self.requests.get(name).or_else(|| self.limits.get(name));
            quantity.and_then(|q| q.times(scale)).unwrap_or(0)
        };
        // Extended resources have limits only, or both alike.
        let gpus = self.limits.iter().filter(|(name, _)| is_gpu(name));
        Requests {
            cpu_milli: wanted("cpu", 1000.0),
            memory_bytes: wanted("memory", 1.0),
            gpus: gpus.filter_map(|(_, quantity)| quantity.times(1.0)).sum(),
        }
    }
}

/// The resources of the vendors' device plug-ins that count GPUs or slices of them; others
/// beside them count megabytes.
fn is_gpu(resource: &str) -> bool {
    resource.ends_with("/gpu")
        || resource.starts_with("nvidia.com/mig-")
        || matches!(
            resource,
            "nvidia.com/gpu.shared" | "gpu.intel.com/i915" | "gpu.intel.com/xe"
        )
}

impl Quantity {
    fn times(&self, scale: f64) -> Option<u64> {
        match self {
            Self::Text(text) => quantity::parse(text, scale),
            Self::Number(number) => quantity::parse(&number.to_string(), scale),
        }
    }
}

/// Go writes an absent list as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(pod: serde_json::Value) -> Option<Pod> {
        let pod: ApiPod = serde_json::from_value(pod).unwrap();
        pod.keep(&["app".to_owned()])
    }

    #[test]
    fn of_a_pod_what_is_asked_for_is_kept() {
        let pod = kept(json!({
            "metadata": {
                "name": "web-5d4-x", "namespace": "shop", "uid": "u1",
                "labels": {"app": "a \"b\"\nc", "secret": "s", "pod-template-hash": "5d4"},
                "annotations": {"kubernetes.io/config.source": "api"},
                "ownerReferences": [
                    {"kind": "Other", "name": "o"},
                    {"kind": "ReplicaSet", "name": "web-5d4", "controller": true}
                ]
            },
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "main", "resources": {
                    "requests": {"cpu": "250m", "memory": "64Mi"},
                    "limits": {"cpu": 2, "nvidia.com/gpu": "2"}
                }}],
                "initContainers": [{"name": "prepare", "resources": {"limits": {"cpu": 1}}}],
                "ephemeralContainers": null
            },
            "status": {
                "containerStatuses": [{
                    "name": "main", "containerID": "containerd://c2",
                    "lastState": {"terminated": {"containerID": "containerd://c1"}}
                }],
                "initContainerStatuses": [{"name": "prepare", "containerID": "docker://c0"}]
            }
        }))
        .unwrap();
        assert_eq!(pod.labels.len(), 1);
        assert_eq!(pod.labels["app"], "a \"b\"\nc");
        assert_eq!(pod.owner.as_ref().unwrap().name, "web");
        assert_eq!(pod.job, None);
        assert_eq!(pod.containers[0].ids, ["c1", "c2"]);
        assert_eq!(pod.containers[1].ids, ["c0"]);
        let requests = pod.requests();
        assert_eq!(requests.cpu_milli, 1250);
        assert_eq!(requests.memory_bytes, 64 << 20);
        assert_eq!(requests.gpus, 2);
    }

    #[test]
    fn a_static_pod_is_known_by_its_manifests_hash_too() {
        let mirror = kept(json!({"metadata": {
            "name": "etcd-n1", "namespace": "kube-system", "uid": "u1",
            "annotations": {"kubernetes.io/config.hash": "h", "kubernetes.io/config.mirror": "h"},
            "ownerReferences": [{"kind": "Node", "name": "n1", "controller": true}]
        }}))
        .unwrap();
        assert_eq!(mirror.aliases, ["h"]);
        assert_eq!(mirror.owner, None);
    }

    #[test]
    fn what_is_no_pod_is_passed_over_and_odd_fields_do_not_matter() {
        assert_eq!(kept(json!({})), None);
        assert_eq!(
            kept(json!({"metadata": {"name": "a", "namespace": "b"}})),
            None
        );
        let bare = json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "c", "labels": null,
                         "creationTimestamp": "yesterday", "ownerReferences": null},
            "spec": null, "status": null
        });
        assert!(kept(bare).unwrap().containers.is_empty());
        let odd = json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "c"},
            "spec": {"containers": [{"name": "m", "resources": {"requests": {"cpu": "-5"}}}]},
            "status": {"containerStatuses": [{"name": "m", "containerID": ""}]}
        });
        let pod = kept(odd).unwrap();
        assert_eq!(pod.requests(), Requests::default());
        assert!(pod.containers[0].ids.is_empty());
    }
}
