// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask lint`: what a change must pass besides its tests.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::tidy;
use crate::tools::{CARGO_DENY, Folder};
use crate::workspace::{OPTIONAL, Workspace, succeed};

/// A check says itself what is wrong; its error says only that something is.
type Check = fn(&Workspace) -> Result<()>;

/// Runs every check, also after one has failed, and names at the end those that did.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    let checks: [(&str, Check); 4] = [
        ("tidy", tidy::check),
        ("fmt", format),
        ("clippy", clippy),
        ("deny", deny),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        eprintln!("lint: {name}");
        if let Err(error) = check(workspace) {
            eprintln!("lint: {name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        eprintln!("lint: clean");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn format(workspace: &Workspace) -> Result<()> {
    succeed(workspace.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    succeed(
        workspace
            .cargo()
            .args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--features",
                OPTIONAL,
                "--",
                "-D",
                "warnings",
            ])
            .env("PATH", Folder::locate()?.search_path()?),
    )
}

fn deny(workspace: &Workspace) -> Result<()> {
    // Advisories come from a git repository that not every place where eco is built can
    // reach; whether a build passes must not depend on that.
    eprintln!("lint: deny: licenses, bans, sources; for advisories: cargo deny check advisories");
    let cargo_deny = CARGO_DENY.ensure(workspace, &Folder::locate()?)?;
    succeed(
        Command::new(cargo_deny)
            .args(["--locked", "check", "licenses", "bans", "sources"])
            .current_dir(&workspace.root),
    )
}
