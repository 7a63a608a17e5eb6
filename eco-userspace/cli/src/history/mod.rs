// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco history`: commands and jobs that have ended.

mod compare;
pub(crate) mod place;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use eco_history::{
    file::{self, FileError},
    run::{self, KeptRun, UnixMillis, Wanted},
    rusqlite::Connection,
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;

use crate::{
    exit::{self, Failure, Outcome},
    out::{self, printable},
};

const HELP: &str = "\
`eco run` keeps each run in its user's own file, which nobody else can read:
$XDG_STATE_HOME/eco/carbon_history.db, else ~/.local/state/eco/. --node shows what the node's agent
has kept of all users' jobs instead. The file is SQLite: docs/history.md.

TIME is a span back from now (90s, 2h, 7d), a day (2026-11-25) or RFC 3339.

Examples:
  eco history --since 7d --name train
  eco history show 12
  eco history compare 11 12
  eco history --since 2026-11-01 --format json";

/// What past runs have used.
#[derive(Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
    /// Another file.
    #[arg(long, value_name = "FILE", global = true)]
    history: Option<PathBuf>,
    /// The file of the node's agent, for administrators.
    #[arg(long, global = true, conflicts_with = "history")]
    node: bool,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    format: Format,
}

#[derive(Subcommand)]
enum Action {
    /// All that is known of one run.
    Show {
        /// Its number in the list.
        id: i64,
    },
    /// Two runs side by side: what differs, and by how much.
    Compare {
        /// The number of the one.
        one: i64,
        /// The number of the other.
        other: i64,
    },
}

#[derive(Args)]
struct ListArgs {
    /// Begun at that time or later.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<UnixMillis>,
    /// Begun before that time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<UnixMillis>,
    /// Of that name.
    #[arg(long)]
    name: Option<String>,
    /// That user's.
    #[arg(long)]
    user: Option<String>,
    /// So many of the latest; 0: all.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    most: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: schema eco.history/1, the latest first; energy in µJ, CPU time in ns, carbon
    /// in ng, times in Unix ms.
    Json,
}

/// What `--format json` writes.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    runs: &'a [KeptRun],
}

/// Shows what is asked for.
pub(crate) fn main(args: &HistoryArgs) -> Outcome {
    let Some(file) = opened(args)? else {
        return none_yet(args);
    };
    let (db, path) = &file;
    let failed = |why| Failure::absent(FileError::of(path, why).to_string());
    let find = |id: i64| -> Result<KeptRun, Failure> {
        run::find(db, id).map_err(failed)?.ok_or_else(|| {
            let why = "`eco history --most 0` lists them all";
            Failure::absent(format!("{}: no run {id}; {why}", path.display()))
        })
    };
    match args.action {
        None => {
            let runs = run::list(db, &args.list.wanted()).map_err(failed)?;
            match args.format {
                Format::Table => out::print(&table::list(&runs))?,
                Format::Json => print_json(&runs)?,
            }
        }
        Some(Action::Show { id }) => {
            let run = find(id)?;
            match args.format {
                Format::Table => out::print(&table::one(&run))?,
                Format::Json => print_json(&[run])?,
            }
        }
        Some(Action::Compare { one, other }) => {
            let runs = [find(one)?, find(other)?];
            match args.format {
                Format::Table => out::print(&compare::text(&runs))?,
                Format::Json => print_json(&runs)?,
            }
        }
    }
    Ok(exit::DONE)
}

fn print_json(runs: &[KeptRun]) -> Result<(), Failure> {
    out::print_json(&Document {
        schema: "eco.history/1",
        runs,
    })
}

/// The file and where it is; `None` where nothing was ever kept.
fn opened(args: &HistoryArgs) -> Result<Option<(Connection, PathBuf)>, Failure> {
    let is_named = args.history.is_some();
    let path = match &args.history {
        Some(path) => path.clone(),
        None if args.node => PathBuf::from(place::NODE),
        None => place::own().ok_or_else(|| {
            Failure::absent(
                "neither HOME nor XDG_STATE_HOME says where your history is; name it with --history",
            )
        })?,
    };
    match file::open_to_read(&path) {
        Ok(db) => Ok(Some((db, path))),
        Err(FileError::Absent(_)) if !is_named => Ok(None),
        Err(why) => Err(Failure::absent(why.to_string())),
    }
}

fn none_yet(args: &HistoryArgs) -> Outcome {
    if args.format == Format::Json {
        print_json(&[])?;
        return Ok(exit::DONE);
    }
    let next = match args.node {
        true => {
            "is the agent running, and is its history where it always is? --history names another"
        }
        false => "`eco run -- CMD` begins it",
    };
    out::print(&format!("No runs yet: {next}.\n"))?;
    Ok(exit::DONE)
}

impl ListArgs {
    fn wanted(&self) -> Wanted {
        Wanted {
            since_ms: self.since,
            until_ms: self.until,
            name: self.name.clone(),
            user: self.user.clone(),
            most: (self.most > 0).then_some(self.most),
        }
    }
}

/// A span back from now, a day, or a moment.
fn moment(text: &str) -> Result<UnixMillis, String> {
    if let Some(ago) = eco_agent::config::parse_duration(text) {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp::now().as_millisecond().saturating_sub(ago));
    }
    let at = match text.parse::<Timestamp>() {
        Ok(at) => Some(at),
        Err(_) => text.parse::<Date>().ok().and_then(|day| {
            let begins = day.to_zoned(TimeZone::system()).ok()?;
            Some(begins.timestamp())
        }),
    };
    at.map(Timestamp::as_millisecond).ok_or_else(|| {
        format!(
            "`{}` is no time; give a span (2h, 7d), a day (2026-11-25) or RFC 3339",
            printable(text)
        )
    })
}
