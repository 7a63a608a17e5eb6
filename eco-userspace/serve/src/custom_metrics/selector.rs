// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Selecting among a pod's series, in the language of label selectors:
//! `domain=gpu,container in (a, b),!node`.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use serde_json::{Map, Value, json};

use crate::{
    refusal::Refusal,
    store::query::{Matcher, Test},
};

/// The labels of a pod's series beside its name.
const LABELS: [&str; 3] = ["container", "domain", "node"];

/// Requirements, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Matcher>);

impl Selector {
    /// Reads one; an empty text selects everything.
    ///
    /// # Errors
    /// When it is none, or is about a label that the series do not have.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            // A comma inside brackets does not end a requirement.
            let open = rest.find('(').unwrap_or(usize::MAX);
            let end = match rest.find(',') {
                Some(comma) if comma < open => comma,
                Some(_) => match rest[open..].find(')') {
                    Some(close) => open + close + 1,
                    None => rest.len(),
                },
                None => rest.len(),
            };
            let (one, after) = rest.split_at(end);
            let bad = |why: &str| {
                Refusal::bad(format!(
                    "metricLabelSelector {text:?}: {why} in {one:?}; write domain=gpu or container \
                     in (a, b)"
                ))
            };
            requirements.push(requirement(one.trim()).map_err(bad)?);
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(bad("there is no comma after what is")),
            };
        }
        Ok(Self(requirements))
    }

    /// What to ask the store for.
    pub(crate) fn matchers(&self) -> &[Matcher] {
        &self.0
    }

    /// As a `LabelSelector`; null where nothing is selected.
    pub(super) fn to_json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let mut labels = Map::new();
        let mut expressions = Vec::new();
        for Matcher { label, test } in &self.0 {
            let mut express = |operator: &str, values: &[String]| {
                let mut one = json!({ "key": label, "operator": operator });
                if !values.is_empty() {
                    one["values"] = json!(values);
                }
                expressions.push(one);
            };
            match test {
                Test::OneOf(values) if values.len() == 1 && !labels.contains_key(*label) => {
                    labels.insert((*label).to_owned(), json!(values[0]));
                }
                Test::OneOf(values) => express("In", values),
                Test::NoneOf(values) => express("NotIn", values),
                Test::Present => express("Exists", &[]),
                Test::Absent => express("DoesNotExist", &[]),
            }
        }
        let mut selector = Map::new();
        if !labels.is_empty() {
            selector.insert("matchLabels".into(), labels.into());
        }
        if !expressions.is_empty() {
            selector.insert("matchExpressions".into(), expressions.into());
        }
        selector.into()
    }
}

fn requirement(text: &str) -> Result<Matcher, &'static str> {
    if let Some(key) = text.strip_prefix('!').filter(|rest| !rest.starts_with('=')) {
        return matcher(key, Test::Absent);
    }
    for (operator, is_wanted) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = text.split_once(operator) {
            return matcher(key, among(is_wanted, vec![plain(value)?]));
        }
    }
    if let Some((head, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or("a bracket is not closed")?;
        let values = list.split(',').map(plain).collect::<Result<_, _>>()?;
        let mut words = head.split_ascii_whitespace();
        let (Some(key), Some(operator), None) = (words.next(), words.next(), words.next()) else {
            return Err("a list wants a label and an operator before it");
        };
        return match operator {
            "in" => matcher(key, among(true, values)),
            "notin" => matcher(key, among(false, values)),
            _ => Err("the operator before a list is in or notin"),
        };
    }
    matcher(text, Test::Present)
}

fn among(is_wanted: bool, values: Vec<String>) -> Test {
    if is_wanted {
        Test::OneOf(values)
    } else {
        Test::NoneOf(values)
    }
}

fn matcher(key: &str, test: Test) -> Result<Matcher, &'static str> {
    let label = LABELS.into_iter().find(|label| *label == key.trim());
    let label = label.ok_or("the labels of a pod's series are container, domain and node: none")?;
    Ok(Matcher { label, test })
}

fn plain(value: &str) -> Result<String, &'static str> {
    let value = value.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if value.chars().all(is_plain) {
        Ok(value.to_owned())
    } else {
        Err("a value is letters, digits, and - _ . inside: none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Matcher> {
        Selector::parse(text).unwrap().0
    }

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn every_operator_is_understood() {
        let found =
            parse("domain=gpu, container in (a, b),node notin (n1),container!=c,!domain,node");
        let tests: Vec<_> = found.into_iter().map(|m| (m.label, m.test)).collect();
        assert_eq!(
            tests,
            [
                ("domain", Test::OneOf(values(&["gpu"]))),
                ("container", Test::OneOf(values(&["a", "b"]))),
                ("node", Test::NoneOf(values(&["n1"]))),
                ("container", Test::NoneOf(values(&["c"]))),
                ("domain", Test::Absent),
                ("node", Test::Present),
            ]
        );
        assert_eq!(parse("domain==gpu"), parse(" domain = gpu "));
        assert_eq!(parse(""), []);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "pod=x",
            "domain=a\"b",
            "domain=a b",
            "container in (a",
            "container in (a) x",
            "container like (a)",
            "(a)",
            "in (a)",
            ",",
            "domain=gpu,,",
            "domain>1",
            "!=a",
        ] {
            let refusal = Selector::parse(text).unwrap_err();
            assert!(refusal.detail.contains("metricLabelSelector"), "{text}");
        }
    }

    #[test]
    fn it_is_shown_as_kubernetes_writes_it() {
        let selector = Selector::parse("domain=gpu,container notin (a)").unwrap();
        assert_eq!(
            selector.to_json(),
            json!({
                "matchLabels": { "domain": "gpu" },
                "matchExpressions": [
                    { "key": "container", "operator": "NotIn", "values": ["a"] }
                ],
            })
        );
        assert_eq!(Selector::default().to_json(), Value::Null);
    }
}
