//! Libraries: recipes that belong together, and what each makes of a program.

use crate::{
    budget::Budget,
    constant::Constant,
    edit::{self, Mismatch, Trimmed},
    recipe::{Recipe, Values, line_number},
};
use forerunner_sdk::Program;
use serde::Deserialize;
use std::{collections::BTreeSet, fmt, fs, path::Path};

/// Folder, and name and text of each file in it.
type Embedded = &'static [(&'static str, &'static [(&'static str, &'static str)])];
const EMBEDDED: Embedded = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The file beside the recipes that says what they are for.
const LIBRARY_FILE: &str = "library.toml";

/// Recipes that belong together.
#[derive(Debug, Clone)]
pub struct Library {
    /// The name of its folder.
    pub name: String,
    /// The environment whose programs it knows; empty when it does not say.
    pub environment: String,
    /// How cost and quality of its programs are traded.
    pub budget: Option<Budget>,
    /// All its recipes, by name.
    pub recipes: Vec<Recipe>,
    /// Which of them are in use.
    pub(crate) used: Vec<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LibraryFile {
    #[serde(default)]
    environment: String,
    budget: Option<Budget>,
}

/// What a recipe is to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The program has it.
    Present,
    /// It can be applied.
    Applicable,
    /// These recipes must be in the program first.
    Requires(Vec<String>),
    /// These recipes are in the program and do not go with it.
    Excluded(Vec<String>),
    /// A text that it edits is not there; its first line.
    NotFound(String),
    /// A text that it edits is there too often; its first line, and how often.
    Ambiguous(String, usize),
    /// A text that it edits is in several files; its first line, and the files.
    Files(String, Vec<String>),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |names: &[String]| {
            let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            quoted.join(", ")
        };
        match self {
            Self::Present => write!(f, "is in the program"),
            Self::Applicable => write!(f, "applies"),
            Self::Requires(others) => write!(f, "requires {} in the program", names(others)),
            Self::Excluded(others) => {
                write!(f, "does not go with {} in the program", names(others))
            }
            Self::NotFound(text) => write!(f, "the program has no `{text}`"),
            Self::Ambiguous(text, times) => write!(f, "the program has `{text}` {times} times"),
            Self::Files(text, files) => write!(f, "`{text}` is in {}", names(files)),
        }
    }
}

impl Library {
    /// The names of the libraries that come with the plugin.
    pub fn embedded_names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// A library that comes with the plugin; `None` when there is none of that name.
    ///
    /// # Errors
    /// When a file makes no sense; the error begins with the file's name and a line.
    pub fn embedded(name: &str) -> Option<Result<Self, String>> {
        let (_, files) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        let files = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        Some(Self::parse(name, files).map_err(|why| format!("library {name}: {why}")))
    }

    /// Reads a folder of recipes.
    ///
    /// # Errors
    /// When it cannot be read, or a file makes no sense; the error names file and line.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let unreadable =
            |path: &Path, why: &dyn fmt::Display| format!("cannot read {}: {why}", path.display());
        let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(folder, &error))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        if paths.iter().all(|path| path.ends_with(LIBRARY_FILE)) {
            return Err(unreadable(folder, &"there is no recipe in it"));
        }
        let mut files = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            files.push((last_part(&path), text));
        }
        Self::parse(&last_part(folder), files.into_iter())
            .map_err(|why| format!("{}/{why}", folder.display()))
    }

    /// Makes a library from the names and texts of files, sorted by name.
    fn parse(name: &str, files: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut library = LibraryFile::default();
        let mut recipes = Vec::new();
        let mut texts = Vec::new();
        for (file, text) in files {
            if file == LIBRARY_FILE {
                library = parse_library(&text)?;
                continue;
            }
            recipes.push(Recipe::parse(file.trim_end_matches(".toml"), &text)?);
            texts.push(text);
        }
        let names: BTreeSet<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        for (recipe, text) in recipes.iter().zip(&texts) {
            let known = |other: &&String| names.contains(other.as_str()) && **other != recipe.name;
            let others = [("requires", &recipe.requires), ("excludes", &recipe.excludes)];
            for (field, others) in others {
                if let Some(unknown) = others.iter().find(|other| !known(other)) {
                    let line = line_number(text, text.find(field).unwrap_or_default());
                    let known: Vec<_> = names.iter().copied().collect();
                    return Err(format!(
                        "{}.toml:{line}: `{field}` names no other recipe: `{unknown}` (known: {})",
                        recipe.name,
                        known.join(", ")
                    ));
                }
            }
        }
        recipes.sort_by(|a, b| a.name.cmp(&b.name));
        let used = vec![true; recipes.len()];
        let LibraryFile { environment, budget } = library;
        Ok(Self { name: name.to_owned(), environment, budget, recipes, used })
    }

    /// What each recipe in use is to a program, by name.
    pub fn explain(&self, program: &Program) -> Vec<(String, Status)> {
        let statuses = self.statuses(program).into_iter().enumerate();
        let used = statuses.filter(|(idx, _)| self.used[*idx]);
        used.map(|(idx, status)| (self.recipes[idx].name.clone(), status)).collect()
    }

    /// The recipes that a program has, in use or not.
    pub fn found_in(&self, program: &Program) -> Vec<&Recipe> {
        let recipes = self.recipes.iter().zip(self.present(program));
        recipes.filter(|(_, present)| *present).map(|(recipe, _)| recipe).collect()
    }

    /// Applies a recipe.
    ///
    /// # Errors
    /// When it does not apply, and why.
    pub fn apply(
        &self,
        program: &Program,
        recipe: &str,
        values: &Values,
    ) -> Result<Program, Status> {
        let idx = self.index(recipe).ok_or_else(|| Status::NotFound(recipe.to_owned()))?;
        let present = self.present(program);
        if present[idx] {
            return Err(Status::Present);
        }
        self.edited(program, idx, &present, values)
    }

    /// The program with the budget's constant multiplied by about `factor`, within its range;
    /// `None` when there is no such constant, or its value stays.
    pub fn rescaled(&self, program: &Program, factor: f64) -> Option<Program> {
        let constant = Constant::find(program, &self.budget.as_ref()?.constant)?;
        let mut rescaled = program.clone();
        constant.rescale(&mut rescaled, factor).map(|_| rescaled)
    }

    pub(crate) fn index(&self, recipe: &str) -> Option<usize> {
        self.recipes.iter().position(|known| known.name == recipe)
    }

    /// Which recipes a program has.
    pub(crate) fn present(&self, program: &Program) -> Vec<bool> {
        let files: Vec<_> = program.files.values().map(|text| Trimmed::new(text)).collect();
        self.recipes.iter().map(|recipe| recipe.signature.is_in(&files)).collect()
    }

    pub(crate) fn statuses(&self, program: &Program) -> Vec<Status> {
        let present = self.present(program);
        let status = |idx: usize| {
            if present[idx] {
                return Status::Present;
            }
            let edited = self.edited(program, idx, &present, &self.recipes[idx].defaults());
            edited.map_or_else(|status| status, |_| Status::Applicable)
        };
        (0..self.recipes.len()).map(status).collect()
    }

    /// Whether either recipe says that it does not go with the other.
    fn is_at_odds(&self, a: &Recipe, b: &Recipe) -> bool {
        a.excludes.contains(&b.name) || b.excludes.contains(&a.name)
    }

    /// The program without a recipe that it has; `None` when that cannot be told exactly.
    pub(crate) fn undone(&self, program: &Program, idx: usize) -> Option<Program> {
        let recipe = &self.recipes[idx];
        let undo = |text: &String| edit::undo(&recipe.edits, text, &recipe.defaults());
        let mut undone = program.files.iter().filter_map(|(file, text)| Some((file, undo(text)?)));
        let (file, text) = undone.next()?;
        let mut program = program.clone();
        program.files.insert(file.clone(), text);
        Some(program)
    }

    /// The program with a recipe that it lacks; `present` says which ones it has.
    ///
    /// # Errors
    /// When the recipe does not apply, and why.
    pub(crate) fn edited(
        &self,
        program: &Program,
        idx: usize,
        present: &[bool],
        values: &Values,
    ) -> Result<Program, Status> {
        let recipe = &self.recipes[idx];
        let in_program = |name: &String| self.index(name).is_some_and(|idx| present[idx]);
        let missing: Vec<String> =
            recipe.requires.iter().filter(|name| !in_program(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(Status::Requires(missing));
        }
        let at_odds = self.recipes.iter().zip(present);
        let at_odds =
            at_odds.filter(|(other, present)| **present && self.is_at_odds(recipe, other));
        let at_odds: Vec<String> = at_odds.map(|(other, _)| other.name.clone()).collect();
        if !at_odds.is_empty() {
            return Err(Status::Excluded(at_odds));
        }
        let file = file_of(recipe, program, values)?;
        let text = edit::apply(&recipe.edits, &program.files[file], values).map_err(status)?;
        let mut edited = program.clone();
        edited.files.insert(file.clone(), text);
        Ok(edited)
    }
}

/// The one file in which the first text that a recipe needs occurs.
fn file_of<'a>(
    recipe: &Recipe,
    program: &'a Program,
    values: &Values,
) -> Result<&'a String, Status> {
    let first = recipe.edits.iter().find(|edit| !edit.optional).unwrap_or(&recipe.edits[0]);
    let mut found = Vec::new();
    let mut trouble = None;
    for (file, text) in &program.files {
        match first.places(&Trimmed::new(text), values) {
            Ok(_) => found.push(file),
            // Too many is closer to a fit than none.
            Err(mismatch) => {
                if trouble.is_none() || matches!(mismatch, Mismatch::Ambiguous { .. }) {
                    trouble = Some(mismatch);
                }
            }
        }
    }
    match (found.as_slice(), trouble) {
        ([file], _) => Ok(file),
        ([], Some(mismatch)) => Err(status(mismatch)),
        ([], None) => Err(Status::NotFound(first.find[0].clone())),
        _ => Err(Status::Files(first.find[0].clone(), found.into_iter().cloned().collect())),
    }
}

fn status(mismatch: Mismatch) -> Status {
    match mismatch {
        Mismatch::NotFound { text } => Status::NotFound(text),
        Mismatch::Ambiguous { text, times } => Status::Ambiguous(text, times),
    }
}

fn parse_library(text: &str) -> Result<LibraryFile, String> {
    let at = |byte: usize, why: &str| {
        format!("{LIBRARY_FILE}:{}: {}", line_number(text, byte), why.replace('\n', ", "))
    };
    let library: LibraryFile = toml::from_str(text)
        .map_err(|error| at(error.span().unwrap_or_default().start, error.message()))?;
    if let Some(budget) = &library.budget
        && !(budget.exchange > 0.0 && budget.exchange.is_finite())
    {
        return Err(at(text.find("exchange").unwrap_or_default(), "`exchange` is not above 0"));
    }
    Ok(library)
}

fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
