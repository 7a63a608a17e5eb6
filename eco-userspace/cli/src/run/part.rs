// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run says of the job that it is a part of.

use eco_agent::api;
use serde::Serialize;

use super::launcher::Launch;
use crate::{energy, out::quantity};

/// The job, and the run's place in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Part {
    /// `eco`, `slurm` or `kubernetes`.
    pub(crate) manager: String,
    /// As that manager calls it, on all nodes.
    pub(crate) job: String,
    launcher: Option<&'static str>,
    pub(crate) rank: Option<u32>,
    ranks: Option<u32>,
    /// All of the job on this node so far, this run and all others; null where no agent knows.
    on_this_node: Option<OnThisNode>,
    #[serde(skip)]
    rank_words: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct OnThisNode {
    /// Runs that had not ended when this one did, this one included.
    runs: u64,
    cpu_seconds: f64,
    energy_joules: Option<f64>,
}

impl From<api::PartOf> for Part {
    fn from(part: api::PartOf) -> Self {
        let energy = energy::total(&part.energy_joules);
        Self {
            manager: part.manager,
            job: part.job,
            rank: part.rank,
            on_this_node: part.cpu_seconds.map(|cpu_seconds| OnThisNode {
                runs: part.runs,
                cpu_seconds,
                energy_joules: energy,
            }),
            ..Self::default()
        }
    }
}

impl Part {
    /// What an agent said, or else the launcher, with the rank as that told it.
    pub(crate) fn completed(seen: Option<Self>, launch: &Launch) -> Option<Self> {
        let told = || {
            Some(Self {
                manager: "eco".to_owned(),
                job: launch.job.clone()?,
                ..Self::default()
            })
        };
        Some(Self {
            launcher: launch.launcher,
            rank: launch.rank,
            ranks: launch.ranks,
            rank_words: launch.rank_words(),
            ..seen.or_else(told)?
        })
    }

    /// For people: `slurm/4711`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.manager, self.job)
    }

    /// For people: the rank, and what the whole job has used here.
    pub(crate) fn remark(&self) -> String {
        let total = self.on_this_node.as_ref().map(|node| {
            let cpu = quantity(node.cpu_seconds, "s");
            let energy = node.energy_joules.map(|joules| quantity(joules, "J"));
            let energy = energy.map_or_else(String::new, |energy| format!("{energy}, "));
            format!("in total on this node so far: {energy}{cpu} of CPU time")
        });
        let parts = [self.rank_words.clone(), total];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch {
            job: Some("slurm-7".to_owned()),
            rank: Some(1),
            ranks: Some(2),
            ..Launch::default()
        }
    }

    #[test]
    fn a_rank_says_which_it_is_and_that_the_total_is_the_jobs() {
        let seen = api::PartOf {
            manager: "slurm".to_owned(),
            job: "7".to_owned(),
            runs: 2,
            cpu_seconds: Some(3.0),
            energy_joules: [("package".to_owned(), 12.0)].into(),
            ..api::PartOf::default()
        };
        let part = Part::completed(Some(seen.into()), &launch()).unwrap();
        assert_eq!(part.name(), "slurm/7", "the agent's word goes first");
        let remark = part.remark();
        assert!(remark.starts_with("rank 1 of 2; in total on this node"));
        assert!(remark.contains("12.0 J"), "{remark}");
    }

    #[test]
    fn without_an_agent_the_id_is_known_and_no_total_is_invented() {
        let part = Part::completed(None, &launch()).unwrap();
        assert_eq!(
            (part.name(), part.remark()),
            ("eco/slurm-7".into(), "rank 1 of 2".into())
        );
        assert_eq!(Part::completed(None, &Launch::default()), None);
    }
}
