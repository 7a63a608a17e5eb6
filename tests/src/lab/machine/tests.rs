// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;

const TWO: &str = r#"
rest_watts = 1.0
[[zone]]
name = "package-0"
share = 0.5
idle_watts = 10.0
range_uj = 29_999_999
first_uj = 29_000_000
[[zone.zone]]
name = "dram"
share = 0.25
[[zone]]
name = "package-1"
share = 0.5
[[workload]]
name = "a"
watts = 8.0
[[workload]]
name = "b"
watts = 4.0
package = "package-1"
"#;

fn machine(text: &str) -> Machine {
    let scenario = Scenario::parse(text).unwrap();
    let mut names = Vec::new();
    let counter = |range_uj, first_uj| Shows::Counter { range_uj, first_uj };
    for zone in &scenario.zone {
        names.push((zone.name.clone(), counter(zone.range_uj, zone.first_uj)));
        for below in &zone.zone {
            let name = format!("{}/{}", zone.name, below.name);
            names.push((name, counter(below.range_uj, below.first_uj)));
        }
    }
    Machine::new(&scenario, &names)
}

/// `a`, `b` and the rest have each used so many seconds of CPU time.
fn progress(at_s: f64, used_s: f64) -> Progress {
    Progress {
        at_ns: (at_s * 1e9) as u64,
        cpu_ns: vec![(used_s * 1e9) as u64; 3],
        busy_ns: Vec::new(),
    }
}

fn joules(machine: &Machine) -> Vec<f64> {
    machine.meters.iter().map(|m| m.truth().joules).collect()
}

#[test]
fn what_everyone_costs_goes_through_the_meters_by_their_shares() {
    let mut machine = machine(TWO);
    machine.step(&progress(1.0, 2.0));
    // a: 16 J, b: 8 J on package-1, the rest: 2 J.
    assert_eq!(
        joules(&machine),
        [10.0 + 8.0 + 1.0, (8.0 + 1.0) / 4.0, 8.0 + 8.0 + 1.0]
    );
    assert_eq!(machine.meters[0].work_uj, [8e6, 0.0, 1e6]);
}

#[test]
fn a_counter_wraps_at_its_range() {
    let mut machine = machine(TWO);
    let changes = machine.step(&progress(1.0, 0.0));
    assert_eq!(changes[0], Change::Show(0, 9_000_000));
    assert_eq!(machine.meters[0].truth().wraps, 1);
}

#[test]
fn time_that_goes_back_changes_nothing() {
    let mut machine = machine(TWO);
    machine.step(&progress(2.0, 2.0));
    let before = joules(&machine);
    machine.step(&progress(1.0, 1.0));
    assert_eq!(joules(&machine), before);
    machine.step(&progress(2.0, 2.0));
    assert_eq!(joules(&machine), before);
}

#[test]
fn a_reset_counter_goes_on_from_zero_and_the_truth_goes_on() {
    let event = "[[event]]\nat_s = 1.0\nmeter = \"package-0\"\naction = \"reset\"\nbetween_uj = [8_000_000, 9_500_000]\n";
    let mut machine = machine(&format!("{TWO}{event}"));
    machine.step(&progress(0.5, 0.0));
    assert_eq!(machine.step(&progress(1.0, 0.0))[0], Change::Show(0, 0));
    assert_eq!(
        machine.step(&progress(1.5, 0.0))[0],
        Change::Show(0, 5_000_000)
    );
    assert_eq!(joules(&machine)[0], 15.0);
    assert_eq!(machine.meters[0].truth().events[0].joules, 10.0);
}

#[test]
fn a_reset_waits_until_the_counter_stands_where_it_is_told() {
    let event = "[[event]]\nat_s = 1.0\nmeter = \"package-0\"\naction = \"reset\"\nbetween_uj = [100_000, 1_000_000]\n";
    let mut machine = machine(&format!("{TWO}{event}"));
    machine.step(&progress(1.5, 0.0));
    assert!(machine.meters[0].truth().events.is_empty());
    machine.step(&progress(3.15, 0.0));
    assert_eq!(machine.meters[0].truth().events.len(), 1);
}

#[test]
fn a_frozen_meter_shows_nothing_new_and_then_all() {
    let event = "[[event]]\nat_s = 1.0\nfor_s = 1.0\nmeter = \"package-1\"\naction = \"freeze\"\n";
    let mut machine = machine(&format!("{TWO}{event}"));
    let is_shown = |changes: &[Change]| changes.iter().any(|c| matches!(c, Change::Show(2, _)));
    assert!(!is_shown(&machine.step(&progress(1.0, 1.0))));
    assert!(!is_shown(&machine.step(&progress(1.5, 1.0))));
    assert!(
        machine
            .step(&progress(2.0, 1.0))
            .contains(&Change::Show(2, 8_500_000))
    );
}

#[test]
fn a_removed_meter_comes_back_with_all_that_went_through_it() {
    let event = "[[event]]\nat_s = 1.0\nfor_s = 1.0\nmeter = \"package-1\"\naction = \"remove\"\n";
    let mut machine = machine(&format!("{TWO}{event}"));
    assert_eq!(machine.step(&progress(1.0, 0.0))[0], Change::Vanish(2));
    assert_eq!(
        machine.step(&progress(2.0, 1.0))[0],
        Change::Appear(2, 8_500_000)
    );
}

#[test]
fn noise_is_the_same_each_time_and_around_what_it_is_noise_of() {
    let noisy = |seed: u32| {
        let mut machine = machine(&format!("noise = 0.5\nseed = {seed}\n{TWO}"));
        for step in 1..=1_000 {
            machine.step(&progress(f64::from(step) / 100.0, 0.0));
        }
        joules(&machine)[0]
    };
    assert_eq!(noisy(1), noisy(1));
    assert_ne!(noisy(1), noisy(2));
    assert!((95.0..105.0).contains(&noisy(1)), "{}", noisy(1));
}
