//! What models cost: a table as data, and what follows for an answer.

use forerunner_core::Cost;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::LazyLock};

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For tokens sent.
    pub input: f64,
    /// For tokens received, reasoning included.
    pub output: f64,
    /// For tokens sent that the provider still had; by default as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
}

/// Tokens of a request, as the provider counted them or as we estimate them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tokens {
    /// Sent, those that the provider still had included.
    pub(crate) input: u64,
    /// Of those, what the provider still had.
    pub(crate) cached: u64,
    /// Received, reasoning included.
    pub(crate) output: u64,
}

impl Tokens {
    /// The sum of what went out and what came in.
    pub(crate) fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl Price {
    /// What these tokens cost.
    pub(crate) fn cost(price: Option<Self>, tokens: Tokens) -> Cost {
        let dollars = price.map_or(0.0, |price| {
            let cached = tokens.cached.min(tokens.input);
            let fresh = tokens.input - cached;
            (fresh as f64 * price.input
                + cached as f64 * price.cached.unwrap_or(price.input)
                + tokens.output as f64 * price.output)
                / 1e6
        });
        Cost { tokens_in: tokens.input, tokens_out: tokens.output, dollars }
    }
}

/// One line of the price table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The provider's name for the model, without date; longer names that begin so are covered when
    /// a date or `latest` follows.
    pub model: String,
    /// The adapters, by the names that `provider` takes, at whose own address the price holds.
    pub providers: Vec<String>,
    /// US dollars per million tokens sent.
    pub input: f64,
    /// US dollars per million tokens received.
    pub output: f64,
    /// US dollars per million tokens sent that the provider still had.
    #[serde(default)]
    pub cached: Option<f64>,
    /// When the price was known to hold, `YYYY-MM`.
    pub date: String,
    /// Where it was published.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    sources: BTreeMap<String, String>,
    price: Vec<Listed>,
}

static TABLE: LazyLock<Vec<Listed>> = LazyLock::new(|| {
    let table: Table =
        toml::from_str(include_str!("../prices.toml")).expect("a test reads the table");
    let mut listed = table.price;
    for entry in &mut listed {
        if let Some(source) = table.sources.get(&entry.source) {
            entry.source.clone_from(source);
        }
    }
    listed
});

impl From<&Listed> for Price {
    fn from(listed: &Listed) -> Self {
        Self { input: listed.input, output: listed.output, cached: listed.cached }
    }
}

/// The price table that comes with this crate. Prices change: each entry has its date, and `price`
/// in a model's configuration goes before it.
pub fn price_table() -> &'static [Listed] {
    &TABLE
}

/// The listed price of `model` at `provider`.
pub(crate) fn listed(provider: &str, model: &str) -> Option<&'static Listed> {
    let model = model.rsplit('/').next().unwrap_or(model);
    TABLE.iter().filter(|entry| entry.providers.iter().any(|name| name == provider)).find(|entry| {
        model
            .strip_prefix(entry.model.as_str())
            .is_some_and(|rest| rest.is_empty() || is_version(rest))
    })
}

/// Whether `rest` only says which version of a model it is: a date, or `latest`.
fn is_version(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix(['-', '@', ':']) else { return false };
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    rest == "latest" || (digits >= 4 && rest.chars().all(|c| c.is_ascii_digit() || c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_date_and_a_source() {
        assert!(price_table().len() >= 12);
        for entry in price_table() {
            assert!(entry.source.starts_with("https://"), "{entry:?}");
            assert!(entry.input > 0.0 && entry.output >= entry.input, "{entry:?}");
            assert!(entry.cached.is_none_or(|cached| cached <= entry.input), "{entry:?}");
            let date = entry.date.as_bytes();
            assert!(
                date.len() == 7 && date[4] == b'-' && entry.date.starts_with("20"),
                "{entry:?}"
            );
            assert!(!entry.providers.is_empty(), "{entry:?}");
        }
    }

    #[test]
    fn dated_names_are_found_and_others_are_not_guessed() {
        let price = |provider, model| listed(provider, model).map(|entry| entry.input);
        assert_eq!(price("openai", "gpt-4o-2024-11-20"), price("openai", "gpt-4o"));
        assert!(price("openai", "gpt-4o").is_some());
        assert_ne!(price("openai", "gpt-4o-mini"), price("openai", "gpt-4o"));
        assert_eq!(price("openai", "gpt-4o-audio-preview"), None);
        assert_eq!(price("anthropic", "gpt-4o"), None);
        assert_eq!(price("ollama", "llama3"), None);
    }

    #[test]
    fn cached_tokens_cost_less_when_the_price_says_so() {
        let price = Price { input: 2.0, output: 10.0, cached: Some(0.5) };
        let tokens = Tokens { input: 1_000_000, cached: 400_000, output: 100_000 };
        let cost = Price::cost(Some(price), tokens);
        assert!((cost.dollars - (1.2 + 0.2 + 1.0)).abs() < 1e-9, "{cost:?}");
        assert_eq!((cost.tokens_in, cost.tokens_out), (1_000_000, 100_000));
        assert_eq!(Price::cost(None, tokens).dollars, 0.0);
    }
}
