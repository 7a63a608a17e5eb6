// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text that Prometheus reads, in its two dialects.
//!
//! Written by hand rather than through a metrics library: the books are read where they are, no
//! series is registered or allocated, and energies are printed from integers, so that what adds
//! up in µJ adds up in the text.

mod accept;
mod exemplar;

use std::fmt::Write;

pub use self::exemplar::Exemplar;

/// Which dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Dialect {
    /// What an `Accept` header asks for (RFC 9110, 12.5.1): the dialect with the larger weight,
    /// and text where neither is wanted more.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        accept::preferred(accept)
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

/// Series of one name.
#[derive(Debug)]
pub struct Family {
    /// What they are called, unit and suffix included.
    pub name: &'static str,
    /// What they are.
    pub kind: Type,
    /// One line for people.
    pub help: &'static str,
    /// The labels that they may have, beside the node's and `le`.
    pub labels: &'static [&'static str],
}

/// Writes families one after the other into a buffer that is kept from scrape to scrape.
pub struct Exposition<'a> {
    out: &'a mut String,
    dialect: Dialect,
    /// The label that each series begins with, as it is written.
    node: String,
    family: &'static Family,
}

/// Before the first family.
const NONE: &Family = &Family {
    name: "",
    kind: Type::Gauge,
    help: "",
    labels: &[],
};

impl<'a> Exposition<'a> {
    /// Starts anew; each series gets the label `node`.
    pub fn new(out: &'a mut String, dialect: Dialect, node: &str) -> Self {
        out.clear();
        Self {
            out,
            dialect,
            node: label("node", node),
            family: NONE,
        }
    }

    /// From here on the node's name is under the label `name`.
    pub fn call_node(&mut self, name: &str, node: &str) {
        self.node = label(name, node);
    }

    /// Begins a family.
    pub fn family(&mut self, family: &'static Family) {
        self.family = family;
        let (name, help) = (family.name, family.help);
        let (shown, kind) = match (self.dialect, family.kind) {
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
        self.joules_of(labels, microjoules, None);
    }

    /// The same, with what it came from where the dialect has room for that.
    pub fn joules_of(
        &mut self,
        labels: &[(&str, &str)],
        microjoules: u64,
        exemplar: Option<&Exemplar>,
    ) {
        self.series("", labels);
        fixed(self.out, microjoules, 1_000_000, 6);
        if let Some(exemplar) = exemplar.filter(|_| self.dialect == Dialect::OpenMetrics) {
            exemplar.write(self.out);
        }
        self.out.push('\n');
    }

    /// One sample of seconds, given in ns.
    pub fn seconds(&mut self, labels: &[(&str, &str)], nanoseconds: u64) {
        self.series("", labels);
        fixed(self.out, nanoseconds, 1_000_000_000, 9);
        self.out.push('\n');
    }

    /// One sample of a whole number.
    pub fn integer(&mut self, labels: &[(&str, &str)], value: i128) {
        self.series("", labels);
        let _ = writeln!(self.out, "{value}");
    }

    /// One sample of a real number; none where it is no number.
    pub fn real(&mut self, labels: &[(&str, &str)], value: f64) {
        if value.is_finite() {
            self.series("", labels);
            let _ = writeln!(self.out, "{value}");
        }
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
        self.out.push('\n');
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
        debug_assert!(
            labels.iter().all(|(name, _)| self.documents(name)),
            "{} has a label that the catalogue does not name: {labels:?}",
            self.family.name
        );
        self.out.push_str(self.family.name);
        self.out.push_str(suffix);
        self.out.push('{');
        self.out.push_str(&self.node);
        for (name, value) in labels {
            self.out.push(',');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value);
            self.out.push('"');
        }
        self.out.push_str("} ");
    }

    fn documents(&self, label: &str) -> bool {
        self.family.labels.contains(&label)
            || (label == "le" && self.family.kind == Type::Histogram)
    }
}

fn label(name: &str, value: &str) -> String {
    let mut text = format!("{name}=\"");
    escape(&mut text, value);
    text.push('"');
    text
}

fn strip<'a>(name: &'a str, suffix: &str) -> &'a str {
    name.strip_suffix(suffix).unwrap_or(name)
}

/// A decimal number without a detour through floating point.
fn fixed(out: &mut String, value: u64, unit: u64, digits: usize) {
    integer(out, value / unit, 1);
    out.push('.');
    integer(out, value % unit, digits);
}

/// The digits of a number, with zeros before them if there are too few. A third of the time
/// that formatting takes, for what a scrape mostly consists of.
fn integer(out: &mut String, mut value: u64, least: usize) {
    // As many as the largest number has.
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while value > 0 || text.len() - at < least.min(text.len()) {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.push_str(std::str::from_utf8(&text[at..]).unwrap_or_default());
}

/// Label values may hold anything but three characters.
fn escape(out: &mut String, text: &str) {
    let mut rest = text;
    // All three are ASCII, so a character begins after each.
    while let Some(at) = rest.bytes().position(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use eco_push::trace::TraceContext;

    use super::*;

    static X: Family = Family {
        name: "eco_x_joules_total",
        kind: Type::Counter,
        help: "X.",
        labels: &["name"],
    };
    static T: Family = Family {
        name: "eco_t_seconds",
        kind: Type::Histogram,
        help: "T.",
        labels: &[],
    };
    static G: Family = Family {
        name: "eco_g",
        kind: Type::Gauge,
        help: "G.",
        labels: &[],
    };

    fn written(dialect: Dialect) -> String {
        let mut out = String::new();
        let mut exposition = Exposition::new(&mut out, dialect, "n\"");
        exposition.family(&X);
        exposition.joules(&[("name", "a\"b\\c\nd ü")], 18_446_744_073_709_551_615);
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = TraceContext::parse(traceparent).unwrap();
        let exemplar = Exemplar::new(trace, 1_500_000, 1_700_000_000_123);
        exposition.joules_of(&[], 7, Some(&exemplar));
        exposition.family(&T);
        exposition.histogram(&[("0.1", 2)], 3, 1_500_000_000);
        exposition.family(&G);
        for value in [f64::NAN, f64::INFINITY, 0.25] {
            exposition.real(&[], value);
        }
        exposition.finish();
        out
    }

    #[test]
    fn a_large_counter_is_exact_and_a_hostile_label_is_escaped() {
        let text = written(Dialect::Text);
        let wanted = r#"eco_x_joules_total{node="n\"",name="a\"b\\c\nd ü"} 18446744073709.551615"#;
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("# TYPE eco_x_joules_total counter\n"));
        assert!(text.contains("eco_t_seconds_sum{node=\"n\\\"\"} 1.500000000\n"));
    }

    #[test]
    fn openmetrics_names_the_family_without_its_suffix_and_ends() {
        let text = written(Dialect::OpenMetrics);
        assert!(text.contains("# TYPE eco_x_joules counter\n"));
        assert!(text.contains("\neco_x_joules_total{"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn only_openmetrics_has_exemplars() {
        let exemplar = " # {trace_id=\"0af7651916cd43dd8448eb211c80319c\",\
                        span_id=\"b7ad6b7169203331\"} 1.500000 1700000000.123\n";
        let line = format!("eco_x_joules_total{{node=\"n\\\"\"}} 0.000007{exemplar}");
        assert!(written(Dialect::OpenMetrics).contains(&line));
        assert!(!written(Dialect::Text).contains("trace_id"));
    }

    #[test]
    fn what_is_no_number_is_no_sample() {
        for dialect in [Dialect::Text, Dialect::OpenMetrics] {
            let text = written(dialect);
            let samples: Vec<&str> = text.lines().filter(|l| l.starts_with("eco_g")).collect();
            assert_eq!(samples, ["eco_g{node=\"n\\\"\"} 0.25"]);
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for (value, least, wanted) in [
            (0, 1, "0"),
            (0, 6, "000000"),
            (42, 6, "000042"),
            (1_234_567, 6, "1234567"),
            (u64::MAX, 30, "18446744073709551615"),
        ] {
            let mut out = String::new();
            integer(&mut out, value, least);
            assert_eq!(out, wanted);
        }
    }
}
