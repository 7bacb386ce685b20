//! What can be configured.

mod embeddings;

pub use embeddings::EmbeddingConfig;
use forerunner_sdk::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeSet, path::PathBuf};

/// Configuration of the mutator `llm`.
///
/// ```
/// let text = r#"{"models": [{"name": "fast", "weight": 3.0, "provider": "openai", "model": "x"}]}"#;
/// let config: forerunner_llm::Config = serde_json::from_str(text).unwrap();
/// assert_eq!((config.models[0].weight, config.schedule.template_iterations), (3.0, 20));
/// assert!(serde_json::from_str::<forerunner_llm::Config>(r#"{"modles": []}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who is asked. At least one.
    pub models: Vec<ModelEntry>,
    /// How a model is chosen for a proposal.
    #[serde(default)]
    pub ensemble: Ensemble,
    /// What the bandit counts gains against; dollars where every model has a price
    /// above 0, else tokens.
    #[serde(default)]
    pub credit_per: Option<CreditPer>,
    /// How much an outcome counts against the one after it, for the bandit; in `(0, 1]`.
    #[serde(default = "discount")]
    pub discount: f64,
    /// Models for single tasks instead of the one that was chosen.
    #[serde(default)]
    pub roles: Roles,
    /// When there is one call for everything, and when one for the idea and one for the change.
    #[serde(default)]
    pub schedule: Schedule,
    /// Share of proposals that rewrite the whole program instead of changing places; `0..=1`.
    #[serde(default)]
    pub rewrite_share: f64,
    /// Who looks an idea over before it is carried out.
    #[serde(default)]
    pub critic: CriticConfig,
    /// How often an idea or a change that was there before is asked for again.
    #[serde(default = "duplicates")]
    pub duplicates: u32,
    /// Similarity from which on two ideas are the same, in `(0, 1]`.
    #[serde(default = "similarity")]
    pub similarity: f64,
    /// Who else compares ideas, besides their words.
    #[serde(default)]
    pub embeddings: Option<EmbeddingConfig>,
    /// Estimated tokens of a question, the system part included.
    #[serde(default = "prompt_tokens")]
    pub prompt_tokens: usize,
    /// Most inspirations that are shown.
    #[serde(default = "inspirations")]
    pub inspirations: usize,
    /// Most earlier ideas that are shown.
    #[serde(default = "history")]
    pub history: usize,
    /// A folder of templates that replace those that come with the plugin.
    #[serde(default)]
    pub prompts: Option<PathBuf>,
    /// Further instructions of the operator, put into the system part as they are.
    #[serde(default)]
    pub instructions: String,
}

/// A model, how often it is chosen, and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// The name that it goes by in the run.
    pub name: String,
    /// How often it is chosen, relative to the others; 0 for a model that only has roles or stands
    /// in for others.
    pub weight: f64,
    /// Everything but the weight, for the client.
    pub settings: serde_json::Value,
}

impl<'de> Deserialize<'de> for ModelEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut settings = serde_json::Map::deserialize(deserializer)?;
        let weight = match settings.remove("weight") {
            None => 1.0,
            Some(weight) => weight.as_f64().ok_or_else(|| {
                de::Error::custom(format!("`weight` is {weight}, which is not a number"))
            })?,
        };
        let name = settings.get("name").and_then(|name| name.as_str()).map(str::to_owned);
        let name = name.ok_or_else(|| de::Error::missing_field("name"))?;
        Ok(Self { name, weight, settings: settings.into() })
    }
}

/// How a model is chosen for a proposal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ensemble {
    /// By the weights.
    #[default]
    Weights,
    /// By what each gained for its cost so far (Thompson sampling). Models of weight 0 are left out.
    Bandit,
}

/// What gains are counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditPer {
    /// A dollar.
    Dollars,
    /// A thousand tokens, in and out.
    Tokens,
}

/// Models for single tasks, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    /// Has the ideas, in two-stage prompting.
    pub idea: Option<String>,
    /// Carries them out.
    pub implementation: Option<String>,
    /// Looks them over.
    pub critic: Option<String>,
    /// Mends what failed its check.
    pub repair: Option<String>,
}

/// When two-stage prompting begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Iterations of the run with one call for idea and change.
    pub template_iterations: u64,
    /// Children without a new best from which on ideas come first, whatever the iteration; 0: never.
    pub stagnation: u64,
    /// Whether a new best brings single calls back, until the search stagnates again. Then
    /// `template_iterations` does not matter.
    pub back: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { template_iterations: 20, stagnation: 0, back: false }
    }
}

/// Who looks an idea over before it is carried out; in two-stage prompting alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CriticConfig {
    /// Whether anybody does.
    pub enabled: bool,
    /// How often a vetoed idea goes back before the proposal fails; at most 5.
    pub rounds: u32,
    /// Share of proposals whose ideas it sees, in `0..=1`: below 1, one run shows what comes of ideas
    /// with it and without.
    pub share: f64,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self { enabled: false, rounds: 1, share: 1.0 }
    }
}

fn discount() -> f64 {
    0.98
}
fn duplicates() -> u32 {
    2
}
fn similarity() -> f64 {
    crate::novelty::SIMILARITY
}
fn prompt_tokens() -> usize {
    32_000
}
fn inspirations() -> usize {
    4
}
fn history() -> usize {
    24
}

/// Longest name of a model, in bytes.
const MAX_NAME: usize = 60;

impl Config {
    /// The defaults with these models.
    #[must_use]
    pub fn with_models(models: Vec<ModelEntry>) -> Self {
        Self {
            models,
            ensemble: Ensemble::default(),
            credit_per: None,
            discount: discount(),
            roles: Roles::default(),
            schedule: Schedule::default(),
            rewrite_share: 0.0,
            critic: CriticConfig::default(),
            duplicates: duplicates(),
            similarity: similarity(),
            embeddings: None,
            prompt_tokens: prompt_tokens(),
            inspirations: inspirations(),
            history: history(),
            prompts: None,
            instructions: String::new(),
        }
    }

    /// Whether this model only makes vectors.
    pub(crate) fn only_embeds(&self, model: &str) -> bool {
        self.embeddings.as_ref().is_some_and(|embeddings| embeddings.model == model)
    }

    /// Whether all values make sense; the error names the field.
    pub(crate) fn check(&self) -> Result<()> {
        if self.models.is_empty() {
            return Err(Error::config("models", "there is none; add a `[[models]]` entry"));
        }
        let mut names = BTreeSet::new();
        for ModelEntry { name, weight, .. } in &self.models {
            let printable = name.chars().all(|c| c.is_ascii_graphic() && c != '`');
            if name.is_empty() || name.len() > MAX_NAME || !printable {
                let why = format!(
                    "a name of at most {MAX_NAME} printable characters without blanks is needed"
                );
                return Err(Error::config("models.name", why));
            }
            if !names.insert(name.as_str()) {
                return Err(Error::config("models.name", format!("`{name}` is there twice")));
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(Error::config("models.weight", format!("{weight} of `{name}`")));
            }
        }
        if self.models.iter().all(|model| model.weight == 0.0) {
            return Err(Error::config("models.weight", "all are 0, so that none can be chosen"));
        }
        let Roles { idea, implementation, critic, repair } = &self.roles;
        let roles = [
            ("roles.idea", idea),
            ("roles.implementation", implementation),
            ("roles.critic", critic),
            ("roles.repair", repair),
        ];
        for (field, name) in roles {
            if let Some(name) = name.as_ref().filter(|name| !names.contains(name.as_str())) {
                let known: Vec<_> = self.models.iter().map(|model| model.name.as_str()).collect();
                let why = format!("unknown model `{name}` (known: {})", known.join(", "));
                return Err(Error::config(field, why));
            }
        }
        for (field, share) in
            [("rewrite_share", self.rewrite_share), ("critic.share", self.critic.share)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::config(field, "not within 0 and 1"));
            }
        }
        if let Some(embeddings) = &self.embeddings {
            embeddings.check(&self.models, &self.roles)?;
        }
        for (field, value) in [("discount", self.discount), ("similarity", self.similarity)] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(Error::config(field, format!("{value} is not above 0 and at most 1")));
            }
        }
        if self.schedule.back && self.schedule.stagnation == 0 {
            let why = "going back needs a `schedule.stagnation` that leads away";
            return Err(Error::config("schedule.back", why));
        }
        let most = [
            ("critic.rounds", self.critic.rounds as usize, 5),
            ("duplicates", self.duplicates as usize, 10),
            ("inspirations", self.inspirations, 32),
            ("history", self.history, 200),
        ];
        for (field, value, most) in most {
            if value > most {
                return Err(Error::config(field, format!("{value}; at most {most}")));
            }
        }
        if !(1_000..=1_000_000).contains(&self.prompt_tokens) {
            let why = format!("{} is not within 1000 and 1000000", self.prompt_tokens);
            return Err(Error::config("prompt_tokens", why));
        }
        Ok(())
    }
}
