// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which containers a GPU was given to, by the kubelet's word. Pure.
//!
//! The kubelet names a container by namespace, pod and name; whose uid that is, the list of pods
//! tells. Before Kubernetes 1.34 it also names pods that have ended and not been deleted: whoever
//! asks looks which of the holders still run.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{devices::Device, pod::Pod};

/// A container that a GPU was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its name.
    pub container: String,
    /// Whether all that it has of the GPU are copies, of which others may have one too.
    pub has_copy: bool,
}

/// Namespace, pod and container.
type Name<'a> = (&'a str, &'a str, &'a str);

/// Who has which device, by [`Device::hardware`]. A container comes once for each, however often
/// it is named; a pod that nobody knows has nothing.
pub(super) fn holders<'a>(
    devices: &'a [Device],
    pods: impl Iterator<Item = &'a Arc<Pod>>,
) -> HashMap<String, Vec<Holder>> {
    let mut by_name: HashMap<(&str, &str), Vec<&Arc<Pod>>> = HashMap::new();
    for pod in pods {
        let name = (pod.namespace.as_str(), pod.name.as_str());
        by_name.entry(name).or_default().push(pod);
    }
    let mut holders: HashMap<String, Vec<Holder>> = HashMap::new();
    for (hardware, containers) in claims(devices) {
        for ((namespace, pod, container), has_copy) in containers {
            let pods = by_name.get(&(namespace, pod)).into_iter().flatten();
            let held = pods.map(|pod| Holder {
                pod: Arc::clone(pod),
                container: container.to_owned(),
                has_copy,
            });
            holders.entry(hardware.to_owned()).or_default().extend(held);
        }
    }
    holders.retain(|_, held| !held.is_empty());
    holders
}

/// Whom the kubelet names for each device, and whether all that they have of it are copies.
fn claims(devices: &[Device]) -> HashMap<&str, HashMap<Name<'_>, bool>> {
    let mut claims: HashMap<&str, HashMap<Name<'_>, bool>> = HashMap::new();
    for device in devices {
        let name = (
            device.namespace.as_str(),
            device.pod.as_str(),
            device.container.as_str(),
        );
        match claims.entry(device.hardware()).or_default().entry(name) {
            Entry::Vacant(new) => _ = new.insert(device.is_copy()),
            Entry::Occupied(mut known) => *known.get_mut() &= device.is_copy(),
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, pod: &str, container: &str) -> Device {
        Device {
            id: id.into(),
            resource: "nvidia.com/gpu".into(),
            namespace: "ml".into(),
            pod: pod.into(),
            container: container.into(),
        }
    }

    fn pod(uid: &str, name: &str) -> Arc<Pod> {
        Arc::new(Pod {
            uid: uid.into(),
            namespace: "ml".into(),
            name: name.into(),
            ..Pod::default()
        })
    }

    /// Uid, container and whether it is a copy of each holder of a device.
    fn of<'a>(
        holders: &'a HashMap<String, Vec<Holder>>,
        hardware: &str,
    ) -> Vec<(&'a str, &'a str, bool)> {
        let held = holders.get(hardware).into_iter().flatten();
        let mut told: Vec<_> = held
            .map(|h| (h.pod.uid.as_str(), h.container.as_str(), h.has_copy))
            .collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn a_gpu_is_held_by_the_container_that_it_was_given_to() {
        let pods = [pod("u1", "a"), pod("u2", "b")];
        let devices = [
            device("GPU-1", "a", "main"),
            device("MIG-7", "b", "main"),
            device("0000:03:00.0-slice-2", "b", "main"),
        ];
        let holders = holders(&devices, pods.iter());
        assert_eq!(of(&holders, "GPU-1"), [("u1", "main", false)]);
        assert_eq!(of(&holders, "MIG-7"), [("u2", "main", false)]);
        assert_eq!(of(&holders, "0000:03:00.0"), [("u2", "main", true)]);
        assert!(of(&holders, "GPU-2").is_empty());
    }

    #[test]
    fn a_container_that_is_named_again_and_again_is_one_holder() {
        let pods = [pod("u", "a")];
        let mut devices = vec![device("GPU-1::0", "a", "main"); 3];
        devices.push(device("GPU-1::1", "a", "main"));
        assert_eq!(
            of(&holders(&devices, pods.iter()), "GPU-1"),
            [("u", "main", true)]
        );
        devices.push(device("GPU-1", "a", "main"));
        assert_eq!(
            of(&holders(&devices, pods.iter()), "GPU-1"),
            [("u", "main", false)]
        );
    }

    #[test]
    fn a_pod_that_nobody_knows_holds_nothing_and_two_of_one_name_both_do() {
        let devices = [device("GPU-1", "a", "main"), device("GPU-2", "x", "main")];
        let pods = [pod("u1", "a"), pod("u2", "a")];
        let holders = holders(&devices, pods.iter());
        assert_eq!(
            of(&holders, "GPU-1"),
            [("u1", "main", false), ("u2", "main", false)]
        );
        assert_eq!(holders.len(), 1);
    }

    #[test]
    fn a_hundred_thousand_copies_of_one_gpu_are_told_apart_at_once() {
        let pods = [pod("u", "a")];
        let devices: Vec<_> = (0..100_000)
            .map(|n| device(&format!("GPU-1::{n}"), "a", &n.to_string()))
            .collect();
        assert_eq!(holders(&devices, pods.iter())["GPU-1"].len(), 100_000);
    }

    #[test]
    fn ids_that_are_none_are_held_as_they_are_named() {
        let pods = [pod("u", "a")];
        for id in ["", "::", "::3", "\n", "GPU-\u{1f980}::x", "-slice-"] {
            let devices = [device(id, "a", "")];
            assert_eq!(holders(&devices, pods.iter()).len(), 1, "{id:?}");
        }
    }
}
