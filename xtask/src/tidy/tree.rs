// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files that tidy looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The files of a clone: what git tracks, and what it would offer to add.
#[derive(Default)]
pub(super) struct Tree {
    /// Text files by their path from the root, `/` between its parts.
    texts: BTreeMap<String, String>,
    /// Every file and every folder that holds one.
    paths: BTreeSet<String>,
}

impl Tree {
    /// Reads the clone at `root`.
    ///
    /// # Errors
    /// When git cannot list the files, or one cannot be read.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        for name in listed(root)? {
            let path = root.join(&name);
            // Listed, but deleted from the working tree; or a link or a nested repository.
            if !path
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_file())
            {
                continue;
            }
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            tree.insert(name, bytes);
        }
        Ok(tree)
    }

    /// Adds one file.
    pub(super) fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        let name = name.into();
        let folders = name.match_indices('/').map(|(at, _)| name[..at].to_owned());
        self.paths.extend(folders);
        self.paths.insert(name.clone());
        if let Ok(text) = String::from_utf8(bytes.into()) {
            self.texts.insert(name, text);
        }
    }

    /// All text files, with their content.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Text files whose name ends so.
    pub(super) fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(name, _)| name.ends_with(end))
    }

    /// The content of one text file.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// Whether there is such a file or folder; the root is "".
    pub(super) fn has(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        let mut tree = Self::default();
        for (name, text) in files {
            tree.insert(name, text);
        }
        tree
    }
}

fn listed(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        // A clone of another user's, as in a container, is only read here.
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
        ])
        .arg("--exclude-standard")
        .current_dir(root)
        .output()
        .context("cannot start git, which tells tidy the files of the project")?;
    if !output.status.success() {
        bail!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_when_it_holds_a_file() {
        let tree = Tree::from([("docs/deep/a.md", "")]);
        for path in ["", "docs", "docs/deep", "docs/deep/a.md"] {
            assert!(tree.has(path), "{path}");
        }
        assert!(!tree.has("docs/a.md"));
    }

    #[test]
    fn a_binary_file_is_there_but_has_no_text() {
        let mut tree = Tree::default();
        tree.insert("logo.png", [0xff, 0xfe]);
        assert!(tree.has("logo.png"));
        assert_eq!(tree.text("logo.png"), None);
    }
}
