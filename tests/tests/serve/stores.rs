// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is answered from a store, and from agents themselves.

use std::time::{SystemTime, UNIX_EPOCH};

use eco_tests::{
    agent::{Agent, Setup},
    serve::{Fleet, IDLE_WATTS, OTHER_WATTS, POD_DRAM_WATTS, POD_WATTS, Serve},
    servers::{
        free_port,
        prometheus::{Kind, Sample, Store, scrape},
    },
    wait,
};
use serde_json::Value;

/// Two nodes of three pods, of which two share a namespace, for an hour until just after now:
/// so that what is asked in the next minute has fresh samples.
fn fleet() -> Fleet {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Fleet {
        nodes: 2,
        pods: 3,
        per_namespace: 2,
        start: now.as_secs_f64() - 3600.0,
        scrapes: 245,
        interval: 15.0,
    }
}

fn stores(samples: impl Iterator<Item = Sample> + Clone) -> Vec<(Kind, Store)> {
    let start = |kind| Some((kind, Store::start(kind, "", samples.clone()).unwrap()?));
    Kind::ALL.into_iter().filter_map(start).collect()
}

fn serve(store: &Store) -> Serve {
    Serve::start(&["--store", &store.url()]).unwrap()
}

/// Whether a number is what it should be but for a store's extrapolation.
#[track_caller]
fn assert_near(found: &Value, expected: f64) {
    let number = found.as_f64().unwrap_or(f64::NAN);
    let is_near = (number - expected).abs() <= expected.abs() * 0.02 + 1e-9;
    assert!(is_near, "{found} is not near {expected}");
}

#[test]
fn a_pod_costs_its_package_and_memory_and_no_core_twice() {
    for (_, store) in stores(fleet().samples()) {
        let serve = serve(&store);
        let pod = serve
            .json("/v1/pods/team-0/pod-1?window=30m&by=domain")
            .unwrap();
        let span = 1800.0;
        let watts = POD_WATTS + POD_DRAM_WATTS;
        assert_near(&pod["energy_joules"]["total"], watts * span);
        assert_near(&pod["energy_joules"]["core"], POD_WATTS * 0.8 * span);
        assert_near(&pod["power_watts"], watts);
        assert_near(&pod["cpu_seconds"], 0.5 * span);
        assert!(pod["carbon_grams"].is_null(), "no intensity is known");
        assert_eq!(pod["estimated"], false);
        assert_eq!(pod["by"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn the_books_behind_an_answer_add_up() {
    for (_, store) in stores(fleet().samples()) {
        let serve = serve(&store);
        let answer = serve.json("/v1/namespaces?window=30m").unwrap();
        let span = 1800.0;
        // Six pods two by two.
        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        for namespace in items {
            assert_near(&namespace["energy_joules"]["total"], 2.0 * 6.0 * span);
        }
        let books = &answer["conservation"];
        let (pods, rest) = (6.0 * (POD_WATTS + POD_DRAM_WATTS), 2.0 * OTHER_WATTS);
        assert_near(&books["pods_joules"], pods * span);
        assert_near(&books["units_joules"], (pods + rest) * span);
        assert_near(&books["idle_joules"], 2.0 * IDLE_WATTS * span);
        assert_near(
            &books["node_joules"],
            (pods + rest + 2.0 * IDLE_WATTS) * span,
        );
        let remainder = books["remainder_joules"].as_f64().unwrap();
        assert!(remainder.abs() < 1.0, "{answer}");
    }
}

#[test]
fn a_series_that_two_replicas_have_scraped_counts_once() {
    let twice = fleet().samples().flat_map(|sample| {
        ["a", "b"].map(|replica| Sample {
            series: sample
                .series
                .replacen('{', &format!("{{replica=\"{replica}\","), 1),
            ..sample.clone()
        })
    });
    // Samples of one series come in their order, so one replica after the other.
    let sorted = ["\"a\"", "\"b\""].map(|replica| {
        let twice = twice.clone();
        let replica = format!("replica={replica}");
        twice
            .filter(move |sample| sample.series.contains(&replica))
            .collect::<Vec<_>>()
    });
    for (_, store) in stores(sorted.concat().into_iter()) {
        let pod = serve(&store).json("/v1/pods/team-0/pod-0").unwrap();
        assert_near(&pod["power_watts"], POD_WATTS + POD_DRAM_WATTS);
    }
}

#[test]
fn what_no_store_knows_is_not_found_and_a_hostile_name_is_just_a_name() {
    for (_, store) in stores(fleet().samples()) {
        let serve = serve(&store);
        let long = "x".repeat(253);
        let names = [
            "absent",
            "%22%7D%20or%20vector(1)%23",
            "a%0Ab",
            "%5C",
            ".*",
            "%F0%9F%92%A5",
            &long,
        ];
        for name in names {
            let answer = serve.get(&format!("/v1/pods/team-0/{name}")).unwrap();
            assert_eq!(answer.status, 404, "{name}: {}", answer.body);
        }
    }
}

/// An agent that measures this machine and knows an intensity, and where it is scraped.
fn agent() -> (Agent, String) {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let agent = Agent::start(Setup {
        arguments: vec!["--listen".into(), address.clone().into()],
        variables: vec![("ECO_CARBON__ZONE", "DE".into())],
        ..Setup::default()
    });
    (agent.unwrap(), address)
}

#[test]
fn a_real_agents_node_is_served_from_a_real_store() {
    let (_agent, address) = agent();
    for kind in Kind::ALL {
        let Some(store) = Store::start(kind, &scrape("eco", &[&address]), []).unwrap() else {
            return;
        };
        let serve = Serve::start(&["--store", &store.url(), "--power-window", "10s"]).unwrap();
        let node = wait::until_some("the node has power and carbon", || {
            let nodes = serve.json("/v1/nodes?window=1m").ok()?;
            let node = nodes["items"].get(0)?.clone();
            for amount in ["power_watts", "carbon_grams"] {
                node[amount].as_f64().filter(|amount| *amount > 0.0)?;
            }
            Some(node)
        })
        .unwrap();
        assert!(
            node["energy_joules"]["total"].as_f64().unwrap() > 0.0,
            "{node}"
        );
        assert!(node["cpu_seconds"].as_f64().unwrap() > 0.0, "{node}");
    }
}

#[test]
fn without_a_store_the_agents_are_asked() {
    let (_agent, address) = agent();
    let serve = Serve::start(&[
        "--agents",
        &format!("http://{address}"),
        "--agents-interval",
        "250ms",
        "--power-window",
        "5s",
    ])
    .unwrap();
    let answer = wait::until_some("the node has power, and its books", || {
        let nodes = serve.json("/v1/nodes?window=10s").ok()?;
        let watts = nodes["items"].get(0)?["power_watts"].as_f64()?;
        let node = nodes["conservation"]["node_joules"].as_f64()?;
        (watts > 0.0 && node > 0.0).then_some(nodes)
    })
    .unwrap();
    let books = &answer["conservation"];
    let number = |name: &str| books[name].as_f64().unwrap();
    // Every series of one scrape is of one moment, so their growth adds up; but for a process
    // whose series went, whose joules were already in it.
    let remainder = number("remainder_joules").abs();
    assert!(remainder <= 0.02 * number("node_joules"), "{books}");
    let far = serve.get("/v1/nodes?window=1d").unwrap();
    assert_eq!(far.status, 400, "{}", far.body);
    // Who asks for no window gets what there is.
    let usual = serve.json("/v1/nodes").unwrap();
    assert_eq!(usual["window_seconds"], 900.0, "{usual}");
}
