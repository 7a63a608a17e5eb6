// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a cgroup's path says about who lives there.
//!
//! Pure: a path in, names out. Paths are read from left to right; of each kind the innermost
//! counts, as a container within a container is the one that runs. Which shapes are known, by
//! runtime and version, stands in `tests/cgroup-paths.toml`.
//!
//! A user may make cgroups of any name below their own service manager. So within
//! `user.slice` no pod and no Slurm job is believed: the joules of one user would go under the
//! name of another's job. (A container there is the user's own, and is believed.)

mod container;
mod machine;
mod pod;
mod slurm;
mod systemd;

pub use self::{
    container::{Container, Runtime},
    machine::{Hypervisor, Machine},
    pod::{PodHome, Qos},
    slurm::SlurmHome,
};

/// Who lives in a cgroup: at most one of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Home {
    /// The innermost container.
    pub container: Option<Container>,
    /// The Kubernetes pod.
    pub pod: Option<PodHome>,
    /// The Slurm job, and the step within it.
    pub slurm: Option<SlurmHome>,
    /// The virtual machine.
    pub machine: Option<Machine>,
    /// The systemd service or scope of the host, or of a user's own manager: `ssh.service`.
    pub systemd: Option<String>,
    /// The slice around it: `system.slice`.
    pub slice: Option<String>,
    /// The user whose slice, manager or Slurm job it is.
    pub user: Option<u32>,
    /// The process id of the `eco run` that made the cgroup.
    pub eco_run: Option<u32>,
    /// The path, where it names nothing of the above: a cgroup that nobody knows still has a
    /// name. `None` for the root.
    pub path: Option<String>,
}

impl Home {
    /// Whether no kind of unit lives here that eco has a name for.
    fn is_nameless(&self) -> bool {
        let Self {
            container,
            pod,
            slurm,
            machine,
            systemd,
            slice: _,
            user,
            eco_run,
            path: _,
        } = self;
        container.is_none()
            && pod.is_none()
            && slurm.is_none()
            && machine.is_none()
            && systemd.is_none()
            && user.is_none()
            && eco_run.is_none()
    }

    /// Whether what follows is within a container, a pod or a machine: its systemd units are
    /// its own, not the host's.
    fn is_enclosed(&self) -> bool {
        self.container.is_some() || self.pod.is_some() || self.machine.is_some()
    }
}

/// What the kernel appends to the path of a cgroup that was removed under its last processes.
const DELETED: &str = " (deleted)";

/// What `path` (below the hierarchy's mount, `/` the root) says.
///
/// An agent in a cgroup namespace of its own sees the cgroups beside it under leading `..`;
/// these are passed over. Any other `..` is nothing that the kernel writes, and then the path
/// is a name and no more.
#[must_use]
pub fn classify(path: &str) -> Home {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    let mut walk = Walk::default();
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    for part in parts.skip_while(|part| *part == "..") {
        if part == ".." {
            walk = Walk::default();
            break;
        }
        walk.step(part);
    }
    let mut home = walk.home;
    if home.is_nameless() && path.bytes().any(|byte| byte != b'/') {
        home.path = Some(path.to_owned());
    }
    home
}

/// A walk down a path.
#[derive(Default)]
struct Walk<'a> {
    home: Home,
    /// The part before this one, and the one before that.
    parents: [&'a str; 2],
    /// Below the kubelet's root cgroup.
    in_kubepods: bool,
    /// Below `user.slice` of the host.
    in_user_slice: bool,
    slurm: slurm::Walk,
}

impl<'a> Walk<'a> {
    fn step(&mut self, part: &'a str) {
        let enclosed = self.home.is_enclosed();
        self.in_user_slice |= part == "user.slice" && !enclosed;
        self.in_kubepods |= pod::is_root(part) && !self.in_user_slice;
        let [parent, _] = self.parents;
        if let Some(pod) = pod::of_part(part, parent).filter(|_| self.in_kubepods) {
            self.home.pod = Some(pod);
            // The container around a whole node (kind, k3d) is not the pod's.
            self.home.container = None;
        }
        if !self.in_user_slice {
            self.step_slurm(part);
        }
        if let Some(container) = container::of_part(part, self.parents) {
            if let Some(pod) = &mut self.home.pod {
                // What runs within the pod's container may make containers of its own.
                pod.container.get_or_insert_with(|| container.id.clone());
            }
            self.home.container = Some(container);
        } else if let Some(machine) = machine::of_part(part, self.parents) {
            self.home.machine = Some(machine);
        }
        if let Some(number) = part.strip_prefix("eco-run-") {
            self.home.eco_run = number.parse().ok().or(self.home.eco_run);
        }
        if !enclosed && self.home.pod.is_none() {
            self.step_systemd(part);
        }
        self.parents = [part, parent];
    }

    fn step_slurm(&mut self, part: &str) {
        self.slurm.step(part);
        if let Some(slurm) = self.slurm.found() {
            self.home.user = slurm.user.or(self.home.user);
            self.home.slurm = Some(slurm.clone());
        }
    }

    fn step_systemd(&mut self, part: &str) {
        if systemd::is_unit(part) {
            // A scope that has a container's id for a name is the container, and no more.
            let container = self.home.container.as_ref();
            if container.is_none_or(|container| container.runtime.has_names()) {
                self.home.systemd = Some(systemd::unescape(part));
            }
        } else if part.ends_with(".slice") && !self.in_kubepods {
            self.home.slice = Some(systemd::unescape(part));
        }
        self.home.user = systemd::user(part).or(self.home.user);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_root_is_nobodys_home() {
        for path in ["", "/", "//", "/ (deleted)"] {
            assert_eq!(classify(path), Home::default(), "{path:?}");
        }
    }

    #[test]
    fn a_user_cannot_take_the_name_of_a_pod_or_a_job() {
        let own = "/user.slice/user-1000.slice/user@1000.service/app.slice";
        let uid = "0f1e5a0c-1111-2222-3333-444455556666";
        let pod = classify(&format!("{own}/kubepods/burstable/pod{uid}/x"));
        assert_eq!((pod.pod, pod.user), (None, Some(1000)));
        let job = classify(&format!("{own}/slurm/uid_0/job_7/step_0"));
        assert_eq!((job.slurm, job.user), (None, Some(1000)));
    }

    #[test]
    fn a_container_made_within_a_pods_container_leaves_that_its_name() {
        let outer = "a".repeat(64);
        let inner = "b".repeat(64);
        let uid = "0f1e5a0c-1111-2222-3333-444455556666";
        let home = classify(&format!("/kubepods/pod{uid}/{outer}/docker/{inner}"));
        assert_eq!(home.pod.unwrap().container, Some(outer));
        assert_eq!(home.container.unwrap().id, inner);
    }

    #[test]
    fn a_unit_within_a_container_is_not_the_hosts() {
        let home = classify("/lxc.payload.web/system.slice/ssh.service");
        assert_eq!(home.systemd, None);
        assert_eq!(home.container.unwrap().id, "web");
    }

    #[test]
    fn dots_lead_nowhere_but_up_at_the_start() {
        let id = "c".repeat(64);
        let beside = classify(&format!("/../../docker/{id}"));
        assert_eq!(beside.container.unwrap().id, id);
        let path = format!("/docker/{id}/../../system.slice/ssh.service");
        let odd = classify(&path);
        assert_eq!(odd.path.as_deref(), Some(path.as_str()));
        assert_eq!((odd.container, odd.systemd), (None, None));
    }

    proptest! {
        #[test]
        fn no_path_panics_and_every_path_but_the_root_has_a_name(path in "\\PC*") {
            let home = classify(&path);
            let is_root = path.strip_suffix(DELETED).unwrap_or(&path).bytes().all(|b| b == b'/');
            prop_assert_eq!(home == Home::default(), is_root);
        }

        #[test]
        fn names_that_nearly_are_names_never_panic(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "kubepods", "kubepods.slice", "pod", "-pod.slice", "kubepods-pod-.slice", ":",
                    "::", ".scope", "-.scope", "docker-.scope", "lxc", "lxc.payload.", "qemu",
                    "libvirt", ".libvirt-qemu", "qemu--.libvirt-qemu", "machine-.scope",
                    "machine.slice", "machine-qemu\\x2d.scope", "slurm", "slurm_", "uid_", "job_",
                    "job_99999999999999999999", "step_", "task_-1", "slurmstepd.scope",
                    "_slurmstepd.scope", "user-.slice", "user-4294967296.slice", "user@.service",
                    "\\x", "\\x2.service", "..", "a\u{fffd}\\xff.service", "ecs", "eco-run-",
                    "eco-run--1", "buildkit", "kata_", "\n", "é\\x2dé.scope", "machine-lxc-1-.scope",
                ]),
                0..8,
            )
        ) {
            let path = format!("/{}", parts.join("/"));
            let home = classify(&path);
            if let Some(container) = home.container {
                prop_assert!(!container.id.is_empty() && !container.id.contains('/'));
            }
            if let Some(pod) = home.pod {
                prop_assert!(!pod.uid.is_empty());
            }
            if let Some(machine) = home.machine {
                prop_assert!(!machine.name.is_empty());
            }
        }
    }
}
