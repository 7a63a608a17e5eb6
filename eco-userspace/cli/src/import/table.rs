// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Goes through the rows of a CSV file; what is wrong with one is told with its line.

use std::io::BufRead;

use super::{
    ImportError, Parsed, Remark,
    column::{Columns, Row},
    record::Records,
};

/// What is odd about a row that is taken nevertheless.
pub(super) type Verdict = Option<String>;

/// Hands over each row that has as many cells as the header. A header that comes once more (files
/// that were put together with `cat`) holds from there on.
///
/// # Errors
/// When the file cannot be read, or lacks a column that is needed.
pub(super) fn read(
    input: impl BufRead,
    needed: &[&str],
    mut take: impl FnMut(&Row<'_>, &mut Parsed) -> Result<Verdict, String>,
) -> Result<Parsed, ImportError> {
    let mut records = Records::new(input);
    let header = records.next(None)?.ok_or(ImportError::Empty)?;
    let mut columns = Columns::new(&header.cells.map_err(ImportError::NoHeader)?);
    if let Some(missing) = columns.missing(needed) {
        return Err(ImportError::MissingColumn(missing.to_owned()));
    }
    let mut parsed = Parsed::default();
    while let Some(record) = records.next(Some(columns.width()))? {
        let line = record.line;
        let cells = match record.cells {
            Ok(cells) => cells,
            Err(why) => {
                parsed.refused.push(Remark { line, what: why });
                continue;
            }
        };
        let again = Columns::new(&cells);
        if again.missing(needed).is_none() {
            columns = again;
            continue;
        }
        if cells.len() != columns.width() {
            let what = format!(
                "{} cells, and the header has {}: half a line?",
                cells.len(),
                columns.width()
            );
            parsed.refused.push(Remark { line, what });
            continue;
        }
        let row = Row {
            columns: &columns,
            cells: &cells,
            line,
        };
        match take(&row, &mut parsed) {
            Err(what) => parsed.refused.push(Remark { line, what }),
            Ok(Some(what)) => parsed.remarks.push(Remark { line, what }),
            Ok(None) if !record.is_ended => parsed.remarks.push(Remark {
                line,
                what: "taken, but nothing ends this last line: look whether it was cut off".into(),
            }),
            Ok(None) => {}
        }
    }
    Ok(parsed)
}

/// A key for what has none of its own: FNV-1a with 64 bits (draft-eastlake-fnv), the same on every
/// machine.
pub(super) fn digest<T: AsRef<str>>(texts: &[T]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let separated = texts
        .iter()
        .flat_map(|text| text.as_ref().bytes().chain([0x1f]));
    for byte in separated {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}
