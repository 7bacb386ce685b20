//! Event logs as the command prints them.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Parses one JSON object per line.
///
/// # Panics
/// When a line is none.
pub fn parse_lines(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(parse).collect()
}

/// The events in what a run wrote to standard output under `--events ndjson`.
pub fn log_of(stdout: &str) -> Log {
    Log(parse_lines(stdout))
}

/// Events in order.
pub struct Log(pub Vec<Value>);

impl Log {
    /// The events of one kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.0.iter().filter(move |event| event["event"] == kind)
    }

    /// The number of every complete iteration, in the order of completion.
    ///
    /// # Panics
    /// When an event has no number.
    pub fn evaluated(&self) -> Vec<u64> {
        self.of("evaluated").map(|event| event["iteration"].as_u64().expect("a number")).collect()
    }

    /// The summary of the last session.
    ///
    /// # Panics
    /// When there is none.
    pub fn summary(&self) -> &Value {
        self.of("run_finished").next_back().expect("the run finished")
    }

    /// Makes sure that `n` iterations were completed, none of them twice, and counts verdicts:
    /// the cause for what failed, else the verdict. Numbers may be missing where a run stopped.
    ///
    /// # Panics
    /// When there are more or fewer, or one was completed twice.
    pub fn verdicts_of_exactly(&self, n: u64) -> BTreeMap<String, u64> {
        let numbers = self.evaluated();
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!((numbers.len(), distinct.len() as u64), (distinct.len(), n), "{numbers:?}");
        let mut counts = BTreeMap::new();
        for event in self.of("evaluated") {
            let evaluation = &event["evaluation"];
            let word = evaluation["cause"].as_str().or(evaluation["verdict"].as_str());
            *counts.entry(word.expect("a verdict").to_owned()).or_default() += 1;
        }
        counts
    }

    /// The log as text, without times and the run's folder.
    pub fn timeless(&self) -> String {
        let lines: Vec<String> =
            self.0.iter().cloned().map(|event| without_times(event).to_string()).collect();
        lines.join("\n")
    }
}

fn without_times(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| !["at", "seconds", "slot_use", "run"].contains(&key.as_str()))
            .map(|(key, value)| (key, without_times(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_times).collect(),
        other => other,
    }
}
