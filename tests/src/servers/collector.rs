// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OpenTelemetry's Collector, which writes what it receives into a file.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::Value;

use super::{
    Installed,
    authority::Identity,
    find_or_skip, free_port,
    server::{Launch, Server},
};

/// How what is received at once is called in the file.
const METRICS: &str = "resourceMetrics";
const SPANS: &str = "resourceSpans";
const LOGS: &str = "resourceLogs";

/// One with a place of its own: it may be stopped and started again.
pub struct Collector {
    installed: Installed,
    scratch: tempfile::TempDir,
    address: String,
    /// `http` or `grpc`.
    protocol: &'static str,
    /// What it shows of itself over TLS, if it speaks that.
    identity: Option<Identity>,
    server: Option<Server>,
}

/// A data point of a sum or a gauge.
#[derive(Clone, Debug)]
pub struct Point {
    /// In ns of Unix time.
    pub at_ns: u64,
    /// The value.
    pub value: f64,
    /// `hw.id` and the like.
    pub attributes: Value,
}

/// A line of a log.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it says.
    pub body: String,
    /// `INFO` and the like.
    pub severity: String,
    /// The trace and the span that it is about; empty if it is about none.
    pub trace_id: String,
    /// See `trace_id`.
    pub span_id: String,
    /// All its attributes, as OTLP's JSON has them.
    pub attributes: Value,
}

/// A span.
#[derive(Clone, Debug)]
pub struct Span {
    /// `host.name` of its resource.
    pub host: String,
    /// The trace that it is in.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
    /// The id of its parent; empty if it has none.
    pub parent_id: String,
    /// Its name.
    pub name: String,
    /// In s.
    pub seconds: f64,
    /// All its attributes, as OTLP's JSON has them.
    pub attributes: Value,
}

impl Span {
    /// An attribute that is a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        let value = attribute(&self.attributes, key)?;
        let (double, integer) = (&value["doubleValue"], &value["intValue"]);
        double.as_f64().or_else(|| integer.as_str()?.parse().ok())
    }

    /// An attribute that is text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        text_of(&self.attributes, key)
    }
}

impl Collector {
    /// One that does not run yet. Prints `skipped: why` and answers `None` where there is none.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn prepare() -> Result<Option<Self>> {
        Self::prepare_at("127.0.0.1")
    }

    /// The same, on an address of this machine's.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn prepare_at(host: &str) -> Result<Option<Self>> {
        let Some([installed]) = find_or_skip(["otel-collector"]) else {
            return Ok(None);
        };
        Ok(Some(Self {
            installed,
            scratch: tempfile::Builder::new().prefix("eco-test-").tempdir()?,
            address: format!("{host}:{}", free_port()?),
            protocol: "http",
            identity: None,
            server: None,
        }))
    }

    /// Has it speak TLS, as that one.
    #[must_use]
    pub fn over_tls(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Has it take OTLP by gRPC, and not by HTTP.
    #[must_use]
    pub fn by_grpc(mut self) -> Self {
        self.protocol = "grpc";
        self
    }

    /// Where it takes OTLP.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = self.identity.as_ref().map_or("http", |_| "https");
        format!("{scheme}://{}", self.address)
    }

    /// Starts it, on what it has received before.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(&mut self) -> Result<()> {
        let program = self.installed.path("bin/otel-collector");
        let launch = Launch::new("otel-collector", self.scratch.path(), &program)?;
        let config = self.scratch.path().join("collector.yaml");
        fs::write(&config, self.configuration())?;
        let mut server = launch.flag("config", &config).start()?;
        let address = &self.address;
        server.until_ready(|| TcpStream::connect(address).is_ok())?;
        self.server = Some(server);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// All points of a metric that it has received, in their order.
    #[must_use]
    pub fn points(&self, metric: &str) -> Vec<Point> {
        self.resources(METRICS)
            .into_iter()
            .flat_map(|resource| list(&resource["scopeMetrics"]))
            .flat_map(|scope| list(&scope["metrics"]))
            .filter(|found| found["name"] == metric)
            .flat_map(|found| {
                let kind = if found["sum"].is_null() {
                    "gauge"
                } else {
                    "sum"
                };
                list(&found[kind]["dataPoints"])
            })
            .map(|point| Point {
                at_ns: number(&point["timeUnixNano"]) as u64,
                value: point["asDouble"].as_f64().unwrap_or(f64::NAN),
                attributes: point["attributes"].clone(),
            })
            .collect()
    }

    /// All spans that it has received, in their order.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for resource in self.resources(SPANS) {
            let host = text_of(&resource["resource"]["attributes"], "host.name");
            let scopes = list(&resource["scopeSpans"]);
            for span in scopes.iter().flat_map(|scope| list(&scope["spans"])) {
                let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
                let at = |key: &str| number(&span[key]) / 1e9;
                spans.push(Span {
                    host: host.clone().unwrap_or_default(),
                    trace_id: text("traceId"),
                    span_id: text("spanId"),
                    parent_id: text("parentSpanId"),
                    name: text("name"),
                    seconds: at("endTimeUnixNano") - at("startTimeUnixNano"),
                    attributes: span["attributes"].clone(),
                });
            }
        }
        spans
    }

    /// All lines of logs that it has received, in their order.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let resources = self.resources(LOGS).into_iter();
        let scopes = resources.flat_map(|resource| list(&resource["scopeLogs"]));
        let records = scopes.flat_map(|scope| list(&scope["logRecords"]));
        let line = |record: Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Line {
                body: text(&record["body"]["stringValue"]),
                severity: text(&record["severityText"]),
                trace_id: text(&record["traceId"]),
                span_id: text(&record["spanId"]),
                attributes: record["attributes"].clone(),
            }
        };
        records.map(line).collect()
    }

    /// What was received of one signal, by resource.
    fn resources(&self, signal: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let begin = format!("{{\"{signal}\":");
        // A line may be cut off: it is being written, or the collector was killed; and the next
        // collector goes on in the same line.
        let lines = text.lines().filter_map(|line| {
            let whole = line.rfind(&begin).and_then(|at| line.get(at..))?;
            serde_json::from_str(whole).ok()
        });
        lines
            .flat_map(|batch: Value| list(&batch[signal]))
            .collect()
    }

    fn configuration(&self) -> String {
        let tls = self.identity.as_ref().map_or_else(String::new, |identity| {
            let (certificate, key) = (identity.certificate.display(), identity.key.display());
            format!("\n        tls: {{cert_file: {certificate}, key_file: {key}}}")
        });
        configuration(
            self.protocol,
            &format!("{}{tls}", self.address),
            &self.file(),
        )
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("received.json")
    }
}

fn configuration(protocol: &str, address: &str, file: &Path) -> String {
    format!(
        "receivers:
  otlp:
    protocols:
      {protocol}:
        endpoint: {address}
exporters:
  file:
    path: {}
    append: true
    flush_interval: 100ms
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    metrics:
      receivers: [otlp]
      exporters: [file]
    traces:
      receivers: [otlp]
      exporters: [file]
    logs:
      receivers: [otlp]
      exporters: [file]
",
        file.display()
    )
}

fn attribute<'a>(attributes: &'a Value, key: &str) -> Option<&'a Value> {
    let mut all = attributes.as_array()?.iter();
    let pair = all.find(|pair| pair["key"] == key)?;
    Some(&pair["value"])
}

fn text_of(attributes: &Value, key: &str) -> Option<String> {
    let value = attribute(attributes, key)?;
    value["stringValue"].as_str().map(str::to_owned)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// OTLP's JSON writes 64-bit numbers as text.
fn number(value: &Value) -> f64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or_else(|| value.as_f64()).unwrap_or(f64::NAN)
}
