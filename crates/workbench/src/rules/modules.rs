//! `mod name;` must name a file of the program.

use super::{Source, tokens::Token};
use forerunner_core::{Finding, Program};
use proc_macro2::Delimiter;

/// Checks every `mod name;`.
pub(super) fn check(program: &Program, source: &Source<'_>) -> Vec<Finding> {
    let tokens = &source.tokens;
    let mut findings = Vec::new();
    // Names of the inline modules around a token, with the depth of their brackets.
    let mut inside: Vec<(&str, usize)> = Vec::new();
    let mut depth = 0;
    for (idx, token) in tokens.iter().enumerate() {
        match &token.kind {
            super::tokens::Kind::Open(_) => depth += 1,
            super::tokens::Kind::Close(_) => {
                depth -= 1;
                inside.retain(|(_, module_depth)| *module_depth <= depth);
            }
            _ => {}
        }
        let Some(name) = name_after_mod(tokens, idx) else { continue };
        match tokens.get(idx + 2) {
            Some(next) if next.is_open(Delimiter::Brace) => inside.push((name, depth + 1)),
            Some(next) if next.is_sign(';') => {
                let folder = folder_of(source.path, &inside);
                let candidates = [format!("{folder}{name}.rs"), format!("{folder}{name}/mod.rs")];
                if !candidates.iter().any(|path| program.files.contains_key(path)) {
                    let message = format!(
                        "`mod {name};` needs the file `{}`, which is not in the program; add it \
                         or write the module here",
                        candidates[0]
                    );
                    findings.push(source.finding("source/module", token.line, message));
                }
            }
            _ => {}
        }
    }
    findings
}

fn name_after_mod(tokens: &[Token], idx: usize) -> Option<&str> {
    tokens[idx].is_keyword("mod").then(|| tokens.get(idx + 1)?.word()).flatten()
}

/// Where the compiler looks for the modules of a file.
fn folder_of(path: &str, inside: &[(&str, usize)]) -> String {
    let (folder, file) = path.rsplit_once('/').map_or(("", path), |(folder, file)| (folder, file));
    let mut result = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    if file != "mod.rs" && path != "main.rs" {
        result += file.strip_suffix(".rs").unwrap_or(file);
        result.push('/');
    }
    for (module, _) in inside {
        result += module;
        result.push('/');
    }
    result
}
