// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device plug-in of the project's own: a real kubelet really gives its devices to pods, though
//! there are none.
//!
//! The kubelet's device plug-in API is five methods on the plug-in's socket and one on the
//! kubelet's, all gRPC (`v1beta1`, stable since Kubernetes 1.10). That is some messages,
//! which stand here as Rust.

mod messages;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use anyhow::Result;

use self::messages::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, ContainerDevices, Device,
    DevicePluginOptions, ListAndWatchResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest,
};
use crate::{
    grpc::{self, Answer, Refusal, Server},
    wait,
};

/// Where a container reads which devices it has: the variable that NVIDIA's plug-in sets.
pub const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// What this plug-in wants: to be asked which devices go well together.
const OPTIONS: DevicePluginOptions = DevicePluginOptions {
    pre_start_required: false,
    get_preferred_allocation_available: true,
};

/// A plug-in that is registered. Dropped, it ends, and no pod gets its devices any more.
pub struct DevicePlugin {
    _server: Server,
}

impl DevicePlugin {
    /// Offers devices with these ids as `resource`, as `nvidia.com/gpu`, to the kubelet whose
    /// folder for plug-ins that is.
    ///
    /// # Errors
    /// When the kubelet does not come, or refuses.
    pub fn register(
        folder: &Path,
        resource: &str,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        let kubelet = folder.join("kubelet.sock");
        wait::until("the kubelet takes device plug-ins", || kubelet.exists())?;
        let endpoint = format!("{}.sock", resource.replace('/', "-"));
        let devices = Devices(ids.into_iter().collect());
        let server = Server::start(folder.join(&endpoint), move |path, asked| {
            devices.answer(path, asked)
        })?;
        let request = RegisterRequest {
            version: "v1beta1".into(),
            endpoint,
            resource_name: resource.into(),
            options: Some(OPTIONS),
        };
        grpc::call(&kubelet, "/v1beta1.Registration/Register", &request)?;
        Ok(Self { _server: server })
    }
}

/// The devices there are, by id.
struct Devices(BTreeSet<String>);

impl Devices {
    fn answer(&self, path: &str, asked: &[u8]) -> Result<Answer, Refusal> {
        let method = path.strip_prefix("/v1beta1.DevicePlugin/");
        match method.ok_or(Refusal::Unimplemented)? {
            "GetDevicePluginOptions" => Ok(Answer::once(&OPTIONS)),
            "ListAndWatch" => Ok(Answer::lasting(&self.list())),
            "GetPreferredAllocation" => Ok(Answer::once(&prefer(&grpc::message(asked)?))),
            "Allocate" => Ok(Answer::once(&self.allocate(grpc::message(asked)?)?)),
            _ => Err(Refusal::Unimplemented),
        }
    }

    fn list(&self) -> ListAndWatchResponse {
        let device = |id: &String| Device {
            id: id.clone(),
            health: "Healthy".into(),
        };
        ListAndWatchResponse {
            devices: self.0.iter().map(device).collect(),
        }
    }

    fn allocate(&self, asked: AllocateRequest) -> Result<AllocateResponse, Refusal> {
        let of_container = |devices: ContainerDevices| {
            if !devices.ids.iter().all(|id| self.0.contains(id)) {
                return Err(Refusal::InvalidArgument);
            }
            let envs = HashMap::from([(VISIBLE.to_owned(), devices.ids.join(","))]);
            Ok(ContainerAllocateResponse { envs })
        };
        let containers = asked.container_requests.into_iter().map(of_container);
        Ok(AllocateResponse {
            container_responses: containers.collect::<Result<_, _>>()?,
        })
    }
}

/// The first that are there, beside those that it must be.
fn prefer(asked: &PreferredAllocationRequest) -> PreferredAllocationResponse {
    let containers = asked.container_requests.iter().map(|container| {
        let mut free: Vec<&String> = container.available.iter().collect();
        free.sort_unstable();
        free.retain(|id| !container.must_include.contains(id));
        let ids = container.must_include.iter().chain(free);
        let size = usize::try_from(container.allocation_size).unwrap_or(0);
        ContainerDevices {
            ids: ids.take(size).cloned().collect(),
        }
    });
    PreferredAllocationResponse {
        container_responses: containers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::ContainerPreferredAllocationRequest;

    fn ids(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn devices() -> Devices {
        Devices(ids("b a c").into_iter().collect())
    }

    #[test]
    fn all_devices_are_listed_and_healthy() {
        let list = devices().list();
        let told: Vec<_> = list.devices.iter().map(|d| (&*d.id, &*d.health)).collect();
        assert_eq!(told, [("a", "Healthy"), ("b", "Healthy"), ("c", "Healthy")]);
    }

    #[test]
    fn a_container_is_told_which_devices_it_has_and_gets_none_that_are_not_there() {
        let allocate = |wanted: &str| {
            let asked = AllocateRequest {
                container_requests: vec![ContainerDevices { ids: ids(wanted) }],
            };
            let answer = devices().allocate(asked)?;
            Ok(answer.container_responses[0].envs[VISIBLE].clone())
        };
        assert_eq!(allocate("c a"), Ok("c,a".to_owned()));
        assert_eq!(allocate("a d"), Err(Refusal::InvalidArgument));
    }

    #[test]
    fn what_must_be_included_is_preferred() {
        let prefer = |allocation_size| {
            let asked = PreferredAllocationRequest {
                container_requests: vec![ContainerPreferredAllocationRequest {
                    available: ids("c b a"),
                    must_include: ids("b"),
                    allocation_size,
                }],
            };
            prefer(&asked).container_responses[0].ids.join(" ")
        };
        assert_eq!([2, 9, 0, -1].map(prefer), ["b a", "b a c", "", ""]);
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let answer = |path: &str| devices().answer(path, &[]).unwrap_err();
        for path in ["/v1beta1.DevicePlugin/Fly", "/"] {
            assert_eq!(answer(path), Refusal::Unimplemented);
        }
        let path = "/v1beta1.DevicePlugin/Allocate";
        assert_eq!(answer(path), Refusal::InvalidArgument);
    }
}
