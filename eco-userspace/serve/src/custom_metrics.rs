// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `custom.metrics.k8s.io/v1beta2`: what a HorizontalPodAutoscaler asks for each pod.
//!
//! <https://github.com/kubernetes/metrics/blob/master/pkg/apis/custom_metrics/v1beta2/types.go>

mod quantity;
mod selector;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::get,
};
use jiff::{Timestamp, Unit};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::selector::Selector;
use crate::{
    auth::Caller,
    cluster::Act,
    pod_metrics::{PodMetric, Pods},
    refusal::Refusal,
    service::Service,
};

const GROUP: &str = "custom.metrics.k8s.io";
const VERSION: &str = "custom.metrics.k8s.io/v1beta2";

/// What anybody may read: which metrics there are. The API server asks before it forwards.
pub(crate) fn discovery() -> Router<Arc<Service>> {
    Router::new()
        .route(
            "/apis/custom.metrics.k8s.io",
            get(|| async { Json(group()) }),
        )
        .route(
            "/apis/custom.metrics.k8s.io/v1beta2",
            get(|| async { Json(resources()) }),
        )
}

/// The metrics.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new().route(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/{name}/{metric}",
        get(pods),
    )
}

/// The `APIGroup`, which is also part of the list of all groups.
pub(crate) fn group() -> Value {
    let version = json!({ "groupVersion": VERSION, "version": "v1beta2" });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    })
}

fn resources() -> Value {
    let resource = |metric: PodMetric| {
        json!({
            "name": format!("pods/{}", metric.name()),
            "singularName": "",
            "namespaced": true,
            "kind": "MetricValueList",
            "verbs": ["get"],
        })
    };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": VERSION,
        "resources": PodMetric::ALL.map(resource),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selectors {
    label_selector: String,
    metric_label_selector: String,
}

async fn pods(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Path((namespace, name, metric)): Path<(String, String, String)>,
    Query(selectors): Query<Selectors>,
) -> Result<Json<Value>, Refusal> {
    let act = Act::Resource {
        verb: "get",
        group: GROUP,
        resource: "pods",
        subresource: metric.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
    };
    // Before anything else: whether a metric or a pod exists is for those who may know.
    service.access.check(&caller, act).await?;
    let metric = PodMetric::named(&metric)?;
    let selector = Selector::parse(&selectors.metric_label_selector)?;
    let pods = match name.as_str() {
        "*" => Pods::Selected(Some(selectors.label_selector).filter(|text| !text.is_empty())),
        _ => Pods::Named(name),
    };
    let values = service
        .pod_metrics(metric, &namespace, &pods, &selector)
        .await?
        .values;
    if let (Pods::Named(name), true) = (&pods, values.is_empty()) {
        return Err(Refusal::absent(metric.absence(&namespace, name)));
    }
    let now = now();
    let window = metric.window(service.power_window);
    let item = |(pod, value): (String, f64)| {
        json!({
            "describedObject": {
                "kind": "Pod",
                "namespace": namespace,
                "name": pod,
                "apiVersion": "/v1",
            },
            "metric": { "name": metric.name(), "selector": selector.to_json() },
            "timestamp": now,
            "windowSeconds": window.map(|window| window.as_secs()),
            "value": quantity::format(value),
        })
    };
    Ok(Json(json!({
        "kind": "MetricValueList",
        "apiVersion": VERSION,
        "metadata": {},
        "items": values.into_iter().map(item).collect::<Vec<_>>(),
    })))
}

/// Kubernetes' times have whole seconds.
fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests;
