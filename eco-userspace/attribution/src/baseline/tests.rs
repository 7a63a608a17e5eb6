// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The baseline against machines whose idle power is known. Run with `--nocapture` for figures.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: usize = 3_600;

/// A machine of two CPUs with a noisy meter, the same in each run.
struct Machine {
    baseline: Baseline,
    random: u64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self {
            baseline: Baseline::new(2),
            random: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    /// Uniform in 0..1 (xorshift64*).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 1 with a standard deviation of 1 %.
    fn noise(&mut self) -> f64 {
        let normal: f64 = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
        1.0 + 0.01 * normal
    }

    /// Runs for `seconds` at utilisations of `shares`, drawing `truth(busy CPUs)`.
    fn run(
        &mut self,
        seconds: usize,
        shares: std::ops::Range<f64>,
        truth: impl Fn(f64) -> f64,
    ) -> &mut Self {
        for _ in 0..seconds {
            let share = shares.start + (shares.end - shares.start) * self.uniform();
            let watts = truth(2.0 * share) * self.noise();
            self.baseline.observe(Watts(watts), 2.0 * share, SECOND);
        }
        self
    }

    fn idle(&self) -> f64 {
        self.baseline.idle().unwrap().watts.0
    }
}

/// 20 W idle, `per_cpu` W for each busy CPU.
fn line(per_cpu: f64) -> impl Fn(f64) -> f64 {
    move |busy| 20.0 + per_cpu * busy
}

/// The largest error in percent of `truth`, over many machines.
fn worst(what: &str, truth: f64, mut idle: impl FnMut(u64) -> f64) -> f64 {
    let errors: Vec<f64> = (1..=50)
        .map(|seed| 100.0 * (idle(seed) / truth - 1.0))
        .collect();
    let worst = errors
        .iter()
        .fold(0.0, |a: f64, b| if b.abs() > a.abs() { *b } else { a });
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("{what}: mean of 50 {mean:+.2} %, worst {worst:+.2} %");
    worst.abs()
}

#[test]
fn a_quiet_minute_is_enough_for_an_hour_of_full_load() {
    let error = worst("(a) quiet minute, full load", 20.0, |seed| {
        let mut machine = Machine::new(seed);
        machine.run(60, 0.0..0.03, line(10.0));
        let (mut furthest, mut idle) = (0.0f64, 20.0);
        for _ in 0..60 {
            machine.run(60, 0.97..1.0, line(10.0));
            if (machine.idle() - 20.0).abs() > furthest {
                furthest = (machine.idle() - 20.0).abs();
                idle = machine.idle();
            }
        }
        idle
    });
    assert!(error < 1.0, "{error}");
}

#[test]
fn workloads_of_unlike_cost_do_not_move_it() {
    for (low, high) in [(5.0, 15.0), (15.0, 5.0), (5.0, 5.0), (15.0, 15.0)] {
        let name = format!("(a) quiet minute, an hour of {low} and {high} W per CPU");
        let error = worst(&name, 20.0, |seed| {
            let mut machine = Machine::new(seed);
            machine.run(60, 0.0..0.03, line(10.0));
            let (mut furthest, mut idle) = (0.0f64, 20.0);
            for turn in 0..60 {
                let per_cpu = if turn % 2 == 0 { low } else { high };
                machine.run(60, 0.7..1.0, line(per_cpu));
                if (machine.idle() - 20.0).abs() > furthest {
                    furthest = (machine.idle() - 20.0).abs();
                    idle = machine.idle();
                }
            }
            idle
        });
        assert!(error < 1.0, "{name}: {error}");
    }
}

#[test]
fn a_node_that_is_never_idle_is_extrapolated() {
    for minutes in [10, 60, 600] {
        let error = worst(&format!("(b) never idle, {minutes} min"), 20.0, |seed| {
            let mut machine = Machine::new(seed);
            machine.run(60 * minutes, 0.4..1.0, line(10.0));
            assert_eq!(machine.baseline.idle().unwrap().basis, Basis::Learned);
            machine.idle()
        });
        assert!(error < 10.0, "{minutes}: {error}");
    }
}

#[test]
fn constant_utilisation_leaves_the_prior() {
    let mut machine = Machine::new(1);
    machine.run(600, 1.0..1.0, |_| 60.0);
    let idle = machine.baseline.idle().unwrap();
    println!(
        "(c) 60 W at full load only: {:.2} W, {:?}",
        idle.watts.0, idle.basis
    );
    assert_eq!(idle.basis, Basis::Prior);
    assert!((idle.watts.0 - 20.0).abs() < 0.2, "{idle:?}");
}

#[test]
fn it_is_never_above_the_lowest_mean_power() {
    // Power that falls with utilisation: the line would cross zero far above all readings.
    let mut machine = Machine::new(1);
    machine.run(600, 0.3..1.0, |busy| 60.0 - 20.0 * busy);
    assert!(machine.idle() < 22.0, "{}", machine.idle());
}

#[test]
fn the_first_tick_gives_something() {
    let mut baseline = Baseline::new(4);
    assert_eq!(baseline.idle(), None);
    baseline.observe(Watts(40.0), 2.0, SECOND);
    assert_eq!(
        baseline.idle(),
        Some(Idle {
            watts: Watts(20.0),
            basis: Basis::Prior
        })
    );
}

#[test]
fn a_slow_drift_is_followed_when_the_machine_is_idle_again() {
    let error = worst(
        "(e) 20 W → 23 W in 4 h of load, 5 min quiet",
        23.0,
        |seed| {
            let mut machine = Machine::new(seed);
            machine.run(600, 0.0..0.03, line(10.0));
            for minute in 0..240 {
                let risen = 20.0 + 3.0 * f64::from(minute) / 240.0;
                machine.run(60, 0.9..1.0, |busy| risen + 10.0 * busy);
            }
            machine.run(300, 0.0..0.03, |busy| 23.0 + 10.0 * busy);
            machine.idle()
        },
    );
    assert!(error < 2.0, "{error}");
    let error = worst(
        "(e) the same downwards, into another quiet bin",
        17.0,
        |seed| {
            let mut machine = Machine::new(seed);
            machine.run(600, 0.0..0.02, line(10.0));
            machine.run(4 * HOUR, 0.9..1.0, line(10.0));
            machine.run(300, 0.02..0.05, |busy| 17.0 + 10.0 * busy);
            machine.idle()
        },
    );
    assert!(error < 5.0, "{error}");
}

#[test]
fn outliers_do_not_move_it() {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        -5.0,
        0.0,
        1e-9,
        1_000.0,
        99_999.0,
        1e300,
    ];
    let error = worst("(f) every 7th sample odd", 20.0, |seed| {
        let mut machine = Machine::new(seed);
        machine.run(60, 0.0..0.03, line(10.0));
        for turn in 0..600 {
            machine.run(6, 0.0..0.03, line(10.0));
            machine
                .baseline
                .observe(Watts(odd[turn % odd.len()]), 0.02, SECOND);
            let busy = [f64::NAN, -1.0, f64::INFINITY][turn % 3];
            machine.baseline.observe(Watts(20.0), busy, SECOND);
        }
        machine.idle()
    });
    assert!(error < 1.0, "{error}");
}

#[test]
fn a_frozen_meter_that_catches_up_does_not_move_it() {
    let mut machine = Machine::new(3);
    machine.run(120, 0.0..0.03, line(10.0));
    let before = machine.idle();
    for _ in 0..3 {
        machine.baseline.observe(Watts(0.0), 0.01, SECOND);
    }
    machine.baseline.observe(Watts(80.0), 0.01, SECOND);
    machine.run(4, 0.0..0.03, line(10.0));
    let moved = 100.0 * (machine.idle() / before - 1.0);
    println!("(f) frozen for 3 s: moved {moved:+.3} %");
    assert!(moved.abs() < 1.0, "{moved}");
}

#[test]
fn where_the_truth_is_a_curve_the_quiet_bin_decides() {
    for (name, watts, power) in [("concave", 14.0, 0.8), ("convex", 5.0, 2.0)] {
        let truth = |busy: f64| 20.0 + watts * busy.powf(power);
        let error = worst(&format!("(g) {name}"), 20.0, |seed| {
            let mut machine = Machine::new(seed);
            machine.run(60, 0.0..0.03, truth);
            machine.run(HOUR, 0.0..1.0, truth);
            machine.run(HOUR, 0.6..1.0, truth);
            machine.idle()
        });
        assert!(error < 3.0, "{name}: {error}");
    }
}

#[test]
fn it_is_remembered_and_a_spoilt_memory_is_forgotten() {
    let mut machine = Machine::new(5);
    machine
        .run(90, 0.0..0.03, line(10.0))
        .run(33, 0.9..1.0, line(10.0));
    let text = serde_json::to_string(&machine.baseline).unwrap();
    let back: Baseline = serde_json::from_str(&text).unwrap();
    let restored = back.idle().unwrap().watts.0;
    assert!((restored - machine.idle()).abs() < 1e-9, "{restored}");
    assert_eq!(back.cpus(), 2);
    let spoilt = text
        .replace("\"watts\":20", "\"watts\":-20")
        .replace("\"cpus\":2", "\"cpus\":0");
    assert_ne!(spoilt, text);
    let back: Baseline = serde_json::from_str(&spoilt).unwrap();
    assert_eq!(back.cpus(), 1);
    assert!(back.idle().is_none_or(|idle| idle.watts.0 >= 0.0));
    let odd = text.replace("\"waiting\":", "\"waiting\":9");
    let mut back: Baseline = serde_json::from_str(&odd).unwrap();
    back.observe(Watts(5.0), 0.0, SECOND);
    assert!(back.idle().is_some());
}

proptest! {
    #[test]
    fn no_input_makes_it_negative_undefined_or_panic(
        cpus in any::<u32>(),
        samples in proptest::collection::vec(
            (
                prop_oneof![any::<f64>(), 0.0..200.0f64, 1e-300..1e-290f64],
                prop_oneof![any::<f64>(), 0.0..4.0f64],
                prop_oneof![any::<u64>(), 1..2_000_000_000u64],
            ),
            0..200,
        ),
    ) {
        let mut baseline = Baseline::new(cpus);
        let mut highest = 0.0f64;
        for (watts, busy, nanos) in samples {
            baseline.observe(Watts(watts), busy, Duration::from_nanos(nanos));
            if watts.is_finite() && watts <= MOST_WATTS {
                highest = highest.max(watts);
            }
            if let Some(idle) = baseline.idle() {
                let watts = idle.watts.0;
                prop_assert!(watts.is_finite() && watts >= 0.0, "{}", watts);
                prop_assert!(watts <= highest * 1.21, "{} of {}", watts, highest);
            }
        }
    }
}
