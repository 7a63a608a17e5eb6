// SPDX-License-Identifier: Apache-2.0 OR MIT
//! To whom a pod belongs: its owner up to the root, and the job that it is a part of.
//!
//! The kubelet tells a pod's direct owner only. What stands above it follows from how the
//! built-in controllers name what they make; so eco needs no right to read Deployments and
//! Jobs, and asks nobody.

use std::collections::BTreeMap;

/// A workload that owns pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, or a kind of somebody's own.
    pub kind: String,
    /// Its name, in the pod's namespace.
    pub name: String,
}

/// Labels that name the job which a pod is a part of, the outermost first: a JobSet's pods
/// belong to a Job each, and a user asks for the set. Also the kind of that job.
///
/// From the documentation of JobSet, Kubeflow Trainer (v1), Volcano, KubeRay, Kueue and
/// Kubernetes (the last without prefix until 1.27).
const JOB_LABELS: [(&str, &str); 8] = [
    ("jobset.sigs.k8s.io/jobset-name", "JobSet"),
    ("training.kubeflow.org/job-name", "TrainingJob"),
    ("volcano.sh/job-name", "VolcanoJob"),
    ("ray.io/originated-from-cr-name", "Ray"),
    ("ray.io/cluster", "RayCluster"),
    ("kueue.x-k8s.io/pod-group-name", "PodGroup"),
    ("batch.kubernetes.io/job-name", "Job"),
    ("job-name", "Job"),
];

/// A CronJob's Job starts within this time of the minute that its name tells: the default and
/// usual `startingDeadlineSeconds` are far below.
const CRON_DELAY_S: i64 = 7 * 24 * 3600;

/// The root of a pod's owners, from its direct owner.
pub(super) fn root(
    kind: &str,
    name: &str,
    labels: &BTreeMap<String, String>,
    created_unix_s: Option<i64>,
) -> Owner {
    let owner = |kind: &str, name: &str| Owner {
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    match kind {
        "ReplicaSet" => {
            // The Deployment controller names a ReplicaSet after itself and the template's hash.
            let deployment = labels
                .get("pod-template-hash")
                .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            deployment.map_or_else(
                || owner(kind, name),
                |deployment| owner("Deployment", deployment),
            )
        }
        "Job" => cron_job(name, created_unix_s)
            .map_or_else(|| owner(kind, name), |cron| owner("CronJob", cron)),
        _ => owner(kind, name),
    }
}

/// The job that a pod is a part of.
pub(super) fn job(labels: &BTreeMap<String, String>, root: Option<&Owner>) -> Option<Owner> {
    let by_label = JOB_LABELS.iter().find_map(|(label, kind)| {
        let name = labels.get(*label).filter(|name| !name.is_empty())?;
        Some(Owner {
            kind: (*kind).to_owned(),
            name: name.clone(),
        })
    });
    by_label.or_else(|| root.filter(|root| root.kind == "Job").cloned())
}

/// The CronJob of a Job: the controller names each Job after itself and the minute that it was
/// due, counted from 1970.
fn cron_job(job: &str, created_unix_s: Option<i64>) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let is_number = minute.len() == 8 && minute.bytes().all(|byte| byte.is_ascii_digit());
    let due = minute.parse::<i64>().ok().filter(|_| is_number)? * 60;
    let delay = created_unix_s? - due;
    ((-60..CRON_DELAY_S).contains(&delay) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn named(owner: &Owner) -> (&str, &str) {
        (&owner.kind, &owner.name)
    }

    #[test]
    fn a_replica_set_leads_to_its_deployment_only_by_the_templates_hash() {
        let hash = labels(&[("pod-template-hash", "5d4f8c7b9")]);
        let found = root("ReplicaSet", "web-api-5d4f8c7b9", &hash, None);
        assert_eq!(named(&found), ("Deployment", "web-api"));
        let by_hand = root("ReplicaSet", "web-api-5d4f8c7b9", &labels(&[]), None);
        assert_eq!(named(&by_hand), ("ReplicaSet", "web-api-5d4f8c7b9"));
        let other = root("ReplicaSet", "5d4f8c7b9", &hash, None);
        assert_eq!(named(&other), ("ReplicaSet", "5d4f8c7b9"));
    }

    #[test]
    fn a_job_leads_to_its_cron_job_only_if_it_was_made_when_its_name_says() {
        let due = 29_400_000 * 60;
        let at = |created| root("Job", "backup-29400000", &labels(&[]), created);
        assert_eq!(named(&at(Some(due + 5))), ("CronJob", "backup"));
        assert_eq!(
            named(&at(Some(due + 30 * 86_400))),
            ("Job", "backup-29400000")
        );
        assert_eq!(named(&at(None)), ("Job", "backup-29400000"));
        let plain = root("Job", "train-7", &labels(&[]), Some(due));
        assert_eq!(named(&plain), ("Job", "train-7"));
    }

    #[test]
    fn the_outermost_job_counts() {
        let both = labels(&[
            ("batch.kubernetes.io/job-name", "llm-workers-0"),
            ("jobset.sigs.k8s.io/jobset-name", "llm"),
        ]);
        assert_eq!(named(&job(&both, None).unwrap()), ("JobSet", "llm"));
        let plain = Owner {
            kind: "Job".into(),
            name: "j".into(),
        };
        assert_eq!(job(&labels(&[]), Some(&plain)), Some(plain));
        let service = Owner {
            kind: "Deployment".into(),
            name: "web".into(),
        };
        assert_eq!(job(&labels(&[("job-name", "")]), Some(&service)), None);
    }
}
