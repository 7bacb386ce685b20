//! Which parts of `std` a program may use, by whatever road it reaches them.

use super::{Rules, Source, imports, macros, names::Names, tokens::path_at};
use forerunner_core::Finding;

/// Modules that compute and nothing else: no machine, no clock, no shared state.
const OPEN: [&str; 41] = [
    "array",
    "ascii",
    "borrow",
    "boxed",
    "cell",
    "char",
    "clone",
    "cmp",
    "collections",
    "convert",
    "default",
    "error",
    "f32",
    "f64",
    "fmt",
    "i128",
    "i16",
    "i32",
    "i64",
    "i8",
    "isize",
    "iter",
    "marker",
    "num",
    "ops",
    "option",
    "primitive",
    "rc",
    "result",
    "slice",
    "str",
    "string",
    "u128",
    "u16",
    "u32",
    "u64",
    "u8",
    "usize",
    "vec",
    "bool",
    "range",
];
/// Modules of which only some items are harmless.
const PARTIAL: [(&str, &[&str]); 4] = [
    ("hash", &["BuildHasher", "BuildHasherDefault", "DefaultHasher", "Hash", "Hasher"]),
    ("mem", &["discriminant", "drop", "replace", "size_of", "size_of_val", "swap", "take"]),
    // The return type of `main`.
    ("process", &["ExitCode", "Termination"]),
    ("sync", &["Arc", "Weak"]),
];

/// What is thought of a path below `std`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be used.
    Open,
    /// The module may be named, but only these items of it may be used.
    Partial(&'static [&'static str]),
    /// It may not be used, and this is why.
    Refused(&'static str),
}

/// Whether a path that starts with `word` leads into the standard library.
pub(super) fn is_root(word: &str) -> bool {
    matches!(word, "std" | "core" | "alloc")
}

/// Judges the words after `std`.
pub(super) fn judge(rules: &Rules, words: &[&str]) -> Verdict {
    let is_extra = rules.std_paths.iter().any(|extra| {
        let extra: Vec<&str> = extra.split("::").skip(1).collect();
        !extra.is_empty() && words.starts_with(&extra)
    });
    let Some(module) = words.first() else {
        return Verdict::Refused("the standard library takes no other name; name what you need");
    };
    if is_extra || OPEN.contains(module) {
        return Verdict::Open;
    }
    match (PARTIAL.iter().find(|(name, _)| name == module), words.get(1)) {
        (Some((_, allowed)), None) => Verdict::Partial(allowed),
        (Some((_, allowed)), Some(item)) if allowed.contains(item) => Verdict::Open,
        _ => Verdict::Refused(why(module, words.get(1).copied().unwrap_or_default())),
    }
}

fn why(module: &str, item: &str) -> &'static str {
    match (module, item) {
        ("fs" | "path" | "io" | "net" | "os", _) => {
            "a program reads and writes nothing itself, so that its score can only come from \
             training; data comes from the harness, and `eprintln!` writes messages"
        }
        ("env", _) => "a program is the same wherever it runs; write settings as constants",
        ("process", _) => {
            "a program starts and stops nothing; return from `main`, with an error if need be"
        }
        ("thread", _) => {
            "the clock counts the work of all threads, and none may go on after training; the \
             harness's operations use what threads there are"
        }
        ("time", _) => "the clock is outside the program; count steps or tokens instead",
        ("sync", _) => {
            "state that is shared beyond a call could carry answers from one batch to the next; \
             keep it in a struct that you pass along (allowed: Arc, Weak)"
        }
        ("mem", _) => {
            "only what moves values is needed (allowed: discriminant, drop, replace, size_of, \
             size_of_val, swap, take)"
        }
        ("hash", _) => {
            "randomness comes from the harness, so that the same seed gives the same run \
             (allowed: BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher)"
        }
        ("random", _) => "randomness comes from the harness, so that a seed repeats a run",
        ("ptr" | "alloc" | "ffi" | "arch" | "intrinsics" | "simd", _) => {
            "programs are safe Rust without raw memory; use slices and the harness's operations"
        }
        ("any", _) => "a program names its types; use an enum or a trait instead",
        ("panic" | "backtrace", _) => {
            "a panic ends the program, and a failed run counts; return an error instead"
        }
        ("prelude", _) => "it is imported already; remove this line",
        _ => "only parts of `std` that compute and nothing else are open; write it yourself",
    }
}

/// Checks every path that leads into `std`, except in `use`.
pub(super) fn check(rules: &Rules, source: &Source<'_>, names: &Names) -> Vec<Finding> {
    let tokens = &source.tokens;
    let mut findings = Vec::new();
    let mut idx = 0;
    while idx < tokens.len() {
        if let Some(end) = imports::declaration_at(tokens, idx) {
            idx = end;
            continue;
        }
        let Some(path) = path_at(tokens, idx) else {
            idx += 1;
            continue;
        };
        // `<T>::name` goes on; it does not start with a crate. `a >::std::x` does, and is judged.
        let goes_on = path.leading && idx > 0 && tokens[idx - 1].is_sign('>');
        idx = path.end;
        if path.words.len() < 2 && !path.leading {
            continue;
        }
        let leading = path.leading && !goes_on;
        let is_known = is_root(path.words[0]) || rules.crates.iter().any(|c| c == path.words[0]);
        let called = tokens.get(path.end).is_some_and(|token| token.is_sign('!'));
        if let Some(why) = judge_path(rules, names, leading, &path.words, called) {
            let message = format!("`{}` is refused: {why}", path.words.join("::"));
            findings.push(source.finding("source/std", path.line, message));
        } else if leading && !is_known {
            let message = format!(
                "`::{}` is not there: a program is compiled against {} and `std` alone",
                path.words.join("::"),
                imports::list(&rules.crates)
            );
            findings.push(source.finding("source/crate", path.line, message));
        }
    }
    findings
}

fn judge_path(
    rules: &Rules,
    names: &Names,
    leading: bool,
    words: &[&str],
    called: bool,
) -> Option<&'static str> {
    let judged = if is_root(words[0]) {
        // `std::format!` is judged as a macro.
        if called && words.len() == 2 && macros::is_allowed(words[1]) {
            return None;
        }
        judge(rules, &words[1..])
    } else if leading {
        return None;
    } else {
        // After `use std::mem;`, `mem::…` is `std::mem::…` wherever it stands in a path.
        let module = words.iter().position(|word| names.std_modules.contains(*word))?;
        judge(rules, &words[module..])
    };
    match judged {
        Verdict::Open => None,
        Verdict::Refused(why) => Some(why),
        Verdict::Partial(_) if words.len() == 1 || !is_root(words[0]) => None,
        Verdict::Partial(_) => Some("this is a module; name what you need of it"),
    }
}
