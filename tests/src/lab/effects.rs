// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What makes a CPU second cheaper or dearer than another: a sibling thread that is busy too, and
//! the clock. Pure.

use super::scenario::{Frequency, Smt};

/// The kernel books CPU time some ms late, and not on all CPUs at once: what two threads did at
/// the same time is known over longer spans only.
const WINDOW_NS: u64 = 40_000_000;

/// How dear a CPU second is at the moment.
pub(super) struct Effects {
    smt: Option<Smt>,
    frequency: Option<Frequency>,
    /// Where the window began.
    since_ns: u64,
    since_cpu_ns: Vec<u64>,
    /// Of the last whole window: the mean over all that were used, and of each CPU.
    by_siblings: f64,
    by_siblings_on: Vec<f64>,
}

impl Effects {
    pub(super) fn new(smt: Option<Smt>, frequency: Option<Frequency>) -> Self {
        Self {
            smt,
            frequency,
            since_ns: 0,
            since_cpu_ns: Vec::new(),
            by_siblings: 1.0,
            by_siblings_on: Vec::new(),
        }
    }

    /// Goes on to a moment; `cpu_ns` is what each CPU has been busy since the start.
    pub(super) fn go_on(&mut self, at_ns: u64, cpu_ns: &[u64]) {
        if self.smt.is_some() && at_ns >= self.since_ns + WINDOW_NS {
            self.look(at_ns, cpu_ns);
        }
    }

    /// What a CPU second costs at the moment, as a share of one alone on its core at the highest
    /// clock: on one CPU, or on the mean of all that are used.
    pub(super) fn price(&self, at_ns: u64, cpu: Option<u32>) -> f64 {
        let on = cpu.and_then(|cpu| self.by_siblings_on.get(cpu as usize));
        on.unwrap_or(&self.by_siblings) * self.by_clock(at_ns)
    }

    /// The clock at the moment.
    pub(super) fn mhz(&self, at_ns: u64) -> Option<f64> {
        let frequency = self.frequency.as_ref()?;
        let begun = |at_s: f64| at_s * 1e9 <= at_ns as f64;
        let phases = frequency.phase.iter().filter(|phase| begun(phase.at_s));
        let latest = phases.max_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Some(latest.map_or(frequency.highest_mhz, |phase| phase.mhz))
    }

    fn by_clock(&self, at_ns: u64) -> f64 {
        match (&self.frequency, self.mhz(at_ns)) {
            (Some(frequency), Some(mhz)) => (mhz / frequency.highest_mhz).powf(frequency.exponent),
            _ => 1.0,
        }
    }

    fn look(&mut self, at_ns: u64, cpu_ns: &[u64]) {
        let span = (at_ns - self.since_ns) as f64;
        let busy = |cpu: &u32| {
            let at = *cpu as usize;
            let since = self.since_cpu_ns.get(at).copied().unwrap_or_default();
            let now = cpu_ns.get(at).copied().unwrap_or_default();
            (now.saturating_sub(since) as f64 / span).min(1.0)
        };
        if let Some(smt) = &self.smt {
            let (mut used, mut paid) = (0.0, 0.0);
            self.by_siblings_on = vec![1.0; cpu_ns.len()];
            for core in &smt.core {
                let threads: Vec<f64> = core.iter().map(busy).collect();
                for (at, own) in threads.iter().enumerate() {
                    // How likely it is that a sibling is busy too.
                    let others = threads.iter().enumerate().filter(|(other, _)| *other != at);
                    let alone: f64 = others.map(|(_, busy)| 1.0 - busy).product();
                    let price = alone + (1.0 - alone) * smt.shared;
                    used += own;
                    paid += own * price;
                    if let Some(on) = self.by_siblings_on.get_mut(core[at] as usize) {
                        *on = price;
                    }
                }
            }
            if used > 0.0 {
                self.by_siblings = paid / used;
            }
        }
        self.since_ns = at_ns;
        self.since_cpu_ns = cpu_ns.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Phase;
    use super::*;

    fn siblings() -> Effects {
        let smt = Smt {
            shared: 0.6,
            core: vec![vec![0, 1]],
        };
        Effects::new(Some(smt), None)
    }

    const WINDOW: u64 = WINDOW_NS;

    #[test]
    fn a_core_for_oneself_costs_all_and_a_shared_one_less() {
        let mut effects = siblings();
        let mut price = |at_ns, cpu_ns: [u64; 2]| {
            effects.go_on(at_ns, &cpu_ns);
            [None, Some(0), Some(1), Some(7)].map(|cpu| effects.price(at_ns, cpu))
        };
        assert_eq!(price(0, [0, 0])[0], 1.0);
        assert_eq!(price(WINDOW, [WINDOW, 0])[0], 1.0);
        assert_eq!(price(2 * WINDOW, [2 * WINDOW, WINDOW])[0], 0.6);
        // Half of the time.
        let [price, long, short, elsewhere] = price(3 * WINDOW, [3 * WINDOW, WINDOW + WINDOW / 2]);
        assert_eq!((long, short, elsewhere), (0.8, 0.6, price));
        let mean = (0.8 + 0.5 * 0.6) / 1.5;
        assert!((price - mean).abs() < 1e-9, "{price} is not {mean}");
    }

    #[test]
    fn within_a_window_the_price_stays() {
        let mut effects = siblings();
        effects.go_on(WINDOW, &[WINDOW, WINDOW]);
        effects.go_on(WINDOW + 1, &[WINDOW, WINDOW]);
        assert_eq!(effects.price(WINDOW + 1, None), 0.6);
    }

    #[test]
    fn a_lower_clock_costs_less_by_its_power() {
        let phase = |at_s, mhz| Phase { at_s, mhz };
        let frequency = Frequency {
            highest_mhz: 3000.0,
            exponent: 2.0,
            phase: vec![phase(5.0, 3000.0), phase(1.0, 1500.0)],
        };
        let effects = Effects::new(None, Some(frequency));
        assert_eq!(effects.price(0, None), 1.0);
        assert_eq!(effects.price(1_000_000_000, Some(0)), 0.25);
        assert_eq!(effects.mhz(2_000_000_000), Some(1500.0));
        assert_eq!(effects.price(5_000_000_000, None), 1.0);
    }
}
