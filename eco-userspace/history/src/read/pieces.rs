// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which tier answers for which part of a window: none for two, and the coarsest that is exact.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::{
    UnixSeconds, retention,
    tier::{NODE, Tier},
};

/// A part of the time, and the tier that it is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The tier.
    pub tier: Tier,
    /// From this second on.
    pub from: UnixSeconds,
    /// Up to this one, which is not in it.
    pub to: UnixSeconds,
}

/// Rows by where they begin, with what they say of their time in ms; `None`: there is no such row
/// yet, but finer ones.
type Rows = BTreeMap<UnixSeconds, Option<i64>>;

/// Cuts a window up, in order.
pub(super) fn pieces(
    db: &Connection,
    from: UnixSeconds,
    to: UnixSeconds,
) -> rusqlite::Result<Vec<Piece>> {
    let window = Window { from, to };
    let mut pieces = Vec::new();
    if from >= to {
        return Ok(pieces);
    }
    let oldest_minute = retention::oldest(db, Tier::Minutes)?;
    let oldest_second = retention::oldest(db, Tier::Seconds)?;
    for (hour, span_ms) in window.rows(db, Tier::Hours)? {
        let whole = Window::of(Tier::Hours, hour);
        // Most hours of a long window: nothing finer is asked about them.
        let is_over = oldest_second.is_none_or(|second| second >= whole.to);
        if span_ms.is_some() && is_over && window.contains(whole) {
            push(&mut pieces, Tier::Hours, whole);
            continue;
        }
        let minutes = whole.rows(db, Tier::Minutes)?;
        let Some(span_ms) = span_ms else {
            window.add_minutes(db, &minutes, &mut pieces)?;
            continue;
        };
        if window.contains(whole) {
            push(&mut pieces, Tier::Hours, whole);
            // The clock went back into this hour, into a minute that is not over.
            let is_open =
                |at: &UnixSeconds, row: &Option<i64>| row.is_none() && Some(*at) > oldest_minute;
            for (at, _) in minutes.iter().filter(|(at, row)| is_open(at, row)) {
                push(&mut pieces, Tier::Seconds, Window::of(Tier::Minutes, *at));
            }
        } else if span_of(&minutes) < span_ms {
            push(&mut pieces, Tier::Hours, whole);
        } else {
            window.add_minutes(db, &minutes, &mut pieces)?;
        }
    }
    Ok(pieces)
}

/// A part of the time.
#[derive(Clone, Copy)]
struct Window {
    from: UnixSeconds,
    to: UnixSeconds,
}

impl Window {
    /// What a row covers.
    fn of(tier: Tier, at: UnixSeconds) -> Self {
        Self {
            from: at,
            to: at + tier.seconds(),
        }
    }

    fn contains(self, part: Self) -> bool {
        self.from <= part.from && part.to <= self.to
    }

    /// What both cover, if anything.
    fn cut(self, other: Self) -> Option<Self> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (from < to).then_some(Self { from, to })
    }

    /// A tier's rows that reach into it, and what lies in finer ones alone.
    fn rows(self, db: &Connection, tier: Tier) -> rusqlite::Result<Rows> {
        let first = self.from.saturating_sub(tier.seconds() - 1);
        let mut rows = Rows::new();
        for finer in Tier::ALL.into_iter().filter(|finer| *finer < tier) {
            let sql = format!(
                "SELECT DISTINCT at - ((at % ?3) + ?3) % ?3 FROM {} WHERE at >= ?1 AND at < ?2",
                NODE.of(finer)
            );
            let first = self.from.saturating_sub(finer.seconds() - 1);
            let mut found = db.prepare_cached(&sql)?;
            let starts =
                found.query_map(params![first, self.to, tier.seconds()], |row| row.get(0))?;
            for start in starts {
                rows.insert(start?, None);
            }
        }
        let sql = format!(
            "SELECT at, span_ms FROM {} WHERE at >= ?1 AND at < ?2",
            NODE.of(tier)
        );
        let mut found = db.prepare_cached(&sql)?;
        let kept = found.query_map(params![first, self.to], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        for row in kept {
            let (at, span_ms) = row?;
            rows.insert(at, Some(span_ms));
        }
        Ok(rows)
    }

    /// What lies in it of these minutes of one hour.
    fn add_minutes(
        self,
        db: &Connection,
        minutes: &Rows,
        pieces: &mut Vec<Piece>,
    ) -> rusqlite::Result<()> {
        for (minute, span_ms) in minutes {
            let whole = Self::of(Tier::Minutes, *minute);
            let Some(part) = self.cut(whole) else {
                continue;
            };
            let is_exact = match span_ms {
                None => false,
                Some(_) if self.contains(whole) => true,
                // Cut by an end of the window: its seconds, if they are all there.
                Some(span_ms) => span_of(&whole.rows(db, Tier::Seconds)?) < *span_ms,
            };
            if is_exact {
                push(pieces, Tier::Minutes, whole);
            } else {
                push(pieces, Tier::Seconds, part);
            }
        }
        Ok(())
    }
}

/// What rows say of their time, in ms.
fn span_of(rows: &Rows) -> i64 {
    rows.values().flatten().sum()
}

/// One piece more, or the last one grows.
fn push(pieces: &mut Vec<Piece>, tier: Tier, part: Window) {
    match pieces.last_mut() {
        Some(last) if last.tier == tier && last.to == part.from => last.to = part.to,
        _ => pieces.push(Piece {
            tier,
            from: part.from,
            to: part.to,
        }),
    }
}
