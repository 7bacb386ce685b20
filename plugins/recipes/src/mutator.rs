//! The mutator: what is known of each library, behind a lock, and how a proposal is put in words.

use crate::{
    Config, Library, Status,
    choose::{Choice, Chooser},
    knowledge::{Knowledge, Note},
};
use forerunner_sdk::{
    Change, Cost, Error, Host, Idea, Mutator, Outcome, Program, Proposal, ProposalRequest, Random,
    Result,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The mutator `recipes`. See the crate's page for what it does.
#[derive(Debug)]
pub struct Recipes {
    libraries: Vec<Library>,
    /// Whether the first library serves every environment, because it was asked for.
    chosen: bool,
    most: usize,
    /// One for each library.
    known: Mutex<Vec<Knowledge>>,
}

impl Recipes {
    /// The mutator with its configuration.
    ///
    /// # Errors
    /// When a value or a recipe makes no sense.
    pub fn new(config: Config) -> Result<Self> {
        let libraries = config.libraries()?;
        let known = Mutex::new(libraries.iter().map(Knowledge::new).collect());
        let chosen = config.library.is_some() || config.path.is_some();
        Ok(Self { libraries, chosen, most: config.most, known })
    }

    /// What each recipe in use is to a program of `environment`.
    ///
    /// # Errors
    /// When there is no library for the environment.
    pub fn explain(&self, environment: &str, program: &Program) -> Result<Vec<(String, Status)>> {
        Ok(self.libraries[self.library(environment)?].explain(program))
    }

    fn library(&self, environment: &str) -> Result<usize> {
        let fits = |library: &Library| self.chosen || library.environment == environment;
        self.libraries.iter().position(fits).ok_or_else(|| {
            let known: Vec<_> = self.libraries.iter().map(|l| l.environment.as_str()).collect();
            Error::Failed(format!(
                "there are no recipes for the environment `{environment}` (known: {})\n\
                 hint: configure `path`, a folder of recipes",
                known.join(", ")
            ))
        })
    }

    fn known(&self) -> MutexGuard<'_, Vec<Knowledge>> {
        // A panic in an earlier call was reported by the host; what is known stays usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mutator for Recipes {
    fn propose(&self, request: &ProposalRequest, _host: &dyn Host) -> Result<Proposal> {
        let idx = self.library(&request.task.name)?;
        let library = &self.libraries[idx];
        let mut known = self.known();
        let chooser = Chooser::new(library, &known[idx], request, self.most);
        let choice = chooser
            .choose(&mut Random::new(request.seed))
            .ok_or_else(|| nothing_to_do(library, &request.parent.program, chooser.has_any()))?;
        known[idx].propose(&request.parent.id, &choice.note);
        proposal(request, library, choice)
    }

    fn observe(&self, outcome: &Outcome) -> Result<()> {
        // Details in another form are another mutator's, or another version's.
        let Ok(note) = serde_json::from_value::<Note>(outcome.idea.details.clone()) else {
            return Ok(());
        };
        if let Some(idx) = self.libraries.iter().position(|l| l.name == note.library) {
            self.known()[idx].observe(&self.libraries[idx], outcome, &note);
        }
        Ok(())
    }
}

fn proposal(request: &ProposalRequest, library: &Library, choice: Choice) -> Result<Proposal> {
    let idea = Idea {
        summary: summary(library, &choice),
        expected_gain: Some(choice.expected_gain),
        details: serde_json::to_value(&choice.note).map_err(Error::failed)?,
        ..Idea::default()
    };
    let own = &request.parent.program.files;
    let mut files = choice.program.files;
    files.retain(|file, text| own.get(file) != Some(text));
    Ok(Proposal { change: Change::Files(files), idea, cost: Cost::default() })
}

/// For example `rotary(base 1000), relu-squared; STEPS 2800 → 1900 (combine)`.
fn summary(library: &Library, choice: &Choice) -> String {
    let added = choice.note.recipes.iter().map(|used| {
        let values: Vec<_> =
            used.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let values =
            if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
        format!("{}{values}", used.name)
    });
    let removed = choice.note.removed.iter().map(|name| format!("without {name}"));
    let recipes: Vec<String> = added.chain(removed).collect();
    let mut parts = vec![recipes.join(", ")];
    if let (Some(budget), Some(rescaled)) = (&library.budget, &choice.rescaled) {
        parts.push(format!("{} {} → {}", budget.constant, rescaled.from, rescaled.to));
    }
    parts.retain(|part| !part.is_empty());
    format!("{} ({})", parts.join("; "), choice.note.operator)
}

fn nothing_to_do(library: &Library, program: &Program, has_any: bool) -> Error {
    if has_any {
        return Error::Failed(format!(
            "everything that the recipes of `{}` make of this parent was proposed before\n\
             hint: add recipes, or let proposals apply more of them (`most`)",
            library.name
        ));
    }
    let statuses = library.explain(program).into_iter();
    let reasons: String = statuses.map(|(name, status)| format!("\n{name}: {status}")).collect();
    Error::Failed(format!(
        "no recipe of `{}` applies to this parent{reasons}\n\
         hint: add recipes for what the program has become, in a folder named by `path`",
        library.name
    ))
}
