// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long samples are kept, and how large the file may get.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::{
    UnixSeconds,
    tier::{METER, NODE, Tier, UNIT},
};

const HOUR: Duration = Duration::from_secs(3600);

/// How long samples are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Samples as they come.
    pub seconds: Duration,
    /// Samples by minute.
    pub minutes: Duration,
    /// Samples by hour.
    pub hours: Duration,
    /// Above this the oldest samples go before their time, the finest first. In bytes.
    pub most_bytes: u64,
}

impl Default for Retention {
    /// A month of minutes, and two years of hours.
    fn default() -> Self {
        Self {
            seconds: 6 * HOUR,
            minutes: 30 * 24 * HOUR,
            hours: 730 * 24 * HOUR,
            most_bytes: 512 << 20,
        }
    }
}

/// A tier is folded into the next before it may go; so much of it always stays.
const LEAST_SECONDS: i64 = 600;

/// How much goes at once where the file is too large, in seconds, by tier.
const STEPS: [(Tier, i64, i64); 3] = [
    (Tier::Seconds, 600, LEAST_SECONDS),
    (Tier::Minutes, 6 * 3600, 24 * 3600),
    (Tier::Hours, 7 * 24 * 3600, 30 * 24 * 3600),
];

/// How many steps are done at once: the rest is done a minute later.
const MOST_STEPS: usize = 50;

/// Deletes what is older than it is to be kept.
pub(crate) fn expire(
    db: &Connection,
    retention: &Retention,
    now: UnixSeconds,
) -> rusqlite::Result<()> {
    for tier in Tier::ALL {
        let kept = tier.kept(retention).max(LEAST_SECONDS);
        delete_before(db, tier, tier.floor(now - kept))?;
    }
    Ok(())
}

/// Deletes the oldest, the finest first, until the file is within its bounds; says how many
/// steps that took.
pub(crate) fn shrink(
    db: &Connection,
    retention: &Retention,
    now: UnixSeconds,
) -> rusqlite::Result<usize> {
    let mut done = 0;
    for (tier, step, least) in STEPS {
        while done < MOST_STEPS && used_bytes(db)? > retention.most_bytes {
            let oldest = oldest(db, tier)?;
            let Some(oldest) = oldest.filter(|oldest| *oldest < now - least) else {
                break;
            };
            delete_before(db, tier, (oldest + step).min(now - least))?;
            done += 1;
        }
    }
    if done > 0 {
        // Gives the pages back to the file system: 4 MB a minute, so that it is never long.
        db.execute_batch("PRAGMA incremental_vacuum(1024)")?;
    }
    Ok(done)
}

/// Forgets units that no sample tells of any more.
pub(crate) fn forget_units(db: &Connection) -> rusqlite::Result<()> {
    let oldest: Option<i64> = db.query_row(
        "SELECT min(at) FROM (SELECT min(at) AS at FROM node_seconds UNION ALL
         SELECT min(at) FROM node_minutes UNION ALL SELECT min(at) FROM node_hours)",
        [],
        |row| row.get(0),
    )?;
    if let Some(oldest) = oldest {
        db.execute(
            "DELETE FROM units WHERE last_at < ?1 - 3600",
            params![oldest],
        )?;
    }
    db.execute(
        "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - 1000",
        [],
    )?;
    Ok(())
}

/// How much of the file is in use, in bytes.
pub(crate) fn used_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pragma =
        |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(crate::unsigned(pages * pragma("page_size")?))
}

/// The oldest sample of a tier.
pub(crate) fn oldest(db: &Connection, tier: Tier) -> rusqlite::Result<Option<UnixSeconds>> {
    let sql = format!("SELECT min(at) FROM {}", NODE.of(tier));
    db.prepare_cached(&sql)?.query_row([], |row| row.get(0))
}

fn delete_before(db: &Connection, tier: Tier, before: UnixSeconds) -> rusqlite::Result<()> {
    // The node's row last: as long as it is there, the rest is looked for.
    for table in [&UNIT, &METER, &NODE] {
        let sql = format!("DELETE FROM {} WHERE at < ?1", table.of(tier));
        db.prepare_cached(&sql)?.execute(params![before])?;
    }
    Ok(())
}
