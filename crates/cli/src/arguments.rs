//! The arguments of every command.

use crate::failure::EXIT_CODES;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs progress-oriented benchmarks: searches for better programs and believes only what it
/// measured itself.
#[derive(Debug, Parser)]
#[command(name = "forerunner", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Another folder with plugins; may be given several times, searched first.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugins: Vec<PathBuf>,
    /// Log level (error, warn, info, debug, trace) or filter.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search for better programs.
    Run(Run),
    /// Check and measure one program.
    Evaluate(Evaluate),
    /// Show a run's programs: how the best one came about, with its diffs.
    Show(Show),
    /// Write a run's report: one HTML page that needs nothing else.
    Report(Report),
    /// Show a run's ideas: what was expected of them, what came, and who knew.
    Ideas(Ideas),
    /// Show what models were asked, what they said and what it cost.
    Calls(Calls),
    /// Replay a run's event log, or list the runs in a folder.
    Log(Log),
    /// Look at plugins.
    Plugin(Plugin),
    /// Make, build and try verification hooks.
    Hook(crate::hook::Hook),
    /// Serve a run to agents over the Model Context Protocol.
    Mcp(crate::mcp::Mcp),
    /// Make data sets, or fetch published ones.
    Data(Data),
    /// Serve a host over standard input and output (started by the host itself).
    #[command(hide = true)]
    Worker,
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  forerunner run quickstart                     a shipped preset
  forerunner run search.toml --set run.seed=7   a run file, one value changed
  forerunner run --resume runs/quickstart-001   go on after Ctrl-C or a crash
  forerunner run --resume runs/quickstart-001 --confirm record
                                                try the finished run's best for a record
  forerunner run --replay runs/scripted         the same search again, without a network
  forerunner run quickstart --events ndjson     one JSON object per event

A run file:
  [environment]
  name = \"nanogpt\"
  config = { track = \"cpu\" }

  [[mutator]]
  name = \"tuner\"

  [selector]
  name = \"islands\"

  [run]
  seed = 1
  mode = \"steady\"        # or \"generations\": replays identically
  slots = 1              # programs measured at the same time, each on its own core

  [[hook]]               # judges every result, besides the environment's own hooks
  path = \"my_check.wasm\" # or: name = \"an-installed-one\"
  allow = [\"metrics\"]    # of what the environment grants; all of it unless given

  [budget]
  evaluations = 100
  seconds = 3600
  dollars = 5.0          # what models may cost; tokens = N limits their tokens

  [confirm]
  finalists = 3          # measured again on fresh seeds and held-out data
  seeds = 3
  level = \"claim\"        # or \"record\": then the vault, the disguise and a replay";

/// Search for better programs.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Run file, or the name of a preset.
    #[arg(value_name = "FILE|PRESET", required_unless_present_any = ["resume", "replay"])]
    pub(crate) file: Option<String>,
    /// Go on with the run in this folder.
    #[arg(long, value_name = "RUN", conflicts_with = "out")]
    pub(crate) resume: Option<PathBuf>,
    /// Repeat the search in this folder without asking any model: with its recorded answers and
    /// measurements. Ends with code 5 where the repetition comes to something else.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["file", "resume", "set", "confirm"])]
    pub(crate) replay: Option<PathBuf>,
    /// Folder for the run (default: runs/NAME-NNN).
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Change a value of the run file, as `key.path=value`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// How the best programs are confirmed when the search is over, whatever the run file says.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) confirm: Option<ConfirmLevel>,
    /// Write every event to standard output in this form, and nothing else.
    #[arg(long, value_name = "FORM")]
    pub(crate) events: Option<EventForm>,
    /// Print the summary as one JSON object on standard output; progress goes to standard error.
    #[arg(long, conflicts_with = "events")]
    pub(crate) json: bool,
    /// Show only new bests and trouble.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Run programs without a sandbox. Every result says so. Never do this with programs that
    /// you did not write.
    #[arg(long)]
    pub(crate) unsafe_no_sandbox: bool,
}

/// How much a confirmation has to show.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ConfirmLevel {
    /// Nothing is confirmed.
    None,
    /// Fresh seeds on held-out data.
    Claim,
    /// Then, for the best whose claim holds: the vault, the disguise, and a replay.
    Record,
}

/// A form of event output.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EventForm {
    /// One JSON object per line.
    Ndjson,
}

const EVALUATE_EXAMPLES: &str = "\
Examples:
  forerunner evaluate reference --environment nanogpt --track cpu
  forerunner evaluate my_gpt.rs --environment nanogpt --track cpu --seed 2 --json
  forerunner evaluate my_gpt.rs --environment nanogpt --track cpu --hook my_check.wasm
  forerunner evaluate my_gpt.rs --environment nanogpt --track cpu --slice vault --seed 7 --disguise 9
  forerunner evaluate reference --environment nanogpt --track cpu --print > my_gpt.rs";

/// Check and measure one program.
#[derive(Debug, Args)]
#[command(after_help = EVALUATE_EXAMPLES)]
pub(crate) struct Evaluate {
    /// Source file or folder, or `reference`.
    pub(crate) program: String,
    /// The environment.
    #[arg(long)]
    pub(crate) environment: String,
    /// The track within it.
    #[arg(long)]
    pub(crate) track: Option<String>,
    /// The injected seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The held-out slice that decides; on val and vault programs are measured as a confirmation
    /// does it.
    #[arg(long, default_value = "dev")]
    pub(crate) slice: SliceName,
    /// The secret number of a disguise, to repeat a record's measurement; only where the
    /// environment can disguise its data.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) disguise: Option<u64>,
    /// Further configuration of the environment, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
    /// A verification hook that judges the result, besides those of the environment; may be given
    /// several times.
    #[arg(long, value_name = "WASM")]
    pub(crate) hook: Vec<PathBuf>,
    /// Write all that hooks can ask about the evaluation into this file, to try hooks on; artifacts
    /// go into a folder beside it.
    #[arg(long, value_name = "FILE")]
    pub(crate) save_evidence: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a page for people and models: where the time goes and how the loss falls.
    #[arg(long, conflicts_with = "json")]
    pub(crate) digest: bool,
    /// Print the program instead of measuring it.
    #[arg(long, conflicts_with = "digest")]
    pub(crate) print: bool,
    /// Give up after this many wall seconds.
    #[arg(long, default_value_t = 3600.0, value_name = "SECONDS")]
    pub(crate) timeout: f64,
    /// Run the program without a sandbox.
    #[arg(long)]
    pub(crate) unsafe_no_sandbox: bool,
}

/// A held-out slice.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SliceName {
    /// For searching.
    Dev,
    /// For confirmation.
    Val,
    /// For records.
    Vault,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  forerunner show best --diff                   the latest run in runs/: what changed, what it gained
  forerunner show runs/quickstart-001           the best program, its measurements and its history
  forerunner show runs/quickstart-001 e5918fff --source > my_gpt.rs
  forerunner show best --digest                 where its time goes, beside its parent";

/// Show a run's programs.
#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct Show {
    /// Folder of the run (default: the latest in runs/), then `best` (the default), `reference`, or
    /// the start of a program's identity.
    #[arg(value_names = ["RUN", "PROGRAM"], num_args = 0..=2)]
    pub(crate) what: Vec<String>,
    /// Show the changes that led to it, step by step (the default for `best`).
    #[arg(long)]
    pub(crate) diff: bool,
    /// Print the program's source.
    #[arg(long, conflicts_with = "diff")]
    pub(crate) source: bool,
    /// Print its evaluation as one JSON object.
    #[arg(long, conflicts_with_all = ["diff", "source"])]
    pub(crate) json: bool,
    /// Print a page for people and models, compared with its parent: where the time goes and how
    /// the loss falls.
    #[arg(long, conflicts_with_all = ["diff", "source", "json"])]
    pub(crate) digest: bool,
}

const REPORT_EXAMPLES: &str = "\
Examples:
  forerunner report                             the latest run in runs/
  forerunner report runs/quickstart-001         writes runs/quickstart-001/report.html
  forerunner report runs/quickstart-001 --out quickstart.html

`forerunner run` writes the report by itself when it ends; a run that goes on, or was killed, has
one as well.";

/// Write a run's report: the answer first, then the frontier, the way to the best program, where
/// the time went, failures, costs, and how to reproduce it. One HTML page that needs nothing else.
#[derive(Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub(crate) struct Report {
    /// Folder of the run (default: the latest in runs/).
    pub(crate) run: Option<PathBuf>,
    /// The file to write; one that exists is replaced (default: report.html in the run's folder).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

const IDEAS_EXAMPLES: &str = "\
Examples:
  forerunner ideas                              the latest run in runs/: the best ideas, then who knew
  forerunner ideas runs/llm-001 --by model      success and calibration of each model
  forerunner ideas runs/llm-001 --sort iteration --all
  forerunner ideas runs/llm-001 --json | jq '.ideas[] | select(.hit == false) | .summary'

A gain is relative to the parent, in the most important objective that both have, and comes from one
seed each on the search's slice: part of every gain is luck, and children of one parent share the luck
of its measurement. Duplicates of earlier programs have none. What a client expects over another
program than the parent is not held against what came.
valid: the program passed its check. Of a model: mean gain is that of its ideas, losses included;
gained adds gains up, losses left out, which grows with the number of tries. Who had the idea has the
gain, whoever wrote the program.

--json prints one object, always with all ideas. Gains are fractions (0.1 is a tenth better), shares
are objects with rate, low, high, n, confidence; what is not known is null:
  run, environment, track, note
  ideas[]       iteration, mutator, model, stage, island, parent, program, summary, mechanism,
                refutation, expected_gain {low, high}, gain, hit, verdict, cause, improved,
                valid, duplicate, critic, cost {tokens_in, tokens_out, dollars}
  calibration   coverage, nominal, below, above, error {mean, low, high, sd, n, confidence},
                correlation, rank_correlation, brier, brier_of_base_rate
  groups        mutator[], model[], stage[], island[]: name, ideas, valid, accepted, improved,
                calibration
  critic[]      the same, with a critic and without; empty where there is none
  models[]      model, calls, failures, tokens_in, tokens_out, dollars, seconds, gained,
                mean_gain {mean, low, high, sd, n, confidence}, gain_per_dollar, gain_per_1000_tokens";

/// Show a run's ideas: the list with expected and measured gains, then how well gains were foreseen,
/// and who succeeded how often.
#[derive(Debug, Args)]
#[command(after_help = IDEAS_EXAMPLES)]
pub(crate) struct Ideas {
    /// Folder of the run (default: the latest in runs/).
    pub(crate) run: Option<PathBuf>,
    /// Group successes in this way only.
    #[arg(long, value_name = "GROUP")]
    pub(crate) by: Option<GroupBy>,
    /// Order of the list.
    #[arg(long, value_name = "ORDER", default_value = "gain")]
    pub(crate) sort: IdeaOrder,
    /// List all ideas instead of 20.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A way to group ideas.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum GroupBy {
    /// Whose idea it was.
    Model,
    /// How it came about.
    Stage,
    /// Where it was tried.
    Island,
    /// Who proposed it.
    Mutator,
}

/// An order of ideas.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum IdeaOrder {
    /// The largest gain first.
    Gain,
    /// As they came.
    Iteration,
}

const CALLS_EXAMPLES: &str = "\
Examples:
  forerunner calls                              the latest run in runs/
  forerunner calls runs/llm-001 --failed        calls without a reply, and why
  forerunner calls runs/llm-001 3fa29c          one call in full: what was asked, what was said
  forerunner calls runs/llm-001 --model big --purpose repair --json

--json prints an array of objects with key, iteration, model, purpose, seed, ordinal, parameters,
tokens_in, tokens_out, dollars, seconds, attempts, outcome (reply, or the kind of failure), cut,
failure; of one call a single object, with messages [{role, text}] and reply as well.";

/// Show the calls to models, or one of them in full.
#[derive(Debug, Args)]
#[command(after_help = CALLS_EXAMPLES)]
pub(crate) struct Calls {
    /// Folder of the run (default: the latest in runs/), then the first digits of a call.
    #[arg(value_names = ["RUN", "CALL"], num_args = 0..=2)]
    pub(crate) what: Vec<String>,
    /// Only calls to this model.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Only calls for this purpose, for example `repair`.
    #[arg(long, value_name = "WORD")]
    pub(crate) purpose: Option<String>,
    /// Only calls without a reply.
    #[arg(long)]
    pub(crate) failed: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Replay a run's event log.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Folder of a run, or a folder that holds runs.
    #[arg(default_value = "runs")]
    pub(crate) run: PathBuf,
    /// One JSON object per event.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Look at plugins.
#[derive(Debug, Args)]
pub(crate) struct Plugin {
    #[command(subcommand)]
    pub(crate) command: PluginCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins on the search path.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Load one file and show what it offers.
    Inspect {
        /// The library.
        file: PathBuf,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Make data sets, or fetch published ones.
#[derive(Debug, Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

const PREPARE_EXAMPLES: &str = "\
Examples:
  forerunner data prepare --text shakespeare.txt --name shakespeare --out data/shakespeare
  forerunner data prepare --train shard1.bin --val shard0.bin --name fineweb --out data/fineweb
  forerunner data prepare --locked-dependencies Cargo.toml --name rust-deps --out data/rust-deps

Then point a run at it: --set environment.config.data=data/shakespeare";

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Make a data set from text, token shards, or the sources of locked dependencies.
    #[command(after_help = PREPARE_EXAMPLES)]
    Prepare(Prepare),
    /// Fetch a published data set and make it ready for use.
    Fetch(crate::fetch::Fetch),
}

#[derive(Debug, Args)]
#[group(id = "source", required = true, multiple = true)]
pub(crate) struct Prepare {
    /// Text files or folders of them, read as bytes.
    #[arg(long, value_name = "FILE|DIR", group = "source", conflicts_with_all = ["train", "val", "locked_dependencies"])]
    pub(crate) text: Vec<PathBuf>,
    /// Token shards to train on. The data set reads them where they are: leave them there, unchanged.
    #[arg(long, value_name = "BIN", group = "source", requires = "val")]
    pub(crate) train: Vec<PathBuf>,
    /// Token shards to hold out.
    #[arg(long, value_name = "BIN", group = "source", requires = "train")]
    pub(crate) val: Vec<PathBuf>,
    /// A Cargo.toml whose locked dependencies' sources are the text.
    #[arg(long, value_name = "MANIFEST", group = "source", conflicts_with_all = ["train", "val"])]
    pub(crate) locked_dependencies: Option<PathBuf>,
    /// Name of the data set.
    #[arg(long)]
    pub(crate) name: String,
    /// Folder to make.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The environment whose data this is.
    #[arg(long, default_value = "nanogpt")]
    pub(crate) environment: String,
}
