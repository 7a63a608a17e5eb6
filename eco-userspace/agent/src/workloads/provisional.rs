// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accounts of those whose name is not known yet.
//!
//! A pod's cgroup tells its uid, and the kubelet takes a moment to tell its name. What is used
//! until then is booked on a provisional account. It becomes the view's own account when the
//! name is new; where the view exists already, what is on it is moved there, and what meters
//! that were read late still book on it follows.

use rustc_hash::FxHashMap;

use crate::{
    ledger::accounts::{AccountId, Accounts},
    series::scrapers::Moment,
};

/// So long a name is waited for; then a view goes by what the cgroup tells.
pub(crate) const NAMED_WITHIN: Moment = eco_identity::kubernetes::PATIENCE;

/// So long something may still be booked on an account that has been given up: a meter that
/// could not be read pays for its past ticks when it can.
const SETTLED_AFTER: Moment = Moment::from_secs(60);

/// What came of provisional accounts.
#[derive(Debug, Default)]
pub(crate) struct Renamed {
    /// Where what was booked on them goes; `None`: to no view after all.
    pub(crate) accounts: FxHashMap<AccountId, Option<AccountId>>,
    /// Pods that go by another name from now on.
    pub(crate) evicted: Vec<AccountId>,
}

impl Renamed {
    /// `from` was provisional, and `into` is the view's.
    pub(crate) fn put(&mut self, from: AccountId, into: Option<AccountId>) {
        if Some(from) != into {
            self.accounts.insert(from, into);
        }
    }
}

/// Accounts that were given up, until nothing can come for them any more.
#[derive(Debug, Default)]
pub(crate) struct Provisional {
    given_up: Vec<(AccountId, Option<AccountId>, Moment)>,
}

impl Provisional {
    /// Takes in what came of some, and moves what is on all.
    pub(crate) fn settle(&mut self, renamed: Renamed, accounts: &mut Accounts, now: Moment) {
        let renamed = renamed.accounts.into_iter();
        self.given_up
            .extend(renamed.map(|(from, into)| (from, into, now)));
        self.given_up.retain(|(from, into, since)| {
            if let Some(into) = into {
                accounts.transfer(*from, *into);
            }
            let is_settled = now.saturating_sub(*since) > SETTLED_AFTER;
            if is_settled {
                accounts.close(*from);
            }
            !is_settled
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::accounts::Amount;

    #[test]
    fn what_is_booked_late_on_an_account_that_was_given_up_is_not_lost() {
        let mut accounts = Accounts::default();
        accounts.set_meters(1);
        let (from, into, shadow) = (accounts.open(), accounts.open(), accounts.open());
        let mut provisional = Provisional::default();
        let mut renamed = Renamed::default();
        renamed.put(from, Some(into));
        renamed.put(into, Some(into));
        renamed.put(shadow, None);
        accounts.add_energy(from, 0, Amount::of_uj(5), true);
        provisional.settle(renamed, &mut accounts, Moment::ZERO);
        assert_eq!(accounts.get(into).unwrap().energy, [5]);
        accounts.add_energy(from, 0, Amount::of_uj(2), true);
        provisional.settle(Renamed::default(), &mut accounts, SETTLED_AFTER);
        assert_eq!(accounts.get(into).unwrap().energy, [7]);
        let later = SETTLED_AFTER + Moment::from_secs(1);
        provisional.settle(Renamed::default(), &mut accounts, later);
        assert!(accounts.get(from).is_none() && accounts.get(shadow).is_none());
        assert!(provisional.given_up.is_empty());
    }
}
