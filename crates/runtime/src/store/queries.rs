//! Reading a store.

use super::{Iteration, Result, Store, StoreError, StoredConfirmation, StoredIteration, rows};
use crate::event::Event;
use forerunner_core::{
    Evaluation, Evidence, Finding, Idea, Program, ProgramId, Series, Severity, Slice,
};
use rusqlite::OptionalExtension;
use serde::de::DeserializeOwned;

/// The first version of the store that knows evidence.
const EVIDENCE_SINCE: i64 = 2;

impl Store {
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
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM programs WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 10")
            .map_err(self.error())?;
        let rows = statement.query_map([prefix], |row| row.get(0).map(ProgramId));
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
                    .query_row([&id.0], |row| Ok((row.get(0)?, rows::read_evaluation(row, 1)?)))
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

    /// The iteration of this number; 0 is the reference. Its evaluation comes without curves and
    /// findings.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn iteration(&self, number: u64) -> Result<Option<StoredIteration>> {
        Ok(self.iterations_where(&format!("i.iteration = {number}"))?.pop())
    }

    /// Hands every iteration to `take` in order of completion, one at a time, evaluations without
    /// telemetry and findings: however many there are, one is in memory.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn each_iteration(&self, take: &mut dyn FnMut(StoredIteration)) -> Result<()> {
        let query = iterations_query("'{}'", "1", "e.id");
        let mut statement = self.connection.prepare(&query).map_err(self.error())?;
        let mut rows = statement.query([]).map_err(self.error())?;
        while let Some(row) = rows.next().map_err(self.error())? {
            take(read_iteration(row).map_err(self.error())?);
        }
        Ok(())
    }

    fn iterations_where(&self, condition: &str) -> Result<Vec<StoredIteration>> {
        let query = iterations_query("e.telemetry", condition, "i.iteration");
        let mut statement = self.connection.prepare(&query).map_err(self.error())?;
        let rows = statement.query_map([], read_iteration);
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
            Ok((row.get(0)?, rows::unpack(&points)))
        });
        rows.and_then(Iterator::collect).map_err(self.error())
    }

    /// The evidence recorded with an evaluation; runs of older versions have none.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn evidence(&self, evaluation: i64) -> Result<Evidence> {
        if self.version()? < EVIDENCE_SINCE {
            return Ok(Evidence::default());
        }
        let text: Option<String> = self
            .connection
            .prepare_cached("SELECT json FROM evidence WHERE evaluation = ?1")
            .and_then(|mut statement| {
                statement.query_row([evaluation], |row| row.get(0)).optional()
            })
            .map_err(self.error())?;
        let Some(text) = text else { return Ok(Evidence::default()) };
        let mut evidence: Evidence = self.decode(&text)?;
        for path in evidence.artifacts.values_mut() {
            // One that is absolute stays as it is.
            *path = self.path.join(&*path);
        }
        Ok(evidence)
    }

    /// The evidence of a program's search evaluation.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn search_evidence(&self, id: &ProgramId) -> Result<Evidence> {
        let row = self.first_search_evaluation(id)?;
        row.map_or(Ok(Evidence::default()), |row| self.evidence(row))
    }

    /// The curves of a program's search evaluation.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn search_series(&self, id: &ProgramId) -> Result<Vec<(String, Series)>> {
        let row = self.first_search_evaluation(id)?;
        row.map_or(Ok(Vec::new()), |row| self.series(row))
    }

    /// The idea that made a program first; `None` for the reference.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn idea(&self, program: &ProgramId) -> Result<Option<Idea>> {
        let first = self
            .connection
            .prepare_cached(
                "SELECT iteration, idea FROM iterations WHERE program = ?1
                 ORDER BY iteration LIMIT 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([&program.0], |row| {
                        Ok((row.get::<_, i64>(0)?, rows::parse(row, 1)?))
                    })
                    .optional()
            })
            .map_err(self.error())?;
        Ok(first.and_then(|(iteration, idea)| (iteration > 0).then_some(idea)))
    }

    /// The program that the search first made this one from; the reference has none.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn parent(&self, program: &ProgramId) -> Result<Option<ProgramId>> {
        let parent: Option<Option<String>> = self
            .connection
            .prepare_cached(
                "SELECT parent FROM iterations WHERE program = ?1 ORDER BY iteration LIMIT 1",
            )
            .and_then(|mut statement| {
                statement.query_row([&program.0], |row| row.get(0)).optional()
            })
            .map_err(self.error())?;
        Ok(parent.flatten().map(ProgramId))
    }

    /// Of several evaluations of a program the first has curves and evidence: the others took over
    /// its result without them.
    fn first_search_evaluation(&self, id: &ProgramId) -> Result<Option<i64>> {
        self.connection
            .prepare_cached(
                "SELECT id FROM evaluations
                 WHERE program = ?1 AND purpose = 'search' AND cause IS NOT 'worker'
                 ORDER BY id LIMIT 1",
            )
            .and_then(|mut statement| statement.query_row([&id.0], |row| row.get(0)).optional())
            .map_err(self.error())
    }

    /// All confirming measurements on `slice`, in order of completion.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn confirmations(&self, slice: Slice) -> Result<Vec<StoredConfirmation>> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT id, program, seed, verdict, cause, metrics, telemetry FROM evaluations
                 WHERE purpose = 'confirm' AND slice = ?1 ORDER BY id",
            )
            .map_err(self.error())?;
        let rows = statement.query_map([rows::slice_name(slice)], |row| {
            let one = StoredConfirmation {
                program: ProgramId(row.get(1)?),
                seed: row.get::<_, i64>(2)? as u64,
                evaluation: rows::read_evaluation(row, 3)?,
            };
            Ok((row.get::<_, i64>(0)?, one))
        });
        let rows: Vec<_> = rows.and_then(Iterator::collect).map_err(self.error())?;
        let with_findings = |(row, mut one): (i64, StoredConfirmation)| {
            one.evaluation.findings = self.findings(row)?;
            Ok(one)
        };
        rows.into_iter().map(with_findings).collect()
    }

    /// The event log, in order.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn events(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.each_event(&mut |event| events.push(event))?;
        Ok(events)
    }

    /// Hands every event to `take` in order, one at a time.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn each_event(&self, take: &mut dyn FnMut(Event)) -> Result<()> {
        let mut statement = self
            .connection
            .prepare("SELECT json FROM events ORDER BY seq")
            .map_err(self.error())?;
        let mut rows = statement.query([]).map_err(self.error())?;
        while let Some(row) = rows.next().map_err(self.error())? {
            let text = row.get_ref(0).and_then(|text| Ok(text.as_str()?)).map_err(self.error())?;
            take(self.decode(text)?);
        }
        Ok(())
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

/// `telemetry` is the column's expression.
fn iterations_query(telemetry: &str, condition: &str, order: &str) -> String {
    format!(
        "SELECT i.iteration, i.generation, i.island, i.mutator, i.parent, i.program, i.idea,
                i.cost, i.repairs, i.duplicate, e.id, e.verdict, e.cause, e.metrics, {telemetry}
         FROM iterations i JOIN evaluations e ON e.id = i.evaluation
         WHERE {condition} ORDER BY {order}"
    )
}

fn read_iteration(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredIteration> {
    Ok(StoredIteration {
        iteration: Iteration {
            iteration: row.get::<_, i64>(0)? as u64,
            generation: row.get::<_, i64>(1)? as u64,
            island: row.get(2)?,
            mutator: row.get(3)?,
            parent: row.get::<_, Option<String>>(4)?.map(ProgramId),
            program: row.get::<_, Option<String>>(5)?.map(ProgramId),
            idea: rows::parse(row, 6)?,
            cost: rows::parse(row, 7)?,
            repairs: row.get(8)?,
            duplicate: row.get(9)?,
        },
        evaluation_id: row.get(10)?,
        evaluation: rows::read_evaluation(row, 11)?,
    })
}
