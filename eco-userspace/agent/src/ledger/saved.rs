// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counters on disk, so that they go on where an earlier agent stopped, however it stopped.
//!
//! Two files are written in turn, each whole, with a checksum: a write that is cut short leaves
//! the other. They are written in place, so that no file system is made to flush each tick;
//! a crash of the agent loses nothing of them, a crash of the machine what the kernel had not
//! written yet.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use eco_attribution::Baseline;
use eco_intensity::{Emissions, Intensity};
use eco_meter::{Descriptor, Position};
use serde::{Deserialize, Serialize};

use crate::{
    carbon::books::CarbonRow,
    ledger::accounts::Kind,
    series::{ProcessName, Tags},
    workloads::{cluster_job::ClusterJob, job_trace::SavedTrace, jobs::Membership},
};

/// What this version writes, and the newest that it reads.
const SCHEMA: u32 = 1;

const FILES: [&str; 2] = ["ledger.a", "ledger.b"];

/// Everything that outlives an agent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    /// The version of this shape.
    pub schema: u32,
    /// Counts writes; the larger of two files is the later.
    pub sequence: u64,
    /// The boot in which raw counters and start times mean something.
    pub boot_id: String,
    /// Each meter's books.
    pub meters: Vec<SavedMeter>,
    /// Whether carbon is counted.
    #[serde(default)]
    pub counts_carbon: bool,
    /// The intensity that was pushed last.
    #[serde(default)]
    pub pushed_intensity: Option<Intensity>,
    /// CPU time of the kernel's threads, in ns.
    pub kernel_cpu_ns: u64,
    /// CPU time of all who are not shown by name, in ns.
    pub other_cpu_ns: u64,
    /// Processes that are shown by name.
    pub processes: Vec<SavedProcess>,
    /// Views.
    pub views: Vec<SavedView>,
    /// Open jobs.
    #[serde(default)]
    pub jobs: Vec<SavedJob>,
}

/// An open job. What it used is in the view of its name.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedJob {
    /// What to close it by.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Who opened it.
    pub uid: u32,
    /// When, RFC 3339.
    pub started: String,
    /// Who belongs to it.
    pub membership: Membership,
    /// Processes that have belonged to it.
    pub processes: u64,
    /// Idle energy that its share of CPU time would carry, in µJ.
    pub idle_share: f64,
    /// The node's energy without an intensity when it was opened, in µJ.
    #[serde(default)]
    pub uncovered_before: u64,
    /// What it is a part of.
    #[serde(default)]
    pub part: Option<SavedPart>,
    /// Its span.
    #[serde(default)]
    pub trace: Option<SavedTrace>,
}

/// What a run is a part of.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedPart {
    /// The job.
    pub job: ClusterJob,
    /// Which of its ranks.
    pub rank: Option<u32>,
    /// The name of the view that it is booked on, if by its runs.
    pub view: Option<String>,
}

/// A meter's books, in µJ.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedMeter {
    /// Which.
    pub descriptor: Descriptor,
    /// Where its raw counter stood.
    pub position: Option<Position>,
    /// What idle costs.
    pub baseline: Baseline,
    /// All that it counted.
    pub node: u64,
    /// Idle.
    pub idle: u64,
    /// The kernel's.
    pub kernel: u64,
    /// Of those not shown by name.
    pub other: u64,
    /// Of those who were.
    pub departed: u64,
    /// Nobody's, by reason.
    pub unattributed: Vec<u64>,
    /// The agents' own.
    pub own: u64,
    /// What it emitted.
    #[serde(default)]
    pub carbon: SavedCarbon,
}

/// What a meter's energy emitted, place by place as in its books.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedCarbon {
    /// All that it counted.
    pub node: Emissions,
    /// Idle.
    pub idle: Emissions,
    /// The kernel's.
    pub kernel: Emissions,
    /// Of those not shown by name.
    pub other: Emissions,
    /// Of those who were.
    pub departed: Emissions,
    /// Nobody's, by reason.
    pub unattributed: Vec<Emissions>,
    /// Energy without an intensity, in µJ.
    pub uncovered: u64,
}

/// A process that is shown by name.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedProcess {
    /// Who.
    pub name: ProcessName,
    /// What its series is called.
    pub label: String,
    /// What it shows, in ns.
    pub cpu_ns: u64,
    /// What it shows, in µJ by meter.
    pub energy: Vec<u64>,
    /// What that emitted, by meter.
    #[serde(default)]
    pub carbon: CarbonRow,
    /// `announced`, `live` or `leaving`.
    pub phase: SavedPhase,
}

/// A view.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedView {
    /// What kind of unit.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Whose job.
    pub user: String,
    /// What else names it.
    #[serde(default)]
    pub tags: Tags,
    /// CPU time, in ns.
    pub cpu_ns: u64,
    /// Energy, in µJ by meter.
    pub energy: Vec<u64>,
    /// What that emitted, by meter.
    #[serde(default)]
    pub carbon: CarbonRow,
    /// Where its series was in its life.
    pub phase: SavedPhase,
}

/// Where a series was in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SavedPhase {
    /// Shown at zero, not known to be seen.
    Announced,
    /// Seen.
    Live,
    /// Shown at its last value, not known to be seen.
    Leaving,
}

/// Where counters are kept.
#[derive(Debug, Default)]
pub struct Store {
    folder: Option<PathBuf>,
    files: [Option<File>; 2],
    /// Held for life: whoever comes second must not write.
    _lock: Option<File>,
    sequence: u64,
    buffer: Vec<u8>,
    /// What went wrong, if anything did.
    pub problem: Option<String>,
}

impl Store {
    /// Opens the folder, makes it if need be. With none, or one that cannot be written, counters
    /// live in memory and [`Store::problem`] says why.
    #[must_use]
    pub fn open(folder: Option<&Path>) -> Self {
        let Some(folder) = folder else {
            return Self::default();
        };
        let mut store = Self {
            folder: Some(folder.into()),
            ..Self::default()
        };
        if let Err(why) = store.open_files(folder) {
            let problem = format!(
                "{}: {why}; counters are kept in memory only and start again at zero with the \
                 next agent; make the directory writable or name another with --state",
                folder.display()
            );
            tracing::error!(problem, "state directory not usable");
            store.problem = Some(problem);
        }
        store
    }

    /// The folder; empty where there is none.
    #[must_use]
    pub fn folder(&self) -> String {
        self.folder
            .as_ref()
            .map(|folder| folder.display().to_string())
            .unwrap_or_default()
    }

    /// Whether anything is written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.files.iter().any(Option::is_some)
    }

    /// The counters of the agent before, if there was one.
    pub fn load(&mut self) -> Option<Saved> {
        let folder = self.folder.clone()?;
        let mut best: Option<Saved> = None;
        let mut refused = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            match read(&path) {
                Ok(None) => {}
                Ok(Some(saved)) => {
                    if best
                        .as_ref()
                        .is_none_or(|other| other.sequence < saved.sequence)
                    {
                        best = Some(saved);
                    }
                }
                Err(why) => refused.push(format!("{}: {why}", path.display())),
            }
        }
        let newer = refused.iter().any(|why| why.contains("newer"));
        if best.is_none() && newer {
            // Writing would destroy what the newer version can still read.
            self.files = [None, None];
            self.problem = Some(format!(
                "{}; counters are kept in memory only; run that version, or move the files away",
                refused.join("; ")
            ));
        }
        for why in &refused {
            tracing::warn!(reason = why, "a state file is not used");
        }
        self.sequence = best.as_ref().map_or(0, |saved| saved.sequence);
        best
    }

    /// Writes the counters. A failure is said once, and tried again with the next tick.
    pub fn save(&mut self, saved: &mut Saved) {
        if !self.is_writing() {
            return;
        }
        self.sequence += 1;
        saved.schema = SCHEMA;
        saved.sequence = self.sequence;
        let written = self.write(saved);
        match (written, &self.problem) {
            (Ok(()), Some(_)) => {
                tracing::info!("counters are kept on disk again");
                self.problem = None;
            }
            (Err(why), None) => {
                let problem = format!(
                    "{}: {why}; counters live in memory until it can be written again",
                    self.folder()
                );
                tracing::error!(problem, "counters not kept");
                self.problem = Some(problem);
            }
            _ => {}
        }
    }

    fn open_files(&mut self, folder: &Path) -> Result<(), String> {
        fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        let open = |name: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(folder.join(name))
                .map_err(|e| e.to_string())
        };
        let lock = open("lock")?;
        if lock.try_lock().is_err() {
            return Err("another eco-agent is using it".into());
        }
        self.files = [Some(open(FILES[0])?), Some(open(FILES[1])?)];
        self._lock = Some(lock);
        Ok(())
    }

    fn write(&mut self, saved: &Saved) -> io::Result<()> {
        // Checksum and length first, so that a file cut anywhere is known to be cut.
        self.buffer.clear();
        self.buffer.resize(HEADER, b' ');
        serde_json::to_writer(&mut self.buffer, saved)?;
        self.buffer.push(b'\n');
        let body = &self.buffer[HEADER..];
        let header = format!(
            "eco-ledger {:08x} {:12}\n",
            crc32fast::hash(body),
            body.len()
        );
        self.buffer[..HEADER].copy_from_slice(header.as_bytes());
        let Some(file) = &self.files[(self.sequence % 2) as usize] else {
            return Ok(());
        };
        file.write_all_at(&self.buffer, 0)?;
        file.set_len(self.buffer.len() as u64)
    }
}

/// `eco-ledger `, eight digits, a blank, twelve, a line feed.
const HEADER: usize = 11 + 8 + 1 + 12 + 1;

/// `None`: empty or not there.
fn read(path: &Path) -> Result<Option<Saved>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let header = bytes
        .get(..HEADER)
        .and_then(|h| std::str::from_utf8(h).ok());
    let mut fields = header.ok_or("cut off")?.split_ascii_whitespace();
    if fields.next() != Some("eco-ledger") {
        return Err("no state file of eco's".into());
    }
    let sum = fields
        .next()
        .and_then(|f| u32::from_str_radix(f, 16).ok())
        .ok_or("no checksum")?;
    let length: usize = fields
        .next()
        .and_then(|f| f.parse().ok())
        .ok_or("no length")?;
    let end = HEADER.checked_add(length).ok_or("no length")?;
    let body = bytes.get(HEADER..end).ok_or("cut off")?;
    if crc32fast::hash(body) != sum {
        return Err("its checksum does not match".into());
    }
    let version: Version = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    if version.schema > SCHEMA {
        return Err(format!(
            "written by a newer eco (schema {}, not {SCHEMA})",
            version.schema
        ));
    }
    serde_json::from_slice(body)
        .map(Some)
        .map_err(|e| e.to_string())
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, times: u64) {
        let mut store = Store::open(Some(folder));
        store.load();
        for at in 0..times {
            store.save(&mut Saved {
                other_cpu_ns: at,
                ..Saved::default()
            });
        }
    }

    fn loaded(folder: &Path) -> Option<u64> {
        Store::open(Some(folder))
            .load()
            .map(|saved| saved.other_cpu_ns)
    }

    #[test]
    fn the_later_of_two_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(loaded(folder.path()), None);
        written(folder.path(), 4);
        assert_eq!(loaded(folder.path()), Some(3));
        written(folder.path(), 1);
        assert_eq!(loaded(folder.path()), Some(0), "the sequence goes on");
    }

    #[test]
    fn a_file_cut_anywhere_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), 3);
        let path = folder.path().join(FILES[1]);
        let whole = fs::read(&path).unwrap();
        for length in [
            1,
            10,
            HEADER - 1,
            HEADER,
            HEADER + 1,
            whole.len() / 2,
            whole.len() - 1,
        ] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(loaded(folder.path()), Some(1), "cut at {length}");
        }
    }

    #[test]
    fn noise_is_not_read_and_a_newer_version_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILES[0]), [0xff; 300]).unwrap();
        assert_eq!(loaded(folder.path()), None);
        let body = br#"{"schema":99,"sequence":7}"#;
        let header = format!(
            "eco-ledger {:08x} {:12}\n",
            crc32fast::hash(body),
            body.len()
        );
        let newer = [header.as_bytes(), body].concat();
        for name in FILES {
            fs::write(folder.path().join(name), &newer).unwrap();
        }
        let mut store = Store::open(Some(folder.path()));
        assert!(store.load().is_none());
        assert!(store.problem.as_ref().unwrap().contains("newer"));
        store.save(&mut Saved::default());
        assert_eq!(fs::read(folder.path().join(FILES[0])).unwrap(), newer);
    }

    fn with_carbon(emissions: Emissions) -> Saved {
        let descriptor = Descriptor {
            name: "package-0".into(),
            domain: eco_meter::Domain::Package,
            device: "package-0".into(),
            source: eco_meter::Source::Model,
        };
        let mut row = CarbonRow::zeros(1);
        row.add(0, emissions);
        let meter = SavedMeter {
            descriptor,
            position: None,
            baseline: Baseline::new(2),
            node: 7,
            idle: 0,
            kernel: 0,
            other: 0,
            departed: 0,
            unattributed: vec![0; 3],
            own: 0,
            carbon: SavedCarbon {
                node: emissions,
                ..SavedCarbon::default()
            },
        };
        let view = SavedView {
            kind: Kind::Container,
            name: "c".into(),
            tags: Tags::default(),
            user: String::new(),
            cpu_ns: 1,
            energy: vec![7],
            carbon: row,
            phase: SavedPhase::Live,
        };
        Saved {
            counts_carbon: true,
            meters: vec![meter],
            views: vec![view],
            ..Saved::default()
        }
    }

    #[test]
    fn carbon_comes_back_to_the_last_digit() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(Some(folder.path()));
        store.load();
        let much = Emissions(u128::MAX / 3);
        store.save(&mut with_carbon(much));
        drop(store);
        let saved = Store::open(Some(folder.path())).load().unwrap();
        assert_eq!(saved.meters[0].carbon.node, much);
        assert_eq!(saved.views[0].carbon.get(0), much);
    }

    #[test]
    fn a_state_from_before_carbon_is_read() {
        let mut old = serde_json::to_value(Saved {
            schema: 1,
            ..with_carbon(Emissions(5))
        })
        .unwrap();
        for new in ["counts_carbon", "pushed_intensity"] {
            assert!(old.as_object_mut().unwrap().remove(new).is_some());
        }
        for holder in ["/meters/0", "/views/0"] {
            let holder = old.pointer_mut(holder).unwrap();
            assert!(holder.as_object_mut().unwrap().remove("carbon").is_some());
        }
        let body = old.to_string();
        let sum = crc32fast::hash(body.as_bytes());
        let text = format!("eco-ledger {sum:08x} {:12}\n{body}", body.len());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILES[0]), text).unwrap();
        let saved = Store::open(Some(folder.path())).load().unwrap();
        assert!(!saved.counts_carbon && saved.pushed_intensity.is_none());
        assert_eq!(saved.meters[0].node, 7);
        assert!(saved.views[0].carbon.is_empty());
    }

    #[test]
    fn a_second_agent_does_not_write_to_the_same_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(Some(folder.path()));
        let second = Store::open(Some(folder.path()));
        assert!(first.is_writing() && !second.is_writing());
        assert!(second.problem.unwrap().contains("another eco-agent"));
    }
}
