//! Run files that wait for clients.

use crate::MUTATOR;
use forerunner_runtime::config::{ConfigError, Mode, MutatorEntry, RunFile};
use serde::{Deserialize, Serialize};

/// What each client may use of a run. Clients are told apart by name; what a client has used
/// outlives a stop and a resumption of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Submissions for each client; `None` leaves it to the run's budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submissions: Option<u64>,
    /// Checks for each client.
    pub checks: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { submissions: None, checks: 200 }
    }
}

/// `file` for a run whose proposals come from clients: one child at a time for each slot, selected
/// when the result before it is known, and no repairs, because clients have checks. With
/// `and_others` the file's own mutators search as well, in turn with the clients.
#[must_use]
pub fn configure(mut file: RunFile, quotas: &Quotas, and_others: bool) -> RunFile {
    file.run.mode = Mode::Steady;
    (file.run.children, file.run.ahead, file.run.slots, file.run.repairs) = (1, 0, 1, 0);
    if !and_others {
        file.mutators.clear();
    }
    file.mutators.retain(|mutator| mutator.name != MUTATOR);
    file.mutators.push(MutatorEntry {
        name: MUTATOR.to_owned(),
        plugin: None,
        config: serde_json::to_value(quotas).unwrap_or_default(),
        weight: 1.0,
        parallel: false,
    });
    file
}

/// A run file under which clients would wait for each other forever.
#[derive(Debug, thiserror::Error)]
#[error(
    "in a run of generations nobody hears of a result before all {0} children of the generation are submitted, and a client that waits for each result submits no other\nhint: leave out `run.mode`, or set `run.children=1`"
)]
pub struct Unfit(usize);

/// Makes sure that clients, if the run is for some, hear of each result as soon as it is there.
///
/// # Errors
/// When they would not.
pub fn fits(file: &RunFile) -> Result<(), Unfit> {
    match file.run.mode {
        Mode::Generations if file.run.children > 1 && quotas(file).is_some() => {
            Err(Unfit(file.run.children))
        }
        _ => Ok(()),
    }
}

/// One island and the best as parents: agents submit dozens of programs, not thousands.
const SELECTOR: &str = "[selector]\nname = \"islands\"\nconfig = { islands = 1, elites = 3, \
                        exploration = 0.0, exploitation = 1.0, pressure = 6.0, inspirations = 2 }\n";

/// A run file for an environment alone, with a budget of `evaluations`.
///
/// # Errors
/// When the environment's name or track cannot be part of one.
pub fn file_for(
    environment: &str,
    track: Option<&str>,
    evaluations: u64,
) -> Result<RunFile, ConfigError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let track = track.map(|track| format!("config = {{ track = {} }}\n", quoted(track)));
    let text = format!(
        "[environment]\nname = {}\n{}[[mutator]]\nname = \"{MUTATOR}\"\n\
         {SELECTOR}[budget]\nevaluations = {evaluations}\n",
        quoted(environment),
        track.unwrap_or_default()
    );
    RunFile::parse("--environment", &text, &[])
}

/// The quotas with which a run was started; `None` when it was not started for clients.
pub fn quotas(file: &RunFile) -> Option<Quotas> {
    let entry = file.mutators.iter().find(|mutator| mutator.name == MUTATOR)?;
    Some(Quotas::deserialize(&entry.config).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_for_clients_waits_for_each_result() {
        let file = file_for("trivial", Some("a \"b\""), 7).expect("a run file");
        assert_eq!(file.environment.config["track"], "a \"b\"");
        let wanted = Quotas { submissions: Some(3), checks: 5 };
        let file = configure(file, &wanted, false);
        assert_eq!((file.run.mode, file.run.slots, file.run.ahead), (Mode::Steady, 1, 0));
        assert_eq!((file.mutators.len(), file.budget.evaluations), (1, Some(7)));
        assert_eq!(quotas(&file), Some(wanted));
    }

    #[test]
    fn a_client_must_not_wait_for_submissions_that_it_cannot_make() {
        let file = file_for("trivial", None, 7).expect("a run file");
        let with = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            configure(file.clone(), &Quotas::default(), false).with(&sets).expect("a run file")
        };
        assert!(fits(&with(&[])).is_ok() && fits(&with(&["run.mode=generations"])).is_ok());
        let unfit = fits(&with(&["run.mode=generations", "run.children=4"])).expect_err("unfit");
        assert!(unfit.to_string().contains("all 4 children"), "{unfit}");
    }

    #[test]
    fn others_may_search_as_well() {
        let text = "environment.name = \"x\"\nselector.name = \"y\"\nbudget.evaluations = 1\n\
                    mutator = [{ name = \"tuner\" }]\n";
        let file = RunFile::parse("run", text, &[]).expect("a run file");
        assert_eq!(quotas(&file), None);
        let names = |file: &RunFile| -> Vec<String> {
            file.mutators.iter().map(|mutator| mutator.name.clone()).collect()
        };
        let quotas = Quotas::default();
        assert_eq!(names(&configure(file.clone(), &quotas, false)), ["mcp"]);
        let both = configure(file, &quotas, true);
        assert_eq!(names(&both), ["tuner", "mcp"]);
        assert_eq!(names(&configure(both, &quotas, true)), ["tuner", "mcp"]);
    }
}
