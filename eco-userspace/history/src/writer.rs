// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts samples into the file, adds them up by minute and hour, and thins out what is old.
//!
//! Each sample is one transaction: a write to SQLite's log and no fsync. The log is checkpointed
//! by the clock, with three fsyncs at most.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use rustc_hash::FxHashMap;

use crate::{
    UnixSeconds,
    file::{self, FileError},
    retention::{self, Retention},
    run,
    sample::{Meter, Priced, Sample, Unit},
    signed,
    tier::{METER, NODE, TABLES, Tier, UNIT},
};

/// How often the log is brought into the file: at most three fsyncs each time.
const CHECKPOINT: Duration = Duration::from_secs(300);

/// A log of more pages than this is not waited for: 16 MB.
const LONGEST_LOG: u32 = 4096;

/// How far the clock may be from where the samples put it before that is called a jump, in
/// seconds; and how long it must have been steady before anything may go for being old.
const JUMP: i64 = 60;
const STEADY: i64 = 600;

/// How many names are remembered; more are looked up again.
const MOST_NAMES: usize = 10_000;

/// Writes one file.
pub struct Writer {
    db: Connection,
    path: PathBuf,
    retention: Retention,
    sql: Statements,
    ids: Ids,
    /// Where samples go now: `None` before the first.
    place: Option<Place>,
    /// The sample before: its second.
    last_at: Option<UnixSeconds>,
    steady_seconds: i64,
    checkpointed: Instant,
    log_pages: u32,
}

/// The minute that samples are in, and what of it has been added up already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    minute: UnixSeconds,
    /// The minute was added up before, and the clock went back into it: samples go straight to
    /// its row.
    again: bool,
    /// The same for its hour.
    hour_is_folded: bool,
}

struct Statements {
    node: [String; 3],
    meter: [String; 3],
    unit: [String; 3],
}

/// Ids of what has a row of its own.
#[derive(Default)]
struct Ids {
    units: FxHashMap<(String, String), (i64, Arc<Unit>)>,
    meters: FxHashMap<Arc<Meter>, i64>,
    intensity: Option<(i64, Arc<Priced>)>,
}

impl Writer {
    /// Opens the file, and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be opened, is a newer eco's or something else's, or is damaged anywhere.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, FileError> {
        let db = file::open(path)?;
        file::check(&db, path)?;
        let put = |table: &crate::tier::Table| Tier::ALL.map(|tier| table.put(tier));
        Ok(Self {
            db,
            path: path.to_owned(),
            retention,
            sql: Statements {
                node: put(&NODE),
                meter: put(&METER),
                unit: put(&UNIT),
            },
            ids: Ids::default(),
            place: None,
            last_at: None,
            steady_seconds: 0,
            checkpointed: Instant::now(),
            log_pages: 0,
        })
    }

    /// Puts a sample: all of it or nothing.
    ///
    /// # Errors
    /// When the disk is full, or the file cannot be written or is damaged. The sample can be put
    /// again later.
    pub fn put(&mut self, sample: &Sample) -> Result<(), FileError> {
        let before = self.place;
        let written = self.try_put(sample);
        if written.is_err() {
            // Ids that were made in the transaction are gone with it.
            self.ids = Ids::default();
            self.place = before;
        }
        written.map_err(|why| FileError::of(&self.path, why))?;
        self.watch_clock(sample);
        let minute_is_over = before.is_some_and(|place| Some(place.minute) != self.minute());
        if minute_is_over {
            self.tidy(sample.at)
                .map_err(|why| FileError::of(&self.path, why))?;
        }
        if self.checkpointed.elapsed() >= CHECKPOINT || self.log_pages > LONGEST_LOG {
            self.checkpoint()
                .map_err(|why| FileError::of(&self.path, why))?;
        }
        Ok(())
    }

    /// How much of the file is in use, in bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn used_bytes(&self) -> Result<u64, FileError> {
        retention::used_bytes(&self.db).map_err(|why| FileError::of(&self.path, why))
    }

    /// Tells whoever reads the file later of something that is not in the numbers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, at: UnixSeconds, what: &str) -> Result<(), FileError> {
        let sql = "INSERT INTO events (at, what) VALUES (?1, ?2)";
        let noted = self.db.execute(sql, params![at, what]);
        noted
            .map(drop)
            .map_err(|why| FileError::of(&self.path, why))
    }

    fn minute(&self) -> Option<UnixSeconds> {
        self.place.map(|place| place.minute)
    }

    fn try_put(&mut self, sample: &Sample) -> rusqlite::Result<()> {
        let minute = Tier::Minutes.floor(sample.at);
        let change = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        if self.place.is_none() {
            fold_what_was_left(&change, minute)?;
        }
        let mut place = match self.place {
            Some(place) if place.minute == minute => place,
            earlier => {
                if let Some(earlier) = earlier {
                    leave(&change, earlier, minute)?;
                }
                enter(&change, minute)?
            }
        };
        if place.again {
            self.sql
                .put(&change, &mut self.ids, sample, Tier::Minutes, minute)?;
            if place.hour_is_folded {
                let hour = Tier::Hours.floor(minute);
                self.sql
                    .put(&change, &mut self.ids, sample, Tier::Hours, hour)?;
            }
        } else {
            self.sql
                .put(&change, &mut self.ids, sample, Tier::Seconds, sample.at)?;
        }
        for run in &sample.runs {
            run::put(&change, run)?;
        }
        change.commit()?;
        place.minute = minute;
        self.place = Some(place);
        // A rough count: the end of each of three tables, and what a minute's sums touch.
        self.log_pages += 4 + sample.units.len() as u32 / 100;
        Ok(())
    }

    /// Notes a clock that was set: samples then lie in another time than they should.
    fn watch_clock(&mut self, sample: &Sample) {
        let span = signed(sample.span_ms) / 1000;
        if let Some(last) = self.last_at {
            let off = sample.at - last - span;
            if off.abs() > JUMP {
                self.steady_seconds = 0;
                let direction = if off < 0 { "back" } else { "ahead" };
                let what = format!("the clock went {direction} by {} s", off.abs());
                tracing::warn!(what, "history");
                // The numbers are there; only the remark is missing if this fails.
                let _ = self.note(sample.at, &what);
            } else {
                self.steady_seconds += span.max(0);
            }
        }
        self.last_at = Some(sample.at);
    }

    /// Once a minute: what is old goes, and what is too much.
    fn tidy(&mut self, now: UnixSeconds) -> rusqlite::Result<()> {
        let change = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        // A clock that is wrong for a moment must not make all that is there look old.
        if self.steady_seconds >= STEADY {
            retention::expire(&change, &self.retention, now)?;
        }
        let shrunk = retention::shrink(&change, &self.retention, now)?;
        if shrunk > 0 || Tier::Hours.floor(now) > now - 60 {
            retention::forget_units(&change)?;
            self.ids = Ids::default();
        }
        change.commit()?;
        self.log_pages += 40 + 100 * shrunk as u32;
        Ok(())
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        self.db
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        self.checkpointed = Instant::now();
        self.log_pages = 0;
        Ok(())
    }
}

impl Statements {
    fn put(
        &self,
        db: &Connection,
        ids: &mut Ids,
        sample: &Sample,
        tier: Tier,
        at: UnixSeconds,
    ) -> rusqlite::Result<()> {
        let tier = Tier::ALL.iter().position(|t| *t == tier).unwrap_or(0);
        let intensity = match &sample.intensity {
            Some(priced) => Some(ids.of_intensity(db, priced)?),
            None => None,
        };
        let g_per_kwh = sample
            .intensity
            .as_ref()
            .map(|p| p.intensity.g_per_kwh.get());
        db.prepare_cached(&self.node[tier])?.execute(params![
            at,
            signed(sample.span_ms),
            signed(sample.cpu_ns),
            sample.carbon_ng.map(signed),
            intensity,
            g_per_kwh,
            signed(sample.left_out),
        ])?;
        let mut put = db.prepare_cached(&self.meter[tier])?;
        for (meter, amounts) in &sample.meters {
            put.execute(params![
                at,
                ids.of_meter(db, meter)?,
                signed(amounts.energy_uj),
                signed(amounts.idle_uj),
                signed(amounts.unattributed_uj),
                signed(amounts.downtime_uj),
            ])?;
        }
        let mut put = db.prepare_cached(&self.unit[tier])?;
        for (unit, amounts) in &sample.units {
            let [package, core, uncore, dram, psys, gpu, board] =
                amounts.energy_uj.map(|uj| uj.map(signed));
            put.execute(params![
                at,
                ids.of_unit(db, unit, sample.at)?,
                signed(amounts.cpu_ns),
                package,
                core,
                uncore,
                dram,
                psys,
                gpu,
                board,
                amounts.carbon_ng.map(signed),
            ])?;
        }
        Ok(())
    }
}

impl Ids {
    fn of_unit(
        &mut self,
        db: &Connection,
        unit: &Arc<Unit>,
        at: UnixSeconds,
    ) -> rusqlite::Result<i64> {
        // One look-up without a copy of the names would need a raw entry; these are short.
        let key = (unit.kind.clone(), unit.name.clone());
        if let Some((id, known)) = self.units.get(&key)
            && (Arc::ptr_eq(known, unit) || known == unit)
        {
            return Ok(*id);
        }
        if self.units.len() >= MOST_NAMES {
            self.units.clear();
        }
        let sql =
            "INSERT INTO units (kind, name, title, user, namespace, manager, first_at, last_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
            ON CONFLICT DO UPDATE SET title = excluded.title,
                user = coalesce(excluded.user, user),
                namespace = coalesce(excluded.namespace, namespace),
                manager = coalesce(excluded.manager, manager),
                last_at = max(last_at, excluded.last_at)
            RETURNING id";
        let id = db.prepare_cached(sql)?.query_row(
            params![
                unit.kind,
                unit.name,
                unit.title,
                unit.user,
                unit.namespace,
                unit.manager,
                at
            ],
            |row| row.get(0),
        )?;
        self.units.insert(key, (id, unit.clone()));
        Ok(id)
    }

    fn of_meter(&mut self, db: &Connection, meter: &Arc<Meter>) -> rusqlite::Result<i64> {
        if let Some(id) = self.meters.get(meter) {
            return Ok(*id);
        }
        let sql = "INSERT INTO meters (name, domain, device, source, estimated)
            VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id";
        let id = db.query_row(
            sql,
            params![
                meter.name,
                meter.domain.label(),
                meter.device,
                meter.source,
                meter.estimated
            ],
            |row| row.get(0),
        )?;
        self.meters.insert(meter.clone(), id);
        Ok(id)
    }

    fn of_intensity(&mut self, db: &Connection, priced: &Arc<Priced>) -> rusqlite::Result<i64> {
        if let Some((id, known)) = &self.intensity
            && known == priced
        {
            return Ok(*id);
        }
        let id = priced.id(db)?;
        self.intensity = Some((id, priced.clone()));
        Ok(id)
    }
}

/// Adds up rows of `from` into the row of `into` that begins at `at`.
fn fold(
    db: &Connection,
    from: Tier,
    into: Tier,
    at: UnixSeconds,
    start: UnixSeconds,
) -> rusqlite::Result<()> {
    for table in TABLES {
        db.prepare_cached(&table.fold(from, into))?
            .execute(params![start, start + next_to(from).seconds(), at])?;
    }
    Ok(())
}

/// The tier that a tier is added up into.
fn next_to(tier: Tier) -> Tier {
    match tier {
        Tier::Seconds => Tier::Minutes,
        Tier::Minutes | Tier::Hours => Tier::Hours,
    }
}

/// Whether the row at `at` is there.
fn has(db: &Connection, tier: Tier, at: UnixSeconds) -> rusqlite::Result<bool> {
    let sql = format!("SELECT 1 FROM {} WHERE at = ?1", NODE.of(tier));
    let found = db
        .prepare_cached(&sql)?
        .query_row([at], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// A minute begins, or once more.
fn enter(db: &Connection, minute: UnixSeconds) -> rusqlite::Result<Place> {
    Ok(Place {
        minute,
        again: has(db, Tier::Minutes, minute)?,
        hour_is_folded: has(db, Tier::Hours, Tier::Hours.floor(minute))?,
    })
}

/// A minute is over, and perhaps its hour.
fn leave(db: &Connection, place: Place, next: UnixSeconds) -> rusqlite::Result<()> {
    let hour = Tier::Hours.floor(place.minute);
    if !place.again {
        fold_minute(db, place.minute)?;
    }
    if hour != Tier::Hours.floor(next) && !place.hour_is_folded {
        fold(db, Tier::Minutes, Tier::Hours, hour, hour)?;
    }
    Ok(())
}

/// Adds up a minute; into its hour too, if that has been added up before it.
fn fold_minute(db: &Connection, minute: UnixSeconds) -> rusqlite::Result<()> {
    fold(db, Tier::Seconds, Tier::Minutes, minute, minute)?;
    let hour = Tier::Hours.floor(minute);
    if has(db, Tier::Hours, hour)? {
        for table in TABLES {
            db.prepare_cached(&table.fold(Tier::Seconds, Tier::Hours))?
                .execute(params![minute, minute + 60, hour])?;
        }
    }
    let sql = "UPDATE units SET last_at = ?1 WHERE last_at < ?1
        AND id IN (SELECT unit FROM unit_minutes WHERE at = ?1)";
    db.prepare_cached(sql)?.execute([minute])?;
    Ok(())
}

/// Adds up what a writer before this one left in single seconds and minutes.
fn fold_what_was_left(db: &Connection, now: UnixSeconds) -> rusqlite::Result<()> {
    let left = |from: Tier, into: Tier, but: UnixSeconds| -> rusqlite::Result<Vec<UnixSeconds>> {
        let (of, length) = (NODE.of(from), into.seconds());
        let sql = format!(
            "SELECT DISTINCT at - at % {length} AS start FROM {of}
             WHERE start != ?1 AND start NOT IN (SELECT at FROM {}) ORDER BY start",
            NODE.of(into)
        );
        let mut rows = db.prepare(&sql)?;
        let starts = rows.query_map([but], |row| row.get(0))?;
        starts.collect()
    };
    for minute in left(Tier::Seconds, Tier::Minutes, now)? {
        fold_minute(db, minute)?;
    }
    for hour in left(Tier::Minutes, Tier::Hours, Tier::Hours.floor(now))? {
        fold(db, Tier::Minutes, Tier::Hours, hour, hour)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
