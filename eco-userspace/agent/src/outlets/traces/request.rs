// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which spans are taken from a framework.

use eco_push::{otlp::Attribute, trace::SpanId};
use jiff::Timestamp;
use serde_json::Value;

use crate::api::SpanRequest;

/// In bytes.
const LONGEST_NAME: usize = 256;
const LONGEST_KEY: usize = 64;
const LONGEST_TEXT: usize = 256;
const MOST_ATTRIBUTES: usize = 32;
/// What two clocks, or a clock and a rounding, may differ by.
const SKEW_NS: u64 = 1_000_000_000;

/// What a request says, once it is known to make sense.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Vec<(String, Attribute<'static>)>,
    pub(super) span: Option<SpanId>,
    pub(super) parent: Option<SpanId>,
}

/// Checks a request about a job that began at a time; `Err` with what is wrong.
pub(super) fn check(request: &SpanRequest, begun_ns: u64, now_ns: u64) -> Result<Wanted, String> {
    if !is_name(&request.name, LONGEST_NAME) {
        return Err(format!(
            "name must be 1 to {LONGEST_NAME} bytes without control characters"
        ));
    }
    let start_ns = nanoseconds("start", request.start)?;
    let end_ns = nanoseconds("end", request.end)?;
    if end_ns < start_ns {
        return Err("end is before start".to_owned());
    }
    if end_ns > now_ns.saturating_add(SKEW_NS) {
        return Err("end is in the future; report a span when it has ended".to_owned());
    }
    if start_ns.saturating_add(SKEW_NS) < begun_ns {
        return Err("start is before the job was opened: of then the agent knows nothing".into());
    }
    if request.attributes.len() > MOST_ATTRIBUTES {
        return Err(format!("at most {MOST_ATTRIBUTES} attributes"));
    }
    let attributes = request.attributes.iter();
    Ok(Wanted {
        name: request.name.clone(),
        // A moment early or late is the other clock's.
        start_ns: start_ns.max(begun_ns),
        end_ns: end_ns.max(begun_ns).min(now_ns.max(begun_ns)),
        attributes: attributes
            .map(|(key, value)| Ok((key.clone(), attribute(key, value)?)))
            .collect::<Result<_, String>>()?,
        span: span("span_id", request.span_id.as_deref())?,
        parent: span("parent", request.parent.as_deref())?,
    })
}

fn attribute(key: &str, value: &Value) -> Result<Attribute<'static>, String> {
    if !is_name(key, LONGEST_KEY) || key.starts_with("eco.") {
        return Err(format!(
            "the name of an attribute must be 1 to {LONGEST_KEY} bytes without control characters, \
             and not begin with eco."
        ));
    }
    let wrong = || {
        format!(
            "attribute {key} must be a text of up to {LONGEST_TEXT} bytes, a number or a boolean"
        )
    };
    match value {
        Value::Bool(flag) => Ok(Attribute::Flag(*flag)),
        Value::String(text) if text.len() <= LONGEST_TEXT => {
            Ok(Attribute::Text(text.clone().into()))
        }
        Value::Number(number) => match number.as_u64().filter(|n| i64::try_from(*n).is_ok()) {
            Some(count) => Ok(Attribute::Count(count)),
            None => number.as_f64().map(Attribute::Number).ok_or_else(wrong),
        },
        _ => Err(wrong()),
    }
}

fn span(key: &str, text: Option<&str>) -> Result<Option<SpanId>, String> {
    let wrong = || format!("{key} must be 16 hexadecimal digits in lower case, not all zero");
    text.map(|text| SpanId::parse(text).ok_or_else(wrong))
        .transpose()
}

fn nanoseconds(key: &str, at: Timestamp) -> Result<u64, String> {
    u64::try_from(at.as_nanosecond()).map_err(|_| format!("{key} is not between 1970 and 2554"))
}

fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn checked(change: impl FnOnce(&mut Value)) -> Result<Wanted, String> {
        let mut body = json!({
            "name": "epoch 1", "start": "1970-01-01T00:10:00Z", "end": "1970-01-01T00:10:30+00:00",
            "attributes": {"loss": 0.5, "step": 7, "best": true, "phase": "fit", "delta": -1},
        });
        change(&mut body);
        let request = serde_json::from_value(body).map_err(|why| why.to_string())?;
        check(&request, 590 * SECOND, 640 * SECOND)
    }

    #[test]
    fn a_span_is_taken_with_what_is_known_of_it() {
        let wanted = checked(|_| ()).unwrap();
        assert_eq!(
            (wanted.start_ns, wanted.end_ns),
            (600 * SECOND, 630 * SECOND)
        );
        let kinds: Vec<&Attribute<'_>> = wanted.attributes.iter().map(|(_, value)| value).collect();
        let expected = [
            &Attribute::Flag(true),
            &Attribute::Number(-1.0),
            &Attribute::Number(0.5),
            &Attribute::Text("fit".into()),
            &Attribute::Count(7),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_is_wrong() {
        let set = |key: &'static str, value: Value| checked(|body| body[key] = value).unwrap_err();
        let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("a{n}"), json!(n))).collect();
        for (key, value, said) in [
            ("name", json!(""), "name must"),
            ("name", json!("a\nb"), "name must"),
            ("name", json!("x".repeat(257)), "name must"),
            ("start", json!("1970-01-01T00:11:00Z"), "end is before"),
            ("start", json!("1970-01-01T00:00:01Z"), "before the job"),
            ("start", json!("1960-01-01T00:00:01Z"), "not between"),
            ("start", json!(7), "invalid type"),
            ("end", json!("2500-01-01T00:00:00Z"), "future"),
            ("end", json!("2970-01-01T00:00:00Z"), "not between"),
            ("span_id", json!("0000000000000000"), "span_id must"),
            ("parent", json!("é123456789abcde"), "parent must"),
            ("attributes", json!({"eco.energy": 1}), "not begin"),
            ("attributes", json!({"": 1}), "name of an attribute"),
            ("attributes", json!({"x": [1]}), "attribute x"),
            ("attributes", json!({"x": null}), "attribute x"),
            ("attributes", json!({"x": "y".repeat(257)}), "attribute x"),
            ("attributes", Value::Object(many), "at most 32"),
            ("surprise", json!(1), "unknown field"),
        ] {
            let why = set(key, value);
            assert!(why.contains(said), "{key}: {why}");
        }
    }

    #[test]
    fn a_moment_of_another_clock_is_forgiven() {
        let wanted = checked(|body| {
            body["start"] = json!("1970-01-01T00:09:49.5Z");
            body["end"] = json!("1970-01-01T00:10:40.9Z");
        });
        let wanted = wanted.unwrap();
        assert_eq!(
            (wanted.start_ns, wanted.end_ns),
            (590 * SECOND, 640 * SECOND)
        );
    }
}
