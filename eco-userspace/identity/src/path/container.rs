// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Containers, by the cgroup that each runtime makes for them.

use super::systemd::unescape;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// Whose.
    pub runtime: Runtime,
    /// Its id; for LXC and nspawn, which have none, its name.
    pub id: String,
}

/// Who runs a container, as far as the path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, by CRI or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// Kata Containers: the sandbox, which is a virtual machine.
    Kata,
    /// LXC, LXD, Incus, Proxmox.
    Lxc,
    /// LXC by libvirt.
    LibvirtLxc,
    /// systemd-nspawn, or whoever else registers with systemd-machined.
    Nspawn,
    /// BuildKit, in Docker.
    BuildKit,
    /// AWS ECS on Fargate.
    Fargate,
    /// An id of the usual form, in a cgroup that does not say whose: the cgroupfs driver.
    Unknown,
}

impl Runtime {
    /// A name for people and labels; empty where the path does not say.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Kata => "kata",
            Self::Lxc => "lxc",
            Self::LibvirtLxc => "libvirt-lxc",
            Self::Nspawn => "nspawn",
            Self::BuildKit => "buildkit",
            Self::Fargate => "fargate",
            Self::Unknown => "",
        }
    }

    /// Whether its containers have names of their owners' choice, and no ids.
    pub(super) fn has_names(self) -> bool {
        matches!(self, Self::Lxc | Self::LibvirtLxc | Self::Nspawn)
    }
}

/// Length of a container id in hexadecimal digits: Docker, containerd's CRI, CRI-O and Podman
/// all make 256 random bits.
const ID_LEN: usize = 64;

/// The container that `part` is for, if it is for one; its parents stand above it.
pub(super) fn of_part(part: &str, [parent, grandparent]: [&str; 2]) -> Option<Container> {
    let named = |runtime, id: &str| Container {
        runtime,
        id: id.to_owned(),
    };
    by_id(part, parent, grandparent)
        .map(|(runtime, id)| named(runtime, id))
        .or_else(|| {
            let (runtime, name) = by_name(part, parent, grandparent)?;
            (!name.is_empty()).then(|| named(runtime, &unescape(name)))
        })
}

/// `<id>`, `<prefix>-<id>.scope`, `<prefix>-<id>`, `<slice>:<prefix>:<id>`.
fn by_id<'a>(part: &'a str, parent: &str, grandparent: &str) -> Option<(Runtime, &'a str)> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = stem
        .rsplit_once([':', '-'])
        .or_else(|| stem.split_once("kata_").map(|(_, id)| ("kata", id)))
        .unwrap_or(("", stem));
    if !is_hex(id, ID_LEN) {
        return None;
    }
    // What `runc` was given where it expected a path, without SystemdCgroup:
    // `kubepods-burstable-pod<uid>.slice:cri-containerd:<id>`.
    let prefix = prefix.rsplit_once(':').map_or(prefix, |(_, prefix)| prefix);
    let runtime = match prefix {
        // The monitor process beside the container, not the container.
        "crio-conmon" | "libpod-conmon" => return None,
        "docker" => Runtime::Docker,
        "cri-containerd" | "containerd" | "nerdctl" => Runtime::Containerd,
        "crio" => Runtime::CriO,
        "libpod" | "libpod-payload" => Runtime::Podman,
        "kata" => Runtime::Kata,
        "" => match (parent, grandparent) {
            // Podman's pod, which holds containers and is none.
            ("libpod_parent", _) => return None,
            ("docker" | "actions_job", _) => Runtime::Docker,
            ("kata_overhead", _) => Runtime::Kata,
            _ => Runtime::Unknown,
        },
        _ => Runtime::Unknown,
    };
    Some((runtime, id))
}

/// Runtimes whose containers have names, or ids of another form.
fn by_name<'a>(part: &'a str, parent: &str, grandparent: &str) -> Option<(Runtime, &'a str)> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some((Runtime::Lxc, name));
    }
    if let Some(name) = part.strip_prefix("systemd-nspawn@") {
        return Some((Runtime::Nspawn, name.strip_suffix(".service")?));
    }
    if let Some(name) = part.strip_suffix(".libvirt-lxc") {
        return Some((Runtime::LibvirtLxc, without_number(name, "lxc-")));
    }
    if let Some(name) = part.strip_prefix("machine-") {
        return registered(name.strip_suffix(".scope")?);
    }
    match (parent, grandparent) {
        ("lxc" | "lxc.payload", grandparent) if grandparent != "libvirt" => {
            Some((Runtime::Lxc, part))
        }
        ("lxc", "libvirt") => Some((Runtime::LibvirtLxc, part)),
        ("buildkit", "docker") => Some((Runtime::BuildKit, part)),
        // `/ecs/<task>/<task>-<number>`
        (task, "ecs") => {
            let number = part.strip_prefix(task)?.strip_prefix('-')?;
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            is_number.then_some((Runtime::Fargate, part))
        }
        _ => None,
    }
}

/// `machine-<name>.scope` of systemd-machined. libvirt's virtual machines are not containers.
fn registered(name: &str) -> Option<(Runtime, &str)> {
    if super::machine::of_scope(name).is_some() {
        return None;
    }
    match name.strip_prefix("lxc\\x2d") {
        Some(rest) => {
            let (number, name) = rest.split_once("\\x2d").unwrap_or(("", rest));
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            Some((Runtime::LibvirtLxc, if is_number { name } else { rest }))
        }
        None => Some((Runtime::Nspawn, name)),
    }
}

/// libvirt has put `<driver>-<number>-` before a name since 1.3.
pub(super) fn without_number<'a>(name: &'a str, driver: &str) -> &'a str {
    name.strip_prefix(driver)
        .and_then(|rest| rest.split_once('-'))
        .filter(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        .map_or(name, |(_, name)| name)
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        let id = "4e8ccd7a3bb9cd1fe6bb4bd2d2a0a2f5a6bd9d8ed2a4b8a3e9d7c6b5a4f3e2d1";
        for part in [
            "docker".to_owned(),
            id[1..].to_owned(),
            id.to_uppercase(),
            format!("docker-{id}.scope.mount"),
            format!("libpod-conmon-{id}.scope"),
            "lxc.payload.".to_owned(),
            "lxc.monitor.web".to_owned(),
            "systemd-nspawn@.service".to_owned(),
            "machine-.scope".to_owned(),
        ] {
            assert_eq!(of_part(&part, ["machine.slice", ""]), None, "{part}");
        }
    }
}
