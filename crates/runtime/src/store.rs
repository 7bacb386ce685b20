//! The store of one run: an SQLite file in the run's folder.
//!
//! An evaluation is recorded completely or not at all, in one transaction. The write-ahead log
//! with `synchronous = NORMAL` survives `kill -9` of the host at any instant; a power cut may
//! lose the last transactions but never damages the file.

use crate::{config::RunFile, event::Event};
use forerunner_core::{
    Cost, Evaluation, Finding, Idea, Metrics, Program, ProgramId, Purpose, Series, Severity, Slice,
    Telemetry, Verdict,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Serialize, de::DeserializeOwned};
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
    /// The file is damaged or of another version.
    #[error("{path} cannot be read as a run: {source}", path = path.display())]
    Database {
        /// The folder.
        path: PathBuf,
        /// The database's words.
        source: rusqlite::Error,
    },
    /// A value in the store makes no sense.
    #[error("{path} holds a value that cannot be read: {message}", path = path.display())]
    Value {
        /// The folder.
        path: PathBuf,
        /// What.
        message: String,
    },
    /// The folder cannot be made or locked.
    #[error("cannot use the folder {path}: {source}", path = path.display())]
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

const SCHEMA_VERSION: i64 = 1;

fn slice_name(slice: Slice) -> &'static str {
    match slice {
        Slice::Dev => "dev",
        Slice::Val => "val",
        Slice::Vault => "vault",
    }
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Search => "search",
        Purpose::Confirm => "confirm",
    }
}

fn json<T: Serialize>(value: &T) -> String {
    // Plain data with string keys and finite numbers: encoding cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

impl Store {
    /// Starts a store for a new run in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder holds a run already or cannot be written.
    pub fn create(folder: &Path, config: &RunFile) -> Result<Self> {
        let folder_error = |source| StoreError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(folder_error)?;
        let mut store = Self::connect(folder, true)?;
        let error = store.error();
        // A host killed before its first transaction leaves a file without a version.
        if store.version()? != 0 {
            return Err(StoreError::Exists { path: folder.to_owned() });
        }
        let transaction = store.connection.transaction().map_err(&error)?;
        transaction.execute_batch(include_str!("schema.sql")).map_err(&error)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(&error)?;
        transaction
            .execute("INSERT INTO meta VALUES ('config', ?1)", [json(config)])
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
        if version != SCHEMA_VERSION {
            let message = format!("store version {version}, this program knows {SCHEMA_VERSION}");
            return Err(StoreError::Value { path: folder.to_owned(), message });
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
        let error = |source| StoreError::Database { path: path.clone(), source };
        let connection = Connection::open(file_of(folder)).map_err(error)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(error)?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(error)?;
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
        let row = write_evaluation(
            &transaction,
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
                    json(&iteration.idea),
                    json(&iteration.cost),
                    iteration.repairs,
                    iteration.duplicate,
                    row,
                ])
            })
            .map_err(&error)?;
        let after = write_events(&transaction, next_event, events).map_err(&error)?;
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
        write_evaluation(&transaction, Some(program), None, how, evaluation).map_err(&error)?;
        let after = write_events(&transaction, next_event, events).map_err(&error)?;
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
        let after = write_events(&transaction, next_event, events).map_err(&error)?;
        transaction.commit().map_err(&error)?;
        self.next_event = after;
        Ok(())
    }

    /// A program's source.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn program(&self, id: &ProgramId) -> Result<Option<Program>> {
        let text: Option<String> = self
            .connection
            .prepare_cached("SELECT files FROM programs WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([&id.0], |row| row.get(0)).optional())
            .map_err(self.error())?;
        text.map(|text| self.decode(&text)).transpose()
    }

    /// Programs whose identity starts with `prefix`, at most ten.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn programs_like(&self, prefix: &str) -> Result<Vec<ProgramId>> {
        let pattern: String = prefix.chars().filter(char::is_ascii_hexdigit).collect();
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM programs WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 10")
            .map_err(self.error())?;
        let rows = statement.query_map([pattern], |row| row.get(0).map(ProgramId));
        rows.and_then(Iterator::collect).map_err(self.error())
    }

    /// The latest search evaluation of a program that reached a verdict on the program itself,
    /// without curves.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn search_evaluation(&self, id: &ProgramId) -> Result<Option<Evaluation>> {
        let row: Option<(i64, Evaluation)> = self
            .connection
            .prepare_cached(
                "SELECT id, verdict, cause, metrics, telemetry FROM evaluations
                 WHERE program = ?1 AND purpose = 'search' AND cause IS NOT 'worker'
                 ORDER BY id DESC LIMIT 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([&id.0], |row| Ok((row.get(0)?, read_evaluation(row, 1)?)))
                    .optional()
            })
            .map_err(self.error())?;
        row.map(|(row, mut evaluation)| {
            evaluation.findings = self.findings(row)?;
            Ok(evaluation)
        })
        .transpose()
    }

    /// All iterations in the order of their number, evaluations without curves and findings.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn iterations(&self) -> Result<Vec<StoredIteration>> {
        self.iterations_where("1")
    }

    /// The iterations that made or measured this program.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn iterations_of(&self, program: &ProgramId) -> Result<Vec<StoredIteration>> {
        let mut found = self.iterations_where(&format!(
            "i.program = '{}'",
            program.0.chars().filter(char::is_ascii_hexdigit).collect::<String>()
        ))?;
        for stored in &mut found {
            stored.evaluation.findings = self.findings(stored.evaluation_id)?;
        }
        Ok(found)
    }

    /// The injected seed of all search evaluations; 0 before the reference was measured.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn search_seed(&self) -> Result<u64> {
        let query = "SELECT seed FROM evaluations WHERE purpose = 'search' LIMIT 1";
        let seed: Option<i64> = self
            .connection
            .query_row(query, [], |row| row.get(0))
            .optional()
            .map_err(self.error())?;
        Ok(seed.unwrap_or(0) as u64)
    }

    /// The reference program's identity, once it was measured.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn reference(&self) -> Result<Option<ProgramId>> {
        let query = "SELECT program FROM iterations WHERE iteration = 0";
        self.connection
            .query_row(query, [], |row| row.get(0).map(ProgramId))
            .optional()
            .map_err(self.error())
    }

    fn iterations_where(&self, condition: &str) -> Result<Vec<StoredIteration>> {
        let query = format!(
            "SELECT i.iteration, i.generation, i.island, i.mutator, i.parent, i.program, i.idea,
                    i.cost, i.repairs, i.duplicate, e.id, e.verdict, e.cause, e.metrics, e.telemetry
             FROM iterations i JOIN evaluations e ON e.id = i.evaluation
             WHERE {condition} ORDER BY i.iteration"
        );
        let mut statement = self.connection.prepare(&query).map_err(self.error())?;
        let rows = statement.query_map([], |row| {
            Ok(StoredIteration {
                iteration: Iteration {
                    iteration: row.get::<_, i64>(0)? as u64,
                    generation: row.get::<_, i64>(1)? as u64,
                    island: row.get(2)?,
                    mutator: row.get(3)?,
                    parent: row.get::<_, Option<String>>(4)?.map(ProgramId),
                    program: row.get::<_, Option<String>>(5)?.map(ProgramId),
                    idea: parse(row, 6)?,
                    cost: parse(row, 7)?,
                    repairs: row.get(8)?,
                    duplicate: row.get(9)?,
                },
                evaluation_id: row.get(10)?,
                evaluation: read_evaluation(row, 11)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(self.error())
    }

    /// The reasons recorded with an evaluation.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn findings(&self, evaluation: i64) -> Result<Vec<Finding>> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT rule, severity, message, place FROM findings WHERE evaluation = ?1
                 ORDER BY rowid",
            )
            .map_err(self.error())?;
        let rows = statement.query_map([evaluation], |row| {
            Ok(Finding {
                rule: row.get(0)?,
                severity: match row.get::<_, String>(1)?.as_str() {
                    "note" => Severity::Note,
                    "warning" => Severity::Warning,
                    _ => Severity::Error,
                },
                message: row.get(2)?,
                place: row.get(3)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(self.error())
    }

    /// The curves recorded with an evaluation.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn series(&self, evaluation: i64) -> Result<Vec<(String, Series)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name, points FROM series WHERE evaluation = ?1 ORDER BY name")
            .map_err(self.error())?;
        let rows = statement.query_map([evaluation], |row| {
            let points: Vec<u8> = row.get(1)?;
            Ok((row.get(0)?, unpack(&points)))
        });
        rows.and_then(Iterator::collect).map_err(self.error())
    }

    /// All confirming measurements on `slice`, in order of completion.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn confirmations(&self, slice: Slice) -> Result<Vec<StoredConfirmation>> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT program, seed, verdict, cause, metrics, telemetry FROM evaluations
                 WHERE purpose = 'confirm' AND slice = ?1 ORDER BY id",
            )
            .map_err(self.error())?;
        let rows = statement.query_map([slice_name(slice)], |row| {
            Ok(StoredConfirmation {
                program: ProgramId(row.get(0)?),
                seed: row.get::<_, i64>(1)? as u64,
                evaluation: read_evaluation(row, 2)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(self.error())
    }

    /// The event log, in order.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn events(&self) -> Result<Vec<Event>> {
        let mut statement = self
            .connection
            .prepare("SELECT json FROM events ORDER BY seq")
            .map_err(self.error())?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        let texts: Vec<String> = rows.and_then(Iterator::collect).map_err(self.error())?;
        texts.iter().map(|text| self.decode(text)).collect()
    }

    /// Runs SQLite's own integrity check.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn verify(&self) -> Result<()> {
        let answer: String = self
            .connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .map_err(self.error())?;
        if answer == "ok" {
            Ok(())
        } else {
            Err(StoreError::Value { path: self.path.clone(), message: answer })
        }
    }

    fn decode<T: DeserializeOwned>(&self, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| StoreError::Value {
            path: self.path.clone(),
            message: error.to_string(),
        })
    }
}

fn file_of(folder: &Path) -> PathBuf {
    folder.join("store.sqlite")
}

fn classify(path: PathBuf, source: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
    match source.sqlite_error_code() {
        Some(DiskFull | SystemIoFailure) => StoreError::Full { path, source },
        _ => StoreError::Database { path, source },
    }
}

fn write_evaluation(
    connection: &Connection,
    id: Option<&ProgramId>,
    program: Option<&Program>,
    (seed, slice, purpose): (u64, Slice, Purpose),
    evaluation: &Evaluation,
) -> rusqlite::Result<i64> {
    if let (Some(id), Some(program)) = (id, program) {
        connection
            .prepare_cached("INSERT OR IGNORE INTO programs VALUES (?1, ?2)")?
            .execute(params![id.0, json(program)])?;
    }
    let (verdict, cause) = match evaluation.verdict {
        Verdict::Accepted => ("accepted", None),
        Verdict::Rejected => ("rejected", None),
        Verdict::Failed(cause) => ("failed", Some(cause)),
    };
    let telemetry = Telemetry { series: Default::default(), ..evaluation.telemetry.clone() };
    connection
        .prepare_cached("INSERT INTO evaluations VALUES (NULL,?1,?2,?3,?4,?5,?6,?7,?8)")?
        .execute(params![
            id.map(|id| &id.0),
            seed as i64,
            slice_name(slice),
            purpose_name(purpose),
            verdict,
            cause.map(forerunner_core::Cause::as_str),
            json(&evaluation.metrics),
            json(&telemetry),
        ])?;
    let row = connection.last_insert_rowid();
    for finding in &evaluation.findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        connection
            .prepare_cached("INSERT INTO findings VALUES (?1,?2,?3,?4,?5)")?
            .execute(params![row, finding.rule, severity, finding.message, finding.place])?;
    }
    for (name, points) in &evaluation.telemetry.series {
        connection.prepare_cached("INSERT INTO series VALUES (?1,?2,?3)")?.execute(params![
            row,
            name,
            pack(points)
        ])?;
    }
    Ok(row)
}

fn write_events(connection: &Connection, first: i64, events: &[Event]) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("INSERT INTO events VALUES (?1, ?2)")?;
    let mut next = first;
    for event in events {
        statement.execute(params![next, json(event)])?;
        next += 1;
    }
    Ok(next)
}

fn parse<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

/// Reads (verdict, cause, metrics, telemetry) from four columns.
fn read_evaluation(row: &Row<'_>, first: usize) -> rusqlite::Result<Evaluation> {
    let verdict: String = row.get(first)?;
    let cause: Option<String> = row.get(first + 1)?;
    let verdict = match (verdict.as_str(), cause) {
        ("accepted", _) => Verdict::Accepted,
        ("rejected", _) => Verdict::Rejected,
        (_, cause) => {
            let cause = serde_json::Value::String(cause.unwrap_or_default());
            let cause = serde_json::from_value(cause).unwrap_or(forerunner_core::Cause::Other);
            Verdict::Failed(cause)
        }
    };
    let metrics: Metrics = parse(row, first + 2)?;
    let telemetry: Telemetry = parse(row, first + 3)?;
    Ok(Evaluation { verdict, findings: Vec::new(), metrics, telemetry })
}

fn pack(points: &Series) -> Vec<u8> {
    points
        .iter()
        .flat_map(|(step, value)| [step.to_le_bytes(), value.to_le_bytes()])
        .flatten()
        .collect()
}

fn unpack(bytes: &[u8]) -> Series {
    let (pairs, _) = bytes.as_chunks::<16>();
    pairs
        .iter()
        .map(|pair| {
            let (step, value) = pair.split_at(8);
            let array = |half: &[u8]| <[u8; 8]>::try_from(half).unwrap_or_default();
            (u64::from_le_bytes(array(step)), f64::from_le_bytes(array(value)))
        })
        .collect()
}
