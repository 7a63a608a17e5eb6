// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Links between the project's Markdown files lead somewhere.

use std::collections::BTreeMap;

use super::Violation;
use super::tree::Tree;

const RULE: &str = "link";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, text) in tree.ending(".md") {
        for (line, target) in links(text) {
            if let Some(what) = wrong(tree, name, &target) {
                found.push(Violation::new(name, line, RULE, what));
            }
        }
    }
    found
}

/// Why a link from the file `from` leads nowhere; `None` when it leads somewhere, or out
/// of the project.
fn wrong(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if is_elsewhere(target) {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let resolved = if path.is_empty() {
        Some(from.to_owned())
    } else {
        resolve(from, path)
    };
    let Some(file) = resolved.filter(|file| tree.has(file)) else {
        return Some(format!("`{target}` leads to no file"));
    };
    let is_page = file.ends_with(".md");
    let text = tree.text(&file).unwrap_or_default();
    if is_page && !anchor.is_empty() && !anchors(text).iter().any(|known| known == anchor) {
        return Some(format!("`{target}`: {file} has no such heading"));
    }
    None
}

/// A scheme, as in `https:` or `mailto:`.
fn is_elsewhere(target: &str) -> bool {
    target.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '+')
    })
}

/// The path from the root; `None` when it leaves the project.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => from.split('/').collect(),
    };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Each link's line, from 1, and target: `[text](target)` and `[name]: target`.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (line, prose) in prose(text) {
        let prose = without_code(prose);
        let inline = prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let defined = prose
            .strip_prefix('[')
            .and_then(|rest| Some(rest.split_once("]: ")?.1));
        for target in inline.chain(defined) {
            // A title may follow: [text](target "title").
            if let Some(target) = target.split_whitespace().next() {
                links.push((line, target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    links
}

/// The anchors that GitHub makes of a page's headings.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut anchors = Vec::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let slug = slug(heading.trim());
        let count = seen.entry(slug.clone()).or_default();
        anchors.push(if *count == 0 {
            slug
        } else {
            format!("{slug}-{count}")
        });
        *count += 1;
    }
    anchors
}

fn slug(heading: &str) -> String {
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let lower = heading.to_lowercase();
    lower
        .chars()
        .filter(is_kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Lines, numbered from 1, outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((at + 1, line))
    })
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        check(&Tree::from(files))
            .iter()
            .map(|v| format!("{}:{}", v.file, v.line))
            .collect()
    }

    #[test]
    fn a_link_leads_to_a_file_or_folder_of_the_project() {
        let page = "[a](docs/a.md) [b](./docs) ![c](/docs/c.png)\n[d]: docs/a.md \"title\"\n";
        let files = [
            ("README.md", page),
            ("docs/a.md", "[up](../README.md)"),
            ("docs/c.png", ""),
        ];
        assert_eq!(found(files), [""; 0]);
        assert_eq!(found([("README.md", "\n[a](gone.md)\n")]), ["README.md:2"]);
        assert_eq!(found([("README.md", "[a]: gone.md\n")]), ["README.md:1"]);
        assert_eq!(
            found([("README.md", "[a](../outside.md)\n")]),
            ["README.md:1"]
        );
    }

    #[test]
    fn an_anchor_leads_to_a_heading() {
        let page = "# One two\n## `code`, and (more)\n## One two\n";
        for anchor in ["one-two", "code-and-more", "one-two-1"] {
            let link = format!("[a](a.md#{anchor})");
            assert_eq!(
                found([("README.md", &link), ("a.md", page)]),
                [""; 0],
                "{anchor}"
            );
        }
        assert_eq!(
            found([("README.md", "[a](a.md#three)"), ("a.md", page)]),
            ["README.md:1"]
        );
        assert_eq!(
            found([("README.md", "# Here\n[a](#here) [b](#there)\n")]),
            ["README.md:2"]
        );
    }

    #[test]
    fn what_is_no_link_is_left_alone() {
        let page = "```\n[a](gone.md)\n# no heading\n```\n`[a](gone.md)` [b](https://x.y/z#w)\n";
        assert_eq!(found([("README.md", page)]), [""; 0]);
        assert_eq!(
            found([("README.md", "```\n# Here\n```\n[a](#here)\n")]),
            ["README.md:4"]
        );
    }

    #[test]
    fn a_line_of_a_source_file_can_be_linked_to() {
        assert_eq!(
            found([("README.md", "[a](a.rs#L3)"), ("a.rs", "")]),
            [""; 0]
        );
    }
}
