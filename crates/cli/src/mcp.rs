//! `forerunner mcp`.

use crate::{
    failure::{Failure, INTERRUPTED, PLUGIN},
    paths, run,
};
use clap::Args;
use forerunner_core::Cost;
use forerunner_mcp::{Access, Desk, MUTATOR, Quotas};
use forerunner_report::terminal::{Live, Look, Stream};
use forerunner_runtime::{
    config::RunFile,
    engine::{self, Control, OwnMutators, RunError, RunOptions},
    event::{EndReason, Summary},
    registry::Registry,
    store::{Store, StoreError},
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

/// Evaluations of a run that is started for an environment alone.
const EVALUATIONS: u64 = 100;
/// How long a session waits for another one that has the run.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often it looks.
const AGAIN: Duration = Duration::from_millis(300);

const EXAMPLES: &str = "\
Examples:
  forerunner mcp --environment nanogpt --track cpu --submissions 20
                                                a run of its own, kept in runs/nanogpt-NNN
  forerunner mcp search.toml --with-mutators    clients and the file's own mutators in turn
  forerunner mcp --resume runs/nanogpt-001      go on where the last session stopped
  forerunner mcp search.toml --set run.slots=2 --listen 127.0.0.1:8400 --tokens clients.txt
                                                several clients share a run, with a quota for each

An MCP client starts this command and talks to it over standard input and output; progress goes to
standard error. For Claude Code:
  claude mcp add forerunner -- forerunner mcp --environment nanogpt --track cpu --out /path/of/run

The run is an ordinary one: `forerunner log`, `show`, `ideas` and `report` read it. It waits for
clients with one child at a time for each slot (`--set run.slots=2` for more), and ends when its
budget is used up (`--set budget.evaluations=50`). See docs/mcp.md.";

/// Serve a run to agents over the Model Context Protocol: they read the task, check and submit
/// programs, and read what was measured, under the rules of any mutator.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Mcp {
    /// Run file, or the name of a preset; its mutators are left out.
    #[arg(value_name = "FILE|PRESET")]
    file: Option<String>,
    /// Search in this environment, without a run file.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["file", "resume"])]
    environment: Option<String>,
    /// The track within it.
    #[arg(long, requires = "environment")]
    track: Option<String>,
    /// Go on with the run in this folder.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["file", "out", "with_mutators"])]
    resume: Option<PathBuf>,
    /// Folder for the run (default: runs/NAME-NNN); one that it holds already goes on.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a value of the run, as `key.path=value`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Submissions that each client may make (default: as many as the budget allows).
    #[arg(long, value_name = "N")]
    submissions: Option<u64>,
    /// Checks that each client may make (default: 200).
    #[arg(long, value_name = "N")]
    checks: Option<u64>,
    /// The name that quotas and ideas of this session go by (default: what the client calls itself).
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Serve many clients over HTTP at this address of this machine (port 0: any) instead of one over
    /// standard input and output. Ends with Ctrl-C.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "client")]
    listen: Option<SocketAddr>,
    /// The clients that may connect: a file, for nobody else to read, with a line `NAME TOKEN` for
    /// each (default: whoever has the token that is printed).
    #[arg(long, value_name = "FILE", requires = "listen")]
    tokens: Option<PathBuf>,
    /// Let the run file's own mutators search as well, in turn with the clients.
    #[arg(long, requires = "file")]
    with_mutators: bool,
    /// Run programs without a sandbox. Every result says so. Never do this with programs that
    /// you did not write.
    #[arg(long)]
    unsafe_no_sandbox: bool,
}

pub(crate) fn mcp(mut arguments: Mcp, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    if arguments.unsafe_no_sandbox {
        arguments.set.push("environment.config.unsafe_no_sandbox=true".to_owned());
    }
    let (config, folder, resume) = run_file(&arguments)?;
    let listener = arguments.listen.map(|address| listen(address, arguments.tokens.as_deref()));
    let listener = listener.transpose()?;
    let quotas = quotas(&arguments, &config, &folder)?;
    let control = Control::default();
    run::watch_signals(&control)?;
    let desk = Desk::new(&folder, quotas);
    let own: Arc<dyn forerunner_core::Mutator> = desk.clone();
    let options = RunOptions {
        config,
        cache_dir: folder.join("cache"),
        folder: folder.clone(),
        resume,
        registry: Registry::new(paths::plugin_folders(plugins)),
        worker_command: paths::worker_command()?,
        core_locks: Some(paths::runtime_folder()),
        control: control.clone(),
        own_mutators: OwnMutators(BTreeMap::from([(MUTATOR.to_owned(), own)])),
        replay: None,
    };
    let search = std::thread::spawn({
        let desk = desk.clone();
        move || search(&options, &desk)
    });
    let stopped = || control.is_interrupted();
    let served = match listener {
        Some((listener, access)) => forerunner_mcp::serve_http(&desk, listener, access, &stopped),
        None => forerunner_mcp::serve_stdio(&desk, arguments.client, &stopped),
    };
    // What a client that has gone submitted is still measured and kept, and a search that is over is
    // confirmed. Ctrl-C ends that too.
    desk.settle();
    let interrupted = control.is_interrupted();
    control.interrupt();
    let panicked = |_| Err(Failure::usage("the search panicked, which is a bug of ours"));
    let summary = match search.join() {
        // The client left, or was none, before there was anything to search.
        Ok(Err(RunError::Interrupted)) if !interrupted => None,
        Ok(Err(RunError::Interrupted)) => return Err(stopped_early()),
        Ok(result) => Some(result?),
        Err(panic) => return panicked(panic),
    };
    if summary.is_some() {
        run::write_report(&folder, false);
    }
    served.map_err(Failure::usage)?;
    Ok(match summary.map(|summary| summary.reason) {
        Some(EndReason::Interrupted) if interrupted => ExitCode::from(INTERRUPTED),
        Some(EndReason::Mutators) => ExitCode::from(PLUGIN),
        _ => ExitCode::SUCCESS,
    })
}

/// Opens the port and says how to connect: on standard error, where progress goes.
fn listen(address: SocketAddr, tokens: Option<&Path>) -> Result<(TcpListener, Access), Failure> {
    let (access, token) = match tokens {
        Some(path) => (Access::read(path).map_err(Failure::usage)?, None),
        None => Access::generate()
            .map(|(access, token)| (access, Some(token)))
            .map_err(Failure::usage)?,
    };
    let listener = forerunner_mcp::listen(address).map_err(Failure::usage)?;
    let mut text =
        format!("listening at http://{}{}\n", listener.local_addr()?, forerunner_mcp::PATH);
    if let Some(token) = token {
        text.push_str(&format!("token: {token}\n"));
    }
    // Nothing can be done about a closed standard error.
    drop(io::stderr().write_all(text.as_bytes()));
    Ok((listener, access))
}

fn stopped_early() -> Failure {
    Failure::new(
        INTERRUPTED,
        "stopped before the reference program was measured\nhint: `forerunner mcp --resume` with \
         the same folder starts it again",
    )
}

/// What `forerunner run` makes of the name of our mutator: in a replay, the submissions that were
/// kept. Else nobody would submit anything, so the search must be over; then it can be confirmed.
pub(crate) fn without_clients(
    config: &RunFile,
    folder: &Path,
    replays: bool,
) -> Result<OwnMutators, Failure> {
    if forerunner_mcp::quotas(config).is_none() {
        return Ok(OwnMutators::default());
    }
    if !replays && !is_searched(config, folder) {
        return Err(Failure::usage(
            "this run waits for clients: it has the mutator `mcp`\nhint: start it with \
             `forerunner mcp`, and go on with it with `forerunner mcp --resume`; once its \
             budget is used up, `forerunner run --resume` confirms it",
        ));
    }
    let kept: Arc<dyn forerunner_core::Mutator> = Desk::new(folder, Quotas::default());
    Ok(OwnMutators(BTreeMap::from([(MUTATOR.to_owned(), kept)])))
}

/// Whether the run in `folder` has used up its budget, so that there is nothing left to search. A
/// budget of time is one of each session.
fn is_searched(config: &RunFile, folder: &Path) -> bool {
    let (mut made, mut spent) = (0, Cost::default());
    let read = Store::read(folder).and_then(|store| {
        store.each_iteration(&mut |one| {
            made += u64::from(one.iteration.iteration > 0);
            spent += one.iteration.cost;
        })
    });
    let budget = &config.budget;
    read.is_ok()
        && (budget.evaluations.is_some_and(|limit| made >= limit) || budget.is_spent(&spent))
}

/// What to run, where, and whether it goes on there.
fn run_file(arguments: &Mcp) -> Result<(RunFile, PathBuf, bool), Failure> {
    if let Some(folder) = &arguments.resume {
        let config = engine::resumed_config(folder, None, &arguments.set)?;
        forerunner_mcp::fits(&config).map_err(Failure::usage)?;
        return Ok((config, folder.clone(), true));
    }
    let (file, name) = match (&arguments.file, &arguments.environment) {
        (Some(name), _) => (RunFile::load(name, &paths::preset_folders(), &[])?, name),
        (None, Some(name)) => {
            (forerunner_mcp::file_for(name, arguments.track.as_deref(), EVALUATIONS)?, name)
        }
        (None, None) => {
            return Err(Failure::usage(
                "there is nothing to run\nhint: name a run file or a preset, `--environment NAME`, \
                 or a run to go on with, `--resume RUN`; `forerunner mcp --help` shows examples",
            ));
        }
    };
    let defaults = Quotas::default();
    let quotas = Quotas {
        submissions: arguments.submissions,
        checks: arguments.checks.unwrap_or(defaults.checks),
    };
    let file = forerunner_mcp::configure(file, &quotas, arguments.with_mutators);
    let file = if arguments.set.is_empty() { file } else { file.with(&arguments.set)? };
    forerunner_mcp::fits(&file).map_err(Failure::usage)?;
    let Some(folder) = &arguments.out else {
        return Ok((file, paths::next_run_folder(name), false));
    };
    // A run that could not begin, perhaps for a misspelt name, is nothing to go on with. One that
    // another process has just begun is.
    if !is_measured(folder)? && !is_in_use(folder) {
        return Ok((file, folder.clone(), false));
    }
    // An agent's client starts the same command for each session. Quotas are the session's affair.
    let mut file = file;
    let frozen = engine::resumed_config(folder, None, &[])?;
    let quotas = |file: &RunFile| {
        let entry = file.mutators.iter().find(|mutator| mutator.name == MUTATOR)?;
        Some(entry.config.clone())
    };
    for entry in file.mutators.iter_mut().filter(|mutator| mutator.name == MUTATOR) {
        entry.config = quotas(&frozen).unwrap_or_default();
    }
    Ok((engine::resumed_config(folder, Some(file), &[])?, folder.clone(), true))
}

/// Whether the folder holds a run with at least its reference measured.
fn is_measured(folder: &Path) -> Result<bool, StoreError> {
    match Store::read(folder) {
        Ok(store) => Ok(store.reference()?.is_some()),
        Err(StoreError::Missing { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Whether another process works on the run in `folder`.
fn is_in_use(folder: &Path) -> bool {
    matches!(Store::open(folder), Err(StoreError::Busy { .. }))
}

/// Those of the run, unless this session has others.
fn quotas(arguments: &Mcp, config: &RunFile, folder: &Path) -> Result<Quotas, Failure> {
    let of_run = forerunner_mcp::quotas(config).ok_or_else(|| {
        Failure::usage(format_args!(
            "the run in {} was not started for clients: it has no mutator `{MUTATOR}`\nhint: \
             `forerunner run --resume` goes on with it; `forerunner mcp` starts one for clients",
            folder.display()
        ))
    })?;
    Ok(Quotas {
        submissions: arguments.submissions.or(of_run.submissions),
        checks: arguments.checks.unwrap_or(of_run.checks),
    })
}

/// Runs the search to its end and tells the desk, whatever happens.
fn search(options: &RunOptions, desk: &Desk) -> Result<Summary, RunError> {
    /// Clients must not wait for a search that panicked.
    struct Close<'a>(&'a Desk);
    impl Drop for Close<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.close(Err("the search panicked, which is a bug of ours".to_owned()));
            }
        }
    }
    let _close = Close(desk);
    let result = run_when_free(options, desk);
    desk.close(result.as_ref().map_err(ToString::to_string));
    result
}

/// Runs the search as soon as no other process works on the run: clients reconnect while the session
/// before still measures what was submitted to it.
fn run_when_free(options: &RunOptions, desk: &Desk) -> Result<Summary, RunError> {
    let since = Instant::now();
    let mut said = false;
    loop {
        // Standard output belongs to the protocol.
        let mut live = None;
        let result = engine::run(options.clone(), &mut |event| {
            desk.event(event);
            let live = live.get_or_insert_with(|| live_after(options));
            // Nothing can be done about a closed standard error.
            drop(live.event(event));
        });
        match result {
            Err(RunError::Store(StoreError::Busy { path })) if since.elapsed() < PATIENCE => {
                if !said {
                    let text = format!(
                        "{} is in use by another process; waiting until it is done",
                        path.display()
                    );
                    drop(writeln!(io::stderr(), "{text}"));
                    desk.wait_for_others();
                    said = true;
                }
                std::thread::sleep(AGAIN);
                if options.control.is_interrupted() {
                    return Err(RunError::Interrupted);
                }
            }
            other => return other,
        }
    }
}

/// What shows the run on standard error, after what happened before.
fn live_after(options: &RunOptions) -> Live<io::Stderr> {
    let mut live = Live::new(io::stderr(), Look::detect(Stream::Stderr));
    if options.resume {
        let before = Store::read(&options.folder).and_then(|store| store.events());
        before.unwrap_or_default().iter().for_each(|event| live.replay(event));
    }
    live
}
