//! Rules for manifests: versions are in one place.

use super::{File, Finding};
use toml::{Table, Value};

const TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(file: File<'_>) -> Vec<Finding> {
    // Crates outside the workspace are built as a stranger would build them.
    if file.path.starts_with("tests/fixtures/") {
        return Vec::new();
    }
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => {
            let message = format!("{error}");
            return vec![file.finding("manifest", 0, message, "make it valid TOML")];
        }
    };
    if file.path == "Cargo.toml" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let targets = manifest.get("target").and_then(Value::as_table);
    let mut tables = vec![&manifest];
    tables.extend(targets.into_iter().flat_map(|t| t.values()).filter_map(Value::as_table));
    for table in tables {
        for name in TABLES {
            let Some(dependencies) = table.get(*name).and_then(Value::as_table) else { continue };
            for (dependency, value) in dependencies {
                if !inherits(value) {
                    let message = format!("`{dependency}` has a version of its own");
                    let remedy = "put it into `[workspace.dependencies]` of the root and write \
                                  `workspace = true` here";
                    findings.push(file.finding(
                        "version",
                        line_of(file, dependency),
                        message,
                        remedy,
                    ));
                }
            }
        }
    }
    let package = manifest.get("package").and_then(Value::as_table);
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if !package.and_then(|package| package.get(key)).is_some_and(inherits) {
            let message = format!("`package.{key}` is not the workspace's");
            let remedy = "write `KEY.workspace = true`";
            findings.push(file.finding("manifest", line_of(file, key), message, remedy));
        }
    }
    if !manifest.get("lints").is_some_and(inherits) {
        let remedy = "add `[lints]` with `workspace = true`";
        findings.push(file.finding("manifest", 0, "the workspace's lints are off", remedy));
    }
    findings
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// The first line that starts with the key; 0 when there is none.
fn line_of(file: File<'_>, key: &str) -> usize {
    let starts = |line: &str| line.trim_start_matches('"').starts_with(key);
    file.text.lines().position(starts).map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::assert_findings as check;

    const HEAD: &str = "\
[package]
name = \"a\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true
[lints]
workspace = true
";

    #[test]
    fn versions_are_the_workspaces() {
        let with = |text: &str| format!("{HEAD}{text}");
        check("crates/a/Cargo.toml", HEAD, &[]);
        check("crates/a/Cargo.toml", &with("[dependencies]\nserde.workspace = true\n"), &[]);
        let versioned = with("[dependencies]\nserde = \"1\"\n");
        check("crates/a/Cargo.toml", &versioned, &["version:11"]);
        check("tests/fixtures/a/Cargo.toml", &versioned, &[]);
        let table = with("[dev-dependencies]\nserde = { version = \"1\", features = [] }\n");
        check("crates/a/Cargo.toml", &table, &["version:11"]);
        let target = with("[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n");
        check("crates/a/Cargo.toml", &target, &["version:11"]);
        let path = with("[dependencies]\nx = { path = \"../x\" }\n");
        check("crates/a/Cargo.toml", &path, &["version:11"]);
    }

    #[test]
    fn settings_are_the_workspaces() {
        let own = HEAD.replace("version.workspace = true\nedition", "version = \"1.0.0\"\nedition");
        check("crates/a/Cargo.toml", &own, &["manifest:3"]);
        let lax = HEAD.replace("[lints]\nworkspace = true\n", "");
        check("crates/a/Cargo.toml", &lax, &["manifest:0"]);
        check("crates/a/Cargo.toml", "[", &["manifest:0"]);
    }
}
