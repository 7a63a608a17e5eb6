// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counters over time, as Prometheus sees them: a sequence of scrapes.

use std::collections::HashMap;

use anyhow::Result;

use crate::metrics::{Filter, Metrics};

/// What `increase()` adds up over the scrapes that it was shown.
#[derive(Debug, Default)]
pub struct Increase {
    last: HashMap<String, i128>,
    sums: HashMap<(String, String, String), i128>,
}

impl Increase {
    /// Takes the next scrape: energy in µJ, carbon in fg.
    ///
    /// A series that is new adds nothing yet, and one that fell was reset to zero in between:
    /// the same rules as Prometheus'.
    ///
    /// # Errors
    /// When a value is finer than a millionth.
    pub fn observe(&mut self, metrics: &Metrics) -> Result<()> {
        for sample in metrics.iter() {
            let value = match &sample.name {
                name if name.ends_with("_energy_joules_total") => sample.micro()?,
                name if name.ends_with("_carbon_grams_total") => sample.femto(),
                _ => continue,
            };
            let grown = match self.last.insert(sample.series(), value) {
                None => 0,
                Some(last) if value < last => value,
                Some(last) => value - last,
            };
            let label = |name| sample.label(name).unwrap_or_default().to_owned();
            let key = (sample.name.clone(), label("kind"), label("domain"));
            *self.sums.entry(key).or_default() += grown;
        }
        Ok(())
    }

    /// The increase of a metric, in µJ or fg, over all series of a domain, and of a kind if
    /// one is given.
    #[must_use]
    pub fn of(&self, name: &str, kind: &str, domain: &str) -> i128 {
        let key = (name.to_owned(), kind.to_owned(), domain.to_owned());
        self.sums.get(&key).copied().unwrap_or(0)
    }
}

/// Counters that fell from one scrape to the next.
#[derive(Debug, Default)]
pub struct Falls {
    last: HashMap<String, f64>,
    found: Vec<String>,
}

impl Falls {
    /// Takes the next scrape. A series that is absent from it is not held against its return; nor
    /// is a process that was shown anew in between, from zero, as the published interface allows.
    pub fn observe(&mut self, metrics: &Metrics) {
        self.observe_where(metrics, |_| true);
    }

    /// The same, looking only at metrics that `wanted` names.
    pub fn observe_where(&mut self, metrics: &Metrics, wanted: impl Fn(&str) -> bool) {
        let mut now = HashMap::new();
        for sample in metrics
            .iter()
            .filter(|s| wanted(&s.name) && metrics.is_counter(s))
        {
            let (series, value) = (sample.series(), sample.value());
            let is_anew = value == 0.0 && sample.label("kind") == Some("process");
            if let Some(last) = self
                .last
                .get(&series)
                .filter(|last| value < **last && !is_anew)
            {
                self.found
                    .push(format!("{series} fell from {last} to {value}"));
            }
            now.insert(series, value);
        }
        self.last = now;
    }

    /// All that fell.
    #[must_use]
    pub fn found(&self) -> &[String] {
        &self.found
    }
}

/// The books of one scrape: by domain, what the node has, and what everyone together has.
///
/// # Errors
/// When a value is finer than a microjoule.
pub fn books(metrics: &Metrics) -> Result<Vec<(String, i128, i128)>> {
    let node = "eco_node_energy_joules_total";
    let mut books = Vec::new();
    for domain in metrics.labels(node, "domain") {
        let of_domain: Filter<'_> = &[("domain", domain)];
        let mut parts = 0;
        for kind in PAYERS {
            let filter = [("domain", domain), ("kind", kind)];
            parts += metrics.sum_micro("eco_unit_energy_joules_total", &filter)?;
        }
        for name in [
            "eco_departed_energy_joules_total",
            "eco_idle_energy_joules_total",
            "eco_unattributed_energy_joules_total",
        ] {
            parts += metrics.sum_micro(name, of_domain)?;
        }
        books.push((
            domain.to_owned(),
            metrics.sum_micro(node, of_domain)?,
            parts,
        ));
    }
    Ok(books)
}

/// The same of carbon, in grams.
#[must_use]
pub fn carbon_books(metrics: &Metrics) -> Vec<(String, f64, f64)> {
    let node = "eco_node_carbon_grams_total";
    let of = |domain: &str| {
        let units = PAYERS.iter().map(|kind| {
            let filter = [("domain", domain), ("kind", kind)];
            metrics.sum("eco_unit_carbon_grams_total", &filter)
        });
        let rest = ["departed", "idle", "unattributed"].iter().map(|part| {
            metrics.sum(
                &format!("eco_{part}_carbon_grams_total"),
                &[("domain", domain)],
            )
        });
        let whole = metrics.sum(node, &[("domain", domain)]);
        (domain.to_owned(), whole, units.chain(rest).sum())
    };
    metrics.labels(node, "domain").into_iter().map(of).collect()
}

/// The kinds of unit that add up to the node; all others are views of the same joules.
pub const PAYERS: [&str; 3] = ["process", "kernel", "other"];

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(lines: &[&str]) -> Metrics {
        let head = "# TYPE eco_unit_energy_joules_total counter\n";
        Metrics::parse(&format!("{head}{}\n", lines.join("\n"))).unwrap()
    }

    const A: &str = "eco_unit_energy_joules_total{kind=\"process\",name=\"a\",domain=\"package\"}";

    #[test]
    fn a_series_counts_from_its_second_scrape_and_through_a_reset() {
        let mut increase = Increase::default();
        for value in ["5", "7", "1", "1.5"] {
            increase
                .observe(&scrape(&[&format!("{A} {value}")]))
                .unwrap();
        }
        let sum = increase.of("eco_unit_energy_joules_total", "process", "package");
        assert_eq!(sum, 3_500_000);
    }

    #[test]
    fn a_counter_that_falls_is_named_unless_it_was_away() {
        let mut falls = Falls::default();
        for lines in [vec![format!("{A} 5")], vec![], vec![format!("{A} 1")]] {
            falls.observe(&scrape(
                &lines.iter().map(String::as_str).collect::<Vec<_>>(),
            ));
        }
        assert!(falls.found().is_empty());
        falls.observe(&scrape(&[&format!("{A} 0")]));
        assert!(falls.found().is_empty(), "shown anew");
        falls.observe(&scrape(&[&format!("{A} 2")]));
        falls.observe(&scrape(&[&format!("{A} 0.5")]));
        assert_eq!(falls.found().len(), 1);
    }

    #[test]
    fn books_that_lack_a_joule_do_not_close() {
        let metrics = scrape(&[
            "eco_node_energy_joules_total{domain=\"package\",device=\"package-0\"} 10",
            &format!("{A} 4"),
            "eco_unit_energy_joules_total{kind=\"job\",name=\"j\",domain=\"package\"} 4",
            "eco_idle_energy_joules_total{domain=\"package\",device=\"package-0\"} 5",
        ]);
        assert_eq!(
            books(&metrics).unwrap(),
            [("package".to_owned(), 10_000_000, 9_000_000)]
        );
    }
}
