//! What can be configured.

use forerunner_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Configuration of the mutator `agent`.
///
/// ```
/// let text = r#"{"command": ["my-agent", "--do", "{prompt}"], "env": ["MY_AGENT_KEY"], "seconds": 600}"#;
/// let config: forerunner_agent::Config = serde_json::from_str(text).unwrap();
/// assert_eq!((config.name(), config.repairs), ("my-agent", 1));
/// assert!(serde_json::from_str::<forerunner_agent::Config>(r#"{"comand": ["x"]}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the agent is called in ideas, calls and reports; the name of its program when left out.
    pub name: Option<String>,
    /// The command line. In its words `{prompt}` stands for one paragraph that says what to do,
    /// `{brief}` for the whole of `BRIEF.md`, `{folder}` for the scratch folder, which is also the
    /// working directory.
    pub command: Vec<String>,
    /// Whether the prompt comes on the standard input as well, which is empty otherwise.
    pub prompt_on_stdin: bool,
    /// Variables of the environment that the agent gets, such as its key. Besides these it gets
    /// `PATH`, `HOME`, `LANG` and the like, and nothing else. Their values are kept out of logs, and
    /// a program that contains one is refused.
    pub env: Vec<String>,
    /// Variables with their values; `{folder}` as above. Not for secrets: a run stores these.
    pub set: BTreeMap<String, String>,
    /// Wall seconds that a proposal may take, in 1 to 86,400.
    pub seconds: u64,
    /// US dollars that are charged for each start of the agent, where its output does not tell.
    pub dollars: f64,
    /// Where the agent tells what it cost.
    pub cost: Option<CostSource>,
    /// Times that the agent may have its program checked; at most 1,000.
    pub checks: u32,
    /// Times that the agent is started again for a proposal that failed its check.
    pub repairs: u32,
    /// Files and folders besides the scratch folder that the agent may write to, such as its own
    /// settings; `~/` stands for the home.
    pub writable: Vec<String>,
    /// Whether the kernel (Landlock) keeps the agent from writing anywhere else.
    pub confine: bool,
    /// Extensions of files that the agent may add; those of the parent's files when left out.
    pub extensions: Option<Vec<String>>,
    /// Largest file of a program, in KiB.
    pub file_kib: u64,
    /// Most files of a program.
    pub files: usize,
    /// What is kept of standard output and of standard error, in KiB each.
    pub output_kib: u64,
    /// Space that the agent may fill in the scratch folder, in MiB.
    pub disk_mib: u64,
    /// Memory of the agent with all that it starts, in MiB. Its address space is limited to twice as
    /// much and 8 GiB, which some runtimes exceed without using it; unlimited when left out.
    pub memory_mib: Option<u64>,
    /// Processes and threads of the agent.
    pub processes: u64,
}

/// Where an agent tells what it cost: in JSON on its standard output (the whole of it, or the last
/// line that has what is looked for), or in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostSource {
    /// A file in the scratch folder instead of the standard output.
    pub file: Option<String>,
    /// JSON pointer to US dollars.
    pub dollars: Option<String>,
    /// JSON pointer to tokens sent to models.
    pub tokens_in: Option<String>,
    /// JSON pointer to tokens received from models.
    pub tokens_out: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            command: Vec::new(),
            prompt_on_stdin: false,
            env: Vec::new(),
            set: BTreeMap::new(),
            seconds: 900,
            dollars: 0.0,
            cost: None,
            checks: 10,
            repairs: 1,
            writable: Vec::new(),
            confine: true,
            extensions: None,
            file_kib: 512,
            files: 64,
            output_kib: 256,
            disk_mib: 1024,
            memory_mib: None,
            processes: 4096,
        }
    }
}

impl Config {
    /// What the agent is called.
    pub fn name(&self) -> &str {
        let program = self.command.first().map_or("", String::as_str);
        self.name.as_deref().unwrap_or_else(|| program.rsplit('/').next().unwrap_or(program))
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// Names the field.
    pub(crate) fn check(&self) -> Result<()> {
        let within = |field: &str, value: u64, low: u64, high: u64| {
            let fits = (low..=high).contains(&value);
            fits.then_some(()).ok_or_else(|| {
                Error::config(field, format!("{value} is not within {low} and {high}"))
            })
        };
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Error::config(
                "command",
                "empty\nhint: the agent's command line, for example [\"my-agent\", \"{prompt}\"]",
            ));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return Err(Error::config("command", "a word contains a zero byte"));
        }
        let name = self.name();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(Error::config("name", "1 to 64 bytes without control characters"));
        }
        let variable = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some(name) = self.env.iter().find(|name| !variable(name)) {
            return Err(Error::config("env", format!("`{name}` is no name of a variable")));
        }
        if let Some((name, _)) = self.set.iter().find(|(k, v)| !variable(k) || v.contains('\0')) {
            return Err(Error::config("set", format!("`{name}` is no variable")));
        }
        within("seconds", self.seconds, 1, 86_400)?;
        within("checks", self.checks.into(), 0, 1000)?;
        within("repairs", self.repairs.into(), 0, 100)?;
        within("file_kib", self.file_kib, 1, 16 << 10)?;
        within("files", self.files as u64, 1, 10_000)?;
        within("output_kib", self.output_kib, 1, 64 << 10)?;
        within("disk_mib", self.disk_mib, 1, 1 << 20)?;
        within("processes", self.processes, 1, 1 << 20)?;
        within("memory_mib", self.memory_mib.unwrap_or(64), 64, 1 << 30)?;
        if !(self.dollars.is_finite() && self.dollars >= 0.0) {
            return Err(Error::config("dollars", format!("{} is no sum", self.dollars)));
        }
        self.cost.as_ref().map_or(Ok(()), CostSource::check)
    }
}

impl CostSource {
    fn check(&self) -> Result<()> {
        let pointers = [&self.dollars, &self.tokens_in, &self.tokens_out];
        if pointers.iter().all(|pointer| pointer.is_none()) {
            return Err(Error::config(
                "cost",
                "names none of `dollars`, `tokens_in`, `tokens_out`",
            ));
        }
        let mut given = pointers.into_iter().flatten();
        if let Some(pointer) = given.find(|pointer| !pointer.starts_with('/')) {
            return Err(Error::config(
                "cost",
                format!("`{pointer}` is no JSON pointer\nhint: for example /total_cost_usd"),
            ));
        }
        let single = |file: &String| !file.is_empty() && !file.contains('/') && file != "..";
        if self.file.as_ref().is_some_and(|file| !single(file)) {
            return Err(Error::config(
                "cost",
                "`file` is the name of a file in the scratch folder",
            ));
        }
        Ok(())
    }
}
