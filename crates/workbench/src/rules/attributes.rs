//! Attributes: an allow list, because most of them change what the compiler does.

use super::{
    Source,
    tokens::{Kind, Token, path_at},
};
use forerunner_core::Finding;
use proc_macro2::Delimiter;

const ALLOWED: [&str; 15] = [
    "allow",
    "cold",
    "default",
    "deny",
    "deprecated",
    "derive",
    "doc",
    "expect",
    "forbid",
    "inline",
    "must_use",
    "non_exhaustive",
    "repr",
    "track_caller",
    "warn",
];
const DERIVES: [&str; 9] =
    ["Clone", "Copy", "Debug", "Default", "Eq", "Hash", "Ord", "PartialEq", "PartialOrd"];

/// Checks every `#[…]` and `#![…]`, within macros too.
pub(super) fn check(source: &Source<'_>) -> Vec<Finding> {
    let tokens = &source.tokens;
    let mut findings = Vec::new();
    for idx in 0..tokens.len() {
        let Some(name_idx) = attribute_at(tokens, idx) else { continue };
        let Some(path) = path_at(tokens, name_idx) else { continue };
        let name = path.words.join("::");
        let is_allowed = match path.words[..] {
            [name] => ALLOWED.contains(&name),
            // Without arguments, which nobody would check.
            ["rustfmt", "skip"] => {
                matches!(tokens.get(path.end).map(|token| &token.kind), Some(Kind::Close(_)))
            }
            _ => false,
        };
        if !is_allowed || path.leading {
            findings.push(source.finding("source/attribute", path.line, refuse(&name)));
        } else if path.words == ["derive"] {
            findings.extend(check_derives(source, path.end));
        }
    }
    findings
}

/// Where the name of the attribute stands that starts at `idx`, if one does.
pub(super) fn attribute_at(tokens: &[Token], idx: usize) -> Option<usize> {
    if !tokens[idx].is_sign('#') {
        return None;
    }
    let open = idx + 1 + usize::from(tokens.get(idx + 1)?.is_sign('!'));
    tokens.get(open)?.is_open(Delimiter::Bracket).then_some(open + 1)
}

fn refuse(name: &str) -> String {
    let why = match name {
        "cfg" | "cfg_attr" => "a program is compiled in one way only",
        "no_mangle" | "export_name" | "link" | "link_section" | "link_name" | "used" => {
            "a program must not replace or hook into symbols of the process"
        }
        "unsafe" => "programs are safe Rust",
        "path" => "modules are found by their names",
        "feature" => "programs are stable Rust",
        "global_allocator" => "the harness owns the allocator",
        "recursion_limit" | "type_length_limit" => "the compiler's limits are fixed",
        "test" | "bench" | "ignore" => "tests of a program are not compiled",
        _ => "attributes can change what is compiled and linked",
    };
    format!("`#[{name}]` is refused: {why}; remove it (allowed: {})", ALLOWED.join(", "))
}

fn check_derives(source: &Source<'_>, open: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut last: Option<(&str, usize)> = None;
    for token in source.tokens.iter().skip(open + 1) {
        match &token.kind {
            Kind::Word(word) => last = Some((word, token.line)),
            Kind::Close(_) | Kind::Sign(',') => {
                let refused = last.take().filter(|(name, _)| !DERIVES.contains(name));
                if let Some((name, line)) = refused {
                    let message = format!(
                        "`derive({name})` is refused: only the macros of `std` are there \
                         (allowed: {})",
                        DERIVES.join(", ")
                    );
                    findings.push(source.finding("source/attribute", line, message));
                }
                if matches!(token.kind, Kind::Close(_)) {
                    break;
                }
            }
            _ => {}
        }
    }
    findings
}
