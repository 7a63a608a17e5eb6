// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Dependencies are declared once, in the root's Cargo.toml, and by everyone else only
//! named. Also the reader of Cargo.toml that this needs.

use std::collections::BTreeSet;

use super::Violation;
use super::tree::Tree;

const ROOT: &str = "Cargo.toml";
const RULE: &str = "dependency-once";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for (name, text) in members(tree) {
        for dependency in dependencies(text) {
            if !dependency.from_workspace {
                let what = format!(
                    "declare `{0}` in [workspace.dependencies] and write `{0}.workspace = true`",
                    dependency.name
                );
                found.push(Violation::new(name, dependency.line, RULE, what));
            }
            used.insert(dependency.name);
        }
    }
    for declared in entries(tree.text(ROOT).unwrap_or_default()) {
        if declared.section == "workspace.dependencies" && !used.contains(&declared.key) {
            let what = format!("no crate of the workspace uses `{}`", declared.key);
            found.push(Violation::new(ROOT, declared.line, RULE, what));
        }
    }
    found
}

/// The manifests of crates: their file's name and their text.
pub(super) fn members(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.ending("/Cargo.toml")
}

/// The name of the package that a manifest describes.
pub(super) fn package(text: &str) -> Option<String> {
    let name = entries(text)
        .into_iter()
        .find(|e| e.section == "package" && e.key == "name")?;
    Some(name.value.trim_matches('"').to_owned())
}

/// One line of a `[dependencies]` table, of whichever kind and target.
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) line: usize,
    from_workspace: bool,
}

/// What a manifest depends on: to run, to test and to build.
pub(super) fn dependencies(text: &str) -> Vec<Dependency> {
    entries(text)
        .into_iter()
        .filter(|entry| entry.section != "workspace.dependencies")
        .filter_map(Dependency::of)
        .collect()
}

impl Dependency {
    fn of(entry: Entry) -> Option<Self> {
        let Entry {
            line,
            section,
            key,
            value,
        } = entry;
        if section.ends_with("dependencies") {
            let (name, rest) = key.split_once('.').unwrap_or((&key, ""));
            let from_workspace = (rest == "workspace" && value == "true")
                || (rest.is_empty() && squeezed(&value).contains("workspace=true"));
            return Some(Self {
                name: name.to_owned(),
                line,
                from_workspace,
            });
        }
        // `[dependencies.NAME]`: there is one way to write it here, and it is not this one.
        let (_, name) = section.rsplit_once("dependencies.")?;
        Some(Self {
            name: name.to_owned(),
            line,
            from_workspace: false,
        })
    }
}

/// One `key = value` of a TOML file.
#[derive(Debug, PartialEq)]
struct Entry {
    /// From 1.
    line: usize,
    /// The header above it, without brackets.
    section: String,
    key: String,
    /// As written, arrays over several lines joined.
    value: String,
}

/// Reads as much TOML as cargo's manifests use: tables, keys, values on one line, and
/// arrays over several.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = String::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let line = without_comment(line).trim();
        if open {
            if let Some(entry) = entries.last_mut() {
                entry.value.push_str(line);
                open = is_open(&entry.value);
            }
        } else if line.starts_with('[') {
            // Before the other: [target.'cfg(target_arch = "bpf")'.dependencies] has a `=`.
            section = line.trim_matches(['[', ']']).trim().to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            open = is_open(&value);
            entries.push(Entry {
                line: at + 1,
                section: section.clone(),
                key,
                value,
            });
        }
    }
    entries
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

fn is_open(value: &str) -> bool {
    let count = |c: char| value.matches(c).count();
    count('[') > count(']') || count('{') > count('}')
}

fn squeezed(value: &str) -> String {
    value.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(root: &str, member: &str) -> Vec<String> {
        let tree = Tree::from([("Cargo.toml", root), ("a/Cargo.toml", member)]);
        check(&tree)
            .iter()
            .map(|v| format!("{}:{}", v.file, v.line))
            .collect()
    }

    const ROOT_TEXT: &str = "[workspace.dependencies]\nb = \"1\" # why\n";

    #[test]
    fn a_dependency_is_named_and_not_declared_by_a_crate() {
        for named in [
            "b.workspace = true",
            "b = { workspace = true, features = [\"c\"] }",
        ] {
            let member = format!("[dependencies]\n{named}\n");
            assert_eq!(found(ROOT_TEXT, &member), [""; 0], "{named}");
        }
        for declared in ["b = \"1\"", "b = { version = \"1\" }", "b.version = \"1\""] {
            let member = format!("[dependencies]\n{declared}\n");
            assert_eq!(found(ROOT_TEXT, &member), ["a/Cargo.toml:2"], "{declared}");
        }
    }

    #[test]
    fn the_rule_holds_for_every_kind_of_dependency() {
        for section in [
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dependencies",
            "target.'cfg(target_arch = \"bpf\")'.dependencies",
        ] {
            let member = format!("[{section}]\nb = \"1\"\n");
            assert_eq!(found(ROOT_TEXT, &member), ["a/Cargo.toml:2"], "{section}");
        }
        let table = "[dependencies.b]\nversion = \"1\"\n";
        assert_eq!(found(ROOT_TEXT, table), ["a/Cargo.toml:2"]);
    }

    #[test]
    fn a_declared_dependency_is_used() {
        assert_eq!(found(ROOT_TEXT, "[dependencies]\n"), ["Cargo.toml:2"]);
    }

    #[test]
    fn arrays_over_several_lines_are_one_value() {
        let entries = entries("[a]\nb = [ # c\n  \"d\",\n]\ne = \"#\"\n");
        let values: Vec<_> = entries.iter().map(|entry| entry.value.as_str()).collect();
        assert_eq!(values, ["[\"d\",]", "\"#\""]);
        assert_eq!(entries[1].line, 5);
    }

    #[test]
    fn a_package_knows_its_name() {
        let text = "[package]\nname = \"eco-x\"\n[[bin]]\nname = \"x\"\n";
        assert_eq!(package(text).as_deref(), Some("eco-x"));
        assert_eq!(package("[workspace]\n"), None);
    }
}
