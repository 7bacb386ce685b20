//! Names: those a program defines, and those it must not use.

use super::{
    Rules, Source, imports,
    std_paths::{self, Verdict},
    tokens::Token,
};
use forerunner_core::Finding;
use std::collections::HashSet;

/// What the files of a program define and import, all files together.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Structs, enums, traits and modules.
    types: HashSet<String>,
    /// Other names for types, from `type` and `use … as`.
    aliases: HashSet<String>,
    /// Everything that a `use` could start with.
    pub(super) items: HashSet<String>,
    /// Partly open modules of `std` that are imported by name.
    pub(super) std_modules: HashSet<String>,
    /// Whether a glob brings in names that cannot be known here.
    pub(super) has_foreign_glob: bool,
}

impl Names {
    /// Collects the names of all files.
    pub(super) fn collect(rules: &Rules, sources: &[Source<'_>]) -> Self {
        let mut names = Self::default();
        for source in sources {
            for pair in source.tokens.windows(2) {
                let (Some(keyword), Some(name)) = (pair[0].word(), pair[1].word()) else {
                    continue;
                };
                match keyword {
                    "struct" | "enum" | "trait" | "mod" | "union" => {
                        names.types.insert(name.to_owned());
                    }
                    "type" => {
                        names.aliases.insert(name.to_owned());
                    }
                    _ => continue,
                }
                names.items.insert(name.to_owned());
            }
            for import in imports::read(&source.tokens) {
                let Some((root, rest)) = import.words.split_first() else { continue };
                names.has_foreign_glob |= import.glob && !std_paths::is_root(root);
                if std_paths::is_root(root) {
                    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
                    if matches!(std_paths::judge(rules, &rest), Verdict::Partial(_)) {
                        names.std_modules.extend(rest.first().map(|module| (*module).to_owned()));
                    }
                }
                let own_name = import.rename.as_ref().or(import.words.last());
                names.items.extend(own_name.cloned());
                names.aliases.extend(import.rename);
            }
        }
        names
    }
}

/// Checks keywords and names that stand for what a program must not do.
pub(super) fn check(rules: &Rules, source: &Source<'_>, names: &Names) -> Vec<Finding> {
    let tokens = &source.tokens;
    let mut findings = Vec::new();
    for (idx, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        if let Some((rule, message)) = refused_word(word, tokens, idx) {
            findings.push(source.finding(rule, token.line, message));
        }
        for refused in &rules.refused {
            if is_refused(&refused.name, word, tokens, idx, names) {
                let message = format!("`{}` is refused: {}", refused.name, refused.why);
                findings.push(source.finding("source/refused-name", token.line, message));
            }
        }
    }
    findings
}

fn refused_word(word: &str, tokens: &[Token], idx: usize) -> Option<(&'static str, &'static str)> {
    let is_method = idx > 0 && (tokens[idx - 1].is_sign('.') || tokens[idx - 1].is_path_sep());
    let randomness = "is refused: it draws random numbers of its own; randomness comes from the \
                      harness, so that the same seed gives the same run";
    Some(match word {
        "unsafe" => (
            "source/no-unsafe",
            "`unsafe` is refused: programs are safe Rust, so that the compiler can vouch for \
             them; use slices and the harness's operations",
        ),
        "extern" => (
            "source/no-extern",
            "`extern` is refused: programs neither call nor define foreign functions, and crates \
             are named without it; use the harness's operations",
        ),
        "static" => (
            "source/static",
            "`static` is refused: it could carry answers from one batch to the next; use `const` \
             for constants, and a struct that you pass along for state",
        ),
        "RandomState" | "hash_one" => ("source/std", randomness),
        "hasher" if is_method => ("source/std", randomness),
        _ => return None,
    })
}

/// Whether the word at `idx` is the use of `name` that a rule refuses.
fn is_refused(name: &str, word: &str, tokens: &[Token], idx: usize, names: &Names) -> bool {
    let mut parts = name.rsplit("::");
    if parts.next() != Some(word) {
        return false;
    }
    let Some(refused_type) = parts.next() else { return true };
    // `value.rand()` is a method; what is refused is called through its type.
    if idx == 0 || !tokens[idx - 1].is_path_sep() {
        return false;
    }
    // Only a type that the program defines, and that has no second meaning, is certainly another.
    let own_type =
        idx.checked_sub(2).and_then(|before| tokens[before].word()).is_some_and(|before| {
            before != refused_type
                && names.types.contains(before)
                && !names.aliases.contains(before)
        });
    !own_type
}
