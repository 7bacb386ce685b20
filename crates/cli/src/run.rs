//! `forerunner run`.

use crate::{
    arguments::{ConfirmLevel, Run},
    failure::{Failure, INTERRUPTED, PLUGIN},
    mcp, paths, report,
};
use forerunner_core::Objectives;
use forerunner_report::{
    ndjson,
    terminal::{Live, Look, Stream},
};
use forerunner_runtime::{
    config::{Level, RunFile},
    engine::{self, Control, RunOptions},
    event::{EndReason, Event, EventKind, Summary},
    registry::Registry,
    store::Store,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) fn run(mut arguments: Run, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    if arguments.unsafe_no_sandbox {
        arguments.set.push("environment.config.unsafe_no_sandbox=true".to_owned());
    }
    let given = match &arguments.file {
        Some(name) => Some(RunFile::load(name, &paths::preset_folders(), &arguments.set)?),
        None => None,
    };
    let (config, folder) = match (&arguments.resume, given) {
        _ if arguments.replay.is_some() => {
            let recorded = arguments.replay.clone().unwrap_or_default();
            let config = engine::replayed_config(&recorded)?;
            (config, arguments.out.clone().unwrap_or_else(|| paths::next_run_folder("replay")))
        }
        (Some(folder), given) => {
            (engine::resumed_config(folder, given, &arguments.set)?, folder.clone())
        }
        (None, Some(config)) => {
            let name = arguments.file.as_deref().unwrap_or("run");
            (config, arguments.out.clone().unwrap_or_else(|| paths::next_run_folder(name)))
        }
        (None, None) => return Err(Failure::usage("no run file")),
    };
    let config = match arguments.confirm {
        Some(level) => config.confirming(match level {
            ConfirmLevel::None => None,
            ConfirmLevel::Claim => Some(Level::Claim),
            ConfirmLevel::Record => Some(Level::Record),
        })?,
        None => config,
    };
    let own_mutators = mcp::without_clients(&config, &folder, arguments.replay.is_some())?;
    let control = Control::default();
    watch_signals(&control)?;
    let options = RunOptions {
        config,
        cache_dir: folder.join("cache"),
        folder: folder.clone(),
        resume: arguments.resume.is_some(),
        registry: Registry::new(paths::plugin_folders(plugins)),
        worker_command: paths::worker_command()?,
        core_locks: Some(paths::runtime_folder()),
        control,
        own_mutators,
        replay: arguments.replay.clone(),
    };
    let mut output = Output::new(&arguments);
    if arguments.resume.is_some() {
        output.replay(&Store::read(&folder)?.events()?);
    }
    let summary = engine::run(options, &mut |event| output.event(event))?;
    let shown = output.finish(&summary);
    write_report(&folder, arguments.events.is_some());
    shown?;
    Ok(match summary.reason {
        EndReason::Interrupted => ExitCode::from(INTERRUPTED),
        EndReason::Mutators => ExitCode::from(PLUGIN),
        EndReason::Evaluations | EndReason::Time | EndReason::Dollars | EndReason::Tokens => {
            ExitCode::SUCCESS
        }
    })
}

/// Writes the report beside the store and says where, unless events are all that is wanted. The run
/// is over and kept: a report that cannot be written is worth a warning, no more.
pub(crate) fn write_report(folder: &Path, silent: bool) {
    let path = report::beside(folder);
    let written = std::panic::catch_unwind(|| -> Result<(), Failure> {
        report::write(&Store::read(folder)?, &path)
    });
    let panicked = |_| Err(Failure::usage("it panicked, which is a bug of ours"));
    let said = match written.unwrap_or_else(panicked) {
        Ok(()) if silent => return,
        Ok(()) => format!("Report:        {}", path.display()),
        Err(failure) => format!("warning: no report: {failure}"),
    };
    // Nothing can be done about a closed standard error.
    drop(writeln!(io::stderr(), "{said}"));
}

/// First Ctrl-C (or SIGTERM): finish what is being measured. Second: stop now.
pub(crate) fn watch_signals(control: &Control) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let control = control.clone();
    std::thread::spawn(move || {
        for (index, _) in signals.forever().enumerate() {
            control.interrupt();
            let message = match index {
                0 => "\nstopping when the measurements under way are done (Ctrl-C again: stop now)",
                1 => "\nstopping now",
                _ => continue,
            };
            drop(writeln!(io::stderr(), "{message}"));
        }
    });
    Ok(())
}

/// Where events go.
enum Output {
    /// For people; the summary follows, as JSON on standard output when asked for.
    Live {
        live: Box<Live<Box<dyn Write>>>,
        json: bool,
        objectives: Objectives,
    },
    Ndjson(ndjson::Writer<io::Stdout>),
}

impl Output {
    fn new(arguments: &Run) -> Self {
        if arguments.events.is_some() {
            return Self::Ndjson(ndjson::Writer::new(io::stdout()));
        }
        let stream = if arguments.json { Stream::Stderr } else { Stream::Stdout };
        let look = Look { quiet: arguments.quiet, ..Look::detect(stream) };
        let out: Box<dyn Write> =
            if arguments.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        Self::Live {
            live: Box::new(Live::new(out, look)),
            json: arguments.json,
            objectives: Objectives(Vec::new()),
        }
    }

    fn replay(&mut self, events: &[Event]) {
        if let Self::Live { live, .. } = self {
            events.iter().for_each(|event| live.replay(event));
        }
    }

    /// A closed pipe must not end a run: whoever reads is gone, the results are in the store.
    fn event(&mut self, event: &Event) {
        match self {
            Self::Live { live, objectives, .. } => {
                if let EventKind::RunStarted { objectives: known, .. } = &event.kind {
                    *objectives = known.clone();
                }
                drop(live.event(event));
            }
            Self::Ndjson(writer) if !event.kind.is_live_only() => drop(writer.event(event)),
            Self::Ndjson(_) => {}
        }
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let Self::Live { live, json, objectives } = self else { return Ok(()) };
        live.clear()?;
        let mut out = io::stdout();
        if *json {
            writeln!(out, "{}", forerunner_report::to_json(summary)?)
        } else {
            write!(out, "\n{}", forerunner_report::summary(summary, objectives))
        }
    }
}
