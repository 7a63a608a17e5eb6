// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exemplars: which trace some of a counter came from, so that a graph leads to it.

use super::{fixed, integer};

/// A trace, and what it added to a counter of joules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar<'a> {
    trace_id: &'a str,
    span_id: &'a str,
    microjoules: u64,
    unix_ms: u64,
}

impl<'a> Exemplar<'a> {
    /// The trace of a `traceparent` (W3C Trace Context), which added so many µJ up to that time;
    /// `None` where it is none.
    #[must_use]
    pub fn new(traceparent: &'a str, microjoules: u64, unix_ms: u64) -> Option<Self> {
        // version "-" trace-id "-" parent-id "-" trace-flags; later versions may add to it.
        let mut parts = traceparent.split('-');
        let version = parts.next()?;
        let (trace_id, span_id) = (parts.next()?, parts.next()?);
        parts.next()?;
        let known = is_id(version, 2) && version != "ff";
        (known && is_id(trace_id, 32) && is_id(span_id, 16) && is_set(trace_id) && is_set(span_id))
            .then_some(Self {
                trace_id,
                span_id,
                microjoules,
                unix_ms,
            })
    }

    /// Writes it after a sample's value: `# {trace_id="…",span_id="…"} JOULES TIME`.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(" # {trace_id=\"");
        out.push_str(self.trace_id);
        out.push_str("\",span_id=\"");
        out.push_str(self.span_id);
        out.push_str("\"} ");
        fixed(out, self.microjoules, 1_000_000, 6);
        out.push(' ');
        integer(out, self.unix_ms / 1000, 1);
        out.push('.');
        integer(out, self.unix_ms % 1000, 3);
    }
}

fn is_id(text: &str, length: usize) -> bool {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(is_hex)
}

/// Zeros alone are no id.
fn is_set(id: &str) -> bool {
    id.bytes().any(|digit| digit != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_traceparent_is_no_exemplar() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        assert!(Exemplar::new(&format!("00-{trace}-{span}-01"), 1, 1).is_some());
        assert!(Exemplar::new(&format!("cc-{trace}-{span}-01-more"), 1, 1).is_some());
        for wrong in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-{span}"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}x-{span}-01"),
            format!("00-\"}} 1\n{trace}-{span}-01"),
        ] {
            assert_eq!(Exemplar::new(&wrong, 1, 1), None, "{wrong}");
        }
    }
}
