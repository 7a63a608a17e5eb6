// SPDX-License-Identifier: Apache-2.0 OR MIT
//! KEDA's own client asks for what autoscaling needs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use eco_tests::{
    serve::{Fleet, POD_DRAM_WATTS, POD_WATTS, Serve},
    servers::{
        authority::Authority,
        free_port,
        keda::Keda,
        prometheus::{Kind, Sample, Store},
    },
    wait,
};

/// A store of two pods, in one namespace, and of a zone in which a kWh emits 300 g.
fn store() -> Option<Store> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let fleet = Fleet {
        nodes: 1,
        pods: 2,
        per_namespace: 2,
        start: now.as_secs_f64() - 600.0,
        scrapes: 50,
        interval: 15.0,
    };
    let intensity = (0..fleet.scrapes).map(move |scrape| Sample {
        series: r#"eco_carbon_intensity_grams_per_kwh{node="node-0",zone="DE",source="test",kind="average",estimated="false"}"#.to_owned(),
        at: fleet.start + f64::from(scrape) * fleet.interval,
        value: 300.0,
    });
    Store::start(Kind::Prometheus, "", fleet.samples().chain(intensity)).unwrap()
}

fn scaler() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port().unwrap()).into()
}

#[test]
fn kedas_own_client_gets_all_that_it_asks_for() {
    let (Some(store), scaler) = (store(), scaler()) else {
        return;
    };
    let listen = scaler.to_string();
    let _serve = Serve::start(&["--store", &store.url(), "--keda-listen", &listen]).unwrap();
    let Some(keda) = Keda::find(scaler, false) else {
        return;
    };
    let power = ["metric=power_watts", "target=2.5", "activation=5"];
    let spec = keda.call("GetMetricSpec", "team-0", &power).unwrap();
    assert_eq!(spec["metricSpecs"][0]["metricName"], "power_watts");
    assert_eq!(spec["metricSpecs"][0]["targetSizeFloat"], 2.5);
    let values = keda.call("GetMetrics", "team-0", &power).unwrap();
    let watts = values["metricValues"][0]["metricValueFloat"]
        .as_f64()
        .unwrap();
    assert!(
        (watts - 2.0 * (POD_WATTS + POD_DRAM_WATTS)).abs() < 0.3,
        "{values}"
    );
    for method in ["IsActive", "StreamIsActive"] {
        let active = keda.call(method, "team-0", &power).unwrap();
        assert_eq!(active["result"], true, "{method}: {active}");
    }
    let pushed = keda.call("StreamMetricSpec", "team-0", &power).unwrap();
    assert_eq!(pushed, spec);

    let clean = [
        "metric=carbon_intensity",
        "target=1",
        "activeBelow=200",
        "zone=DE",
    ];
    let active = keda.call("IsActive", "team-0", &clean).unwrap();
    // Protobuf leaves out what is false.
    assert_ne!(active["result"], true, "300 g is not below 200: {active}");
}

#[test]
fn kedas_own_client_gets_reasons() {
    let (Some(store), scaler) = (store(), scaler()) else {
        return;
    };
    let listen = scaler.to_string();
    let _serve = Serve::start(&["--store", &store.url(), "--keda-listen", &listen]).unwrap();
    let Some(keda) = Keda::find(scaler, false) else {
        return;
    };
    for (namespace, metadata, code) in [
        ("team-0", &["taget=1"][..], "InvalidArgument: "),
        (
            "team-0",
            &["target=1", "metric=beauty"],
            "InvalidArgument: ",
        ),
        // Nothing is known there: no zero is made up.
        ("nowhere", &["target=1"], "NotFound: "),
        (
            "team-0",
            &["target=1", "metric=carbon_intensity", "zone=FR"],
            "NotFound: ",
        ),
    ] {
        let refused = keda
            .call("GetMetrics", namespace, metadata)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(code), "{metadata:?}: {refused}");
    }
}

#[test]
fn where_the_api_has_tls_keda_has_it_too() {
    let (Some(store), scaler) = (store(), scaler()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let identity = authority
        .issue("serve", "eco-serve", "", &["localhost"])
        .unwrap();
    let arguments = [
        "--store",
        &store.url(),
        "--keda-listen",
        &scaler.to_string(),
        "--tls-cert",
        identity.certificate.to_str().unwrap(),
        "--tls-key",
        identity.key.to_str().unwrap(),
    ];
    let _serve = Serve::delegated("127.0.0.1", &arguments).unwrap();
    let (Some(secure), Some(plain)) = (Keda::find(scaler, true), Keda::find(scaler, false)) else {
        return;
    };
    let active = |keda: &Keda| keda.call("IsActive", "team-0", &["target=1"]);
    wait::until("the scaler answers over TLS", || active(&secure).is_ok()).unwrap();
    assert!(active(&plain).is_err(), "nothing is said in the clear");
}
