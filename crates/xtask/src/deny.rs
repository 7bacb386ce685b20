//! `cargo xtask deny`: licences, duplicate versions and sources of dependencies.
//!
//! `.deny.toml` is cargo-deny's file. cargo-deny runs when it is installed; the three rules that
//! matter most are checked here in any case, because it takes minutes of CPU time to install and
//! is on few machines. Its fourth, security advisories, is cargo-deny's alone: it needs a network.

use crate::{
    command::{self, cargo, has_cargo_command},
    console::{plural, say},
    licence, workspace,
};
use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, Package};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    #[serde(default)]
    skip: Vec<Skip>,
}

/// A duplicate version that is accepted.
#[derive(Debug, Deserialize)]
struct Skip {
    /// `name@version`.
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

pub(crate) fn run() -> Result<()> {
    let path = workspace::root().join(".deny.toml");
    let text = std::fs::read_to_string(&path).context("cannot read .deny.toml")?;
    let policy: Policy = toml::from_str(&text).context(".deny.toml")?;
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for target in &policy.graph.targets {
        packages.extend(resolved(workspace::graph(target)?));
    }
    let packages: Vec<&Package> = packages.values().collect();
    let complaints = complaints(&packages, &policy);
    for complaint in &complaints {
        say(format_args!("deny: {complaint}"));
    }
    if !complaints.is_empty() {
        bail!("{} in the dependencies", plural(complaints.len(), "objection"));
    }
    say(format_args!("deny: {} checked", plural(packages.len(), "package")));
    if has_cargo_command("deny") {
        // Advisories change without us; they are looked at when versions are raised.
        let checks = ["bans", "licenses", "sources"];
        let mut deny = cargo(["deny", "--workspace", "check", "--config", ".deny.toml"]);
        command::run(deny.args(checks))
    } else {
        say("skipped: cargo-deny is not installed; its advisories were not consulted");
        Ok(())
    }
}

/// The packages that are really in the graph, by identity.
fn resolved(metadata: Metadata) -> BTreeMap<String, Package> {
    let nodes = metadata.resolve.into_iter().flat_map(|resolve| resolve.nodes);
    let used: BTreeSet<_> = nodes.map(|node| node.id).collect();
    metadata
        .packages
        .into_iter()
        .filter(|package| used.contains(&package.id))
        .map(|package| (package.id.repr.clone(), package))
        .collect()
}

fn complaints(packages: &[&Package], policy: &Policy) -> Vec<String> {
    let facts: Vec<Facts<'_>> = packages
        .iter()
        .map(|package| Facts {
            name: &package.name,
            version: package.version.to_string(),
            licence: package.license.as_deref(),
            source: package.source.as_ref().map(|source| &*source.repr),
        })
        .collect();
    let mut found = licences(&facts, &policy.licenses.allow);
    found.extend(duplicates(&facts, &policy.bans.skip));
    found.extend(sources(&facts));
    found
}

/// What the rules look at.
struct Facts<'a> {
    name: &'a str,
    version: String,
    licence: Option<&'a str>,
    source: Option<&'a str>,
}

fn licences(packages: &[Facts<'_>], allowed: &[String]) -> Vec<String> {
    let refused = |facts: &&Facts<'_>| {
        !facts.licence.is_some_and(|licence| licence::is_allowed(licence, allowed))
    };
    packages
        .iter()
        .filter(refused)
        .map(|Facts { name, version, licence, .. }| {
            let licence = licence.unwrap_or("no licence");
            format!("{name}@{version} is under `{licence}`, which .deny.toml does not allow")
        })
        .collect()
}

fn duplicates(packages: &[Facts<'_>], skips: &[Skip]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Facts { name, version, .. } in packages {
        versions.entry(name).or_default().insert(version);
    }
    let mut found = Vec::new();
    let mut unused: BTreeSet<&str> = skips.iter().map(|skip| &*skip.package).collect();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let mut skipped = |version: &str| unused.remove(&*format!("{name}@{version}"));
        let rest: Vec<&str> = versions.iter().copied().filter(|v| !skipped(v)).collect();
        if rest.len() > 1 {
            found.push(format!(
                "{name} is there as {}; agree on one version, or skip all but one in .deny.toml \
                 with a reason",
                rest.join(" and ")
            ));
        }
    }
    for package in unused {
        found.push(format!(".deny.toml skips {package}, which is not a duplicate (any more)"));
    }
    for skip in skips.iter().filter(|skip| skip.reason.trim().is_empty()) {
        found.push(format!(".deny.toml skips {} without a reason", skip.package));
    }
    found
}

fn sources(packages: &[Facts<'_>]) -> Vec<String> {
    // The name under which every lock file knows the default registry.
    const DEFAULT: &str = "registry+https://github.com/rust-lang/crates.io-index";
    packages
        .iter()
        .filter_map(|facts| facts.source.map(|source| (facts, source)))
        .filter(|(_, source)| *source != DEFAULT)
        .map(|(Facts { name, version, .. }, source)| {
            format!("{name}@{version} comes from {source} instead of the default registry")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(name: &'a str, version: &str) -> Facts<'a> {
        Facts { name, version: version.to_owned(), licence: Some("MIT"), source: None }
    }

    fn skip(package: &str) -> Skip {
        Skip { package: package.to_owned(), reason: "upstream".to_owned() }
    }

    #[test]
    fn duplicates_need_a_reason() {
        let packages = [facts("a", "1.0.0"), facts("a", "2.0.0"), facts("b", "1.0.0")];
        assert_eq!(duplicates(&packages, &[]).len(), 1);
        assert_eq!(duplicates(&packages, &[skip("a@1.0.0")]), [""; 0]);
        let stale = duplicates(&packages, &[skip("a@1.0.0"), skip("b@1.0.0")]);
        assert_eq!(stale, [".deny.toml skips b@1.0.0, which is not a duplicate (any more)"]);
    }

    #[test]
    fn unknown_licences_and_sources_are_refused() {
        let mut package = facts("a", "1.0.0");
        assert_eq!(licences(&[facts("a", "1.0.0")], &["MIT".to_owned()]), [""; 0]);
        package.licence = None;
        assert_eq!(licences(&[package], &["MIT".to_owned()]).len(), 1);
        let mut package = facts("a", "1.0.0");
        package.source = Some("git+https://example.org/a");
        assert_eq!(sources(&[package]).len(), 1);
    }
}
