// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco calibrate`: fits the power model of this machine to what a true meter shows.

mod load;
mod measure;
mod report;
mod wall;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use eco_meter::{
    Finding, Options, discover,
    model::{
        activity::Activity,
        fit::{self, Fit, Point},
    },
    profile::{self, Machine, Profile, ProfileError},
};
use jiff::Timestamp;

use self::{
    load::Step,
    measure::{Measured, Meters},
    report::{Plan, Report, Row},
    wall::Log,
};
use crate::{
    exit::{self, Failure, Outcome},
    out::{self, Style, printable},
};

/// The measurement is worth nothing: a negative answer.
const REFUSED: u8 = 1;

const HELP: &str = "\
The load: idle, then 1 CPU, half and all of them kept busy, at the frequencies that the governor
gives. Stop other work meanwhile. Fitted without negative coefficients:
  W = idle + busy CPU x busy CPUs x frequency share + active core x active cores
The error shown is that of each step predicted from the others.

A wall meter writes CSV, while the load runs or to be exported after it. Its first line names
the columns: time (RFC 3339, or Unix seconds) and watts; others are not looked at.
  time,watts
  2026-11-25T05:00:00Z,61.3
Its clock must agree with this machine's. Odd rows and gaps are told with their lines.

An agent that finds no meter uses the profile, as its key model.profile names it, if it is of
this machine: CPU model and count. A management controller over Redfish is not asked here.

Exit status: 0 fitted; 1 measured, but the fit is worth nothing; 2 wrong usage or CSV; 3 no true
meter, or a place that cannot be written.

Examples:
  sudo eco calibrate
  sudo eco calibrate --wall meter.csv --seconds 60
  eco calibrate --from rapl --output model.toml --json";

/// Fit the power model of this machine to a true meter, by a short guided load.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct CalibrateArgs {
    /// The true meter: any that is found, RAPL only, or a wall meter's CSV (with --wall).
    #[arg(long, value_enum, default_value_t = From::Auto)]
    from: From,

    /// The wall meter's log; means --from csv.
    #[arg(long, value_name = "FILE.csv")]
    wall: Option<PathBuf>,

    /// Seconds for which each step is measured: 2 to 3600.
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(2..=3_600))]
    seconds: u32,

    /// Show the meter and the steps; load, measure and save nothing.
    #[arg(long)]
    dry_run: bool,

    /// Write JSON: the steps, the profile or why it was refused.
    #[arg(long)]
    json: bool,

    /// Where to save the profile.
    #[arg(long, value_name = "FILE", default_value = profile::DEFAULT_FILE)]
    output: PathBuf,

    /// Where meters and CPUs are looked for.
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,

    /// Where CPU time is read.
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    procfs: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Auto,
    Rapl,
    Csv,
}

/// Calibrates.
pub(crate) fn main(args: &CalibrateArgs) -> Outcome {
    let wall = wall_file(args)?;
    let (mut meters, source) = match wall {
        Some(path) => (
            Meters::default(),
            format!("a wall meter ({})", path.display()),
        ),
        None => {
            let meters = true_meters(args)?;
            let source = meters.describe();
            (meters, source)
        }
    };
    let mut activity = Activity::find(&args.procfs, &args.sysfs);
    let cpus = load::allowed_cpus().map_err(|error| {
        Failure::absent(format!("the CPUs of this process cannot be told: {error}"))
    })?;
    let steps = load::plan(&cpus, &activity);
    let length = Duration::from_secs(u64::from(args.seconds));
    if args.dry_run {
        return show_plan(args, source, &steps, length);
    }
    profile::check_writable(&args.output).map_err(|error| not_saved(&error))?;
    let mut measured = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let shown = |left| show_progress(index, steps.len(), step, left);
        measured.push(measure::measure(
            step,
            length,
            &mut activity,
            &mut meters,
            &shown,
        )?);
    }
    end_progress();
    let mut notes = Vec::new();
    if let Some(path) = wall {
        notes = take_from_wall(path, &steps, &mut measured)?;
    }
    if let Some(period) = meters.too_slow_for(length) {
        notes.push(format!(
            "the meter brings a new value every {:.1} s only: steps of {} s or more (--seconds) \
             are better",
            period.as_secs_f64(),
            (period.as_secs_f64() * 10.0).ceil()
        ));
    }
    let machine = Machine::detect(&args.procfs, &args.sysfs);
    if (cpus.len() as u64) < u64::from(machine.cpus) {
        notes.push(format!(
            "this process may use {} of {} CPUs only: full load was not measured",
            cpus.len(),
            machine.cpus
        ));
    }
    let fit = fit::fit(&points(&measured), cpus.len() as u32);
    let report = Report {
        source,
        steps: steps
            .iter()
            .zip(&measured)
            .map(|(s, m)| Row::new(s, m))
            .collect(),
        profile: None,
        refused: None,
        saved: None,
        notes,
    };
    match fit {
        Ok(fit) => save(args, report, &fit, machine),
        Err(why) => refuse(args, report, why.to_string()),
    }
}

fn save(args: &CalibrateArgs, mut report: Report, fit: &Fit, machine: Machine) -> Outcome {
    let profile = Profile {
        version: profile::VERSION,
        date: now(),
        source: printable(&report.source).into_owned(),
        machine,
        coefficients: fit.coefficients,
        error: fit.error,
    };
    profile
        .write(&args.output)
        .map_err(|error| not_saved(&error))?;
    report.saved = Some(args.output.display().to_string());
    report.profile = Some(profile);
    show(args, &report).map(|()| exit::DONE)
}

fn refuse(args: &CalibrateArgs, mut report: Report, why: String) -> Outcome {
    report.refused = Some(why.clone());
    show(args, &report)?;
    Err(Failure {
        status: REFUSED,
        message: format!("nothing was saved: {why}"),
    })
}

fn show(args: &CalibrateArgs, report: &Report) -> Result<(), Failure> {
    if args.json {
        out::print_json(report)
    } else {
        out::print(&report.render(Style::of(&io::stdout())))
    }
}

fn show_plan(args: &CalibrateArgs, source: String, steps: &[Step], length: Duration) -> Outcome {
    let plan = Plan {
        source,
        steps: steps.iter().map(|step| step.name.clone()).collect(),
        seconds: (length + measure::settling(length)).as_secs_f64() * steps.len() as f64,
        output: args.output.display().to_string(),
    };
    if args.json {
        out::print_json(&plan)?;
    } else {
        out::print(&plan.render())?;
    }
    Ok(exit::DONE)
}

/// The log of the wall meter, if that is the true meter.
fn wall_file(args: &CalibrateArgs) -> Result<Option<&Path>, Failure> {
    let path = match (args.from, &args.wall) {
        (From::Rapl, Some(_)) => {
            return Err(Failure::usage(
                "--from rapl and --wall name two meters; give one of them",
            ));
        }
        (From::Csv, None) => {
            return Err(Failure::usage(
                "--from csv needs the wall meter's log: --wall FILE.csv",
            ));
        }
        (_, wall) => wall.as_deref(),
    };
    // A person can still export it after the load; a script cannot.
    if let Some(path) = path.filter(|_| !can_ask() && !args.dry_run) {
        File::open(path).map_err(|error| {
            Failure::usage(format!(
                "{}: {error}; the meter must write to it while the load runs",
                path.display()
            ))
        })?;
    }
    Ok(path)
}

fn true_meters(args: &CalibrateArgs) -> Result<Meters, Failure> {
    let found = discover(&Options {
        sysfs: args.sysfs.clone(),
        procfs: args.procfs.clone(),
        ..Options::default()
    });
    Meters::choose(found, args.from == From::Rapl).map_err(|findings| {
        let mut message = if args.from == From::Rapl {
            "no RAPL counter that this user may read".to_owned()
        } else {
            "no true meter that this user may read".to_owned()
        };
        for finding in findings.iter().filter(|finding| finding.place != "model") {
            let Finding {
                place,
                what,
                advice,
            } = finding;
            message += &format!("\n  {place}: {what}. {advice}")
                .trim_end()
                .replace("..", ".");
        }
        message += "\nWith a wall meter that logs to a file (columns time,watts):\n  \
            eco calibrate --wall FILE.csv\nSee eco calibrate --help for its format.";
        Failure::absent(message)
    })
}

/// Puts the wall meter's watts to the steps, and gives what was odd in its log.
fn take_from_wall(
    path: &Path,
    steps: &[Step],
    measured: &mut [Measured],
) -> Result<Vec<String>, Failure> {
    if can_ask() {
        let shown = path.display();
        exit::warn(&format!(
            "the load is done. See that the wall meter's log is in {shown}, then press Enter."
        ));
        // Whatever comes, even an end of input, the log is read next.
        let _ = io::stdin().read_line(&mut String::new());
    }
    let log = Log::read(path).map_err(Failure::usage)?;
    for (step, measured) in steps.iter().zip(measured) {
        let (from, to) = measured.span;
        measured.watts = log.mean_watts(from, to).map_err(|why| {
            Failure::usage(format!("{}: step {:?}: {why}", path.display(), step.name))
        })?;
    }
    Ok(log.notes)
}

fn points(measured: &[Measured]) -> Vec<Point> {
    let point = |measured: &Measured| Point {
        busy_cpus: measured.busy_cpus,
        frequency: measured.frequency,
        active_cores: measured.active_cores,
        watts: measured.watts,
    };
    measured.iter().map(point).collect()
}

fn not_saved(error: &ProfileError) -> Failure {
    Failure::absent(format!(
        "{error}; run it as root, or name another file with --output"
    ))
}

fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn show_progress(index: usize, count: usize, step: &Step, left: Duration) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        let seconds = left.as_secs_f64().ceil();
        // A terminal that has gone takes the progress with it, not the measurement.
        let _ = write!(
            stderr,
            "\r\x1b[Kstep {} of {count}: {}, {seconds:.0} s left",
            index + 1,
            step.name
        );
        let _ = stderr.flush();
    }
}

fn end_progress() {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K");
    }
}
