// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading a recording, which may be cut off, or no recording at all.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use eco_agent::api::Units;
use jiff::Timestamp;
use serde::Deserialize;

use super::{ById, Header, Line, SCHEMA, SCHEMA_FAMILY, id};
use crate::{exit::Failure, out::printable};

/// More than a picture of 100,000 processes takes.
const LONGEST_LINE: u64 = 256 << 20;
const LONGEST_HEADER: u64 = 64 << 10;

/// A recording that can be played.
pub(crate) struct Recording {
    file: BufReader<File>,
    header: Header,
    index: Vec<Indexed>,
    trouble: Option<String>,
    /// The picture that `units` are of.
    shown: Option<usize>,
    units: ById,
}

/// Where a picture is.
struct Indexed {
    offset: u64,
    whole: bool,
    at: Option<Timestamp>,
}

/// As much of a line as an index needs. That the rest is sound shows when it is played.
#[derive(Deserialize)]
struct Outline {
    whole: bool,
    at: String,
}

impl Recording {
    /// Opens a file and looks through it once.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let bad = |what: &str| Failure::usage(format!("{}: {what}", path.display()));
        let file = File::open(path).map_err(|error| bad(&error.to_string()))?;
        let metadata = file.metadata().map_err(|error| bad(&error.to_string()))?;
        if !metadata.is_file() {
            return Err(bad("is no plain file; a replay goes back and forth in it"));
        }
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        let read = read_line(&mut file, &mut line, LONGEST_HEADER);
        read.map_err(|error| bad(&error.to_string()))?;
        let header = header(&line).map_err(|why| bad(&why))?;
        let mut recording = Self {
            file,
            header,
            index: Vec::new(),
            trouble: None,
            shown: None,
            units: ById::new(),
        };
        recording.look_through(u64::try_from(line.len()).unwrap_or(u64::MAX));
        if recording.index.is_empty() {
            let why = recording.trouble.take();
            let why = why.unwrap_or_else(|| "it ends behind its first line".to_owned());
            return Err(bad(&format!("has no picture to play: {why}")));
        }
        Ok(recording)
    }

    /// What the file says of itself.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// How many pictures can be played.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// What is wrong with the rest of the file, if anything is.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// When a picture was taken, if it says so.
    pub(crate) fn at(&self, picture: usize) -> Option<Timestamp> {
        self.index.get(picture)?.at
    }

    /// The picture of that number, from 0. One that cannot be read is the end of the recording,
    /// and says why.
    pub(crate) fn picture(&mut self, number: usize) -> Result<Units, String> {
        let number = number.min(self.len().saturating_sub(1));
        let from_shown = self.shown.filter(|&shown| shown < number);
        let start_of = |at: usize| {
            let mut before = (0..=at).rev();
            before.find(|&at| self.index[at].whole).unwrap_or(0)
        };
        // On from what is shown, unless a whole picture is nearer.
        let first = from_shown.map_or(start_of(number), |at| (at + 1).max(start_of(number)));
        let mut last = Line::default();
        for at in first..=number {
            last = self.line(at)?;
            self.shown = None;
            if last.whole {
                self.units.clear();
            }
            for gone in last.gone.drain(..) {
                self.units.remove(&gone);
            }
            for unit in last.units.drain(..) {
                self.units.insert(id(&unit), unit);
            }
        }
        self.shown = Some(number);
        Ok(Units {
            at: last.at,
            window_seconds: last.window_seconds,
            node: last.node,
            units: self.units.values().cloned().collect(),
        })
    }

    fn look_through(&mut self, mut offset: u64) {
        let mut text = Vec::new();
        loop {
            let read = read_line(&mut self.file, &mut text, LONGEST_LINE);
            let why = match read {
                Ok(()) if text.is_empty() => return,
                Ok(()) if !text.ends_with(b"\n") => "it is cut off in the middle of a line".into(),
                Ok(()) => match serde_json::from_slice::<Outline>(&text) {
                    Ok(outline) => {
                        self.index.push(Indexed {
                            offset,
                            whole: outline.whole,
                            at: outline.at.parse().ok(),
                        });
                        offset += text.len() as u64;
                        continue;
                    }
                    Err(error) => format!("no picture: {error}"),
                },
                Err(error) => error.to_string(),
            };
            // The header is line 1.
            self.trouble = Some(format!("line {}: {why}", self.index.len() + 2));
            return;
        }
    }

    fn line(&mut self, picture: usize) -> Result<Line, String> {
        let offset = self.index[picture].offset;
        let mut text = Vec::new();
        let read = self
            .file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| read_line(&mut self.file, &mut text, LONGEST_LINE));
        let parsed = read
            .map_err(|error| error.to_string())
            .and_then(|()| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        parsed.map_err(|why| {
            let trouble = format!("line {}: no picture: {why}", picture + 2);
            self.index.truncate(picture);
            self.trouble = Some(trouble.clone());
            trouble
        })
    }
}

/// Reads up to the end of a line or of the file.
fn read_line(file: &mut BufReader<File>, line: &mut Vec<u8>, longest: u64) -> io::Result<()> {
    line.clear();
    let read = file.by_ref().take(longest).read_until(b'\n', line)?;
    if read as u64 == longest {
        return Err(io::Error::other(format!(
            "longer than {longest} bytes: no line of a recording"
        )));
    }
    Ok(())
}

fn header(line: &[u8]) -> Result<Header, String> {
    const NONE: &str = "is no recording of `eco top --record`";
    let named: serde_json::Value = serde_json::from_slice(line).map_err(|_| NONE.to_owned())?;
    let schema = named["schema"].as_str().unwrap_or_default();
    if schema != SCHEMA && schema.starts_with(SCHEMA_FAMILY) {
        return Err(format!(
            "was recorded by eco {} as {}; this eco {} reads {SCHEMA}. Replay it with that version",
            printable(named["eco"].as_str().unwrap_or("?")),
            printable(schema),
            env!("CARGO_PKG_VERSION"),
        ));
    }
    if schema != SCHEMA {
        return Err(NONE.to_owned());
    }
    serde_json::from_value(named).map_err(|error| format!("its first line is damaged: {error}"))
}
