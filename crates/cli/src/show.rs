//! `forerunner show` and `forerunner log`.

use crate::{
    arguments::{Log, Show},
    failure::Failure,
    paths::{is_run, latest_run, runs_in},
};
use forerunner_core::{Cause, Evaluation, Objectives, ProgramId, Slice, Verdict, digest};
use forerunner_report::{
    EvaluationReport, Step, lineage as render, ndjson, sanitize,
    terminal::{Live, Look},
};
use forerunner_runtime::{
    lineage::{Account, account, best, changes},
    store::{Store, StoredIteration},
};
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) fn show(arguments: &Show) -> Result<ExitCode, Failure> {
    let (run, program) = wanted(&arguments.what)?;
    let store = Store::read(&run)?;
    let account = account(&store)?;
    let id = resolve(&store, &account, &program)?;
    let mut out = io::stdout();
    if arguments.source {
        let program = store.program(&id)?.unwrap_or_default();
        for text in program.files.values() {
            write!(out, "{}", for_reader(text))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.diff {
        write!(out, "{}", steps(&store, &account, &id)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let made = made(&store, &id)?;
    let mut evaluation = made.evaluation;
    evaluation.telemetry.series = store.series(made.evaluation_id)?.into_iter().collect();
    evaluation.evidence = store.evidence(made.evaluation_id)?;
    let objectives = account.objectives.clone().unwrap_or(Objectives(Vec::new()));
    if arguments.digest {
        let parent = match &made.iteration.parent {
            Some(parent) => with_curves(&store, parent)?,
            None => None,
        };
        let parent = parent.as_ref().map(|parent| ("parent", parent));
        write!(out, "program {id}: {}", digest(&evaluation, &objectives.0, parent))?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = EvaluationReport {
        program: &id,
        environment: &account.environment,
        track: &account.track,
        seed: store.search_seed()?,
        slice: Slice::Dev,
        objectives: &objectives.0,
        evaluation: &evaluation,
    };
    if arguments.json {
        writeln!(out, "{}", forerunner_report::to_json(&report.json())?)?;
    } else {
        write!(out, "{}\n{}", report.text(), steps(&store, &account, &id)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which run and which program: with one word, whichever it is.
fn wanted(what: &[String]) -> Result<(PathBuf, String), Failure> {
    let best = || "best".to_owned();
    let latest = || {
        latest_run().ok_or_else(|| {
            Failure::usage("there is no run in runs/\nhint: name the folder of a run")
        })
    };
    Ok(match what {
        [] => (latest()?, best()),
        [word] if Path::new(word).exists() || !names_a_program(word) => (word.into(), best()),
        [program] => (latest()?, program.clone()),
        [run, program, ..] => (run.into(), program.clone()),
    })
}

/// Whether a word reads like a program rather than a folder.
fn names_a_program(word: &str) -> bool {
    matches!(word, "best" | "reference") || word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The search's evaluation of a program.
fn with_curves(store: &Store, id: &ProgramId) -> Result<Option<Evaluation>, Failure> {
    let Some(mut evaluation) = store.search_evaluation(id)? else { return Ok(None) };
    evaluation.telemetry.series = store.search_series(id)?.into_iter().collect();
    Ok(Some(evaluation))
}

/// A pipe gets a program as it is; a terminal gets nothing that could take it over.
pub(crate) fn for_reader(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { sanitize::block(text).into() } else { text.into() }
}

/// The first iteration that measured the program; one that lost its worker only where there is none
/// else.
pub(crate) fn made(store: &Store, id: &ProgramId) -> Result<StoredIteration, Failure> {
    let lost = |made: &StoredIteration| made.evaluation.verdict == Verdict::Failed(Cause::Worker);
    let mut all = store.iterations_of(id)?;
    // Stable: the order among the others stays.
    all.sort_by_key(lost);
    all.into_iter().next().ok_or_else(|| {
        Failure::usage(format_args!("program {id} was never measured\nhint: name another one"))
    })
}

pub(crate) fn resolve(store: &Store, account: &Account, name: &str) -> Result<ProgramId, Failure> {
    let found = match name {
        "best" => best(store, account)?,
        "reference" => store.reference()?,
        prefix => {
            let mut like = store.programs_like(prefix)?;
            if like.len() > 1 {
                let shown: Vec<_> = like.iter().map(|id| id.0.as_str()).collect();
                return Err(Failure::usage(format_args!(
                    "`{prefix}` could be {}\nhint: give more digits",
                    shown.join(", ")
                )));
            }
            like.pop()
        }
    };
    found.ok_or_else(|| {
        Failure::usage(format_args!(
            "the run has no program `{name}`\nhint: `best`, `reference`, or the first digits of an identity from `forerunner log`"
        ))
    })
}

fn steps(store: &Store, account: &Account, id: &ProgramId) -> Result<String, Failure> {
    let objectives = account.objectives.clone().unwrap_or(Objectives(Vec::new()));
    let made = changes(store, id)?;
    let steps: Vec<Step<'_>> = made
        .iter()
        .map(|step| Step {
            iteration: step.stored.iteration.iteration,
            mutator: &step.stored.iteration.mutator,
            idea: &step.stored.iteration.idea,
            parent: &step.parent,
            before: &step.before,
            child: &step.child,
            after: &step.stored.evaluation.metrics,
        })
        .collect();
    Ok(render(&objectives, &steps))
}

pub(crate) fn log(arguments: &Log) -> Result<ExitCode, Failure> {
    let mut out = io::stdout();
    if !is_run(&arguments.run) && arguments.run.is_dir() {
        let runs = runs_in(&arguments.run).map_err(|error| {
            Failure::reading(&arguments.run, &error, "name a folder that you may list")
        })?;
        for path in runs {
            match Store::read(&path).and_then(|store| account(&store)) {
                Ok(account) => {
                    let state = match &account.summary {
                        Some(summary) if summary.iterations == 1 => "1 iteration".to_owned(),
                        Some(summary) => format!("{} iterations", summary.iterations),
                        None => "not finished".to_owned(),
                    };
                    let (environment, track) = (&account.environment, &account.track);
                    let task = format!("{environment} {track}");
                    writeln!(out, "{}  {}  {state}", path.display(), task.trim_end())?;
                }
                Err(error) => writeln!(out, "{}  {error}", path.display())?,
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let events = Store::read(&arguments.run)?.events()?;
    if arguments.json {
        let mut writer = ndjson::Writer::new(out);
        for event in &events {
            writer.event(event)?;
        }
    } else {
        let mut live = Live::new(out, Look::plain());
        for event in &events {
            live.event(event)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
