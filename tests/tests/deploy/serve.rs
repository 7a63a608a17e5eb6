// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pods of `eco serve`.

use std::{fs, path::PathBuf};

use eco_tests::{needs, wait};
use serde_json::Value;

use crate::installation::{Installation, NAMESPACE};

const METRICS: &str = "/apis/custom.metrics.k8s.io/v1beta2";
const ECO: &str = "/apis/eco-observer.github.io/v1";

#[test]
fn the_charts_serve_answers_as_a_part_of_the_api_from_a_pod_that_may_do_nothing() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    // Its readiness probe passes, and the API server has found it at its Service's endpoint,
    // with the certificate that it was told to expect.
    for (what, condition) in [
        ("deployment/eco-serve -n eco", "condition=Available"),
        (
            "apiservice/v1beta2.custom.metrics.k8s.io",
            "condition=Available",
        ),
        (
            "apiservice/v1.eco-observer.github.io",
            "condition=Available",
        ),
    ] {
        installed
            .cluster
            .wait_for(what, condition)
            .unwrap_or_else(|why| panic!("{why:#}: {}", installed.told()));
    }
    let pod = the_one_behind_the_service(installed);
    the_neighbours_watts_come_through_it(installed);
    the_kernel_lets_it_do_nothing(installed.serve_port);
    // It did not get there by being started again.
    let now = installed.get(&["pod", &pod, "-n", NAMESPACE]);
    let status = &now["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 0, "{now}");
    assert_eq!(status["ready"], true, "{now}");
}

/// The only pod that requests can go to.
fn the_one_behind_the_service(installed: &Installation) -> String {
    let of_service = ["-l", "kubernetes.io/service-name=eco-serve"];
    let slices = [&["endpointslices", "-n", NAMESPACE], &of_service[..]].concat();
    let slices = installed.get(&slices);
    let endpoints: Vec<&Value> = slices["items"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .collect();
    assert_eq!(endpoints.len(), 1, "{slices}");
    assert_eq!(endpoints[0]["conditions"]["ready"], true, "{slices}");
    let target = &endpoints[0]["targetRef"];
    assert_eq!(target["kind"], "Pod", "{slices}");
    target["name"].as_str().unwrap().to_owned()
}

/// Measured by the agent's pod, scraped by the store, asked for by this one.
fn the_neighbours_watts_come_through_it(installed: &Installation) {
    let raw = |path: &str| -> Option<Value> {
        let text = installed.cluster.kubectl(&["get", "--raw", path]).ok()?;
        serde_json::from_str(&text).ok()
    };
    for pods in [
        "neighbour/power_watts",
        "*/power_watts?labelSelector=app%3Dneighbour",
    ] {
        let path = format!("{METRICS}/namespaces/shop/pods/{pods}");
        let list = wait::until_some(&format!("{path} is answered"), || {
            raw(&path).filter(|list| list["items"][0]["value"].is_string())
        })
        .unwrap_or_else(|why| {
            let said = installed.cluster.kubectl(&["get", "--raw", &path]);
            panic!("{why}: {said:?}: {}", installed.told())
        });
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
        let item = &list["items"][0];
        assert_eq!(item["describedObject"]["name"], "neighbour", "{list}");
        assert_ne!(item["value"], "0", "{list}");
    }
    let pod = raw(&format!("{ECO}/namespaces/shop/pods/neighbour?window=1m")).unwrap();
    assert_eq!(pod["pod"], "neighbour", "{pod}");
}

/// What the security context asks for, as the kernel has it.
fn the_kernel_lets_it_do_nothing(port: u16) {
    let process = process_listening_on(port);
    let status = fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!(field("Gid:"), "65534\t65534\t65534\t65534");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    // A filter of system calls.
    assert_eq!(field("Seccomp:"), "2");
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
    // ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS
    let root = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[4] == "/").then(|| words[5].to_owned())
    });
    let root = root.unwrap();
    assert!(root.split(',').any(|option| option == "ro"), "{root}");
}

/// The folder in /proc of the `eco serve` that was told to listen there.
fn process_listening_on(port: u16) -> PathBuf {
    let argument = format!("--listen=0.0.0.0:{port}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes.map(|entry| entry.path()).find(|process| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.starts_with("eco\0serve\0") && command.contains(&argument)
    });
    found.unwrap()
}
