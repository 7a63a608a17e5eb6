// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is checked out where a command is started: read from the repository's files, so that
//! no git has to be there, and none runs in a repository that somebody else prepared.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use eco_history::run::Revision;

/// How many folders up a repository is looked for.
const MOST_LEVELS: usize = 64;

/// A reference is one line.
const LONGEST_REFERENCE: u64 = 4 << 10;

/// A repository of a million branches has as much.
const LONGEST_PACK: u64 = 64 << 20;

/// The commit that `folder` is on; `None` outside of a repository, and before its first commit.
///
/// The files are those of gitrepository-layout(5): `HEAD`, references in files of their own or in
/// `packed-refs`, and of a worktree a `.git` that names another folder.
pub(crate) fn of(folder: &Path) -> Option<Revision> {
    let git = folder
        .ancestors()
        .take(MOST_LEVELS)
        .find_map(|folder| repository(&folder.join(".git")))?;
    let common = match text(&git.join("commondir"), LONGEST_REFERENCE) {
        Some(path) => git.join(path.trim()),
        None => git.clone(),
    };
    let head = text(&git.join("HEAD"), LONGEST_REFERENCE)?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        let commit = commit(&head)?;
        return Some(Revision {
            commit,
            branch: None,
        });
    };
    // A name that leads elsewhere is none of git's.
    if !name.starts_with("refs/") || name.split('/').any(|part| part == "..") {
        return None;
    }
    let loose = [&git, &common]
        .into_iter()
        .find_map(|folder| commit(&text(&folder.join(name), LONGEST_REFERENCE)?));
    let commit = loose.or_else(|| packed(&common, name))?;
    Some(Revision {
        commit,
        branch: name.strip_prefix("refs/heads/").map(str::to_owned),
    })
}

/// The folder that a `.git` is, or names.
fn repository(dot_git: &Path) -> Option<PathBuf> {
    if dot_git.is_dir() {
        return Some(dot_git.to_owned());
    }
    let told = text(dot_git, LONGEST_REFERENCE)?;
    let folder = told.trim().strip_prefix("gitdir: ")?;
    Some(dot_git.parent()?.join(folder))
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let packed = text(&common.join("packed-refs"), LONGEST_PACK)?;
    packed.lines().find_map(|line| {
        let (hash, of) = line.split_once(' ')?;
        (of == name).then(|| commit(hash)).flatten()
    })
}

/// SHA-1 or SHA-256, in hexadecimal. Nothing else of any file gets further than here.
fn commit(text: &str) -> Option<String> {
    let hash = text.trim();
    let is_hash = matches!(hash.len(), 40 | 64) && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| hash.to_owned())
}

fn text(path: &Path, longest: u64) -> Option<String> {
    let file = File::open(path).ok()?;
    // A pipe or a device could keep us for ever.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

    fn write(folder: &Path, file: &str, text: &str) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn branch(commit: &str, branch: &str) -> Option<Revision> {
        Some(Revision {
            commit: commit.to_owned(),
            branch: Some(branch.to_owned()),
        })
    }

    #[test]
    fn a_branch_is_found_from_a_folder_within_loose_or_packed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, ".git/HEAD", "ref: refs/heads/feat/x\n");
        write(root, "a/b/file", "");
        assert_eq!(of(&root.join("a/b")), None);
        let packed = format!("# pack-refs\n{OTHER} refs/heads/main\n{HASH} refs/heads/feat/x\n");
        write(root, ".git/packed-refs", &packed);
        assert_eq!(of(&root.join("a/b")), branch(HASH, "feat/x"));
        write(root, ".git/refs/heads/feat/x", &format!("{OTHER}\n"));
        assert_eq!(of(root), branch(OTHER, "feat/x"));
        write(root, ".git/HEAD", HASH);
        let bare = of(root).unwrap();
        assert_eq!((bare.commit.as_str(), bare.branch), (HASH, None));
    }

    #[test]
    fn a_worktree_is_on_a_branch_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "main/.git/HEAD", "ref: refs/heads/main\n");
        write(root, "main/.git/refs/heads/w", HASH);
        write(root, "main/.git/worktrees/w/HEAD", "ref: refs/heads/w\n");
        write(root, "main/.git/worktrees/w/commondir", "../..\n");
        write(root, "w/.git", "gitdir: ../main/.git/worktrees/w\n");
        assert_eq!(of(&root.join("w")), branch(HASH, "w"));
    }

    #[test]
    fn a_repository_that_was_prepared_tells_nothing_of_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "secret", "a password");
        for head in [
            "ref: refs/../../secret",
            "ref: ../secret",
            "ref: /etc/passwd",
            "ref: refs/heads/link",
            "garbage",
            "",
        ] {
            write(root, ".git/HEAD", head);
            let link = root.join(".git/refs/heads/link");
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            let _ = std::os::unix::fs::symlink(root.join("secret"), &link);
            assert_eq!(of(root), None, "{head}");
        }
    }
}
