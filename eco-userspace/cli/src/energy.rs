// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Adding up energy, or power, over domains that may contain each other.

use eco_agent::api::ByDomain;

/// The whole, each joule once: package, DRAM and GPU; where no package is metered, the
/// platform or the board, which contain it. `None` where nothing is metered.
pub(crate) fn total(by_domain: &ByDomain) -> Option<f64> {
    let of = |domain: &str| by_domain.get(domain).copied();
    let parts = [of("package"), of("dram"), of("gpu")].into_iter().flatten();
    let parts = parts.reduce(|sum, part| sum + part);
    let whole = of("psys").or_else(|| of("board"));
    if of("package").is_some() {
        parts
    } else {
        whole.or(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total_of(domains: &[(&str, f64)]) -> Option<f64> {
        total(
            &domains
                .iter()
                .map(|&(domain, joules)| (domain.to_owned(), joules))
                .collect(),
        )
    }

    #[test]
    fn no_joule_is_counted_twice() {
        let package_and_more = [
            ("package", 5.0),
            ("core", 3.0),
            ("dram", 1.0),
            ("gpu", 2.0),
            ("psys", 20.0),
        ];
        assert_eq!(total_of(&package_and_more), Some(8.0));
        assert_eq!(total_of(&[("psys", 20.0), ("board", 30.0)]), Some(20.0));
        assert_eq!(total_of(&[("board", 30.0), ("gpu", 2.0)]), Some(30.0));
        assert_eq!(total_of(&[("gpu", 2.0)]), Some(2.0));
        assert_eq!(total_of(&[]), None);
    }
}
