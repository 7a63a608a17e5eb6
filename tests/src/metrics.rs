// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Prometheus text, read without losing a microjoule: values stay decimal text until somebody
//! asks, and energy never goes through a float.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, bail};

/// Labels that a sample must have.
pub type Filter<'a> = &'a [(&'a str, &'a str)];

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
    kinds: BTreeMap<String, String>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    labels: BTreeMap<String, String>,
    value: String,
}

impl Metrics {
    /// Reads the text exposition format.
    ///
    /// # Errors
    /// Shows the first line that is none of it.
    pub fn parse(text: &str) -> Result<Self> {
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').with_context(|| line.to_owned())?;
                metrics.kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.is_empty() && !line.starts_with('#') {
                let sample = Sample::parse(line).with_context(|| format!("bad line: {line}"))?;
                metrics.samples.push(sample);
            }
        }
        Ok(metrics)
    }

    /// All samples.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// Those of a metric that have the labels.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        filter: Filter<'a>,
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |s| s.name == name && s.has(filter))
    }

    /// Whether a metric may only grow.
    #[must_use]
    pub fn is_counter(&self, sample: &Sample) -> bool {
        let parts = ["_bucket", "_count", "_sum"];
        let family = parts.iter().find_map(|part| {
            let family = sample.name.strip_suffix(part)?;
            (self.kinds.get(family)? == "histogram").then_some(())
        });
        // OpenMetrics names the family of a counter without its suffix.
        let short = sample.name.strip_suffix("_total").unwrap_or(&sample.name);
        let kind = self
            .kinds
            .get(&sample.name)
            .or_else(|| self.kinds.get(short));
        family.is_some() || kind.is_some_and(|kind| kind == "counter")
    }

    /// The sum of some samples, in millionths: µJ where the metric is in joules.
    ///
    /// # Errors
    /// When a value is finer than that, or no number.
    pub fn sum_micro(&self, name: &str, filter: Filter<'_>) -> Result<i128> {
        self.select(name, filter).map(Sample::micro).sum()
    }

    /// The sum of some samples, where a float is good enough.
    #[must_use]
    pub fn sum(&self, name: &str, filter: Filter<'_>) -> f64 {
        self.select(name, filter).map(Sample::value).sum()
    }

    /// The values that a label has over a metric's samples.
    #[must_use]
    pub fn labels(&self, name: &str, label: &str) -> Vec<&str> {
        let of_metric = self.samples.iter().filter(|sample| sample.name == name);
        let mut values: Vec<&str> = of_metric.filter_map(|sample| sample.label(label)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

impl Sample {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Whether it has all these labels.
    #[must_use]
    pub fn has(&self, filter: Filter<'_>) -> bool {
        filter
            .iter()
            .all(|(name, value)| self.label(name) == Some(value))
    }

    /// The value as a float.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value.parse().unwrap_or(f64::NAN)
    }

    /// The value in millionths.
    ///
    /// # Errors
    /// When it is finer than that, or no number.
    pub fn micro(&self) -> Result<i128> {
        millionths(&self.value).with_context(|| self.to_string())
    }

    /// The value in femtograms, which is finer than any difference that matters, where it is in
    /// grams.
    #[must_use]
    pub fn femto(&self) -> i128 {
        (self.value() * 1e15).round() as i128
    }

    /// What tells this series from all others.
    #[must_use]
    pub fn series(&self) -> String {
        format!("{}{:?}", self.name, self.labels)
    }

    fn parse(line: &str) -> Result<Self> {
        let end = line.find(['{', ' ']).context("no value")?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while let Some(after) = label(rest, &mut labels)? {
                rest = after;
            }
            rest = rest.strip_prefix('}').context("labels without an end")?;
        }
        let value = rest.split_ascii_whitespace().next().context("no value")?;
        let _: f64 = value.parse().context("the value is no number")?;
        Ok(Self {
            name: name.to_owned(),
            labels,
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.series(), self.value)
    }
}

/// Takes one `name="value"` and the comma after it; `None` at the closing brace.
fn label<'a>(text: &'a str, into: &mut BTreeMap<String, String>) -> Result<Option<&'a str>> {
    if text.starts_with('}') {
        return Ok(None);
    }
    let (name, rest) = text.split_once("=\"").context("a label without a value")?;
    let mut value = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let after = &rest[at + 1..];
                if into.insert(name.to_owned(), value).is_some() {
                    bail!("label {name} twice");
                }
                return Ok(Some(after.strip_prefix(',').unwrap_or(after)));
            }
            '\\' => match chars.next().context("an escape without its character")?.1 {
                'n' => value.push('\n'),
                plain => value.push(plain),
            },
            _ => value.push(c),
        }
    }
    bail!("a label's value without an end")
}

/// `12.5e-1` as 1,250,000. Refuses what is finer than a millionth.
fn millionths(text: &str) -> Result<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: i128 = format!("{whole}{fraction}")
        .parse()
        .context("no decimal number")?;
    let mut scale = 6 + exponent - i32::try_from(fraction.len())?;
    while scale < 0 {
        if digits % 10 != 0 {
            bail!("finer than a millionth");
        }
        digits /= 10;
        scale += 1;
    }
    let factor = 10_i128
        .checked_pow(u32::try_from(scale)?)
        .context("out of range")?;
    digits.checked_mul(factor).context("out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_whatever_its_labels_hold() {
        let text = "# TYPE a_total counter\na_total{b=\"x\\\"},{\\\\\\n\",c=\"\"} 1.5\nd 2e3\n";
        let metrics = Metrics::parse(text).unwrap();
        let first = metrics.iter().next().unwrap();
        assert_eq!(first.label("b"), Some("x\"},{\\\n"));
        assert!(metrics.is_counter(first));
        assert_eq!(metrics.sum("d", &[]), 2000.0);
        assert_eq!(
            metrics.sum_micro("a_total", &[("c", "")]).unwrap(),
            1_500_000
        );
        assert_eq!(metrics.sum_micro("a_total", &[("c", "x")]).unwrap(), 0);
    }

    #[test]
    fn what_is_no_exposition_is_refused() {
        for line in [
            "a",
            "a{b=\"c} 1",
            "a{b} 1",
            "a{b=\"c\"} x",
            "a{b=\"\",b=\"\"} 1",
        ] {
            assert!(Metrics::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_microjoule_survives_any_notation() {
        assert_eq!(
            millionths("9007199254.740993").unwrap(),
            9_007_199_254_740_993
        );
        assert_eq!(millionths("1e-06").unwrap(), 1);
        assert_eq!(millionths("12.50").unwrap(), 12_500_000);
        assert_eq!(millionths("1.25e3").unwrap(), 1_250_000_000);
        assert!(millionths("0.0000001").is_err());
        assert!(millionths("NaN").is_err());
    }

    #[test]
    fn parts_of_a_histogram_only_grow() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\nh_sum 1\ng_count 1\n";
        let metrics = Metrics::parse(text).unwrap();
        let counters: Vec<bool> = metrics.iter().map(|s| metrics.is_counter(s)).collect();
        assert_eq!(counters, [true, true, true, false]);
    }
}
