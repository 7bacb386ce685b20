//! The model for embeddings.

use super::{ModelEntry, Roles};
use forerunner_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which model turns ideas into vectors, and how near these are to each other when ideas are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// One of [`super::Config::models`], of weight 0, that does nothing else.
    pub model: String,
    /// Cosine from which on two ideas are the same, in `(0, 1]`. Models differ in what they come to
    /// for different ideas.
    #[serde(default = "similarity")]
    pub similarity: f64,
}

fn similarity() -> f64 {
    0.92
}

impl EmbeddingConfig {
    /// Whether it makes sense beside these; the error names the field.
    pub(super) fn check(&self, models: &[ModelEntry], roles: &Roles) -> Result<()> {
        let field = "embeddings.model";
        let Self { model, similarity } = self;
        let Some(entry) = models.iter().find(|entry| entry.name == *model) else {
            let known: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
            let why = format!("unknown model `{model}` (known: {})", known.join(", "));
            return Err(Error::config(field, why));
        };
        if entry.weight != 0.0 {
            let why = format!(
                "`{model}` would be asked for ideas as well\nhint: set `weight = 0` in its \
                 `[[models]]` entry"
            );
            return Err(Error::config(field, why));
        }
        let Roles { idea, implementation, critic, repair } = roles;
        if [idea, implementation, critic, repair].into_iter().flatten().any(|name| name == model) {
            return Err(Error::config(field, format!("`{model}` has a role besides")));
        }
        if !(*similarity > 0.0 && *similarity <= 1.0) {
            let why = format!("{similarity} is not above 0 and at most 1");
            return Err(Error::config("embeddings.similarity", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn the_model_is_there_and_does_nothing_else() {
        let check = |rest: &str, expected: &str| {
            let text = format!(
                r#"{{"models": [{{"name": "a", "model": "x"}}, {{"name": "e", "model": "y", "weight": 0}}], {rest}}}"#
            );
            let config: Config = serde_json::from_str(&text).expect(rest);
            let error = config.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(
                error.contains(expected),
                !expected.is_empty() || error.is_empty(),
                "{error}"
            );
            config
        };
        let config = check(r#""embeddings": {"model": "e"}"#, "");
        assert_eq!(config.embeddings.expect("given").similarity, 0.92);
        check(r#""embeddings": {"model": "f"}"#, "unknown model `f` (known: a, e)");
        check(r#""embeddings": {"model": "a"}"#, "hint: set `weight = 0`");
        check(r#""embeddings": {"model": "e"}, "roles": {"critic": "e"}"#, "`e` has a role");
        for similarity in ["0", "1.1", "-1"] {
            let rest = format!(r#""embeddings": {{"model": "e", "similarity": {similarity}}}"#);
            check(&rest, "`embeddings.similarity`");
        }
        check(r#""critic": {"share": 0.5}"#, "");
        check(r#""critic": {"share": 1.5}"#, "`critic.share`");
    }
}
