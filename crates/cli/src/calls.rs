//! `forerunner calls`.

use crate::{arguments::Calls, failure::Failure, paths::latest_run};
use forerunner_core::Answered;
use forerunner_report::{call, call_json, calls as render, to_json};
use forerunner_runtime::store::{Store, StoredCall};
use serde_json::Value;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Calls of equal beginning that are named.
const NAMED: usize = 10;

pub(crate) fn calls(arguments: &Calls) -> Result<ExitCode, Failure> {
    let (run, key) = wanted(&arguments.what)?;
    let store = Store::read(&run)?;
    let mut out = io::stdout();
    if let Some(key) = key {
        let stored = find(&store, &key)?;
        if arguments.json {
            writeln!(out, "{}", to_json(&call_json(&stored, true))?)?;
        } else {
            write!(out, "{}", call(&stored))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let fits = |stored: &StoredCall| {
        let failed = matches!(stored.answer.outcome, Answered::Failed { .. });
        arguments.model.as_ref().is_none_or(|model| *model == stored.call.model)
            && arguments.purpose.as_ref().is_none_or(|purpose| *purpose == stored.call.purpose)
            && (failed || !arguments.failed)
    };
    let mut found = store.calls()?;
    found.retain(fits);
    if arguments.json {
        let list: Value = found.iter().map(|stored| call_json(stored, false)).collect();
        writeln!(out, "{}", to_json(&list)?)?;
    } else {
        write!(out, "{}", render(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which run, and which call of it: with one word, whichever it is.
fn wanted(what: &[String]) -> Result<(PathBuf, Option<String>), Failure> {
    let latest = || {
        latest_run().ok_or_else(|| {
            Failure::usage("there is no run in runs/\nhint: name the folder of a run")
        })
    };
    let names_a_call = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(match what {
        [] => (latest()?, None),
        [word] if Path::new(word).exists() || !names_a_call(word) => (word.into(), None),
        [key] => (latest()?, Some(key.clone())),
        [run, key, ..] => (run.into(), Some(key.clone())),
    })
}

fn find(store: &Store, key: &str) -> Result<StoredCall, Failure> {
    let mut found = store.calls_like(key)?;
    if found.len() > 1 {
        let keys: Vec<&str> = found.iter().take(NAMED).map(|stored| stored.key.as_str()).collect();
        return Err(Failure::usage(format_args!(
            "`{key}` could be {}\nhint: give more digits",
            keys.join(", ")
        )));
    }
    found.pop().ok_or_else(|| {
        Failure::usage(format_args!(
            "the run has no call `{key}`\nhint: `forerunner calls RUN` lists them; the first digits are enough"
        ))
    })
}
