// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carbon: which intensity holds now, and what was emitted at it.
//!
//! A value that somebody pushed goes before a configured constant, and that before the yearly
//! average of a configured zone. One that was pushed and is over is not used any more: the
//! next one is, and the status says so. Nothing is asked of the network.

pub mod books;
pub(crate) mod http;
pub(crate) mod metrics;

use eco_intensity::{Intensity, Pue, Rate};
use jiff::Timestamp;

use crate::api;

/// What is configured.
#[derive(Clone, Debug)]
pub struct CarbonConfig {
    /// The constant, or the zone's average: what holds as long as nothing else was pushed.
    pub standing: Option<Intensity>,
    /// What the site draws for each joule of this machine's.
    pub pue: Pue,
}

/// All intensities that are known.
#[derive(Clone, Debug)]
pub struct Intensities {
    config: CarbonConfig,
    pushed: Option<Intensity>,
}

impl Intensities {
    /// Those that are configured.
    #[must_use]
    pub fn new(config: CarbonConfig) -> Self {
        Self {
            config,
            pushed: None,
        }
    }

    /// The one that holds at `now`.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> Option<&Intensity> {
        let pushed = self.pushed.as_ref().filter(|it| it.is_valid_at(now));
        pushed.or(self.config.standing.as_ref())
    }

    /// What a microjoule emits at `now`.
    #[must_use]
    pub fn rate(&self, now: Timestamp) -> Option<Rate> {
        self.current(now).map(|intensity| self.priced(intensity))
    }

    /// The same for a time that no agent has watched: of that only what is configured is known.
    #[must_use]
    pub fn standing_rate(&self) -> Option<Rate> {
        let standing = self.config.standing.as_ref();
        standing.map(|intensity| self.priced(intensity))
    }

    /// What was pushed last, over or not.
    #[must_use]
    pub fn pushed(&self) -> Option<&Intensity> {
        self.pushed.as_ref()
    }

    /// Takes what somebody pushed; `None`: what was pushed is withdrawn.
    pub fn push(&mut self, pushed: Option<Intensity>) {
        self.pushed = pushed;
    }

    /// What was pushed and is over.
    #[must_use]
    pub fn stale(&self, now: Timestamp) -> Option<&Intensity> {
        self.pushed.as_ref().filter(|it| !it.is_valid_at(now))
    }

    /// The ratio that every intensity is multiplied by.
    #[must_use]
    pub fn pue(&self) -> Pue {
        self.config.pue
    }

    /// `GET /v1/intensity`.
    #[must_use]
    pub fn answer(&self, now: Timestamp) -> api::Carbon {
        api::Carbon {
            intensity: self.current(now).cloned(),
            pue: self.pue(),
            stale: self.stale(now).cloned(),
        }
    }

    /// What is missing, and how to get it.
    #[must_use]
    pub fn advice(&self, now: Timestamp) -> Option<String> {
        if let Some(stale) = self.stale(now) {
            let until = stale.valid_until.map(|at| at.to_string());
            let instead = match self.current(now) {
                Some(standing) => format!("{} is used instead", standing.source),
                None => "no carbon is counted since".to_owned(),
            };
            return Some(format!(
                "carbon: the intensity of {} from {} was valid until {}; {instead}. Push a new one",
                stale.zone,
                stale.source,
                until.unwrap_or_default(),
            ));
        }
        self.current(now).is_none().then(|| {
            "carbon: no intensity is known, so no grams are counted. Set carbon.zone (such as \
             \"DE\") or carbon.g_per_kwh, or push one: eco intensity set"
                .to_owned()
        })
    }

    fn priced(&self, intensity: &Intensity) -> Rate {
        Rate::new(intensity.g_per_kwh, self.config.pue)
    }
}

#[cfg(test)]
mod tests {
    use eco_intensity::{GramsPerKwh, Kind};

    use super::*;

    fn intensity(zone: &str, g_per_kwh: f64, until: Option<&str>) -> Intensity {
        Intensity {
            zone: zone.into(),
            g_per_kwh: GramsPerKwh::new(g_per_kwh).unwrap(),
            kind: Kind::Average,
            source: format!("source of {zone}"),
            estimated: false,
            valid_until: until.map(|text| text.parse().unwrap()),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn known(standing: Option<Intensity>) -> Intensities {
        Intensities::new(CarbonConfig {
            standing,
            pue: Pue::new(1.5).unwrap(),
        })
    }

    #[test]
    fn what_was_pushed_goes_first_until_it_is_over_and_is_then_called_stale() {
        let mut known = known(Some(intensity("standing", 100.0, None)));
        let (before, after) = (at("2026-01-01T00:59:59Z"), at("2026-01-01T01:00:00Z"));
        known.push(Some(intensity(
            "pushed",
            50.0,
            Some("2026-01-01T01:00:00Z"),
        )));
        assert_eq!(known.current(before).unwrap().zone, "pushed");
        assert_eq!((known.stale(before), known.advice(before)), (None, None));
        assert_eq!(known.current(after).unwrap().zone, "standing");
        assert_eq!(known.stale(after).unwrap().zone, "pushed");
        assert!(known.advice(after).unwrap().contains("source of standing"));
        assert_eq!(known.rate(after), known.standing_rate());
        assert_ne!(known.rate(before), known.standing_rate());
        known.push(None);
        assert_eq!((known.stale(after), known.advice(after)), (None, None));
    }

    #[test]
    fn without_any_there_is_no_rate_but_advice() {
        let mut known = known(None);
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!((known.current(now), known.rate(now)), (None, None));
        assert!(known.advice(now).unwrap().contains("carbon.zone"));
        known.push(Some(intensity("p", 50.0, Some("2025-12-31T00:00:00Z"))));
        assert_eq!(known.rate(now), None);
        assert!(known.advice(now).unwrap().contains("no carbon is counted"));
    }

    #[test]
    fn the_pue_multiplies() {
        let known = known(Some(intensity("s", 100.0, None)));
        let grams = known.standing_rate().unwrap().emissions(3_600_000_000_000);
        assert_eq!(grams.grams().0, 150.0);
        assert_eq!(known.answer(at("2026-01-01T00:00:00Z")).pue.get(), 1.5);
    }
}
