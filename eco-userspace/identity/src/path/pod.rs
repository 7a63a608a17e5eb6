// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kubernetes pods, by the kubelet's cgroups.
//!
//! The kubelet makes `kubepods/<qos>/pod<uid>` with the cgroupfs driver, and
//! `kubepods.slice/kubepods-<qos>.slice/kubepods-<qos>-pod<uid with underscores>.slice` with
//! systemd's; pods of the class Guaranteed stand beside the classes. What `--cgroup-root` adds
//! stands in front (`kubelet.slice/kubelet-kubepods.slice` in kind).

/// A pod, as its cgroup tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodHome {
    /// Its uid as the API writes it. A static pod's is a hash of its manifest, not that of the
    /// mirror pod in the API.
    pub uid: String,
    /// Its class.
    pub qos: Qos,
    /// The id of the pod's container; `None` in the pod's own cgroup.
    pub container: Option<String>,
}

/// A pod's quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Requests are limits.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// No requests.
    BestEffort,
}

impl Qos {
    /// As `status.qosClass` of the API has it, in lower case.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Guaranteed => "guaranteed",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
        }
    }

    fn from_label(label: &str) -> Option<Self> {
        [Self::Guaranteed, Self::Burstable, Self::BestEffort]
            .into_iter()
            .find(|qos| qos.label() == label)
    }
}

/// The longest uid that is believed; true ones have 36 or 32 characters.
const LONGEST_UID: usize = 64;

/// Whether pods stand below this part.
pub(super) fn is_root(part: &str) -> bool {
    let stem = part.strip_suffix(".slice").unwrap_or(part);
    stem == "kubepods"
        || stem.ends_with("-kubepods")
        // A pod's slice stands alone where runc took it for a path, or in a namespace.
        || slice(part).is_some()
}

/// The pod that `part` is for, if it is for one.
pub(super) fn of_part(part: &str, parent: &str) -> Option<PodHome> {
    let (qos, uid) = slice(part).or_else(|| {
        let uid = part.strip_prefix("pod")?;
        let qos = Qos::from_label(parent).unwrap_or(Qos::Guaranteed);
        Some((qos, uid))
    })?;
    let is_uid = (1..=LONGEST_UID).contains(&uid.len())
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    is_uid.then(|| PodHome {
        uid: uid.replace('_', "-"),
        qos,
        container: None,
    })
}

/// `[<root>-]kubepods[-<qos>]-pod<uid>.slice`, with or without what follows in a colon.
fn slice(part: &str) -> Option<(Qos, &str)> {
    let name = part.split(':').next()?.strip_suffix(".slice")?;
    let (before, uid) = name.rsplit_once("-pod")?;
    let (root, qos) = match before.rsplit_once('-') {
        Some((root, label)) if root.ends_with("kubepods") => (root, Qos::from_label(label)?),
        _ => (before, Qos::Guaranteed),
    };
    let is_root = root == "kubepods" || root.ends_with("-kubepods");
    is_root.then_some((qos, uid))
}
