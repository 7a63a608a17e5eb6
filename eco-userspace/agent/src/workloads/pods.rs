// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods, their containers, and the Kubernetes jobs that they are parts of.
//!
//! A cgroup tells a pod's uid and a container's id; the directory tells their names, later. Each
//! is booked on from the first tick, and shown once it is named: by the directory, or after a
//! while by its uid.

use std::{iter, sync::Arc};

use eco_identity::{
    kubernetes::{Pod, PodDirectory, Register},
    path::PodHome,
};
use rustc_hash::FxHashMap;

use crate::{
    ledger::accounts::{AccountId, Kind},
    series::{Tags, scrapers::Moment},
    workloads::{
        homes::World,
        provisional::{NAMED_WITHIN, Renamed},
    },
};

/// What `manager` says of jobs of Kubernetes.
pub(crate) const MANAGER: &str = "kubernetes";

/// Runs of its containers that a pod's entry remembers.
const MOST_MEMBERS: usize = 64;

/// The pods that something was used in.
pub struct Pods {
    /// Who knows their names.
    pub directory: PodDirectory,
    /// The directory's generation when it was looked into last.
    generation: u64,
    by_uid: FxHashMap<String, Entry>,
    /// Uids of those that have something unnamed.
    waiting: Vec<String>,
    /// Uids of those that something is named of as well as could be.
    makeshift: Vec<String>,
}

/// Where what is used in a pod's cgroup is booked.
pub(crate) struct PodAccounts {
    pub(crate) pod: AccountId,
    pub(crate) container: AccountId,
    /// The job's, or a provisional one as long as nobody knows whether there is a job.
    pub(crate) job: Option<AccountId>,
}

struct Entry {
    account: AccountId,
    since: Moment,
    naming: Naming,
    job: JobPart,
    members: Vec<Member>,
}

enum Naming {
    Waiting,
    Known(Arc<Pod>),
    ByUid,
}

enum JobPart {
    Waiting(AccountId),
    Of(AccountId),
    None,
}

/// A run of a container, or what is outside of any.
struct Member {
    id: Option<String>,
    account: AccountId,
    since: Moment,
    naming: MemberNaming,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberNaming {
    Waiting,
    Known,
    /// As nobody told in time.
    Guessed,
}

impl Pods {
    /// No pods yet.
    #[must_use]
    pub fn new(directory: PodDirectory) -> Self {
        Self {
            directory,
            generation: 0,
            by_uid: FxHashMap::default(),
            waiting: Vec::new(),
            makeshift: Vec::new(),
        }
    }

    /// A pod that something was used in, as far as it is known.
    #[must_use]
    pub fn known(&self, uid: &str) -> Option<&Arc<Pod>> {
        match &self.by_uid.get(uid)?.naming {
            Naming::Known(pod) => Some(pod),
            _ => None,
        }
    }

    /// Where a pod is booked that something was used in, and its container of that name if
    /// something was used in a run of it.
    pub(crate) fn accounts_of(
        &self,
        pod: &Pod,
        container: &str,
    ) -> Option<(AccountId, Option<AccountId>)> {
        // A static pod's cgroups go by another uid.
        let mut uids = iter::once(&pod.uid).chain(&pod.aliases);
        let entry = uids.find_map(|uid| self.by_uid.get(uid))?;
        let is_run = |member: &&Member| {
            let mut named = pod.containers.iter().filter(|c| c.name == container);
            let id = member.id.as_ref();
            id.is_some_and(|id| named.any(|container| container.ids.contains(id)))
        };
        let run = entry.members.iter().rev().find(is_run);
        Some((entry.account, run.map(|member| member.account)))
    }

    /// Something is used in a pod's cgroup that is seen for the first time.
    pub(crate) fn enter(&mut self, home: &PodHome, world: &mut World<'_>) -> PodAccounts {
        let now = world.now;
        let mut open = || world.books.accounts.open();
        let entry = self.by_uid.entry(home.uid.clone());
        let entry = entry.or_insert_with(|| Entry {
            account: open(),
            since: now,
            naming: Naming::Waiting,
            job: JobPart::Waiting(open()),
            members: Vec::new(),
        });
        let known = entry.members.iter().find(|m| m.id == home.container);
        let container = match known {
            Some(member) => member.account,
            None => {
                let account = open();
                entry.members.push(Member {
                    id: home.container.clone(),
                    account,
                    since: now,
                    naming: MemberNaming::Waiting,
                });
                self.directory.want(&home.uid, home.container.as_deref());
                if !self.waiting.contains(&home.uid) {
                    self.waiting.push(home.uid.clone());
                }
                account
            }
        };
        PodAccounts {
            pod: entry.account,
            container,
            job: match entry.job {
                JobPart::Waiting(account) | JobPart::Of(account) => Some(account),
                JobPart::None => None,
            },
        }
    }

    /// Names those that can be named.
    pub(crate) fn settle(&mut self, world: &mut World<'_>, renamed: &mut Renamed) {
        let generation = self.directory.generation();
        let is_news = generation != self.generation && !self.makeshift.is_empty();
        self.generation = generation;
        if self.waiting.is_empty() && !is_news {
            return;
        }
        let register = self.directory.register();
        let (by_uid, makeshift) = (&mut self.by_uid, &mut self.makeshift);
        if is_news {
            makeshift.retain(|uid| {
                let Some(entry) = by_uid.get(uid) else {
                    return false;
                };
                let is_stale = entry.is_told_better(uid, &register);
                if is_stale {
                    renamed.evicted.push(entry.account);
                    by_uid.remove(uid);
                }
                !is_stale
            });
        }
        self.waiting.retain(|uid| {
            let Some(entry) = by_uid.get_mut(uid) else {
                return false;
            };
            let outcome = entry.settle(uid, &register, world, renamed);
            if outcome.is_makeshift && !makeshift.contains(uid) {
                makeshift.push(uid.clone());
            }
            outcome.is_waiting
        });
    }

    /// The series of a pod is gone.
    pub(crate) fn forget(&mut self, uid: &str, account: AccountId) {
        // It may go by another by now.
        if self.by_uid.get(uid).is_some_and(|e| e.account == account) {
            self.by_uid.remove(uid);
            self.makeshift.retain(|other| other != uid);
        }
    }
}

/// What is left to do of a pod.
struct Outcome {
    is_waiting: bool,
    is_makeshift: bool,
}

impl Entry {
    fn settle(
        &mut self,
        uid: &str,
        register: &Register,
        world: &mut World<'_>,
        renamed: &mut Renamed,
    ) -> Outcome {
        if matches!(self.naming, Naming::Waiting) {
            if let Some(pod) = register.pod(uid) {
                self.naming = Naming::Known(Arc::clone(pod));
            } else if world.now.saturating_sub(self.since) >= NAMED_WITHIN {
                self.naming = Naming::ByUid;
            } else {
                return Outcome {
                    is_waiting: true,
                    is_makeshift: false,
                };
            }
            self.name_pod(uid, world, renamed);
            self.name_job(world, renamed);
        }
        for at in 0..self.members.len() {
            if self.members[at].naming == MemberNaming::Waiting {
                self.name_member(at, uid, register, world, renamed);
            }
        }
        let is_named = |member: &Member| member.naming != MemberNaming::Waiting;
        let surplus = self.members.len().saturating_sub(MOST_MEMBERS);
        if self.members[..surplus].iter().all(is_named) {
            self.members.drain(..surplus);
        }
        let has = |naming| self.members.iter().any(|member| member.naming == naming);
        Outcome {
            is_waiting: has(MemberNaming::Waiting),
            is_makeshift: matches!(self.naming, Naming::ByUid) || has(MemberNaming::Guessed),
        }
    }

    fn name_pod(&mut self, uid: &str, world: &mut World<'_>, renamed: &mut Renamed) {
        let (name, tags) = (self.key(uid), self.tags(uid, ""));
        let named = world.adopt(Kind::Pod, name, "", tags, self.account);
        renamed.put(self.account, Some(named));
        self.account = named;
    }

    fn name_job(&mut self, world: &mut World<'_>, renamed: &mut Renamed) {
        let JobPart::Waiting(provisional) = self.job else {
            return;
        };
        let known = match &self.naming {
            Naming::Known(pod) => pod.job.as_ref().map(|job| (pod, job)),
            _ => None,
        };
        let Some((pod, job)) = known else {
            renamed.put(provisional, None);
            self.job = JobPart::None;
            return;
        };
        let id = format!("{}/{}", pod.namespace, job.name);
        let tags = Tags::Job {
            manager: MANAGER.into(),
            id: id.clone(),
        };
        let name = format!("{MANAGER}/{id}");
        let named = world.adopt(Kind::Job, name, "", tags, provisional);
        renamed.put(provisional, Some(named));
        self.job = JobPart::Of(named);
    }

    fn name_member(
        &mut self,
        at: usize,
        uid: &str,
        register: &Register,
        world: &mut World<'_>,
        renamed: &mut Renamed,
    ) {
        let member = &self.members[at];
        let told = member.id.as_deref().map(|id| register.container(id));
        let is_late = world.now.saturating_sub(member.since) >= NAMED_WITHIN;
        let (container, naming) = match (told, &self.naming) {
            (None, _) => (String::new(), MemberNaming::Known),
            (Some(Some((_, container))), _) => (container.name.clone(), MemberNaming::Known),
            (Some(None), _) if !is_late => return,
            // In the pod, and none of its containers: the sandbox.
            (Some(None), Naming::Known(_)) => (String::new(), MemberNaming::Guessed),
            (Some(None), _) => {
                let id = member.id.clone().unwrap_or_default();
                (id, MemberNaming::Guessed)
            }
        };
        let name = format!("{}/{container}", self.key(uid));
        let tags = self.tags(uid, &container);
        let member = &mut self.members[at];
        let named = world.adopt(Kind::PodContainer, name, "", tags, member.account);
        renamed.put(member.account, Some(named));
        member.account = named;
        member.naming = naming;
    }

    /// What its view is called: a pod that gets a name late gets another view.
    fn key(&self, uid: &str) -> String {
        match self.naming {
            Naming::Known(_) => uid.to_owned(),
            _ => format!("{uid} (unnamed)"),
        }
    }

    fn tags(&self, uid: &str, container: &str) -> Tags {
        let (namespace, pod) = match &self.naming {
            Naming::Known(pod) => (pod.namespace.clone(), pod.name.clone()),
            _ => (String::new(), uid.to_owned()),
        };
        Tags::Pod {
            namespace,
            pod,
            uid: uid.to_owned(),
            container: container.to_owned(),
        }
    }

    /// Whether the directory knows more by now than this goes by.
    fn is_told_better(&self, uid: &str, register: &Register) -> bool {
        let is_known = |member: &Member| {
            let id = member.id.as_deref();
            id.is_some_and(|id| register.container(id).is_some())
        };
        match self.naming {
            Naming::Waiting => false,
            Naming::ByUid => register.pod(uid).is_some(),
            Naming::Known(_) => self
                .members
                .iter()
                .any(|member| member.naming == MemberNaming::Guessed && is_known(member)),
        }
    }
}
