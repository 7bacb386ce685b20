//! The calls of a run: what mutators asked models, and what came back.

use super::{Result, Store, StoreError, classify, file_of, rows, writing};
use forerunner_core::{Answer, Answered, Call, Message, Role};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The first version of the store that knows calls.
const SINCE: i64 = 3;

/// Writes and finds calls while a run is going on, from any thread. A call is kept the moment it is
/// answered, before its iteration is complete, so that what was paid for is never asked again.
pub struct Calls {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// A call as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCall {
    /// Its content address.
    pub key: String,
    /// The iteration that it belongs to.
    pub iteration: u64,
    /// What was asked; without messages in lists.
    pub call: Call,
    /// What came back.
    pub answer: Answer,
}

impl Calls {
    /// The calls of the run in `folder`, which this process has open for writing.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let error = |source| classify(folder.to_owned(), source);
        let connection = writing(&file_of(folder)).map_err(error)?;
        Ok(Self { path: folder.to_owned(), connection: Mutex::new(connection) })
    }

    /// What came of the call with this address.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Answer>> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&connection, key).map_err(|source| classify(self.path.clone(), source))
    }

    /// Keeps a call. A failure that was kept before is replaced: the call was made again.
    ///
    /// # Errors
    /// When the disk is full or the file damaged.
    pub(crate) fn keep(&self, iteration: u64, call: &Call, answer: &Answer) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = || {
            let transaction = connection.transaction()?;
            let mut messages = Vec::with_capacity(call.messages.len());
            for message in &call.messages {
                messages.push((message.role, text_number(&transaction, &message.text)?));
            }
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO calls VALUES (NULL,?1,?2,?3,?4,?5,?6,?7,?8,?9)",
                )?
                .execute(params![
                    call.key(),
                    iteration as i64,
                    call.model,
                    call.purpose,
                    rows::json(&call.parameters),
                    call.seed as i64,
                    call.ordinal,
                    rows::json(&messages),
                    rows::json(answer),
                ])?;
            transaction.commit()
        };
        write().map_err(|source| classify(self.path.clone(), source))
    }
}

/// The number of a text, which is stored when it is new.
fn text_number(connection: &Connection, text: &str) -> rusqlite::Result<i64> {
    let digest = Sha256::digest(text.as_bytes());
    let id: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let known = connection
        .prepare_cached("SELECT number FROM texts WHERE id = ?1")?
        .query_row([&id], |row| row.get(0))
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    connection
        .prepare_cached("INSERT INTO texts (id, text) VALUES (?1, ?2)")?
        .execute([&*id, text])?;
    Ok(connection.last_insert_rowid())
}

fn answer(connection: &Connection, key: &str) -> rusqlite::Result<Option<Answer>> {
    connection
        .prepare_cached("SELECT answer FROM calls WHERE key = ?1")?
        .query_row([key], |row| rows::parse(row, 0))
        .optional()
}

/// Everything of a call but its messages, which stay numbers.
fn outline(row: &Row<'_>) -> rusqlite::Result<(StoredCall, Vec<(Role, i64)>)> {
    let call = Call {
        model: row.get(2)?,
        purpose: row.get(3)?,
        parameters: rows::parse(row, 4)?,
        messages: Vec::new(),
        seed: row.get::<_, i64>(5)? as u64,
        ordinal: row.get(6)?,
    };
    let iteration = row.get::<_, i64>(1)? as u64;
    let stored = StoredCall { key: row.get(0)?, iteration, call, answer: rows::parse(row, 8)? };
    Ok((stored, rows::parse(row, 7)?))
}

const COLUMNS: &str = "key, iteration, model, purpose, parameters, seed, ordinal, messages, answer";

impl Store {
    fn knows_calls(&self) -> Result<bool> {
        Ok(self.version()? >= SINCE)
    }

    /// What came of the call with this address.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn answer(&self, key: &str) -> Result<Option<Answer>> {
        if !self.knows_calls()? {
            return Ok(None);
        }
        answer(&self.connection, key).map_err(self.error())
    }

    /// Every call by iteration, in the order in which they were made, without messages and without
    /// the texts of replies, which may be many.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn calls(&self) -> Result<Vec<StoredCall>> {
        if !self.knows_calls()? {
            return Ok(Vec::new());
        }
        let query = format!("SELECT {COLUMNS} FROM calls ORDER BY iteration, ordinal, number");
        let mut statement = self.connection.prepare(&query).map_err(self.error())?;
        let rows = statement.query_map([], outline).map_err(self.error())?;
        let short = |row: rusqlite::Result<(StoredCall, Vec<(Role, i64)>)>| {
            let (mut stored, _) = row?;
            if let Answered::Reply { text, .. } = &mut stored.answer.outcome {
                *text = String::new();
            }
            Ok(stored)
        };
        rows.map(short).collect::<rusqlite::Result<_>>().map_err(self.error())
    }

    /// How many calls there are.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn count_calls(&self) -> Result<u64> {
        self.connection
            .query_row("SELECT COUNT(*) FROM calls", [], |row| row.get::<_, i64>(0))
            .map(|count| count as u64)
            .map_err(self.error())
    }

    /// The calls whose addresses begin with `prefix`, in full.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn calls_like(&self, prefix: &str) -> Result<Vec<StoredCall>> {
        let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain || !self.knows_calls()? {
            return Ok(Vec::new());
        }
        let query = format!("SELECT {COLUMNS} FROM calls WHERE key LIKE ?1 || '%' ORDER BY number");
        let mut statement = self.connection.prepare(&query).map_err(self.error())?;
        let rows = statement.query_map([prefix], outline).map_err(self.error())?;
        let mut found = Vec::new();
        for row in rows {
            let (mut stored, messages) = row.map_err(self.error())?;
            for (role, number) in messages {
                let text = self
                    .connection
                    .query_row("SELECT text FROM texts WHERE number = ?1", [number], |row| {
                        row.get(0)
                    })
                    .map_err(self.error())?;
                stored.call.messages.push(Message { role, text });
            }
            found.push(stored);
        }
        Ok(found)
    }
}

impl Store {
    /// The first program with this normal form.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn program_of_form(
        &self,
        form: &str,
    ) -> Result<Option<forerunner_core::ProgramId>, StoreError> {
        self.connection
            .prepare_cached("SELECT program FROM forms WHERE form = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([form], |row| row.get(0).map(forerunner_core::ProgramId))
                    .optional()
            })
            .map_err(self.error())
    }

    /// Makes a program known by its normal form, unless another one has it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn note_form(
        &self,
        form: &str,
        program: &forerunner_core::ProgramId,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO forms VALUES (?1, ?2)")
            .and_then(|mut statement| statement.execute([form, &program.0]))
            .map(drop)
            .map_err(self.error())
    }
}
