// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OTLP over HTTP or gRPC: metrics, spans and logs.
//!
//! `opentelemetry-otlp` sends only what OpenTelemetry's SDK has added up itself: its data model
//! cannot be filled from outside, and would keep a second copy of every counter. These messages
//! are few, so they are written straight into the request.

mod attributes;
mod batch;
mod logs;
mod records;
mod spans;

use std::{collections::HashMap, sync::Arc};

use eco_https::SetupError;

use self::{
    batch::{Batch, Points, Value},
    records::Records,
};
pub use self::{
    logs::{Line, Severity},
    spans::{Attribute, Span},
};
use crate::{
    destination::{Address, Destination, PushError, Remote},
    outlet::Protocol,
    queue::Queue,
    samples::{self, Family, Sample},
    series::Series,
    wire::{self, find},
};

/// A batch is sent when it has so many bytes; gRPC's and most receivers' limit is 4 MiB.
const BATCH: usize = 512 << 10;

const HEADERS: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

/// Where each signal is taken, by the specification of OTLP.
static METRICS: Address = Address {
    path: "/v1/metrics",
    method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
};
static TRACES: Address = Address {
    path: "/v1/traces",
    method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
};
static LOGS: Address = Address {
    path: "/v1/logs",
    method: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
};

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `http/protobuf`.
    Http,
    /// `grpc`.
    Grpc,
}

/// What counters are shown as. Histograms are cumulative either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// All since the counter was zero.
    Cumulative,
    /// What has come since the last batch that was taken.
    Delta,
}

/// Whom the numbers are about.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The node.
    pub host: String,
    /// The agent's version.
    pub version: &'static str,
}

/// A collector that takes OTLP.
pub struct Otlp {
    to: Destination,
    temporality: Temporality,
    batch: Batch,
    series: Option<Series>,
    /// Each meter's energy in J and the time in ns of the last pass.
    powers: HashMap<String, (f64, u64)>,
    queued: Vec<Records>,
}

impl Otlp {
    /// To that collector, whose address is without a path of a signal.
    ///
    /// # Errors
    /// When a file of certificates cannot be used.
    pub fn new(
        remote: Remote,
        transport: Transport,
        temporality: Temporality,
        resource: Resource,
    ) -> Result<Self, SetupError> {
        let to = match transport {
            Transport::Http => Destination::new(remote, HEADERS)?,
            Transport::Grpc => Destination::by_grpc(remote)?,
        };
        Ok(Self {
            to,
            temporality,
            batch: Batch::new(resource),
            series: None,
            powers: HashMap::new(),
            queued: Vec::new(),
        })
    }

    /// Sends also the spans of that queue, after each pass over the metrics.
    #[must_use]
    pub fn with_spans(mut self, queue: Arc<Queue>) -> Self {
        self.queued.push(Records::new("traces", &TRACES, queue));
        self
    }

    /// Sends also the lines of the log of that queue, likewise.
    #[must_use]
    pub fn with_logs(mut self, queue: Arc<Queue>) -> Self {
        self.queued.push(Records::new("logs", &LOGS, queue));
        self
    }
}

impl Protocol for Otlp {
    fn push(&mut self, text: &str, now_ns: u64) -> Result<u64, PushError> {
        let series = self.series.get_or_insert_with(|| Series::new(now_ns));
        series.begin(now_ns);
        let mut pass = Pass {
            to: &self.to,
            batch: &mut self.batch,
            series,
            powers: &mut self.powers,
            is_delta: self.temporality == Temporality::Delta,
            now_ns,
            histogram: Histogram::default(),
            meters: Vec::new(),
            rejected: 0,
            failed: None,
        };
        pass.batch.begin();
        samples::read(text, |family, sample| pass.take(family, sample));
        pass.hardware();
        pass.flush();
        let Pass {
            rejected, failed, ..
        } = pass;
        match failed {
            Some(why) => Err(why),
            None => {
                series.end();
                Ok(rejected)
            }
        }
    }

    fn push_queued(&mut self) {
        for records in &mut self.queued {
            records.send(&self.to, self.batch.resource());
        }
    }
}

/// One pass over all that is shown.
struct Pass<'a> {
    to: &'a Destination,
    batch: &'a mut Batch,
    series: &'a mut Series,
    powers: &'a mut HashMap<String, (f64, u64)>,
    is_delta: bool,
    now_ns: u64,
    histogram: Histogram,
    meters: Vec<Meter>,
    rejected: u64,
    failed: Option<PushError>,
}

/// A histogram whose lines are being read.
#[derive(Default)]
struct Histogram {
    bounds: Vec<f64>,
    within: Vec<u64>,
    sum: f64,
}

/// A meter, until all are known.
struct Meter {
    domain: String,
    device: String,
    source: String,
    joules: f64,
    grown: Option<f64>,
    since_ns: u64,
    start_ns: u64,
}

impl Pass<'_> {
    fn take(&mut self, family: &Family<'_>, sample: &Sample<'_>) {
        if self.failed.is_some() {
            return;
        }
        match family.kind {
            "counter" => self.counter(family, sample),
            "histogram" => self.histogram_line(family, sample),
            _ => {
                let points = self.batch.points(family, Points::Gauge);
                let at = (0, self.now_ns);
                points.number(at, sample.value, |out| attributes::write(out, sample));
            }
        }
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn counter(&mut self, family: &Family<'_>, sample: &Sample<'_>) {
        let progress = self.series.show(sample.series, sample.value);
        if family.name == "eco_node_energy_joules_total" {
            self.meters.push(Meter {
                domain: sample.label("domain").into(),
                device: sample.label("device").into(),
                source: sample.label("source").into(),
                joules: sample.value,
                grown: progress.grown,
                since_ns: progress.since_ns,
                start_ns: progress.start_ns,
            });
        }
        let (start_ns, value) = match (self.is_delta, progress.grown) {
            (false, _) => (progress.start_ns, sample.value),
            (true, Some(grown)) => (progress.since_ns, grown),
            (true, None) => return,
        };
        let points = self.batch.points(family, Points::sum(self.is_delta));
        points.number((start_ns, self.now_ns), value, |out| {
            attributes::write(out, sample);
        });
    }

    fn histogram_line(&mut self, family: &Family<'_>, sample: &Sample<'_>) {
        let lines = &mut self.histogram;
        match sample.name.strip_prefix(family.name) {
            Some("_bucket") => {
                lines.within.push(sample.value as u64);
                let bound = sample.label("le").parse().unwrap_or(f64::INFINITY);
                if bound.is_finite() {
                    lines.bounds.push(bound);
                }
            }
            Some("_sum") => lines.sum = sample.value,
            Some("_count") => {
                let start_ns = self.series.show(sample.series, sample.value).start_ns;
                let lines = std::mem::take(lines);
                let value = Value {
                    count: sample.value as u64,
                    sum: lines.sum,
                    bounds: &lines.bounds,
                    within: &lines.within,
                };
                let points = self.batch.points(family, Points::Histogram);
                points.histogram((start_ns, self.now_ns), &value);
            }
            _ => {}
        }
    }

    /// The node's meters under the names of OpenTelemetry's conventions for hardware.
    fn hardware(&mut self) {
        if self.failed.is_some() {
            return;
        }
        for is_host in [false, true] {
            let name = if is_host {
                "hw.host.energy"
            } else {
                "hw.energy"
            };
            for meter in &self.meters {
                let (start_ns, value) = match (self.is_delta, meter.grown) {
                    (false, _) => (meter.start_ns, meter.joules),
                    (true, Some(grown)) => (meter.since_ns, grown),
                    (true, None) => continue,
                };
                if attributes::is_host(&meter.domain) == is_host {
                    let points = self.batch.named(name, "J", Points::sum(self.is_delta));
                    points.number((start_ns, self.now_ns), value, |out| {
                        attributes::hardware(out, &meter.domain, &meter.device, &meter.source);
                    });
                }
            }
            self.powers(is_host);
        }
    }

    /// Mean power since the pass before, whether that was taken or not.
    fn powers(&mut self, is_host: bool) {
        let name = if is_host { "hw.host.power" } else { "hw.power" };
        for meter in &self.meters {
            if attributes::is_host(&meter.domain) != is_host {
                continue;
            }
            let key = format!("{} {} {}", meter.domain, meter.device, meter.source);
            let before = self.powers.insert(key, (meter.joules, self.now_ns));
            let Some((joules, at_ns)) = before else {
                continue;
            };
            let seconds = self.now_ns.saturating_sub(at_ns) as f64 / 1e9;
            if seconds > 0.0 && meter.joules >= joules {
                let watts = (meter.joules - joules) / seconds;
                let points = self.batch.named(name, "W", Points::Gauge);
                points.number((at_ns, self.now_ns), watts, |out| {
                    attributes::hardware(out, &meter.domain, &meter.device, &meter.source);
                });
            }
        }
    }

    fn flush(&mut self) {
        if self.failed.is_some() || self.batch.is_empty() {
            return;
        }
        match self.to.send(&METRICS, self.batch.finish()) {
            Ok(answer) => {
                self.rejected += rejected(&answer);
                self.series.taken();
                self.batch.begin();
            }
            Err(why) => self.failed = Some(why),
        }
    }
}

/// Of an `ExportMetricsServiceResponse`, or that of another signal: what it did not take, and is not to be sent again.
fn rejected(answer: &[u8]) -> u64 {
    let Some(wire::Value::Bytes(partial)) = find(answer, 1) else {
        return 0;
    };
    match find(partial, 1) {
        Some(wire::Value::Number(rejected)) => rejected,
        _ => 0,
    }
}
