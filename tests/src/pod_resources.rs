// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kubelet's pod-resources socket whose answer is made up: for what a true one says seldom, or
//! should never.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;

use crate::grpc::{Answer, Refusal, Server};

/// The socket. Dropped, it goes.
pub struct PodResources {
    told: Arc<Mutex<List>>,
    _server: Server,
}

/// Devices of the container `main` of a pod.
#[derive(Clone, Debug)]
pub struct Given {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The devices.
    pub ids: Vec<String>,
}

impl PodResources {
    /// Listens on `socket`, and tells of no devices.
    ///
    /// # Errors
    /// When there can be no such socket.
    pub fn start(socket: PathBuf) -> Result<Self> {
        let told: Arc<Mutex<List>> = Arc::default();
        let known = Arc::clone(&told);
        let server = Server::start(socket, move |path, _| match path {
            "/v1.PodResourcesLister/List" => {
                let list = known.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Answer::once(&*list))
            }
            _ => Err(Refusal::Unimplemented),
        })?;
        Ok(Self {
            told,
            _server: server,
        })
    }

    /// Tells this from now on.
    pub fn tell(&self, given: impl IntoIterator<Item = Given>) {
        let pods = given.into_iter().map(|given| Pod {
            name: given.pod,
            namespace: given.namespace,
            containers: vec![Container {
                name: "main".into(),
                devices: vec![Devices {
                    resource_name: "nvidia.com/gpu".into(),
                    device_ids: given.ids,
                }],
            }],
        });
        let list = List {
            pod_resources: pods.collect(),
        };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = list;
    }
}

// With the field numbers of `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`.

#[derive(Clone, PartialEq, prost::Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    pod_resources: Vec<Pod>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pod {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(message, repeated, tag = "3")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    devices: Vec<Devices>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Devices {
    #[prost(string, tag = "1")]
    resource_name: String,
    #[prost(string, repeated, tag = "2")]
    device_ids: Vec<String>,
}
