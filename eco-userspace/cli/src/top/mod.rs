// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco top`.
use crate::exit::{Failure, Outcome};
use std::path::Path;
/// x
#[derive(clap::Args)]
pub(crate) struct TopArgs {}
pub(crate) fn main(_socket: &Path, _args: &TopArgs) -> Outcome {
    Err(Failure::absent("x"))
}
