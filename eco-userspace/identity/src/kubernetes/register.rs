// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pods that are known, by uid and by container: the living, and the dead for a while.
//!
//! No clock and no I/O: whoever fills it says what time it is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    allocation::{self, Holder},
    devices::Device,
    pod::{Container, Pod},
};

/// How long a pod is remembered after it was deleted: its last joules may be scraped late.
const REMEMBERED: Duration = Duration::from_secs(600);

/// At most so many runs of one container are remembered: one that crashes at once restarts
/// every five minutes, for ever.
const MOST_RUNS: usize = 16;

/// Pods by uid and by container id.
#[derive(Debug, Default)]
pub struct Register {
    pods: HashMap<String, Known>,
    /// Uids by other uids.
    aliases: HashMap<String, String>,
    /// Uid, and the container's place in the pod.
    containers: HashMap<String, (String, usize)>,
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Known {
    pod: Arc<Pod>,
    /// Since when it is gone.
    gone: Option<Duration>,
}

impl Register {
    /// A pod, by the uid in the API or in its cgroup.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        let uid = self.aliases.get(uid).map_or(uid, String::as_str);
        self.pods.get(uid).map(|known| &known.pod)
    }

    /// A container and its pod, by the runtime's id.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<(&Arc<Pod>, &Container)> {
        let (uid, at) = self.containers.get(id)?;
        let pod = &self.pods.get(uid)?.pod;
        Some((pod, pod.containers.get(*at)?))
    }

    /// All pods, those that are gone too.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values().map(|known| &known.pod)
    }

    /// How many pods are not gone.
    #[must_use]
    pub fn living(&self) -> usize {
        self.pods
            .values()
            .filter(|known| known.gone.is_none())
            .count()
    }

    /// Who has which device, as the kubelet says.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Which containers of pods that are not gone each device was given to, by
    /// [`Device::hardware`].
    #[must_use]
    pub fn holders(&self) -> HashMap<String, Vec<Holder>> {
        let living = self.pods.values().filter(|known| known.gone.is_none());
        allocation::holders(&self.devices, living.map(|known| &known.pod))
    }

    /// Takes devices in; whether they are others than before.
    pub(super) fn set_devices(&mut self, mut devices: Vec<Device>) -> bool {
        // The kubelet tells them in another order each time.
        devices.sort_unstable();
        let is_new = devices != self.devices;
        self.devices = devices;
        is_new
    }

    /// Takes a pod in; whether anything is new of it.
    pub(super) fn put(&mut self, mut pod: Pod) -> bool {
        if let Some(known) = self.pods.get_mut(&pod.uid) {
            for id in keep_runs(&known.pod, &mut pod) {
                self.containers.remove(&id);
            }
            known.gone = None;
            if *known.pod == pod {
                return false;
            }
            known.pod = Arc::new(pod.clone());
        } else {
            let known = Known {
                pod: Arc::new(pod.clone()),
                gone: None,
            };
            self.pods.insert(pod.uid.clone(), known);
        }
        for alias in &pod.aliases {
            self.aliases.insert(alias.clone(), pod.uid.clone());
        }
        for (at, container) in pod.containers.iter().enumerate() {
            for id in &container.ids {
                self.containers.insert(id.clone(), (pod.uid.clone(), at));
            }
        }
        true
    }

    /// Notes that a pod was deleted.
    pub(super) fn leave(&mut self, uid: &str, now: Duration) {
        if let Some(known) = self.pods.get_mut(uid) {
            known.gone.get_or_insert(now);
        }
    }

    /// Notes that no pods are there but those of `uids`.
    pub(super) fn leave_all_but(&mut self, uids: &HashSet<String>, now: Duration) {
        for (uid, known) in &mut self.pods {
            if !uids.contains(uid) {
                known.gone.get_or_insert(now);
            }
        }
    }

    /// Forgets those that are gone for long.
    pub(super) fn forget(&mut self, now: Duration) {
        let before = self.pods.len();
        self.pods.retain(|_, known| {
            known
                .gone
                .is_none_or(|gone| now.saturating_sub(gone) < REMEMBERED)
        });
        if self.pods.len() < before {
            let pods = &self.pods;
            self.aliases.retain(|_, uid| pods.contains_key(uid));
            self.containers.retain(|_, (uid, _)| pods.contains_key(uid));
        }
    }
}

/// The API tells the last two runs of a container; those before them may yet be charged. Gives
/// the ids of those that are too many.
fn keep_runs(earlier: &Pod, pod: &mut Pod) -> Vec<String> {
    let mut dropped = Vec::new();
    for container in &mut pod.containers {
        let mut known = earlier.containers.iter();
        let Some(known) = known.find(|known| known.name == container.name) else {
            continue;
        };
        let mut ids = known.ids.clone();
        ids.retain(|id| !container.ids.contains(id));
        ids.append(&mut container.ids);
        let surplus = ids.len().saturating_sub(MOST_RUNS);
        container.ids = ids.split_off(surplus);
        dropped.append(&mut ids);
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, name: &str, ids: &[&str]) -> Pod {
        Pod {
            uid: uid.into(),
            namespace: "n".into(),
            name: name.into(),
            containers: vec![Container {
                name: "main".into(),
                ids: ids.iter().map(|id| (*id).to_owned()).collect(),
                ..Container::default()
            }],
            ..Pod::default()
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_dead_pod_keeps_its_name_for_ten_minutes() {
        let mut register = Register::default();
        register.put(pod("u", "web", &["c"]));
        register.leave("u", s(10));
        register.leave("u", s(500));
        register.forget(s(609));
        assert_eq!(register.pod("u").unwrap().name, "web");
        assert_eq!(register.container("c").unwrap().0.name, "web");
        assert_eq!(register.living(), 0);
        register.forget(s(610));
        assert!(register.pod("u").is_none() && register.container("c").is_none());
        assert!(register.containers.is_empty());
    }

    #[test]
    fn two_pods_of_one_name_stay_apart() {
        let mut register = Register::default();
        register.put(pod("u1", "web", &["c1"]));
        register.leave_all_but(&HashSet::new(), s(1));
        register.put(pod("u2", "web", &["c2"]));
        assert_eq!(register.container("c1").unwrap().0.uid, "u1");
        assert_eq!(register.container("c2").unwrap().0.uid, "u2");
        assert_eq!(register.living(), 1);
    }

    #[test]
    fn the_runs_of_a_container_that_restarts_for_ever_are_bounded() {
        let mut register = Register::default();
        for run in 0..100 {
            let ids = [run, run + 1].map(|run| run.to_string());
            assert!(register.put(pod("u", "web", &[&ids[0], &ids[1]])));
        }
        let ids = &register.pod("u").unwrap().containers[0].ids;
        assert_eq!(ids.len(), MOST_RUNS);
        assert_eq!(ids.last().unwrap(), "100");
        assert_eq!(ids[MOST_RUNS - 2], "99");
        assert_eq!(register.containers.len(), MOST_RUNS);
    }

    #[test]
    fn what_is_told_again_is_nothing_new() {
        let mut register = Register::default();
        assert!(register.put(pod("u", "web", &["c"])));
        assert!(!register.put(pod("u", "web", &["c"])));
        assert!(register.put(pod("u", "web", &["c", "d"])));
    }
}
