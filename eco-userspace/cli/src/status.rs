// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco status`.
use crate::exit::{Failure, Outcome};
use std::path::Path;
/// x
#[derive(clap::Args)]
pub(crate) struct StatusArgs {}
pub(crate) fn main(_socket: &Path, _args: &StatusArgs) -> Outcome {
    Err(Failure::absent("x"))
}
