// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whom a question is about.

use crate::store::query::{
    Family, JOB_CARBON, JOB_CPU, JOB_ENERGY, Matcher, NODE_CARBON, NODE_ENERGY, POD_CARBON,
    POD_CPU, POD_ENERGY, Test, UNIT_CPU,
};

/// The kinds of unit that make up a node; all others are views of the same joules.
pub(super) const MAKING_UP_A_NODE: &[&str] = &["process", "kernel", "other"];

/// Some pods, namespaces, nodes or jobs: all of them where nothing narrower is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Pods, by namespace and name.
    Pods {
        /// Only there.
        namespace: Option<String>,
        /// Only that one.
        pod: Option<String>,
    },
    /// Namespaces: the sums of their pods.
    Namespaces {
        /// Only that one.
        namespace: Option<String>,
    },
    /// Whole machines, idle included.
    Nodes {
        /// Only that one.
        node: Option<String>,
    },
    /// Jobs, over all nodes that they run on.
    Jobs {
        /// `slurm`, `eco` or `kubernetes`.
        manager: Option<String>,
        /// Only that one.
        job: Option<String>,
    },
}

/// Where a subject's numbers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Families {
    pub(super) energy: &'static Family,
    pub(super) carbon: &'static Family,
    pub(super) cpu: &'static Family,
    /// Kinds of unit whose CPU time is meant, where the family has several.
    pub(super) cpu_kinds: Option<&'static [&'static str]>,
}

impl Subject {
    /// What it is called in answers.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Pods { .. } => "pods",
            Self::Namespaces { .. } => "namespaces",
            Self::Nodes { .. } => "nodes",
            Self::Jobs { .. } => "jobs",
        }
    }

    /// What was asked for, for people: `pods a/p`.
    pub(crate) fn named(&self) -> String {
        let values = self
            .matchers()
            .into_iter()
            .map(|matcher| match matcher.test {
                Test::OneOf(values) => values.join(","),
                _ => String::new(),
            });
        let values: Vec<String> = values.collect();
        format!("{} {}", self.kind(), values.join("/"))
    }

    /// The labels that name one item.
    pub(crate) fn naming(&self) -> &'static [&'static str] {
        match self {
            Self::Pods { .. } => &["namespace", "pod"],
            Self::Namespaces { .. } => &["namespace"],
            Self::Nodes { .. } => &["node"],
            Self::Jobs { .. } => &["manager", "job", "user"],
        }
    }

    /// The labels that an item can be broken down by.
    pub(crate) fn breakdowns(&self) -> &'static [&'static str] {
        match self {
            Self::Pods { .. } => &["container", "node", "domain"],
            Self::Namespaces { .. } => &["pod", "container", "node", "domain"],
            Self::Nodes { .. } => &["domain", "device"],
            Self::Jobs { .. } => &["node", "domain"],
        }
    }

    pub(super) fn families(&self) -> Families {
        match self {
            Self::Pods { .. } | Self::Namespaces { .. } => Families {
                energy: &POD_ENERGY,
                carbon: &POD_CARBON,
                cpu: &POD_CPU,
                cpu_kinds: None,
            },
            Self::Nodes { .. } => Families {
                energy: &NODE_ENERGY,
                carbon: &NODE_CARBON,
                cpu: &UNIT_CPU,
                cpu_kinds: Some(MAKING_UP_A_NODE),
            },
            Self::Jobs { .. } => Families {
                energy: &JOB_ENERGY,
                carbon: &JOB_CARBON,
                cpu: &JOB_CPU,
                cpu_kinds: None,
            },
        }
    }

    pub(super) fn matchers(&self) -> Vec<Matcher> {
        let wanted: [(&'static str, &Option<String>); 2] = match self {
            Self::Pods { namespace, pod } => [("namespace", namespace), ("pod", pod)],
            Self::Namespaces { namespace } => [("namespace", namespace), ("", &None)],
            Self::Nodes { node } => [("node", node), ("", &None)],
            Self::Jobs { manager, job } => [("manager", manager), ("job", job)],
        };
        let named = wanted
            .into_iter()
            .filter_map(|(label, value)| Some(Matcher::is(label, value.clone()?)));
        named.collect()
    }
}
