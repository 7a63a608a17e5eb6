// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco top`: who uses the machine's power now.

mod feed;
mod history;
mod input;
mod kind;
mod model;
mod mouse;
mod once;
mod picture;
mod place;
mod recording;
mod replay;
mod rows;
mod screen;
mod terminal;
mod view;
#[cfg(test)]
mod view_tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use self::{
    feed::Top,
    kind::Kind,
    recording::{Recorder, Recording},
    screen::{Show, Source},
};
use crate::{
    client::{Client, ClientError},
    exit::{self, Failure, Outcome},
    private_agent::PrivateAgent,
    signals,
};

const HELP: &str = "\
Keys are as in htop; F1 shows them. With --json alone, a line of JSON per interval.

Where no agent listens, the screen is fed by a private one, which ends with it: as root it counts
through the kernel, as any other user it sees what that user may see.

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

    /// Draw the last picture of a replay into FILE, as SVG, instead of showing it.
    #[arg(long, value_name = "FILE", requires = "replay", hide = true)]
    picture: Option<PathBuf>,

    /// Leave the mouse to the terminal, which marks text with it.
    #[arg(long, conflicts_with_all = ["once", "json"])]
    no_mouse: bool,
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
    let show = Show {
        kind: args.kind,
        top: args.top.map_or(Top::Usual(1_000), Top::AtMost),
        mouse: !args.no_mouse,
    };
    if let Some(path) = &args.replay {
        // What is wrong with the file is worth saying first: a terminal does not mend it.
        let recording = Recording::open(path)?;
        if let Some(file) = &args.picture {
            return picture::save(recording, &show, file).map(|()| exit::DONE);
        }
        terminal::check()?;
        signals::block_ends();
        return screen::replay(&show, recording);
    }
    terminal::check()?;
    // From here on whatever is started is also ended.
    let mask = signals::block_ends();
    let private = private_agent(socket, &mask)?;
    let recorder = match &args.record {
        Some(path) => Some(Recorder::create(path, args.interval)?),
        None => None,
    };
    let source = Source {
        socket: private.as_ref().map_or(socket.to_owned(), |p| p.socket()),
        is_private: private.is_some(),
        interval: args.interval,
        recorder,
    };
    screen::run(&show, source)
}

/// An agent for this view alone, where none listens.
fn private_agent(socket: &Path, mask: &libc::sigset_t) -> Result<Option<PrivateAgent>, Failure> {
    let Err(ClientError::NoAgent(_)) = Client::new(socket)?.status() else {
        // One that refuses or is broken is shown as such, and may get better.
        return Ok(None);
    };
    let started = PrivateAgent::start(mask).map_err(|why| {
        Failure::absent(format!(
            "no agent listens on {}, and no private one could be started: {why}; start one with \
             `sudo eco-agent`, or name another socket with --socket",
            socket.display()
        ))
    });
    started.map(|(agent, _)| Some(agent))
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
