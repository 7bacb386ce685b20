//! `forerunner evaluate`.

use crate::{
    arguments::{Evaluate, SliceName},
    failure::{Failure, NOT_ACCEPTED},
    paths,
};
use forerunner_core::{EnvironmentSpec, EvaluationRequest, Program, Purpose, Slice, digest};
use forerunner_hook_tools::Recorded;
use forerunner_report::EvaluationReport;
use forerunner_runtime::{
    config::HookEntry,
    executor::{Launch, Worker},
    registry::Registry,
    single,
    verification::Hooks,
    worker::Hello,
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
    time::Duration,
};

pub(crate) fn evaluate(arguments: Evaluate, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    let program = match arguments.program.as_str() {
        "reference" => None,
        path => Some(read_program(Path::new(path))?),
    };
    let registry = Registry::new(paths::plugin_folders(plugins));
    let launch = launch(&arguments, &registry)?;
    let pick = move |spec: &EnvironmentSpec| match program {
        Some(program) => in_place_of(&spec.reference, program),
        None => spec.reference.clone(),
    };
    if arguments.print {
        let worker = Worker::start(&launch, "print").map_err(single::SingleError::from)?;
        return print_program(&pick(worker.spec()));
    }
    let mut request = EvaluationRequest::new(Program::default(), arguments.seed);
    request.slice = match arguments.slice {
        SliceName::Dev => Slice::Dev,
        SliceName::Val => Slice::Val,
        SliceName::Vault => Slice::Vault,
    };
    let slice = request.slice;
    request.disguise = arguments.disguise;
    request.purpose = match slice {
        Slice::Dev => Purpose::Search,
        Slice::Val | Slice::Vault => Purpose::Confirm,
    };
    if !(arguments.timeout.is_finite() && arguments.timeout > 0.0) {
        return Err(Failure::usage("--timeout must be a positive number of seconds"));
    }
    let timeout = Duration::from_secs_f64(arguments.timeout);
    let progress = |fraction: f64, message: String| {
        let message = forerunner_report::sanitize::line(&message);
        drop(writeln!(io::stderr(), "{:3.0} %  {message}", fraction * 100.0));
    };
    let abort = AtomicBool::new(false);
    let entries: Vec<HookEntry> = arguments
        .hook
        .iter()
        .map(|path| HookEntry { path: Some(path.clone()), ..HookEntry::default() })
        .collect();
    let cache_dir = &launch.hello.cache_dir;
    let hooks = Hooks { registry: &registry, entries: &entries, cache_dir };
    let (spec, program, evaluation) =
        single::evaluate(&launch, &hooks, pick, request, &progress, &abort, timeout)?;
    if let Some(path) = &arguments.save_evidence {
        let recorded = Recorded {
            environment: spec.name.clone(),
            track: spec.track.clone(),
            program: program.clone(),
            parent: None,
            seed: arguments.seed,
            slice,
            evaluation: evaluation.clone(),
        };
        recorded.write(path)?;
    }
    let report = EvaluationReport {
        program: &program.id(),
        environment: &spec.name,
        track: &spec.track,
        seed: arguments.seed,
        slice,
        objectives: &spec.objectives.0,
        evaluation: &evaluation,
    };
    let mut out = io::stdout();
    if arguments.json {
        writeln!(out, "{}", forerunner_report::to_json(&report.json())?)?;
    } else if arguments.digest {
        write!(out, "{}", digest(&evaluation, &spec.objectives.0, None))?;
    } else {
        write!(out, "{}", report.text())?;
    }
    Ok(if evaluation.is_accepted() { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACCEPTED) })
}

fn launch(arguments: &Evaluate, registry: &Registry) -> Result<Launch, Failure> {
    let mut config: serde_json::Map<String, serde_json::Value> = match &arguments.config {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            Failure::usage(format_args!(
                "--config: {error}\nhint: give a JSON object, for example '{{\"clock\":\"raw\"}}'"
            ))
        })?,
        None => serde_json::Map::new(),
    };
    if let Some(track) = &arguments.track {
        config.insert("track".to_owned(), track.clone().into());
    }
    if arguments.unsafe_no_sandbox {
        config.insert("unsafe_no_sandbox".to_owned(), true.into());
    }
    let (_, plugin) = registry.find("environment", &arguments.environment, None)?;
    let cache = paths::cache_folder();
    let log_dir = cache.join("evaluate");
    std::fs::create_dir_all(&log_dir).map_err(|error| {
        Failure::usage(format_args!(
            "cannot make {}: {error}\nhint: set XDG_CACHE_HOME to a folder that can be written",
            log_dir.display()
        ))
    })?;
    Ok(Launch {
        command: paths::worker_command()?,
        hello: Hello {
            plugin,
            name: arguments.environment.clone(),
            config: serde_json::Value::Object(config),
            artifact_dir: log_dir.join("artifacts"),
            cache_dir: cache.join("cache"),
        },
        log_dir,
    })
}

/// A single file takes the place of the environment's only file, whatever it is called.
fn in_place_of(reference: &Program, given: Program) -> Program {
    match (reference.files.keys().next(), given.files.len(), reference.files.len()) {
        (Some(name), 1, 1) => {
            Program { files: given.files.into_values().map(|text| (name.clone(), text)).collect() }
        }
        _ => given,
    }
}

/// One file, or every file below a folder.
fn read_program(path: &Path) -> Result<Program, Failure> {
    let unreadable = |path: &Path, error: io::Error| {
        let hint = "give a program, which is a file or a folder of UTF-8 text, or `reference`";
        Failure::reading(path, &error, hint)
    };
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| unreadable(path, error));
    if path.is_file() {
        return Ok(Program::single("main.rs", read(path)?));
    }
    let mut files = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, error))?.path();
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let name = entry.strip_prefix(path).unwrap_or(&entry);
                files.insert(name.to_string_lossy().into_owned(), read(&entry)?);
            }
        }
    }
    Ok(Program { files })
}

fn print_program(program: &Program) -> Result<ExitCode, Failure> {
    let mut out = io::stdout();
    for (path, text) in &program.files {
        if program.files.len() > 1 {
            writeln!(out, "// ==== {path}")?;
        }
        write!(out, "{}", crate::show::for_reader(text))?;
    }
    Ok(ExitCode::SUCCESS)
}
