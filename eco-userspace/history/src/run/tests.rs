// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::file;

fn opened() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let db = file::open(&folder.path().join(crate::FILE_NAME)).unwrap();
    (folder, db)
}

/// With something in each field.
fn whole(key: &str, started_ms: i64) -> Run {
    Run {
        origin: "eco".to_owned(),
        key: key.to_owned(),
        name: "tra\"in\n".to_owned(),
        user: Some("ada".to_owned()),
        started_ms,
        ended_ms: started_ms + 1500,
        command: vec!["sh".to_owned(), "-c".to_owned(), "a 'b'".to_owned()],
        exit_status: Some(137),
        part_of: Some(PartOf {
            manager: "slurm".to_owned(),
            job: "4711".to_owned(),
            rank: Some(3),
        }),
        cpu_ns: Some(1_400_000_000),
        energy_uj: Some(2_000_001),
        idle_uj: Some(7),
        carbon_ng: Some(u64::MAX / 2),
        priced: Some(Priced {
            intensity: Intensity {
                zone: "DE".to_owned(),
                g_per_kwh: GramsPerKwh::new(344.1).unwrap(),
                kind: Kind::Marginal,
                source: "grid".to_owned(),
                estimated: true,
                valid_until: None,
            },
            pue: Pue::new(1.2).unwrap(),
        }),
        estimated: true,
        measured_by: "agent".to_owned(),
        provenance: Some("codecarbon 2.8.3, emissions.csv:2".to_owned()),
        revision: Some(Revision {
            commit: "c0ffee".to_owned(),
            branch: None,
        }),
        hardware: Some(Hardware {
            host: "n1".to_owned(),
            cpu: "A CPU".to_owned(),
            cpus: 64,
            memory_bytes: 1 << 40,
            gpus: "2 × H100".to_owned(),
        }),
        meters: vec![MeterEnergy {
            name: "package-0".to_owned(),
            domain: "package".to_owned(),
            source: "model".to_owned(),
            energy_uj: 2_000_001,
        }],
        parameters: vec![("lr".to_owned(), "1e-3".to_owned())],
        metrics: vec![("accuracy".to_owned(), 0.93)],
    }
}

#[test]
fn a_run_comes_back_as_it_was_put_and_is_put_once() {
    let (_folder, db) = opened();
    let (one, bare) = (whole("a", 5), Run::default());
    assert!(put(&db, &one).unwrap());
    assert!(put(&db, &bare).unwrap());
    assert!(
        !put(
            &db,
            &Run {
                exit_status: Some(0),
                ..one.clone()
            }
        )
        .unwrap()
    );
    let kept = list(&db, &Wanted::default()).unwrap();
    let runs: Vec<_> = kept.iter().map(|kept| &kept.run).collect();
    assert_eq!(runs, [&one, &bare]);
    assert_eq!(find(&db, kept[0].id).unwrap().unwrap().run, one);
    assert_eq!(find(&db, 99).unwrap(), None);
    // The machine is there once.
    put(&db, &whole("b", 6)).unwrap();
    let machines: i64 = db
        .query_row("SELECT count(*) FROM hardware", [], |row| row.get(0))
        .unwrap();
    assert_eq!(machines, 1);
}

#[test]
fn runs_are_found_by_time_name_and_user_the_latest_first() {
    let (_folder, db) = opened();
    for (key, at) in [("a", 10), ("b", 30), ("c", 20)] {
        put(&db, &whole(key, at)).unwrap();
    }
    let keys = |wanted: &Wanted| -> Vec<String> {
        let kept = list(&db, wanted).unwrap();
        kept.into_iter().map(|kept| kept.run.key).collect()
    };
    assert_eq!(keys(&Wanted::default()), ["b", "c", "a"]);
    let wanted = Wanted {
        since_ms: Some(20),
        until_ms: Some(30),
        ..Wanted::default()
    };
    assert_eq!(keys(&wanted), ["c"]);
    let wanted = Wanted {
        most: Some(2),
        ..Wanted::default()
    };
    assert_eq!(keys(&wanted), ["b", "c"]);
    let wanted = Wanted {
        user: Some("bob".to_owned()),
        ..Wanted::default()
    };
    assert!(keys(&wanted).is_empty());
    let wanted = Wanted {
        name: Some("tra\"in\n".to_owned()),
        ..Wanted::default()
    };
    assert_eq!(keys(&wanted).len(), 3);
}

#[test]
fn a_metric_that_is_no_number_is_left_out() {
    let (_folder, db) = opened();
    let mut run = whole("a", 1);
    run.metrics.push(("loss".to_owned(), f64::NAN));
    put(&db, &run).unwrap();
    let kept = list(&db, &Wanted::default()).unwrap();
    assert_eq!(kept[0].run.metrics, [("accuracy".to_owned(), 0.93)]);
}
