// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whatever the window and whatever has been added up or thrown away: each second once.

use std::sync::Arc;

use super::*;
use crate::{retention::Retention, sample::Sample, tier::Tier, writer::Writer};

/// A full hour in Unix seconds.
const HOUR: i64 = 1_800_000_000;

/// A second in which a container uses as many µJ as its number, and a pod of two names one.
fn sample(second: i64) -> Sample {
    let unit = |kind: &str, name: &str, title: &str, uj: u64| {
        let mut amounts = UnitAmounts {
            cpu_ns: 2,
            ..UnitAmounts::default()
        };
        amounts.energy_uj[0] = Some(uj);
        let unit = Unit {
            kind: kind.into(),
            name: name.into(),
            title: title.into(),
            ..Unit::default()
        };
        (Arc::new(unit), amounts)
    };
    let meter = Meter {
        name: "package-0".into(),
        domain: Domain::Package,
        device: "package-0".into(),
        source: "model".into(),
        estimated: true,
    };
    let used = 1_000_000 + second as u64;
    let amounts = MeterAmounts {
        energy_uj: used + 7,
        idle_uj: 6,
        ..MeterAmounts::default()
    };
    Sample {
        at: HOUR + second,
        span_ms: 1000,
        cpu_ns: 4,
        carbon_ng: (second >= 60).then_some(3),
        meters: vec![(Arc::new(meter), amounts)],
        units: vec![
            unit("container", "c", "c", used),
            unit("pod", "uid-1", "shop/web", 1),
        ],
        ..Sample::default()
    }
}

/// A file with these seconds after [`HOUR`], in that order.
fn written(seconds: impl IntoIterator<Item = i64>) -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(crate::FILE_NAME);
    let mut writer = Writer::open(&path, Retention::default()).unwrap();
    for second in seconds {
        writer.put(&sample(second)).unwrap();
    }
    drop(writer);
    let db = Connection::open(&path).unwrap();
    (folder, db)
}

fn asked(db: &Connection, from: i64, to: i64) -> Answer {
    let question = Question {
        from: HOUR + from,
        to: HOUR + to,
        kinds: vec!["container"],
        name: None,
    };
    answer(db, &question).unwrap()
}

/// What the container has used in an answer.
fn used(answer: &Answer) -> u64 {
    answer.units.iter().map(|unit| unit.amounts.rank()).sum()
}

/// And what it has used in truth.
fn truth(seconds: impl IntoIterator<Item = i64>) -> u64 {
    let used = |second: i64| 1_000_000 + second as u64;
    seconds.into_iter().map(used).sum()
}

#[test]
fn any_window_is_the_sum_of_its_seconds_in_one_tier_or_another() {
    let all = 3 * 3_600 + 130;
    let (_folder, db) = written(0..all);
    let ends = [
        0, 1, 59, 60, 61, 3_599, 3_600, 3_601, 5_432, 7_200, 10_800, 10_860, 10_925, all,
    ];
    for from in ends {
        for to in ends.into_iter().filter(|to| *to > from) {
            let answer = asked(&db, from, to);
            assert_eq!(used(&answer), truth(from..to), "{from} to {to}");
            assert_eq!(answer.span_ms, 1000 * (to - from) as u64);
            assert_eq!(answer.cpu_ns, 4 * (to - from) as u64);
            let pieces = &answer.pieces;
            assert_eq!(pieces.first().unwrap().from, HOUR + from);
            assert_eq!(pieces.last().unwrap().to, HOUR + to);
            assert!(pieces.windows(2).all(|pair| pair[0].to == pair[1].from));
        }
    }
    let whole = asked(&db, 0, all);
    let tiers: Vec<Tier> = whole.pieces.iter().map(|piece| piece.tier).collect();
    assert_eq!(tiers, [Tier::Hours, Tier::Minutes, Tier::Seconds]);
}

#[test]
fn a_row_that_an_end_cuts_counts_whole_once_its_finer_ones_are_gone_and_the_answer_says_so() {
    let (_folder, db) = written(0..2 * 3_600 + 1);
    let widened = |at: i64, from: i64, to: i64| {
        let answer = asked(&db, at, 7_000);
        assert_eq!(used(&answer), truth(from..to));
        assert_eq!(answer.pieces.first().unwrap().from, HOUR + from);
    };
    let before = HOUR + 3_000;
    db.execute("DELETE FROM node_seconds WHERE at < ?1", [before])
        .unwrap();
    widened(1_830, 1_800, 7_000);
    db.execute("DELETE FROM node_minutes WHERE at < ?1", [before])
        .unwrap();
    widened(1_830, 0, 7_000);
    widened(3_630, 3_630, 7_000);
    let inside = asked(&db, 100, 200);
    assert_eq!(used(&inside), truth(0..3_600), "the only row that knows");
    assert_eq!(inside.pieces.len(), 1);
}

#[test]
fn a_clock_that_went_back_doubles_nothing_and_what_it_repeats_is_there() {
    let seconds = || (0..7_500).chain(3_700..3_790);
    let (_folder, db) = written(seconds());
    assert_eq!(used(&asked(&db, 0, 9_000)), truth(seconds()));
    // Back before all that there is: a minute that is not over, in an hour that is.
    let seconds = || (1_800..7_300).chain(30..80);
    let (_folder, db) = written(seconds());
    assert_eq!(used(&asked(&db, -3_600, 9_000)), truth(seconds()));
}

#[test]
fn a_time_without_an_agent_is_no_time_that_was_measured() {
    let (_folder, db) = written((0..100).chain(7_000..7_100));
    let answer = asked(&db, -1_000_000_000, 1_000_000_000);
    assert_eq!(answer.span_ms, 200_000);
    assert_eq!(used(&answer), truth((0..100).chain(7_000..7_100)));
    for (from, to) in [(200, 6_000), (100, 100), (300, 200), (i64::MIN / 2, -5)] {
        let nothing = asked(&db, from, to);
        assert_eq!((used(&nothing), nothing.span_ms), (0, 0), "{from} to {to}");
    }
}

#[test]
fn a_unit_is_found_by_its_name_or_its_title_and_units_and_idle_are_what_the_meters_counted() {
    let (_folder, db) = written(0..130);
    let ask = |kinds: &[&'static str], name: Option<&str>| {
        let question = Question {
            from: HOUR,
            to: HOUR + 130,
            kinds: kinds.to_vec(),
            name: name.map(str::to_owned),
        };
        answer(&db, &question).unwrap()
    };
    for name in [None, Some("uid-1"), Some("shop/web")] {
        let units = ask(&["pod"], name).units;
        assert_eq!(units.len(), 1, "{name:?}");
        assert_eq!(units[0].amounts.energy_uj[0], Some(130));
        assert_eq!(units[0].amounts.energy_uj[1], None, "not metered");
    }
    assert!(ask(&["pod"], Some("' OR 1=1 --")).units.is_empty());
    let node = ask(&[], None);
    assert!(node.units.is_empty() && node.is_estimated());
    let (_, meter) = &node.meters[0];
    let units = ask(&["container", "pod"], None).units;
    let used: u64 = units.iter().map(|unit| unit.amounts.rank()).sum();
    assert_eq!(meter.energy_uj - meter.idle_uj, used);
    assert_eq!(used, truth(0..130) + 130);
    assert_eq!(
        (node.carbon_ng, node.carbon_is_partial),
        (Some(70 * 3), true)
    );
}
