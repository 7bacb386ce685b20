//! Rules for every text file.

use super::{File, Finding};

/// Paths that exist on one machine only. Put together here so that this file passes.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

const UNFINISHED: &str = concat!("FIX", "ME");

/// The one source that a lock file may name.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(file: File<'_>) -> Vec<Finding> {
    if file.path == "Cargo.lock" {
        return lock_file(file);
    }
    let mut findings = Vec::new();
    for (index, text) in file.text.lines().enumerate() {
        let line = index + 1;
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(text, path)) {
            let message = format!("a path of one machine (`{path}…`)");
            let remedy = "use a relative path, an option or an environment variable";
            findings.push(file.finding("machine-path", line, message, remedy));
        }
        if text.contains(UNFINISHED) {
            let message = format!("`{UNFINISHED}` is left");
            findings.push(file.finding("unfinished", line, message, "mend it, or file an issue"));
        }
        let configures_registry = file.path.contains(".cargo/")
            && ["[source", "[registr", "replace-with"].iter().any(|key| text.contains(key));
        if configures_registry {
            let message = "a registry of one machine";
            let remedy = "keep it in the Cargo configuration of your home folder";
            findings.push(file.finding("registry", line, message, remedy));
        }
    }
    findings
}

/// Whether `text` names something below `path`, as a path of its own and not as part of another.
fn names_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + path.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/>}*)".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || c == '.')
    })
}

fn lock_file(file: File<'_>) -> Vec<Finding> {
    let foreign = |text: &str| {
        text.strip_prefix("source = ").is_some_and(|source| source.trim_matches('"') != REGISTRY)
    };
    file.text
        .lines()
        .enumerate()
        .filter(|(_, text)| foreign(text))
        .map(|(index, text)| {
            let message = format!("a dependency from elsewhere: {text}");
            let remedy = "lock against the default registry";
            file.finding("registry", index + 1, message, remedy)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::assert_findings as check;
    use super::*;

    #[test]
    fn paths_of_one_machine_are_refused() {
        for path in MACHINE_PATHS {
            check("docs/a.md", &format!("fine\nsee {path}me/x\n"), &["machine-path:2"]);
            check("docs/a.md", &format!("see `{path}me`\n"), &["machine-path:1"]);
            check("docs/a.md", &format!("see cache{path}me\n"), &[]);
            check("docs/a.md", &format!("see {path}<name>\n"), &[]);
        }
        check("docs/a.md", "https://example.org/root\n", &[]);
    }

    #[test]
    fn unfinished_work_is_refused() {
        check("docs/a.md", &format!("a\n<!-- {UNFINISHED} -->\n"), &["unfinished:2"]);
    }

    #[test]
    fn registries_stay_at_home() {
        let mirror = "[source.crates-io]\n";
        check(".cargo/config.toml", mirror, &["registry:1"]);
        check("docs/a.md", mirror, &[]);
        check("Cargo.lock", &format!("source = \"{REGISTRY}\"\n"), &[]);
        check("Cargo.lock", "a\nsource = \"sparse+https://example.org/\"\n", &["registry:2"]);
    }
}
