// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a meter counts as standing still.

use eco_meter::{Domain, MeterError, Position, Reading};

use super::*;

/// Moves when it is told to.
struct Fake {
    descriptor: Descriptor,
    period: Option<Duration>,
    reads: u32,
}

impl Meter for Fake {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        let now = boottime_ns();
        let quality = match self.reads {
            0 => Quality::Measured,
            reads => Quality::Still(reads),
        };
        self.reads += 1;
        Ok(Reading {
            total: Microjoules(7),
            window: Window {
                before_ns: now,
                after_ns: now,
            },
            quality,
        })
    }
    fn position(&self) -> Option<Position> {
        None
    }
    fn counted_since(&self, _earlier: &Position) -> Option<Microjoules> {
        None
    }
    fn update_period(&self) -> Option<Duration> {
        self.period
    }
}

/// A meter that moved once, and has stood for five reads since.
fn after_five_reads(source: Source, period: Option<Duration>) -> MeterSlot {
    let descriptor = Descriptor {
        name: "board".into(),
        domain: Domain::Board,
        device: "board".into(),
        source,
    };
    let fake = Fake {
        descriptor,
        period,
        reads: 0,
    };
    let mut slot = MeterSlot::new(Box::new(fake), 2);
    for _ in 0..6 {
        assert_eq!(slot.read(&Load::default()), None);
    }
    slot
}

#[test]
fn a_counter_that_does_not_move_stands_still() {
    let slot = after_five_reads(Source::RaplPowercap, None);
    assert!(slot.is_stuck());
    assert_eq!(slot.quality, "still");
    assert_eq!(slot.update_period(), None);
}

#[test]
fn a_controller_between_two_of_its_steps_does_not() {
    let hour = Duration::from_secs(3600);
    assert!(!after_five_reads(Source::Redfish, Some(hour)).is_stuck());
    assert!(!after_five_reads(Source::Ipmi, None).is_stuck());
    let slot = after_five_reads(Source::Redfish, Some(Duration::ZERO));
    assert!(slot.is_stuck(), "its steps are long over");
}

#[test]
fn a_battery_on_mains_does_not() {
    assert!(!after_five_reads(Source::Battery, None).is_stuck());
}

#[test]
fn a_time_in_doubt_teaches_no_more_idle_power_than_was_known() {
    let mut slot = after_five_reads(Source::Nvml, None);
    let mut teaches = |watts: f64, in_doubt: bool| {
        (slot.watts, slot.in_doubt) = (Watts(watts), in_doubt);
        let teaches = slot.teaches();
        if teaches {
            slot.baseline
                .observe(slot.watts, 0.0, Duration::from_secs(1));
        }
        // The doubt ends with the time that it was about.
        assert!(!slot.in_doubt);
        teaches
    };
    // Of a meter that nothing is known of, any lesson is better than none.
    assert!(teaches(50.0, true));
    for _ in 0..20 {
        assert!(teaches(50.5, true) && teaches(49.5, true));
        assert!(!teaches(70.0, true), "somebody uses it");
    }
    let idle = slot.idle_power().map_or(0.0, |idle| idle.watts.0);
    assert!((idle - 50.0).abs() < 1.0, "{idle}");
    slot.watts = Watts(70.0);
    assert!(slot.teaches(), "nobody can have used it");
}
