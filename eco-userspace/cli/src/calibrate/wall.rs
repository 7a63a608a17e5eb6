// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a wall meter wrote down: CSV with the columns `time` and `watts`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use jiff::Timestamp;

/// A day of ten rows a second is less.
const MOST_BYTES: u64 = 64 << 20;

/// More than this no single machine draws: a slip of the unit.
const MOST_WATTS: f64 = 50_000.0;

/// Unix seconds lie below this until the year 5138; what is above is milliseconds.
const MOST_SECONDS: f64 = 1e11;

/// Rows of which more than this share is odd are no log of a meter.
const MOST_ODD: f64 = 0.1;

/// Time without a row, in usual distances of two rows, that is called a gap.
const GAP: f64 = 5.0;

/// Rows that a step needs for its mean to mean something.
const LEAST_ROWS: usize = 3;

/// Lines that are named one by one; the rest is counted.
const MOST_NAMED: usize = 10;

/// A log of a wall meter.
#[derive(Debug, PartialEq)]
pub(super) struct Log {
    rows: Vec<Row>,
    /// Odd rows and gaps, with their lines.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    line: usize,
    /// Unix time, s.
    time: f64,
    watts: f64,
}

impl Log {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let text = read_text(path).map_err(|error| format!("{place}: {error}"))?;
        Self::parse(&text).map_err(|why| format!("{place}: {why}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = (1..).zip(text.lines());
        let header = lines
            .by_ref()
            .map(|(_, line)| line)
            .find(|line| is_data(line))
            .ok_or("is empty; its first line must name the columns: time,watts")?;
        let columns = Columns::find(header)?;
        let mut rows: Vec<Row> = Vec::new();
        let mut odd = Notes::default();
        let mut seen = 0usize;
        for (line, text) in lines.filter(|(_, line)| is_data(line)) {
            seen += 1;
            match columns.row(line, text) {
                Ok(row) if rows.last().is_some_and(|last| row.time <= last.time) => {
                    odd.add(format!(
                        "line {line}: its time is not after the row before; left out"
                    ));
                }
                Ok(row) => rows.push(row),
                Err(why) => odd.add(format!("line {line}: {why}; left out")),
            }
        }
        if rows.is_empty() || odd.count as f64 > MOST_ODD * seen as f64 {
            let first = odd.named.first().map_or("", String::as_str);
            let count = odd.count;
            return Err(format!("{count} of {seen} rows are odd. First: {first}"));
        }
        let mut notes = odd.finish("odd rows");
        notes.extend(gaps(&rows).finish("gaps"));
        Ok(Self { rows, notes })
    }

    /// Mean power between two moments (Unix time, s), each row holding until the next.
    pub(super) fn mean_watts(&self, from: f64, to: f64) -> Result<f64, String> {
        let first = self.rows.partition_point(|row| row.time <= from);
        let end = self.rows.partition_point(|row| row.time < to);
        let within = end.saturating_sub(first);
        if within < LEAST_ROWS {
            return Err(format!(
                "{within} rows lie in the step's {:.0} s, at least {LEAST_ROWS} must; {}",
                to - from,
                self.span(from)
            ));
        }
        // What was drawn before the first row is what that row says, if there is none before it.
        let start = first.saturating_sub(1);
        let (mut energy, mut covered) = (0.0, 0.0);
        for (index, row) in self.rows[start..end].iter().enumerate() {
            let next = self.rows.get(start + index + 1);
            let until = next.map_or(to, |next| next.time).min(to);
            let seconds = (until - row.time.max(from)).max(0.0);
            energy += row.watts * seconds;
            covered += seconds;
        }
        Ok(energy / covered)
    }

    /// Where the log lies beside a moment: clocks that differ are the usual mistake.
    fn span(&self, moment: f64) -> String {
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return "the log is empty".to_owned();
        };
        if moment < first.time {
            let late = first.time - moment;
            format!("the log begins {late:.0} s later: is the meter's clock right?")
        } else if moment > last.time {
            let early = moment - last.time;
            format!("the log ends {early:.0} s before it: is the meter's clock right?")
        } else {
            "the meter must write rows more often, or the steps last longer (--seconds)".to_owned()
        }
    }
}

/// Where the two columns are.
#[derive(Debug)]
struct Columns {
    separator: char,
    time: usize,
    watts: usize,
}

impl Columns {
    fn find(header: &str) -> Result<Self, String> {
        let separator = if header.contains(';') { ';' } else { ',' };
        let names: Vec<String> = header
            .split(separator)
            .map(|name| cell(name).to_lowercase())
            .collect();
        let place = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
        let time = place(&["time", "timestamp"]);
        let watts = place(&["watts", "watt", "w"]);
        match (time, watts) {
            (Some(time), Some(watts)) => Ok(Self {
                separator,
                time,
                watts,
            }),
            (_, None) => Err(match place(OTHER_UNITS) {
                Some(other) => format!(
                    "the column {:?} is not in watts; convert it and name it `watts`",
                    names[other]
                ),
                None => format!("has no column `watts` in its first line: {header:.80?}"),
            }),
            (None, _) => Err(format!(
                "has no column `time` in its first line: {header:.80?}"
            )),
        }
    }

    fn row(&self, line: usize, text: &str) -> Result<Row, String> {
        let at = |index: usize| text.split(self.separator).nth(index).map(cell);
        let (Some(time), Some(watts)) = (at(self.time), at(self.watts)) else {
            return Err("a column is missing".to_owned());
        };
        let time = moment(time)?;
        let number = watts.parse::<f64>();
        let number = number.map_err(|_| format!("{watts:.40?} is not a number of watts"))?;
        if (0.0..=MOST_WATTS).contains(&number) {
            let watts = number;
            Ok(Row { line, time, watts })
        } else {
            Err(format!(
                "{watts:.40} W is no machine's power; is the unit watts?"
            ))
        }
    }
}

/// Column names that tell a unit, but not this one.
const OTHER_UNITS: &[&str] = &[
    "kw",
    "kilowatts",
    "mw",
    "milliwatts",
    "va",
    "wh",
    "kwh",
    "j",
    "joules",
    "a",
    "amps",
    "btu/h",
];

/// Lines of one kind.
#[derive(Default)]
struct Notes {
    named: Vec<String>,
    count: usize,
}

impl Notes {
    fn add(&mut self, note: String) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(note);
        }
    }

    fn finish(mut self, what: &str) -> Vec<String> {
        if self.count > self.named.len() {
            let rest = self.count - self.named.len();
            self.named.push(format!("and {rest} more {what}"));
        }
        self.named
    }
}

fn gaps(rows: &[Row]) -> Notes {
    let mut distances: Vec<f64> = rows
        .windows(2)
        .map(|two| two[1].time - two[0].time)
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    let usual = distances.get(distances.len() / 2).copied().unwrap_or(0.0);
    let mut notes = Notes::default();
    for two in rows.windows(2) {
        let distance = two[1].time - two[0].time;
        if distance > GAP * usual {
            let line = two[1].line;
            notes.add(format!(
                "line {line}: {distance:.1} s after the row before (usual: {usual:.1} s)"
            ));
        }
    }
    notes
}

/// Unix seconds or RFC 3339, as Unix seconds.
fn moment(text: &str) -> Result<f64, String> {
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            // Some meters put a blank where RFC 3339 has a T; it allows that.
            let time: Timestamp = text
                .parse()
                .map_err(|_| format!("{text:.40?} is neither RFC 3339 nor Unix seconds"))?;
            time.as_nanosecond() as f64 / 1e9
        }
    };
    match seconds {
        s if s.is_finite() && (0.0..MOST_SECONDS).contains(&s) => Ok(s),
        s if s >= MOST_SECONDS => Err(format!("{text:.40} are not Unix seconds (milliseconds?)")),
        _ => Err(format!("{text:.40} is no time")),
    }
}

fn is_data(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn cell(text: &str) -> &str {
    text.trim().trim_matches('"').trim()
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        let what = format!("is longer than {MOST_BYTES} bytes; cut it to the time of the load");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    // What is no text becomes an odd row, with its line.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Log::parse(text).unwrap_err()
    }

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        let unix = Log::parse("time,watts\n1764046800,10\n1764046801.5,20\n").unwrap();
        let rfc = "Timestamp; Volts; W\r\n2025-11-25T05:00:00Z;230;10\r\n\
            \"2025-11-25T06:00:01.5+01:00\";230;20\r\n";
        assert_eq!(Log::parse(rfc).unwrap(), unix);
        assert!(unix.notes.is_empty());
    }

    #[test]
    fn a_mean_is_weighted_by_time() {
        let log = Log::parse("time,watts\n0,10\n1,10\n2,40\n5,10\n6,10\n").unwrap();
        assert_eq!(
            log.mean_watts(0.0, 6.0).unwrap(),
            (20.0 + 120.0 + 10.0) / 6.0
        );
        assert_eq!(
            log.mean_watts(1.5, 5.5).unwrap_err(),
            "2 rows lie in the step's 4 s, at least \
            3 must; the meter must write rows more often, or the steps last longer (--seconds)"
        );
    }

    #[test]
    fn a_step_outside_the_log_says_so() {
        let log = Log::parse("time,watts\n100,10\n101,10\n102,10\n").unwrap();
        assert!(
            log.mean_watts(10.0, 20.0)
                .unwrap_err()
                .contains("begins 90 s later")
        );
        assert!(
            log.mean_watts(152.0, 160.0)
                .unwrap_err()
                .contains("ends 50 s before")
        );
    }

    #[test]
    fn gaps_and_odd_rows_are_told_with_their_lines() {
        let mut text = "# a meter\ntime,watts\n".to_owned();
        for second in 0..60 {
            text += &match second {
                10 => "10,abc\n".to_owned(),
                20 => "3,50\n".to_owned(),
                30..40 => String::new(),
                _ => format!("{second},50\n"),
            };
        }
        let log = Log::parse(&text).unwrap();
        assert_eq!(log.notes.len(), 3, "{:?}", log.notes);
        assert!(
            log.notes[0].starts_with("line 13: \"abc\""),
            "{:?}",
            log.notes
        );
        assert!(
            log.notes[1].starts_with("line 23: its time"),
            "{:?}",
            log.notes
        );
        assert!(
            log.notes[2].starts_with("line 33: 11.0 s"),
            "{:?}",
            log.notes
        );
        assert!((log.mean_watts(0.0, 59.0).unwrap() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_log_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("\n# only words\n", "is empty"),
            ("time,power\n1,2\n", "no column `watts`"),
            ("watts\n1\n", "no column `time`"),
            ("time,kW\n1,0.2\n", "\"kw\" is not in watts"),
            ("time,watts\n", "0 of 0 rows"),
            ("time,watts\n1\n", "a column is missing"),
            ("time,watts\n1,-5\n", "no machine's power"),
            ("time,watts\n1,NaN\n", "no machine's power"),
            ("time,watts\n1,inf\n", "no machine's power"),
            ("time,watts\n1,250000\n", "is the unit watts?"),
            ("time,watts\n1764046800000,5\n", "milliseconds?"),
            ("time,watts\n-1,5\n", "no time"),
            ("time,watts\nyesterday,5\n", "neither RFC 3339"),
            ("time,watts\n2025-11-25T05:00:00,5\n", "neither RFC 3339"),
            ("\0\u{fffd}\u{fffd}", "no column"),
        ] {
            let why = refused(text);
            assert!(why.contains(reason), "{text:?}: {why}");
        }
    }

    #[test]
    fn a_flood_of_odd_rows_is_counted_not_listed() {
        let good: String = (0..1_000).map(|s| format!("{s},5\n")).collect();
        let text = format!("time,watts\n{good}{}", "x,y\n".repeat(50));
        let log = Log::parse(&text).unwrap();
        assert_eq!(log.notes.len(), MOST_NAMED + 1);
        assert_eq!(log.notes[MOST_NAMED], "and 40 more odd rows");
    }
}
