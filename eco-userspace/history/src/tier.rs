// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The three tiers of samples, and the SQL that differs by tier.

use crate::{UnixSeconds, retention::Retention};

/// How finely samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// As they come.
    Seconds,
    /// Added up by minute.
    Minutes,
    /// Added up by hour.
    Hours,
}

impl Tier {
    /// From the finest.
    pub const ALL: [Self; 3] = [Self::Seconds, Self::Minutes, Self::Hours];

    /// How its tables are called: `unit_seconds`, ….
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }

    /// The tier of this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.label() == label)
    }

    /// How long a row's time is, in seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 3600,
        }
    }

    /// The start of the row that `at` is in.
    #[must_use]
    pub fn floor(self, at: UnixSeconds) -> UnixSeconds {
        at - at.rem_euclid(self.seconds())
    }

    /// The start of the first row at or after `at`.
    #[must_use]
    pub fn ceil(self, at: UnixSeconds) -> UnixSeconds {
        self.floor(at + self.seconds() - 1)
    }

    /// How long its rows are kept, in seconds.
    #[must_use]
    pub fn kept(self, retention: &Retention) -> i64 {
        let kept = match self {
            Self::Seconds => retention.seconds,
            Self::Minutes => retention.minutes,
            Self::Hours => retention.hours,
        };
        i64::try_from(kept.as_secs()).unwrap_or(i64::MAX / 4)
    }
}

/// What is kept of the node, a meter or a unit: the same columns in each tier.
pub(crate) struct Table {
    name: &'static str,
    columns: &'static str,
    /// What a row adds up to, for each column but `at`.
    sums: &'static str,
    group: &'static str,
    /// How a row takes in another of its own time.
    adds: &'static str,
}

/// The node.
pub(crate) const NODE: Table = Table {
    name: "node",
    columns: "at, span_ms, cpu_ns, carbon_ng, intensity, g_per_kwh, left_out",
    sums: "sum(span_ms), sum(cpu_ns), sum(carbon_ng), max(intensity),
        sum(g_per_kwh * span_ms) / sum(CASE WHEN g_per_kwh IS NOT NULL THEN span_ms END),
        sum(left_out)",
    group: "HAVING count(*) > 0",
    // The intensity is a mean over the time in which one was known.
    adds: "g_per_kwh = coalesce((g_per_kwh * span_ms + excluded.g_per_kwh * excluded.span_ms)
            / max(span_ms + excluded.span_ms, 1), g_per_kwh, excluded.g_per_kwh),
        span_ms = span_ms + excluded.span_ms,
        cpu_ns = cpu_ns + excluded.cpu_ns,
        carbon_ng = coalesce(carbon_ng + excluded.carbon_ng, carbon_ng, excluded.carbon_ng),
        intensity = coalesce(excluded.intensity, intensity),
        left_out = left_out + excluded.left_out",
};

/// A meter.
pub(crate) const METER: Table = Table {
    name: "meter",
    columns: "at, meter, energy_uj, idle_uj, unattributed_uj, downtime_uj",
    sums: "meter, sum(energy_uj), sum(idle_uj), sum(unattributed_uj), sum(downtime_uj)",
    group: "GROUP BY meter",
    adds: "energy_uj = energy_uj + excluded.energy_uj,
        idle_uj = idle_uj + excluded.idle_uj,
        unattributed_uj = unattributed_uj + excluded.unattributed_uj,
        downtime_uj = downtime_uj + excluded.downtime_uj",
};

/// A unit.
pub(crate) const UNIT: Table = Table {
    name: "unit",
    columns: "at, unit, cpu_ns, package_uj, core_uj, uncore_uj, dram_uj, psys_uj, gpu_uj,
        board_uj, carbon_ng",
    sums: "unit, sum(cpu_ns), sum(package_uj), sum(core_uj), sum(uncore_uj), sum(dram_uj),
        sum(psys_uj), sum(gpu_uj), sum(board_uj), sum(carbon_ng)",
    group: "GROUP BY unit",
    adds: "cpu_ns = cpu_ns + excluded.cpu_ns,
        package_uj = coalesce(package_uj + excluded.package_uj, package_uj, excluded.package_uj),
        core_uj = coalesce(core_uj + excluded.core_uj, core_uj, excluded.core_uj),
        uncore_uj = coalesce(uncore_uj + excluded.uncore_uj, uncore_uj, excluded.uncore_uj),
        dram_uj = coalesce(dram_uj + excluded.dram_uj, dram_uj, excluded.dram_uj),
        psys_uj = coalesce(psys_uj + excluded.psys_uj, psys_uj, excluded.psys_uj),
        gpu_uj = coalesce(gpu_uj + excluded.gpu_uj, gpu_uj, excluded.gpu_uj),
        board_uj = coalesce(board_uj + excluded.board_uj, board_uj, excluded.board_uj),
        carbon_ng = coalesce(carbon_ng + excluded.carbon_ng, carbon_ng, excluded.carbon_ng)",
};

/// All of them.
pub(crate) const TABLES: [&Table; 3] = [&NODE, &METER, &UNIT];

impl Table {
    /// Its name in a tier.
    pub(crate) fn of(&self, tier: Tier) -> String {
        format!("{}_{}", self.name, tier.label())
    }

    /// Puts one row, a parameter for each column. A row that is there already in that time is
    /// added to (two ticks in one second, or the same minute once more after the clock went
    /// back): so nothing is lost and nothing doubled.
    pub(crate) fn put(&self, tier: Tier) -> String {
        let parameters: Vec<String> = (1..=self.columns.split(',').count())
            .map(|at| format!("?{at}"))
            .collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO UPDATE SET {}",
            self.of(tier),
            self.columns,
            parameters.join(", "),
            self.adds
        )
    }

    /// Adds up what `from` has from `?1` up to `?2`, and puts it into `into` at `?3`.
    pub(crate) fn fold(&self, from: Tier, into: Tier) -> String {
        format!(
            "INSERT INTO {} ({}) SELECT ?3, {} FROM {} WHERE at >= ?1 AND at < ?2 {} \
             ON CONFLICT DO UPDATE SET {}",
            self.of(into),
            self.columns,
            self.sums,
            self.of(from),
            self.group,
            self.adds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_row_that_begins_before_it() {
        assert_eq!(Tier::Minutes.floor(119), 60);
        assert_eq!(Tier::Minutes.ceil(119), 120);
        assert_eq!(Tier::Minutes.ceil(120), 120);
        assert_eq!(Tier::Hours.floor(-1), -3600, "before 1970 too");
        assert_eq!(Tier::Seconds.floor(7), 7);
    }

    #[test]
    fn a_tier_is_found_by_its_label() {
        for tier in Tier::ALL {
            assert_eq!(Tier::from_label(tier.label()), Some(tier));
        }
        assert_eq!(Tier::from_label("days"), None);
    }
}
