// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cluster at its full size: simulated nodes and pods on a real API server, whose energy a
//! real store has.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use eco_tests::{
    length,
    serve::{IDLE_WATTS, NodeLoad, OTHER_WATTS, PodLoad, PodReader, Scrapes, Serve},
    servers::{
        kubernetes::Cluster,
        kwok::{Kwok, SimulatedPod},
        prometheus::{Kind, Store},
    },
    wait,
};
use serde_json::Value;

use crate::{
    cluster::{METRICS, names, quantity},
    one_cluster_at_a_time,
};

/// What a node, a namespace and a pod of an answer is, with its joules or watts.
type Amounts = BTreeMap<String, f64>;

/// Each namespace has two Deployments of these names.
const APPS: [&str; 2] = ["web", "batch"];

/// What the chart lets eco serve have.
const MEMORY_LIMIT: u64 = 256 * 1024 * 1024;

const WINDOW: f64 = 600.0;

/// How large the cluster is.
struct Size {
    nodes: usize,
    namespaces: usize,
    /// Pods of each of the [`APPS`].
    replicas: [usize; 2],
}

fn size() -> Size {
    let short = Size {
        nodes: 10,
        namespaces: 2,
        replicas: [60, 40],
    };
    // 5,000 pods.
    let full = Size {
        nodes: 100,
        namespaces: 5,
        replicas: [600, 400],
    };
    length::of(short, full)
}

/// What the agents of the simulated nodes would have measured.
struct Truth {
    nodes: Vec<NodeLoad>,
}

impl Truth {
    /// No two neighbours burn alike. Of every twentieth pod nothing is known: it has not run for
    /// long enough. And each node had a pod that has been deleted.
    fn of(pods: &[SimulatedPod]) -> Self {
        let mut nodes: BTreeMap<String, Vec<PodLoad>> = BTreeMap::new();
        for (number, pod) in pods.iter().enumerate() {
            let loads = nodes.entry(pod.node.clone()).or_default();
            if loads.is_empty() {
                loads.push(PodLoad {
                    namespace: "team-0".into(),
                    pod: format!("deleted-from-{}", pod.node),
                    uid: format!("deleted-{}", pod.node),
                    watts: 4.0,
                });
            }
            if number % 20 != 0 {
                loads.push(PodLoad {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    watts: 1.0 + (number % 9) as f64,
                });
            }
        }
        let nodes = nodes.into_iter();
        let nodes = nodes.map(|(name, pods)| NodeLoad { name, pods });
        Self {
            nodes: nodes.collect(),
        }
    }

    fn pods(&self) -> impl Iterator<Item = &PodLoad> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    /// Watts of the pods of a namespace, by name.
    fn watts(&self, namespace: &str) -> Amounts {
        let pods = self.pods().filter(|pod| pod.namespace == namespace);
        pods.map(|pod| (pod.pod.clone(), pod.total_watts()))
            .collect()
    }

    fn store(&self) -> Option<Store> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let scrapes = Scrapes {
            // As long again after now: there are fresh samples to the end of the test.
            start: now.as_secs_f64() - 900.0,
            count: 120,
            interval: 15.0,
        };
        let samples = scrapes.of(self.nodes.iter().cloned());
        Store::start(Kind::Prometheus, "", samples).unwrap()
    }
}

#[test]
fn in_a_large_cluster_every_pod_is_there_once_and_the_sums_are_right() {
    let _turn = one_cluster_at_a_time();
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    let Some(kwok) = Kwok::start(&cluster).unwrap() else {
        return;
    };
    let size = size();
    kwok.add_nodes(size.nodes).unwrap();
    for number in 0..size.namespaces {
        let namespace = format!("team-{number}");
        cluster.namespace(&namespace).unwrap();
        for (app, replicas) in APPS.into_iter().zip(size.replicas) {
            kwok.deploy(&namespace, app, replicas).unwrap();
        }
    }
    let pods = kwok.pods().unwrap();
    let count = size.namespaces * size.replicas.iter().sum::<usize>();
    assert_eq!(pods.len(), count);
    let truth = Truth::of(&pods);
    let Some(store) = truth.store() else {
        return;
    };
    let reader = PodReader::new(&cluster, "team-0").unwrap();
    let url = store.url();
    let arguments = [&["--store", &url], &reader.arguments()[..]].concat();
    let serve = Serve::start(&arguments).unwrap();

    selectors_pick_what_the_api_server_says(&cluster, &serve, &truth);
    every_pod_is_listed_once(&serve, &truth);
    namespaces_and_nodes_are_the_sums_of_their_pods(&serve, &truth, size.namespaces);
    deleted_pods_are_autoscaled_no_more(&cluster, &serve, &truth);

    let peak = serve.peak_resident_bytes().unwrap();
    println!(
        "eco serve with {count} pods on {} nodes: {:.1} MiB at most",
        size.nodes,
        peak as f64 / (1024.0 * 1024.0)
    );
    assert!(peak < MEMORY_LIMIT, "{peak} bytes");
}

fn selectors_pick_what_the_api_server_says(cluster: &Cluster, serve: &Serve, truth: &Truth) {
    let known = truth.watts("team-0");
    for selector in ["", "app=web", "app in (web,batch)", "app!=web", "app=other"] {
        let exist = existing(cluster, "team-0", selector);
        let expected: Amounts = known
            .iter()
            .filter(|(pod, _)| exist.contains(*pod))
            .map(|(pod, watts)| (pod.clone(), *watts))
            .collect();
        let found = star(serve, "power_watts", selector);
        assert_same(&found, &expected, selector);
    }
    let all = star(serve, "energy_joules", "");
    assert_eq!(all.len(), star(serve, "power_watts", "").len());
}

fn every_pod_is_listed_once(serve: &Serve, truth: &Truth) {
    let answer = serve.json(&format!("/v1/pods?window={WINDOW}s")).unwrap();
    let items = answer["items"].as_array().unwrap();
    let key = |namespace: &str, pod: &str| format!("{namespace}/{pod}");
    let found: Amounts = items
        .iter()
        .map(|item| {
            let text = |label: &str| item[label].as_str().unwrap();
            (key(text("namespace"), text("pod")), total(item))
        })
        .collect();
    assert_eq!(found.len(), items.len(), "a pod is listed twice");
    let expected = truth.pods().map(|pod| {
        let joules = pod.total_watts() * WINDOW;
        (key(&pod.namespace, &pod.pod), joules)
    });
    assert_same(&found, &expected.collect(), "/v1/pods");
}

fn namespaces_and_nodes_are_the_sums_of_their_pods(serve: &Serve, truth: &Truth, teams: usize) {
    let answer = serve
        .json(&format!("/v1/namespaces?window={WINDOW}s"))
        .unwrap();
    let expected = (0..teams).map(|team| {
        let namespace = format!("team-{team}");
        let watts: f64 = truth.watts(&namespace).values().sum();
        (namespace, watts * WINDOW)
    });
    assert_same(
        &by_label(&answer, "namespace"),
        &expected.collect(),
        "/v1/namespaces",
    );
    let books = &answer["conservation"];
    let remainder = books["remainder_joules"].as_f64().unwrap();
    let node = books["node_joules"].as_f64().unwrap();
    assert!(remainder.abs() <= node * 1e-6, "{books}");

    let answer = serve.json(&format!("/v1/nodes?window={WINDOW}s")).unwrap();
    let expected = truth.nodes.iter().map(|node| {
        let pods: f64 = node.pods.iter().map(PodLoad::total_watts).sum();
        (
            node.name.clone(),
            (pods + IDLE_WATTS + OTHER_WATTS) * WINDOW,
        )
    });
    assert_same(&by_label(&answer, "node"), &expected.collect(), "/v1/nodes");
}

/// Their series stay in the store for minutes.
fn deleted_pods_are_autoscaled_no_more(cluster: &Cluster, serve: &Serve, truth: &Truth) {
    let web = ["deployment", "web", "-n", "team-0"];
    cluster
        .kubectl(&[&["scale", "--replicas=5"], &web[..]].concat())
        .unwrap();
    let known = truth.watts("team-0");
    wait::until("only those that stay are answered for", || {
        let exist = existing(cluster, "team-0", "app=web");
        let found: BTreeSet<String> = star(serve, "power_watts", "app=web").into_keys().collect();
        exist.len() == 5
            && found
                .iter()
                .all(|pod| exist.contains(pod) && known.contains_key(pod))
    })
    .unwrap();
}

/// The names of pods that the API server has.
fn existing(cluster: &Cluster, namespace: &str, selector: &str) -> BTreeSet<String> {
    let names = "jsonpath={.items[*].metadata.name}";
    let list = ["get", "pods", "-n", namespace, "-l", selector, "-o", names];
    let told = cluster.kubectl(&list).unwrap();
    told.split_whitespace().map(str::to_owned).collect()
}

/// A metric of team-0's pods, as an autoscaler asks for it.
fn star(serve: &Serve, metric: &str, selector: &str) -> Amounts {
    let selector = selector
        .replace(' ', "%20")
        .replace('=', "%3D")
        .replace(',', "%2C");
    let path = format!("{METRICS}/namespaces/team-0/pods/*/{metric}?labelSelector={selector}");
    let list = serve.json(&path).unwrap();
    let pods = names(&list);
    let values = list["items"].as_array().unwrap().iter();
    let found: Amounts = values
        .zip(&pods)
        .map(|(item, pod)| ((*pod).to_owned(), quantity(&item["value"])))
        .collect();
    assert_eq!(found.len(), pods.len(), "a pod is listed twice: {list}");
    found
}

fn by_label(answer: &Value, label: &str) -> Amounts {
    let items = answer["items"].as_array().unwrap().iter();
    items
        .map(|item| (item[label].as_str().unwrap().to_owned(), total(item)))
        .collect()
}

fn total(item: &Value) -> f64 {
    item["energy_joules"]["total"].as_f64().unwrap()
}

/// The same names, and the same amounts but for a store's extrapolation.
#[track_caller]
fn assert_same(found: &Amounts, expected: &Amounts, what: &str) {
    let names = |amounts: &Amounts| amounts.keys().cloned().collect::<BTreeSet<_>>();
    let (have, want) = (names(found), names(expected));
    let missing: Vec<&String> = want.difference(&have).collect();
    let strange: Vec<&String> = have.difference(&want).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "{what}: without {missing:?}, but with {strange:?}"
    );
    for (name, amount) in expected {
        let is_near = (found[name] - amount).abs() <= amount * 0.02;
        assert!(is_near, "{what}: {name} has {}, not {amount}", found[name]);
    }
}
