// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The trace that a job belongs to, and its own span in it.
//!
//! Who opens a job within a trace says so (`TRACEPARENT`): the job's span is a child of that one.
//! Runs of one job of the cluster that were told of no trace find one together, on whatever node
//! they are: it and the span of the whole job are computed from the job's name, which all of them
//! know. Everyone else begins a trace.

use eco_push::trace::{SpanId, TraceContext, TraceId};
use serde::{Deserialize, Serialize};

use crate::{
    api::JobRequest,
    core::Core,
    workloads::{
        cluster_job::{self, Part},
        jobs::Job,
    },
};

/// A job's place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTrace {
    /// The job's own span if one is sent when it closes, else the one that it was opened in.
    pub context: TraceContext,
    /// Its own span, if one is sent.
    pub own: Option<OwnSpan>,
}

/// The span that is sent of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnSpan {
    /// Whose child it is.
    pub parent: Option<SpanId>,
    /// The span of the whole job, if this one is to send that too.
    pub whole: Option<SpanId>,
}

/// The same on disk: identifiers as text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedTrace {
    traceparent: String,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    whole: Option<String>,
}

/// The trace of `uid`'s new job; `None` if it has none.
pub(crate) fn of(
    core: &Core,
    request: &JobRequest,
    uid: u32,
    part: Option<&Part>,
) -> Option<JobTrace> {
    let told = request.traceparent.as_deref().and_then(TraceContext::parse);
    if !core.traces.is_on() || told.is_some_and(|told| !told.is_sampled) {
        return told.map(|context| JobTrace { context, own: None });
    }
    let (trace, own) = match (told, part) {
        (Some(told), _) => (told.trace, child_of(told.span)),
        (None, Some(part)) => within(core, uid, part),
        (None, None) => (TraceId::random()?, OwnSpan::default()),
    };
    let context = TraceContext {
        trace,
        span: SpanId::random()?,
        is_sampled: true,
    };
    Some(JobTrace {
        context,
        own: Some(own),
    })
}

impl JobTrace {
    /// To go on with under another agent. What nobody sends is not kept: whoever opened the job
    /// may have ended that trace since.
    pub(crate) fn saved(&self) -> Option<SavedTrace> {
        let own = self.own?;
        Some(SavedTrace {
            traceparent: self.context.to_string(),
            parent: own.parent.map(|span| span.to_string()),
            whole: own.whole.map(|span| span.to_string()),
        })
    }

    pub(crate) fn resumed(saved: &SavedTrace) -> Option<Self> {
        let span = |text: &Option<String>| text.as_deref().and_then(SpanId::parse);
        Some(Self {
            context: TraceContext::parse(&saved.traceparent)?,
            own: Some(OwnSpan {
                parent: span(&saved.parent),
                whole: span(&saved.whole),
            }),
        })
    }
}

fn child_of(parent: SpanId) -> OwnSpan {
    OwnSpan {
        parent: Some(parent),
        whole: None,
    }
}

/// In a run around it that has a span; else in the trace of the whole job. A rank is a child of
/// the job's span, which rank 0 sends. A run without a rank has no parent: nobody could say
/// which of several should send it.
fn within(core: &Core, uid: u32, part: &Part) -> (TraceId, OwnSpan) {
    if let Some(trace) = run_of_that_name(core, uid, part).and_then(|run| run.trace.as_ref())
        && trace.own.is_some()
    {
        return (trace.context.trace, child_of(trace.context.span));
    }
    let whole = TraceContext::of_name(&name(uid, part));
    let own = OwnSpan {
        parent: part.rank.map(|_| whole.span),
        whole: (part.rank == Some(0)).then_some(whole.span),
    };
    (whole.trace, own)
}

fn run_of_that_name<'a>(core: &'a Core, uid: u32, part: &Part) -> Option<&'a Job> {
    let is_own = part.job.manager == cluster_job::MANAGER;
    let run = core.jobs.find(&part.job.id).filter(|_| is_own)?;
    (run.uid == uid).then_some(run)
}

/// `slurm/4711`; under eco the user is in it, as there an id is its user's own.
fn name(uid: u32, part: &Part) -> String {
    let (manager, id) = (&part.job.manager, &part.job.id);
    if manager == cluster_job::MANAGER {
        format!("{manager}/{uid}/{id}")
    } else {
        format!("{manager}/{id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::cluster_job::ClusterJob;

    fn part(manager: &str, id: &str) -> Part {
        Part {
            job: ClusterJob {
                manager: manager.into(),
                id: id.into(),
            },
            rank: None,
            account: None,
        }
    }

    #[test]
    fn a_job_of_a_cluster_has_one_name_and_one_of_a_users_own_has_the_user_in_it() {
        assert_eq!(name(1000, &part("slurm", "4711")), "slurm/4711");
        assert_eq!(
            name(1000, &part("kubernetes", "ml/train")),
            "kubernetes/ml/train"
        );
        assert_eq!(name(1000, &part("eco", "exp-42")), "eco/1000/exp-42");
    }

    #[test]
    fn a_span_that_is_to_be_sent_outlives_the_agent_and_no_other() {
        let context = TraceContext::of_name("x");
        let own = child_of(TraceContext::of_name("y").span);
        let trace = JobTrace {
            context,
            own: Some(own),
        };
        let saved = serde_json::to_string(&trace.saved().unwrap()).unwrap();
        let saved: SavedTrace = serde_json::from_str(&saved).unwrap();
        assert_eq!(JobTrace::resumed(&saved), Some(trace));
        assert!(JobTrace { context, own: None }.saved().is_none());
        assert_eq!(JobTrace::resumed(&SavedTrace::default()), None);
    }
}
