// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was shown before: power of the node and of each listed unit, picture by picture.

use std::collections::{HashMap, VecDeque};

use eco_agent::api::Units;
use jiff::Timestamp;

use super::kind::key;
use crate::energy;

/// Pictures that are kept of the node: ten minutes at one a second.
const NODE_KEPT: usize = 600;
/// And of each unit, whose column is narrow.
const UNIT_KEPT: usize = 60;

/// Power over the pictures of late.
#[derive(Debug, Default)]
pub(crate) struct History {
    node: VecDeque<f64>,
    units: HashMap<String, UnitHistory>,
    at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct UnitHistory {
    watts: VecDeque<f64>,
    gpu_joules: Option<f64>,
    gpu_watts: Option<f64>,
    picture: u64,
}

impl History {
    /// Takes in a picture. The units are of the kind and place of the one before.
    pub(crate) fn record(&mut self, units: &Units) {
        let at = units.at.parse::<Timestamp>().ok();
        let passed = at.zip(self.at).map(|(now, before)| {
            let span = now.duration_since(before);
            span.as_secs_f64()
        });
        self.at = at;
        push(
            &mut self.node,
            energy::total(&units.node.watts).unwrap_or(0.0),
            NODE_KEPT,
        );
        let picture = self.units.values().map(|unit| unit.picture).max();
        let picture = picture.unwrap_or(0) + 1;
        for unit in &units.units {
            let known = self.units.entry(key(unit).to_owned()).or_default();
            known.picture = picture;
            push(&mut known.watts, unit.watts, UNIT_KEPT);
            let joules = unit.energy_joules.get("gpu").copied();
            let used = joules.zip(known.gpu_joules).map(|(now, then)| now - then);
            // A counter that went back is another unit's; a clock that did is no clock.
            known.gpu_watts = used
                .zip(passed.filter(|&passed| passed > 0.0))
                .map(|(used, passed)| used / passed)
                .filter(|&watts| watts >= 0.0);
            known.gpu_joules = joules;
        }
        self.units.retain(|_, unit| unit.picture == picture);
    }

    /// Other units are listed from now on.
    pub(crate) fn forget_units(&mut self) {
        self.units.clear();
    }

    /// The node's total power, in W, the latest last.
    pub(crate) fn node(&self) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator {
        self.node.iter().copied()
    }

    /// A unit's power, in W, the latest last.
    pub(crate) fn unit(&self, key: &str) -> impl DoubleEndedIterator<Item = f64> {
        let known = self.units.get(key);
        known
            .into_iter()
            .flat_map(|unit| unit.watts.iter().copied())
    }

    /// A unit's mean power on GPUs since the picture before, in W.
    pub(crate) fn gpu_watts(&self, key: &str) -> Option<f64> {
        self.units.get(key)?.gpu_watts
    }
}

fn push(values: &mut VecDeque<f64>, value: f64, kept: usize) {
    if values.len() >= kept {
        values.pop_front();
    }
    values.push_back(value);
}

#[cfg(test)]
mod tests {
    use eco_agent::api::{Node, Unit};

    use super::*;

    fn picture(second: u32, watts: f64, gpu_joules: Option<f64>) -> Units {
        let gpu = gpu_joules.map(|joules| ("gpu".to_owned(), joules));
        Units {
            at: format!("2026-01-02T03:04:{second:02}Z"),
            node: Node {
                watts: [("package".to_owned(), watts)].into(),
                ..Node::default()
            },
            units: vec![Unit {
                name: "a".into(),
                watts: watts / 2.0,
                energy_joules: gpu.into_iter().collect(),
                ..Unit::default()
            }],
            ..Units::default()
        }
    }

    #[test]
    fn power_is_remembered_in_order_and_not_for_ever() {
        let mut history = History::default();
        for n in 0..1000 {
            history.record(&picture(0, f64::from(n), None));
        }
        assert_eq!(history.node().len(), NODE_KEPT);
        assert_eq!(history.node().next_back(), Some(999.0));
        assert_eq!(history.unit("a").count(), UNIT_KEPT);
        assert_eq!(history.unit("a").next(), Some(470.0));
        assert_eq!(history.unit("nobody").count(), 0);
    }

    #[test]
    fn a_unit_that_is_not_listed_any_more_is_forgotten() {
        let mut history = History::default();
        history.record(&picture(0, 1.0, None));
        history.record(&Units::default());
        assert_eq!(history.unit("a").count(), 0);
        assert_eq!(history.node().collect::<Vec<_>>(), [1.0, 0.0]);
    }

    #[test]
    fn power_on_gpus_is_what_the_counter_gained_in_the_time_between() {
        let mut history = History::default();
        history.record(&picture(0, 1.0, Some(100.0)));
        assert_eq!(history.gpu_watts("a"), None, "nothing to compare with");
        history.record(&picture(2, 1.0, Some(300.0)));
        assert_eq!(history.gpu_watts("a"), Some(100.0));
        history.record(&picture(3, 1.0, Some(5.0)));
        assert_eq!(history.gpu_watts("a"), None, "it went back");
        history.record(&picture(3, 1.0, Some(6.0)));
        assert_eq!(history.gpu_watts("a"), None, "no time has passed");
        history.record(&picture(4, 1.0, None));
        assert_eq!(history.gpu_watts("a"), None, "no GPU");
    }
}
