// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

/// A directory whose `scontrol` is this shell script.
fn directory(folder: &Path, source: Source, script: &str) -> JobDirectory {
    let program = folder.join("scontrol");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    JobDirectory::new(SlurmConfig {
        source,
        scontrol: Some(program),
        procfs: folder.to_owned(),
    })
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_environment_is_asked_before_scontrol() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("5")).unwrap();
    let environ = "SLURM_JOB_ID=7\0SLURM_JOB_NAME=train\0SLURM_JOB_PARTITION=gpu\0";
    fs::write(folder.path().join("5/environ"), environ).unwrap();
    let directory = directory(folder.path(), Source::Auto, "exit 1");
    directory.want(7, Some(5));
    let job = until("the job", || directory.job(7));
    assert_eq!(
        (job.name.as_str(), job.partition.as_str()),
        ("train", "gpu")
    );
    assert_eq!((directory.trouble(), directory.generation()), (None, 1));
    directory.forget(7);
    assert_eq!(directory.job(7), None);
}

#[test]
fn scontrol_is_asked_where_the_environment_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"test "$4" = --json && exit 1
        echo "JobId=$3 JobName=train"; echo "   UserId=ann(1001)"; echo "   Partition=gpu""#;
    let directory = directory(folder.path(), Source::Auto, script);
    directory.want(7, Some(5));
    assert_eq!(until("the job", || directory.job(7)).user, "ann");
}

#[test]
fn an_scontrol_that_fails_hangs_or_is_absent_is_told_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    for (script, word) in [
        ("exit 1", "exit status: 1"),
        ("echo nonsense", "tells nothing of job 7"),
        ("exec sleep 600", "was killed"),
    ] {
        let directory = directory(folder.path(), Source::Scontrol, script);
        directory.want(7, None);
        let trouble = until(word, || directory.trouble());
        assert!(trouble.what.contains(word), "{trouble:?}");
        assert_eq!(directory.job(7), None);
    }
    let directory = JobDirectory::new(SlurmConfig {
        source: Source::Scontrol,
        scontrol: Some("/nonexistent/scontrol".into()),
        procfs: folder.path().to_owned(),
    });
    directory.want(7, None);
    assert!(
        until("absence", || directory.trouble())
            .what
            .contains("cannot be run")
    );
}

#[test]
fn off_asks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path(), Source::Off, "touch asked");
    directory.want(7, None);
    assert_eq!((directory.job(7), directory.generation()), (None, 0));
    assert!(lock(&directory.asked).is_some(), "no thread was started");
}
