// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Spans: of jobs, when they close, and of what a framework reports within one, each with the
//! energy and the carbon of its time.
//!
//! They wait in a bounded queue for the thread that pushes. A framework's span is complete when
//! the tick that it ended in has been paid for, so nothing here adds a tick.

mod attributes;
mod request;
mod trail;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use eco_push::{
    Queue,
    otlp::{Attribute, Span},
    trace::{SpanId, TraceContext},
};
use jiff::Timestamp;
use rustc_hash::FxHashMap;

use self::trail::{Point, Trail};
use crate::{
    api,
    core::Core,
    ledger::accounts::AccountId,
    query::{self, Caller},
    workloads::{cluster_job, jobs::Job},
};

/// What spans that wait for the end of their tick may take, in bytes.
const MOST_REPORTED: usize = 1 << 20;

/// Why a framework's span is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpanError {
    /// Nobody would get it.
    #[error("this agent sends no spans; it does with otlp.endpoint set, and otlp.traces true")]
    NotSent,
    /// It is about nothing that is known.
    #[error("no open job of yours; report from within `eco run`, or say which `job`")]
    NoJob,
    /// There is no room.
    #[error("too many spans wait for the next tick; report fewer, such as epochs and not steps")]
    TooMany,
    /// It makes no sense.
    #[error("the span is not taken: {0}")]
    Bad(String),
}

/// What is needed to send spans.
#[derive(Default)]
pub struct Traces {
    queue: Option<Arc<Queue>>,
    trails: FxHashMap<AccountId, Trail>,
    reported: Vec<Reported>,
    reported_bytes: usize,
}

/// A framework's span that waits for its last tick to be paid for.
struct Reported {
    account: AccountId,
    context: TraceContext,
    parent: SpanId,
    name: String,
    start_ns: u64,
    end_ns: u64,
    attributes: Vec<(String, Attribute<'static>)>,
}

impl Traces {
    /// Whether spans are sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Sends them by way of a queue.
    pub(crate) fn send_by(&mut self, queue: Arc<Queue>) {
        self.queue = Some(queue);
    }

    fn send(&self, span: &Span<'_>) {
        if let Some(queue) = &self.queue {
            // One that is dropped is counted there.
            let _ = queue.offer_span(span);
        }
    }

    fn forget(&mut self, account: AccountId) {
        self.trails.remove(&account);
        self.reported.retain(|span| span.account != account);
        self.reported_bytes = self.reported.iter().map(Reported::bytes).sum();
    }

    /// Sends the framework's spans whose time is paid for.
    fn complete(&mut self) {
        let reported = std::mem::take(&mut self.reported);
        for span in reported {
            let Some(trail) = self.trails.get(&span.account) else {
                continue;
            };
            if span.end_ns > trail.end_ns() {
                self.reported.push(span);
            } else if let Some(used) = trail.used(span.start_ns, span.end_ns) {
                self.send(&span.complete(&used));
            }
        }
        self.reported_bytes = self.reported.iter().map(Reported::bytes).sum();
    }
}

/// A job was opened: from here on it is known what it uses.
pub(crate) fn opened(core: &mut Core, job: &Job) {
    if core.traces.is_on() && job.has_own_span() {
        let trail = Trail::new(point(core, job.account));
        core.traces.trails.insert(job.account, trail);
    }
}

/// A tick was paid for.
pub(crate) fn record(core: &mut Core) {
    if !core.traces.is_on() {
        return;
    }
    let mut traces = std::mem::take(&mut core.traces);
    for job in core.jobs.iter().filter(|job| job.has_own_span()) {
        let point = point(core, job.account);
        let trail = traces.trails.entry(job.account);
        trail
            .and_modify(|trail| trail.push(point))
            .or_insert_with(|| Trail::new(point));
    }
    traces.complete();
    core.traces = traces;
}

/// A job is about to be closed, with that account.
pub(crate) fn closed(core: &mut Core, job: &Job, account: &api::Job) {
    let Some(trace) = job.trace.as_ref().filter(|_| core.traces.is_on()) else {
        return;
    };
    let Some(own) = trace.own else { return };
    let nanoseconds = |text: &str| {
        let at: Option<Timestamp> = text.parse().ok();
        at.and_then(|at| u64::try_from(at.as_nanosecond()).ok())
    };
    let end_ns = account.ended.as_deref().and_then(nanoseconds);
    let end_ns = end_ns.unwrap_or_else(unix_ns);
    let start_ns = nanoseconds(&account.started).unwrap_or(end_ns);
    core.traces.send(&Span {
        context: trace.context,
        parent: own.parent,
        name: &job.name,
        start_ns,
        end_ns,
        attributes: attributes::of_job(core, job, account),
    });
    if let (Some(span), Some(part)) = (own.whole, &job.part) {
        core.traces.send(&Span {
            context: TraceContext {
                span,
                ..trace.context
            },
            parent: None,
            name: &format!("{}/{}", part.job.manager, part.job.id),
            start_ns,
            end_ns,
            attributes: attributes::of_whole(&part.job),
        });
    }
    core.traces.forget(job.account);
}

/// Takes a framework's span.
///
/// # Errors
/// When nobody would get it, when it is about no job of the caller's, or makes no sense.
pub(crate) fn report(
    core: &mut Core,
    request: &api::SpanRequest,
    caller: Caller,
    pid: Option<u32>,
) -> Result<TraceContext, SpanError> {
    if !core.traces.is_on() {
        return Err(SpanError::NotSent);
    }
    let mut found = job_of(core, request, caller, pid);
    if found.is_none() && request.job.is_none() {
        // Whoever asks may be younger than the last tick.
        core.count();
        found = job_of(core, request, caller, pid);
    }
    let (account, context, is_sent) = found.ok_or(SpanError::NoJob)?;
    let begun_ns = match core.traces.trails.get(&account) {
        Some(trail) => trail.start_ns(),
        // Nobody keeps that trace.
        None if !is_sent => 0,
        None => return Err(SpanError::NoJob),
    };
    let wanted = request::check(request, begun_ns, unix_ns()).map_err(SpanError::Bad)?;
    if !is_sent {
        return Ok(context);
    }
    let span = wanted.span.or_else(SpanId::random);
    let span = span.ok_or_else(|| SpanError::Bad("the kernel gives no random id".into()))?;
    let reported = Reported {
        account,
        context: TraceContext { span, ..context },
        parent: wanted.parent.unwrap_or(context.span),
        name: wanted.name,
        start_ns: wanted.start_ns,
        end_ns: wanted.end_ns,
        attributes: wanted.attributes,
    };
    let context = reported.context;
    let bytes = core.traces.reported_bytes + reported.bytes();
    if bytes > MOST_REPORTED {
        return Err(SpanError::TooMany);
    }
    core.traces.reported_bytes = bytes;
    core.traces.reported.push(reported);
    Ok(context)
}

/// The job that a span is about: its account, its own span and whether that is sent.
fn job_of(
    core: &Core,
    request: &api::SpanRequest,
    caller: Caller,
    pid: Option<u32>,
) -> Option<(AccountId, TraceContext, bool)> {
    let job = match &request.job {
        Some(id) => core.jobs.find(id),
        None => cluster_job::around(core, pid?),
    };
    let job = job.filter(|job| query::owns(job, caller))?;
    let trace = job.trace.as_ref()?;
    Some((job.account, trace.context, trace.own.is_some()))
}

impl Reported {
    /// What it takes, about.
    fn bytes(&self) -> usize {
        let attribute = |(key, value): &(String, Attribute<'_>)| {
            let text = match value {
                Attribute::Text(text) => text.len(),
                _ => 0,
            };
            key.len() + text + 64
        };
        let attributes: usize = self.attributes.iter().map(attribute).sum();
        self.name.len() + attributes + 128
    }

    fn complete(&self, used: &trail::Used) -> Span<'_> {
        let given = self.attributes.iter();
        let given = given.map(|(key, value)| (key.as_str().into(), value.clone()));
        Span {
            context: self.context,
            parent: Some(self.parent),
            name: &self.name,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            attributes: given.chain(attributes::of_window(used)).collect(),
        }
    }
}

fn point(core: &Core, account: AccountId) -> Point {
    let (cpu_ns, energy_uj, carbon_g) = query::used(core, account);
    Point {
        at_ns: unix_ns(),
        cpu_ns,
        energy_uj,
        carbon_g,
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
