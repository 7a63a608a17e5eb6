// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Spans that a framework reports.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `POST /v1/spans`: a part of a job that has ended, such as an epoch or a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanRequest {
    /// A name for people: 1 to 256 bytes without control characters.
    pub name: String,
    /// When it began, RFC 3339; not before its job.
    pub start: Timestamp,
    /// When it ended, RFC 3339.
    pub end: Timestamp,
    /// What else is known of it: at most 32 texts, numbers or booleans, under names of up to 64
    /// bytes that do not begin with `eco.`.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Its own id, 16 hexadecimal digits, if others are to name it as their parent.
    #[serde(default)]
    pub span_id: Option<String>,
    /// The id of the span of the same job that it is a part of; the job's own if absent.
    #[serde(default)]
    pub parent: Option<String>,
    /// The id of the open job; the one that the caller belongs to if absent.
    #[serde(default)]
    pub job: Option<String>,
}

/// The answer to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Span {
    /// The span as `TRACEPARENT` has it (W3C Trace Context).
    pub traceparent: String,
}
