// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A real cluster on this machine, and what runs in its pods.
use eco_tests::{
    cgroup,
    servers::kubernetes::{Cluster, IMAGE},
    wait,
};

#[test]
fn a_pod_burns_cpu_in_its_cgroup() {
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: burner}}, spec: {{
                hostNetwork: true, automountServiceAccountToken: false, restartPolicy: Never,
                containers: [{{name: main, image: '{IMAGE}', imagePullPolicy: Never,
                    command: [workload, burn, '1', '1'],
                    resources: {{requests: {{cpu: 10m}}}}}}]}}}}"
        ))
        .unwrap();
    let uid = cluster
        .kubectl(&["get", "pod", "burner", "-o", "jsonpath={.metadata.uid}"])
        .unwrap();
    let path = format!("{}/burstable/pod{uid}", cluster.pods_cgroup());
    wait::until("the pod has a cgroup in every hierarchy", || {
        cgroup::everywhere(&path).all(|folder| folder.is_dir())
    })
    .unwrap();
    cluster
        .wait_for("pod/burner", "jsonpath={.status.phase}=Succeeded")
        .unwrap();
}
