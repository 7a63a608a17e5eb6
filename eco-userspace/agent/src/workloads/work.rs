// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opening and closing jobs on the books.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    api,
    core::Core,
    ledger::accounts::Kind,
    outlets::{history, traces},
    own,
    query::{self, Caller},
    workloads::{
        cluster_job, job_trace,
        jobs::{Job, JobError, Membership},
    },
};

/// A dead task is freed once every CPU has passed a quiet moment: milliseconds, as a rule. So
/// long at a time, and so often at most, a job that closes waits for its dead.
const GRACE: Duration = Duration::from_millis(20);
const GRACES: u32 = 5;

/// Opens a job for `uid`, whose process `pid` asks.
///
/// # Errors
/// When it is about something that is not there or not theirs.
pub fn open(
    core: &mut Core,
    request: &api::JobRequest,
    uid: u32,
    pid: Option<u32>,
) -> Result<api::Job, JobError> {
    // What was used until now is not the job's, and who is there now must be known.
    core.tick();
    let membership = core.jobs.admit(request, uid, pid, &core.usage)?;
    if let Membership::Cgroup(path) = &membership
        && !core.usage.watch(path)
    {
        return Err(JobError::NoCgroup(path.clone()));
    }
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let part = cluster_job::of(core, request, uid, pid)?;
    let trace = job_trace::of(core, request, uid, part.as_ref());
    let id = core.jobs.next_id(unix_ms as u64);
    let user = core.homes.user_name(uid);
    let mut world = core.world();
    let kind = if part.is_some() { Kind::Run } else { Kind::Job };
    let account = world.view(kind, &id, &user);
    core.books.job_idle.insert(account, 0.0);
    let name = request
        .name
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| id.clone());
    let job = Job {
        id,
        name,
        uid,
        started: jiff::Timestamp::now().to_string(),
        membership,
        account,
        part,
        trace,
        processes: 0,
        missed_deaths: false,
        agent_before: (own::cpu_ns(), core.books.sum.total(&core.own_energy)),
        uncovered_before: core.books.sum.total(&core.books.carbon.uncovered),
    };
    let (trace_id, span_id) = traced(&job);
    tracing::info!(
        job = job.id,
        name = job.name,
        user,
        trace_id,
        span_id,
        "job opened"
    );
    core.jobs.open(job.clone(), &core.usage);
    traces::opened(core, &job);
    core.homes.jobs_changed(&core.usage, &core.jobs);
    Ok(query::job(core, &job, None))
}

/// A job that is open.
///
/// # Errors
/// When there is none of that id, or it is somebody else's.
pub fn show(core: &Core, id: &str, caller: Caller) -> Result<api::Job, JobError> {
    let job = find(core, id, caller)?;
    Ok(query::job(core, job, None))
}

/// Closes a job, with everything that its members used up to now.
///
/// # Errors
/// When there is none of that id, or it is somebody else's.
pub fn close(core: &mut Core, id: &str, caller: Caller) -> Result<api::Job, JobError> {
    find(core, id, caller)?;
    core.count();
    for _ in 0..GRACES {
        let known = core.frame.counters.deaths;
        thread::sleep(GRACE);
        core.count();
        if core.frame.counters.deaths == known {
            break;
        }
    }
    core.tick();
    let job = find(core, id, caller)?.clone();
    let closed = query::job(core, &job, Some(jiff::Timestamp::now().to_string()));
    history::runs::book(core, &job, &closed);
    forget(core, &job, &closed);
    let (trace_id, span_id) = traced(&job);
    let cpu_seconds = closed.cpu_seconds;
    tracing::info!(job = job.id, trace_id, span_id, cpu_seconds, "job closed");
    Ok(closed)
}

/// Closes the jobs that nobody is left to close: of a caller that was killed.
pub(crate) fn close_abandoned(core: &mut Core) {
    for id in core.jobs.abandoned(&core.usage) {
        if let Some(job) = core.jobs.find(&id).cloned() {
            let closed = query::job(core, &job, Some(jiff::Timestamp::now().to_string()));
            history::runs::book(core, &job, &closed);
            forget(core, &job, &closed);
            let (trace_id, span_id) = traced(&job);
            tracing::info!(
                job = id,
                trace_id,
                span_id,
                "job closed, as its opener and all its processes are gone"
            );
        }
    }
}

fn forget(core: &mut Core, job: &Job, closed: &api::Job) {
    traces::closed(core, job, closed);
    core.jobs.close(&job.id);
    if let Membership::Cgroup(path) = &job.membership {
        core.usage.unwatch(path);
    }
    core.homes.jobs_changed(&core.usage, &core.jobs);
    let now = core.now();
    let larger = job.part.as_ref().and_then(|part| part.account);
    for account in [Some(job.account), larger].into_iter().flatten() {
        if !core.jobs.feed(account) {
            core.books.views.leave(account, now);
        }
    }
}

/// The trace and the span that a job is in, for the log.
fn traced(job: &Job) -> (Option<String>, Option<String>) {
    let context = job.trace.as_ref().map(|trace| trace.context);
    let trace = context.map(|context| context.trace.to_string());
    (trace, context.map(|context| context.span.to_string()))
}

fn find<'a>(core: &'a Core, id: &str, caller: Caller) -> Result<&'a Job, JobError> {
    // Somebody else's job is not there, for all that they can tell.
    let job = core.jobs.find(id).filter(|job| query::owns(job, caller));
    job.ok_or_else(|| JobError::NoJob(id.to_owned()))
}
