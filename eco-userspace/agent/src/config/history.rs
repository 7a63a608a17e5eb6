// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The keys of the history.

use std::time::Duration;

use eco_history::retention::Retention;

use super::{ConfigError, Settings, parse_duration};
use crate::outlets::history::{self, HistoryConfig};

impl Settings {
    pub(super) fn history(&self) -> Result<HistoryConfig, ConfigError> {
        let state = self.some("state").map(std::path::Path::new);
        let path = if self.is_true("history.enabled")? {
            history::place(self.some("history.path"), state)
        } else {
            None
        };
        let most_mb = self.get("history.most_mb").parse::<u64>().ok();
        let most_mb = most_mb.filter(|mb| (1..=1 << 20).contains(mb));
        let most_mb =
            most_mb.ok_or_else(|| self.bad("history.most_mb", "must be 1 to 1048576 megabytes"))?;
        Ok(HistoryConfig {
            path,
            retention: Retention {
                seconds: self.kept("history.seconds")?,
                minutes: self.kept("history.minutes")?,
                hours: self.kept("history.hours")?,
                most_bytes: most_mb << 20,
            },
        })
    }

    fn kept(&self, key: &str) -> Result<Duration, ConfigError> {
        let least = Duration::from_secs(600);
        let kept = parse_duration(self.get(key)).filter(|kept| *kept >= least);
        kept.ok_or_else(|| self.bad(key, "must be 10m or longer, such as 6h or 30d"))
    }
}
