// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opening the file: new, old, newer, broken, or another's.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::tier::Tier;

/// What this version writes, and the newest that it reads: SQLite's `user_version`.
pub const SCHEMA: i64 = 2;

/// `application_id`: "eco1", so that `file` and eco itself know the file.
const APPLICATION: i64 = 0x6563_6f31;

/// How many broken files are set aside before eco stops starting anew: a disk that breaks each
/// is not to be filled with them.
const MOST_SET_ASIDE: usize = 3;

/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file.
    #[error("{}: there is no history here yet", .0.display())]
    Absent(PathBuf),
    /// It cannot be made, read or written.
    #[error("{}: {why}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A newer eco wrote it.
    #[error(
        "{}: written by a newer eco (schema {found}, this one knows {SCHEMA}); it is left as it \
         is: use that version, or name another file",
        .path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// It is a database of something else.
    #[error("{}: a database, but none of eco's; name another file", .0.display())]
    Foreign(PathBuf),
    /// Some of it is not what was written.
    #[error("{}: damaged: {why}", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What SQLite found.
        why: String,
    },
    /// SQLite says no.
    #[error("{}: {why}", .path.display())]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why.
        why: rusqlite::Error,
    },
}

impl FileError {
    /// Sorts what SQLite says about a file.
    #[must_use]
    pub fn of(path: &Path, why: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match why.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged {
                path,
                why: why.to_string(),
            },
            Some(ErrorCode::DiskFull) => Self::Io {
                path,
                why: "the disk is full".to_owned(),
            },
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                Self::Io {
                    path,
                    why: "permission denied, or no such folder".to_owned(),
                }
            }
            _ => Self::Sqlite { path, why },
        }
    }
}

/// Opens the file to write, makes it (mode 0600) and its folder if need be, and brings its
/// schema up to date. Does not look for damage: [`check`].
///
/// # Errors
/// When it cannot be opened, is a newer eco's or something else's, or is plainly damaged.
pub fn open(path: &Path) -> Result<Connection, FileError> {
    let failed = |why: io::Error| FileError::Io {
        path: path.to_owned(),
        why: why.to_string(),
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // SQLite would make it readable to all; its -wal and -shm take the file's mode.
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let of = |why| FileError::of(path, why);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(of)?;
    db.busy_timeout(PATIENCE).map_err(of)?;
    let found = version(&db, path)?;
    if found == 0 {
        // Must be said before the first table is made, outside of any transaction.
        db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")
            .map_err(of)?;
    }
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .map_err(of)?;
    db.execute_batch(SETTINGS).map_err(of)?;
    db.set_prepared_statement_cache_capacity(48);
    if found < SCHEMA {
        migrate(&mut db, path)?;
    }
    Ok(db)
}

/// Opens the file to read only.
///
/// # Errors
/// As [`open`], and when there is none.
pub fn open_to_read(path: &Path) -> Result<Connection, FileError> {
    if !path.exists() {
        // A folder that may not be entered hides the file: that is another answer.
        return Err(match fs::metadata(path) {
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => FileError::Io {
                path: path.to_owned(),
                why: why.to_string(),
            },
            _ => FileError::Absent(path.to_owned()),
        });
    }
    let of = |why| FileError::of(path, why);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(of)?;
    db.busy_timeout(PATIENCE).map_err(of)?;
    match version(&db, path)? {
        0 => Err(FileError::Absent(path.to_owned())),
        _ => Ok(db),
    }
}

/// Looks for damage in every page.
///
/// # Errors
/// When there is some.
pub fn check(db: &Connection, path: &Path) -> Result<(), FileError> {
    let found: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|why| FileError::of(path, why))?;
    if found == "ok" {
        return Ok(());
    }
    Err(FileError::Damaged {
        path: path.to_owned(),
        why: found.replace('\n', "; "),
    })
}

/// Moves a damaged file away, with what belongs to it, so that a new one can begin. Nothing is
/// deleted. Says where it lies now.
///
/// # Errors
/// When it cannot be moved, or several have been set aside already.
pub fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    let failed = |why: String| FileError::Io {
        path: path.to_owned(),
        why,
    };
    let name = path.file_name().unwrap_or_default().to_owned();
    let prefix = with(&name, ".damaged-");
    let folder = path.parent().unwrap_or(Path::new("."));
    let before = fs::read_dir(folder)
        .map_err(|why| failed(why.to_string()))?
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            name.starts_with(prefix.as_encoded_bytes()) && !name.ends_with(b"-wal")
        })
        .count();
    if before >= MOST_SET_ASIDE {
        return Err(failed(format!(
            "damaged, as {before} before it that lie beside it; look after the disk, move them \
             away, and restart"
        )));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let aside = folder.join(with(&prefix, &format!("{}-{before}", now.as_secs())));
    fs::rename(path, &aside).map_err(|why| failed(format!("cannot be set aside: {why}")))?;
    // What a log holds belongs to the file that it was written for.
    let log = |path: &Path| PathBuf::from(with(path.as_os_str(), "-wal"));
    let _ = fs::rename(log(path), log(&aside));
    let _ = fs::remove_file(with(path.as_os_str(), "-shm"));
    Ok(aside)
}

/// WAL with `NORMAL`: a commit is one write to the log and no fsync, so `kill -9` loses nothing
/// that was committed, and a power cut what was not checkpointed yet but never the file.
/// Checkpoints are the writer's, by the clock. A cache of 1 MB: the agent is to stay small.
const SETTINGS: &str = "
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 4194304;
PRAGMA cache_size = -1024;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
";

fn version(db: &Connection, path: &Path) -> Result<i64, FileError> {
    let of = |why| FileError::of(path, why);
    let pragma =
        |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (application, version) = (
        pragma("application_id").map_err(of)?,
        pragma("user_version").map_err(of)?,
    );
    if application == APPLICATION && version > SCHEMA {
        return Err(FileError::Newer {
            path: path.to_owned(),
            found: version,
        });
    }
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(of)?;
    if tables > 0 && application != APPLICATION {
        return Err(FileError::Foreign(path.to_owned()));
    }
    Ok(version)
}

/// From any older schema to this one, in one transaction.
fn migrate(db: &mut Connection, path: &Path) -> Result<(), FileError> {
    let of = |why| FileError::of(path, why);
    let change = db
        .transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)
        .map_err(of)?;
    // Another process may have been quicker.
    let found = version(&change, path)?;
    if found == 0 {
        change
            .execute_batch(include_str!("schema.sql"))
            .map_err(of)?;
        for tier in Tier::ALL {
            let tables = include_str!("tier.sql").replace("{tier}", tier.label());
            change.execute_batch(&tables).map_err(of)?;
        }
        let facts = "INSERT INTO facts (key, value) VALUES ('made_by', ?1)";
        let made_by = concat!("eco ", env!("CARGO_PKG_VERSION"));
        change.execute(facts, [made_by]).map_err(of)?;
    }
    if found < 2 {
        change.execute_batch(include_str!("runs.sql")).map_err(of)?;
    }
    change
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
        ))
        .map_err(of)?;
    change.commit().map_err(of)
}

/// Whether nobody but the owner may read the file: it names what everybody runs.
#[must_use]
pub fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 == 0)
}

fn with(name: &std::ffi::OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er").join(crate::FILE_NAME);
        (folder, path)
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_opens_again() {
        let (_folder, path) = place();
        assert!(matches!(open_to_read(&path), Err(FileError::Absent(_))));
        drop(open(&path).unwrap());
        assert!(is_private(&path));
        check(&open(&path).unwrap(), &path).unwrap();
        open_to_read(&path).unwrap();
    }

    /// As the version that knew no runs left it.
    fn schema_one(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let db = Connection::open(path).unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        for tier in Tier::ALL {
            let tables = include_str!("tier.sql").replace("{tier}", tier.label());
            db.execute_batch(&tables).unwrap();
        }
        db.execute_batch(&format!(
            "INSERT INTO events (at, what) VALUES (1, 'old');
             PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 1;"
        ))
        .unwrap();
    }

    #[test]
    fn an_older_file_keeps_what_it_has_and_takes_runs_from_then_on() {
        let (_folder, path) = place();
        schema_one(&path);
        let db = open_to_read(&path).unwrap();
        let wanted = crate::run::Wanted::default();
        assert_eq!(crate::run::list(&db, &wanted).unwrap(), []);
        let old: String = db
            .query_row("SELECT what FROM events", [], |row| row.get(0))
            .unwrap();
        assert_eq!(old, "old");
        let db = open(&path).unwrap();
        assert_eq!(version(&db, &path).unwrap(), SCHEMA);
        let events: i64 = db
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .unwrap();
        assert_eq!(events, 1);
        assert!(crate::run::put(&db, &crate::run::Run::default()).unwrap());
    }

    #[test]
    fn a_newer_file_is_refused_and_stays_as_it_is() {
        let (_folder, path) = place();
        let db = open(&path).unwrap();
        db.execute_batch("PRAGMA user_version = 7; CREATE TABLE tomorrow (x)")
            .unwrap();
        drop(db);
        let before = fs::read(&path).unwrap();
        for opened in [open(&path), open_to_read(&path)] {
            let error = opened.unwrap_err();
            assert!(
                matches!(error, FileError::Newer { found: 7, .. }),
                "{error}"
            );
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_database_of_somebody_elses_is_not_written_to() {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE precious (x)").unwrap();
        drop(db);
        assert!(matches!(open(&path), Err(FileError::Foreign(_))));
    }

    #[test]
    fn what_is_no_database_is_damaged_and_can_be_set_aside_but_not_for_ever() {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for _ in 0..MOST_SET_ASIDE {
            fs::write(&path, [0x5a; 9000]).unwrap();
            assert!(matches!(open(&path), Err(FileError::Damaged { .. })));
            let aside = set_aside(&path).unwrap();
            assert_eq!(fs::read(aside).unwrap(), [0x5a; 9000]);
            drop(open(&path).unwrap());
        }
        assert!(set_aside(&path).is_err());
        assert!(path.exists());
    }

    #[test]
    fn an_empty_file_is_a_new_one() {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(open_to_read(&path), Err(FileError::Absent(_))));
        open(&path).unwrap();
    }
}
