// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::{fs, path::PathBuf, time::Duration};

use super::*;
use crate::{
    exit::{self, Failure},
    top::kind::Kind,
};

fn process(pid: u32, watts: f64, parents: &[&str]) -> Unit {
    Unit {
        kind: "process".into(),
        name: format!("p[{pid}]@1"),
        label: "p\u{1b}[2J".into(),
        pid: Some(pid),
        watts,
        parents: Some(parents.iter().map(|&p| p.to_owned()).collect()),
        ..Unit::default()
    }
}

fn picture(second: usize, units: Vec<Unit>) -> Units {
    Units {
        at: format!("2026-01-02T03:{:02}:{:02}Z", second / 60, second % 60),
        window_seconds: 1.0,
        node: Node {
            name: "n".into(),
            cpus: 2,
            ..Node::default()
        },
        units,
    }
}

/// 150 pictures: one process that is busier each second, one that rests, one for a while only.
fn pictures() -> Vec<Units> {
    let units = |n: usize| {
        let mut units = vec![process(1, n as f64, &["job:j"]), process(2, 0.0, &[])];
        if (10..70).contains(&n) {
            units.push(process(3, 5.0, &["job:j", "user:ann"]));
        }
        units
    };
    (0..150).map(|n| picture(n, units(n))).collect()
}

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("session.ecotop")
    }

    /// The bytes of the recording of [`pictures`].
    fn recorded(&self) -> Vec<u8> {
        let mut recorder = Recorder::create(&self.path(), Duration::from_secs(1)).unwrap();
        for picture in pictures() {
            recorder.record(&picture, "iter").unwrap();
        }
        fs::read(self.path()).unwrap()
    }

    fn open(&self, bytes: &[u8]) -> Result<Recording, Failure> {
        fs::write(self.path(), bytes).unwrap();
        Recording::open(&self.path())
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        let failure = self.open(bytes).map(drop).unwrap_err();
        assert_eq!(failure.status, exit::USAGE);
        failure.message
    }
}

fn same(recording: &mut Recording, number: usize) {
    let wanted = &pictures()[number];
    let shown = recording.picture(number).unwrap();
    assert_eq!(shown.at, wanted.at);
    assert_eq!(shown.units, wanted.units, "picture {number}");
}

#[test]
fn what_was_recorded_is_played_forwards_backwards_and_from_the_middle() {
    let scratch = Scratch::new();
    let bytes = scratch.recorded();
    let mut recording = scratch.open(&bytes).unwrap();
    assert_eq!((recording.len(), recording.trouble()), (150, None));
    assert_eq!(recording.header().tier, "iter");
    for number in (0..150)
        .chain((0..150).rev())
        .chain([75, 9, 10, 69, 70, 149, 60])
    {
        same(&mut recording, number);
    }
    assert_eq!(recording.picture(1_000).unwrap().at, pictures()[149].at);
}

#[test]
fn units_that_rest_take_no_room() {
    let scratch = Scratch::new();
    let bytes = scratch.recorded();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[1].contains("p[2]@1") && lines[61].contains("p[2]@1"),
        "whole pictures"
    );
    let resting = lines.iter().filter(|line| line.contains("p[2]@1")).count();
    assert_eq!(resting, 3, "once in each whole picture");
    assert!(!text.contains('\x1b'));
}

#[test]
fn a_recording_is_for_its_owner_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    scratch.recorded();
    let mode = fs::metadata(scratch.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Recorder::create(&scratch.path(), Duration::from_secs(1));
    assert!(
        again
            .map(drop)
            .unwrap_err()
            .message
            .contains("is there already")
    );
}

#[test]
fn a_file_that_is_cut_off_plays_what_is_whole_and_says_where_it_ends() {
    let scratch = Scratch::new();
    let bytes = scratch.recorded();
    let newlines: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').collect();
    // In the middle of the line of picture 99, and right behind it.
    for cut in [newlines[99] + 10, newlines[100]] {
        let mut recording = scratch.open(&bytes[..cut]).unwrap();
        assert_eq!(recording.len(), 99);
        let trouble = recording.trouble().unwrap().to_owned();
        assert!(trouble.starts_with("line 101: it is cut off"), "{trouble}");
        same(&mut recording, 98);
    }
    let recording = scratch.open(&bytes[..=newlines[99]]).unwrap();
    assert_eq!((recording.len(), recording.trouble()), (99, None));
}

#[test]
fn a_line_that_is_no_picture_ends_the_recording_when_it_is_met() {
    let scratch = Scratch::new();
    let text = String::from_utf8(scratch.recorded()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[20] = "{\"whole\":false,\"at\":\"x\",\"node\":7}";
    let mut recording = scratch.open((lines.join("\n") + "\n").as_bytes()).unwrap();
    assert_eq!(recording.len(), 150, "its outline is right");
    assert_eq!(recording.at(19), None);
    same(&mut recording, 18);
    let why = recording.picture(30).unwrap_err();
    assert!(why.starts_with("line 21: no picture: "), "{why}");
    assert_eq!((recording.len(), recording.trouble()), (19, Some(&*why)));
    same(&mut recording, 18);
    lines[20] = "\u{0}\u{0}";
    let recording = scratch.open((lines.join("\n") + "\n").as_bytes()).unwrap();
    assert_eq!(recording.len(), 19);
    assert!(
        recording
            .trouble()
            .unwrap()
            .starts_with("line 21: no picture")
    );
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    for (bytes, why) in [
        (&b""[..], "is no recording"),
        (b"\n", "is no recording"),
        (b"PNG\xff\xfe", "is no recording"),
        (b"{\"schema\":\"eco.run/1\"}\n", "is no recording"),
        (b"[1]\n", "is no recording"),
        (
            b"{\"schema\":\"eco.top/2\",\"eco\":\"9.1\\u001b[0m\"}\n",
            "was recorded by eco 9.1\u{fffd}[0m as eco.top/2; this eco",
        ),
        (
            b"{\"schema\":\"eco.top/1\",\"interval_seconds\":\"x\"}\n",
            "its first line is damaged",
        ),
        (
            b"{\"schema\":\"eco.top/1\",\"eco\":\"0\",\"tier\":\"\",\"interval_seconds\":1}\n",
            "has no picture to play: it ends behind its first line",
        ),
        (
            b"{\"schema\":\"eco.top/1\",\"eco\":\"0\",\"tier\":\"\",\"interval_seconds\":1}\n{",
            "has no picture to play: line 2: it is cut off",
        ),
    ] {
        let message = scratch.refusal(bytes);
        assert!(message.contains(why), "{message}");
    }
    let folder = Recording::open(scratch.folder.path())
        .map(drop)
        .unwrap_err();
    assert!(folder.message.contains("is no plain file"));
    let absent = Recording::open(&scratch.folder.path().join("absent"));
    assert!(
        absent
            .map(drop)
            .unwrap_err()
            .message
            .contains("No such file")
    );
    let endless = Recording::open(std::path::Path::new("/dev/zero"));
    assert!(
        endless
            .map(drop)
            .unwrap_err()
            .message
            .contains("is no plain file")
    );
}

#[test]
fn a_first_line_without_end_takes_no_more_memory_than_a_first_line() {
    let scratch = Scratch::new();
    let message = scratch.refusal(&vec![b'x'; 1 << 20]);
    assert!(message.contains("no line of a recording"), "{message}");
}

#[test]
fn deeply_nested_json_and_numbers_out_of_range_end_a_recording_and_not_the_program() {
    let scratch = Scratch::new();
    let text = String::from_utf8(scratch.recorded()).unwrap();
    let first = text.lines().next().unwrap();
    let nested = format!("{first}\n{{\"whole\":true,\"at\":{}\n", "[".repeat(100_000));
    assert!(
        scratch
            .refusal(nested.as_bytes())
            .contains("has no picture to play")
    );
    let huge = format!("{first}\n{{\"whole\":true,\"at\":\"\",\"window_seconds\":1e999}}\n");
    assert!(
        scratch
            .open(huge.as_bytes())
            .and_then(|mut r| { r.picture(0).map_err(Failure::usage) })
            .is_err()
    );
}

#[test]
fn a_part_of_the_machine_is_what_the_agent_would_have_told() {
    let whole = pictures()[20].clone();
    let scope = |kind, within: Option<&str>| Scope {
        kind,
        within: within.map(str::to_owned),
        all: false,
    };
    let pids = |units: Units| -> Vec<u32> { units.units.iter().filter_map(|u| u.pid).collect() };
    let all = part(whole.clone(), &scope(Kind::Process, None), None);
    assert_eq!(pids(all), [1, 3, 2]);
    let job = part(whole.clone(), &scope(Kind::Process, Some("job:j")), Some(1));
    assert_eq!(pids(job), [1]);
    let user = part(whole.clone(), &scope(Kind::Process, Some("user:ann")), None);
    assert_eq!(pids(user), [3]);
    assert!(part(whole, &scope(Kind::Pod, None), None).units.is_empty());
}
