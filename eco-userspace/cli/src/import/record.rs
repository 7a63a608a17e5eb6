// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines and CSV records of a file that a stranger wrote: bounded in memory whatever it holds,
//! and a broken one costs no other.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
};

/// A longer line is none that a tracker wrote; it is passed over, never held.
const LONGEST_LINE: usize = 64 << 10;

/// A quoted cell may hold line feeds; a quote that is open for longer than this was cut off.
const MOST_JOINED: usize = 100;

/// A line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// What it holds; `None` where it is too long.
    pub(crate) text: Option<String>,
    /// Whether a line feed ends it, which the last one may lack.
    pub(crate) is_ended: bool,
}

/// Reads lines.
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// From the first one.
    pub(crate) fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let (mut is_long, mut is_ended, mut is_any) = (false, false, false);
        while !is_ended {
            let held = self.input.fill_buf()?;
            if held.is_empty() {
                break;
            }
            is_any = true;
            let end = held.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(held.len(), |end| end + 1);
            is_ended = end.is_some();
            if bytes.len() + taken > LONGEST_LINE {
                is_long = true;
            } else {
                bytes.extend_from_slice(&held[..taken]);
            }
            self.input.consume(taken);
        }
        if !is_any {
            return Ok(None);
        }
        self.number += 1;
        while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            bytes.pop();
        }
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if self.number == 1
            && let Some(rest) = text.strip_prefix('\u{feff}')
        {
            text = rest.to_owned();
        }
        Ok(Some(Line {
            number: self.number,
            text: (!is_long).then_some(text),
            is_ended,
        }))
    }
}

/// A record, or why there is none at that line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it begins.
    pub(crate) line: u64,
    /// What it holds.
    pub(crate) cells: Result<Vec<String>, String>,
    /// Whether a line feed ends it.
    pub(crate) is_ended: bool,
}

/// Reads CSV (RFC 4180) record by record.
pub(crate) struct Records<R> {
    lines: Lines<R>,
    /// Read too far ahead, and given back.
    held: VecDeque<Line>,
}

impl<R: BufRead> Records<R> {
    /// From the first line.
    pub(crate) fn new(input: R) -> Self {
        Self {
            lines: Lines::new(input),
            held: VecDeque::new(),
        }
    }

    /// The next record that is not empty; `None` at the end. Of one that lies over several
    /// lines and has not `width` cells only the first line is refused, as its quote may just not
    /// have been closed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next(&mut self, width: Option<usize>) -> io::Result<Option<Record>> {
        let first = loop {
            match self.line()? {
                None => return Ok(None),
                Some(Line { text: Some(t), .. }) if t.trim().is_empty() => {}
                Some(line) => break line,
            }
        };
        let (line, mut is_ended) = (first.number, first.is_ended);
        let refused = |why: &str| Record {
            line,
            cells: Err(why.to_owned()),
            is_ended: true,
        };
        let Some(mut text) = first.text else {
            return Ok(Some(refused("longer than 64 KiB, so no line of a tracker")));
        };
        let mut joined = Vec::new();
        let mut is_open = has_open_quote(&text);
        while is_open && joined.len() < MOST_JOINED && text.len() < LONGEST_LINE {
            let Some(more) = self.line()? else { break };
            let Some(more_text) = more.text.clone() else {
                self.held.push_front(more);
                break;
            };
            text.push('\n');
            text.push_str(&more_text);
            is_ended = more.is_ended;
            joined.push(more);
            is_open = has_open_quote(&text);
        }
        let cells = (!is_open).then(|| cells(&text)).flatten();
        let is_whole = |cells: &Vec<String>| joined.is_empty() || width == Some(cells.len());
        match cells.filter(is_whole) {
            Some(cells) => Ok(Some(Record {
                line,
                cells: Ok(cells),
                is_ended,
            })),
            None => {
                joined
                    .drain(..)
                    .rev()
                    .for_each(|line| self.held.push_front(line));
                Ok(Some(refused("a quote that is not closed: half a line?")))
            }
        }
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        match self.held.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }
}

/// A quote within a quoted cell is doubled, so an odd one is open.
fn has_open_quote(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1
}

fn cells(text: &str) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(text.len().max(1))
        .from_reader(text.as_bytes());
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(|cell| cell.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn records(text: &str, width: usize) -> Vec<(u64, Result<Vec<String>, String>)> {
        let mut records = Records::new(text.as_bytes());
        let mut found = Vec::new();
        while let Some(record) = records.next(Some(width)).unwrap() {
            found.push((record.line, record.cells));
        }
        found
    }

    fn row(cells: &[&str]) -> Result<Vec<String>, String> {
        Ok(cells.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[test]
    fn quotes_line_ends_of_windows_and_a_byte_order_mark_are_no_part_of_a_cell() {
        assert_eq!(
            records(
                "\u{feff}a,b\r\n\r\n\"x, \"\"y\"\"\",2\r\n\"two\nlines\",3\n4,5",
                2
            ),
            [
                (1, row(&["a", "b"])),
                (3, row(&["x, \"y\"", "2"])),
                (4, row(&["two\nlines", "3"])),
                (6, row(&["4", "5"])),
            ]
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_own_line_only() {
        let found = records("1,2\n\"half,3\n4,5\n6,\"7\"\n", 2);
        assert!(found[1].1.is_err());
        assert_eq!(found[2..], [(3, row(&["4", "5"])), (4, row(&["6", "7"]))]);
        let found = records("\"half\n4,5\n\"x\ny\",5\n", 2);
        assert!(found[0].1.is_err());
        assert_eq!(
            found[1..],
            [(2, row(&["4", "5"])), (3, row(&["x\ny", "5"]))]
        );
    }

    #[test]
    fn a_line_without_end_is_passed_over_and_never_held() {
        let long = std::io::repeat(b'x').take(1 << 26);
        let text = (&b"1,2\n"[..]).chain(long).chain(&b"\n3,4\n"[..]);
        let mut records = Records::new(BufReader::with_capacity(1 << 20, text));
        let mut next = || records.next(Some(2)).unwrap();
        assert_eq!(next().unwrap().cells, row(&["1", "2"]));
        assert!(next().unwrap().cells.is_err());
        let last = next().unwrap();
        assert_eq!((last.line, last.cells), (3, row(&["3", "4"])));
        assert!(next().is_none());
    }
}
