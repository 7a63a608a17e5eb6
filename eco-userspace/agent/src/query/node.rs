// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole machine, as `/v1/units` shows it.

use eco_intensity::Rate;
use jiff::Timestamp;

use super::{carbon_by_domain, estimated, present_by_domain};
use crate::{
    api,
    core::Core,
    ledger::{accounts::by_domain, window::Booked},
};

/// What the machine used, and its power over a window.
pub(super) fn node(core: &Core, booked: &Booked) -> api::Node {
    let seconds = booked.span.as_secs_f64().max(1e-6);
    let power = |row: &[u64]| {
        let mut watts = present_by_domain(core, row);
        watts.values_mut().for_each(|joules| *joules /= seconds);
        watts
    };
    let mut unattributed = vec![0; core.meters.len()];
    for row in &core.books.unattributed {
        for (sum, uj) in unattributed.iter_mut().zip(row) {
            *sum += uj;
        }
    }
    let rate = core.intensities.rate(Timestamp::now());
    let counted_once = core.books.sum.total(&booked.node) as f64 / 1e6 / seconds;
    api::Node {
        name: core.node.clone(),
        cpus: core.cpus,
        cpu_percent: booked.busy_ns as f64 / 1e7 / seconds,
        watts: power(&booked.node),
        idle_watts: power(&booked.idle),
        energy_joules: by_domain(&core.books.node, &core.domains),
        idle_joules: by_domain(&core.books.idle, &core.domains),
        unattributed_joules: by_domain(&unattributed, &core.domains),
        carbon_grams: carbon_by_domain(core, &core.books.carbon.node),
        carbon_grams_per_hour: rate.map(|rate| grams_per_hour(rate, counted_once)),
        estimated: estimated(core),
        processes: core.frame.processes,
        meters: meters(core, booked, seconds),
    }
}

/// What an hour of this power emits.
pub(super) fn grams_per_hour(rate: Rate, watts: f64) -> f64 {
    const MICROJOULES_PER_WATT_HOUR: f64 = 3.6e9;
    // A float that is negative or none becomes zero.
    let microjoules = (watts * MICROJOULES_PER_WATT_HOUR).round() as u64;
    rate.emissions(microjoules).grams().0
}

fn meters(core: &Core, booked: &Booked, seconds: f64) -> Vec<api::NodeMeter> {
    let here = (0..core.meters.len()).filter(|at| core.meters[*at].is_present());
    here.map(|at| {
        let slot = &core.meters[at];
        let watts = |row: &[u64]| row.get(at).copied().unwrap_or_default() as f64 / 1e6 / seconds;
        api::NodeMeter {
            name: slot.descriptor.name.clone(),
            domain: slot.descriptor.domain.label().into(),
            device: slot.descriptor.device.clone(),
            watts: watts(&booked.node),
            idle_watts: slot.idle_power().map(|_| watts(&booked.idle)),
            estimated: slot.descriptor.source.is_estimate(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use eco_intensity::{GramsPerKwh, Pue};

    use super::*;

    #[test]
    fn a_kilowatt_emits_the_intensity_in_an_hour_and_a_power_that_is_none_nothing() {
        let rate = Rate::new(GramsPerKwh::new(360.0).unwrap(), Pue::new(1.5).unwrap());
        assert!((grams_per_hour(rate, 1000.0) - 540.0).abs() < 1e-9);
        assert!((grams_per_hour(rate, 1e-6) - 5.4e-7).abs() < 1e-12);
        for none in [0.0, -1.0, f64::NAN] {
            assert_eq!(grams_per_hour(rate, none), 0.0);
        }
    }
}
