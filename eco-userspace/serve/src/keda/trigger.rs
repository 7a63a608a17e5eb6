// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a trigger of a ScaledObject says.

use std::collections::HashMap;

use tonic::Status;

use crate::pod_metrics::PodMetric;

/// What KEDA itself puts beside our own keys, of its `external` and `external-push` triggers.
const KEDAS: [&str; 8] = [
    "scalerAddress",
    "enableTLS",
    "unsafeSsl",
    "caCert",
    "tlsCertFile",
    "tlsClientCert",
    "tlsClientKey",
    "metricType",
];

const OURS: [&str; 6] = [
    "metric",
    "target",
    "activation",
    "activeBelow",
    "labelSelector",
    "zone",
];

/// A trigger that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trigger {
    pub(super) metric: Metric,
    /// What the autoscaler aims at: per replica, or in all, as the ScaledObject's `metricType`
    /// says.
    pub(super) target: f64,
    /// Active above it.
    activation: f64,
    /// Active below it only.
    active_below: Option<f64>,
    /// Which pods of the namespace; all if absent.
    pub(super) label_selector: Option<String>,
    /// Whose intensity; the mean of all nodes' if absent.
    pub(super) zone: Option<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    /// The sum over the pods that are selected.
    Pods(PodMetric),
    /// What a kWh emits, in g CO2e.
    CarbonIntensity,
}

impl Metric {
    const CARBON_INTENSITY: &str = "carbon_intensity";

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pods(metric) => metric.name(),
            Self::CarbonIntensity => Self::CARBON_INTENSITY,
        }
    }

    fn named(name: &str) -> Result<Self, Status> {
        if name == Self::CARBON_INTENSITY {
            return Ok(Self::CarbonIntensity);
        }
        let found = PodMetric::ALL
            .into_iter()
            .find(|metric| metric.name() == name);
        found.map(Self::Pods).ok_or_else(|| {
            let known = PodMetric::ALL.map(PodMetric::name).join(", ");
            bad(format!(
                "metric {name:?} is none of {known}, {}",
                Self::CARBON_INTENSITY
            ))
        })
    }
}

impl Trigger {
    /// Reads a trigger's metadata.
    pub(super) fn parse(metadata: &HashMap<String, String>) -> Result<Self, Status> {
        let is_known =
            |key: &str| OURS.contains(&key) || KEDAS.contains(&key) || key.ends_with("FromEnv");
        if let Some(key) = metadata.keys().find(|key| !is_known(key)) {
            return Err(bad(format!(
                "unknown key {key:?}; there are {}",
                OURS.join(", ")
            )));
        }
        let text = |key: &str| {
            metadata
                .get(key)
                .map(|text| text.trim())
                .filter(|text| !text.is_empty())
        };
        let number = |key: &str| {
            let Some(text) = text(key) else {
                return Ok(None);
            };
            let number: Option<f64> = text.parse().ok();
            match number.filter(|number| number.is_finite() && *number >= 0.0) {
                Some(number) => Ok(Some(number)),
                None => Err(bad(format!("{key} {text:?} is no number from 0"))),
            }
        };
        let metric = Metric::named(text("metric").unwrap_or("power_watts"))?;
        let target = number("target")?.filter(|target| *target > 0.0);
        let trigger = Self {
            metric,
            target: target.ok_or_else(|| bad("target is missing, or 0".into()))?,
            activation: number("activation")?.unwrap_or(0.0),
            active_below: number("activeBelow")?,
            label_selector: text("labelSelector").map(str::to_owned),
            zone: text("zone").map(str::to_owned),
        };
        let about_pods = matches!(metric, Metric::Pods(_));
        if about_pods && trigger.zone.is_some() {
            return Err(bad("a zone is for carbon_intensity only".into()));
        }
        if !about_pods && trigger.label_selector.is_some() {
            return Err(bad("a labelSelector is not for carbon_intensity".into()));
        }
        Ok(trigger)
    }

    /// Whether there should be any replica.
    pub(super) fn is_active(&self, value: f64) -> bool {
        value > self.activation && self.active_below.is_none_or(|bound| value < bound)
    }
}

fn bad(why: String) -> Status {
    Status::invalid_argument(format!("the trigger's metadata: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Trigger, Status> {
        let owned = pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        Trigger::parse(&owned.collect())
    }

    #[test]
    fn a_trigger_is_active_between_its_bounds() {
        let power = parse(&[
            ("target", "50"),
            ("activation", "5"),
            ("scalerAddress", "eco:9512"),
        ]);
        let power = power.unwrap();
        assert_eq!(power.metric, Metric::Pods(PodMetric::PowerWatts));
        assert!(power.is_active(5.1) && !power.is_active(5.0));
        let clean = [
            ("metric", "carbon_intensity"),
            ("target", "1"),
            ("activeBelow", "200"),
        ];
        let clean = parse(&clean).unwrap();
        assert!(clean.is_active(199.0) && !clean.is_active(200.0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_key() {
        for (pairs, part) in [
            (&[][..], "target is missing"),
            (&[("target", "0")], "target"),
            (&[("target", "-1")], "target"),
            (&[("target", "NaN")], "target"),
            (&[("target", "lots")], "target"),
            (&[("target", "1"), ("metric", "beauty")], "carbon_intensity"),
            (&[("target", "1"), ("taget", "1")], "taget"),
            (&[("target", "1"), ("zone", "DE")], "zone"),
            (
                &[
                    ("target", "1"),
                    ("metric", "carbon_intensity"),
                    ("labelSelector", "a=b"),
                ],
                "labelSelector",
            ),
        ] {
            let status = parse(pairs).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(part), "{pairs:?}: {status}");
        }
    }
}
