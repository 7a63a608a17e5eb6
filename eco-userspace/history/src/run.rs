// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands and jobs that have ended: what each used, on what, and with which settings.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use eco_intensity::{GramsPerKwh, Intensity, Kind, Pue};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, ToSql, Transaction, TransactionBehavior,
    params,
};
use serde::Serialize;

use crate::{
    file::{self, FileError},
    sample::Priced,
    signed, unsigned,
};

/// Unix time in milliseconds.
pub type UnixMillis = i64;

/// So many are kept; older ones go.
pub const MOST_RUNS: i64 = 100_000;

/// How long whoever keeps a run waits for others that have the file, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// More parameters or metrics than this are not of one run's making.
pub const MOST_VALUES: usize = 1_000;

/// The parameters of a run are of this kind in `run_values`, and its metrics of the next.
const PARAMETER: &str = "parameter";
const METRIC: &str = "metric";

/// One that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    /// `eco`, or the tracker that measured it.
    pub origin: String,
    /// Unique within the origin.
    pub key: String,
    /// A name for people.
    pub name: String,
    /// Whose it was.
    pub user: Option<String>,
    /// When it began.
    pub started_ms: UnixMillis,
    /// When it ended.
    pub ended_ms: UnixMillis,
    /// The command and its arguments; empty where it is not known.
    pub command: Vec<String>,
    /// What the command ended with: 128 + n when signal n killed it.
    pub exit_status: Option<i64>,
    /// The job that it was a part of.
    pub part_of: Option<PartOf>,
    /// CPU time, in ns.
    pub cpu_ns: Option<u64>,
    /// Each joule once, without idle, in µJ; `None` where nothing was metered.
    pub energy_uj: Option<u64>,
    /// The part of the machine's idle energy that goes with its share of CPU time, in µJ.
    pub idle_uj: Option<u64>,
    /// What `energy_uj` emitted, in ng CO2e.
    pub carbon_ng: Option<u64>,
    /// What that was counted at when the run ended.
    pub priced: Option<Priced>,
    /// Whether any of that is an estimate.
    pub estimated: bool,
    /// `agent`, `private-agent`, `plain-user`, or `import`.
    pub measured_by: String,
    /// Of what was imported: the tool and its version, the file and the line.
    pub provenance: Option<String>,
    /// What was checked out where it was started.
    pub revision: Option<Revision>,
    /// What it ran on.
    pub hardware: Option<Hardware>,
    /// What each meter counted for it.
    pub meters: Vec<MeterEnergy>,
    /// Its settings, as its user gave them.
    pub parameters: Vec<(String, String)>,
    /// What came of it, as it said itself.
    pub metrics: Vec<(String, f64)>,
}

/// The job that a run is a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartOf {
    /// `eco`, `slurm` or `kubernetes`.
    pub manager: String,
    /// As that manager calls it, on all nodes.
    pub job: String,
    /// Which of its ranks the run is.
    pub rank: Option<u32>,
}

/// What was checked out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Revision {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// The branch, unless none was.
    pub branch: Option<String>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hardware {
    /// Its name.
    pub host: String,
    /// The model of its CPUs; empty where the kernel does not tell.
    pub cpu: String,
    /// CPUs online.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// The models of its GPUs; empty without any.
    pub gpus: String,
}

/// One meter's energy for a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeterEnergy {
    /// `package-0`.
    pub name: String,
    /// `package`, ….
    pub domain: String,
    /// `rapl-powercap`, `model`, ….
    pub source: String,
    /// In µJ.
    pub energy_uj: u64,
}

/// One that is kept, under its number in this file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptRun {
    /// The number.
    pub id: i64,
    /// The run.
    #[serde(flatten)]
    pub run: Run,
}

/// Which runs are asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Begun at that time or later.
    pub since_ms: Option<UnixMillis>,
    /// Begun before that time.
    pub until_ms: Option<UnixMillis>,
    /// Of that name.
    pub name: Option<String>,
    /// That user's.
    pub user: Option<String>,
    /// So many of the latest.
    pub most: Option<u32>,
}

/// Keeps a run in the file at `path`, which is made if need be: all of it or nothing. Whether it
/// is new, as [`put`].
///
/// # Errors
/// When the file cannot be opened or written.
pub fn keep(path: &Path, run: &Run) -> Result<bool, FileError> {
    let since = Instant::now();
    loop {
        let is_busy = |why: &FileError| {
            let FileError::Sqlite { why, .. } = why else {
                return false;
            };
            why.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
        };
        match try_keep(path, run) {
            // SQLite waits for others by itself, but not while one of them makes the file.
            Err(why) if is_busy(&why) && since.elapsed() < PATIENCE => thread::sleep(PAUSE),
            kept => return kept,
        }
    }
}

fn try_keep(path: &Path, run: &Run) -> Result<bool, FileError> {
    let db = file::open_shared(path)?;
    let put = || {
        let change = Transaction::new_unchecked(&db, TransactionBehavior::Immediate)?;
        let is_new = put(&change, run)?;
        change.commit()?;
        Ok(is_new)
    };
    put().map_err(|why| FileError::of(path, why))
}

/// Keeps a run, with all that belongs to it, in the transaction that is open. Whether it is new: one of the same origin and key is
/// left as it is.
///
/// # Errors
/// When the file cannot be written.
pub fn put(db: &Connection, run: &Run) -> rusqlite::Result<bool> {
    let hardware = match &run.hardware {
        Some(hardware) => Some(id_of(db, hardware)?),
        None => None,
    };
    let intensity = run
        .priced
        .as_ref()
        .map(|priced| priced.id(db))
        .transpose()?;
    let part = run.part_of.as_ref();
    let command = (!run.command.is_empty())
        .then(|| serde_json::to_string(&run.command))
        .transpose()
        .map_err(|why| rusqlite::Error::ToSqlConversionFailure(why.into()))?;
    let sql = "INSERT INTO runs (origin, key, name, user, started_ms, ended_ms, command,
            exit_status, manager, job, rank, cpu_ns, energy_uj, idle_uj, carbon_ng, intensity,
            estimated, measured_by, provenance, git_revision, git_branch, hardware)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
            ?19, ?20, ?21, ?22)
        ON CONFLICT DO NOTHING RETURNING id";
    let id: Option<i64> = db
        .prepare_cached(sql)?
        .query_row(
            params![
                run.origin,
                run.key,
                run.name,
                run.user,
                run.started_ms,
                run.ended_ms,
                command,
                run.exit_status,
                part.map(|part| &part.manager),
                part.map(|part| &part.job),
                part.and_then(|part| part.rank),
                run.cpu_ns.map(signed),
                run.energy_uj.map(signed),
                run.idle_uj.map(signed),
                run.carbon_ng.map(signed),
                intensity,
                run.estimated,
                run.measured_by,
                run.provenance,
                run.revision.as_ref().map(|revision| &revision.commit),
                run.revision
                    .as_ref()
                    .and_then(|revision| revision.branch.as_ref()),
                hardware,
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(id) = id else { return Ok(false) };
    put_parts(db, id, run)?;
    forget_oldest(db)?;
    Ok(true)
}

/// The runs that are asked for, the latest first.
///
/// # Errors
/// When the file cannot be read.
pub fn list(db: &Connection, wanted: &Wanted) -> rusqlite::Result<Vec<KeptRun>> {
    if !has_runs(db)? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "{SELECT} WHERE started_ms >= ?1 AND started_ms < ?2
            AND (?3 IS NULL OR runs.name = ?3) AND (?4 IS NULL OR runs.user = ?4)
        ORDER BY started_ms DESC, runs.id DESC LIMIT ?5"
    );
    let mut found = db.prepare(&sql)?;
    let runs = found.query_map(
        params![
            wanted.since_ms.unwrap_or(i64::MIN),
            wanted.until_ms.unwrap_or(i64::MAX),
            wanted.name,
            wanted.user,
            wanted.most.map_or(-1, i64::from),
        ],
        kept,
    )?;
    let mut runs = runs.collect::<rusqlite::Result<Vec<_>>>()?;
    for run in &mut runs {
        fill(db, run)?;
    }
    Ok(runs)
}

/// The run of that number.
///
/// # Errors
/// When the file cannot be read.
pub fn find(db: &Connection, id: i64) -> rusqlite::Result<Option<KeptRun>> {
    if !has_runs(db)? {
        return Ok(None);
    }
    let sql = format!("{SELECT} WHERE runs.id = ?1");
    let mut run = db.query_row(&sql, [id], kept).optional()?;
    if let Some(run) = &mut run {
        fill(db, run)?;
    }
    Ok(run)
}

const SELECT: &str = "SELECT runs.id, origin, key, name, user, started_ms, ended_ms, command,
        exit_status, manager, job, rank, cpu_ns, energy_uj, idle_uj, carbon_ng, runs.estimated,
        measured_by, provenance, git_revision, git_branch, host, cpu, cpus, memory_bytes, gpus,
        zone, g_per_kwh, kind, source, intensities.estimated AS is_stand_in, pue
    FROM runs LEFT JOIN hardware ON hardware.id = runs.hardware
        LEFT JOIN intensities ON intensities.id = runs.intensity";

/// A file of version 1 has none, and whoever only reads does not change that.
fn has_runs(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'runs'";
    db.query_row(sql, [], |row| row.get(0))
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptRun> {
    let count = |at: &str| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(unsigned))
    };
    let manager: Option<String> = row.get("manager")?;
    let part_of = match (manager, row.get("job")?) {
        (Some(manager), Some(job)) => Some(PartOf {
            manager,
            job,
            rank: row.get("rank")?,
        }),
        _ => None,
    };
    let commit: Option<String> = row.get("git_revision")?;
    let branch = row.get("git_branch")?;
    let host: Option<String> = row.get("host")?;
    let hardware = match host {
        Some(host) => Some(Hardware {
            host,
            cpu: row.get("cpu")?,
            cpus: row.get("cpus")?,
            memory_bytes: unsigned(row.get("memory_bytes")?),
            gpus: row.get("gpus")?,
        }),
        None => None,
    };
    // What eco wrote is a list; what somebody else put there is shown as it is.
    let command: Option<String> = row.get("command")?;
    let words = command.map(|text| serde_json::from_str(&text).unwrap_or_else(|_| vec![text]));
    Ok(KeptRun {
        id: row.get(0)?,
        run: Run {
            origin: row.get("origin")?,
            key: row.get("key")?,
            name: row.get("name")?,
            user: row.get("user")?,
            started_ms: row.get("started_ms")?,
            ended_ms: row.get("ended_ms")?,
            command: words.unwrap_or_default(),
            exit_status: row.get("exit_status")?,
            part_of,
            cpu_ns: count("cpu_ns")?,
            energy_uj: count("energy_uj")?,
            idle_uj: count("idle_uj")?,
            carbon_ng: count("carbon_ng")?,
            priced: priced(row)?,
            estimated: row.get("estimated")?,
            measured_by: row.get("measured_by")?,
            provenance: row.get("provenance")?,
            revision: commit.map(|commit| Revision { commit, branch }),
            hardware,
            ..Run::default()
        },
    })
}

fn priced(row: &Row<'_>) -> rusqlite::Result<Option<Priced>> {
    let Some(zone) = row.get("zone")? else {
        return Ok(None);
    };
    let kind: String = row.get("kind")?;
    // Numbers that eco never wrote are none to it.
    let (Ok(g_per_kwh), Ok(pue)) = (
        GramsPerKwh::new(row.get("g_per_kwh")?),
        Pue::new(row.get("pue")?),
    ) else {
        return Ok(None);
    };
    Ok(Some(Priced {
        intensity: Intensity {
            zone,
            g_per_kwh,
            kind: match kind.as_str() {
                "marginal" => Kind::Marginal,
                _ => Kind::Average,
            },
            source: row.get("source")?,
            estimated: row.get("is_stand_in")?,
            valid_until: None,
        },
        pue,
    }))
}

fn fill(db: &Connection, kept: &mut KeptRun) -> rusqlite::Result<()> {
    let sql = "SELECT name, domain, source, energy_uj FROM run_meters WHERE run = ?1";
    let mut found = db.prepare_cached(sql)?;
    let meters = found.query_map([kept.id], |row| {
        Ok(MeterEnergy {
            name: row.get(0)?,
            domain: row.get(1)?,
            source: row.get(2)?,
            energy_uj: unsigned(row.get(3)?),
        })
    })?;
    kept.run.meters = meters.collect::<rusqlite::Result<_>>()?;
    let sql = "SELECT name, value FROM run_values WHERE run = ?1 AND kind = ?2";
    let mut found = db.prepare_cached(sql)?;
    let parameters = found.query_map(params![kept.id, PARAMETER], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    kept.run.parameters = parameters.collect::<rusqlite::Result<_>>()?;
    let metrics = found.query_map(params![kept.id, METRIC], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    kept.run.metrics = metrics.collect::<rusqlite::Result<_>>()?;
    Ok(())
}

fn put_parts(db: &Connection, id: i64, run: &Run) -> rusqlite::Result<()> {
    // Two meters of one name and source are one to whoever reads the file.
    let sql = "INSERT INTO run_meters (run, name, domain, source, energy_uj)
        VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT DO UPDATE SET energy_uj = energy_uj + excluded.energy_uj";
    let mut put = db.prepare_cached(sql)?;
    for meter in &run.meters {
        let energy_uj = signed(meter.energy_uj);
        put.execute(params![
            id,
            meter.name,
            meter.domain,
            meter.source,
            energy_uj
        ])?;
    }
    let sql = "INSERT OR REPLACE INTO run_values (run, kind, name, value) VALUES (?1, ?2, ?3, ?4)";
    let mut put = db.prepare_cached(sql)?;
    let mut put = |kind: &str, name: &str, value: &dyn ToSql| {
        put.execute(params![id, kind, name, value]).map(drop)
    };
    for (name, value) in run.parameters.iter().take(MOST_VALUES) {
        put(PARAMETER, name, value)?;
    }
    // SQLite knows no NaN: it would be a NULL, which no metric is.
    let metrics = run.metrics.iter().filter(|(_, value)| value.is_finite());
    for (name, value) in metrics.take(MOST_VALUES) {
        put(METRIC, name, value)?;
    }
    Ok(())
}

fn id_of(db: &Connection, hardware: &Hardware) -> rusqlite::Result<i64> {
    let row = params![
        hardware.host,
        hardware.cpu,
        hardware.cpus,
        signed(hardware.memory_bytes),
        hardware.gpus
    ];
    let sql = "SELECT id FROM hardware
        WHERE host = ?1 AND cpu = ?2 AND cpus = ?3 AND memory_bytes = ?4 AND gpus = ?5";
    let known = db
        .prepare_cached(sql)?
        .query_row(row, |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let sql = "INSERT INTO hardware (host, cpu, cpus, memory_bytes, gpus)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    db.prepare_cached(sql)?.insert(row)
}

fn forget_oldest(db: &Connection) -> rusqlite::Result<()> {
    let last: i64 = db.query_row("SELECT coalesce(max(id), 0) FROM runs", [], |row| {
        row.get(0)
    })?;
    let oldest = last - MOST_RUNS;
    if oldest > 0 {
        for sql in [
            "DELETE FROM run_meters WHERE run <= ?1",
            "DELETE FROM run_values WHERE run <= ?1",
            "DELETE FROM runs WHERE id <= ?1",
        ] {
            db.prepare_cached(sql)?.execute([oldest])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
