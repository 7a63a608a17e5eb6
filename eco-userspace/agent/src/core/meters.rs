// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's meters: each with what it counted so far, its idle baseline, and the use that
//! waits for it to move.

use std::time::Duration;

use eco_attribution::{Baseline, Basis};
use eco_meter::{
    Descriptor, Domain, Finding, Load, Meter, Microjoules, Quality, Source, Watts, Window,
    boottime_ns,
};

use super::Core;
use crate::{
    config::Config,
    ledger::{accounts::Sum, books::Use},
};

/// Use that waits for a meter that stands still is kept up to so many entries; what comes after
/// goes unpaid, and the later joules to those who are kept.
const MOST_CARRIED: usize = 50_000;

/// A meter's own noise, as a part of what it reads: that of [`Baseline`].
const NOISE: f64 = 0.02;

/// A source that moves in steps is given so much time before its steps are known.
const LONGEST_LEARNING: Duration = Duration::from_secs(180);

/// A meter that has not moved for so many of its update periods stands still.
const MISSED_UPDATES: u32 = 3;

/// One meter and what the agent knows of it.
pub struct MeterSlot {
    /// What it measures.
    pub descriptor: Descriptor,
    /// The meter; `None` for one that an earlier agent had and this machine no longer shows.
    meter: Option<Box<dyn Meter>>,
    last: Option<(Microjoules, Window)>,
    /// Learns what idle costs.
    pub baseline: Baseline,
    /// Who used the machine since the meter last moved.
    pub carried: Vec<Use>,
    /// Whether more was used since then than is known, perhaps.
    pub in_doubt: bool,
    /// Of the last read.
    pub quality: String,
    /// Reads in a row that did not move.
    pub still: u32,
    /// Mean power over the last interval.
    pub watts: Watts,
    failed: bool,
    /// The shortest time between two moves.
    fastest: Option<Duration>,
    moved: bool,
    /// Whether it is known to stand still.
    stuck: bool,
}

/// What a meter counted since it last moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// How much.
    pub energy: Microjoules,
    /// In what time.
    pub span: Duration,
    /// Whether some of the time was lost to failed reads.
    pub gap: bool,
}

/// How the idle power of a meter is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdlePower {
    /// How much.
    pub watts: Watts,
    /// `model`, `learned` or `prior`.
    pub basis: &'static str,
}

impl MeterSlot {
    /// A meter that is there.
    #[must_use]
    pub fn new(meter: Box<dyn Meter>, cpus: u32) -> Self {
        Self::build(meter.descriptor().clone(), Some(meter), cpus)
    }

    /// A meter of which only the counters of an earlier agent are left.
    #[must_use]
    pub fn absent(descriptor: Descriptor, cpus: u32) -> Self {
        Self::build(descriptor, None, cpus)
    }

    fn build(descriptor: Descriptor, meter: Option<Box<dyn Meter>>, cpus: u32) -> Self {
        let quality = if meter.is_some() {
            "not read yet"
        } else {
            "gone"
        };
        Self {
            descriptor,
            meter,
            last: None,
            baseline: Baseline::new(cpus),
            carried: Vec::new(),
            in_doubt: false,
            quality: quality.into(),
            still: 0,
            watts: Watts(0.0),
            failed: false,
            fastest: None,
            moved: false,
            stuck: false,
        }
    }

    /// Whether there is a meter to read.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.meter.is_some()
    }

    /// Reads it. `None`: it did not move, failed, or this is the first read.
    pub fn read(&mut self, load: &Load) -> Option<Counted> {
        let meter = self.meter.as_mut()?;
        let reading = match meter.read(load) {
            Ok(reading) => reading,
            Err(why) => {
                if !self.failed {
                    tracing::warn!(meter = self.descriptor.name, error = %why, "meter not read");
                }
                self.failed = true;
                self.set_quality_text(|| why.to_string());
                return None;
            }
        };
        if std::mem::take(&mut self.failed) {
            tracing::info!(meter = self.descriptor.name, "meter read again");
        }
        self.note_quality(reading.quality);
        let Some((total, window)) = self.last else {
            self.last = Some((reading.total, reading.window));
            return None;
        };
        if matches!(reading.quality, Quality::Still(_)) {
            return None;
        }
        self.last = Some((reading.total, reading.window));
        let span = reading
            .window
            .middle_ns()
            .saturating_sub(window.middle_ns());
        let span = Duration::from_nanos(span);
        // The first move may be the rest of a step: of any length.
        let whole = std::mem::replace(&mut self.moved, true);
        if whole && reading.quality != Quality::Reset && !span.is_zero() {
            self.fastest = Some(self.fastest.map_or(span, |fastest| fastest.min(span)));
        }
        let energy = reading.total.since(total);
        self.watts = energy.over(span).unwrap_or_default();
        Some(Counted {
            energy,
            span,
            gap: reading.quality == Quality::Reset,
        })
    }

    /// Keeps `uses` for when the meter moves again.
    pub fn carry(&mut self, uses: &[Use]) {
        let room = MOST_CARRIED.saturating_sub(self.carried.len());
        self.carried
            .extend_from_slice(&uses[..uses.len().min(room)]);
    }

    /// Whether what it counted since it last moved says something about idle power. A time in
    /// which more was used than is known, perhaps, drew idle power at the least: what lies above
    /// all that was known before teaches nothing.
    pub fn teaches(&mut self) -> bool {
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let known = self.idle_power().filter(|_| in_doubt);
        known.is_none_or(|idle| self.watts.0 <= idle.watts.0 * (1.0 + NOISE))
    }

    /// What idle costs here.
    #[must_use]
    pub fn idle_power(&self) -> Option<IdlePower> {
        if let Some(watts) = self.meter.as_ref().and_then(|meter| meter.known_idle()) {
            return Some(IdlePower {
                watts,
                basis: "model",
            });
        }
        let idle = self.baseline.idle()?;
        let basis = match idle.basis {
            Basis::Prior => "prior",
            Basis::Learned => "learned",
        };
        Some(IdlePower {
            watts: idle.watts,
            basis,
        })
    }

    /// How often the meter brings a new value: as it observed itself, else the shortest time
    /// between two moves, which is never shorter than the tick.
    #[must_use]
    pub fn update_period(&self) -> Option<Duration> {
        self.meter.as_ref()?.update_period().or(self.fastest)
    }

    /// Whether it has not moved for longer than its source may take.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// What a person should know of it now.
    #[must_use]
    pub fn notes(&self) -> Vec<Finding> {
        let meter = self.meter.as_ref();
        meter.map_or_else(Vec::new, |meter| meter.notes())
    }

    /// Where its raw counter stands, for the next agent.
    #[must_use]
    pub fn position(&self) -> Option<eco_meter::Position> {
        self.meter.as_ref()?.position()
    }

    /// What it counted since an earlier agent stood at `earlier`.
    #[must_use]
    pub fn counted_since(&self, earlier: &eco_meter::Position) -> Option<Microjoules> {
        self.meter.as_ref()?.counted_since(earlier)
    }

    fn note_quality(&mut self, quality: Quality) {
        let still = if let Quality::Still(reads) = quality {
            reads
        } else {
            0
        };
        self.still = still;
        let is_stuck = self.stands_still();
        let was_stuck = std::mem::replace(&mut self.stuck, is_stuck);
        if self.stuck && !was_stuck {
            tracing::warn!(meter = self.descriptor.name, "meter stands still");
        }
        match quality {
            Quality::Measured => self.set_quality("measured"),
            Quality::Estimated => self.set_quality("estimated"),
            Quality::Reset => self.set_quality("reset"),
            Quality::Still(_) => self.set_quality("still"),
        }
    }

    fn stands_still(&self) -> bool {
        // One read between two updates of the counter is nothing to remark on.
        if self.still < 2 {
            return false;
        }
        let known = self.meter.as_ref().and_then(|meter| meter.update_period());
        let patience = match self.descriptor.source {
            // Silent on mains.
            Source::Battery => return false,
            Source::Acpi | Source::Ipmi | Source::Redfish => {
                known.map_or(LONGEST_LEARNING, |period| period * MISSED_UPDATES)
            }
            _ => known.unwrap_or_default() * MISSED_UPDATES,
        };
        let moved_ns = self.last.map_or(0, |(_, window)| window.middle_ns());
        Duration::from_nanos(boottime_ns().saturating_sub(moved_ns)) > patience
    }

    fn set_quality(&mut self, text: &str) {
        if self.quality != text {
            text.clone_into(&mut self.quality);
        }
    }

    fn set_quality_text(&mut self, text: impl FnOnce() -> String) {
        self.quality = text();
    }
}

impl Core {
    /// Sizes every row to the meters.
    pub(crate) fn size_rows(&mut self) {
        self.domains = self
            .meters
            .iter()
            .map(|slot| slot.descriptor.domain)
            .collect();
        let present: Vec<Domain> = self
            .meters
            .iter()
            .filter(|slot| slot.is_present())
            .map(|slot| slot.descriptor.domain)
            .collect();
        let sum = if present.is_empty() {
            Sum::of(&self.domains)
        } else {
            self.sum_of(&present)
        };
        self.books.set_meters(self.meters.len(), sum);
        self.own_energy.resize(self.meters.len(), 0);
    }

    /// Chosen by the meters that are there; one that is gone counts if its domain does.
    fn sum_of(&self, present: &[Domain]) -> Sum {
        let chosen = Sum::of(present);
        let counted: Vec<Domain> = present
            .iter()
            .enumerate()
            .filter(|(at, _)| chosen.counts(*at))
            .map(|(_, domain)| *domain)
            .collect();
        Sum::only(&self.domains, &counted)
    }
}

/// What a search for meters brought.
#[derive(Default)]
pub struct Bank {
    /// The meters.
    pub slots: Vec<MeterSlot>,
    /// What it noticed on the way.
    pub findings: Vec<Finding>,
}

/// Finds the meters that are told from the machine itself, and from its controller; see
/// `eco_meter::select` for which is used. GPUs add theirs.
#[must_use]
pub fn discover(config: &Config, cpus: u32) -> Bank {
    let found = eco_meter::discover(&eco_meter::Options {
        sysfs: config.sysfs.clone(),
        procfs: config.procfs.clone(),
        model: config.model.clone(),
        redfish: config.redfish.clone(),
        ..eco_meter::Options::default()
    });
    let slots = found.meters.into_iter();
    Bank {
        slots: slots.map(|meter| MeterSlot::new(meter, cpus)).collect(),
        findings: found.findings,
    }
}

#[cfg(test)]
mod tests;
