// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco top`: who uses the machine's power now.

mod feed;
mod history;
mod input;
mod kind;
mod model;
mod once;
mod place;
mod recording;
mod replay;
mod rows;
mod screen;
mod view;
#[cfg(test)]
mod view_tests;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use self::{
    feed::Top,
    kind::Kind,
    recording::{Recorder, Recording},
};
use crate::{
    client::Client,
    exit::{self, Failure, Outcome},
};

const HELP: &str = "\
Keys are as in htop; F1 shows them. With --json alone, a line of JSON per interval.

Examples:
  eco top
  eco top --kind pod                         # Enter goes into one, Backspace back
  eco top --record night.ecotop              # and later: eco top --replay night.ecotop
  eco top --once --json | jq '.units[0]'";

/// Who uses the machine's power now.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct TopArgs {
    /// Print one table and end; works without a terminal.
    #[arg(long)]
    once: bool,

    /// Write JSON (the agent's units) instead of a screen.
    #[arg(long)]
    json: bool,

    /// Seconds between two pictures, and that each is the mean of: 0.1 to 3600.
    #[arg(long, short, value_name = "S", default_value = "1", value_parser = interval)]
    interval: Duration,

    /// What to list.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Kind::Process)]
    kind: Kind,

    /// At most so many units; 20 with --once, 1000 on the screen.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    top: Option<u32>,

    /// Also write each picture to a new FILE.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "json", "replay"])]
    record: Option<PathBuf>,

    /// Show what was recorded, instead of what is now.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "json", "interval"])]
    replay: Option<PathBuf>,
}

/// Shows the view.
pub(crate) fn main(socket: &Path, args: &TopArgs) -> Outcome {
    if args.once {
        let top = args.top.unwrap_or(20);
        let units = Client::new(socket)?.units(args.kind.label(), top, args.interval)?;
        return once::print(&units, args.kind, args.json).map(|()| exit::DONE);
    }
    if args.json {
        return once::follow(socket, args.kind, args.top.unwrap_or(20), args.interval);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "eco top: this is no terminal; use --once for one table, or --json for programs",
        ));
    }
    let top = args.top.map_or(Top::Usual(1_000), Top::AtMost);
    if let Some(path) = &args.replay {
        return screen::replay(Recording::open(path)?, args.kind, top);
    }
    let recorder = match &args.record {
        Some(path) => Some(Recorder::create(path, args.interval)?),
        None => None,
    };
    screen::run(socket, args.kind, top, args.interval, recorder)
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=3_600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be between 0.1 and 3600 seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_sane_number_of_seconds() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "NaN", "inf", "3601", "1s", ""] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
