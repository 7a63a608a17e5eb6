// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Splitting an integer by weights so that the parts add up to it.

use std::cmp::Ordering;

/// Someone who takes part in a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Who: unique among the claims of a split. It settles ties, so that the outcome depends on
    /// who the claims are and never on their order.
    pub key: u64,
    /// How much was used: CPU ns, or whatever the meter's dynamic energy goes by.
    pub weight: u64,
    /// Whether this one pays a part of the idle energy under [`IdlePolicy::Equal`].
    ///
    /// [`IdlePolicy::Equal`]: crate::IdlePolicy::Equal
    pub eligible: bool,
}

/// Splits by largest remainder. Keeps its working memory: after the largest split so far it
/// allocates nothing.
#[derive(Debug, Default)]
pub struct Splitter {
    fractions: Vec<Fraction>,
}

/// What rounding down took from a claim.
#[derive(Clone, Copy, Debug)]
struct Fraction {
    /// In units of one over the sum of the weights.
    rest: u128,
    index: usize,
}

impl Splitter {
    /// Splits `total` in proportion to the claims' weights into `shares`, one for each claim, and
    /// returns what nobody takes: zero, or all of `total` when no claim has a weight.
    ///
    /// The shares and what is returned add up to `total` exactly. Each share is its exact quota
    /// rounded down or up: up for the largest remainders, and of equal ones for the larger
    /// weight, then the smaller key. O(number of claims).
    pub fn split(&mut self, total: u64, claims: &[Claim], shares: &mut Vec<u64>) -> u64 {
        shares.clear();
        shares.resize(claims.len(), 0);
        self.distribute(
            total,
            claims,
            |claim| claim.weight,
            |index, part| shares[index] += part,
        )
    }

    /// As [`Splitter::split`], with weights of the caller's choice and each part handed to
    /// `give`; a claim may be given twice, its whole part and then one more.
    pub(crate) fn distribute(
        &mut self,
        total: u64,
        claims: &[Claim],
        weight_of: impl Fn(&Claim) -> u64,
        mut give: impl FnMut(usize, u64),
    ) -> u64 {
        let sum: u128 = claims
            .iter()
            .map(|claim| u128::from(weight_of(claim)))
            .sum();
        if sum == 0 {
            return total;
        }
        self.fractions.clear();
        let mut left = total;
        for (index, claim) in claims.iter().enumerate() {
            let weight = weight_of(claim);
            if weight == 0 {
                continue;
            }
            let (part, rest) = quota(total, weight, sum);
            give(index, part);
            left -= part;
            if rest > 0 {
                self.fractions.push(Fraction { rest, index });
            }
        }
        // The remainders add up to `left` whole units and each is less than one, so there are
        // more of them than units left.
        let left = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.fractions.len());
        if left > 0 && left < self.fractions.len() {
            self.fractions
                .select_nth_unstable_by(left, |a, b| largest_first(a, b, claims));
        }
        for fraction in &self.fractions[..left] {
            give(fraction.index, 1);
        }
        0
    }
}

/// `total · weight / sum`, whole and rest. A tick's energy times its CPU time mostly fits 64
/// bits, and dividing those is several times faster.
fn quota(total: u64, weight: u64, sum: u128) -> (u64, u128) {
    if let (Some(product), Ok(sum)) = (total.checked_mul(weight), u64::try_from(sum)) {
        return (product / sum, u128::from(product % sum));
    }
    let product = u128::from(total) * u128::from(weight);
    // At most `total`, because a weight is at most the sum.
    ((product / sum) as u64, product % sum)
}

fn largest_first(a: &Fraction, b: &Fraction, claims: &[Claim]) -> Ordering {
    let (claim_a, claim_b) = (&claims[a.index], &claims[b.index]);
    b.rest
        .cmp(&a.rest)
        .then(claim_b.weight.cmp(&claim_a.weight))
        .then(claim_a.key.cmp(&claim_b.key))
        .then(a.index.cmp(&b.index))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(weights: &[u64]) -> Vec<Claim> {
        let claim = |(key, weight): (usize, &u64)| Claim {
            key: key as u64,
            weight: *weight,
            eligible: true,
        };
        weights.iter().enumerate().map(claim).collect()
    }

    fn split(total: u64, claims: &[Claim]) -> (Vec<u64>, u64) {
        let mut shares = vec![9; 3];
        let left = Splitter::default().split(total, claims, &mut shares);
        (shares, left)
    }

    #[test]
    fn the_largest_remainders_are_rounded_up() {
        assert_eq!(split(10, &claims(&[1, 1, 1])).0, [4, 3, 3]);
        assert_eq!(split(10, &claims(&[5, 3, 0])).0, [6, 4, 0]);
        assert_eq!(split(1, &claims(&[3, 4, 4])).0, [0, 1, 0]);
        assert_eq!(split(2, &claims(&[3, 4, 4])).0, [0, 1, 1]);
    }

    #[test]
    fn with_nobody_to_take_it_all_is_left() {
        assert_eq!(split(10, &[]), (vec![], 10));
        assert_eq!(split(10, &claims(&[0, 0])), (vec![0, 0], 10));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let (shares, left) = split(u64::MAX, &claims(&[u64::MAX, u64::MAX, u64::MAX]));
        assert_eq!(shares, [u64::MAX / 3; 3]);
        assert_eq!(left, 0);
    }

    #[test]
    fn a_warm_splitter_allocates_nothing() {
        let claims = claims(&[7; 100]);
        let (mut splitter, mut shares) = (Splitter::default(), Vec::new());
        splitter.split(1_000_001, &claims, &mut shares);
        let before = (splitter.fractions.capacity(), shares.capacity());
        for total in 0..100 {
            splitter.split(total, &claims, &mut shares);
        }
        assert_eq!(before, (splitter.fractions.capacity(), shares.capacity()));
    }

    /// Weights as they come, with many zeros, ties and extremes.
    fn weights() -> impl Strategy<Value = Vec<u64>> {
        let weight = prop_oneof![
            Just(0),
            0..4u64,
            0..2_000_000_000u64,
            any::<u64>(),
            Just(u64::MAX)
        ];
        proptest::collection::vec(weight, 0..80)
    }

    proptest! {
        #[test]
        fn the_parts_add_up_and_each_is_its_quota_rounded(
            total in prop_oneof![0..100u64, any::<u64>()],
            weights in weights(),
        ) {
            let (shares, left) = split(total, &claims(&weights));
            let sum: u128 = shares.iter().map(|share| u128::from(*share)).sum();
            prop_assert_eq!(sum + u128::from(left), u128::from(total));
            let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            prop_assert_eq!(left > 0, all == 0 && total > 0);
            for (share, weight) in shares.iter().zip(&weights) {
                let product = u128::from(total) * u128::from(*weight);
                let floor = product.checked_div(all).unwrap_or(0);
                let is_exact = all == 0 || product % all == 0;
                let share = u128::from(*share);
                prop_assert!(share == floor || (!is_exact && share == floor + 1));
            }
        }

        #[test]
        fn the_order_of_the_claims_does_not_matter(
            total in 0..100_000u64,
            shuffled in weights().prop_map(|weights| claims(&weights)).prop_shuffle(),
        ) {
            let mut sorted = shuffled.clone();
            sorted.sort_by_key(|claim| claim.key);
            let (by_key, _) = split(total, &sorted);
            for (claim, share) in shuffled.iter().zip(split(total, &shuffled).0) {
                prop_assert_eq!(share, by_key[claim.key as usize]);
            }
        }
    }
}
