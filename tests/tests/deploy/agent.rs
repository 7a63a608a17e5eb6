// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's pods.

use eco_tests::{needs, wait};

use crate::installation::{Installation, NAMESPACE};

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
}
