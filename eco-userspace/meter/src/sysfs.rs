// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading small files of sysfs, or of a tree like it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::MeterError;

/// An attribute is at most a page; what fills this is none.
const BUFFER_BYTES: u64 = 4_096;

/// The text of an attribute, trimmed; `None` if it is absent, empty, too long or no text.
pub(crate) fn text(path: &Path) -> Option<String> {
    let bytes = bytes(path).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A decimal attribute; `None` if it is absent or no such number.
pub(crate) fn number(path: &Path) -> Option<u64> {
    parse(&bytes(path).ok()?)
}

/// A decimal attribute that a meter lives on.
///
/// # Errors
/// When it is absent, may not be read, or is no number from 0 to 2⁶⁴−1.
pub(crate) fn read(path: &Path) -> Result<u64, MeterError> {
    let bytes = bytes(path).map_err(|error| failed(path, error))?;
    parse(&bytes).ok_or_else(|| garbage(path, &bytes))
}

/// What a failed read means for a meter.
pub(crate) fn failed(path: &Path, source: io::Error) -> MeterError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => MeterError::Denied { path },
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => MeterError::Gone { path },
        _ if matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => {
            MeterError::Gone { path }
        }
        _ => MeterError::Io { path, source },
    }
}

/// An attribute that holds no value of the kind it should.
pub(crate) fn garbage(path: &Path, bytes: &[u8]) -> MeterError {
    let text: String = String::from_utf8_lossy(bytes)
        .trim()
        .chars()
        .take(64)
        .collect();
    MeterError::Garbage {
        path: path.to_owned(),
        text,
    }
}

/// The entries of a folder whose names start with `prefix`, in the order of the number after it;
/// empty if there is no such folder.
pub(crate) fn numbered(folder: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The CPUs of a list like `0-3,8`; empty if it is none. At most as many as Linux supports.
pub(crate) fn cpu_list(text: &str) -> Vec<u32> {
    const MOST_CPUS: u32 = 8_192;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            return Vec::new();
        };
        if last >= MOST_CPUS {
            return Vec::new();
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(BUFFER_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BUFFER_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
    }
    Ok(bytes)
}

/// A decimal `u64` with white space around it, and nothing else: no sign, no unit.
fn parse(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_read_and_a_hostile_one_is_empty() {
        assert_eq!(cpu_list("0,18\n"), [0, 18]);
        assert_eq!(cpu_list("0-2,1,8"), [0, 1, 2, 8]);
        for hostile in ["", "a", "3-", "-1", "0-4294967295", "0,,1"] {
            assert_eq!(cpu_list(hostile), [0u32; 0], "{hostile:?}");
        }
    }

    #[test]
    fn only_a_plain_number_is_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("power1_input");
        assert!(matches!(read(&path), Err(MeterError::Gone { .. })));
        let long = "1".repeat(5_000);
        for hostile in ["", "-5", "+5", "5 W", "0x5", "18446744073709551616", &long] {
            fs::write(&path, hostile).unwrap();
            assert_eq!(number(&path), None, "{hostile:.40}");
            assert!(read(&path).is_err());
        }
        fs::write(&path, " 42\n").unwrap();
        assert_eq!(read(&path).unwrap(), 42);
    }
}
