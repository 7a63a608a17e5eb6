// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that fills the register.

use std::{
    collections::HashSet,
    env,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLockWriteGuard, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use eco_https::{ClientIdentity, Options, Trust};

use crate::Advised;

use super::{
    KubernetesConfig, PATIENCE, Register, Shared, Source, devices, lock,
    pod::{Pod, PodList},
    service::{Service, Trouble},
    watch::{Change, Watcher},
};

/// Pods change without a new cgroup, too.
const PERIOD: Duration = Duration::from_secs(30);

/// A burst of new pods is one question.
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// What stays unknown (a pod's sandbox always does) is asked for less and less often.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// So many times longer than asking took is not asked again: a tenth of one CPU at most, the
/// kubelet's and eco's, however many pods come and go.
const REST: u32 = 10;

/// A service that gives no answer is asked again after this long, and each time after twice
/// that, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// For one question.
const DEADLINE: Duration = Duration::from_secs(10);

/// The kubelet's authenticated port.
const KUBELET: &str = "https://127.0.0.1:10250";

/// What the kubelet made for itself if nobody gave it a certificate.
const KUBELET_CERTIFICATE: &str = "/var/lib/kubelet/pki/kubelet.crt";

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Fills `shared` for ever.
pub(super) fn run(config: &KubernetesConfig, shared: &Shared) {
    let filler = Filler {
        config,
        shared,
        begun: Instant::now(),
    };
    let has_api = config.url.is_none() && api_url().is_some();
    match config.source {
        Source::Off => {}
        Source::Kubelet => filler.poll(false),
        Source::Api => filler.watch(false),
        Source::Auto => loop {
            filler.poll(has_api);
            filler.watch(true);
            thread::sleep(LONGEST_PAUSE);
        },
    }
}

struct Filler<'a> {
    config: &'a KubernetesConfig,
    shared: &'a Shared,
    begun: Instant,
}

impl Filler<'_> {
    /// Asks the kubelet for its pods again and again; until it fails, if there is another way.
    fn poll(&self, gives_up: bool) {
        let url = self.config.url.as_deref().unwrap_or(KUBELET);
        let place = format!("kubelet {url}");
        self.enter(&place);
        let mut service = None;
        let mut pace = Pace::default();
        loop {
            let asked = Instant::now();
            match self.poll_once(url, &mut service) {
                Ok(()) => {
                    self.clear(&place);
                    pace.succeeded(asked.elapsed(), self.settle());
                }
                Err(trouble) => {
                    self.report(&place, &trouble);
                    // Certificates may be new by now.
                    service = None;
                    if gives_up {
                        return;
                    }
                    pace.failed(&trouble);
                }
            }
            self.wait(asked, &mut pace);
        }
    }

    fn poll_once(&self, url: &str, service: &mut Option<Service>) -> Result<(), Trouble> {
        let service = match service {
            Some(service) => service,
            None => service.insert(self.service(url, Path::new(KUBELET_CERTIFICATE))?),
        };
        let list: PodList = service.json("/pods")?;
        let labels = &self.config.labels;
        let pods = list.items.into_iter().filter_map(|pod| pod.keep(labels));
        self.replace(pods.collect());
        Ok(())
    }

    /// Watches the API server's pods of this node; until it fails, if there is another way.
    fn watch(&self, gives_up: bool) {
        let Some(url) = self.config.url.clone().or_else(api_url) else {
            let place = "API server";
            self.enter(place);
            self.tell(Advised {
                place: place.into(),
                what: "nothing says where it is".into(),
                advice: "Set kubernetes.url.".into(),
            });
            return;
        };
        let place = format!("API server {url}");
        self.enter(&place);
        let mut pace = Pace::default();
        loop {
            match self.watch_once(&url, &place) {
                Ok(()) | Err(Trouble::Gone) => pace = Pace::default(),
                Err(trouble) => {
                    self.report(&place, &trouble);
                    if gives_up {
                        return;
                    }
                    pace.failed(&trouble);
                }
            }
            thread::sleep(pace.gap);
        }
    }

    /// One list, and the changes after it as long as the server knows of them.
    fn watch_once(&self, url: &str, place: &str) -> Result<(), Trouble> {
        let watcher = Watcher {
            service: self.service(url, &Path::new(ACCOUNT).join("ca.crt"))?,
            node: &self.config.node,
            labels: &self.config.labels,
        };
        let (pods, mut version) = watcher.list()?;
        self.clear(place);
        self.replace(pods);
        self.settle();
        loop {
            let begun = Instant::now();
            watcher.follow(&mut version, |change| self.change(change))?;
            let now = self.begun.elapsed();
            self.write().forget(now);
            // A server that ends each watch at once is not to be asked without a breath.
            thread::sleep(FIRST_PAUSE.saturating_sub(begun.elapsed()));
        }
    }

    /// A connection as configured; `own` is what is believed if nothing is configured.
    fn service(&self, url: &str, own: &Path) -> Result<Service, Trouble> {
        let config = self.config;
        let account = |name: &str| Some(Path::new(ACCOUNT).join(name)).filter(|p| p.exists());
        let trust = if config.insecure {
            Trust::Anyone
        } else {
            let found = || Some(own.to_owned()).filter(|path| path.exists());
            let file = config
                .ca
                .clone()
                .or_else(found)
                .or_else(|| account("ca.crt"));
            Trust::Authorities(file)
        };
        let identity = config
            .certificate
            .clone()
            .map(|certificate| ClientIdentity {
                key: config.key.clone().unwrap_or_else(|| certificate.clone()),
                certificate,
            });
        let token_file: Option<PathBuf> = match (&config.token_file, &identity) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => None,
            // A missing one is named in the error.
            (None, None) => Some(Path::new(ACCOUNT).join("token")),
        };
        let options = Options {
            trust,
            identity,
            deadline: DEADLINE,
        };
        Service::new(url, token_file, &options)
    }

    fn replace(&self, pods: Vec<Pod>) {
        let now = self.begun.elapsed();
        let uids: HashSet<String> = pods.iter().map(|pod| pod.uid.clone()).collect();
        let has_gpus = pods.iter().any(|pod| pod.requests().gpus > 0);
        let mut is_new = false;
        for pod in pods {
            is_new |= self.write().put(pod);
        }
        let mut register = self.write();
        register.leave_all_but(&uids, now);
        register.forget(now);
        drop(register);
        is_new |= if has_gpus {
            self.list_devices()
        } else {
            self.write().set_devices(Vec::new())
        };
        if is_new {
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn change(&self, change: Change) {
        match change {
            Change::Put(pod) => {
                let has_gpus = pod.requests().gpus > 0;
                if self.write().put(*pod) {
                    if has_gpus {
                        self.list_devices();
                    }
                    self.shared.generation.fetch_add(1, Ordering::Release);
                    self.settle();
                }
            }
            Change::Gone(uid) => self.write().leave(&uid, self.begun.elapsed()),
        }
    }

    /// Whether they are others than before.
    fn list_devices(&self) -> bool {
        let path = &self.config.pod_resources;
        let place = path.display().to_string();
        match devices::list(path) {
            Ok(devices) => {
                self.clear(&place);
                self.write().set_devices(devices)
            }
            Err(error) => {
                self.tell(Advised {
                    place,
                    what: error.to_string(),
                    advice: "Set kubernetes.pod_resources to the kubelet's socket; pods have no \
                             GPUs meanwhile."
                        .into(),
                });
                false
            }
        }
    }

    /// Strikes out what is known by now, and what was wanted for too long; whether anything is
    /// left.
    fn settle(&self) -> bool {
        let mut wanted = lock(&self.shared.wanted);
        wanted.is_fresh = false;
        let register = self.shared.register.read();
        let register = register.unwrap_or_else(PoisonError::into_inner);
        wanted.since.retain(|key, since| {
            since.elapsed() < PATIENCE
                && register.pod(key).is_none()
                && register.container(key).is_none()
        });
        !wanted.since.is_empty()
    }

    /// Waits until it is time to ask again.
    fn wait(&self, asked: Instant, pace: &mut Pace) {
        let mut wanted = lock(&self.shared.wanted);
        loop {
            if wanted.is_fresh {
                pace.freshen();
            }
            let is_due_early = !wanted.since.is_empty() || pace.is_pausing;
            let gap = if is_due_early { pace.gap } else { PERIOD };
            let left = gap.saturating_sub(asked.elapsed());
            if left.is_zero() {
                return;
            }
            let woken = self.shared.bell.wait_timeout(wanted, left);
            wanted = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Register> {
        let register = self.shared.register.write();
        register.unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, source: &str) {
        source.clone_into(&mut lock(&self.shared.status).source);
    }

    fn report(&self, place: &str, trouble: &Trouble) {
        self.tell(Advised {
            place: place.to_owned(),
            what: trouble.to_string(),
            advice: trouble.advice(),
        });
    }

    fn tell(&self, advised: Advised) {
        self.clear(&advised.place);
        lock(&self.shared.status).troubles.push(advised);
    }

    fn clear(&self, place: &str) {
        let mut status = lock(&self.shared.status);
        status.troubles.retain(|trouble| trouble.place != place);
    }
}

/// How long to wait between two questions.
#[derive(Debug)]
struct Pace {
    gap: Duration,
    /// What must at least be waited.
    least: Duration,
    /// The service is in trouble: newcomers do not hurry it.
    is_pausing: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gap: SHORTEST_GAP,
            least: SHORTEST_GAP,
            is_pausing: false,
        }
    }
}

impl Pace {
    fn succeeded(&mut self, took: Duration, is_wanting: bool) {
        self.least = SHORTEST_GAP.max(took * REST);
        let was_waiting = is_wanting && !self.is_pausing;
        let gap = if was_waiting {
            self.gap * 2
        } else {
            SHORTEST_GAP
        };
        self.gap = gap.min(LONGEST_GAP).max(self.least);
        self.is_pausing = false;
    }

    fn failed(&mut self, trouble: &Trouble) {
        self.gap = match trouble {
            Trouble::Busy(pause) => (*pause).max(FIRST_PAUSE),
            _ if self.is_pausing => (self.gap * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.is_pausing = true;
    }

    fn freshen(&mut self) {
        if !self.is_pausing {
            self.gap = self.least;
        }
    }
}

/// Where a pod finds the API server.
fn api_url() -> Option<String> {
    let host = env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = env::var("KUBERNETES_SERVICE_PORT").ok()?;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Some(format!("https://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_unknown_is_asked_for_less_and_less_often() {
        let mut pace = Pace::default();
        let mut gaps = Vec::new();
        for _ in 0..6 {
            pace.succeeded(Duration::ZERO, true);
            gaps.push(pace.gap.as_millis());
        }
        assert_eq!(gaps, [400, 800, 1600, 2000, 2000, 2000]);
        pace.freshen();
        assert_eq!(pace.gap, SHORTEST_GAP);
    }

    #[test]
    fn a_slow_kubelet_is_asked_a_tenth_of_the_time() {
        let mut pace = Pace::default();
        pace.succeeded(Duration::from_millis(300), true);
        pace.freshen();
        assert_eq!(pace.gap, Duration::from_secs(3));
    }

    #[test]
    fn newcomers_do_not_hurry_a_service_in_trouble() {
        let mut pace = Pace::default();
        let refused = Trouble::Refused(403);
        for seconds in [1, 2, 4, 8, 15, 15] {
            pace.failed(&refused);
            pace.freshen();
            assert_eq!(pace.gap, Duration::from_secs(seconds));
        }
        pace.failed(&Trouble::Busy(Duration::from_secs(40)));
        assert_eq!(pace.gap, Duration::from_secs(40));
        pace.succeeded(Duration::ZERO, true);
        assert_eq!(pace.gap, SHORTEST_GAP);
    }
}
