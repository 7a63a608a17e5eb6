// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run emitted, and at which intensity.

use eco_agent::api;
use eco_intensity::{Intensity, Pue, Rate, zones::Zone};
use serde::Serialize;

use crate::energy;

/// The carbon of a run, in the shape of schema `eco.run/1`; all null where no intensity is known.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RunCarbon {
    /// Of the energy's total: package, DRAM and GPU, or what contains them.
    #[serde(rename = "carbon_grams")]
    pub(crate) grams: Option<f64>,
    /// At the end of the run. An agent counts each tick at the intensity of that tick.
    pub(crate) intensity: Option<Intensity>,
    /// What `carbon_grams` is multiplied by.
    pub(crate) pue: Option<Pue>,
    /// Whether there was a time without intensity, which nothing is counted for.
    #[serde(skip)]
    pub(crate) is_partial: bool,
}

impl RunCarbon {
    /// What an agent counted.
    pub(crate) fn counted(job: &api::Job) -> Self {
        let grams = job.carbon_grams.as_ref().and_then(energy::total);
        // Carbon was counted on this node once; in this run there was nothing to count it at.
        let unknown = job.carbon.intensity.is_none() && grams == Some(0.0);
        if grams.is_none() || unknown {
            return Self::default();
        }
        Self {
            grams,
            intensity: job.carbon.intensity.clone(),
            pue: Some(job.carbon.pue),
            is_partial: job.carbon_is_partial,
        }
    }

    /// What so many joules emit in a zone of the table.
    pub(crate) fn at(zone: &Zone, joules: Option<f64>) -> Self {
        let rate = Rate::new(zone.g_per_kwh, Pue::ONE);
        // As in the ledger: whole microjoules. `as` maps what is no energy to none.
        let grams = |joules: f64| rate.emissions((joules * 1e6).round() as u64).grams().0;
        Self {
            grams: joules.map(grams),
            intensity: Some(zone.intensity()),
            pue: Some(Pue::ONE),
            is_partial: false,
        }
    }

    /// For people: where the number comes from.
    pub(crate) fn provenance(&self) -> String {
        let mut text = match &self.intensity {
            Some(intensity) => intensity.provenance(),
            None => "the intensity is not known any more".to_owned(),
        };
        if let Some(pue) = self.pue.filter(|pue| *pue != Pue::ONE) {
            text += &format!(", PUE {}", pue.get());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use eco_intensity::zones;

    use super::*;

    fn job(grams: Option<f64>, intensity: Option<Intensity>) -> api::Job {
        api::Job {
            carbon_grams: grams.map(|grams| [("package".to_owned(), grams)].into()),
            carbon: api::Carbon {
                intensity,
                ..api::Carbon::default()
            },
            ..api::Job::default()
        }
    }

    #[test]
    fn without_an_intensity_there_is_no_carbon_not_zero() {
        for job in [job(None, None), job(Some(0.0), None)] {
            let carbon = serde_json::to_value(RunCarbon::counted(&job)).unwrap();
            assert!(carbon["carbon_grams"].is_null() && carbon["intensity"].is_null());
        }
        let lost = RunCarbon::counted(&job(Some(0.5), None));
        assert_eq!(lost.grams, Some(0.5), "counted while it was known");
        assert!(lost.provenance().contains("not known any more"));
    }

    #[test]
    fn a_region_multiplies_the_energy_by_its_average() {
        let zone = zones::find("DE").unwrap();
        let carbon = RunCarbon::at(zone, Some(3.6e6));
        assert_eq!(carbon.grams, Some(zone.g_per_kwh.get()));
        assert!(carbon.provenance().starts_with("zone DE, average, "));
        assert_eq!(RunCarbon::at(zone, None).grams, None);
        assert_eq!(RunCarbon::at(zone, Some(f64::NAN)).grams, Some(0.0));
    }
}
