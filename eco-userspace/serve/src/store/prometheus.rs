// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A store that speaks PromQL: Prometheus, VictoriaMetrics, Thanos, Mimir.

use std::{collections::HashMap, time::Duration};

use eco_https::escaped;
use hyper::StatusCode;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    StoreError,
    promql::expression,
    query::{Query, Row, Rows},
};
use crate::http_client::{Answer, Body, HttpClient, Remote};

/// A person waits at the other end; a store that needs longer is overloaded.
const DEADLINE: Duration = Duration::from_secs(20);

/// No more than so much of an answer that makes no sense is repeated.
const REPEATED: usize = 200;

/// One store.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus {
    client: HttpClient,
}

impl Prometheus {
    /// A store at this address; what comes before `/api/v1/query`.
    pub(super) fn new(remote: &Remote) -> Result<Self, StoreError> {
        let client = HttpClient::new(remote, DEADLINE)?;
        Ok(Self { client })
    }

    pub(super) fn address(&self) -> &str {
        self.client.base()
    }

    /// Asks.
    pub(super) async fn read(&self, query: &Query) -> Result<Rows, StoreError> {
        let parsed = self.ask(&expression(query)).await?;
        let mut rows = Vec::with_capacity(parsed.result.len());
        let mut refused = 0;
        for mut sample in parsed.result {
            // A counter that is no number, or below zero, was not written by eco.
            let Some(value) = quantity(&sample.value.1) else {
                refused += 1;
                continue;
            };
            let mut label = |name: &&str| sample.metric.remove(*name).unwrap_or_default();
            rows.push(Row {
                labels: query.by.iter().map(&mut label).collect(),
                value,
            });
        }
        let mut warnings = parsed.warnings;
        if refused > 0 {
            warnings.push(format!(
                "{refused} values of {} in {} are no numbers, or below zero: left out",
                query.family.name,
                self.address()
            ));
        }
        Ok(Rows { rows, warnings })
    }

    async fn ask(&self, expression: &str) -> Result<Parsed, StoreError> {
        // By POST: a question that names many nodes is longer than an address may be.
        let form = format!(
            "query={}&timeout={}s",
            escaped(expression),
            DEADLINE.as_secs()
        );
        let answer = self.client.post("/api/v1/query", Body::Form(&form)).await?;
        self.parse(&answer)
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed, StoreError> {
        let store = self.address().to_owned();
        let status = answer.status.as_u16();
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(StoreError::Busy { store, status });
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(StoreError::Denied { store, status });
            }
            _ => {}
        }
        let parsed: Response = serde_json::from_slice(&answer.body).map_err(|why| {
            if answer.body.trim_ascii_start().starts_with(b"<") {
                self.strange(answer, "a web page")
            } else {
                self.strange(answer, &format!("what no store says ({why})"))
            }
        })?;
        match (parsed.data, parsed.error) {
            (Some(Data { result }), _) if answer.status.is_success() => Ok(Parsed {
                result,
                warnings: parsed.warnings,
            }),
            (_, Some(error)) => Err(StoreError::Refused {
                store,
                status,
                error: printable(&error),
            }),
            _ => Err(self.strange(answer, "neither data nor an error")),
        }
    }

    fn strange(&self, answer: &Answer, what: &str) -> StoreError {
        let begin = &answer.body[..answer.body.len().min(REPEATED)];
        StoreError::Strange {
            store: self.address().to_owned(),
            status: answer.status.as_u16(),
            what: what.to_owned(),
            begin: printable(&String::from_utf8_lossy(begin)),
        }
    }
}

/// A number of joules, grams or seconds.
pub(super) fn quantity(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    // Zero may come as -0, which would be shown.
    (value.is_finite() && value >= 0.0).then_some(value + 0.0)
}

/// What a stranger wrote, in one line and of a bounded length.
fn printable(text: &str) -> String {
    let shown = text.chars().take(REPEATED);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[derive(Debug)]
struct Parsed {
    result: Vec<Sample>,
    warnings: Vec<String>,
}

/// <https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>
#[derive(Deserialize)]
struct Response {
    data: Option<Data>,
    error: Option<String>,
    // VictoriaMetrics sends none, and Thanos may send null.
    #[serde(default, deserialize_with = "or_none")]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Sample>,
}

/// One of a vector; the first of `value` is the time, the second a float in a string.
#[derive(Debug, Deserialize)]
struct Sample {
    metric: HashMap<String, String>,
    value: (IgnoredAny, String),
}

fn or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests;
