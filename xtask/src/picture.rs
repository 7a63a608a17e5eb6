// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask picture`: the picture of `eco top` that the README shows.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::build;
use crate::workspace::{Workspace, succeed};

/// A session that `eco top --record` wrote, and what is drawn of its end.
const RECORDING: &str = "docs/top.ecotop";
const PICTURE: &str = "docs/top.svg";

/// Draws it anew. The drawing is eco's own: xtask uses no crate of the house.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    build::release_quietly(workspace)?;
    let eco = workspace.release_dir().join("eco");
    succeed(
        Command::new(eco)
            .args(["top", "--replay", RECORDING, "--picture", PICTURE])
            .current_dir(&workspace.root),
    )?;
    println!("{PICTURE}, from {RECORDING}");
    Ok(ExitCode::SUCCESS)
}
