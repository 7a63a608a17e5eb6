// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A disk that is full, a real one: whoever hands samples over never waits, the trouble is told,
//! and when there is room again nothing is missing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use eco_history::{
    FILE_NAME, file,
    recorder::Recorder,
    retention::Retention,
    sample::{Sample, Unit, UnitAmounts},
};

const BEGIN: i64 = 1_800_000_000;

/// A file system of four megabytes; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "eco-test"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    /// Until not a byte is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        // It writes what fits, and then there is no more room.
        assert!(fs::write(&path, vec![0; 8 << 20]).is_err());
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// One second, in which fifty units used a microjoule each.
fn sample(second: i64) -> Sample {
    let units = (0..50).map(|name| {
        let unit = Unit {
            kind: "container".into(),
            name: name.to_string(),
            ..Unit::default()
        };
        let mut amounts = UnitAmounts {
            cpu_ns: 1,
            ..UnitAmounts::default()
        };
        amounts.energy_uj[0] = Some(1);
        (Arc::new(unit), amounts)
    });
    Sample {
        at: BEGIN + second,
        span_ms: 1000,
        units: units.collect(),
        ..Sample::default()
    }
}

/// Hands over a sample every few milliseconds until `is_so`.
fn put_until(recorder: &mut Recorder, second: &mut i64, is_so: impl Fn(&Recorder) -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_so(recorder) {
        assert!(Instant::now() < patience, "{:?}", recorder.status());
        recorder.put(sample(*second));
        *second += 1;
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_disk_is_told_costs_no_joule_and_is_over_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    let path = folder.path().join(FILE_NAME);
    let mut recorder = Recorder::start(&path, Retention::default()).unwrap();
    let mut second = 0;
    put_until(&mut recorder, &mut second, |r| r.status().written > 0);
    let ballast = disk.fill();
    put_until(&mut recorder, &mut second, |r| r.status().problem.is_some());
    let told = recorder.status().problem.unwrap();
    assert!(told.contains("full"), "{told}");
    let merged = recorder.status().merged;
    put_until(&mut recorder, &mut second, |r| r.status().merged > merged);

    fs::remove_file(ballast).unwrap();
    put_until(&mut recorder, &mut second, |r| r.status().problem.is_none());
    drop(recorder);
    let db = file::open_to_read(&path).unwrap();
    file::check(&db, &path).unwrap();
    let sum = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(sum("SELECT sum(span_ms) FROM node_seconds"), second * 1000);
    assert_eq!(sum("SELECT sum(package_uj) FROM unit_seconds"), second * 50);
}
