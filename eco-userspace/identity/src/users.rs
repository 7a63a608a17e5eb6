// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names of users.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Names by number, from a passwd file, read again when the file changes.
///
/// The file alone, not the name service: a lookup over the network could hang the agent. A user
/// who is not in it is shown by number.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    read_at: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl Users {
    /// Reads `path`; a missing file means that nobody has a name.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let mut users = Self {
            path: path.into(),
            read_at: None,
            names: HashMap::new(),
        };
        users.refresh();
        users
    }

    /// Reads the file again if it has changed.
    pub fn refresh(&mut self) {
        let changed_at = fs::metadata(&self.path).and_then(|m| m.modified()).ok();
        if changed_at.is_some() && changed_at == self.read_at {
            return;
        }
        self.read_at = changed_at;
        let bytes = fs::read(&self.path).unwrap_or_default();
        self.names = parse(&String::from_utf8_lossy(&bytes));
    }

    /// The user's name, or their number in digits.
    #[must_use]
    pub fn name(&self, uid: u32) -> String {
        self.names
            .get(&uid)
            .cloned()
            .unwrap_or_else(|| uid.to_string())
    }
}

fn parse(passwd: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        if let (false, Ok(uid)) = (name.is_empty(), uid.parse()) {
            // The first entry of a number is its name, as for getpwuid(3).
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_first_name_of_their_number_or_the_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "root:x:0:0::/:/bin/sh\ntoor:x:0:0\nbad\n:x:5:\na:x:-1:\n",
        )
        .unwrap();
        let users = Users::open(file.path());
        assert_eq!(users.name(0), "root");
        assert_eq!(users.name(5), "5");
        assert_eq!(users.name(77), "77");
    }

    #[test]
    fn a_file_that_appears_later_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        let mut users = Users::open(&path);
        assert_eq!(users.name(7), "7");
        fs::write(&path, "seven:x:7:7\n").unwrap();
        users.refresh();
        assert_eq!(users.name(7), "seven");
    }
}
