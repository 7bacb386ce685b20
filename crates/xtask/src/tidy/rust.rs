//! Rules for Rust sources.

use super::{File, Finding, tokens};
use tokens::Token;

/// Longest file; beyond 300 lines a file is worth a discussion.
const MAX_LINES: usize = 600;

/// Where unsafe code may be, and why.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("crates/abi/", "the FFI surface"),
    ("crates/kernels/", "launching kernels on memory of devices"),
    ("crates/sandbox/", "system calls between fork and exec"),
    ("crates/sdk/src/lib.rs", "the macro that exports a plugin's header"),
    ("crates/train-ops/", "measured kernels"),
    ("crates/verify/src/cache.rs", "loading hooks that this host itself compiled"),
    ("environments/nanogpt/harness/", "measured kernels"),
    ("environments/nanogpt/src/kernel.rs", "the measured kernel that calibrates the clock"),
    ("environments/nanogpt/src/shard.rs", "mapping token shards into memory"),
    (RED_TEAM, "programs that must be refused"),
    ("tests/fixtures/strange-plugins/", "plugins of an interface that is not ours"),
];

/// Where unsafe code needs no reasons: programs that try to break out.
const HOSTILE: [&str; 2] = ["crates/sandbox/examples/hostile/", RED_TEAM];

/// Programs that are compiled by nobody but the workbench, which must refuse them.
const RED_TEAM: &str = "tests/redteam/";

pub(super) fn check(file: File<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let says_what_it_is = file.text.trim_start().starts_with("//!");
    // A file that others include cannot have inner documentation: a plain comment serves there.
    let is_fixture = file.path.starts_with("tests/fixtures/") && file.text.starts_with("// ");
    if !says_what_it_is && !is_fixture {
        let remedy = "start with `//!` and one sentence that says what the module owns";
        findings.push(file.finding("head", 1, "the module does not say what it is", remedy));
    }
    let n_lines = file.text.lines().count();
    // Programs are literature: one file, read from top to bottom.
    if n_lines > MAX_LINES && !file.path.contains("/programs/") {
        let message = format!("{n_lines} lines (at most {MAX_LINES})");
        let remedy = "split it by the nouns it owns";
        findings.push(file.finding("length", MAX_LINES + 1, message, remedy));
    }
    match tokens::read(file.text) {
        Ok(tokens) => {
            findings.extend(words(file, &tokens));
            findings.extend(unsafe_code(file, &tokens));
        }
        Err(error) => {
            findings.push(file.finding("syntax", 0, error.to_string(), "make it compile"));
        }
    }
    findings
}

/// Attributes and macros that are refused.
fn words(file: File<'_>, tokens: &[Token]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| &tokens[index].text);
        let after = tokens.get(index + 1).map_or("", |token| &token.text);
        let found = match &*token.text {
            "should_panic" if matches!(before, "[" | ",") => Some((
                "should-panic",
                "`should_panic` passes on any panic, also on a wrong one",
                "return an error and compare it, or catch the panic and compare its message",
            )),
            "ignore" if matches!(before, "[" | ",") && matches!(after, "]" | "=" | ")") => Some((
                "ignore",
                "an ignored test is no test",
                "assert today's wrong behaviour and explain it, or remove the test",
            )),
            "todo" | "unimplemented" if after == "!" => Some((
                "unfinished",
                "the code is not finished",
                "finish it, or answer an error that says what is missing",
            )),
            _ => None,
        };
        if let Some((rule, message, remedy)) = found {
            findings.push(file.finding(rule, token.line, message, remedy));
        }
    }
    findings
}

/// Unsafe code is in few places, and each states why it is sound.
fn unsafe_code(file: File<'_>, tokens: &[Token]) -> Vec<Finding> {
    let allowed = UNSAFE_ALLOWED.iter().any(|(path, _)| file.path.starts_with(path));
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "unsafe") {
        if !allowed {
            let message = "unsafe code outside the crates that may have it";
            let remedy = "use a safe interface, or move it to abi, sandbox or train-ops";
            findings.push(file.finding("unsafe", token.line, message, remedy));
        } else if !HOSTILE.iter().any(|hostile| file.path.starts_with(hostile))
            && !is_type(tokens, index)
            && !is_explained(&lines, token.line)
        {
            let message = "unsafe code that does not say why it is sound";
            let remedy = "write `// SAFETY:` above it, checkable from nearby code";
            findings.push(file.finding("safety", token.line, message, remedy));
        }
    }
    findings
}

/// Whether the word belongs to the type of a function pointer.
fn is_type(tokens: &[Token], index: usize) -> bool {
    let before = index.checked_sub(1).map_or("", |index| &tokens[index].text);
    let after = tokens.get(index + 1).map_or("", |token| &token.text);
    matches!(before, ":" | "=" | "<" | "(" | "," | ">") && matches!(after, "fn" | "extern")
}

/// Whether a comment with the reason is in the statement that `line` belongs to, or above it.
fn is_explained(lines: &[&str], line: usize) -> bool {
    // A reason further away than this is not nearby.
    const NEARBY: usize = 12;
    let marker = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    let this = line - 1;
    if lines.get(this).is_some_and(|text| marker(text)) {
        return true;
    }
    for text in lines[..this.min(lines.len())].iter().rev().take(NEARBY) {
        let text = text.trim();
        if text.starts_with("//") || text.starts_with("#[") {
            if marker(text) {
                return true;
            }
        } else if text.is_empty() || text.ends_with([';', '}', '{']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::assert_findings as check;

    #[test]
    fn modules_have_heads() {
        check("crates/a/src/b.rs", "//! Things.\n", &[]);
        check("crates/a/src/b.rs", "// Things.\n", &["head:1"]);
        check("crates/a/src/b.rs", "", &["head:1"]);
        check("tests/fixtures/a/b.rs", "// Included by two others.\n", &[]);
        check("tests/fixtures/a/b.rs", "use a::b;\n", &["head:1"]);
    }

    #[test]
    fn files_are_short_unless_they_are_programs() {
        let long = format!("//! Long.\n{}", "\n".repeat(600));
        check("crates/a/src/b.rs", &long, &["length:601"]);
        check("environments/a/programs/b.rs", &long, &[]);
        check("crates/a/src/b.rs", &format!("//! Long.\n{}", "\n".repeat(599)), &[]);
    }

    #[test]
    fn tests_that_cannot_fail_are_refused() {
        let attribute = |text: &str| format!("//! T.\n#[test]\n#[{text}]\nfn t() {{}}\n");
        check("a.rs", &attribute("should_panic"), &["should-panic:3"]);
        check("a.rs", &attribute("should_panic(expected = \"x\")"), &["should-panic:3"]);
        check("a.rs", &attribute("ignore"), &["ignore:3"]);
        check("a.rs", &attribute("ignore = \"slow\""), &["ignore:3"]);
        check("a.rs", &attribute("cfg_attr(unix, ignore)"), &["ignore:3"]);
        check("a.rs", "//! T.\n// #[ignore] should_panic\nfn ignore() {}\n", &[]);
    }

    #[test]
    fn unfinished_code_is_refused() {
        check("a.rs", "//! T.\nfn f() { todo!() }\n", &["unfinished:2"]);
        check("a.rs", "//! T.\nfn f() { unimplemented!(\"x\") }\n", &["unfinished:2"]);
        check("a.rs", "//! T.\nfn todo() -> &'static str { \"todo!()\" }\n", &[]);
    }

    #[test]
    fn unsafe_code_has_a_place_and_a_reason() {
        let bare = "//! T.\nfn f() { unsafe { g() } }\n";
        check("crates/core/src/a.rs", bare, &["unsafe:2"]);
        check("crates/abi/src/a.rs", bare, &["safety:2"]);
        check("crates/sandbox/examples/hostile/a.rs", bare, &[]);
        check("tests/redteam/a.rs", bare, &[]);
        check("tests/tests/e2e/a.rs", bare, &["unsafe:2"]);
        let good = "//! T.\n// SAFETY: g is sound.\nfn f() { unsafe { g() } }\n";
        check("crates/abi/src/a.rs", good, &[]);
        let within =
            "//! T.\nfn f() {\n    // SAFETY: sound.\n    let a =\n        unsafe { g() };\n}\n";
        check("crates/abi/src/a.rs", within, &[]);
        let stale = "//! T.\nfn f() {\n    // SAFETY: of a.\n    let a = unsafe { g() };\n    let b = unsafe { g() };\n}\n";
        check("crates/abi/src/a.rs", stale, &["safety:5"]);
        let declared = "//! T.\n/// # Safety\n/// Call once.\npub unsafe fn f() {}\n";
        check("crates/abi/src/a.rs", declared, &[]);
        check("crates/abi/src/a.rs", "//! T.\ntype F = unsafe extern \"C\" fn();\n", &[]);
        check("crates/core/src/a.rs", "//! T.\n#![forbid(unsafe_code)]\n// unsafe\n", &[]);
    }

    #[test]
    fn what_cannot_be_read_is_a_finding() {
        check("a.rs", "//! T.\nfn f() {\n", &["syntax:0"]);
    }
}
