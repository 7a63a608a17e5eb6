// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where histories lie.

use std::{
    env,
    path::{Path, PathBuf},
};

use eco_history::FILE_NAME;

/// Where the node's agent keeps its own, unless it was told otherwise.
pub(crate) const NODE: &str = "/var/lib/eco/carbon_history.db";

/// This user's own: `$XDG_STATE_HOME/eco`, else `~/.local/state/eco`, as the XDG Base Directory
/// Specification wants it. `None` for a user without a home.
pub(crate) fn own() -> Option<PathBuf> {
    own_of(|name| env::var_os(name).map(PathBuf::from))
}

fn own_of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // A relative path is to be passed over, says the specification.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join(Path::new("eco").join(FILE_NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_lies_where_the_user_keeps_state() {
        let of = |state: Option<&str>, home: Option<&str>| {
            own_of(|name| match name {
                "XDG_STATE_HOME" => state.map(PathBuf::from),
                _ => home.map(PathBuf::from),
            })
        };
        let at = |path: &str| Some(PathBuf::from(path));
        let file = "/s/eco/carbon_history.db";
        assert_eq!(of(Some("/s"), Some("/h")), at(file));
        let file = "/h/.local/state/eco/carbon_history.db";
        for none in [None, Some(""), Some("s")] {
            assert_eq!(of(none, Some("/h")), at(file));
        }
        assert_eq!(of(None, None), None);
    }
}
