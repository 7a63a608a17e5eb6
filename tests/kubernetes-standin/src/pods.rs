// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pods, and all that happened to them.

use serde_json::{Value, json};

/// A pod as the API has it, running, with one container `main` of this id.
#[must_use]
pub fn pod(namespace: &str, name: &str, uid: &str, container: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": uid, "labels": {"app": name}},
        "spec": {"nodeName": "node", "containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "main", "containerID": format!("containerd://{container}")}
        ]}
    })
}

/// Pods, and the events that made them what they are: the n-th has version n.
#[derive(Default)]
pub(crate) struct Pods {
    living: Vec<Value>,
    events: Vec<Value>,
    /// Events up to here are forgotten.
    compacted: usize,
}

impl Pods {
    pub(crate) fn put(&mut self, mut pod: Value) {
        let version = (self.events.len() + 1).to_string();
        pod["metadata"]["resourceVersion"] = version.into();
        let uid = pod["metadata"]["uid"].clone();
        let known = self.living.iter_mut().find(|p| p["metadata"]["uid"] == uid);
        let kind = match known {
            Some(known) => {
                known.clone_from(&pod);
                "MODIFIED"
            }
            None => {
                self.living.push(pod.clone());
                "ADDED"
            }
        };
        self.events.push(json!({"type": kind, "object": pod}));
    }

    pub(crate) fn delete(&mut self, uid: &str) {
        let Some(at) = self.living.iter().position(|p| p["metadata"]["uid"] == uid) else {
            return;
        };
        let mut pod = self.living.remove(at);
        let version = (self.events.len() + 1).to_string();
        pod["metadata"]["resourceVersion"] = version.into();
        self.events.push(json!({"type": "DELETED", "object": pod}));
    }

    pub(crate) fn compact(&mut self) {
        // One more than any version that was given out.
        self.events.push(json!({"type": "BOOKMARK", "object": {
            "metadata": {"resourceVersion": (self.events.len() + 1).to_string()}
        }}));
        self.compacted = self.events.len();
    }

    /// A page of the list: `limit` pods after the first `skip`.
    pub(crate) fn list(&self, limit: usize, skip: usize) -> Value {
        let end = self.living.len().min(skip.saturating_add(limit));
        let mut metadata = json!({"resourceVersion": self.events.len().to_string()});
        if end < self.living.len() {
            metadata["continue"] = end.to_string().into();
        }
        json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": metadata,
            "items": self.living.get(skip..end).unwrap_or_default(),
        })
    }

    /// What happened after `version`; 410 Gone, as an event, if that is forgotten.
    pub(crate) fn since(&self, version: usize) -> Vec<Value> {
        if version < self.compacted {
            return vec![json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
                "code": 410, "message": "too old resource version"
            }})];
        }
        self.events.get(version..).unwrap_or_default().to_vec()
    }

    pub(crate) fn version(&self) -> usize {
        self.events.len()
    }
}
