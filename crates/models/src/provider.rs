//! Which providers there are, where they are, and whether they want a key.

use crate::ModelConfig;
use forerunner_core::{Error, Result};
use genai::{adapter::AdapterKind, chat::ReasoningEffort};

/// What a configuration says about its provider.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    /// The adapter that speaks its format.
    pub(crate) kind: AdapterKind,
    /// The name that `provider` takes.
    pub(crate) name: &'static str,
    /// Its address, with a slash at the end, unless it is the adapter's own.
    pub(crate) base_url: Option<String>,
    /// The variable that holds the key, if the provider is known to have one.
    pub(crate) key_env: Option<String>,
    /// Whether it refuses requests without a key.
    pub(crate) needs_key: bool,
    /// The effort, read.
    pub(crate) effort: Option<ReasoningEffort>,
}

/// Adapters that want more than a key and an address and that we therefore cannot configure.
const LEFT_OUT: [AdapterKind; 3] =
    [AdapterKind::Vertex, AdapterKind::GithubCopilot, AdapterKind::BedrockApi];

impl Provider {
    /// Reads the fields that belong together.
    pub(crate) fn of(config: &ModelConfig) -> Result<Self> {
        let field = |name: &str| format!("{}.{name}", config.name);
        let base_url = config
            .base_url
            .as_deref()
            .map(|url| normal_url(url).map_err(|why| Error::config(&field("base_url"), why)))
            .transpose()?;
        let wanted = match (&config.provider, &base_url) {
            (Some(name), _) => name.as_str(),
            (None, Some(_)) => AdapterKind::OpenAI.as_lower_str(),
            (None, None) => {
                let why =
                    format!("say whose model it is (known: {}), or give a `base_url`", known());
                return Err(Error::config(&field("provider"), why));
            }
        };
        let kind = all().find(|kind| kind.as_lower_str() == wanted).ok_or_else(|| {
            let shown: String = wanted.chars().filter(|c| !c.is_control()).take(60).collect();
            let why = format!(
                "unknown provider `{shown}` (known: {})\nhint: vLLM, llama.cpp and other servers that speak \
                 OpenAI's format are `openai` with a `base_url`",
                known()
            );
            Error::config(&field("provider"), why)
        })?;
        let effort = config
            .reasoning_effort
            .as_deref()
            .map(|effort| {
                effort.parse::<ReasoningEffort>().map_err(|_| {
                    let known =
                        "none, minimal, low, medium, high, xhigh, max, or a number of tokens";
                    Error::config(
                        &field("reasoning_effort"),
                        format!("unknown effort (known: {known})"),
                    )
                })
            })
            .transpose()?;
        // Elsewhere than at the provider's own address, nobody knows whether a key is wanted.
        let usual = kind.default_key_env_name().map(str::to_owned);
        let named = config.key_env.is_some() || config.key_file.is_some();
        let needs_key = named || (usual.is_some() && base_url.is_none());
        let key_env = config.key_env.clone().or(usual.filter(|_| base_url.is_none()));
        Ok(Self { kind, name: kind.as_lower_str(), base_url, key_env, needs_key, effort })
    }
}

/// The ending of the model's name that most adapters take off and send as the effort instead.
pub(crate) fn effort_in_name(config: &ModelConfig) -> Option<&str> {
    let (effort, rest) = ReasoningEffort::from_model_name(&config.model);
    effort.filter(|_| config.reasoning_effort.is_none())?;
    config.model.strip_prefix(rest)
}

fn all() -> impl Iterator<Item = AdapterKind> {
    AdapterKind::all().iter().copied().filter(|kind| !LEFT_OUT.contains(kind))
}

fn known() -> String {
    all().map(|kind| kind.as_lower_str()).collect::<Vec<_>>().join(", ")
}

/// The address with one slash at its end, as the adapters want it.
fn normal_url(url: &str) -> Result<String, &'static str> {
    let parsed = reqwest::Url::parse(url)
        .map_err(|_| "not a URL, for example `http://localhost:8000/v1`")?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err("has to begin with `http://` or `https://` and a host");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "may hold no user name or password\nhint: put the key into a variable and name it in `key_env`",
        );
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("may hold no query and no fragment");
    }
    Ok(format!("{}/", parsed.as_str().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut ModelConfig)) -> Result<Provider> {
        let mut config = ModelConfig::new("m", "some-model");
        change(&mut config);
        Provider::of(&config)
    }

    #[test]
    fn the_address_decides_about_format_and_key() {
        let local = with(|config| config.base_url = Some("http://localhost:8000/v1".into()));
        let local = local.expect("a local server");
        assert_eq!((local.name, local.needs_key), ("openai", false));
        assert_eq!(local.base_url.as_deref(), Some("http://localhost:8000/v1/"));
        // The key of the provider's own service is not sent to somebody else.
        assert_eq!(local.key_env, None);
        let own = with(|config| config.provider = Some("anthropic".into())).expect("a provider");
        assert_eq!(own.key_env.as_deref(), Some("ANTHROPIC_API_KEY"));
        assert!(own.needs_key && own.base_url.is_none());
        let ollama = with(|config| config.provider = Some("ollama".into())).expect("a provider");
        assert!(!ollama.needs_key);
        let keyed = with(|config| {
            config.base_url = Some("https://models.example/v1/".into());
            config.key_env = Some("EXAMPLE_KEY".into());
        });
        let keyed = keyed.expect("a server with a key");
        assert_eq!((keyed.needs_key, keyed.key_env.as_deref()), (true, Some("EXAMPLE_KEY")));
    }

    #[test]
    fn names_that_end_in_an_effort_are_noticed() {
        let mut config = ModelConfig::new("m", "gpt-5-high");
        assert_eq!(effort_in_name(&config), Some("-high"));
        config.reasoning_effort = Some("low".to_owned());
        assert_eq!(effort_in_name(&config), None);
        assert_eq!(effort_in_name(&ModelConfig::new("m", "gpt-5")), None);
    }

    #[test]
    fn mistakes_name_field_and_remedy() {
        let text = |change: fn(&mut ModelConfig)| with(change).expect_err("a mistake").to_string();
        let unknown = text(|config| config.provider = Some("opnai\u{1b}[2J".into()));
        assert!(unknown.contains("`m.provider`: unknown provider `opnai[2J`"), "{unknown}");
        assert!(unknown.contains("anthropic"), "{unknown}");
        assert!(text(|_| ()).contains("base_url"));
        for url in
            ["localhost:8000", "file:///x", "http://u:p@h/v1", "http://h/v1?key=1", "http://h/#x"]
        {
            let error =
                with(|config| config.base_url = Some(url.into())).expect_err(url).to_string();
            assert!(error.contains("`m.base_url`"), "{error}");
            assert!(!error.contains("u:p"), "{error}");
        }
        let effort = text(|config| {
            config.provider = Some("openai".into());
            config.reasoning_effort = Some("enormous".into());
        });
        assert!(effort.contains("`m.reasoning_effort`"), "{effort}");
    }
}
