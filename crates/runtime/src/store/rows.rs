//! Values to rows and back.

use crate::event::Event;
use forerunner_core::{
    Evaluation, Metrics, Program, ProgramId, Purpose, Series, Slice, Telemetry, Verdict,
};
use rusqlite::{Connection, Row, params};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

pub(super) fn slice_name(slice: Slice) -> &'static str {
    match slice {
        Slice::Dev => "dev",
        Slice::Val => "val",
        Slice::Vault => "vault",
    }
}

pub(super) fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Search => "search",
        Purpose::Confirm => "confirm",
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    // Plain data with string keys and finite numbers: encoding cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Writes an evaluation, and its program unless that is known, into the store of the run in `folder`.
pub(super) fn write_evaluation(
    (connection, folder): (&Connection, &Path),
    id: Option<&ProgramId>,
    program: Option<&Program>,
    (seed, slice, purpose): (u64, Slice, Purpose),
    evaluation: &Evaluation,
) -> rusqlite::Result<i64> {
    if let (Some(id), Some(program)) = (id, program) {
        connection
            .prepare_cached("INSERT OR IGNORE INTO programs (id, files) VALUES (?1, ?2)")?
            .execute(params![id.0, json(program)])?;
    }
    let (verdict, cause) = match evaluation.verdict {
        Verdict::Accepted => ("accepted", None),
        Verdict::Rejected => ("rejected", None),
        Verdict::Unverified => ("unverified", None),
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
        let severity = finding.severity.as_str();
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
    if !evaluation.evidence.is_empty() {
        let mut evidence = evaluation.evidence.clone();
        for path in evidence.artifacts.values_mut() {
            // Found again wherever the run is moved to.
            if let Ok(within) = path.strip_prefix(folder) {
                *path = within.to_owned();
            }
        }
        connection
            .prepare_cached("INSERT INTO evidence VALUES (?1,?2)")?
            .execute(params![row, json(&evidence)])?;
    }
    Ok(row)
}

pub(super) fn write_events(
    connection: &Connection,
    first: i64,
    events: &[Event],
) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("INSERT INTO events VALUES (?1, ?2)")?;
    let mut next = first;
    for event in events {
        statement.execute(params![next, json(event)])?;
        next += 1;
    }
    Ok(next)
}

pub(super) fn parse<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
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
pub(super) fn read_evaluation(row: &Row<'_>, first: usize) -> rusqlite::Result<Evaluation> {
    let verdict: String = row.get(first)?;
    let cause: Option<String> = row.get(first + 1)?;
    let verdict = match (verdict.as_str(), cause) {
        ("accepted", _) => Verdict::Accepted,
        ("rejected", _) => Verdict::Rejected,
        ("unverified", _) => Verdict::Unverified,
        (_, cause) => {
            let cause = serde_json::Value::String(cause.unwrap_or_default());
            let cause = serde_json::from_value(cause).unwrap_or(forerunner_core::Cause::Other);
            Verdict::Failed(cause)
        }
    };
    let metrics: Metrics = parse(row, first + 2)?;
    let telemetry: Telemetry = parse(row, first + 3)?;
    Ok(Evaluation {
        verdict,
        findings: Vec::new(),
        metrics,
        telemetry,
        evidence: Default::default(),
    })
}

pub(super) fn pack(points: &Series) -> Vec<u8> {
    points
        .iter()
        .flat_map(|(step, value)| [step.to_le_bytes(), value.to_le_bytes()])
        .flatten()
        .collect()
}

pub(super) fn unpack(bytes: &[u8]) -> Series {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn curves_come_back_to_the_bit(points in proptest::collection::vec((any::<u64>(), -1e300..1e300), 0..50)) {
            prop_assert_eq!(unpack(&pack(&points)), points);
        }

        #[test]
        fn torn_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(unpack(&bytes).len(), bytes.len() / 16);
        }
    }
}
