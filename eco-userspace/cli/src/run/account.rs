// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run used, in the shape of schema `eco.run/1`, and where that is written.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use eco_agent::api;
use eco_intensity::zones::Zone;
use jiff::Timestamp;
use serde::Serialize;

use super::{carbon::RunCarbon, part::Part, plain::PlainMeters, supervise::Ended};
use crate::run::launcher::Launch;
use crate::{energy, exit::Failure, out};

/// What an agent may miss of the CPU time that the kernel has booked for the job before its
/// account is corrected: what two clocks read one after the other may differ by, in s, and a
/// thousandth.
const TOLERANCE_SECONDS: f64 = 0.01;
const TOLERANCE_SHARE: f64 = 0.001;

/// When the command was started.
#[derive(Clone, Copy)]
pub(crate) struct Started {
    /// In the world's time.
    pub(crate) at: Timestamp,
    /// In a clock that nobody sets.
    pub(crate) clock: Instant,
}

/// The object that `--json` writes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) exit_status: i32,
    started: String,
    ended: String,
    pub(crate) wall_seconds: f64,
    #[serde(flatten)]
    pub(crate) measured: Measured,
    /// Processes of the job that still ran when eco stopped looking.
    pub(crate) left_running: u64,
    #[serde(flatten)]
    pub(crate) carbon: RunCarbon,
}

/// What whoever measured the job has to say.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) cpu_seconds: f64,
    pub(crate) processes: u64,
    /// Whether `processes` is a count, or only the least that there were.
    pub(crate) processes_exact: bool,
    pub(crate) energy_joules: Energy,
    pub(crate) estimated: bool,
    pub(crate) tier: String,
    /// How the job's processes were known: `cgroup` or `descent`.
    pub(crate) membership: String,
    pub(crate) measured_by: MeasuredBy,
    pub(crate) meters: Vec<MeterShare>,
    #[serde(rename = "self")]
    pub(crate) own: Own,
    pub(crate) notes: Vec<String>,
    /// The job that the run is a part of; null if it is one by itself.
    pub(crate) part_of: Option<Part>,
    /// The run's span, as `TRACEPARENT`; null if none was sent.
    traceparent: Option<String>,
    /// What an agent counted.
    #[serde(skip)]
    carbon: RunCarbon,
}

/// Joules of the job by domain. A domain without a meter has none: see `meters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Energy {
    /// Package, DRAM and GPU; where there is no package meter, the platform or the board.
    /// Null where nothing is metered at all.
    pub(crate) total: Option<f64>,
    package: f64,
    dram: f64,
    gpu: f64,
    /// Beside the total: the part of the machine's idle energy that goes with the job's share
    /// of its CPU time.
    pub(crate) idle_share: f64,
}

/// One meter's part in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct MeterShare {
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) source: String,
    pub(crate) joules: f64,
}

/// What measuring cost while the job ran.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Own {
    pub(crate) cpu_seconds: f64,
    pub(crate) energy_joules: f64,
}

/// Who measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MeasuredBy {
    /// The node's agent.
    Agent,
    /// An agent that eco started for this run.
    PrivateAgent,
    /// eco itself, with no privilege.
    PlainUser,
}

impl Report {
    pub(crate) fn new(
        name: String,
        command: &[OsString],
        started: Started,
        ended: &Ended,
        mut measured: Measured,
        region: Option<&Zone>,
    ) -> Self {
        let carbon = match region {
            Some(zone) => RunCarbon::at(zone, measured.energy_joules.total),
            None => std::mem::take(&mut measured.carbon),
        };
        if carbon.is_partial {
            let note = "for a part of the run no intensity was known: its carbon is not counted";
            measured.notes.push(note.to_owned());
        }
        Self {
            schema: "eco.run/1",
            name,
            command: command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            exit_status: ended.status,
            started: started.at.to_string(),
            ended: ended.at.to_string(),
            wall_seconds: ended
                .clock
                .saturating_duration_since(started.clock)
                .as_secs_f64(),
            measured,
            left_running: ended.left,
            carbon,
        }
    }
}

impl Measured {
    /// An agent's account; `booked` is the CPU time that the kernel has booked for the job for
    /// certain (its cgroup's, or the resource usage of its processes).
    ///
    /// An agent that follows a job by descent cannot know whose child a process was that came
    /// and went between two of its looks. What it missed is added, at the agent's own price of
    /// a CPU second, and the result is labelled an estimate.
    pub(crate) fn from_agent(by: MeasuredBy, mut job: api::Job, booked: Duration) -> Self {
        let booked = booked.as_secs_f64();
        let missed = booked - job.cpu_seconds;
        let mut notes = Vec::new();
        if missed > TOLERANCE_SECONDS && missed > booked * TOLERANCE_SHARE {
            let scale = if job.cpu_seconds > 0.0 {
                booked / job.cpu_seconds
            } else {
                1.0
            };
            notes.push(format!(
                "the agent saw {:.3} s of {booked:.3} s of CPU time (some processes were too short \
                 for it); its joules are scaled up by that",
                job.cpu_seconds
            ));
            job.cpu_seconds = booked;
            job.estimated = true;
            job.idle_share_joules *= scale;
            job.carbon_grams
                .iter_mut()
                .flat_map(api::ByDomain::values_mut)
                .for_each(|grams| *grams *= scale);
            job.energy_joules
                .values_mut()
                .for_each(|joules| *joules *= scale);
            job.meters
                .iter_mut()
                .for_each(|meter| meter.joules *= scale);
        }
        let carbon = RunCarbon::counted(&job);
        let part_of = job.part_of.take().map(Part::from);
        let meters: Vec<MeterShare> = job.meters.into_iter().map(MeterShare::from).collect();
        Self {
            cpu_seconds: job.cpu_seconds,
            // The command itself ran, seen or not.
            processes: job.processes.max(1),
            processes_exact: job.processes_exact && notes.is_empty(),
            energy_joules: Energy::new(&job.energy_joules, job.idle_share_joules),
            estimated: job.estimated,
            tier: job.tier,
            membership: job.membership,
            measured_by: by,
            meters,
            own: Own {
                cpu_seconds: job.agent_cpu_seconds,
                energy_joules: job.agent_energy_joules,
            },
            notes,
            part_of,
            traceparent: job.traceparent,
            carbon,
        }
    }

    /// Adds what the launcher told.
    pub(crate) fn set_launch(&mut self, launch: &Launch) {
        self.part_of = Part::completed(self.part_of.take(), launch);
    }

    /// What eco itself saw.
    pub(crate) fn plain(cpu: Duration, processes: u64, meters: &PlainMeters) -> Self {
        let energy = meters.energy();
        let mut by_domain = api::ByDomain::new();
        for meter in &energy.meters {
            *by_domain.entry(meter.domain.clone()).or_default() += meter.joules;
        }
        Self {
            cpu_seconds: cpu.as_secs_f64(),
            processes,
            processes_exact: false,
            energy_joules: Energy::new(&by_domain, energy.idle_share),
            estimated: energy.estimated,
            tier: "rusage".to_owned(),
            membership: "descent".to_owned(),
            measured_by: MeasuredBy::PlainUser,
            meters: energy.meters,
            own: Own {
                cpu_seconds: meters.own_cpu().as_secs_f64(),
                energy_joules: energy.own,
            },
            notes: energy.notes,
            part_of: None,
            traceparent: None,
            carbon: RunCarbon::default(),
        }
    }
}

impl Energy {
    fn new(by_domain: &api::ByDomain, idle_share: f64) -> Self {
        let part = |domain: &str| by_domain.get(domain).copied().unwrap_or(0.0);
        Self {
            total: energy::total(by_domain),
            package: part("package"),
            dram: part("dram"),
            gpu: part("gpu"),
            idle_share,
        }
    }
}

impl From<api::JobMeter> for MeterShare {
    fn from(meter: api::JobMeter) -> Self {
        Self {
            name: meter.name,
            domain: meter.domain,
            source: meter.source,
            joules: meter.joules,
        }
    }
}

impl MeasuredBy {
    /// As `measured_by` has it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::PrivateAgent => "private-agent",
            Self::PlainUser => "plain-user",
        }
    }

    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Agent => "the node's agent",
            Self::PrivateAgent => "a private agent",
            Self::PlainUser => "eco as a plain user (no agent)",
        }
    }
}

/// Where the JSON goes.
pub(crate) enum JsonTarget {
    /// To stdout.
    Stdout,
    /// A regular file, replaced as a whole.
    File(PathBuf),
    /// Something that must not be replaced: a device, a pipe.
    Special(PathBuf),
}

impl JsonTarget {
    /// Checks, before the command runs, that the file can be written.
    pub(crate) fn prepare(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let cannot = |error: &io::Error| {
            Failure::absent(format!(
                "--json {}: cannot be written: {error}; nothing was run",
                path.display()
            ))
        };
        match fs::metadata(path) {
            Ok(data) if data.is_dir() => {
                return Err(Failure::usage(format!(
                    "--json {}: is a directory; name a file",
                    path.display()
                )));
            }
            Ok(data) if !data.is_file() => return Ok(Self::Special(path.to_owned())),
            _ => {}
        }
        // The file that a link names is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = beside(&path);
        create(&temporary).map_err(|error| cannot(&error))?;
        let _ = fs::remove_file(&temporary);
        Ok(Self::File(path))
    }

    /// Writes the report. If that fails, it goes to stderr rather than be lost.
    pub(crate) fn write(&self, report: &Report) -> Result<(), Failure> {
        let text = out::json(report)?;
        let (path, written) = match self {
            Self::Stdout => return out::print(&text),
            Self::File(path) => (path, replace(path, text.as_bytes())),
            Self::Special(path) => (
                path,
                OpenOptions::new()
                    .write(true)
                    .open(path)
                    .and_then(|mut file| file.write_all(text.as_bytes())),
            ),
        };
        written.map_err(|error| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
            Failure::absent(format!(
                "--json {}: {error}; the result is above instead",
                path.display()
            ))
        })
    }
}

/// Puts a whole new file in the place of another, or leaves that as it was.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    let written = create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(seen: f64, booked: f64) -> Measured {
        let job = api::Job {
            cpu_seconds: seen,
            processes_exact: true,
            energy_joules: [("package".to_owned(), 10.0)].into(),
            ..api::Job::default()
        };
        Measured::from_agent(MeasuredBy::Agent, job, Duration::from_secs_f64(booked))
    }

    #[test]
    fn cpu_time_that_an_agent_missed_is_added_at_its_own_price_and_labelled() {
        let measured = corrected(4.0, 5.0);
        assert_eq!(
            (measured.cpu_seconds, measured.energy_joules.total),
            (5.0, Some(12.5))
        );
        assert!(measured.estimated && !measured.processes_exact && measured.notes.len() == 1);
    }

    #[test]
    fn an_agent_that_saw_all_or_more_is_believed() {
        for (seen, booked) in [(5.0, 5.0), (4.999, 5.0), (5.1, 5.0), (0.0, 0.009)] {
            let measured = corrected(seen, booked);
            assert_eq!(
                (measured.cpu_seconds, measured.energy_joules.total),
                (seen, Some(10.0))
            );
            assert!(!measured.estimated && measured.notes.is_empty());
            assert!(measured.processes_exact);
        }
    }

    #[test]
    fn an_agent_that_saw_nothing_gives_no_price_but_finite_numbers() {
        let measured = corrected(0.0, 1.0);
        assert_eq!(
            (measured.cpu_seconds, measured.energy_joules.total),
            (1.0, Some(10.0))
        );
    }

    #[test]
    fn a_target_is_checked_before_anything_runs() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no/such/file.json");
        assert_eq!(JsonTarget::prepare(&missing).err().unwrap().status, 3);
        assert_eq!(
            JsonTarget::prepare(directory.path()).err().unwrap().status,
            2
        );
        let fine = directory.path().join("a.json");
        assert!(JsonTarget::prepare(&fine).is_ok());
        assert!(!fine.exists(), "the check leaves nothing");
        assert!(matches!(
            JsonTarget::prepare(Path::new("/dev/null")),
            Ok(JsonTarget::Special(_))
        ));
    }

    #[test]
    fn replacing_follows_a_link_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (
            directory.path().join("a.json"),
            directory.path().join("link"),
        );
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let Ok(JsonTarget::File(path)) = JsonTarget::prepare(&link) else {
            panic!("a file")
        };
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
