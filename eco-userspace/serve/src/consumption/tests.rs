// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::sync::Arc;

use super::*;
use crate::{
    store::Source,
    test_server::{Asked, TestServer},
};

/// A store with one pod on one node: `n1` has a package with its cores and memory.
fn books(asked: &Asked) -> (u16, String) {
    let question = &asked.body;
    let has = |part: &str| question.contains(part);
    let series: Vec<(&str, f64)> = if has("rate%28eco_pod_energy") {
        vec![("package", 2.0), ("core", 1.5), ("dram", 0.5)]
    } else if has("eco_pod_energy") {
        vec![("package", 100.0), ("core", 70.0), ("dram", 20.0)]
    } else if has("eco_node_energy") {
        vec![("package", 200.0), ("core", 140.0), ("dram", 40.0)]
    } else if has("eco_idle_energy") {
        vec![("package", 50.0), ("core", 5.0), ("dram", 10.0)]
    } else if has("eco_unattributed") {
        vec![("package", 1.0)]
    } else if has("eco_unit_energy") {
        vec![("package", 149.0), ("core", 135.0), ("dram", 30.0)]
    } else if has("eco_pod_cpu") {
        vec![("", 7.0)]
    } else {
        vec![]
    };
    let rows: Vec<String> = series
        .iter()
        .map(|(domain, value)| {
            format!(
                r#"{{"metric":{{"node":"n1","namespace":"a","pod":"p","container":"c","estimated":"true","domain":"{domain}"}},"value":[0,"{value}"]}}"#
            )
        })
        .collect();
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        rows.join(",")
    );
    (200, body)
}

fn pod(by: Option<&'static str>) -> Question {
    Question {
        subject: Subject::Pods {
            namespace: Some("a".into()),
            pod: Some("p".into()),
        },
        window: Duration::from_secs(3600),
        power_window: Duration::from_secs(60),
        by,
    }
}

async fn found(question: &Question) -> Findings {
    let server = Arc::new(TestServer::with(books).await);
    let store = Store::open(&Source::Store(crate::Remote::at(server.url()))).unwrap();
    find(&store, question).await.unwrap()
}

#[tokio::test]
async fn a_pod_has_its_energy_once_its_power_and_its_cpu_time() {
    let found = found(&pod(None)).await;
    assert_eq!(found.items.len(), 1);
    let item = &found.items[0];
    assert_eq!(
        item.labels,
        BTreeMap::from([("namespace", "a".into()), ("pod", "p".into())])
    );
    assert_eq!(item.consumption.energy_joules.total, 120.0);
    assert_eq!(item.consumption.energy_joules.by_domain["core"], 70.0);
    assert_eq!(item.consumption.power_watts, Some(2.5));
    assert_eq!(item.consumption.cpu_seconds, Some(7.0));
    assert!(item.estimated && item.by.is_none());
}

#[tokio::test]
async fn without_a_carbon_series_carbon_is_null_and_never_zero() {
    let found = found(&pod(None)).await;
    assert_eq!(found.items[0].consumption.carbon_grams, None);
    let json = serde_json::to_value(&found.items[0]).unwrap();
    assert!(json["carbon_grams"].is_null() && json["energy_joules"]["total"] == 120.0);
}

#[tokio::test]
async fn what_does_not_add_up_is_shown() {
    let found = found(&pod(None)).await;
    let json = serde_json::to_value(found.conservation.unwrap()).unwrap();
    assert_eq!(json["node_joules"], 240.0);
    assert_eq!(json["units_joules"], 179.0);
    assert_eq!(json["pods_joules"], 120.0);
    assert_eq!(json["idle_joules"], 60.0);
    assert_eq!(json["unattributed_joules"], 1.0);
    assert_eq!(json["remainder_joules"], 0.0);
}

#[tokio::test]
async fn a_breakdown_adds_up_to_the_whole() {
    let found = found(&pod(Some("container"))).await;
    let item = &found.items[0];
    let parts = item.by.as_ref().unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].labels["container"], "c");
    assert_eq!(parts[0].consumption, item.consumption);
}
