// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a cgroup's path says about who lives there.

use serde::{Deserialize, Serialize};

/// A kind of unit that a cgroup's path can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container, by its runtime's id.
    Container,
    /// A systemd service or scope.
    Systemd,
}

impl Kind {
    /// The value of the `kind` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Systemd => "systemd",
        }
    }
}

/// Who lives in a cgroup: at most one of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// The container's full id.
    pub container: Option<String>,
    /// The systemd unit, `ssh.service`.
    pub systemd: Option<String>,
}

/// Length of a container id in hexadecimal: Docker, containerd, CRI-O and Podman all use it.
const CONTAINER_ID_LEN: usize = 64;

/// What `path` (below the hierarchy's mount, `/` the root) says.
#[must_use]
pub fn classify(path: &str) -> Home {
    let mut home = Home::default();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // The innermost of each kind: a container within a container is the one that runs.
        if let Some(id) = container_id(part) {
            home.container = Some(id.to_owned());
        } else if is_unit(part) {
            home.systemd = Some(unescape(part));
        }
    }
    home
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>`, `libpod-<id>.scope`, `<id>`.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    // A monitor process beside the container, not the container.
    if part.starts_with("crio-conmon-") || part.starts_with("libpod-conmon-") {
        return None;
    }
    let id = part.rsplit_once('-').map_or(part, |(_, id)| id);
    // containerd's CRI with the systemd driver: `cri-containerd:<id>` inside a slice name.
    let id = id.rsplit_once(':').map_or(id, |(_, id)| id);
    let whole = id.len() == CONTAINER_ID_LEN
        && id
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    whole.then_some(id)
}

/// A service or scope of systemd's. Slices only group them; `init.scope` is systemd itself.
fn is_unit(part: &str) -> bool {
    part.ends_with(".service") || part.ends_with(".scope")
}

/// systemd writes `-` and other bytes in a unit's name as `\x2d`.
fn unescape(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let code = (first == b'\\' && rest.first() == Some(&b'x'))
            .then(|| std::str::from_utf8(rest.get(1..3)?).ok())
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                bytes = &rest[3..];
            }
            None => {
                out.push(first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4e8ccd7a3bb9cd1fe6bb4bd2d2a0a2f5a6bd9d8ed2a4b8a3e9d7c6b5a4f3e2d1";

    #[test]
    fn a_container_is_found_under_every_runtime() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods/burstable/pod0f1e/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:{ID}"
            ),
        ] {
            assert_eq!(classify(&path).container.as_deref(), Some(ID), "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for path in [
            "/".to_owned(),
            "/docker".to_owned(),
            format!("/docker/{}", &ID[1..]),
            format!("/docker/{}", ID.to_uppercase()),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
        ] {
            assert_eq!(classify(&path).container, None, "{path}");
        }
    }

    #[test]
    fn the_innermost_unit_counts_and_its_name_is_plain() {
        let home =
            classify("/user.slice/user-1000.slice/user@1000.service/app.slice/a\\x2db.service");
        assert_eq!(home.systemd.as_deref(), Some("a-b.service"));
        assert_eq!(
            classify("/system.slice/ssh.service").systemd.as_deref(),
            Some("ssh.service")
        );
        assert_eq!(classify("/user.slice").systemd, None);
        assert_eq!(
            classify("/x\\x.service").systemd.as_deref(),
            Some("x\\x.service")
        );
    }
}
