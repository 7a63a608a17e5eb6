// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which pod a uid is: names, owners, jobs and requests, from the kubelet or the API server.
//!
//! Whoever meets a pod's cgroup asks the [`PodDirectory`], which answers from memory. What it
//! does not know it asks for on a thread of its own: the kubelet's list of its pods, at once and
//! then every half a minute; or the API server's, which is watched. Nothing is asked before the
//! first pod is met, so a machine without Kubernetes pays nothing.
//!
//! This is a small client over `ureq` and `rustls`, which the agent links already, and not the
//! `kube` crate: one list and one watch of one kind do not need its runtime, schema and
//! middleware in a privileged program.

mod allocation;
mod devices;
mod owner;
mod pod;
mod quantity;
mod refresh;
mod register;
mod service;
mod watch;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, Once, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::Advised;

pub use self::{
    allocation::Holder,
    devices::{Device, DevicesError},
    owner::Owner,
    pod::{Container, Pod, Requests},
    register::Register,
    service::Trouble,
};

/// The labels that are kept of a pod unless others are configured, as a list with commas: the
/// recommended ones (kubernetes.io, Recommended Labels), which have few values.
pub const DEFAULT_LABELS: &str = "app,app.kubernetes.io/name,app.kubernetes.io/instance,\
                                  app.kubernetes.io/component,app.kubernetes.io/part-of";

/// So long what is not known is asked for again; then it is not known.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Whom to ask about pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The kubelet; where it refuses and there is a way to it, the API server.
    #[default]
    Auto,
    /// The kubelet.
    Kubelet,
    /// The API server.
    Api,
    /// Nobody: pods are known by uid.
    Off,
}

impl Source {
    /// All that can be configured.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Kubelet, Self::Api, Self::Off];

    /// As the configuration calls it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kubelet => "kubelet",
            Self::Api => "api",
            Self::Off => "off",
        }
    }
}

/// How pods are looked up. What is `None` is found where a pod or a node has it.
#[derive(Clone, Debug, Default)]
pub struct KubernetesConfig {
    /// Whom to ask.
    pub source: Source,
    /// `https://host:port` of the kubelet or the API server.
    pub url: Option<String>,
    /// A file with a bearer token.
    pub token_file: Option<PathBuf>,
    /// A client certificate in PEM, instead of a token.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signed the service's certificate, or that certificate itself, in PEM.
    pub ca: Option<PathBuf>,
    /// Believe any certificate.
    pub insecure: bool,
    /// The node's name in the API.
    pub node: String,
    /// The labels to keep.
    pub labels: Vec<String>,
    /// The kubelet's pod-resources socket.
    pub pod_resources: PathBuf,
}

/// What to tell people of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryStatus {
    /// Who is asked; empty as long as nobody is.
    pub source: String,
    /// How many pods are on the node.
    pub pods: usize,
    /// What went wrong last, and what to do about it.
    pub troubles: Vec<Advised>,
}

/// Which pods there are.
///
/// Reading it takes a lock that the thread which fills it holds only to enter what changed: a
/// new pod is some microseconds, and never waits for the network. (A snapshot that is swapped
/// would be copied whole at each of a thousand changes a minute.)
pub struct PodDirectory {
    config: KubernetesConfig,
    shared: Arc<Shared>,
    start: Once,
}

/// What the directory and its thread share.
#[derive(Default)]
struct Shared {
    register: RwLock<Register>,
    generation: AtomicU64,
    wanted: Mutex<Wanted>,
    bell: Condvar,
    status: Mutex<DirectoryStatus>,
}

/// What somebody met and the register does not know.
#[derive(Default)]
struct Wanted {
    /// Uids and container ids, since when.
    since: HashMap<String, Instant>,
    /// Something was added since it was asked last.
    is_fresh: bool,
}

/// More unknown ones are not kept: those that come after are found at the next refresh.
const MOST_WANTED: usize = 4096;

impl PodDirectory {
    /// A directory that has asked nobody yet.
    #[must_use]
    pub fn new(config: KubernetesConfig) -> Self {
        Self {
            config,
            shared: Arc::default(),
            start: Once::new(),
        }
    }

    /// Whether it ever asks anybody.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.config.source != Source::Off
    }

    /// What is known now.
    pub fn register(&self) -> RwLockReadGuard<'_, Register> {
        self.shared
            .register
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that is another one whenever more is known.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Has the pod of `uid`, or its container, looked up. The first time this starts the thread.
    pub fn want(&self, uid: &str, container: Option<&str>) {
        if !self.is_on() {
            return;
        }
        self.start.call_once(|| {
            let (config, shared) = (self.config.clone(), Arc::clone(&self.shared));
            // Without a thread pods go by their uids, as without a kubelet.
            let _ = thread::Builder::new()
                .name("eco-pods".into())
                .spawn(move || refresh::run(&config, &shared));
        });
        let mut wanted = lock(&self.shared.wanted);
        if wanted.since.len() < MOST_WANTED {
            let key = container.unwrap_or(uid).to_owned();
            wanted.since.entry(key).or_insert_with(Instant::now);
        }
        wanted.is_fresh = true;
        self.shared.bell.notify_one();
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> DirectoryStatus {
        let mut status = lock(&self.shared.status).clone();
        status.pods = self.register().living();
        status
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
