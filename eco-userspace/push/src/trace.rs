// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which trace something belongs to, as W3C Trace Context (level 1) writes it.

use std::fmt;

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A span and the trace that it is in: what `TRACEPARENT` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether whoever began the trace wants it to be kept.
    pub is_sampled: bool,
}

impl TraceId {
    /// A new one; `None` where the kernel gives no random bytes.
    #[must_use]
    pub fn random() -> Option<Self> {
        random().map(Self)
    }

    /// Reads 32 hexadecimal digits in lower case that are not all zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        id(text).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl SpanId {
    /// A new one; `None` where the kernel gives no random bytes.
    #[must_use]
    pub fn random() -> Option<Self> {
        random().map(Self)
    }

    /// Reads 16 hexadecimal digits in lower case that are not all zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        id(text).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TraceContext {
    /// Reads a `traceparent`; `None` where it is none.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        // version "-" trace-id "-" parent-id "-" trace-flags; later versions may add to it.
        let mut parts = traceparent.split('-');
        let version = parts.next()?;
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let [version] = hex::<1>(version)?;
        let [flags] = hex::<1>(flags)?;
        (version != 0xff).then_some(Self {
            trace: TraceId(id(trace)?),
            span: SpanId(id(span)?),
            is_sampled: flags & 1 == 1,
        })
    }

    /// The span of something that many know by one name and nobody has told the others of: of
    /// the name's SHA-256 the first 16 bytes are the trace, the next 8 the span.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let hash = digest(&SHA256, name.as_bytes());
        let hash = hash.as_ref();
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&hash[..16]);
        span.copy_from_slice(&hash[16..24]);
        Self {
            trace: TraceId(trace),
            span: SpanId(span),
            is_sampled: true,
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As `TRACEPARENT`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    is_set(&bytes).then_some(bytes)
}

fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex(text).filter(|bytes| is_set(bytes))
}

/// Zeros alone are no id.
fn is_set(id: &[u8]) -> bool {
    id.iter().any(|byte| *byte != 0)
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_is_read_is_written_again() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let context = TraceContext::parse(&text).unwrap();
            assert_eq!(context.to_string(), text);
            assert_eq!(context.is_sampled, flags == "01");
        }
        let later = TraceContext::parse(&format!("cc-{TRACE}-{SPAN}-03-more")).unwrap();
        assert!(later.is_sampled);
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for wrong in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}x-{SPAN}-01"),
            format!("00-{}é-{SPAN}-01", &TRACE[2..]),
            format!("00-\"}} 1\n{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(TraceContext::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_has_one_span_which_anyone_can_compute() {
        // printf slurm/4711 | sha256sum
        let context = TraceContext::of_name("slurm/4711").to_string();
        assert_eq!(
            context,
            "00-ebf593e3db0cfcf404853c308aa623e7-b90c72b2951b8066-01"
        );
        assert_ne!(context, TraceContext::of_name("slurm/4712").to_string());
    }

    #[test]
    fn new_ids_differ() {
        assert_ne!(TraceId::random(), TraceId::random());
        assert_ne!(SpanId::random().unwrap(), SpanId::random().unwrap());
    }
}
