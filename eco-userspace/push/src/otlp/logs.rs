// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of the log, as `opentelemetry.proto.logs.v1.LogRecord` of opentelemetry-proto 1.x.

use std::borrow::Cow;

use super::{Attribute, attributes};
use crate::{
    queue::Queue,
    trace::{SpanId, TraceId},
    wire::Writer,
};

/// The attributes of a line are field 6.
const ATTRIBUTES: u32 = 6;

/// A line of the log.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// In ns of Unix time.
    pub at_ns: u64,
    /// How bad it is.
    pub severity: Severity,
    /// What it says.
    pub body: &'a str,
    /// What else is known.
    pub attributes: Vec<(&'static str, Attribute<'a>)>,
    /// The span that it is about.
    pub span: Option<(TraceId, SpanId)>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For whoever looks for a fault in great detail.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// As it should be.
    Info,
    /// Worth a look.
    Warn,
    /// Something does not work.
    Error,
}

impl Severity {
    /// As OpenTelemetry's `SeverityNumber` has it.
    fn number(self) -> u64 {
        match self {
            Self::Trace => 1,
            Self::Debug => 5,
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

impl Queue {
    /// Takes a line to be sent; whether there was room for it.
    pub fn offer_line(&self, line: &Line<'_>) -> bool {
        self.offer(line.encoded())
    }
}

impl Line<'_> {
    fn encoded(&self) -> Box<[u8]> {
        let mut out = Writer::default();
        out.fixed(1, self.at_ns);
        out.number(2, self.severity.number());
        out.text(3, self.severity.text());
        let body = out.open(5);
        out.text(1, self.body);
        out.close(body);
        for (key, value) in &self.attributes {
            attributes::any(&mut out, ATTRIBUTES, key, value);
        }
        if let Some((trace, span)) = &self.span {
            out.raw(9, trace.bytes());
            out.raw(10, span.bytes());
        }
        out.fixed(11, self.at_ns);
        out.bytes().into()
    }
}

impl<'a> From<&'a str> for Attribute<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        trace::TraceContext,
        wire::{Value, find},
    };

    #[test]
    fn a_line_is_in_its_trace_if_it_has_one() {
        let context = TraceContext::of_name("x");
        let mut line = Line {
            at_ns: 7,
            severity: Severity::Warn,
            body: "not taken",
            attributes: vec![("outlet", "otlp".into())],
            span: Some((context.trace, context.span)),
        };
        let bytes = line.encoded();
        assert_eq!(find(&bytes, 2), Some(Value::Number(13)));
        assert_eq!(find(&bytes, 9), Some(Value::Bytes(context.trace.bytes())));
        line.span = None;
        assert_eq!(find(&line.encoded(), 9), None);
    }
}
