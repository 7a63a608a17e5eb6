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
    Installed, find_or_skip, free_port,
    server::{Launch, Server},
};

/// How what is received at once begins in the file.
const BATCH: &str = "{\"resourceMetrics\":";

/// One with a place of its own: it may be stopped and started again.
pub struct Collector {
    installed: Installed,
    scratch: tempfile::TempDir,
    port: u16,
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

impl Collector {
    /// One that does not run yet. Prints `skipped: why` and answers `None` where there is none.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn prepare() -> Result<Option<Self>> {
        let Some([installed]) = find_or_skip(["otel-collector"]) else {
            return Ok(None);
        };
        Ok(Some(Self {
            installed,
            scratch: tempfile::Builder::new().prefix("eco-test-").tempdir()?,
            port: free_port()?,
            server: None,
        }))
    }

    /// Where it takes OTLP over HTTP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, on what it has received before.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(&mut self) -> Result<()> {
        let program = self.installed.path("bin/otel-collector");
        let launch = Launch::new("otel-collector", self.scratch.path(), &program)?;
        let config = self.scratch.path().join("collector.yaml");
        fs::write(&config, configuration(self.port, &self.file()))?;
        let mut server = launch.flag("config", &config).start()?;
        let port = self.port;
        server.until_ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
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
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        // A line may be cut off: it is being written, or the collector was killed; and the next
        // collector goes on in the same line.
        let lines = text.lines().filter_map(|line| {
            let whole = line.rfind(BATCH).and_then(|at| line.get(at..))?;
            serde_json::from_str(whole).ok()
        });
        lines
            .flat_map(|batch: Value| list(&batch["resourceMetrics"]))
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

    fn file(&self) -> PathBuf {
        self.scratch.path().join("received.json")
    }
}

fn configuration(port: u16, file: &Path) -> String {
    format!(
        "receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:{port}
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
",
        file.display()
    )
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// OTLP's JSON writes 64-bit numbers as text.
fn number(value: &Value) -> f64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or_else(|| value.as_f64()).unwrap_or(f64::NAN)
}
