// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stores of metrics as clusters have them: each must answer what eco asks, alike.

use std::time::{SystemTime, UNIX_EPOCH};

use eco_tests::{
    servers::prometheus::{Kind, Sample, Store, scrape},
    wait,
};

#[test]
fn a_store_answers_for_the_past() {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    // An hour of a counter that grows by 2 J each second.
    let samples = (0..=240).map(|step| Sample {
        series: r#"eco_test_joules_total{pod="a \"b\""}"#.to_owned(),
        at: now - 3600.0 + f64::from(step) * 15.0,
        value: f64::from(step) * 30.0,
    });
    for kind in Kind::ALL {
        let Some(store) = Store::start(kind, "", samples.clone()).unwrap() else {
            return;
        };
        let watts = store
            .number("sum(rate(eco_test_joules_total[30m]))")
            .unwrap()
            .unwrap();
        assert!((watts - 2.0).abs() < 0.05, "{kind:?}: {watts} W");
        let total = store.query("eco_test_joules_total").unwrap();
        assert_eq!(total[0]["metric"]["pod"], "a \"b\"", "{kind:?}");
        assert_eq!(store.number("eco_test_absent").unwrap(), None, "{kind:?}");
        assert!(store.query("sum(").is_err(), "{kind:?}");
    }
}

#[test]
fn a_store_scrapes_what_it_is_told_to() {
    // Prometheus is one that it can scrape itself.
    let Some(target) = Store::start(Kind::Prometheus, "", []).unwrap() else {
        return;
    };
    let address = target.url().replace("http://", "");
    for kind in Kind::ALL {
        let config = scrape("target", &[&address]);
        let Some(store) = Store::start(kind, &config, []).unwrap() else {
            return;
        };
        wait::until("the target is up", || {
            store
                .number(r#"up{job="target"}"#)
                .is_ok_and(|up| up == Some(1.0))
        })
        .unwrap();
    }
}
