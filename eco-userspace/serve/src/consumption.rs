// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What pods, namespaces, nodes and jobs used: questions to the store, put together.

mod conservation;
mod domains;
mod subject;
mod sums;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use self::sums::Sum;
pub(crate) use self::{
    conservation::Conservation,
    subject::Subject,
    sums::{Layout, Sums},
};
use crate::store::{
    Store, StoreError,
    query::{Matcher, Query, Reading, Row, Rows},
};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) subject: Subject,
    /// The span that energy, carbon and CPU time are summed over, and that ends now.
    pub(crate) window: Duration,
    /// The span that power is a mean over.
    pub(crate) power_window: Duration,
    /// A label to break each item down by; one of the subject's.
    pub(crate) by: Option<&'static str>,
}

/// Everything that there is to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Findings {
    /// Most energy first.
    pub(crate) items: Vec<Item>,
    /// The books of the nodes that the items ran on; null where the store does not know them.
    pub(crate) conservation: Option<Conservation>,
    /// What is missing from the answer.
    pub(crate) warnings: Vec<String>,
}

/// One pod, namespace, node or job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Item {
    /// Its name, as labels.
    #[serde(flatten)]
    pub(crate) labels: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    pub(crate) consumption: Consumption,
    /// Whether any of it is an estimate.
    pub(crate) estimated: bool,
    /// The nodes that it ran on.
    pub(crate) nodes: BTreeSet<String>,
    /// Its parts, if a breakdown was asked for. Parts by domain overlap: a package contains its
    /// cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<Vec<Part>>,
}

/// A part of an item.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Part {
    #[serde(flatten)]
    pub(crate) labels: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    pub(crate) consumption: Consumption,
}

/// What was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Consumption {
    pub(crate) energy_joules: Energy,
    /// Of late; null where nothing was seen of late.
    pub(crate) power_watts: Option<f64>,
    /// Null where no intensity was known.
    pub(crate) carbon_grams: Option<f64>,
    /// Null where the store does not know.
    pub(crate) cpu_seconds: Option<f64>,
}

/// Energy, in joules.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Energy {
    /// Each joule once: of domains that contain each other, one counts.
    pub(crate) total: f64,
    /// By domain.
    #[serde(flatten)]
    pub(crate) by_domain: BTreeMap<String, f64>,
}

/// Asks the store, and adds up.
pub(crate) async fn find(store: &Store, question: &Question) -> Result<Findings, StoreError> {
    let layout = Layout::new(question.subject.naming(), question.by);
    let answers = ask(store, question, &layout).await?;
    let mut items = collect(&answers, &layout);
    let nodes: BTreeSet<String> = items
        .iter()
        .flat_map(|item| item.nodes.iter().cloned())
        .collect();
    let mut warnings = answers.warnings;
    let mut conservation = None;
    if !nodes.is_empty() {
        let books = conservation::read(store, &nodes, question.window).await?;
        for item in &mut items {
            item.estimated = item.nodes.iter().any(|node| books.estimates.contains(node));
        }
        conservation = books.conservation;
        warnings.extend(books.warnings);
    }
    warnings.sort();
    warnings.dedup();
    items.sort_by(|a, b| {
        let energy = |item: &Item| item.consumption.energy_joules.total;
        energy(b)
            .total_cmp(&energy(a))
            .then_with(|| a.labels.cmp(&b.labels))
    });
    Ok(Findings {
        items,
        conservation,
        warnings,
    })
}

struct Answers {
    energy: Rows,
    power: Rows,
    carbon: Rows,
    cpu: Rows,
    warnings: Vec<String>,
}

async fn ask(store: &Store, question: &Question, layout: &Layout) -> Result<Answers, StoreError> {
    let families = question.subject.families();
    let matchers = question.subject.matchers();
    let over = Reading::Increase(question.window);
    let query = |family, reading| Query {
        family,
        matchers: matchers.clone(),
        by: layout.labels(),
        reading,
    };
    let energy = query(families.energy, over);
    let power = query(families.energy, Reading::Rate(question.power_window));
    let carbon = query(families.carbon, over);
    let mut cpu = query(families.cpu, over);
    cpu.matchers.extend(families.cpu_kinds.map(|kinds| {
        let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect();
        Matcher::one_of("kind", kinds)
    }));
    let (mut energy, mut power, mut carbon, mut cpu) = tokio::try_join!(
        store.read(&energy),
        store.read(&power),
        store.read(&carbon),
        store.read(&cpu),
    )?;
    let all = [&mut energy, &mut power, &mut carbon, &mut cpu];
    let warnings = all
        .into_iter()
        .flat_map(|rows| std::mem::take(&mut rows.warnings))
        .collect();
    Ok(Answers {
        energy,
        power,
        carbon,
        cpu,
        warnings,
    })
}

/// The same four quantities, added up under the same keys.
struct Tables {
    energy: Sums,
    power: Sums,
    carbon: Sums,
    cpu: Sums,
}

impl Tables {
    fn of(answers: &Answers, add_up: impl Fn(&[Row]) -> Sums) -> Self {
        Self {
            energy: add_up(&answers.energy.rows),
            power: add_up(&answers.power.rows),
            carbon: add_up(&answers.carbon.rows),
            cpu: add_up(&answers.cpu.rows),
        }
    }

    fn consumption(&self, key: &[String], energy: &Sum) -> Consumption {
        Consumption {
            energy_joules: Energy {
                total: energy.total,
                by_domain: energy.by_domain.clone(),
            },
            power_watts: self.power.total(key),
            carbon_grams: self.carbon.total(key),
            cpu_seconds: self.cpu.total(key),
        }
    }
}

/// Items, each with its parts if the layout has any.
fn collect(answers: &Answers, layout: &Layout) -> Vec<Item> {
    let whole = Tables::of(answers, |rows| Sums::whole(rows, layout));
    let mut items: BTreeMap<&[String], Item> = BTreeMap::new();
    for (key, sum) in whole.energy.iter() {
        let item = Item {
            labels: layout.names(key),
            consumption: whole.consumption(key, sum),
            nodes: sum.nodes.clone(),
            ..Item::default()
        };
        items.insert(key, item);
    }
    if let Some(label) = layout.breakdown() {
        let parts = Tables::of(answers, |rows| Sums::parts(rows, layout));
        for (key, sum) in parts.energy.iter() {
            let Some((value, name)) = key.split_last() else {
                continue;
            };
            if let Some(item) = items.get_mut(name) {
                item.by.get_or_insert_default().push(Part {
                    labels: BTreeMap::from([(label, value.clone())]),
                    consumption: parts.consumption(key, sum),
                });
            }
        }
    }
    items.into_values().collect()
}

#[cfg(test)]
mod tests;
