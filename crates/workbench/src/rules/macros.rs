//! Macros: an allow list, because they read files, print, or unfold without bound.

use super::{
    Rules, Source,
    tokens::{Kind, is_keyword, path_at},
};
use forerunner_core::Finding;

const ALLOWED: [&str; 14] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "eprint",
    "eprintln",
    "format",
    "matches",
    "panic",
    "unreachable",
    "vec",
    "write",
];

/// Checks every `name!(…)`.
pub(super) fn check(rules: &Rules, source: &Source<'_>) -> Vec<Finding> {
    let tokens = &source.tokens;
    let mut findings = Vec::new();
    let mut idx = 0;
    while idx < tokens.len() {
        let Some(path) = path_at(tokens, idx) else {
            idx += 1;
            continue;
        };
        idx = path.end;
        let called = tokens.get(idx).is_some_and(|token| token.is_sign('!'));
        // `a != b` and `return !(a)` are no macros; `macro_rules! name` is.
        let name = *path.words.last().unwrap_or(&"");
        let opens = matches!(tokens.get(idx + 1).map(|t| &t.kind), Some(Kind::Open(_)));
        if !called
            || (is_keyword(name) && path.words.len() == 1)
            || !(opens || name == "macro_rules")
        {
            continue;
        }
        let own = path.words.len() == 1;
        let from_std = path.words.len() == 2 && matches!(path.words[0], "std" | "core");
        let from_crate = rules.crates.iter().any(|name| name == path.words[0]);
        let plain = is_allowed(name) && (own || from_std);
        let extra = rules.macros.iter().any(|extra| extra == name) && (own || from_crate);
        if !plain && !extra {
            findings.push(source.finding("source/macro", path.line, refuse(rules, name)));
        }
    }
    findings
}

/// Whether a macro of `std` is harmless.
pub(super) fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&name) || name == "writeln"
}

fn refuse(rules: &Rules, name: &str) -> String {
    let why = match name {
        "include" | "include_str" | "include_bytes" => {
            "a program brings no files along; data comes from the harness"
        }
        "env" | "option_env" => "a program does not see the machine it is compiled on",
        "print" | "println" => {
            "standard output is the harness's channel; use `eprintln!` or the harness's recorder"
        }
        "dbg" => "use `eprintln!`",
        "todo" | "unimplemented" => "an unfinished program is not worth measuring; finish it",
        "macro_rules" => "macros hide code from readers and rules; write a function",
        "thread_local" => {
            "state that outlives a call is refused; keep it in a struct that you pass along"
        }
        "asm" | "global_asm" | "naked_asm" => "programs are safe Rust",
        "cfg" => "a program is compiled in one way only",
        "stringify" | "concat" => "text is written as a literal",
        "file" | "line" | "column" | "module_path" => "a program does not depend on its own text",
        _ => "only macros that are known to be harmless may be used",
    };
    let extra: String = rules.macros.iter().map(|name| format!(", {name}")).collect();
    format!("`{name}!` is refused: {why} (allowed: {}, writeln{extra})", ALLOWED.join(", "))
}
