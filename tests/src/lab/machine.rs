// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hidden truth: what goes through each meter, step by step. Pure: time and CPU time come in
//! as numbers, and what meters show goes out.

use super::{
    effects::Effects,
    gauge::Shows,
    scenario::{Action, Chip, Event, Scenario, Zone},
    truth::{Happened, MeterTruth},
};

/// How far someone's work has come, since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    pub(super) at_ns: u64,
    /// CPU time by workload, in ns; the rest of the machine is the last.
    pub(super) cpu_ns: Vec<u64>,
    /// How long each CPU has been busy, in ns.
    pub(super) busy_ns: Vec<u64>,
}

/// A change in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This meter shows so much.
    Show(usize, u64),
    /// This one is gone.
    Vanish(usize),
    /// This one is back, and shows so much.
    Appear(usize, u64),
}

/// The machine.
pub(super) struct Machine {
    pub(super) meters: Vec<Meter>,
    /// What a CPU second costs, by who; the rest is the last.
    watts: Vec<f64>,
    /// On which CPU each stays, where that is known.
    cpus: Vec<Option<u32>>,
    effects: Effects,
    events: Vec<Pending>,
    noise: f64,
    random: u64,
    last: Progress,
}

/// One meter's truth.
pub(super) struct Meter {
    name: String,
    shows: Shows,
    idle_watts: f64,
    /// How much of what each costs goes through it.
    weights: Vec<f64>,
    idle_uj: f64,
    /// By who, in µJ.
    pub(super) work_uj: Vec<f64>,
    /// What the counter had come to when it was reset last, in µJ.
    reset_at_uj: Option<u64>,
    shown: u64,
    /// When a chip looked last, and what had gone through by then.
    looked_ns: u64,
    looked_uj: f64,
    frozen: bool,
    happened: Vec<Happened>,
}

struct Pending {
    event: Event,
    meter: usize,
    began_ns: Option<u64>,
}

impl Machine {
    /// A machine at its start. `shows` is of each meter, in the order of the tree.
    pub(super) fn new(scenario: &Scenario, names: &[(String, Shows)]) -> Self {
        let mut parts = Vec::new();
        for zone in &scenario.zone {
            add_zone(scenario, zone, None, &mut parts);
        }
        let who = scenario.workload.len() + 1;
        parts.extend(scenario.chip.iter().map(|chip: &Chip| Part {
            idle_watts: chip.idle_watts,
            weights: vec![chip.share; who],
        }));
        parts.extend(scenario.bmc.iter().map(|bmc| Part {
            idle_watts: bmc.idle_watts,
            weights: vec![bmc.share; who],
        }));
        let meters: Vec<Meter> = names
            .iter()
            .zip(parts)
            .map(|((name, shows), part)| Meter::new(name, *shows, part))
            .collect();
        let events = scenario.event.iter().filter_map(|event| {
            let meter = names.iter().position(|(name, _)| *name == event.meter)?;
            Some(Pending {
                event: event.clone(),
                meter,
                began_ns: None,
            })
        });
        let watts = scenario.workload.iter().map(|workload| workload.watts);
        Self {
            meters,
            watts: watts.chain([scenario.rest_watts]).collect(),
            cpus: scenario
                .workload
                .iter()
                .map(|workload| workload.cpu)
                .collect(),
            effects: Effects::new(scenario.smt.clone(), scenario.frequency.clone()),
            events: events.collect(),
            noise: scenario.noise,
            random: scenario.seed,
            last: Progress {
                at_ns: 0,
                cpu_ns: vec![0; who],
                busy_ns: Vec::new(),
            },
        }
    }

    /// Goes on to `now`. Nothing goes backwards, whatever `now` says.
    pub(super) fn step(&mut self, now: &Progress) -> Vec<Change> {
        let seconds = now.at_ns.saturating_sub(self.last.at_ns) as f64 / 1e9;
        let noise = 1.0 + self.noise * self.next_random();
        self.effects.go_on(now.at_ns, &now.busy_ns);
        let at_ns = now.at_ns;
        let mut cost_uj = Vec::new();
        for (at, watts) in self.watts.iter().enumerate() {
            let (Some(last), Some(now)) = (self.last.cpu_ns.get_mut(at), now.cpu_ns.get(at)) else {
                continue;
            };
            let cpu = self.cpus.get(at).copied().flatten();
            let price = self.effects.price(at_ns, cpu);
            cost_uj.push(now.saturating_sub(*last) as f64 * watts * price / 1e3);
            *last = (*last).max(*now);
        }
        self.last.at_ns = self.last.at_ns.max(now.at_ns);
        for meter in &mut self.meters {
            meter.idle_uj += meter.idle_watts * seconds * noise * 1e6;
            for ((work, weight), cost) in meter.work_uj.iter_mut().zip(&meter.weights).zip(&cost_uj)
            {
                *work += weight * cost;
            }
        }
        let mut changes = self.befall();
        for (at, meter) in self.meters.iter_mut().enumerate() {
            meter.look(self.last.at_ns);
            if !meter.frozen {
                changes.push(Change::Show(at, meter.shown));
            }
        }
        changes
    }

    /// CPU time by who, in ns.
    pub(super) fn cpu_ns(&self) -> &[u64] {
        &self.last.cpu_ns
    }

    /// The clock of the CPUs, if the scenario tells one.
    pub(super) fn mhz(&self) -> Option<f64> {
        self.effects.mhz(self.last.at_ns)
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.last.at_ns as f64 / 1e9
    }

    fn befall(&mut self) -> Vec<Change> {
        let now_ns = self.last.at_ns;
        let seconds = self.seconds();
        let mut changes = Vec::new();
        self.events.retain_mut(|pending| {
            let Some(meter) = self.meters.get_mut(pending.meter) else {
                return false;
            };
            let at = pending.meter;
            match pending.began_ns {
                None => {
                    let event = &pending.event;
                    let stands_there = event
                        .between_uj
                        .is_none_or(|[from, to]| (from..to).contains(&meter.counter_uj()));
                    if seconds < event.at_s || !stands_there {
                        return true;
                    }
                    pending.began_ns = Some(now_ns);
                    match event.action {
                        Action::Reset => meter.reset(),
                        Action::Freeze => meter.frozen = true,
                        Action::Remove => changes.push(Change::Vanish(at)),
                    }
                    meter.note(event.action.begins(), seconds);
                    event.action != Action::Reset
                }
                Some(began) if ((now_ns - began) as f64) < pending.event.for_s * 1e9 => true,
                Some(_) => {
                    if pending.event.action == Action::Remove {
                        changes.push(Change::Appear(at, meter.counter_uj()));
                    }
                    meter.frozen = false;
                    meter.note(pending.event.action.ends(), seconds);
                    false
                }
            }
        });
        changes
    }

    /// From -1 to 1. SplitMix64 (Steele, Lea, Flood 2014).
    fn next_random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

impl Meter {
    fn new(name: &str, shows: Shows, part: Part) -> Self {
        let mut meter = Self {
            name: name.to_owned(),
            shows,
            idle_watts: part.idle_watts,
            work_uj: vec![0.0; part.weights.len()],
            weights: part.weights,
            idle_uj: 0.0,
            reset_at_uj: None,
            shown: 0,
            looked_ns: 0,
            looked_uj: 0.0,
            frozen: false,
            happened: Vec::new(),
        };
        meter.shown = meter.counter_uj();
        meter
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it shows.
    pub(super) fn shown(&self) -> u64 {
        self.shown
    }

    /// For the record.
    pub(super) fn truth(&self) -> MeterTruth {
        MeterTruth {
            joules: self.uj() / 1e6,
            idle_joules: self.idle_uj / 1e6,
            wraps: self.wraps(),
            events: self.happened.clone(),
        }
    }

    fn uj(&self) -> f64 {
        self.idle_uj + self.work_uj.iter().sum::<f64>()
    }

    fn note(&mut self, what: &str, at_s: f64) {
        let joules = self.uj() / 1e6;
        self.happened.push(Happened {
            what: what.to_owned(),
            at_s,
            joules,
        });
    }

    fn reset(&mut self) {
        self.reset_at_uj = Some(self.uj() as u64);
    }

    /// All that the counter has come to since its start or reset, wraps included.
    fn since_reset_uj(&self) -> u64 {
        let first = match (self.shows, self.reset_at_uj) {
            (Shows::Counter { first_uj, .. }, None) => first_uj,
            _ => 0,
        };
        first + self.uj() as u64 - self.reset_at_uj.unwrap_or(0)
    }

    fn wraps(&self) -> u64 {
        match self.shows {
            // Those before a reset are not remembered by the counter, nor here.
            Shows::Counter { range_uj, .. } => self.since_reset_uj() / (range_uj + 1),
            _ => 0,
        }
    }

    fn counter_uj(&self) -> u64 {
        match self.shows {
            Shows::Counter { range_uj, .. } => self.since_reset_uj() % (range_uj + 1),
            Shows::Energy { .. } => self.since_reset_uj(),
            Shows::Power { .. } => self.shown,
        }
    }

    fn look(&mut self, now_ns: u64) {
        let (Shows::Energy { period_ns } | Shows::Power { period_ns }) = self.shows else {
            self.shown = self.counter_uj();
            return;
        };
        let span_ns = now_ns - self.looked_ns;
        if span_ns < period_ns {
            return;
        }
        let uj = self.uj();
        self.shown = match self.shows {
            Shows::Power { .. } => ((uj - self.looked_uj) * 1e9 / span_ns as f64) as u64,
            _ => self.counter_uj(),
        };
        (self.looked_ns, self.looked_uj) = (now_ns, uj);
    }
}

impl Action {
    fn begins(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Remove => "remove",
            Self::Freeze => "freeze",
        }
    }

    fn ends(self) -> &'static str {
        match self {
            Self::Remove => "add",
            Self::Reset | Self::Freeze => "thaw",
        }
    }
}

struct Part {
    idle_watts: f64,
    weights: Vec<f64>,
}

fn add_zone(scenario: &Scenario, zone: &Zone, above: Option<&[f64]>, into: &mut Vec<Part>) {
    let weights: Vec<f64> = match above {
        Some(above) => above.iter().map(|weight| weight * zone.share).collect(),
        None => {
            let is_package = zone.name.starts_with("package-");
            let weight = |package: Option<&String>| match package {
                Some(package) if *package == zone.name => 1.0,
                Some(_) if is_package => 0.0,
                _ => zone.share,
            };
            let of_workloads = scenario.workload.iter();
            of_workloads
                .map(|workload| weight(workload.package.as_ref()))
                .chain([zone.share])
                .collect()
        }
    };
    into.push(Part {
        idle_watts: zone.idle_watts,
        weights: weights.clone(),
    });
    for below in &zone.zone {
        add_zone(scenario, below, Some(&weights), into);
    }
}

#[cfg(test)]
mod tests;
