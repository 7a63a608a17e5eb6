// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A training job of several pods, as docs/kubernetes.md tells of it.

use eco_tests::wait;
use serde_json::Value;

use crate::installation::{ECO_IMAGE, Installation};

/// CPU seconds of each rank.
const BURNT: f64 = 0.5;

/// A pod as Kubeflow's training operator makes them, whose command is measured.
fn rank(number: u32) -> String {
    let role = if number == 0 { "master" } else { "worker" };
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: llm-{role}-0
  namespace: shop
  labels:
    training.kubeflow.org/job-name: llm
    training.kubeflow.org/replica-type: {role}
    training.kubeflow.org/replica-index: '0'
spec:
  hostNetwork: true
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
  - name: pytorch
    image: {ECO_IMAGE}
    imagePullPolicy: Never
    command: [eco, run, --measure, agent, --name, train, --, workload, burn, '{BURNT}']
    env:
    - {{name: MASTER_ADDR, value: llm-master-0}}
    - {{name: RANK, value: '{number}'}}
    - {{name: WORLD_SIZE, value: '2'}}
    volumeMounts: [{{name: eco, mountPath: /run/eco, readOnly: true}}]
  volumes: [{{name: eco, hostPath: {{path: /run/eco}}}}]
---
"
    )
}

/// Each rank says which it is of the cluster's job, and the job is there once, with both.
pub(crate) fn a_training_job_of_pods_is_one_job_and_each_rank_knows_its_part(
    installed: &Installation,
) {
    let cluster = installed.cluster;
    let ranks = [rank(0), rank(1)].concat();
    cluster.apply(&ranks).unwrap();
    for (pod, place) in [
        ("llm-master-0", "rank 0 of 2"),
        ("llm-worker-0", "rank 1 of 2"),
    ] {
        let what = format!("pod/{pod} -n shop");
        let done = "jsonpath={.status.phase}=Succeeded";
        cluster.wait_for(&what, done).unwrap();
        let said = cluster.kubectl(&["logs", pod, "-n", "shop"]).unwrap();
        let part = format!("part of job kubernetes/shop/llm {place}");
        assert!(said.contains(&part), "{said}");
    }
    let seconds = |job: &Value| job["cpu_seconds"].as_f64();
    wait::until("the agent has both ranks under the job", || {
        let job = installed.ask_agent("/v1/jobs/kubernetes/shop/llm");
        job.as_ref().and_then(seconds) >= Some(2.0 * BURNT)
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", installed.ask_agent("/v1/status")));
    // Through the API server, from the store: one job, and no other of that name.
    let path = "/apis/eco-observer.github.io/v1/jobs?job=shop%2Fllm&window=10m";
    wait::until("eco serve has the job", || {
        let answer = cluster.kubectl(&["get", "--raw", path]);
        let answer: Option<Value> = answer
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        let items = answer
            .as_ref()
            .and_then(|answer| answer["items"].as_array());
        items.is_some_and(|items| {
            assert!(items.len() <= 1, "{items:?}");
            items.iter().any(|job| {
                job["manager"] == "kubernetes" && seconds(job).is_some_and(|used| used > BURNT)
            })
        })
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}", cluster.kubectl(&["get", "--raw", path])));
}
