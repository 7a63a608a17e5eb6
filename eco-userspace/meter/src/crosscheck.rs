// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two ways to the same counter, read side by side.

use std::time::Duration;

use crate::{
    Descriptor, Finding, Load, Meter, MeterError, Microjoules, Position, Quality, Reading, Watts,
};

/// Two ways to one counter differ by their read times only: more than this is a fault of one.
const SAME_COUNTER: Tolerance = Tolerance {
    share: 0.05,
    advice: "One of the two is wrong on this machine; please report it with the CPU's model and \
             the kernel's version.",
};

/// What is compared is at least so much energy over at least so long: RAPL's grain of a
/// millisecond is then below a thousandth.
const LEAST: (Microjoules, Duration) = (Microjoules(50_000_000), Duration::from_secs(30));

/// How much two ways may differ, and what to do where they differ more.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    /// As a share of what the believed one counts.
    pub(crate) share: f64,
    /// For people.
    pub(crate) advice: &'static str,
}

/// A meter that is believed, and a second one that it is checked against.
///
/// The second one also answers for the time in which no agent ran, where its counter outlives the
/// process and the first one's does not.
pub(crate) struct CrossChecked {
    main: Box<dyn Meter>,
    second: Box<dyn Meter>,
    /// Totals of both, and when, at the beginning of what is compared now.
    base: Option<(Microjoules, Microjoules, u64)>,
    /// By how much the second one differs, as a share; `None` while they agree.
    disagreement: Option<f64>,
    tolerance: Tolerance,
}

impl CrossChecked {
    /// Believes `main`; both read the same counter.
    pub(crate) fn new(main: Box<dyn Meter>, second: Box<dyn Meter>) -> Self {
        Self::within(SAME_COUNTER, main, second)
    }

    /// Believes `main`, as long as the second one does not differ by more.
    pub(crate) fn within(
        tolerance: Tolerance,
        main: Box<dyn Meter>,
        second: Box<dyn Meter>,
    ) -> Self {
        Self {
            tolerance,
            main,
            second,
            base: None,
            disagreement: None,
        }
    }

    fn compare(&mut self, main: &Reading, second: &Reading) {
        let resets = [main.quality, second.quality].contains(&Quality::Reset);
        let at_ns = main.window.middle_ns();
        let now = (main.total, second.total, at_ns);
        let Some((main_base, second_base, base_ns)) = self.base.filter(|_| !resets) else {
            self.base = Some(now);
            return;
        };
        let counted = main.total.since(main_base);
        let other = second.total.since(second_base);
        let span = Duration::from_nanos(at_ns.saturating_sub(base_ns));
        if span < LEAST.1 || counted.max(other) < LEAST.0 {
            return;
        }
        let difference = other.0 as f64 / (counted.0 as f64).max(1.0) - 1.0;
        self.disagreement = Some(difference).filter(|share| share.abs() > self.tolerance.share);
        self.base = Some(now);
    }
}

impl Meter for CrossChecked {
    fn descriptor(&self) -> &Descriptor {
        self.main.descriptor()
    }

    fn read(&mut self, load: &Load) -> Result<Reading, MeterError> {
        let main = self.main.read(load)?;
        match self.second.read(load) {
            Ok(second) => self.compare(&main, &second),
            // It is not the one that is believed: that it cannot be read costs the check alone.
            Err(_) => self.base = None,
        }
        Ok(main)
    }

    fn position(&self) -> Option<Position> {
        self.main.position().or_else(|| self.second.position())
    }

    fn counted_since(&self, earlier: &Position) -> Option<Microjoules> {
        self.main
            .counted_since(earlier)
            .or_else(|| self.second.counted_since(earlier))
    }

    fn known_idle(&self) -> Option<Watts> {
        self.main.known_idle()
    }

    fn update_period(&self) -> Option<Duration> {
        self.main.update_period()
    }

    fn notes(&self) -> Vec<Finding> {
        let mut notes = self.main.notes();
        if let Some(difference) = self.disagreement {
            let (main, second) = (self.main.descriptor(), self.second.descriptor());
            let way = if difference > 0.0 { "more" } else { "less" };
            notes.push(Finding::new(
                &main.name,
                format!(
                    "{} counts {:.0} % {way} than {}, which is used",
                    second.source.label(),
                    100.0 * difference.abs(),
                    main.source.label(),
                ),
                self.tolerance.advice,
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Domain, Source, Window};

    const SECOND: u64 = 1_000_000_000;

    /// Draws a fixed power and tells a position if it is asked to.
    struct Steady {
        descriptor: Descriptor,
        watts: u64,
        second: u64,
        fails: bool,
        outlives: bool,
    }

    impl Steady {
        fn new(source: Source, watts: u64) -> Self {
            Self {
                descriptor: Descriptor {
                    name: "package-0".into(),
                    domain: Domain::Package,
                    device: "package-0".into(),
                    source,
                },
                watts,
                second: 0,
                fails: false,
                outlives: source == Source::RaplPowercap,
            }
        }
    }

    impl Meter for Steady {
        fn descriptor(&self) -> &Descriptor {
            &self.descriptor
        }
        fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
            self.second += 1;
            if self.fails {
                return Err(MeterError::Gone { path: "x".into() });
            }
            let at = self.second * SECOND;
            Ok(Reading {
                total: Microjoules(self.second * self.watts * 1_000_000),
                window: Window {
                    before_ns: at,
                    after_ns: at,
                },
                quality: Quality::Measured,
            })
        }
        fn position(&self) -> Option<Position> {
            self.outlives.then_some(Position {
                raw: 7,
                range: 0,
                at_ns: 1,
            })
        }
        fn counted_since(&self, _earlier: &Position) -> Option<Microjoules> {
            self.outlives.then_some(Microjoules(70))
        }
    }

    fn after_two_minutes(second: Steady) -> CrossChecked {
        let main = Box::new(Steady::new(Source::RaplPerf, 100));
        let mut pair = CrossChecked::new(main, Box::new(second));
        for _ in 0..120 {
            pair.read(&Load::default()).unwrap();
        }
        pair
    }

    #[test]
    fn two_that_agree_have_nothing_to_note() {
        let pair = after_two_minutes(Steady::new(Source::RaplPowercap, 104));
        assert_eq!(pair.notes(), []);
        assert_eq!(pair.descriptor().source, Source::RaplPerf);
    }

    #[test]
    fn a_disagreement_is_noted_with_its_size() {
        let pair = after_two_minutes(Steady::new(Source::RaplPowercap, 50));
        assert!(pair.notes()[0].what.contains("50 % less"));
        let pair = after_two_minutes(Steady::new(Source::RaplPowercap, 400));
        assert!(pair.notes()[0].what.contains("300 % more"));
    }

    #[test]
    fn a_second_one_that_fails_costs_nothing() {
        let mut broken = Steady::new(Source::RaplPowercap, 50);
        broken.fails = true;
        let mut pair = after_two_minutes(broken);
        assert_eq!(pair.notes(), []);
        let reading = pair.read(&Load::default()).unwrap();
        assert_eq!(reading.total, Microjoules(12_100_000_000));
    }

    #[test]
    fn the_second_one_answers_for_the_time_between_two_agents() {
        let pair = after_two_minutes(Steady::new(Source::RaplPowercap, 100));
        let position = pair.position().unwrap();
        assert_eq!(pair.counted_since(&position), Some(Microjoules(70)));
    }
}
