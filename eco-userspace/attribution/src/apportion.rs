// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One meter, one tick: how much was idle, and who used the rest.

use std::time::Duration;

use eco_meter::{Microjoules, Watts};
use serde::{Deserialize, Serialize};

use crate::{Claim, Splitter};

/// Who pays for idle energy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdlePolicy {
    /// Nobody: it is a series of its own.
    #[default]
    Separate,
    /// Those who use the machine, in proportion to their use.
    Proportional,
    /// All eligible claims alike, whether they use the machine or not.
    Equal,
}

/// Why energy belongs to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// More than the idle power was drawn, but no task was seen running.
    NoUsage,
    /// The meter or the usage could not be read for a time.
    Gap,
    /// The agent was not running.
    Downtime,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NoUsage, Self::Gap, Self::Downtime];

    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoUsage => "no usage",
            Self::Gap => "gap",
            Self::Downtime => "downtime",
        }
    }
}

/// What a meter counted between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// The energy.
    pub energy: Microjoules,
    /// The time between the two readings.
    pub span: Duration,
    /// The meter's idle power; `None` where it is not known, and then nothing is idle.
    pub idle_power: Option<Watts>,
}

impl Interval {
    /// `min(energy, idle power · span)`.
    #[must_use]
    pub fn idle_energy(&self) -> Microjoules {
        let idle = self
            .idle_power
            .map_or(Microjoules::ZERO, |power| power.during(self.span));
        idle.min(self.energy)
    }
}

/// What one claim pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// For what it used.
    pub dynamic: Microjoules,
    /// Its part of the idle energy; zero under [`IdlePolicy::Separate`].
    pub idle: Microjoules,
}

impl Share {
    /// Both together.
    #[must_use]
    pub fn total(self) -> Microjoules {
        self.dynamic + self.idle
    }
}

/// Where an interval's energy went. The caller keeps it and hands it in again, so that a tick
/// allocates nothing.
///
/// `Σ shares + idle + unattributed` equals the interval's energy to the microjoule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// One for each claim, in the claims' order.
    pub shares: Vec<Share>,
    /// Idle energy that nobody pays.
    pub idle: Microjoules,
    /// Energy of [`Reason::NoUsage`].
    pub unattributed: Microjoules,
}

/// Apportions intervals. Keeps working memory only; intervals do not influence each other.
#[derive(Debug, Default)]
pub struct Apportioner {
    splitter: Splitter,
}

impl Apportioner {
    /// Apportions `interval` to `claims` into `outcome`, whose earlier content is overwritten.
    ///
    /// The idle energy goes by `policy`; where the policy finds nobody to pay it stays idle. The
    /// rest goes by weight; where no claim has any it is unattributed.
    pub fn apportion(
        &mut self,
        interval: &Interval,
        policy: IdlePolicy,
        claims: &[Claim],
        outcome: &mut Outcome,
    ) {
        let Outcome {
            shares,
            idle,
            unattributed,
        } = outcome;
        shares.clear();
        shares.resize(claims.len(), Share::default());
        let idle_energy = interval.idle_energy().0;
        let dynamic_energy = interval.energy.0 - idle_energy;
        let by_use = |claim: &Claim| claim.weight;
        unattributed.0 = self
            .splitter
            .distribute(dynamic_energy, claims, by_use, |index, part| {
                shares[index].dynamic.0 += part;
            });
        let give_idle = |index: usize, part| shares[index].idle.0 += part;
        idle.0 = match policy {
            IdlePolicy::Separate => idle_energy,
            IdlePolicy::Proportional => {
                self.splitter
                    .distribute(idle_energy, claims, by_use, give_idle)
            }
            IdlePolicy::Equal => {
                let alike = |claim: &Claim| u64::from(claim.eligible);
                self.splitter
                    .distribute(idle_energy, claims, alike, give_idle)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const POLICIES: [IdlePolicy; 3] = [
        IdlePolicy::Separate,
        IdlePolicy::Proportional,
        IdlePolicy::Equal,
    ];

    fn claim(key: u64, weight: u64, eligible: bool) -> Claim {
        Claim {
            key,
            weight,
            eligible,
        }
    }

    fn interval(energy: u64, idle_watts: f64) -> Interval {
        let idle_power = Some(Watts(idle_watts));
        Interval {
            energy: Microjoules(energy),
            span: SECOND,
            idle_power,
        }
    }

    fn apportion(interval: &Interval, policy: IdlePolicy, claims: &[Claim]) -> Outcome {
        let mut outcome = Outcome::default();
        Apportioner::default().apportion(interval, policy, claims, &mut outcome);
        outcome
    }

    fn totals(outcome: &Outcome) -> Vec<u64> {
        outcome.shares.iter().map(|share| share.total().0).collect()
    }

    #[test]
    fn idle_is_paid_as_the_policy_says() {
        let claims = [claim(1, 300, true), claim(2, 100, false), claim(3, 0, true)];
        let interval = interval(100, 20e-6);
        let separate = apportion(&interval, IdlePolicy::Separate, &claims);
        assert_eq!((totals(&separate), separate.idle.0), (vec![60, 20, 0], 20));
        let proportional = apportion(&interval, IdlePolicy::Proportional, &claims);
        assert_eq!(
            (totals(&proportional), proportional.idle.0),
            (vec![75, 25, 0], 0)
        );
        let equal = apportion(&interval, IdlePolicy::Equal, &claims);
        assert_eq!((totals(&equal), equal.idle.0), (vec![70, 20, 10], 0));
        assert_eq!(
            equal.shares[0],
            Share {
                dynamic: Microjoules(60),
                idle: Microjoules(10)
            }
        );
    }

    #[test]
    fn idle_that_nobody_can_pay_stays_idle() {
        for policy in POLICIES {
            let outcome = apportion(&interval(100, 20e-6), policy, &[claim(1, 0, false)]);
            assert_eq!(outcome.idle.0, 20, "{policy:?}");
            assert_eq!(outcome.unattributed.0, 80, "{policy:?}");
        }
    }

    #[test]
    fn idle_is_never_more_than_what_was_counted() {
        let outcome = apportion(
            &interval(100, 1e9),
            IdlePolicy::Separate,
            &[claim(1, 5, true)],
        );
        assert_eq!((totals(&outcome), outcome.idle.0), (vec![0], 100));
    }

    #[test]
    fn without_a_known_idle_power_nothing_is_idle() {
        let interval = Interval {
            idle_power: None,
            ..interval(100, 0.0)
        };
        let outcome = apportion(&interval, IdlePolicy::Separate, &[claim(1, 5, true)]);
        assert_eq!((totals(&outcome), outcome.idle.0), (vec![100], 0));
    }

    #[test]
    fn policies_are_written_in_kebab_case() {
        let text = serde_json::to_string(&POLICIES).unwrap();
        assert_eq!(text, r#"["separate","proportional","equal"]"#);
        assert_eq!(IdlePolicy::default(), IdlePolicy::Separate);
    }

    fn any_claims() -> impl Strategy<Value = Vec<Claim>> {
        let weight = prop_oneof![Just(0), 0..5u64, 0..4_000_000_000u64, any::<u64>()];
        proptest::collection::vec((weight, any::<bool>()), 0..60).prop_map(|claims| {
            (0..)
                .zip(claims)
                .map(|(key, (weight, eligible))| claim(key, weight, eligible))
                .collect()
        })
    }

    fn any_interval() -> impl Strategy<Value = Interval> {
        let watts = prop_oneof![
            any::<f64>(),
            0.0..500.0f64,
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(-1.0)
        ];
        let energy = prop_oneof![any::<u64>(), 0..1_000_000_000u64];
        let span = prop_oneof![any::<u64>(), 0..2_000_000_000u64];
        (energy, span, proptest::option::of(watts)).prop_map(|(energy, nanos, watts)| Interval {
            energy: Microjoules(energy),
            span: Duration::from_nanos(nanos),
            idle_power: watts.map(Watts),
        })
    }

    proptest! {
        #[test]
        fn every_microjoule_goes_somewhere_once(
            interval in any_interval(),
            claims in any_claims(),
            policy in prop::sample::select(&POLICIES),
        ) {
            let outcome = apportion(&interval, policy, &claims);
            let shares: u128 = outcome
                .shares
                .iter()
                .map(|share| u128::from(share.dynamic.0) + u128::from(share.idle.0))
                .sum();
            let rest = u128::from(outcome.idle.0) + u128::from(outcome.unattributed.0);
            prop_assert_eq!(shares + rest, u128::from(interval.energy.0));
            prop_assert_eq!(outcome.shares.len(), claims.len());
        }

        #[test]
        fn the_order_of_the_claims_does_not_matter(
            interval in any_interval(),
            claims in any_claims().prop_shuffle(),
            policy in prop::sample::select(&POLICIES),
        ) {
            let mut sorted = claims.clone();
            sorted.sort_by_key(|claim| claim.key);
            let by_key = apportion(&interval, policy, &sorted);
            let shuffled = apportion(&interval, policy, &claims);
            for (claim, share) in claims.iter().zip(&shuffled.shares) {
                prop_assert_eq!(*share, by_key.shares[claim.key as usize]);
            }
        }

        /// A task at fixed use pays the same whatever its neighbours do: the machine draws
        /// `price` for each CPU second, and whether the others' time is one task's, many tasks'
        /// or none at all changes what it pays by rounding alone.
        #[test]
        fn neighbours_that_fork_and_die_do_not_change_the_price(
            own in 1..4_000_000_000u64,
            others in proptest::collection::vec(0..4_000_000_000u64, 0..40),
            price_watts in 0.1..40.0f64,
            idle_watts in 0.0..300.0f64,
        ) {
            let mut claims = vec![claim(0, own, true)];
            claims.extend((1..).zip(others).map(|(key, weight)| claim(key, weight, true)));
            let busy_ns: u64 = claims.iter().map(|claim| claim.weight).sum();
            let dynamic = (price_watts * busy_ns as f64 / 1e3).round() as u64;
            let energy = Watts(idle_watts).during(SECOND).0 + dynamic;
            let outcome =
                apportion(&interval(energy, idle_watts), IdlePolicy::Separate, &claims);
            let truth = price_watts * own as f64 / 1e3;
            let paid = outcome.shares[0].total().0 as f64;
            // Half a microjoule of the meter's rounding, and less than one of the split's.
            prop_assert!((paid - truth).abs() <= 1.5, "{} for {}", paid, truth);
        }

        #[test]
        fn one_interval_does_not_influence_the_next(
            ticks in proptest::collection::vec((any_interval(), any_claims()), 1..10),
            policy in prop::sample::select(&POLICIES),
        ) {
            let (mut apportioner, mut outcome) = (Apportioner::default(), Outcome::default());
            for (interval, claims) in ticks {
                apportioner.apportion(&interval, policy, &claims, &mut outcome);
                prop_assert_eq!(&outcome, &apportion(&interval, policy, &claims));
            }
        }
    }
}
