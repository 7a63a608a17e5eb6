// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exemplars: which trace some of a counter came from, so that a graph leads to it.

use std::fmt::Write as _;

use eco_push::trace::TraceContext;

use super::{fixed, integer};

/// A trace, and what it added to a counter of joules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    trace: TraceContext,
    microjoules: u64,
    unix_ms: u64,
}

impl Exemplar {
    /// The trace, which added so many µJ up to that time.
    #[must_use]
    pub fn new(trace: TraceContext, microjoules: u64, unix_ms: u64) -> Self {
        Self {
            trace,
            microjoules,
            unix_ms,
        }
    }

    /// Writes it after a sample's value: `# {trace_id="…",span_id="…"} JOULES TIME`.
    pub(super) fn write(&self, out: &mut String) {
        let (trace, span) = (&self.trace.trace, &self.trace.span);
        let _ = write!(out, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} ");
        fixed(out, self.microjoules, 1_000_000, 6);
        out.push(' ');
        integer(out, self.unix_ms / 1000, 1);
        out.push('.');
        integer(out, self.unix_ms % 1000, 3);
    }
}
