// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A question in PromQL.

use std::fmt::Write;

use super::query::{Matcher, Query, Reading, Test};

/// The expression.
///
/// Inside the sum stands a maximum over the labels that make a series what it is. A series that
/// is stored twice (two replicas of Prometheus behind one store, an agent that two jobs scrape)
/// would be summed twice otherwise.
pub(super) fn expression(query: &Query) -> String {
    let selector = selector(query.family.name, &query.matchers);
    let reading = match query.reading {
        Reading::Last => selector,
        Reading::Increase(window) => format!("increase({selector}[{}ms])", window.as_millis()),
        Reading::Rate(window) => format!("rate({selector}[{}ms])", window.as_millis()),
    };
    format!(
        "sum by ({}) (max by ({}) ({reading}))",
        query.by.join(", "),
        query.family.identity.join(", "),
    )
}

fn selector(name: &str, matchers: &[Matcher]) -> String {
    let mut text = String::from(name);
    for (at, matcher) in matchers.iter().enumerate() {
        text.push(if at == 0 { '{' } else { ',' });
        text.push_str(matcher.label);
        match &matcher.test {
            Test::OneOf(values) => compare(&mut text, "=", "=~", values),
            Test::NoneOf(values) => compare(&mut text, "!=", "!~", values),
            Test::Present => text.push_str("!=\"\""),
            Test::Absent => text.push_str("=\"\""),
        }
    }
    if !matchers.is_empty() {
        text.push('}');
    }
    text
}

fn compare(text: &mut String, one: &str, many: &str, values: &[String]) {
    match values {
        [value] => {
            text.push_str(one);
            quote(text, value);
        }
        values => {
            text.push_str(many);
            let pattern: Vec<String> = values.iter().map(|value| literal(value)).collect();
            quote(text, &pattern.join("|"));
        }
    }
}

/// A string literal: PromQL has the escapes of Go.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// A pattern of RE2 that means the text itself.
fn literal(value: &str) -> String {
    let mut pattern = String::with_capacity(value.len());
    for c in value.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::query::{POD_ENERGY, UNIT_CPU};

    fn query(matchers: Vec<Matcher>) -> Query {
        Query {
            family: &UNIT_CPU,
            matchers,
            by: vec!["node"],
            reading: Reading::Last,
        }
    }

    #[test]
    fn a_question_reads_as_promql() {
        let asked = Query {
            family: &POD_ENERGY,
            matchers: vec![
                Matcher::is("namespace", "a"),
                Matcher::one_of("pod", vec!["x-1".into(), "y.2".into()]),
            ],
            by: vec!["node", "domain"],
            reading: Reading::Increase(Duration::from_secs(60)),
        };
        assert_eq!(
            expression(&asked),
            "sum by (node, domain) (max by (node, namespace, pod, container, uid, domain) \
             (increase(eco_pod_energy_joules_total{namespace=\"a\",pod=~\"x-1|y\\\\.2\"}[60000ms])))"
        );
    }

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        let hostile = "\"} or vector(1) #\n\\";
        let text = expression(&query(vec![Matcher::is("name", hostile)]));
        assert!(
            text.contains(r#"{name="\"} or vector(1) #\u000a\\"}"#),
            "{text}"
        );
    }

    #[test]
    fn a_value_among_several_is_no_pattern() {
        let text = expression(&query(vec![Matcher {
            label: "name",
            test: Test::NoneOf(vec![".*".into(), "a|b".into()]),
        }]));
        assert!(text.contains(r#"name!~"\\.\\*|a\\|b""#), "{text}");
    }

    #[test]
    fn presence_and_absence_are_what_promql_makes_of_an_empty_value() {
        let test = |test| {
            expression(&query(vec![Matcher {
                label: "name",
                test,
            }]))
        };
        assert!(test(Test::Present).contains(r#"{name!=""}"#));
        assert!(test(Test::Absent).contains(r#"{name=""}"#));
        // A list without an entry lets nobody through, or everybody.
        assert!(test(Test::OneOf(vec![])).contains(r#"{name=~""}"#));
    }
}
