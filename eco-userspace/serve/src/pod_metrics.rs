// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The three numbers per pod that machines act on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    consumption::{Layout, Sums},
    custom_metrics::Selector,
    refusal::Refusal,
    service::Service,
    store::query::{Family, Matcher, POD_CARBON, POD_ENERGY, Query, Reading},
};

/// A number per pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodMetric {
    /// What it has used since it is known.
    EnergyJoules,
    /// What it uses now.
    PowerWatts,
    /// What it has emitted since it is known.
    CarbonGrams,
}

/// Which pods of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pods {
    /// The one.
    Named(String),
    /// Those that a label selector picks; all without one.
    Selected(Option<String>),
}

/// What was found of some pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodValues {
    /// By pod. One of which nothing is known is not in here, rather than zero.
    pub(crate) values: BTreeMap<String, f64>,
    /// How many there are, known or not; `None` where nobody was asked.
    pub(crate) exist: Option<usize>,
}

impl PodMetric {
    pub(crate) const ALL: [Self; 3] = [Self::EnergyJoules, Self::PowerWatts, Self::CarbonGrams];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EnergyJoules => "energy_joules",
            Self::PowerWatts => "power_watts",
            Self::CarbonGrams => "carbon_grams",
        }
    }

    /// The metric of this name.
    pub(crate) fn named(name: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Refusal::absent(format!("there is no metric {name:?}; there are {known}"))
        })
    }

    /// The span that it is a mean over; `None` for what is counted from the beginning.
    pub(crate) fn window(self, power_window: Duration) -> Option<Duration> {
        (self == Self::PowerWatts).then_some(power_window)
    }

    /// Why there may be none of it for a pod.
    pub(crate) fn absence(self, namespace: &str, pod: &str) -> String {
        let why = match self {
            Self::CarbonGrams => {
                "it did not run of late, or its node's agent knows no carbon intensity"
            }
            _ => "it did not run of late, or its node's agent is not scraped",
        };
        format!(
            "no {} is known of pod {namespace}/{pod}: {why}",
            self.name()
        )
    }

    fn family(self) -> &'static Family {
        match self {
            Self::EnergyJoules | Self::PowerWatts => &POD_ENERGY,
            Self::CarbonGrams => &POD_CARBON,
        }
    }
}

impl Service {
    /// A metric of some pods of a namespace.
    ///
    /// Which pods there are, and what labels they have, is the API server's to say: series of a
    /// pod outlive it for minutes, and an autoscaler would count it.
    pub(crate) async fn pod_metrics(
        &self,
        metric: PodMetric,
        namespace: &str,
        pods: &Pods,
        selector: &Selector,
    ) -> Result<PodValues, Refusal> {
        let layout = Layout::new(&["pod"], None);
        let mut matchers = vec![Matcher::is("namespace", namespace)];
        if let Pods::Named(name) = pods {
            matchers.push(Matcher::is("pod", name));
        }
        matchers.extend_from_slice(selector.matchers());
        let query = Query {
            family: metric.family(),
            matchers,
            by: layout.labels(),
            reading: match metric.window(self.power_window) {
                Some(window) => Reading::Rate(window),
                None => Reading::Last,
            },
        };
        let existing = async {
            let Pods::Selected(labels) = pods else {
                return Ok(None);
            };
            match &self.cluster {
                Some(cluster) => {
                    let pods = cluster.pods(namespace, labels.as_deref()).await?;
                    Ok(Some(pods))
                }
                None if labels.is_some() => Err(Refusal::bad(
                    "labels of pods are the API server's to say, and `eco serve` runs without one: \
                     leave out the label selector",
                )),
                None => Ok(None),
            }
        };
        let read = async { self.store.read(&query).await.map_err(Refusal::from) };
        let (rows, existing) = tokio::try_join!(read, existing)?;
        for warning in &rows.warnings {
            tracing::warn!(warning, "an incomplete answer");
        }
        let sums = Sums::whole(&rows.rows, &layout);
        let named = sums.iter().filter_map(|(key, sum)| {
            let pod = key.first()?;
            let exists = existing.as_ref().is_none_or(|pods| pods.contains(pod));
            exists.then(|| (pod.clone(), sum.total))
        });
        Ok(PodValues {
            values: named.collect(),
            exist: existing.as_ref().map(BTreeSet::len),
        })
    }
}
