// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing a recording.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use eco_agent::api::Units;
use serde::Serialize;

use super::{ById, Header, Line, SCHEMA, id};
use crate::exit::Failure;

/// Pictures from one that is whole to the next.
const WHOLE_EACH: u64 = 60;

/// A recording that is being written.
pub(crate) struct Recorder {
    path: PathBuf,
    file: File,
    interval: Duration,
    pictures: u64,
    before: ById,
}

impl Recorder {
    /// A new file; one that is there already is not touched. It shows everybody's processes, so
    /// only its owner may read it.
    pub(crate) fn create(path: &Path, interval: Duration) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(format!(
                "{} is there already; name a new file, or remove it",
                path.display()
            )),
            _ => Failure::absent(format!("{}: cannot be written: {error}", path.display())),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            interval,
            pictures: 0,
            before: ById::new(),
        })
    }

    /// Where it is written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a picture of the whole machine. A picture that cannot be written ends the recording:
    /// what is before it can be replayed.
    pub(crate) fn record(&mut self, whole: &Units, tier: &str) -> io::Result<()> {
        if self.pictures == 0 {
            self.write(&Header {
                schema: SCHEMA.into(),
                eco: env!("CARGO_PKG_VERSION").into(),
                tier: tier.into(),
                interval_seconds: self.interval.as_secs_f64(),
            })?;
        }
        let now: ById = whole.units.iter().map(|u| (id(u), u.clone())).collect();
        let is_whole = self.pictures.is_multiple_of(WHOLE_EACH);
        let differs = |id: &String| is_whole || self.before.get(id) != now.get(id);
        let units = now.iter().filter(|(id, _)| differs(id));
        let line = Line {
            whole: is_whole,
            at: whole.at.clone(),
            window_seconds: whole.window_seconds,
            node: whole.node.clone(),
            units: units.map(|(_, unit)| unit.clone()).collect(),
            gone: self
                .before
                .keys()
                .filter(|id| !is_whole && !now.contains_key(*id))
                .cloned()
                .collect(),
        };
        self.write(&line)?;
        self.before = now;
        self.pictures += 1;
        Ok(())
    }

    /// What to tell of a recording that could not go on.
    pub(crate) fn ended_by(&self, error: &io::Error) -> String {
        format!(
            "{}: not recorded any more: {error}; its {} pictures can be replayed",
            self.path.display(),
            self.pictures
        )
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}
