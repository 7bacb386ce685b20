//! The store of one run: an SQLite file in the run's folder.
//!
//! An evaluation is recorded completely or not at all, in one transaction. The write-ahead log
//! with `synchronous = NORMAL` survives `kill -9` of the host at any instant; a power cut may
//! lose the last transactions but never damages the file.

mod calls;
mod queries;
mod rows;

pub use calls::{Calls, StoredCall};
pub(crate) use rows::json;

use crate::{config::RunFile, event::Event};
use forerunner_core::{Cost, Evaluation, Idea, Program, ProgramId, Purpose, Slice};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, config::DbConfig,
    params,
};
use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No run in the folder.
    #[error("{path} holds no run\nhint: `forerunner log` lists the runs below a folder", path = path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A run is there already.
    #[error("{path} holds a run already\nhint: `forerunner run --resume {path}` goes on with it; `--out DIR` starts another", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process works on the run.
    #[error("{path} is in use by another process\nhint: wait for it, or stop it with Ctrl-C", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk is full: {path} cannot take the last result ({source})\nhint: free some space, then `forerunner run --resume {path}`; everything completed before is kept", path = path.display())]
    Full {
        /// The folder.
        path: PathBuf,
        /// The database's words.
        source: rusqlite::Error,
    },
    /// The disk has no room for a new run.
    #[error("the disk is full: no run can begin in {path} ({source})\nhint: free some space, then start the run again; nothing was stored", path = path.display())]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// The database's words.
        source: rusqlite::Error,
    },
    /// The file is damaged, or no database at all.
    #[error("{path} cannot be read as a run: {source}\nhint: {hint}", path = path.display(), hint = repair(source))]
    Database {
        /// The folder.
        path: PathBuf,
        /// The database's words.
        source: rusqlite::Error,
    },
    /// A value in the store makes no sense.
    #[error("{path} holds a value that cannot be read: {message}\nhint: use the version of forerunner that made the run, or restore its `store.sqlite` from a copy", path = path.display())]
    Value {
        /// The folder.
        path: PathBuf,
        /// What.
        message: String,
    },
    /// The folder cannot be made or locked.
    #[error("cannot use the folder {path}: {source}\nhint: choose another one with `--out DIR`", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What was decided about one child before it was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Iteration {
    /// Number within the run; 0 is the reference.
    pub iteration: u64,
    /// Its generation.
    pub generation: u64,
    /// Its island.
    pub island: u32,
    /// Who proposed it.
    pub mutator: String,
    /// Its parent.
    pub parent: Option<ProgramId>,
    /// The child, when the change applied.
    pub program: Option<ProgramId>,
    /// The idea.
    pub idea: Idea,
    /// What the proposal cost.
    pub cost: Cost,
    /// Repairs made.
    pub repairs: u32,
    /// Whether the result of an earlier, equal program was taken.
    pub duplicate: bool,
}

/// A complete iteration as stored; the evaluation comes without curves.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIteration {
    /// What was decided before measuring.
    pub iteration: Iteration,
    /// Row of its evaluation, in order of completion.
    pub evaluation_id: i64,
    /// The outcome.
    pub evaluation: Evaluation,
}

/// A confirming measurement as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredConfirmation {
    /// The program.
    pub program: ProgramId,
    /// The fresh seed.
    pub seed: u64,
    /// The outcome, without curves.
    pub evaluation: Evaluation,
}

/// The store of one run.
pub struct Store {
    path: PathBuf,
    connection: Connection,
    next_event: i64,
    /// Held for writing; the lock ends with the file.
    _lock: Option<File>,
}

/// What came with each version after the first, with the version. Added when an older run goes on.
const ADDITIONS: [(i64, &str); 2] =
    [(2, include_str!("store/evidence.sql")), (3, include_str!("store/calls.sql"))];
/// What this program writes.
const SCHEMA_VERSION: i64 = 3;
/// The oldest that it reads.
const OLDEST_VERSION: i64 = 1;

impl Store {
    /// Starts a store for a new run in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder holds a run already or cannot be written.
    pub fn create(folder: &Path, config: &RunFile) -> Result<Self> {
        Self::create_in(folder, config).map_err(|error| match error {
            // There is nothing yet that could be resumed.
            StoreError::Full { path, source } => StoreError::NoRoom { path, source },
            other => other,
        })
    }

    fn create_in(folder: &Path, config: &RunFile) -> Result<Self> {
        let folder_error = |source| StoreError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(folder_error)?;
        let mut store = Self::connect(folder, true)?;
        let error = store.error();
        // A host killed before its first transaction leaves a file without a version.
        let version = store.version()?;
        // A run that could not begin (a misspelt plugin, an interruption) holds no measurement
        // and must not stand in the way of the next attempt.
        if version != 0 && store.reference()?.is_some() {
            return Err(StoreError::Exists { path: folder.to_owned() });
        }
        let transaction = store.connection.transaction().map_err(&error)?;
        if version == 0 {
            transaction.execute_batch(include_str!("store/schema.sql")).map_err(&error)?;
        } else {
            transaction.execute_batch("DELETE FROM meta; DELETE FROM events").map_err(&error)?;
        }
        upgrade(&transaction, version.max(OLDEST_VERSION)).map_err(&error)?;
        transaction
            .execute("INSERT INTO meta VALUES ('config', ?1)", [rows::json(config)])
            .map_err(&error)?;
        transaction.commit().map_err(&error)?;
        Ok(store)
    }

    /// Opens the run in `folder` to go on with it.
    ///
    /// # Errors
    /// When there is none, another process has it, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_as(folder, true)
    }

    /// Opens the run in `folder` to look at it, also while another process works on it.
    ///
    /// # Errors
    /// When there is none or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::open_as(folder, false)
    }

    fn open_as(folder: &Path, write: bool) -> Result<Self> {
        if !file_of(folder).exists() {
            return Err(StoreError::Missing { path: folder.to_owned() });
        }
        let mut store = Self::connect(folder, write)?;
        let error = store.error();
        let version = store.version()?;
        if version == 0 {
            return Err(StoreError::Missing { path: folder.to_owned() });
        }
        if !(OLDEST_VERSION..=SCHEMA_VERSION).contains(&version) {
            let message = format!(
                "store version {version}, this program knows {OLDEST_VERSION} to {SCHEMA_VERSION}"
            );
            return Err(StoreError::Value { path: folder.to_owned(), message });
        }
        if write && version < SCHEMA_VERSION {
            // All or nothing.
            let transaction = store.connection.transaction().map_err(&error)?;
            upgrade(&transaction, version).map_err(&error)?;
            transaction.commit().map_err(&error)?;
        }
        store.next_event = store
            .connection
            .query_row("SELECT COALESCE(MAX(seq), -1) + 1 FROM events", [], |row| row.get(0))
            .map_err(&error)?;
        Ok(store)
    }

    fn connect(folder: &Path, write: bool) -> Result<Self> {
        let folder_error = |source| StoreError::Folder { path: folder.to_owned(), source };
        let lock = if write {
            let file = File::create(folder.join("run.lock")).map_err(folder_error)?;
            match file.try_lock() {
                Ok(()) => Some(file),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Busy { path: folder.to_owned() });
                }
                Err(TryLockError::Error(source)) => return Err(folder_error(source)),
            }
        } else {
            None
        };
        let path = folder.to_owned();
        let error = |source| classify(path.clone(), source);
        let connection = if write {
            writing(&file_of(folder)).map_err(error)?
        } else {
            open_read_only(&file_of(folder)).map_err(error)?
        };
        connection.busy_timeout(PATIENCE).map_err(error)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { path, connection, next_event: 0, _lock: lock })
    }

    fn version(&self) -> Result<i64> {
        self.connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(self.error())
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    fn error(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| classify(path.clone(), source)
    }

    /// The frozen configuration.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn config(&self) -> Result<RunFile> {
        let text = self.meta("config")?.unwrap_or_default();
        serde_json::from_str(&text).map_err(|error| StoreError::Value {
            path: self.path.clone(),
            message: format!("configuration: {error}"),
        })
    }

    /// A note about the run.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn meta(&self, key: &str) -> Result<Option<String>> {
        self.connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(self.error())
    }

    /// Sets a note about the run.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn set_meta(&mut self, key: &str, value: &str) -> Result<()> {
        self.connection
            .execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value])
            .map(drop)
            .map_err(self.error())
    }

    /// Reads in one piece: what is read is of one moment, and locks are taken once.
    ///
    /// # Errors
    /// When the store is damaged, and what `read` answers.
    pub(crate) fn reading<T, E: From<StoreError>>(
        &self,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let error = self.error();
        let behavior = TransactionBehavior::Deferred;
        let transaction = Transaction::new_unchecked(&self.connection, behavior).map_err(&error)?;
        let result = read()?;
        transaction.finish().map_err(&error)?;
        Ok(result)
    }

    /// Records a complete iteration with its program and the events so far, all or nothing.
    ///
    /// # Errors
    /// When the disk is full or the file damaged; nothing is recorded then.
    pub fn record_iteration(
        &mut self,
        iteration: &Iteration,
        program: Option<&Program>,
        seed: u64,
        evaluation: &Evaluation,
        events: &[Event],
    ) -> Result<i64> {
        let error = self.error();
        let next_event = self.next_event;
        let transaction = self.connection.transaction().map_err(&error)?;
        let row = rows::write_evaluation(
            (&transaction, &self.path),
            iteration.program.as_ref(),
            program,
            (seed, Slice::Dev, Purpose::Search),
            evaluation,
        )
        .map_err(&error)?;
        transaction
            .prepare_cached("INSERT INTO iterations VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)")
            .and_then(|mut statement| {
                statement.execute(params![
                    iteration.iteration as i64,
                    iteration.generation as i64,
                    iteration.island,
                    iteration.mutator,
                    iteration.parent.as_ref().map(|id| &id.0),
                    iteration.program.as_ref().map(|id| &id.0),
                    rows::json(&iteration.idea),
                    rows::json(&iteration.cost),
                    iteration.repairs,
                    iteration.duplicate,
                    row,
                ])
            })
            .map_err(&error)?;
        let after = rows::write_events(&transaction, next_event, events).map_err(&error)?;
        transaction.commit().map_err(&error)?;
        self.next_event = after;
        Ok(row)
    }

    /// Records a confirming measurement with the events so far, all or nothing.
    ///
    /// # Errors
    /// As [`Store::record_iteration`].
    pub fn record_confirmation(
        &mut self,
        program: &ProgramId,
        seed: u64,
        slice: Slice,
        evaluation: &Evaluation,
        events: &[Event],
    ) -> Result<()> {
        let error = self.error();
        let next_event = self.next_event;
        let transaction = self.connection.transaction().map_err(&error)?;
        let how = (seed, slice, Purpose::Confirm);
        let into = (&*transaction, &*self.path);
        rows::write_evaluation(into, Some(program), None, how, evaluation).map_err(&error)?;
        let after = rows::write_events(&transaction, next_event, events).map_err(&error)?;
        transaction.commit().map_err(&error)?;
        self.next_event = after;
        Ok(())
    }

    /// Records events alone.
    ///
    /// # Errors
    /// As [`Store::record_iteration`].
    pub fn record_events(&mut self, events: &[Event]) -> Result<()> {
        let error = self.error();
        let next_event = self.next_event;
        let transaction = self.connection.transaction().map_err(&error)?;
        let after = rows::write_events(&transaction, next_event, events).map_err(&error)?;
        transaction.commit().map_err(&error)?;
        self.next_event = after;
        Ok(())
    }
}

/// How long a connection waits for another one of this process.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Opens for writing.
fn writing(file: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Calls are kept through a connection of their own: a transaction that began by reading could not
    // go on to write once the other one did.
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    // Plans that do not depend on values: else every statement is prepared again for each new value,
    // a tenth of the framework's time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Brings a store of an older version to ours, within a transaction.
fn upgrade(connection: &Connection, from: i64) -> rusqlite::Result<()> {
    for (_, addition) in ADDITIONS.iter().filter(|(version, _)| *version > from) {
        connection.execute_batch(addition)?;
    }
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// Opens for reading. In a folder that cannot be written, SQLite's reader of a write-ahead log
/// cannot make its index; without a log beside it the file is complete and may be read alone.
fn open_read_only(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(file, flags)?;
    let probe = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()));
    if probe.is_ok() || file.with_extension("sqlite-wal").exists() {
        return Ok(connection);
    }
    let mut uri = "file:".to_owned();
    for char in file.to_string_lossy().chars() {
        match char {
            '%' | '?' | '#' => uri.push_str(&format!("%{:02X}", u32::from(char))),
            char => uri.push(char),
        }
    }
    Connection::open_with_flags(uri + "?immutable=1", flags)
}

fn file_of(folder: &Path) -> PathBuf {
    folder.join("store.sqlite")
}

/// What to do about an error of the database.
fn repair(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseCorrupt, NotADatabase, PermissionDenied, ReadOnly,
    };
    match error.sqlite_error_code() {
        Some(NotADatabase | DatabaseCorrupt) => {
            "its `store.sqlite` is damaged or something else; restore it from a copy, or start \
             another run with `--out DIR`"
        }
        Some(CannotOpen | PermissionDenied | ReadOnly) => {
            "see to it that you may read the folder and `store.sqlite` in it, and write both to go \
             on with the run"
        }
        _ => "try again; if that does not help, restore its `store.sqlite` from a copy",
    }
}

fn classify(path: PathBuf, source: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
    match source.sqlite_error_code() {
        Some(DiskFull | SystemIoFailure) => StoreError::Full { path, source },
        _ => StoreError::Database { path, source },
    }
}

#[cfg(test)]
mod tests;
