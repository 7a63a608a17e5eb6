// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Apache Parquet: a column for each of the history's, in one row group a batch.

use std::{fs::File, io, sync::Arc};

use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};
use serde_json::Value;

use super::{Read, Stopped};

/// Columns that are text, and those that are no whole numbers; all others are.
const TEXTS: [&str; 12] = [
    "kind",
    "name",
    "title",
    "user",
    "namespace",
    "manager",
    "domain",
    "device",
    "source",
    "zone",
    "intensity_kind",
    "intensity_source",
];
const REALS: [&str; 2] = ["g_per_kwh", "pue"];

/// A row group has at least so many rows, but for the last.
const ROWS: usize = 100_000;

/// Writes all rows.
pub(super) fn write(to: File, names: &[String], read: &mut Read<'_>) -> Result<(), Stopped> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("eco ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let schema = Arc::new(parse_message_type(&schema(names)).map_err(failed)?);
    let mut file = SerializedFileWriter::new(to, schema, Arc::new(properties)).map_err(failed)?;
    let mut waiting: Vec<Vec<Value>> = Vec::new();
    loop {
        let more = read().map_err(Stopped::Failed)?;
        let is_last = more.is_none();
        waiting.extend(more.into_iter().flatten());
        if waiting.len() >= ROWS || is_last && !waiting.is_empty() {
            group(&mut file, names, &waiting).map_err(failed)?;
            waiting.clear();
        }
        if is_last {
            break;
        }
    }
    file.close().map_err(failed)?;
    Ok(())
}

fn group(
    file: &mut SerializedFileWriter<File>,
    names: &[String],
    rows: &[Vec<Value>],
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        let name = names.get(at).map_or("", String::as_str);
        let values = rows.iter().map(|row| row.get(at).unwrap_or(&Value::Null));
        put(&mut column, name, values)?;
        column.close()?;
        at += 1;
    }
    group.close().map(drop)
}

/// A column: whether each row has a value, and those that are there.
fn put<'a>(
    column: &mut SerializedColumnWriter<'_>,
    name: &str,
    values: impl Iterator<Item = &'a Value> + Clone,
) -> Result<(), ParquetError> {
    if TEXTS.contains(&name) {
        let texts = values
            .clone()
            .map(|value| value.as_str().map(ByteArray::from));
        let (levels, texts) = levels(texts);
        column
            .typed::<ByteArrayType>()
            .write_batch(&texts, Some(&levels), None)?;
    } else if REALS.contains(&name) {
        let (levels, numbers) = levels(values.map(Value::as_f64));
        column
            .typed::<DoubleType>()
            .write_batch(&numbers, Some(&levels), None)?;
    } else {
        let (levels, numbers) = levels(values.map(Value::as_i64));
        column
            .typed::<Int64Type>()
            .write_batch(&numbers, Some(&levels), None)?;
    }
    Ok(())
}

fn levels<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<i16>, Vec<T>) {
    let mut levels = Vec::new();
    let known = values.filter_map(|value| {
        levels.push(i16::from(value.is_some()));
        value
    });
    let known = known.collect();
    (levels, known)
}

fn schema(names: &[String]) -> String {
    let columns = names.iter().map(|name| {
        if TEXTS.contains(&name.as_str()) {
            format!("optional binary {name} (UTF8);")
        } else if REALS.contains(&name.as_str()) {
            format!("optional double {name};")
        } else {
            format!("optional int64 {name};")
        }
    });
    format!("message history {{ {} }}", columns.collect::<String>())
}

fn failed(why: ParquetError) -> Stopped {
    Stopped::Io(io::Error::other(why))
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::RowAccessor as _,
    };
    use serde_json::json;

    use super::*;

    fn columns() -> Vec<String> {
        ["at_unix_s", "name", "gpu_uj", "pue"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn what_is_written_is_read_and_what_is_not_known_is_null() {
        let file = tempfile::tempfile().unwrap();
        let mut batches = vec![
            vec![vec![json!(2), json!("b"), json!(i64::MAX), Value::Null]],
            vec![vec![json!(1), Value::Null, Value::Null, json!(1.25)]],
        ];
        let mut read = || Ok(batches.pop());
        write(file.try_clone().unwrap(), &columns(), &mut read)
            .ok()
            .unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].get_long(0).unwrap(), 1);
        assert!(rows[0].get_string(1).is_err(), "null");
        assert_eq!(rows[0].get_double(3).unwrap(), 1.25);
        assert_eq!(rows[1].get_string(1).unwrap(), "b");
        assert_eq!(rows[1].get_long(2).unwrap(), i64::MAX);
    }

    #[test]
    fn without_rows_there_is_a_file_with_columns() {
        let file = tempfile::tempfile().unwrap();
        write(file.try_clone().unwrap(), &columns(), &mut || Ok(None))
            .ok()
            .unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let metadata = reader.metadata().file_metadata();
        assert_eq!(
            (metadata.num_rows(), metadata.schema_descr().num_columns()),
            (0, 4)
        );
    }
}
