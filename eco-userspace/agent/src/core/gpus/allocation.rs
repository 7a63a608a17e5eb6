// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who pays where a driver names nobody: the pod that the kubelet gave the GPU to.
//!
//! NVIDIA's names no process to one who does not share the host's process ids
//! (NVIDIA/gpu-operator, issue 629); others may not tell at all. Whoever holds a GPU alone is then
//! taken to have used it. Those who hold copies of one (time-slicing) are taken to have used it alike,
//! as the driver gives them turns of one length: a rule, and labelled. An id that only one can
//! have and that two pods hold is a list that is wrong: nobody pays by it.

use std::collections::HashMap;

use eco_identity::kubernetes::{Holder, PodDirectory};
use eco_usage::gpu::{Policy, Unnamed};

use crate::{
    ledger::{
        accounts::AccountId,
        books::{Payer, Use, VIEWS},
    },
    workloads::{homes::Homes, jobs::Jobs},
};

/// The multi-process service takes some dozen clients, and turns of more would be of no use: a
/// longer list is not believed.
const MOST_HOLDERS: usize = 256;

type Views = [Option<AccountId>; VIEWS];

/// Who holds which GPU.
#[derive(Default)]
pub(super) struct Allocations {
    /// The directory's generation when it was looked into last.
    generation: u64,
    by_id: HashMap<String, Vec<Holder>>,
}

/// How a time without named processes is paid for.
#[derive(Debug, Default)]
pub(super) struct Charged {
    pub(super) uses: Vec<Use>,
    /// The rule, if one was needed.
    pub(super) policy: Option<Policy>,
    /// Whether somebody who holds the GPU may have used it though it says that it was at rest:
    /// not all work counts as utilisation.
    pub(super) in_doubt: bool,
}

impl Allocations {
    /// Looks whether the kubelet has given GPUs to others.
    pub(super) fn refresh(&mut self, directory: &PodDirectory) {
        let generation = directory.generation();
        if generation != self.generation {
            self.generation = generation;
            self.by_id = directory.register().holders();
        }
    }

    /// The views of each container that holds it and runs.
    pub(super) fn holders(&self, unnamed: &Unnamed, homes: &Homes, jobs: &Jobs) -> Vec<Views> {
        let of = |id: &String| {
            let held = self.by_id.get(id).map_or(&[][..], Vec::as_slice);
            if held.len() > MOST_HOLDERS {
                return Vec::new();
            }
            let there = held.iter().filter_map(|holder| {
                let views = homes.views_of_pod(&holder.pod, &holder.container, jobs)?;
                Some((holder, views))
            });
            believed(there.collect())
        };
        unnamed.ids.iter().flat_map(of).collect()
    }
}

/// Of those who hold one id, the views; none where they contradict each other.
fn believed(held: Vec<(&Holder, Views)>) -> Vec<Views> {
    let uid = |(holder, _): &(&Holder, Views)| holder.pod.uid.clone();
    let pods = held.windows(2).any(|two| uid(&two[0]) != uid(&two[1]));
    if pods && held.iter().any(|(holder, _)| !holder.has_copy) {
        return Vec::new();
    }
    held.into_iter().map(|(_, views)| views).collect()
}

impl Charged {
    /// Charges a time to `holders`, or where there are none, as far as the GPU was busy, to
    /// nobody known.
    pub(super) fn add(&mut self, unnamed: &Unnamed, holders: &[Views]) {
        let alone = [[None; VIEWS]];
        let (holders, ns) = if holders.is_empty() {
            (&alone[..], unnamed.busy_ns.unwrap_or(0))
        } else {
            self.in_doubt |= unnamed.busy_ns == Some(0);
            let policy = match holders.len() {
                1 => Policy::Allocated,
                _ => Policy::AllocatedShared,
            };
            if self.policy != Some(Policy::AllocatedShared) {
                self.policy = Some(policy);
            }
            // Occupied is busy where nothing is counted; and what it draws at rest is theirs.
            let ns = unnamed.busy_ns.unwrap_or(unnamed.most_ns);
            (holders, ns.max(holders.len() as u64))
        };
        let number = holders.len() as u64;
        for (at, views) in (0..).zip(holders) {
            let part = ns / number + u64::from(at < ns % number);
            if part > 0 {
                self.uses.push(Use {
                    payer: Payer::Nobody,
                    views: *views,
                    ns: part,
                    // Whoever holds a GPU pays a part of its idle power where that is shared.
                    eligible: views.iter().any(Option::is_some),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use eco_attribution::{IdlePolicy, Interval};
    use eco_identity::kubernetes::Pod;
    use eco_meter::{Domain, Microjoules, Watts};
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{accounts::Sum, books::Books};

    fn unnamed(busy_ns: Option<u64>, most_ns: u64) -> Unnamed {
        Unnamed {
            ids: vec!["GPU-1".into()],
            busy_ns,
            most_ns,
        }
    }

    fn books(policy: IdlePolicy) -> Books {
        let mut books = Books::new(policy, 3);
        books.set_meters(1, Sum::of(&[Domain::Gpu]));
        books
    }

    fn views(account: AccountId) -> Views {
        let mut views = [None; VIEWS];
        views[0] = Some(account);
        views
    }

    fn charged(unnamed: &Unnamed, holders: &[Views]) -> Charged {
        let mut charged = Charged::default();
        charged.add(unnamed, holders);
        charged
    }

    fn ns(charged: &Charged) -> Vec<u64> {
        charged.uses.iter().map(|used| used.ns).collect()
    }

    #[test]
    fn whoever_holds_it_alone_used_it_and_those_with_copies_alike() {
        let mut books = books(IdlePolicy::Separate);
        let pods: Vec<Views> = (0..3).map(|_| views(books.accounts.open())).collect();
        let alone = charged(&unnamed(Some(900), 1_000), &pods[..1]);
        assert_eq!(
            (ns(&alone), alone.policy),
            (vec![900], Some(Policy::Allocated))
        );
        let shared = charged(&unnamed(Some(902), 1_000), &pods);
        assert_eq!(ns(&shared), [301, 301, 300]);
        assert_eq!(shared.policy, Some(Policy::AllocatedShared));
        // One instance by one rule, another by the other: the weaker is told.
        let mut both = shared;
        both.add(&unnamed(Some(5), 1_000), &pods[..1]);
        assert_eq!(both.policy, Some(Policy::AllocatedShared));
    }

    #[test]
    fn where_nobody_holds_it_nobody_known_used_it_as_far_as_it_was_busy() {
        let busy = charged(&unnamed(Some(70), 100), &[]);
        assert_eq!((ns(&busy), busy.policy), (vec![70], None));
        assert_eq!(busy.uses[0].payer, Payer::Nobody);
        assert!(!busy.uses[0].eligible && !busy.in_doubt);
        for rest in [None, Some(0)] {
            assert!(charged(&unnamed(rest, 100), &[]).uses.is_empty());
        }
    }

    #[test]
    fn what_a_held_gpu_draws_at_rest_is_its_holders_and_teaches_nothing() {
        let mut books = books(IdlePolicy::Separate);
        let pod = [views(books.accounts.open())];
        let rest = charged(&unnamed(Some(0), 100), &pod);
        assert_eq!((ns(&rest), rest.in_doubt), (vec![1], true));
        let uncounted = charged(&unnamed(None, 100), &pod);
        assert_eq!((ns(&uncounted), uncounted.in_doubt), (vec![100], false));
    }

    #[test]
    fn two_pods_that_hold_what_only_one_can_have_both_pay_nothing() {
        let mut books = books(IdlePolicy::Separate);
        let mut held = |uid: &str, has_copy| {
            let pod = Arc::new(Pod {
                uid: uid.into(),
                ..Pod::default()
            });
            let holder = Holder {
                pod,
                container: "main".into(),
                has_copy,
            };
            (holder, views(books.accounts.open()))
        };
        let count = |held: &[(Holder, Views)]| {
            let held = held.iter().map(|(holder, views)| (holder, *views));
            believed(held.collect()).len()
        };
        assert_eq!(count(&[held("a", false)]), 1);
        assert_eq!(count(&[held("a", false), held("b", false)]), 0);
        assert_eq!(count(&[held("a", true), held("b", false)]), 0);
        assert_eq!(count(&[held("a", true), held("b", true)]), 2);
        // Two containers of one pod: it is the pod's in any case.
        assert_eq!(count(&[held("a", false), held("a", false)]), 2);
        assert_eq!(count(&[]), 0);
    }

    proptest! {
        /// Pods + idle + unattributed + nobody known = what the meter counted, whatever the
        /// kubelet and the driver say.
        #[test]
        fn every_joule_of_a_gpu_is_paid_for_once(
            ticks in prop::collection::vec((
                prop::collection::vec(
                    (prop::option::of(0u64..3_000_000_000), 0u64..2_000_000_000, 0usize..5), 0..4),
                0u64..500_000_000,
                prop::option::of(0.0..400.0f64),
            ), 1..20),
            policy in prop::sample::select(
                &[IdlePolicy::Separate, IdlePolicy::Proportional, IdlePolicy::Equal]),
        ) {
            let mut books = books(policy);
            let pods: Vec<AccountId> = (0..5).map(|_| books.accounts.open()).collect();
            let all: Vec<Views> = pods.iter().map(|pod| views(*pod)).collect();
            let mut whole = 0;
            for (parts, uj, idle) in ticks {
                let mut charged = Charged::default();
                let mut wanted = 0;
                for (busy_ns, most_ns, holders) in parts {
                    charged.add(&unnamed(busy_ns, most_ns), &all[..holders]);
                    wanted += match holders {
                        0 => busy_ns.unwrap_or(0),
                        some => busy_ns.unwrap_or(most_ns).max(some as u64),
                    };
                }
                prop_assert_eq!(ns(&charged).iter().sum::<u64>(), wanted);
                let interval = Interval {
                    energy: Microjoules(uj),
                    span: Duration::from_secs(1),
                    idle_power: idle.map(Watts),
                };
                books.begin_tick(0.5);
                books.book_energy(0, &interval, &charged.uses, false);
                whole += uj;
                prop_assert_eq!(books.conservation_error(0), Some(0));
            }
            let of = |account: AccountId| {
                books.accounts.get(account).map_or(0, |held| held.energy[0])
            };
            // What is nobody's is in `other`, and so is what the pods have: no process is known.
            let by_pods: u64 = pods.iter().map(|pod| of(*pod)).sum();
            prop_assert!(by_pods <= books.other_energy[0]);
            let rest: u64 = books.unattributed.iter().map(|row| row[0]).sum();
            prop_assert_eq!(books.other_energy[0] + books.idle[0] + rest, whole);
        }
    }
}
