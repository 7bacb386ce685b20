//! `forerunner hook new`, `build`, `check` and `run`.

use crate::{
    failure::{Failure, NOT_ACCEPTED, PLUGIN, USAGE},
    show,
};
use clap::{Args, Subcommand, ValueEnum};
use forerunner_core::{Permission, Slice, Verdict};
use forerunner_hook_tools::{
    BuildError, Checked, Language, OnNothing, Recipe, Recorded, RecordedError, TemplateError,
    Tools, Tried, build, check, create, run,
};
use forerunner_report::sanitize;
use forerunner_runtime::{lineage::account, store::Store};
use forerunner_verify::{HookError, Report};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

const EXAMPLES: &str = "\
Examples:
  forerunner hook new no-giants                 a folder with a small hook in Rust that works
  forerunner hook new no-giants --language c    the same in C
  forerunner hook build no-giants               no-giants/no-giants.wasm
  forerunner hook check no-giants/no-giants.wasm
  forerunner evaluate reference --environment nanogpt --track cpu --save-evidence honest.json
  forerunner hook run no-giants/no-giants.wasm --evidence honest.json

Then name it in a run file:
  [[hook]]
  path = \"no-giants/no-giants.wasm\"

Exit codes:
  0    done; the hook accepted
  1    the hook rejected, or could not tell
  2    wrong arguments, nothing to build, or no such evidence
  3    the hook cannot be built or used, or misbehaved";

/// Make, build and try verification hooks.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Hook {
    #[command(subcommand)]
    command: HookCommand,
}

#[derive(Debug, Subcommand)]
enum HookCommand {
    /// Make a folder with a small hook that works. Nothing is overwritten.
    New {
        /// The folder; its last part is the hook's name.
        name: PathBuf,
        /// What to write it in.
        #[arg(long, default_value = "rust")]
        language: LanguageName,
    },
    /// Compile a hook into a component.
    Build {
        /// Folder of the hook, or a core module that another compiler made.
        #[arg(default_value = ".")]
        source: PathBuf,
        /// The file to write (default: NAME.wasm in the folder).
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The compiler of hooks in C, with its first arguments (default: $CC where that is a
        /// clang or zig, otherwise `clang`).
        #[arg(long, value_name = "COMMAND")]
        clang: Option<String>,
    },
    /// Load a component as a run would, and call it once without evidence.
    Check {
        /// The component.
        file: PathBuf,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Have a hook judge recorded evidence.
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// The component.
    file: PathBuf,
    /// A file from `forerunner evaluate … --save-evidence FILE`.
    #[arg(long, value_name = "FILE", required_unless_present = "run", conflicts_with_all = ["run", "program"])]
    evidence: Option<PathBuf>,
    /// Folder of a run with a store.
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// The program in it: `best` (the default), `reference`, or the start of its identity.
    #[arg(long, value_name = "ID", requires = "run", default_value = "best")]
    program: String,
    /// What the hook may look at or do, separated by commas (default: everything).
    #[arg(long, value_name = "PERMISSIONS", value_delimiter = ',', value_parser = permission)]
    allow: Option<Vec<Permission>>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// A language with a template.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LanguageName {
    /// Needs the target wasm32-unknown-unknown.
    Rust,
    /// Needs a clang that knows wasm32.
    C,
}

fn permission(text: &str) -> Result<Permission, String> {
    Permission::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
        format!("no such permission (known: {})", known.join(", "))
    })
}

pub(crate) fn hook(hook: Hook) -> Result<ExitCode, Failure> {
    let mut out = io::stdout();
    match hook.command {
        HookCommand::New { name, language } => {
            let language = match language {
                LanguageName::Rust => Language::Rust,
                LanguageName::C => Language::C,
            };
            create(&name, language)?;
            let first = name.join(language.first_file());
            writeln!(out, "made {}; start in {}", name.display(), first.display())?;
        }
        HookCommand::Build { source, out: file, clang } => {
            let recipe = Recipe { source, out: file, profile: None };
            let built = build(&recipe, &tools(clang))?;
            let path = built.path.display();
            writeln!(out, "{path}  {} bytes  sha256 {}", built.bytes, built.sha256)?;
        }
        HookCommand::Check { file, json } => {
            let checked = check(&file)?;
            if json {
                writeln!(out, "{}", to_json(&checked)?)?;
            } else {
                write!(out, "{}", text_of_check(&checked))?;
            }
        }
        HookCommand::Run(arguments) => {
            let recorded = match (&arguments.evidence, &arguments.run) {
                (Some(file), _) => Recorded::read(file)?,
                (None, Some(folder)) => from_store(folder, &arguments.program)?,
                (None, None) => return Err(Failure::usage("give --evidence or --run")),
            };
            let allow: Option<BTreeSet<_>> = arguments.allow.map(|list| list.into_iter().collect());
            let tried = run(&arguments.file, &recorded, allow.as_ref())?;
            if arguments.json {
                writeln!(out, "{}", to_json(&tried)?)?;
            } else {
                write!(out, "{}", text_of_run(&tried))?;
            }
            if tried.report.verdict != Verdict::Accepted {
                return Ok(ExitCode::from(NOT_ACCEPTED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The compilers: those that the caller's environment names, as cargo and make do.
fn tools(clang: Option<String>) -> Tools {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let knows_wasm = |command: &String| command.contains("clang") || command.contains("zig");
    let default = Tools::default();
    let clang = clang.or_else(|| named("CC").filter(knows_wasm));
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    Tools {
        cargo: named("CARGO").map_or(default.cargo, Into::into),
        rustc: named("RUSTC").map_or(default.rustc, Into::into),
        clang: clang.map(words).filter(|words| !words.is_empty()).unwrap_or(default.clang),
    }
}

/// The search's evaluation of a program, as evidence.
fn from_store(folder: &Path, program: &str) -> Result<Recorded, Failure> {
    let store = Store::read(folder)?;
    let account = account(&store)?;
    let id = show::resolve(&store, &account, program)?;
    let made = show::made(&store, &id)?;
    let mut evaluation = made.evaluation;
    evaluation.telemetry.series = store.series(made.evaluation_id)?.into_iter().collect();
    evaluation.evidence = store.evidence(made.evaluation_id)?;
    let parent = match &made.iteration.parent {
        Some(parent) => store.program(parent)?,
        None => None,
    };
    Ok(Recorded {
        environment: account.environment,
        track: account.track,
        program: store.program(&id)?.unwrap_or_default(),
        parent,
        seed: store.search_seed()?,
        slice: Slice::Dev,
        evaluation,
    })
}

fn text_of_check(checked: &Checked) -> String {
    let Checked { manifest, sha256, bytes, load_seconds, on_nothing } = checked;
    let wants: Vec<_> = manifest.wants.iter().map(|permission| permission.as_str()).collect();
    let wants = if wants.is_empty() { "nothing".to_owned() } else { wants.join(", ") };
    let answer = match on_nothing {
        OnNothing::Reported(report) => {
            format!("{} in {:.3} ms", verdict(report), report.usage.seconds * 1e3)
        }
        OnNothing::Declined(why) => sanitize::line(why),
    };
    format!(
        "{} {}\n    wants {wants}\n    {bytes} bytes, sha256 {sha256}\n    \
         compiled and described in {:.1} ms\n    without any evidence: {answer}\n",
        manifest.name,
        manifest.version,
        load_seconds * 1e3
    )
}

fn text_of_run(tried: &Tried) -> String {
    let Tried { hook, report, .. } = tried;
    // Writing to a string cannot fail.
    let mut text = format!("{} {}: {}\n", hook.name, hook.version, verdict(report));
    for finding in &report.findings {
        let severity = finding.severity.as_str();
        let message = sanitize::line(&finding.message);
        let place = finding.place.as_deref().map(|place| format!(" ({})", sanitize::line(place)));
        let place = place.unwrap_or_default();
        let _ = writeln!(text, "    {severity} {}: {message}{place}", finding.rule);
    }
    for (name, value) in &report.metrics {
        let _ = writeln!(text, "    computed {} = {value}", sanitize::line(name));
    }
    for line in &report.log {
        let level = format!("{:?}", line.level).to_lowercase();
        let _ = writeln!(text, "    log {level}: {}", sanitize::line(&line.message));
    }
    let usage = &report.usage;
    if usage.dropped_log_lines > 0 {
        let _ = writeln!(text, "    {} more lines of log were dropped", usage.dropped_log_lines);
    }
    let _ = writeln!(
        text,
        "    used {} units of fuel, {} bytes of memory, {} calls, {:.3} ms",
        usage.fuel,
        usage.memory_bytes,
        usage.host_calls,
        usage.seconds * 1e3
    );
    text
}

fn verdict(report: &Report) -> &'static str {
    match report.verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected => "rejected",
        // A hook's report is never one of a failure.
        Verdict::Unverified | Verdict::Failed(_) => "undecided",
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    forerunner_report::to_json(value).map_err(|error| Failure::new(PLUGIN, error))
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::new(USAGE, error)
    }
}

impl From<RecordedError> for Failure {
    fn from(error: RecordedError) -> Self {
        Self::new(USAGE, error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let code = match &error {
            BuildError::NoSource(_) | BuildError::NoOutput(_) => USAGE,
            _ => PLUGIN,
        };
        Self::new(code, error)
    }
}

impl From<HookError> for Failure {
    fn from(error: HookError) -> Self {
        Self::new(PLUGIN, error)
    }
}
