// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's log: JSON on stderr, and to the collector if there is one. What is about a job that
//! is in a trace has `trace_id` and `span_id`.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use eco_push::{
    Queue,
    otlp::{Attribute, Line, Severity},
    trace::{SpanId, TraceId},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::api;

/// Of a text so many bytes are sent.
const LONGEST_TEXT: usize = 1024;

/// Starts it; `level` is one of tracing's. Lines for the collector wait in `queue`.
pub fn start(level: &str, queue: Option<Arc<Queue>>) {
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    let stderr = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(level)
        .with(stderr)
        .with(queue.map(|queue| ToCollector { queue }))
        .init();
}

/// Says what is missing on this machine, and what is merely so. None of it is a complaint of the
/// agent's own, by which it would be told why it ended.
pub fn findings(status: &api::Status) {
    for finding in &status.advice {
        tracing::info!(finding, "something is missing");
    }
    for finding in &status.notes {
        tracing::info!(finding, "something was noticed");
    }
}

/// Puts each event into the queue.
struct ToCollector {
    queue: Arc<Queue>,
}

impl<S: Subscriber> Layer<S> for ToCollector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // One that is dropped is counted there, and must not be told of in the log.
        let _ = self.queue.offer_line(&Line {
            at_ns: since.map_or(0, |since| since.as_nanos() as u64),
            severity: severity(*event.metadata().level()),
            body: &said.message,
            attributes: said.fields,
            span: said.trace.zip(said.span),
        });
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::TRACE => Severity::Trace,
        Level::DEBUG => Severity::Debug,
        Level::INFO => Severity::Info,
        Level::WARN => Severity::Warn,
        Level::ERROR => Severity::Error,
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, Attribute<'static>)>,
    trace: Option<TraceId>,
    span: Option<SpanId>,
}

impl Said {
    fn text(&mut self, field: &Field, mut text: String) {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        match field.name() {
            "message" => self.message = text,
            "trace_id" => self.trace = TraceId::parse(&text),
            "span_id" => self.span = SpanId::parse(&text),
            name => self.fields.push((name, Attribute::Text(text.into()))),
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.push((field.name(), Attribute::Number(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(count) => self.record_u64(field, count),
            Err(_) => self.record_f64(field, value as f64),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Attribute::Count(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Attribute::Flag(value)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_offered_once_and_a_long_text_is_cut() {
        let queue = Arc::new(Queue::default());
        let layer = ToCollector {
            queue: Arc::clone(&queue),
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        let long = "é".repeat(5000);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(trace_id = "no id", n = -1, b = true, "one");
            tracing::warn!(long, "two");
        });
        assert_eq!((queue.len(), queue.dropped()), (2, 0));
    }
}
