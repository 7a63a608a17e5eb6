// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask tidy`: the few rules of the house that a machine can check.
//!
//! A rule is a function from the tree to what violates it. What rustc, clippy and rustfmt
//! already check is not repeated here.

mod code;
mod links;
mod manifest;
mod rooms;
mod source;
mod tree;

use std::fmt;
use std::process::ExitCode;

use anyhow::{Result, bail};

use self::tree::Tree;
use crate::workspace::Workspace;

/// Prints one line per violation; a negative answer when there is one.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    let violations = violations(&Tree::of(&workspace.root)?);
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            eprintln!("tidy: {count} violations");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The same as one of several checks.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    if main(workspace)? != ExitCode::SUCCESS {
        bail!("see the lines above");
    }
    Ok(())
}

fn violations(tree: &Tree) -> Vec<Violation> {
    let rules = [source::check, manifest::check, rooms::check, links::check];
    let mut all: Vec<Violation> = rules.iter().flat_map(|rule| rule(tree)).collect();
    all.sort();
    all
}

/// One place that breaks one rule: `file:line: what (rule)`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    /// From 1.
    line: usize,
    what: String,
    rule: &'static str,
}

impl Violation {
    fn new(file: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
            rule,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            rule,
        } = self;
        write!(out, "{file}:{line}: {what} ({rule})")
    }
}
