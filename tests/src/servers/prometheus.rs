// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A store of metrics that is asked in PromQL: Prometheus, or VictoriaMetrics in its place.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    Installed, find_or_skip, free_port,
    server::{Launch, Server, run},
};
use crate::http;

/// Who stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prometheus itself.
    Prometheus,
    /// VictoriaMetrics, whose PromQL differs in places.
    VictoriaMetrics,
}

impl Kind {
    /// Both: what holds for one must hold for the other.
    pub const ALL: [Self; 2] = [Self::Prometheus, Self::VictoriaMetrics];

    fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }
}

/// One sample of the past, to be there from the beginning.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name and labels as the text format writes them: `name{label="value"}`.
    pub series: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The value.
    pub value: f64,
}

/// A store of one's own. Dropped, it leaves nothing.
pub struct Store {
    _server: Server,
    port: u16,
    _scratch: tempfile::TempDir,
}

impl Store {
    /// Starts one that scrapes, with the samples in it. `scrape_configs` is that part of a
    /// Prometheus configuration, a YAML list, best by [`scrape`]; or empty. Samples of one
    /// series come in their order. Prints `skipped: why` and answers `None` where there is no
    /// such store.
    ///
    /// # Errors
    /// When it does not get ready, or refuses the configuration or the samples.
    pub fn start(
        kind: Kind,
        scrape_configs: &str,
        samples: impl IntoIterator<Item = Sample>,
    ) -> Result<Option<Self>> {
        let Some([installed]) = find_or_skip([kind.name()]) else {
            return Ok(None);
        };
        let scratch = tempfile::Builder::new().prefix("eco-test-").tempdir()?;
        let config = scratch.path().join("scrape.yaml");
        fs::write(&config, format!("scrape_configs:\n{scrape_configs}\n"))?;
        let port = free_port()?;
        let place = Place {
            installed: &installed,
            scratch: scratch.path(),
            config: &config,
            port,
        };
        let server = match kind {
            Kind::Prometheus => place.prometheus(samples)?,
            Kind::VictoriaMetrics => place.victoria_metrics(samples)?,
        };
        Ok(Some(Self {
            _server: server,
            port,
            _scratch: scratch,
        }))
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The `result` of an instant query, now.
    ///
    /// # Errors
    /// When the store does not understand it: with what it said.
    pub fn query(&self, promql: &str) -> Result<Vec<Value>> {
        let query = percent_encoded(promql);
        let response = http::get(&format!("{}/api/v1/query?query={query}", self.url()))?;
        let answer = response.json()?;
        match answer["data"]["result"].as_array() {
            Some(result) => Ok(result.clone()),
            None => bail!("{promql}: {answer}"),
        }
    }

    /// The value of a query that has one series in its result; `None` where it has none.
    ///
    /// # Errors
    /// When it has several, and as [`Self::query`].
    pub fn number(&self, promql: &str) -> Result<Option<f64>> {
        let result = self.query(promql)?;
        match result.as_slice() {
            [] => Ok(None),
            // `[time, "value"]`
            [one] => {
                let text = one["value"][1]
                    .as_str()
                    .context("a sample without a value")?;
                Ok(Some(text.parse()?))
            }
            several => bail!("{promql} has {} series", several.len()),
        }
    }
}

/// A scrape configuration: each second, at `/metrics` of each address, `HOST:PORT`. The label `job`
/// stays whose job it is, as docs/kubernetes.md asks for.
#[must_use]
pub fn scrape(job: &str, addresses: &[&str]) -> String {
    let mut text = format!("- job_name: '{job}'\n  honor_labels: true\n  scrape_interval: 1s\n");
    text.push_str("  static_configs:\n");
    for address in addresses {
        let _ = writeln!(text, "  - targets: ['{address}']");
    }
    text
}

/// Where a store is going to be.
struct Place<'a> {
    installed: &'a Installed,
    scratch: &'a Path,
    config: &'a Path,
    port: u16,
}

impl Place<'_> {
    fn prometheus(&self, samples: impl IntoIterator<Item = Sample>) -> Result<Server> {
        let program = self.installed.path("usr/bin/prometheus");
        let launch = Launch::new("prometheus", self.scratch, &program)?;
        let data = launch.state().join("data");
        let file = self.scratch.join("samples");
        if write_samples(&file, samples, |sample| {
            format!("{} {} {}\n", sample.series, sample.value, sample.at)
        })? {
            let mut promtool = Command::new(self.installed.path("usr/bin/promtool"));
            promtool.args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"]);
            run(promtool.arg(&file).arg(&data))?;
        }
        let mut server = launch
            .flag("config.file", self.config)
            .flag("storage.tsdb.path", &data)
            // Samples may be as old as a test likes.
            .flag("storage.tsdb.retention.time", "10y")
            .flag("web.listen-address", format!("127.0.0.1:{}", self.port))
            // Whoever cannot be scraped may push.
            .arg("--web.enable-remote-write-receiver")
            .flag("log.level", "warn")
            .start()?;
        server.until_ready(|| is_up(self.port, "/-/ready"))?;
        Ok(server)
    }

    fn victoria_metrics(&self, samples: impl IntoIterator<Item = Sample>) -> Result<Server> {
        let program = self.installed.path("usr/bin/victoria-metrics");
        let launch = Launch::new("victoria-metrics", self.scratch, &program)?;
        let data = launch.state().join("data");
        let mut server = launch
            .flag("promscrape.config", self.config)
            .flag("storageDataPath", &data)
            .flag("retentionPeriod", "10y")
            .flag("httpListenAddr", format!("127.0.0.1:{}", self.port))
            .flag("loggerLevel", "WARN")
            // What was just stored is asked for.
            .flag("search.latencyOffset", "0s")
            .flag("search.disableCache", "true")
            .start()?;
        server.until_ready(|| is_up(self.port, "/health"))?;
        let file = self.scratch.join("samples");
        if write_samples(&file, samples, |sample| {
            // In its own import, times are in ms.
            format!(
                "{} {} {:.0}\n",
                sample.series,
                sample.value,
                sample.at * 1e3
            )
        })? {
            let text = fs::read_to_string(&file)?;
            let import = format!("{}/api/v1/import/prometheus", url(self.port));
            let answer = http::post_text(&import, text)?;
            if answer.status >= 300 {
                bail!("VictoriaMetrics refuses the samples: {}", answer.body);
            }
            // Or they are not there for the next second.
            http::get(&format!("{}/internal/force_flush", url(self.port)))?;
        }
        Ok(server)
    }
}

/// Whether there were any.
fn write_samples(
    file: &Path,
    samples: impl IntoIterator<Item = Sample>,
    line: impl Fn(&Sample) -> String,
) -> Result<bool> {
    let mut writer = BufWriter::new(File::create(file)?);
    let mut any = false;
    for sample in samples {
        writer.write_all(line(&sample).as_bytes())?;
        any = true;
    }
    // OpenMetrics ends so; a comment to everybody else.
    writer.write_all(b"# EOF\n")?;
    writer.flush()?;
    Ok(any)
}

fn is_up(port: u16, path: &str) -> bool {
    http::get(&format!("{}{path}", url(port))).is_ok_and(|answer| answer.status == 200)
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
