// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bundled table of yearly averages: countries, and the states of the USA.
//!
//! `zones.csv` is made by this crate's example `zone_table` from openly licensed sources, and
//! says of each row which. A yearly average stands in for the hour that one is in, so what comes
//! from here is always an estimate.

use std::sync::OnceLock;

use crate::{GramsPerKwh, Intensity, Kind};

const TABLE: &str = include_str!("zones.csv");

/// How many likely zones an error names.
const SUGGESTIONS: usize = 3;

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// ISO 3166-1 alpha-2 of a country, `US-` and a state.
    pub code: &'static str,
    /// ISO 3166-1 alpha-3 of a country; empty for a state.
    pub alpha3: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// The average over the year.
    pub g_per_kwh: GramsPerKwh,
    /// Which year.
    pub year: u16,
    /// `lifecycle`, or `direct`: what leaves the chimney alone.
    pub factors: &'static str,
    /// Who published it.
    pub source: &'static str,
    /// Under which licence.
    pub licence: &'static str,
}

impl Zone {
    /// The row as an intensity, which holds until it is replaced.
    #[must_use]
    pub fn intensity(&self) -> Intensity {
        Intensity {
            zone: self.code.to_owned(),
            g_per_kwh: self.g_per_kwh,
            kind: Kind::Average,
            source: format!("{}, {}, {}", self.source, self.year, self.factors),
            estimated: true,
            valid_until: None,
        }
    }
}

/// A zone that the table has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no zone {wanted:?} in the table; did you mean {likely}? `eco intensity zones` lists all")]
pub struct UnknownZone {
    wanted: String,
    likely: String,
}

/// All zones, in the order of their codes.
#[must_use]
pub fn all() -> &'static [Zone] {
    static ZONES: OnceLock<Vec<Zone>> = OnceLock::new();
    ZONES.get_or_init(|| rows().filter_map(parse).collect())
}

/// The zone of that code, in upper or lower case; alpha-3 codes of countries are understood too.
///
/// # Errors
/// When there is none: names those that look most like it.
pub fn find(code: &str) -> Result<&'static Zone, UnknownZone> {
    let wanted = code.trim();
    let is_it = |zone: &&Zone| {
        zone.code.eq_ignore_ascii_case(wanted)
            || !wanted.is_empty() && zone.alpha3.eq_ignore_ascii_case(wanted)
    };
    all().iter().find(is_it).ok_or_else(|| unknown(wanted))
}

fn rows() -> impl Iterator<Item = &'static str> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    // The first is the head.
    lines.skip(1)
}

fn parse(row: &'static str) -> Option<Zone> {
    let fields: Vec<&str> = row.split(',').collect();
    let [code, alpha3, name, value, year, factors, source, licence] = fields[..] else {
        return None;
    };
    Some(Zone {
        code,
        alpha3,
        name,
        g_per_kwh: GramsPerKwh::new(value.parse().ok()?).ok()?,
        year: year.parse().ok()?,
        factors,
        source,
        licence,
    })
}

fn unknown(wanted: &str) -> UnknownZone {
    let lower = wanted.to_lowercase();
    let mut ranked: Vec<(usize, &Zone)> = all()
        .iter()
        .map(|zone| (unlikeness(zone, &lower), zone))
        .collect();
    // Stable: the order of codes decides between equals.
    ranked.sort_by_key(|(unlikeness, _)| *unlikeness);
    let likely: Vec<String> = ranked
        .iter()
        .take(SUGGESTIONS)
        .map(|(_, zone)| format!("{} ({})", zone.code, zone.name))
        .collect();
    UnknownZone {
        wanted: wanted.to_owned(),
        likely: likely.join(", "),
    }
}

/// Zero for a name, or for its initials (`UK`); else how many letters differ.
fn unlikeness(zone: &Zone, lower: &str) -> usize {
    let name = zone.name.to_lowercase();
    let initials: String = name
        .split(' ')
        .filter_map(|word| word.chars().next())
        .collect();
    if name == lower || initials.len() > 1 && initials == lower {
        return 0;
    }
    if lower.len() > 3 && name.contains(lower) {
        return 1;
    }
    // A code that is off by one letter is less telling than a name that is.
    let by_code = 1 + strsim::levenshtein(&zone.code.to_lowercase(), lower);
    by_code.min(strsim::levenshtein(&name, lower))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_read_and_says_where_it_comes_from() {
        assert_eq!(all().len(), rows().count());
        assert!(all().len() > 200);
        let codes: BTreeSet<&str> = all().iter().map(|zone| zone.code).collect();
        assert_eq!(codes.len(), all().len(), "a code twice");
        assert!(all().is_sorted_by_key(|zone| zone.code));
        for zone in all() {
            assert!((2020..2100).contains(&zone.year), "{zone:?}");
            assert!(zone.g_per_kwh.get() > 0.0, "{zone:?}");
            assert!(["lifecycle", "direct"].contains(&zone.factors), "{zone:?}");
            for text in [zone.name, zone.source, zone.licence] {
                assert!(!text.is_empty() && text.trim() == text, "{zone:?}");
            }
        }
    }

    #[test]
    fn the_worst_zone_is_well_below_what_an_intensity_may_be() {
        let values = all().iter().map(|zone| zone.g_per_kwh.get());
        assert!(2.0 * values.fold(0.0, f64::max) < GramsPerKwh::MOST);
    }

    #[test]
    fn a_code_is_found_in_any_case() {
        for code in ["DE", "de", " De ", "deu"] {
            assert_eq!(find(code).unwrap().name, "Germany");
        }
        assert_eq!(find("us-ca").unwrap().name, "California");
        let germany = find("DE").unwrap().intensity();
        assert!(germany.estimated && germany.source.contains("Ember"));
    }

    #[test]
    fn an_unknown_zone_names_near_ones() {
        for (wanted, near) in [
            ("germany", "DE (Germany)"),
            ("UK", "GB (United Kingdom)"),
            ("Korea", "KR (South Korea)"),
            ("Frence", "FR (France)"),
            ("US-XA", "US-"),
        ] {
            let said = find(wanted).unwrap_err().to_string();
            assert!(said.contains(near), "{said}");
        }
        for nonsense in ["", "\u{1b}[2J", &"x".repeat(10_000)] {
            let said = find(nonsense).unwrap_err().to_string();
            assert!(!said.contains('\u{1b}'), "{said:?}");
        }
    }
}
