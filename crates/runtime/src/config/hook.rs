//! The `[[hook]]` tables of a run file.

use forerunner_core::Permission;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A verification hook: a file, or the name of an installed one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookEntry {
    /// A WebAssembly component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The name of an installed hook. That of one of the environment's hooks restricts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may look at and do of what the environment grants; everything unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Permission>>,
}

impl HookEntry {
    /// What is wrong with the entries taken together, with a hint.
    pub(super) fn complaint(entries: &[Self]) -> Option<&'static str> {
        const ONE: &str = "a `[[hook]]` table needs a `path` or a `name`, and only one of them\n\
                           hint: `path = \"check.wasm\"` for a file, `name = \"check\"` for an installed hook";
        const NAME: &str = "the `name` of a hook has letters, digits, `-` and `_` only\n\
                            hint: for a file write `path = \"check.wasm\"`";
        const TWICE: &str = "the same hook is named twice\n\
                             hint: leave one of its `[[hook]]` tables out";
        let is_name = |name: &str| {
            !name.is_empty()
                && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_".contains(char))
        };
        entries.iter().enumerate().find_map(|(index, entry)| match entry {
            Self { path: Some(_), name: Some(_), .. } | Self { path: None, name: None, .. } => {
                Some(ONE)
            }
            Self { path: Some(path), .. } if path.as_os_str().is_empty() => Some(ONE),
            Self { name: Some(name), .. } if !is_name(name) => Some(NAME),
            Self { path, name, .. } => entries[..index]
                .iter()
                .any(|other| (&other.path, &other.name) == (path, name))
                .then_some(TWICE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, RunFile};

    const GOOD: &str = r#"
        environment.name = "nanogpt"
        selector.name = "islands"
        mutator = [{ name = "tuner" }]
        budget.evaluations = 10
    "#;

    fn parse(text: &str) -> Result<RunFile, ConfigError> {
        RunFile::parse("run.toml", text, &[])
    }

    #[test]
    fn hooks_are_files_or_names_with_what_they_may_do() {
        let text = format!(
            "{GOOD}\n[[hook]]\npath = \"x.wasm\"\n[[hook]]\nname = \"y\"\nallow = [\"metrics\", \"probes\"]"
        );
        let file = parse(&text).expect("good");
        let entry = HookEntry { path: Some("x.wasm".into()), ..HookEntry::default() };
        assert_eq!(file.hooks[0], entry);
        assert_eq!(file.hooks[1].allow, Some(vec![Permission::Metrics, Permission::Probes]));
        let back = serde_json::from_value(serde_json::to_value(&file).expect("plain data"));
        assert_eq!(back.ok(), Some(file), "the frozen configuration comes back");
        let error = parse(&text.replace("probes", "everything")).expect_err("no such permission");
        assert!(error.to_string().contains("unknown variant `everything`"), "{error}");
        let old = serde_json::to_string(&parse(GOOD).expect("good"));
        assert!(!old.expect("plain data").contains("hook"), "runs without hooks stay as they were");
    }
}
