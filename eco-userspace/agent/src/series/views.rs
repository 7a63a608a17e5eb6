// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Views: jobs, pods, containers, services and users, which repeat joules under their names.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::Phase;
use crate::{
    carbon::books::CarbonRow,
    ledger::accounts::{AccountId, Kind, Row},
    series::scrapers::{Moment, Scrapers},
};

/// How long a view that nothing can be added to stays where nobody scrapes.
const UNSEEN_STAYS: Moment = Moment::from_secs(300);

/// So many views that were seen to their end linger at most, the latest of them.
pub(super) const MOST_LINGERING: usize = 250;

/// A view's series.
#[derive(Clone, Debug)]
pub struct ViewSeries {
    /// What kind of unit.
    pub kind: Kind,
    /// Its name, unique within the kind.
    pub name: String,
    /// The account that it shows, whole, once it is live.
    pub account: AccountId,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it had when an earlier agent stopped, in µJ by meter; on top of the account.
    pub base_energy: Row,
    /// What that emitted.
    pub base_carbon: CarbonRow,
    /// The same for CPU time, in ns.
    pub base_cpu_ns: u64,
    /// Whose job it is; empty for other kinds.
    pub user: String,
    /// What else names it.
    pub tags: Tags,
}

/// What names a view beside its name, which is unique but may say little to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tags {
    /// Nothing.
    #[default]
    None,
    /// A pod, or its containers of one name. Its view is named by uid: pods of one name may
    /// follow each other within a minute.
    Pod {
        /// Its namespace; empty as long as nobody knows.
        namespace: String,
        /// Its name, or else its uid.
        pod: String,
        /// Its uid.
        uid: String,
        /// The container's name; empty for what is used outside of any.
        container: String,
    },
    /// A job of another manager than eco, or a step of one.
    Job {
        /// `slurm` or `kubernetes`.
        manager: String,
        /// As that manager calls it.
        id: String,
    },
}

impl ViewSeries {
    /// The name for people, and the value of the label `name`.
    #[must_use]
    pub fn title(&self) -> String {
        let mut title = String::new();
        self.write_title(&mut title);
        title
    }

    /// The same, at the end of `into`.
    pub fn write_title(&self, into: &mut String) {
        match &self.tags {
            Tags::Pod { namespace, pod, .. } => {
                if !namespace.is_empty() {
                    into.push_str(namespace);
                    into.push('/');
                }
                into.push_str(pod);
            }
            _ => into.push_str(&self.name),
        }
    }
}

/// All views.
#[derive(Debug, Default)]
pub struct ViewBoard {
    series: BTreeMap<AccountId, ViewSeries>,
    by_name: FxHashMap<(Kind, String), AccountId>,
}

impl ViewBoard {
    /// All, in the order of their accounts.
    pub fn iter(&self) -> impl Iterator<Item = &ViewSeries> {
        self.series.values()
    }

    /// The view of that name. One that was leaving stays, and goes on from where it was.
    pub fn find(&mut self, kind: Kind, name: &str) -> Option<AccountId> {
        let account = self.by_name.get(&(kind, name.to_owned()))?;
        let series = self.series.get_mut(account)?;
        if matches!(series.phase, Phase::Leaving(_)) {
            series.phase = Phase::Live;
        }
        Some(series.account)
    }

    /// A new view.
    pub fn announce(&mut self, view: ViewSeries) {
        let name = (view.kind, view.name.clone());
        self.by_name.insert(name, view.account);
        self.series.insert(view.account, view);
    }

    /// Nothing can be added to it any more.
    pub fn leave(&mut self, account: AccountId, now: Moment) {
        if let Some(series) = self.series.get_mut(&account) {
            // Held-back joules must show before the last value can be seen.
            series.phase = match series.phase {
                Phase::Announced(since) => Phase::Announced(since),
                _ => Phase::Leaving(now),
            };
        }
    }

    /// Whatever shows and cannot grow any more leaves: views of an earlier agent whose units
    /// were not seen again.
    pub fn leave_dead(&mut self, now: Moment, alive: impl Fn(&ViewSeries) -> bool) {
        for series in self.series.values_mut() {
            if series.phase == Phase::Live && !alive(series) {
                series.phase = Phase::Leaving(now);
            }
        }
    }

    /// The view that an account feeds.
    #[must_use]
    pub fn of(&self, account: AccountId) -> Option<&ViewSeries> {
        self.series.get(&account)
    }

    /// Moves on who was seen. `alive` says whether an account may still grow; gives out the
    /// accounts whose series went.
    pub fn advance(
        &mut self,
        scrapers: &Scrapers,
        now: Moment,
        alive: impl Fn(&ViewSeries) -> bool,
        mut gone: impl FnMut(&ViewSeries),
    ) {
        let by_name = &mut self.by_name;
        let mut gone = |series: &ViewSeries| {
            by_name.remove(&(series.kind, series.name.clone()));
            gone(series);
        };
        self.series.retain(|_, series| match series.phase {
            Phase::Announced(since) if scrapers.have_seen(since, now) => {
                series.phase = if alive(series) {
                    Phase::Live
                } else {
                    Phase::Leaving(now)
                };
                true
            }
            Phase::Leaving(since) if scrapers.may_go(since, now) => {
                gone(series);
                false
            }
            Phase::Announced(since) | Phase::Leaving(since)
                if !scrapers.any(now)
                    && now.saturating_sub(since) > UNSEEN_STAYS
                    && !alive(series) =>
            {
                gone(series);
                false
            }
            _ => true,
        });
        for account in excess(&self.series, scrapers, now) {
            if let Some(series) = self.series.remove(&account) {
                gone(&series);
            }
        }
    }

    /// Makes room for so many meters in every row.
    pub fn set_meters(&mut self, meters: usize) {
        for series in self.series.values_mut() {
            series.base_energy.resize(meters, 0);
        }
    }
}

/// The views that have lingered longest, where too many do.
fn excess(
    views: &BTreeMap<AccountId, ViewSeries>,
    scrapers: &Scrapers,
    now: Moment,
) -> Vec<AccountId> {
    let lingering = views.values().filter_map(|view| match view.phase {
        Phase::Leaving(since) if scrapers.have_seen(since, now) => Some((since, view.account)),
        _ => None,
    });
    let mut lingering: Vec<(Moment, AccountId)> = lingering.collect();
    let excess = lingering.len().saturating_sub(MOST_LINGERING);
    lingering.sort_unstable();
    lingering.truncate(excess);
    lingering.into_iter().map(|(_, account)| account).collect()
}
