//! `cargo xtask invariants`: the absences that keep the rooms apart.
//!
//! docs/ARCHITECTURE.md explains them; [`list`] is the list itself, and the one that is checked.

mod list;

use crate::{
    console::{plural, say},
    tidy::tokens::{self, Token},
    workspace,
};
use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, PackageId};
use list::{INVARIANTS, Rule};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

pub(crate) fn run() -> Result<()> {
    let graph = Graph::of(&workspace::graph("x86_64-unknown-linux-gnu")?)?;
    let mut n_broken = 0;
    for invariant in INVARIANTS {
        let violations = match &invariant.rule {
            Rule::OnlyThese { dependency, by } => graph.only_these(dependency, by),
            Rule::NothingBut { package, dependencies } => {
                graph.nothing_but(package, dependencies)?
            }
            Rule::NeverReaches { package, dependency } => {
                graph.never_reaches(package, dependency)?
            }
            Rule::NoMacros { folder, macros } => sources(folder, |tokens| used(tokens, macros))?,
            Rule::NoStdModules { folder, modules } => {
                sources(folder, |tokens| std_modules(tokens, modules))?
            }
        };
        for violation in &violations {
            say(format_args!("invariants: broken: {}\n    {violation}", invariant.sentence));
        }
        n_broken += usize::from(!violations.is_empty());
    }
    if n_broken > 0 {
        bail!("{} of docs/ARCHITECTURE.md do not hold", plural(n_broken, "sentence"));
    }
    say(format_args!("invariants: {} hold", plural(INVARIANTS.len(), "sentence")));
    Ok(())
}

/// Who depends on whom.
struct Graph {
    names: BTreeMap<PackageId, String>,
    /// Dependencies outside tests and build scripts.
    normal: BTreeMap<PackageId, Vec<PackageId>>,
    /// Members and what their manifests name, tests and build scripts included.
    named: BTreeMap<String, BTreeSet<String>>,
    /// Members and what their manifests name outside tests.
    needed: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Result<Self> {
        let resolve = metadata.resolve.as_ref().context("cargo resolved nothing")?;
        let names = metadata.packages.iter().map(|p| (p.id.clone(), p.name.to_string())).collect();
        let normal = resolve
            .nodes
            .iter()
            .map(|node| {
                let is_normal =
                    |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
                let deps = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(is_normal));
                (node.id.clone(), deps.map(|dep| dep.pkg.clone()).collect())
            })
            .collect();
        let members = metadata.workspace_packages();
        let named = |with_tests: bool| {
            members
                .iter()
                .map(|package| {
                    let counts = |dep: &&cargo_metadata::Dependency| {
                        with_tests || dep.kind != DependencyKind::Development
                    };
                    let deps = package.dependencies.iter().filter(counts);
                    (package.name.to_string(), deps.map(|dep| dep.name.clone()).collect())
                })
                .collect()
        };
        Ok(Self { names, normal, named: named(true), needed: named(false) })
    }

    fn only_these(&self, dependency: &str, by: &[&str]) -> Vec<String> {
        self.named
            .iter()
            .filter(|(member, named)| named.contains(dependency) && !by.contains(&&***member))
            .map(|(member, _)| {
                format!("`{member}` depends on `{dependency}` (may: {})", by.join(", "))
            })
            .collect()
    }

    fn nothing_but(&self, package: &str, allowed: &[&str]) -> Result<Vec<String>> {
        let needed = self
            .needed
            .get(package)
            .with_context(|| format!("the list of invariants names `{package}`, which is gone"))?;
        Ok(needed
            .iter()
            .filter(|dependency| !allowed.contains(&&***dependency))
            .map(|dependency| {
                format!("`{package}` depends on `{dependency}` (may: {})", allowed.join(", "))
            })
            .collect())
    }

    fn never_reaches(&self, package: &str, dependency: &str) -> Result<Vec<String>> {
        let start =
            self.names.iter().find_map(|(id, name)| (name == package).then_some(id)).with_context(
                || format!("the list of invariants names `{package}`, which is gone"),
            )?;
        let mut came_from: BTreeMap<&PackageId, &PackageId> = BTreeMap::new();
        let mut open = vec![start];
        while let Some(id) = open.pop() {
            if self.names.get(id).is_some_and(|name| name == dependency) {
                return Ok(vec![self.path(id, &came_from)]);
            }
            for next in self.normal.get(id).into_iter().flatten() {
                if next != start && !came_from.contains_key(next) {
                    came_from.insert(next, id);
                    open.push(next);
                }
            }
        }
        Ok(Vec::new())
    }

    /// `a → b → c`, the way that leads to `id`.
    fn path(&self, id: &PackageId, came_from: &BTreeMap<&PackageId, &PackageId>) -> String {
        let way = std::iter::successors(Some(id), |id| came_from.get(id).copied());
        let mut names: Vec<_> = way.filter_map(|id| self.names.get(id)).map(|n| &**n).collect();
        names.reverse();
        names.join(" → ")
    }
}

/// Asks `rule` about every source file below `folder`; it answers lines and words.
fn sources(folder: &str, rule: impl Fn(&[Token]) -> Vec<(usize, String)>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(workspace::root().join(folder)).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read {folder}"))?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path)?;
            let tokens = tokens::read(&text).with_context(|| path.display().to_string())?;
            let shown = path.strip_prefix(workspace::root()).unwrap_or(Path::new(path));
            let lines = rule(&tokens).into_iter();
            found.extend(lines.map(|(line, word)| format!("{}:{line}: {word}", shown.display())));
        }
    }
    Ok(found)
}

/// Uses of macros by name.
fn used(tokens: &[Token], macros: &[&str]) -> Vec<(usize, String)> {
    tokens
        .windows(2)
        .filter(|pair| macros.contains(&&*pair[0].text) && pair[1].text == "!")
        .map(|pair| (pair[0].line, format!("{}!", pair[0].text)))
        .collect()
}

/// Mentions of `std::module`, also within braces.
fn std_modules(tokens: &[Token], modules: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let hit = |token: &Token| modules.contains(&&*token.text);
    for (index, _) in tokens.iter().enumerate().filter(|(_, token)| token.text == "std") {
        let rest: Vec<&Token> = tokens[index + 1..].iter().take_while(|t| t.text != ";").collect();
        let [first, second, third, ..] = &rest[..] else { continue };
        if first.text != ":" || second.text != ":" {
            continue;
        }
        if third.text != "{" {
            if hit(third) {
                found.push((third.line, format!("std::{}", third.text)));
            }
            continue;
        }
        // Names directly within the braces: those after `{` or `,` at depth one.
        let mut depth = 0;
        for pair in rest[2..].windows(2) {
            match &*pair[0].text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(&*pair[0].text, "{" | ",") && hit(pair[1]) {
                found.push((pair[1].line, format!("std::{}", pair[1].text)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_wherever_they_are_named() {
        let check = |source: &str, expected: &[&str]| {
            let tokens = tokens::read(source).unwrap();
            let found = std_modules(&tokens, &["fs", "net"]);
            let found: Vec<_> = found.iter().map(|(_, word)| &**word).collect();
            assert_eq!(found, expected, "{source}");
        };
        check("use std::fs;", &["std::fs"]);
        check("use std::{fmt, fs::File, net};", &["std::fs", "std::net"]);
        check("use std::{collections::{fs, net}, fmt};", &[]);
        check("fn f() { std::net::x() }", &["std::net"]);
        check("// std::fs\nconst S: &str = \"std::fs\";", &[]);
        check("use my::fs;", &[]);
    }

    #[test]
    fn macros_are_found_in_code_only() {
        let tokens = tokens::read("fn f() { println!(\"print!\"); } // println!").unwrap();
        assert_eq!(used(&tokens, &["print", "println"]), [(1, "println!".to_owned())]);
    }

    fn graph() -> Graph {
        let id = |name: &str| PackageId { repr: name.to_owned() };
        let edges = [("cli", vec!["runtime"]), ("runtime", vec!["sql"]), ("core", vec!["serde"])];
        let names = ["cli", "runtime", "sql", "core", "serde"];
        let named: BTreeMap<String, BTreeSet<String>> = edges
            .iter()
            .map(|(n, deps)| ((*n).to_owned(), deps.iter().map(|&d| d.to_owned()).collect()))
            .collect();
        Graph {
            names: names.iter().map(|name| (id(name), (*name).to_owned())).collect(),
            normal: edges
                .iter()
                .map(|(name, deps)| (id(name), deps.iter().map(|dep| id(dep)).collect()))
                .collect(),
            named: named.clone(),
            needed: named,
        }
    }

    #[test]
    fn broken_absences_name_the_culprit() {
        let graph = graph();
        assert_eq!(graph.only_these("sql", &["runtime"]), [""; 0]);
        assert_eq!(graph.only_these("sql", &["abi"]), ["`runtime` depends on `sql` (may: abi)"]);
        assert_eq!(graph.never_reaches("core", "sql").unwrap(), [""; 0]);
        assert_eq!(graph.never_reaches("cli", "sql").unwrap(), ["cli → runtime → sql"]);
        assert_eq!(graph.nothing_but("core", &["serde"]).unwrap(), [""; 0]);
        assert_eq!(graph.nothing_but("core", &[]).unwrap().len(), 1);
        assert!(graph.nothing_but("gone", &[]).is_err());
    }
}
