// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An `ExportMetricsServiceRequest`, with the field numbers of opentelemetry-proto 1.x.

use super::{Resource, attributes};
use crate::{
    samples::Family,
    wire::{Open, Writer},
};

/// A request that is being written.
pub(super) struct Batch {
    resource: Resource,
    out: Writer,
    /// `ResourceMetrics` and its `ScopeMetrics`.
    around: Option<(Open, Open)>,
    /// The metric whose points are being written: its name, itself and its data.
    metric: Option<(String, Open, Open)>,
    empty_len: usize,
}

/// Begins a request of any signal: its `ResourceMetrics` (or spans, or logs), with the resource,
/// and in that its `ScopeMetrics` with the scope. What follows is field 2 of the latter.
pub(super) fn envelope(out: &mut Writer, about: &Resource) -> (Open, Open) {
    let resource_metrics = out.open(1);
    let resource = out.open(1);
    attributes::pair(out, 1, "service.name", "eco-agent");
    attributes::pair(out, 1, "service.version", about.version);
    attributes::pair(out, 1, "host.name", &about.host);
    attributes::pair(out, 1, "os.type", "linux");
    out.close(resource);
    let scope_metrics = out.open(2);
    let scope = out.open(1);
    out.text(1, "eco");
    out.text(2, about.version);
    out.close(scope);
    (resource_metrics, scope_metrics)
}

/// What kind of metric.
#[derive(Clone, Copy)]
pub(super) enum Points {
    Gauge,
    Cumulative,
    Delta,
    Histogram,
}

impl Points {
    pub(super) fn sum(is_delta: bool) -> Self {
        if is_delta {
            Self::Delta
        } else {
            Self::Cumulative
        }
    }
}

/// A histogram: how many were within each bound, and in all.
pub(super) struct Value<'a> {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) bounds: &'a [f64],
    pub(super) within: &'a [u64],
}

impl Batch {
    pub(super) fn new(resource: Resource) -> Self {
        Self {
            resource,
            out: Writer::default(),
            around: None,
            metric: None,
            empty_len: 0,
        }
    }

    /// Starts anew.
    pub(super) fn begin(&mut self) {
        self.out.clear();
        self.metric = None;
        self.around = Some(envelope(&mut self.out, &self.resource));
        self.empty_len = self.out.len();
    }

    pub(super) fn resource(&self) -> &Resource {
        &self.resource
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.len() == self.empty_len
    }

    /// The points of a family of `/metrics`.
    pub(super) fn points(&mut self, family: &Family<'_>, kind: Points) -> &mut Self {
        if !self.is_at(family.name) {
            let (name, unit) = attributes::name_and_unit(family.name);
            self.metric(family.name, &name, unit, family.help, kind);
        }
        self
    }

    /// The points of a metric of another name.
    pub(super) fn named(&mut self, name: &str, unit: &str, kind: Points) -> &mut Self {
        if !self.is_at(name) {
            self.metric(name, name, unit, "", kind);
        }
        self
    }

    /// One point, from a time to a time, in ns.
    pub(super) fn number(
        &mut self,
        (start_ns, at_ns): (u64, u64),
        value: f64,
        attributes: impl FnOnce(&mut Writer),
    ) {
        let point = self.out.open(1);
        if start_ns != 0 {
            self.out.fixed(2, start_ns);
        }
        self.out.fixed(3, at_ns);
        self.out.double(4, value);
        attributes(&mut self.out);
        self.out.close(point);
    }

    pub(super) fn histogram(&mut self, (start_ns, at_ns): (u64, u64), value: &Value<'_>) {
        let out = &mut self.out;
        let point = out.open(1);
        out.fixed(2, start_ns);
        out.fixed(3, at_ns);
        out.fixed(4, value.count);
        out.double(5, value.sum);
        let mut below = 0;
        for within in value.within {
            out.fixed(6, within.saturating_sub(below));
            below = *within;
        }
        for bound in value.bounds {
            out.double(7, *bound);
        }
        out.close(point);
    }

    /// The whole request.
    pub(super) fn finish(&mut self) -> &[u8] {
        self.end_metric();
        if let Some((resource_metrics, scope_metrics)) = self.around.take() {
            self.out.close(scope_metrics);
            self.out.close(resource_metrics);
        }
        self.out.bytes()
    }

    fn is_at(&self, key: &str) -> bool {
        self.metric.as_ref().is_some_and(|(at, ..)| at == key)
    }

    fn metric(&mut self, key: &str, name: &str, unit: &str, help: &str, kind: Points) {
        self.end_metric();
        let out = &mut self.out;
        let metric = out.open(2);
        out.text(1, name);
        out.text(2, help);
        out.text(3, unit);
        let data = match kind {
            Points::Gauge => out.open(5),
            Points::Histogram => {
                let data = out.open(9);
                out.number(2, 2);
                data
            }
            Points::Cumulative | Points::Delta => {
                let data = out.open(7);
                let temporality = if matches!(kind, Points::Delta) { 1 } else { 2 };
                out.number(2, temporality);
                out.number(3, 1);
                data
            }
        };
        self.metric = Some((key.to_owned(), metric, data));
    }

    fn end_metric(&mut self) {
        if let Some((_, metric, data)) = self.metric.take() {
            self.out.close(data);
            self.out.close(metric);
        }
    }
}
