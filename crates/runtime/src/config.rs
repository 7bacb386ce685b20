//! Run files: what a run is made of, as TOML.

mod confirm;
mod hook;

pub use confirm::{Confirm, Level};
pub use hook::HookEntry;

use forerunner_core::Cost;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// A run file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such file or preset.
    #[error(
        "no run file or preset `{name}` (presets: {presets})\nhint: give the path of a TOML run file, or one of the presets"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        presets: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}\nhint: a run file is UTF-8 text that you may read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a run file; `message` shows the place.
    #[error("{name}: {message}\nhint: `forerunner run --help` shows an example run file")]
    Parse {
        /// File or preset.
        name: String,
        /// What is wrong, with line, column and excerpt.
        message: String,
    },
    /// An override cannot be applied.
    #[error("--set {assignment}: {message}\nhint: write it as `--set budget.evaluations=50`")]
    Set {
        /// As given.
        assignment: String,
        /// What is wrong.
        message: String,
    },
    /// Values contradict each other.
    #[error("{name}: {message}")]
    Invalid {
        /// File or preset.
        name: String,
        /// What is wrong, with a hint.
        message: String,
    },
}

/// Everything that defines a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// The problem.
    pub environment: Component,
    /// What proposes programs, at least one.
    #[serde(rename = "mutator")]
    pub mutators: Vec<MutatorEntry>,
    /// What owns the population.
    pub selector: Component,
    /// Verification hooks that judge every measurement, besides the environment's own.
    #[serde(default, rename = "hook", skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookEntry>,
    /// How the search goes.
    #[serde(default)]
    pub run: RunSettings,
    /// When it ends.
    #[serde(default)]
    pub budget: Budget,
    /// How the finalists are confirmed.
    #[serde(default)]
    pub confirm: Confirm,
}

/// A plugin's export with its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The export's name.
    pub name: String,
    /// A library to use instead of searching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PathBuf>,
    /// Passed to the plugin.
    #[serde(default = "empty_table")]
    pub config: serde_json::Value,
}

fn empty_table() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// A mutator with its share of the proposals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MutatorEntry {
    /// The export's name.
    pub name: String,
    /// A library to use instead of searching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PathBuf>,
    /// Passed to the plugin.
    #[serde(default = "empty_table")]
    pub config: serde_json::Value,
    /// Relative share of the proposals.
    #[serde(default = "one")]
    pub weight: f64,
    /// In generations: whether proposals may be made at the same time. A mutator that learns
    /// while it proposes replays identically only when they are not.
    #[serde(default)]
    pub parallel: bool,
}

fn one() -> f64 {
    1.0
}

/// How children are scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A generation of children is selected, measured and inserted together: replays
    /// identically when its parts are deterministic (but for which of two siblings that are the
    /// same program counts as the first).
    #[default]
    Generations,
    /// A child is selected whenever there is room: keeps the slots busy.
    Steady,
}

/// How the search goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Every random choice derives from it.
    pub seed: u64,
    /// How children are scheduled.
    pub mode: Mode,
    /// Children per generation.
    pub children: usize,
    /// Programs measured at the same time; each has a core to itself.
    pub slots: usize,
    /// Proposals worked on beyond those being measured, so that the slots never wait.
    pub ahead: usize,
    /// Processes that check proposals.
    pub checkers: usize,
    /// Quick repairs of a proposal whose check failed.
    pub repairs: u32,
    /// Wall seconds for which a mutator is put aside that failed to make three proposals in a row;
    /// each further pause is twice as long, up to twenty times this.
    pub pause_seconds: f64,
    /// Wall seconds after which a worker counts as hung.
    pub evaluation_timeout_seconds: f64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            mode: Mode::Generations,
            children: 10,
            slots: 1,
            ahead: 4,
            checkers: 1,
            repairs: 3,
            pause_seconds: 30.0,
            evaluation_timeout_seconds: 3600.0,
        }
    }
}

/// When a run ends: whichever comes first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Children in all, failed ones included.
    pub evaluations: Option<u64>,
    /// Wall seconds of the search; measurements under way are finished. Confirmation is extra.
    pub seconds: Option<f64>,
    /// US dollars that mutators may spend. Proposals under way are finished, without repairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars: Option<f64>,
    /// Tokens that mutators may send to models and receive from them, in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl Budget {
    /// Whether nothing more may be spent.
    pub fn is_spent(&self, cost: &Cost) -> bool {
        self.dollars_are_spent(cost) || self.tokens_are_spent(cost)
    }

    /// Whether the money is used up.
    pub fn dollars_are_spent(&self, cost: &Cost) -> bool {
        self.dollars.is_some_and(|limit| cost.dollars >= limit)
    }

    /// Whether the tokens are used up.
    pub fn tokens_are_spent(&self, cost: &Cost) -> bool {
        self.tokens.is_some_and(|limit| cost.tokens_in.saturating_add(cost.tokens_out) >= limit)
    }
}

impl RunFile {
    /// Reads the run file at `name`, or the preset of that name in `presets`, and applies
    /// overrides of the form `key.path=value`.
    ///
    /// # Errors
    /// One message that shows the place and the remedy.
    pub fn load(name: &str, presets: &[PathBuf], sets: &[String]) -> Result<Self, ConfigError> {
        let path = find(name, presets)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::parse(&path.display().to_string(), &text, sets)
    }

    /// Reads a run file from `text`; `name` is for messages.
    ///
    /// # Errors
    /// As [`RunFile::load`].
    pub fn parse(name: &str, text: &str, sets: &[String]) -> Result<Self, ConfigError> {
        let parse_error = |error: toml::de::Error| ConfigError::Parse {
            name: name.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        };
        // Parsed as written first, so that errors in the file show their place in the file.
        let file: Self = toml::from_str(text).map_err(parse_error)?;
        let file = if sets.is_empty() {
            file
        } else {
            overridden(toml::from_str(text).map_err(parse_error)?, sets)?
        };
        file.validate(name)?;
        Ok(file)
    }

    /// The same with overrides applied.
    ///
    /// # Errors
    /// As [`RunFile::load`].
    pub fn with(&self, sets: &[String]) -> Result<Self, ConfigError> {
        let name = "the run's frozen configuration";
        let table = toml::Table::try_from(self).map_err(|error| ConfigError::Parse {
            name: name.to_owned(),
            message: error.to_string(),
        })?;
        let file = overridden(table, sets)?;
        file.validate(name)?;
        Ok(file)
    }

    fn validate(&self, name: &str) -> Result<(), ConfigError> {
        let check = |good: bool, message: &str| {
            let (name, message) = (name.to_owned(), message.to_owned());
            if good { Ok(()) } else { Err(ConfigError::Invalid { name, message }) }
        };
        check(!self.mutators.is_empty(), "no mutator\nhint: add a `[[mutator]]` table")?;
        check(
            self.mutators.iter().all(|m| m.weight.is_finite() && m.weight >= 0.0)
                && self.mutators.iter().any(|m| m.weight > 0.0),
            "mutator weights must be finite, not negative, and not all zero\nhint: leave `weight` out for equal shares",
        )?;
        let names: BTreeSet<&str> = self.mutators.iter().map(|entry| &*entry.name).collect();
        check(
            names.len() == self.mutators.len(),
            "a mutator is there twice\nhint: outcomes are told to mutators by name; give one entry the settings of both, for example several `models`",
        )?;
        if let Some(complaint) = HookEntry::complaint(&self.hooks) {
            check(false, complaint)?;
        }
        check(
            self.budget.evaluations.is_some() || self.budget.seconds.is_some(),
            "the budget is unlimited\nhint: set `budget.evaluations` or `budget.seconds`; money and tokens \
             alone do not end a run whose mutators cost nothing",
        )?;
        check(
            self.budget.dollars.is_none_or(|dollars| dollars.is_finite() && dollars > 0.0),
            "`budget.dollars` must be a positive number\nhint: leave it out for no limit on money",
        )?;
        check(
            self.budget.tokens.is_none_or(|tokens| tokens > 0),
            "`budget.tokens` must be at least 1\nhint: leave it out for no limit on tokens",
        )?;
        check(
            self.budget.seconds.is_none_or(|seconds| seconds.is_finite() && seconds > 0.0),
            "`budget.seconds` must be a positive number\nhint: leave it out for no limit on time",
        )?;
        check(
            self.run.slots >= 1,
            "`run.slots` must be at least 1\nhint: leave it out for one measurement at a time",
        )?;
        check(
            self.run.children >= 1,
            "`run.children` must be at least 1\nhint: leave it out for generations of ten",
        )?;
        check(
            self.run.checkers >= 1,
            "`run.checkers` must be at least 1\nhint: leave it out for one check at a time",
        )?;
        check(
            self.run.pause_seconds.is_finite() && (0.0..1e6).contains(&self.run.pause_seconds),
            "`run.pause_seconds` must be a number of seconds, not negative\nhint: leave it out for half a minute",
        )?;
        check(
            self.run.evaluation_timeout_seconds.is_finite()
                && self.run.evaluation_timeout_seconds > 0.0,
            "`run.evaluation_timeout_seconds` must be a positive number\nhint: leave it out for an hour",
        )?;
        match self.confirm.complaint() {
            Some(complaint) => check(false, complaint),
            None => Ok(()),
        }
    }

    /// The same with the confirmation at `level`, or without one.
    ///
    /// # Errors
    /// When the settings of the confirmation do not allow it.
    pub fn confirming(self, level: Option<Level>) -> Result<Self, ConfigError> {
        let file = Self { confirm: self.confirm.clone().at(level), ..self };
        file.validate("--confirm")?;
        Ok(file)
    }

    /// Keys in which `other` differs from `self` in more than budget and scheduling of
    /// resources, which may change between stop and resume.
    pub fn conflicts(&self, other: &Self) -> Vec<String> {
        let neutral = |file: &Self| {
            let mut file = file.clone();
            file.budget = Budget::default();
            file.confirm = Confirm::default();
            let defaults = RunSettings::default();
            file.run.slots = defaults.slots;
            file.run.ahead = defaults.ahead;
            file.run.checkers = defaults.checkers;
            file.run.pause_seconds = defaults.pause_seconds;
            file.run.evaluation_timeout_seconds = defaults.evaluation_timeout_seconds;
            serde_json::to_value(file).unwrap_or_default()
        };
        let mut differing = Vec::new();
        differences("", &neutral(self), &neutral(other), &mut differing);
        differing
    }
}

fn differences(path: &str, a: &serde_json::Value, b: &serde_json::Value, into: &mut Vec<String>) {
    match (a, b) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = serde_json::Value::Null;
                differences(&path, a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), into);
            }
        }
        (serde_json::Value::Array(a), serde_json::Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}.{index}"), a, b, into);
            }
        }
        _ if a == b => {}
        _ => into.push(format!("{path}: {a} → {b}")),
    }
}

/// The names of the presets in `folders`.
pub fn presets(folders: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn find(name: &str, folders: &[PathBuf]) -> Result<PathBuf, ConfigError> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    folders
        .iter()
        .map(|folder| folder.join(format!("{name}.toml")))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let known = presets(folders);
            let presets = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            ConfigError::Unknown { name: name.to_owned(), presets }
        })
}

/// Applies overrides one by one, so that an error names the one that is wrong.
fn overridden(mut table: toml::Table, sets: &[String]) -> Result<RunFile, ConfigError> {
    for assignment in sets {
        let set_error =
            |message: String| ConfigError::Set { assignment: assignment.clone(), message };
        set(&mut table, assignment).map_err(set_error)?;
        RunFile::deserialize(table.clone())
            .map_err(|error| set_error(error.to_string().trim_end().to_owned()))?;
    }
    RunFile::deserialize(table).map_err(|error| ConfigError::Parse {
        name: "run file".to_owned(),
        message: error.to_string(),
    })
}

/// Applies `a.b=value` (or `mutator.0.weight=2`); the value is TOML, or else a string.
fn set(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("no `=`")?;
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("`{key}` is not a key"));
    }
    let (first, rest) = parts.split_first().ok_or("no key")?;
    assign(table.entry((*first).to_owned()).or_insert_with(empty), rest, value)
}

fn empty() -> toml::Value {
    toml::Value::Table(toml::Table::new())
}

fn assign(holder: &mut toml::Value, parts: &[&str], value: toml::Value) -> Result<(), String> {
    let Some((part, rest)) = parts.split_first() else {
        *holder = value;
        return Ok(());
    };
    match holder {
        toml::Value::Table(table) => {
            assign(table.entry((*part).to_owned()).or_insert_with(empty), rest, value)
        }
        toml::Value::Array(items) => {
            let length = items.len();
            let item = part.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            let item = item.ok_or_else(|| format!("`{part}` is not an index below {length}"))?;
            assign(item, rest, value)
        }
        _ => Err(format!("`{part}`: what holds it is not a table")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [environment]
        name = "nanogpt"
        config = { track = "cpu" }
        [[mutator]]
        name = "tuner"
        [selector]
        name = "islands"
        [budget]
        evaluations = 10
    "#;

    fn check_error(text: &str, sets: &[&str], expected: &str) {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let error = RunFile::parse("run.toml", text, &sets).expect_err("a bad run file");
        let error = error.to_string();
        assert!(error.contains(expected), "{error}\n--- does not contain ---\n{expected}");
    }

    #[test]
    fn overrides_reach_every_depth() {
        let sets = ["run.seed=7", "mutator.0.weight=2.5", "environment.config.track=steps"];
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let file = RunFile::parse("run.toml", GOOD, &sets).expect("good");
        assert_eq!((file.run.seed, file.mutators[0].weight), (7, 2.5));
        assert_eq!(file.environment.config["track"], "steps");
    }

    #[test]
    fn errors_show_the_place_and_the_known_keys() {
        check_error(
            &GOOD.replace("evaluations", "evaluatons"),
            &[],
            "unknown field `evaluatons`, expected one of `evaluations`, `seconds`, `dollars`, `tokens`",
        );
        check_error(&GOOD.replace("evaluations", "evaluatons"), &[], "line 10, column 9");
        check_error(&GOOD.replace("= 10", "= \"ten\""), &[], "invalid type: string \"ten\"");
        check_error(&GOOD.replace("[budget]", "[budget"), &[], "TOML parse error at line 9");
        check_error(GOOD, &["run.sed=1"], "--set run.sed=1: unknown field `sed`");
        check_error(GOOD, &["seed"], "--set seed: no `=`");
        check_error(GOOD, &["mutator.3.weight=1"], "`3` is not an index below 1");
        check_error(GOOD, &["run.slots=0"], "`run.slots` must be at least 1");
        check_error(&GOOD.replace("evaluations = 10", ""), &[], "the budget is unlimited");
    }

    #[test]
    fn whatever_makes_no_sense_comes_with_a_hint() {
        for bad in [
            "mutator=[]",
            "mutator.0.weight=-1",
            "budget.seconds=0",
            "run.slots=0",
            "run.children=0",
            "run.checkers=0",
            "run.evaluation_timeout_seconds=0",
            "confirm={ finalists = 1, seeds = 1 }",
            "confirm={ finalists = 1, slice = \"dev\", level = \"record\" }",
            "hook=[{}]",
            "hook=[{ path = \"\" }]",
            "hook=[{ path = \"a.wasm\", name = \"a\" }]",
            "hook=[{ name = \"../a\" }]",
            "hook=[{ name = \"a\" }, { name = \"b\" }, { name = \"a\", allow = [] }]",
        ] {
            check_error(GOOD, &[bad], "\nhint: ");
        }
    }

    #[test]
    fn only_budget_and_resources_may_change_on_resume() {
        let file = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            RunFile::parse("run.toml", GOOD, &sets).expect("good")
        };
        let one = file(&[]);
        assert!(one.conflicts(&file(&["budget.evaluations=99", "run.slots=2"])).is_empty());
        assert_eq!(one.conflicts(&file(&["run.seed=2"])), ["run.seed: 1 → 2"]);
        let hooked = file(&["hook=[{ name = \"a\", allow = [\"metrics\"] }]"]);
        let text = r#"hook: null → [{"name":"a","allow":["metrics"]}]"#;
        assert_eq!(one.conflicts(&hooked), [text]);
        let freer = file(&["hook=[{ name = \"a\" }]"]);
        assert_eq!(hooked.conflicts(&freer), [r#"hook.0.allow: ["metrics"] → null"#]);
    }

    #[test]
    fn the_level_of_confirmation_may_be_chosen_late() {
        let file = RunFile::parse("run.toml", GOOD, &[]).expect("good");
        assert_eq!((file.confirm.finalists, file.confirm.level), (0, Level::Claim));
        let record = file.clone().confirming(Some(Level::Record)).expect("good");
        assert_eq!((record.confirm.finalists, record.confirm.level), (3, Level::Record));
        assert!(file.conflicts(&record).is_empty(), "a finished run can go for a record");
        let off = record.clone().confirming(None).expect("good");
        assert_eq!(off.confirm.finalists, 0);
        let set = ["confirm={ finalists = 1, level = \"record\" }".to_owned()];
        assert_eq!(file.with(&set).expect("good").confirm.level, Level::Record);
        let set = ["confirm={ finalists = 2, slice = \"dev\" }".to_owned()];
        let error = file.with(&set).expect("good").confirming(Some(Level::Record));
        assert!(
            error.expect_err("dev").to_string().starts_with("--confirm: a record is chosen on")
        );
    }

    #[test]
    fn a_missing_file_lists_the_presets() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::write(dir.path().join("quickstart.toml"), GOOD).expect("written");
        let folders = [dir.path().to_owned()];
        assert!(RunFile::load("quickstart", &folders, &[]).is_ok());
        let error = RunFile::load("nope", &folders, &[]).expect_err("missing").to_string();
        assert!(error.starts_with("no run file or preset `nope` (presets: quickstart)"), "{error}");
    }
}
