// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Spans, as `opentelemetry.proto.trace.v1.Span` of opentelemetry-proto 1.x.

use std::borrow::Cow;

use super::attributes;
use crate::{
    queue::Queue,
    trace::{SpanId, TraceContext},
    wire::Writer,
};

/// `Span.kind`: within one program, or of no request.
const INTERNAL: u64 = 1;

/// The attributes of a span are field 9.
const ATTRIBUTES: u32 = 9;

/// Something that had a beginning and an end.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// Which.
    pub context: TraceContext,
    /// The span that it is a part of, in the same trace.
    pub parent: Option<SpanId>,
    /// What people call it.
    pub name: &'a str,
    /// In ns of Unix time.
    pub start_ns: u64,
    /// In ns of Unix time.
    pub end_ns: u64,
    /// What else is known of it.
    pub attributes: Vec<(Cow<'a, str>, Attribute<'a>)>,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A number that is measured.
    Number(f64),
    /// A number that is counted.
    Count(u64),
    /// Yes or no.
    Flag(bool),
}

impl Queue {
    /// Takes a span to be sent; whether there was room for it.
    pub fn offer_span(&self, span: &Span<'_>) -> bool {
        self.offer(span.encoded())
    }
}

impl Span<'_> {
    fn encoded(&self) -> Box<[u8]> {
        let mut out = Writer::default();
        out.raw(1, self.context.trace.bytes());
        out.raw(2, self.context.span.bytes());
        if let Some(parent) = &self.parent {
            out.raw(4, parent.bytes());
        }
        out.text(5, self.name);
        out.number(6, INTERNAL);
        out.fixed(7, self.start_ns);
        out.fixed(8, self.end_ns.max(self.start_ns));
        for (key, value) in &self.attributes {
            attributes::any(&mut out, ATTRIBUTES, key, value);
        }
        out.bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Value, find};

    #[test]
    fn a_span_says_who_it_is_and_never_ends_before_it_began() {
        let context = TraceContext::of_name("x");
        let span = Span {
            context,
            parent: None,
            name: "epoch 1",
            start_ns: 7,
            end_ns: 5,
            attributes: vec![("loss".into(), Attribute::Number(0.5))],
        };
        let bytes = span.encoded();
        assert_eq!(find(&bytes, 1), Some(Value::Bytes(context.trace.bytes())));
        assert_eq!(find(&bytes, 4), None, "a root has no parent");
        assert_eq!(find(&bytes, 5), Some(Value::Bytes(b"epoch 1")));
        assert_eq!(find(&bytes, 8), Some(Value::Bytes(&7u64.to_le_bytes())));
        let Some(Value::Bytes(pair)) = find(&bytes, 9) else {
            panic!("no attribute");
        };
        assert_eq!(find(pair, 1), Some(Value::Bytes(b"loss")));
    }
}
