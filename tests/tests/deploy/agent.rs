// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's pods.

use eco_tests::{needs, servers::helm::Helm, wait};
use serde_json::Value;

use crate::{
    chart,
    installation::{Installation, NAMESPACE, busy_pod},
    job,
};

#[test]
fn the_charts_agent_measures_its_neighbours_on_a_real_node_without_privilege() {
    needs!(Programs, Root, Cgroup, Bpf);
    let Some(installed) = Installation::shared() else {
        return;
    };
    let ask = |path: &str| installed.ask_agent(path);
    wait::until("the agent answers", || ask("/v1/status").is_some())
        .unwrap_or_else(|why| panic!("{why}: {}", installed.told()));
    let status = ask("/v1/status").unwrap();
    assert_eq!(status["tier"], "iter", "{status}");
    assert!(
        status["capabilities"].as_array().unwrap().len() <= 4,
        "{status}"
    );
    let pod = wait::until_some("the neighbour has joules under its name", || {
        let pod = ask("/v1/pods/shop/neighbour")?;
        (pod["cpu_seconds"].as_f64()? > 1.0).then_some(pod)
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", ask("/v1/status")));
    for account in ["energy_joules", "carbon_grams"] {
        assert!(pod[account]["package"].as_f64().unwrap() > 0.0, "{pod}");
    }
    let set = installed.get(&["daemonset", "eco-agent", "-n", NAMESPACE]);
    let context = &set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["privileged"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert!(context["capabilities"]["add"].as_array().unwrap().len() <= 4);
    // Before the next, which starts the agent anew.
    job::a_training_job_of_pods_is_one_job_and_each_rank_knows_its_part(installed);
    it_believes_the_kubelet_by_its_authority_alone(installed);
}

/// The same release with `agent.kubeletCaFile`: its pods have names as before.
fn it_believes_the_kubelet_by_its_authority_alone(installed: &Installation) {
    let cluster = installed.cluster;
    let Some(helm) = Helm::find(cluster) else {
        return;
    };
    let authority = cluster.authority().certificate().display();
    let value = format!("agent.kubeletCaFile={authority}");
    let chart = chart();
    let upgrade = ["upgrade", "eco", &chart, "--namespace", NAMESPACE];
    let upgrade = [&upgrade[..], &["--reuse-values", "--set", &value]].concat();
    helm.run(&upgrade).unwrap();
    let rollout = ["rollout", "status", "daemonset/eco-agent", "-n", NAMESPACE];
    cluster
        .kubectl(&[&rollout[..], &["--timeout=300s"]].concat())
        .unwrap_or_else(|why| panic!("{why}: {}", installed.told()));
    let map = installed.get(&["configmap", "eco-agent", "-n", NAMESPACE]);
    let config = map["data"]["agent.toml"].as_str().unwrap();
    assert!(!config.contains("insecure"), "{config}");

    // Nobody can have told this one's name before.
    cluster.apply(&busy_pod("late")).unwrap();
    let seen = |pod: &Value| pod["cpu_seconds"].as_f64().is_some_and(|used| used > 0.0);
    wait::until("a pod that came later has its name", || {
        let late = installed.ask_agent("/v1/pods/shop/late");
        late.as_ref().is_some_and(seen)
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", installed.ask_agent("/v1/status")));
    // The others need the CPU.
    let delete = [
        "delete",
        "pod",
        "late",
        "-n",
        "shop",
        "--now",
        "--wait=false",
    ];
    cluster.kubectl(&delete).unwrap();
}
