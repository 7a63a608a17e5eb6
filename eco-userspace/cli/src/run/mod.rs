// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco run`: runs a command as a job, and says what it used.

mod account;
mod carbon;
mod cgroup;
mod child;
mod job;
mod launcher;
mod part;
mod plain;
mod record;
mod revision;
mod summary;
mod supervise;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use eco_intensity::zones::{self, Zone};
use eco_usage::reaper::Reaper;
use jiff::Timestamp;

use self::{
    account::{JsonTarget, Report, Started},
    child::{SpawnError, Spawned},
    job::Job,
    launcher::Launch,
    plain::PlainMeters,
    record::Record,
    supervise::{Ended, Supervisor},
};
use crate::{
    exit::{self, Failure, Outcome, warn},
    out::printable,
    signals::Signals,
};

/// In bytes; the agent takes no longer ones.
const LONGEST_NAME: usize = 256;

const HELP: &str = "\
CMD keeps its stdin, stdout and stderr, gets the signals that eco gets, and eco exits with its
status: 128 + n when signal n killed it, 126 when it could not be run, 127 when there is no such
command. The summary goes to stderr.

The job is CMD and all that descends from it, also what outlives it: eco waits for those too,
because their joules belong to the job (--no-wait does not).

If FILE of --json cannot be written, eco says so before it starts CMD and exits 3. If writing
fails only afterwards, the object goes to stderr instead, and eco exits 3 if CMD exited 0.

Example:
  eco run --name train --json run.json -- python train.py";

/// Run a command and measure its energy.
#[derive(Args)]
#[command(after_help = HELP, override_usage = "eco run [OPTIONS] -- <CMD>...")]
pub(crate) struct RunArgs {
    /// A name for the job; the command's own if absent.
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    name: Option<String>,

    /// The job that this run is a part of: runs of one id are one job, on however many nodes.
    /// Without it, the job of Slurm, Kubernetes, torchrun or mpirun that this runs in, if any.
    #[arg(long, value_name = "ID", env = "ECO_JOB", value_parser = job_name)]
    job: Option<String>,

    /// Write the result as JSON (schema eco.run/1); `-` is stdout.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Do not wait for processes that outlive the command.
    #[arg(long)]
    no_wait: bool,

    /// Count carbon at the yearly average of this zone (DE, US-CA; `eco intensity zones`), and
    /// not at the intensity that the agent knows.
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    region: Option<&'static Zone>,

    /// A setting of the run, kept with it in your history (`eco history`); may be given again.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,

    /// A file that CMD writes: a JSON object of numbers (accuracy, loss), kept with the run.
    #[arg(long, value_name = "FILE", conflicts_with = "no_history")]
    metrics: Option<PathBuf>,

    /// Keep nothing of this run in your history.
    #[arg(long, conflicts_with = "parameters")]
    no_history: bool,

    /// No summary on stderr.
    #[arg(long, short)]
    quiet: bool,

    /// Who measures.
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Measure::Auto)]
    measure: Measure,

    /// The command and its arguments.
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Who measures a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// The agent if one runs, else a private one if this user may, else eco itself.
    Auto,
    /// The agent that listens on the socket, or nobody.
    Agent,
    /// An agent for this run only, or nobody.
    Private,
    /// eco itself, with what any user can see.
    Plain,
}

/// Runs the command line's job.
pub(crate) fn main(socket: &Path, args: RunArgs) -> Outcome {
    let target = args.json.as_deref().map(JsonTarget::prepare).transpose()?;
    let record = match args.no_history {
        true => None,
        false => Record::begin(&args.parameters, args.metrics.as_deref())?,
    };
    let signals = Signals::take().map_err(|e| system("signals cannot be blocked", &e))?;
    let mut reaper = Reaper::new(Path::new("/proc"))
        .map_err(|e| system("this process cannot become a child subreaper", &e))?;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| command_name(&args.command));
    let launch = Launch::find(args.job.as_deref(), |name| std::env::var(name).ok());
    let mut job = Job::open(socket, args.measure, &name, launch, &mut reaper, &signals)?;
    let mut meters = PlainMeters::detect();
    // A Ctrl-C from before there was a command has not reached it, and means eco.
    if let Some(signal) = signals.pending_end() {
        job.abandon();
        return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }

    let started = Started {
        at: Timestamp::now(),
        clock: Instant::now(),
    };
    meters.start();
    let ended = match start(&args.command, &signals, &mut reaper, &mut job) {
        Ok(pid) => Supervisor {
            main: pid,
            name: &name,
            signals: &signals,
            reaper: &mut reaper,
            meters: &mut meters,
            job: &mut job,
            wait: !args.no_wait,
        }
        .run()
        .map_err(|e| system("waiting for the command failed", &e))?,
        Err(error) => {
            warn(&error.to_string());
            Ended::not_started(error.shell_status())
        }
    };
    let ran = ended.main_pid.is_some();
    let measured = job.close(&mut reaper, &meters, &ended);
    let report = Report::new(name, &args.command, started, &ended, measured, args.region);

    if ran && !args.quiet {
        summary::print(&report);
    }
    if let Some(record) = record.filter(|_| ran) {
        let troubles = record.keep(&report, [started.at, ended.at]);
        troubles.iter().for_each(|trouble| warn(trouble));
    }
    let status = u8::try_from(ended.status).unwrap_or(u8::MAX);
    let Some(target) = target else {
        return Ok(status);
    };
    match target.write(&report) {
        Ok(()) => Ok(status),
        Err(failure) => {
            warn(&failure.message);
            Ok(if status == exit::DONE {
                exit::ABSENT
            } else {
                status
            })
        }
    }
}

/// Starts the command in the job's cgroup, or without it where the kernel does not want that.
fn start(
    command: &[OsString],
    signals: &Signals,
    reaper: &mut Reaper,
    job: &mut Job,
) -> Result<i32, SpawnError> {
    let spawned = child::spawn(command, signals, job.cgroup_procs(), job.traceparent())?;
    match spawned {
        Spawned::Running(pid) => Ok(pid),
        Spawned::CgroupRefused(error) => {
            job.leave_cgroup(reaper, &error);
            match child::spawn(command, signals, None, job.traceparent())? {
                Spawned::Running(pid) => Ok(pid),
                Spawned::CgroupRefused(error) => Err(SpawnError::new(command, error)),
            }
        }
    }
}

fn command_name(command: &[OsString]) -> String {
    let program = command
        .first()
        .map(Path::new)
        .unwrap_or_else(|| Path::new(""));
    let name = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy();
    let mut name = printable(&name).into_owned();
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}

/// A name that the agent and the labels of its metrics take.
fn job_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "give 1 to {LONGEST_NAME} bytes without control characters"
        ));
    }
    Ok(name.to_owned())
}

/// A setting, as its user names it.
fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if job_name(name).is_ok() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE, such as lr=0.001".to_owned()),
    }
}

fn zone(code: &str) -> Result<&'static Zone, zones::UnknownZone> {
    zones::find(code)
}

fn system(what: &str, error: &std::io::Error) -> Failure {
    Failure::absent(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_command_gives_a_name_that_an_agent_takes() {
        for command in ["/usr/bin/make", "..", "", "a\nb", &"é".repeat(300)] {
            let name = command_name(&[command.into()]);
            assert!(
                name.len() <= LONGEST_NAME && !name.contains('\n'),
                "{command:?}"
            );
        }
        assert_eq!(command_name(&["/usr/bin/make".into()]), "make");
    }

    #[test]
    fn a_name_of_ones_own_must_be_sane() {
        assert_eq!(job_name("träin 1"), Ok("träin 1".to_owned()));
        for bad in ["", "a\tb", &"x".repeat(257)] {
            assert!(job_name(bad).is_err(), "{bad:?}");
        }
    }
}
