// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the chart says to the Prometheus operator, and to whoever keeps the network.

use eco_tests::{needs, servers::kubernetes::Cluster};
use serde_json::{Value, json};

use crate::installation::{Installation, NAMESPACE};

/// Has the API server know the operator's kinds before there is an operator: as much of their
/// schema as the chart uses, by the names in its own definitions.
/// <https://github.com/prometheus-operator/prometheus-operator/tree/main/example/prometheus-operator-crd>
pub(crate) fn define(cluster: &Cluster) {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let labels = json!({"type": "object", "additionalProperties": text});
    let time = json!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let list = |item: Value| json!({"type": "array", "items": item});
    let relabeling = object(json!({
        "sourceLabels": texts,
        "targetLabel": text,
        "regex": text,
        "action": {"type": "string", "enum": ["replace", "keep", "drop", "labeldrop", "labelkeep"]},
    }));
    let endpoint = object(json!({
        "port": text,
        "interval": time,
        "honorLabels": {"type": "boolean"},
        "relabelings": list(relabeling),
    }));
    let monitor = object(json!({
        "selector": object(json!({"matchLabels": labels})),
        "endpoints": list(endpoint),
    }));
    let mut rule = object(json!({
        "record": text,
        "alert": text,
        "expr": {"x-kubernetes-int-or-string": true},
        "for": time,
        "labels": labels,
        "annotations": labels,
    }));
    rule["required"] = json!(["expr"]);
    let mut group = object(json!({"name": text, "interval": time, "rules": list(rule)}));
    group["required"] = json!(["name"]);
    let mut groups = list(group);
    // No two of one name.
    groups["x-kubernetes-list-type"] = json!("map");
    groups["x-kubernetes-list-map-keys"] = json!(["name"]);
    let rules = object(json!({"groups": groups}));
    for (kind, spec) in [("ServiceMonitor", monitor), ("PrometheusRule", rules)] {
        let plural = format!("{}s", kind.to_lowercase());
        let mut schema = object(json!({"spec": spec}));
        schema["required"] = json!(["spec"]);
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com",
                "names": {"kind": kind, "plural": plural},
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        });
        cluster.apply(&definition.to_string()).unwrap();
        let what = format!("crd/{plural}.monitoring.coreos.com");
        cluster.wait_for(&what, "condition=Established").unwrap();
    }
}

#[test]
fn the_prometheus_operator_finds_the_agents_and_the_rules() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    let monitor = installed.get(&["servicemonitor", "eco-agent", "-n", NAMESPACE]);
    // Prometheus of the operator's own chart looks for a label.
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let services = selected(installed, "services", &monitor["spec"]["selector"]);
    assert_eq!(names(&services), ["eco-agent"], "{monitor}");
    let ports = &services["items"][0]["spec"]["ports"];
    assert_eq!(ports[0]["name"], monitor["spec"]["endpoints"][0]["port"]);

    let rules = installed.get(&["prometheusrules", "-n", NAMESPACE]);
    assert_eq!(names(&rules), ["eco-alerts", "eco-rules"]);

    // The definitions are as strict as the operator's: a misspelt key does not pass.
    let spec = &mut monitor.clone()["spec"]["endpoints"][0];
    spec["honourLabels"] = json!(true);
    let misspelt = json!({
        "apiVersion": monitor["apiVersion"],
        "kind": "ServiceMonitor",
        "metadata": {"name": "misspelt", "namespace": NAMESPACE},
        "spec": {"selector": monitor["spec"]["selector"], "endpoints": [spec]},
    });
    let refused = installed.cluster.apply(&misspelt.to_string()).unwrap_err();
    assert!(
        format!("{refused:#}").contains("honourLabels"),
        "{refused:#}"
    );
}

#[test]
fn network_policies_are_about_ecos_own_pods_and_ports() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    let template = |kind: &str, name: &str| {
        let workload = installed.get(&[kind, name, "-n", NAMESPACE]);
        workload["spec"]["template"].clone()
    };
    let agent = template("daemonset", "eco-agent");
    let serve = template("deployment", "eco-serve");
    let mut policies = Vec::new();
    for (name, own, other) in [("eco-agent", &agent, &serve), ("eco-serve", &serve, &agent)] {
        let policy = installed.get(&["networkpolicy", name, "-n", NAMESPACE]);
        let spec = &policy["spec"];
        assert!(picks(&spec["podSelector"], own), "{policy}");
        assert!(!picks(&spec["podSelector"], other), "{policy}");
        let port = &own["spec"]["containers"][0]["ports"][0]["name"];
        assert_eq!(&spec["ingress"][0]["ports"][0]["port"], port, "{policy}");
        assert_eq!(spec["policyTypes"], json!(["Ingress"]), "{policy}");
        policies.push(policy);
    }
    // Besides Prometheus only eco serve asks the agents.
    let from = policies[0]["spec"]["ingress"][0]["from"]
        .as_array()
        .unwrap();
    assert_eq!(from.len(), 2, "{from:?}");
    assert!(from[0]["namespaceSelector"]["matchLabels"].is_object());
    assert!(picks(&from[1]["podSelector"], &serve), "{from:?}");
}

/// Whether a selector picks the pods of a template.
fn picks(selector: &Value, template: &Value) -> bool {
    let mut labels = selector["matchLabels"].as_object().unwrap().iter();
    labels.all(|(name, value)| &template["metadata"]["labels"][name] == value)
}

/// What a selector of labels picks in the chart's namespace.
fn selected(installed: &Installation, kind: &str, selector: &Value) -> Value {
    let labels = selector["matchLabels"].as_object().unwrap().iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
        .collect();
    installed.get(&[kind, "-n", NAMESPACE, "-l", &labels.join(",")])
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}
