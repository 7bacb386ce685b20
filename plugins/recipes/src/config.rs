//! What can be configured, and which libraries that means.

use crate::Library;
use forerunner_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::PathBuf};

/// Configuration of the mutator `recipes`.
///
/// ```
/// let config: forerunner_recipes::Config = serde_json::from_str(r#"{"most": 2}"#).unwrap();
/// assert_eq!((config.most, config.library), (2, None));
/// assert!(serde_json::from_str::<forerunner_recipes::Config>(r#"{"mots": 2}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A library that comes with the plugin. Otherwise the one for the task's environment.
    pub library: Option<String>,
    /// A folder of recipes instead, read once.
    pub path: Option<PathBuf>,
    /// Only these recipes; all when empty.
    pub only: Vec<String>,
    /// All recipes but these.
    pub without: Vec<String>,
    /// Most recipes that one proposal applies.
    pub most: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { library: None, path: None, only: Vec::new(), without: Vec::new(), most: 3 }
    }
}

impl Config {
    /// The libraries to choose from by environment; the one that was asked for, if one was.
    ///
    /// # Errors
    /// When a value makes no sense, or a recipe does not; the error names the field.
    pub fn libraries(&self) -> Result<Vec<Library>> {
        if !(1..=20).contains(&self.most) {
            return Err(Error::config("most", format!("{} is not within 1 and 20", self.most)));
        }
        let mut libraries = match (&self.library, &self.path) {
            (Some(_), Some(_)) => {
                return Err(Error::config("path", "there is a `library` as well; leave one out"));
            }
            (None, Some(path)) => {
                vec![Library::read(path).map_err(|why| Error::config("path", why))?]
            }
            (Some(name), None) => {
                let library = Library::embedded(name).ok_or_else(|| {
                    let known: Vec<_> = Library::embedded_names().collect();
                    let why = format!("unknown library `{name}` (known: {})", known.join(", "));
                    Error::config("library", why)
                })?;
                vec![library.map_err(|why| Error::config("library", why))?]
            }
            (None, None) => Library::embedded_names()
                .filter_map(Library::embedded)
                .collect::<Result<_, _>>()
                .map_err(|why| Error::config("library", why))?,
        };
        let recipes = libraries.iter().flat_map(|library| &library.recipes);
        let known: BTreeSet<&str> = recipes.map(|recipe| recipe.name.as_str()).collect();
        for (field, names) in [("only", &self.only), ("without", &self.without)] {
            if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
                let known: Vec<_> = known.iter().copied().collect();
                let why = format!("unknown recipe `{name}` (known: {})", known.join(", "));
                return Err(Error::config(field, why));
            }
        }
        for library in &mut libraries {
            for (recipe, used) in library.recipes.iter().zip(&mut library.used) {
                *used = (self.only.is_empty() || self.only.contains(&recipe.name))
                    && !self.without.contains(&recipe.name);
            }
        }
        Ok(libraries)
    }
}
