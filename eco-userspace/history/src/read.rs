// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was used from one time to another, added up from the tiers that hold it.
//!
//! Each second comes from one tier only: hours where a whole one lies within the window, minutes
//! and seconds at its ends and in what no hour has taken in yet. Where the end of a window cuts a
//! row whose finer ones are gone, the whole row counts, and the answer says how far it reaches.

mod pieces;

use eco_meter::Domain;
use rusqlite::{Connection, Row, params};
use rustc_hash::FxHashMap;

pub use self::pieces::Piece;
use crate::{
    UnixSeconds,
    sample::{Meter, MeterAmounts, Unit, UnitAmounts},
    tier::{METER, NODE, UNIT},
    unsigned,
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// From this second on.
    pub from: UnixSeconds,
    /// Up to this one, which is not in it.
    pub to: UnixSeconds,
    /// Units of these kinds; none: the node alone.
    pub kinds: Vec<&'static str>,
    /// Of these the ones of that name or title.
    pub name: Option<String>,
}

/// What was used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Where it was read, in order: what it covers, which may be more than was asked for.
    pub pieces: Vec<Piece>,
    /// For how long of that an agent measured, in ms.
    pub span_ms: u64,
    /// CPU time of all, in ns.
    pub cpu_ns: u64,
    /// What the node emitted, in ng CO2e.
    pub carbon_ng: Option<u64>,
    /// Whether no intensity was known for a part of it, which nothing is counted for.
    pub carbon_is_partial: bool,
    /// The meters.
    pub meters: Vec<(Meter, MeterAmounts)>,
    /// The units, those with the most energy first.
    pub units: Vec<UnitAnswer>,
}

/// What a unit used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitAnswer {
    /// Which.
    pub unit: Unit,
    /// How much.
    pub amounts: UnitAmounts,
    /// Whether no intensity was known for a part of it.
    pub carbon_is_partial: bool,
}

impl Answer {
    /// Whether any of it is an estimate.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.meters.iter().any(|(meter, _)| meter.estimated)
    }
}

/// Answers from one state of the file, whatever the agent writes meanwhile.
///
/// # Errors
/// When the file cannot be read.
pub fn answer(db: &Connection, question: &Question) -> rusqlite::Result<Answer> {
    let still = db.unchecked_transaction()?;
    let mut answer = Answer {
        pieces: pieces::pieces(&still, question.from, question.to)?,
        ..Answer::default()
    };
    let mut meters = FxHashMap::default();
    let mut units = FxHashMap::default();
    for piece in answer.pieces.clone() {
        add_node(&still, piece, &mut answer)?;
        add_meters(&still, piece, &mut meters)?;
        for kind in &question.kinds {
            add_units(&still, piece, kind, question.name.as_deref(), &mut units)?;
        }
    }
    answer.meters = meters.into_values().collect();
    answer
        .meters
        .sort_by(|(a, _), (b, _)| (&a.name, &a.source).cmp(&(&b.name, &b.source)));
    answer.units = units.into_values().collect();
    answer.units.sort_by(|a, b| {
        let rank = |unit: &UnitAnswer| (unit.amounts.rank(), unit.amounts.cpu_ns);
        (rank(b), &a.unit.name).cmp(&(rank(a), &b.unit.name))
    });
    Ok(answer)
}

fn add_node(db: &Connection, piece: Piece, sum: &mut Answer) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT coalesce(sum(span_ms), 0), coalesce(sum(cpu_ns), 0), sum(carbon_ng),
            coalesce(max(carbon_ng IS NULL), 0)
         FROM {} WHERE at >= ?1 AND at < ?2",
        NODE.of(piece.tier)
    );
    db.prepare_cached(&sql)?
        .query_row(params![piece.from, piece.to], |row| {
            sum.span_ms += count(row, 0)?;
            sum.cpu_ns += count(row, 1)?;
            add(&mut sum.carbon_ng, known(row, 2)?);
            sum.carbon_is_partial |= row.get::<_, bool>(3)?;
            Ok(())
        })
}

fn add_meters(
    db: &Connection,
    piece: Piece,
    sums: &mut FxHashMap<i64, (Meter, MeterAmounts)>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT id, name, domain, device, source, estimated, sum(energy_uj), sum(idle_uj),
            sum(unattributed_uj), sum(downtime_uj)
         FROM {} JOIN meters ON meters.id = meter WHERE at >= ?1 AND at < ?2 GROUP BY meter",
        METER.of(piece.tier)
    );
    let mut found = db.prepare_cached(&sql)?;
    let mut rows = found.query(params![piece.from, piece.to])?;
    while let Some(row) = rows.next()? {
        let domain: String = row.get(2)?;
        // A domain that this version does not know is a newer schema's.
        let Some(domain) = Domain::ALL.into_iter().find(|of| of.label() == domain) else {
            continue;
        };
        let meter = Meter {
            name: row.get(1)?,
            domain,
            device: row.get(3)?,
            source: row.get(4)?,
            estimated: row.get(5)?,
        };
        let amounts = MeterAmounts {
            energy_uj: count(row, 6)?,
            idle_uj: count(row, 7)?,
            unattributed_uj: count(row, 8)?,
            downtime_uj: count(row, 9)?,
        };
        let sum = sums.entry(row.get(0)?);
        sum.or_insert((meter, MeterAmounts::default()))
            .1
            .add(&amounts);
    }
    Ok(())
}

fn add_units(
    db: &Connection,
    piece: Piece,
    kind: &str,
    name: Option<&str>,
    sums: &mut FxHashMap<i64, UnitAnswer>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT id, kind, name, title, user, namespace, manager, sum(cpu_ns), sum(package_uj),
            sum(core_uj), sum(uncore_uj), sum(dram_uj), sum(psys_uj), sum(gpu_uj), sum(board_uj),
            sum(carbon_ng), max(carbon_ng IS NULL)
         FROM {} JOIN units ON units.id = unit
         WHERE at >= ?1 AND at < ?2 AND kind = ?3 AND (?4 IS NULL OR name = ?4 OR title = ?4)
         GROUP BY unit",
        UNIT.of(piece.tier)
    );
    let mut found = db.prepare_cached(&sql)?;
    let mut rows = found.query(params![piece.from, piece.to, kind, name])?;
    while let Some(row) = rows.next()? {
        let mut amounts = UnitAmounts {
            cpu_ns: count(row, 7)?,
            carbon_ng: known(row, 15)?,
            ..UnitAmounts::default()
        };
        for (at, cell) in amounts.energy_uj.iter_mut().enumerate() {
            *cell = known(row, 8 + at)?;
        }
        let unit = Unit {
            kind: row.get(1)?,
            name: row.get(2)?,
            title: row.get(3)?,
            user: row.get(4)?,
            namespace: row.get(5)?,
            manager: row.get(6)?,
        };
        let sum = sums.entry(row.get(0)?).or_insert_with(|| UnitAnswer {
            unit,
            ..UnitAnswer::default()
        });
        sum.amounts.add(&amounts);
        sum.carbon_is_partial |= row.get::<_, bool>(16)?;
    }
    Ok(())
}

fn known(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(unsigned))
}

fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(known(row, at)?.unwrap_or(0))
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0) + more);
    }
}

#[cfg(test)]
mod tests;
