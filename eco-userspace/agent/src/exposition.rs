// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text that Prometheus reads, in its two dialects.
//!
//! Written by hand rather than through a metrics library: the books are read where they are, no
//! series is registered or allocated, and energies are printed from integers, so that what adds
//! up in µJ adds up in the text.

use std::fmt::Write;

/// Which dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Dialect {
    /// What an `Accept` header asks for.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The `Content-Type` of it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets.
    Histogram,
    /// Always 1; its labels are what it says. The name ends in `_info`.
    Info,
}

/// Writes families one after the other into a buffer that is kept from scrape to scrape.
pub struct Exposition<'a> {
    out: &'a mut String,
    dialect: Dialect,
    node: &'a str,
    name: &'static str,
}

impl<'a> Exposition<'a> {
    /// Starts anew; each series gets the label `node`.
    pub fn new(out: &'a mut String, dialect: Dialect, node: &'a str) -> Self {
        out.clear();
        Self {
            out,
            dialect,
            node,
            name: "",
        }
    }

    /// Begins a family.
    pub fn family(&mut self, name: &'static str, kind: Type, help: &str) {
        self.name = name;
        let (shown, kind) = match (self.dialect, kind) {
            (Dialect::OpenMetrics, Type::Counter) => (strip(name, "_total"), "counter"),
            (Dialect::OpenMetrics, Type::Info) => (strip(name, "_info"), "info"),
            (_, Type::Counter) => (name, "counter"),
            (_, Type::Gauge | Type::Info) => (name, "gauge"),
            (_, Type::Histogram) => (name, "histogram"),
        };
        let _ = writeln!(self.out, "# HELP {shown} {help}\n# TYPE {shown} {kind}");
    }

    /// One sample of joules, given in µJ.
    pub fn joules(&mut self, labels: &[(&str, &str)], microjoules: u64) {
        self.series("", labels);
        fixed(self.out, microjoules, 1_000_000, 6);
    }

    /// One sample of seconds, given in ns.
    pub fn seconds(&mut self, labels: &[(&str, &str)], nanoseconds: u64) {
        self.series("", labels);
        fixed(self.out, nanoseconds, 1_000_000_000, 9);
    }

    /// One sample of a whole number.
    pub fn integer(&mut self, labels: &[(&str, &str)], value: i128) {
        self.series("", labels);
        let _ = writeln!(self.out, "{value}");
    }

    /// One sample of a real number.
    pub fn real(&mut self, labels: &[(&str, &str)], value: f64) {
        self.series("", labels);
        let _ = writeln!(self.out, "{value}");
    }

    /// A histogram: how many were within each bound (in seconds), how many in all, their sum.
    pub fn histogram(&mut self, bounds: &[(&str, u64)], count: u64, sum_ns: u64) {
        for (bound, within) in bounds {
            self.series("_bucket", &[("le", bound)]);
            let _ = writeln!(self.out, "{within}");
        }
        self.series("_bucket", &[("le", "+Inf")]);
        let _ = writeln!(self.out, "{count}");
        self.series("_sum", &[]);
        fixed(self.out, sum_ns, 1_000_000_000, 9);
        self.series("_count", &[]);
        let _ = writeln!(self.out, "{count}");
    }

    /// Ends the text.
    pub fn finish(self) {
        if self.dialect == Dialect::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
    }

    fn series(&mut self, suffix: &str, labels: &[(&str, &str)]) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        self.out.push_str("{node=\"");
        escape(self.out, self.node);
        self.out.push('"');
        for (name, value) in labels {
            self.out.push(',');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value);
            self.out.push('"');
        }
        self.out.push_str("} ");
    }
}

fn strip<'a>(name: &'a str, suffix: &str) -> &'a str {
    name.strip_suffix(suffix).unwrap_or(name)
}

/// A decimal number without a detour through floating point.
fn fixed(out: &mut String, value: u64, unit: u64, digits: usize) {
    let _ = writeln!(out, "{}.{:0digits$}", value / unit, value % unit);
}

/// Label values may hold anything but three characters.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dialect: Dialect) -> String {
        let mut out = String::new();
        let mut exposition = Exposition::new(&mut out, dialect, "n");
        exposition.family("eco_x_joules_total", Type::Counter, "X.");
        exposition.joules(&[("name", "a\"b\\c\nd")], 18_446_744_073_709_551_615);
        exposition.family("eco_t_seconds", Type::Histogram, "T.");
        exposition.histogram(&[("0.1", 2)], 3, 1_500_000_000);
        exposition.finish();
        out
    }

    #[test]
    fn a_large_counter_is_exact_and_a_hostile_label_is_escaped() {
        let text = written(Dialect::Text);
        let wanted = r#"eco_x_joules_total{node="n",name="a\"b\\c\nd"} 18446744073709.551615"#;
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("# TYPE eco_x_joules_total counter\n"));
        assert!(text.contains("eco_t_seconds_sum{node=\"n\"} 1.500000000\n"));
    }

    #[test]
    fn openmetrics_names_the_family_without_its_suffix_and_ends() {
        let text = written(Dialect::OpenMetrics);
        assert!(text.contains("# TYPE eco_x_joules counter\n"));
        assert!(text.contains("\neco_x_joules_total{"));
        assert!(text.ends_with("# EOF\n"));
    }
}
