// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::sync::Arc;

use axum::{body::Body, http::Request};
use tower_service::Service as _;

use super::*;
use crate::{
    cluster::Cluster,
    http_client::Remote,
    service,
    store::Source,
    test_server::{Asked, TestServer},
};

const METRICS: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods";

/// A store in which three pods have series.
fn store(asked: &Asked) -> (u16, String) {
    let names = ["a", "b", "gone"];
    let wanted = names.iter().filter(|name| {
        let one = asked.body.contains("pod%3D%22");
        !one || asked.body.contains(&format!("pod%3D%22{name}%22"))
    });
    let value = if asked.body.contains("rate%28") {
        "2.5"
    } else {
        "100"
    };
    let rows = wanted.map(|name| {
        format!(
            r#"{{"metric":{{"pod":"{name}","node":"n","domain":"package"}},"value":[0,"{value}"]}},
            {{"metric":{{"pod":"{name}","node":"n","domain":"core"}},"value":[0,"1"]}}"#
        )
    });
    let rows = if asked.body.contains("carbon") {
        String::new()
    } else {
        rows.collect::<Vec<_>>().join(",")
    };
    (
        200,
        format!(r#"{{"status":"success","data":{{"result":[{rows}]}}}}"#),
    )
}

/// An API server that lists two of them.
fn api_server(asked: &Asked) -> (u16, String) {
    let rows = if asked.path.contains("labelSelector=app%3Da") {
        r#"{"cells":["a"]}"#
    } else {
        r#"{"cells":["a"]},{"cells":["b"]},{"cells":["starting"]}"#
    };
    let columns = r#""columnDefinitions":[{"format":"name"}]"#;
    (200, format!(r#"{{{columns},"rows":[{rows}]}}"#))
}

async fn get(path: &str) -> (u16, Value) {
    let (prometheus, kubernetes) = (
        TestServer::with(store).await,
        TestServer::with(api_server).await,
    );
    let source = Source::Store(Remote::at(prometheus.url()));
    let mut service = Service::for_tests(&source);
    let cluster = Cluster::new(&Remote::at(kubernetes.url())).unwrap();
    Arc::get_mut(&mut service).unwrap().cluster = Some(cluster);
    answer(service, path).await
}

async fn answer(service: Arc<Service>, path: &str) -> (u16, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = service::router(service).call(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["describedObject"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_pods_power_has_the_shape_that_kubernetes_reads() {
    let (status, list) = get(&format!("{METRICS}/a/power_watts")).await;
    assert_eq!(status, 200);
    assert_eq!(list["kind"], "MetricValueList");
    assert_eq!(list["apiVersion"], "custom.metrics.k8s.io/v1beta2");
    let item = &list["items"][0];
    assert_eq!(item["value"], "2500m");
    assert_eq!(item["windowSeconds"], 60);
    assert_eq!(
        item["metric"],
        json!({"name": "power_watts", "selector": null})
    );
    assert_eq!(
        item["describedObject"],
        json!({"kind": "Pod", "namespace": "ns", "name": "a", "apiVersion": "/v1"})
    );
    let time = item["timestamp"].as_str().unwrap();
    assert_eq!(time.len(), "2025-01-01T00:00:00Z".len(), "{time}");
}

#[tokio::test]
async fn a_star_is_every_pod_that_exists_and_is_known() {
    for star in ["*", "%2A"] {
        let (_, list) = get(&format!("{METRICS}/{star}/power_watts")).await;
        assert_eq!(names(&list), ["a", "b"], "{star}");
    }
}

#[tokio::test]
async fn a_label_selector_is_the_api_servers_to_decide() {
    let (_, list) = get(&format!("{METRICS}/*/power_watts?labelSelector=app%3Da")).await;
    assert_eq!(names(&list), ["a"]);
}

#[tokio::test]
async fn without_an_api_server_a_label_selector_is_refused_rather_than_ignored() {
    let prometheus = TestServer::with(store).await;
    let source = Source::Store(Remote::at(prometheus.url()));
    let path = format!("{METRICS}/*/power_watts?labelSelector=app%3Da");
    let (status, said) = answer(Service::for_tests(&source), &path).await;
    assert_eq!((status, &said["kind"]), (400, &"Status".into()));
}

#[tokio::test]
async fn a_metric_selector_reaches_the_store_and_is_repeated() {
    let path = format!("{METRICS}/*/energy_joules?metricLabelSelector=domain%3Dcore");
    let (_, list) = get(&path).await;
    let item = &list["items"][0];
    assert_eq!(
        item["metric"]["selector"],
        json!({"matchLabels": {"domain": "core"}})
    );
    assert!(item["windowSeconds"].is_null());
    let (status, _) = get(&format!(
        "{METRICS}/*/energy_joules?metricLabelSelector=x%3Dy"
    ))
    .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_is_not_known_is_not_found() {
    for path in ["nobody/power_watts", "a/carbon_grams", "a/beauty"] {
        let (status, said) = get(&format!("{METRICS}/{path}")).await;
        assert_eq!(
            (status, &said["reason"]),
            (404, &"NotFound".into()),
            "{path}"
        );
    }
    let (status, list) = get(&format!("{METRICS}/*/carbon_grams")).await;
    assert_eq!((status, names(&list).len()), (200, 0));
}

#[tokio::test]
async fn discovery_tells_the_three_metrics() {
    let (_, list) = get("/apis/custom.metrics.k8s.io/v1beta2").await;
    assert_eq!(list["kind"], "APIResourceList");
    let resources = list["resources"].as_array().unwrap().iter();
    let names: Vec<_> = resources
        .map(|resource| resource["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "pods/energy_joules",
            "pods/power_watts",
            "pods/carbon_grams"
        ]
    );
    let (_, groups) = get("/apis").await;
    assert_eq!(groups["groups"][0]["name"], "custom.metrics.k8s.io");
}
