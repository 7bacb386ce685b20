//! Source rules: what has no place in a program, found before anything is compiled.
//!
//! The rules work on tokens, so that they see into the arguments of macros as well; only
//! definitions of macros could hide more, and those are refused.

mod attributes;
mod imports;
mod literals;
mod macros;
mod modules;
mod names;
mod nesting;
mod soundness;
mod std_paths;
mod text;
mod tokens;

use forerunner_core::{Finding, Program};
use names::Names;
use tokens::Token;

/// Stack of the thread that parses. [`nesting`] bounds how deep a parser can recurse; this is
/// several times what that takes in an unoptimised build. The system hands out pages as used.
const STACK_BYTES: usize = 128 << 20;
/// Most findings passed on; a program with more is not worth listing in full.
const MAX_FINDINGS: usize = 20;

/// What an environment lets a program's source say.
///
/// The default is a program that may use `harness`, the harmless part of `std`, and little data.
///
/// **Not checked**: types. A rule that names `Tensor::rand` knows only names, and a rule that
/// keeps `std::fs` away cannot see a function of the harness that opens files. What must not
/// happen is made impossible by the sandbox and by keeping data out of the process; the rules
/// save the time of finding out, and say why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Largest program in bytes, all files together.
    pub max_bytes: usize,
    /// Crates that a program may use besides `std`, for example `harness`.
    pub crates: Vec<String>,
    /// Macros that a program may use besides the harmless ones of `std`, by their last name.
    pub macros: Vec<String>,
    /// Paths of `std` that a program may use besides the harmless ones, for example
    /// `std::thread`.
    pub std_paths: Vec<String>,
    /// Names that a program must not use, because there is a rule against what they do.
    pub refused: Vec<Refused>,
    /// Most bytes of information in literals: text, digits, long lists, names that `Debug`
    /// prints. Keeps learned tables and copies of the data out of the source.
    pub max_literal_bytes: usize,
}

/// A name that a program must not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One word (`storage_and_layout`): that word anywhere in the source, own functions
    /// included. Two words (`Tensor::rand`): that function of any type but the program's own.
    pub name: String,
    /// Why, and what to do instead.
    pub why: String,
}

impl Refused {
    /// Refuses `name` because of `why`, which also says what to do instead.
    pub fn new(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), why: why.into() }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            // Three times a long program of 800 lines.
            max_bytes: 96 << 10,
            crates: vec!["harness".to_owned()],
            macros: Vec::new(),
            std_paths: Vec::new(),
            refused: Vec::new(),
            // Honest programs of 600 lines stay below a half of it.
            max_literal_bytes: 4096,
        }
    }
}

/// One file, read into tokens.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
    tokens: Vec<Token>,
}

impl Source<'_> {
    /// An error at a line of this file.
    fn finding(&self, rule: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding::error(rule, message).at(format!("{}:{line}", self.path))
    }
}

impl Rules {
    /// Everything in `program` that breaks a rule, with `file:line`; empty when nothing does.
    pub fn check(&self, program: &Program) -> Vec<Finding> {
        let mut findings = crate::files::check_files(program);
        findings.extend(text::check(self, program));
        if !findings.is_empty() {
            return shorten(findings);
        }
        let checked = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("source-rules".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || self.check_syntax(program))
                .map(|thread| thread.join())
        });
        findings.extend(match checked {
            Ok(Ok(found)) => found,
            // The parser is not ours, and the program is not trusted.
            Ok(Err(_)) => vec![Finding::error(
                "source/parse",
                "the program makes our parser panic; write it more plainly",
            )],
            Err(error) => vec![Finding::error(
                "source/parse",
                format!("no thread could be started to parse the program: {error}"),
            )],
        });
        shorten(findings)
    }

    fn check_syntax(&self, program: &Program) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut sources = Vec::new();
        for (path, text) in &program.files {
            match tokens::read(text) {
                Ok(tokens) => sources.push(Source { path, text, tokens }),
                Err((line, why)) => findings.push(parse_error(path, line, &why)),
            }
        }
        findings.extend(sources.iter().filter_map(nesting::check));
        if !findings.is_empty() {
            return findings;
        }
        let names = Names::collect(self, &sources);
        let mut syntax = Vec::new();
        for source in &sources {
            match syn::parse_file(source.text) {
                Ok(file) => syntax.push((source, file)),
                Err(error) => {
                    let line = error.span().start().line;
                    findings.push(parse_error(source.path, line, &error.to_string()));
                }
            }
            findings.extend(attributes::check(source));
            findings.extend(macros::check(self, source));
            findings.extend(imports::check(self, source, &names));
            findings.extend(std_paths::check(self, source, &names));
            findings.extend(names::check(self, source, &names));
            findings.extend(soundness::check(source));
            findings.extend(modules::check(program, source));
        }
        findings.extend(literals::check(self, &syntax));
        findings
    }
}

fn parse_error(path: &str, line: usize, why: &str) -> Finding {
    let message = format!("this is not Rust: {why}");
    Finding::error("source/parse", message).at(format!("{path}:{line}"))
}

/// In order of place, without repetitions, capped.
fn shorten(mut findings: Vec<Finding>) -> Vec<Finding> {
    let line = |finding: &Finding| {
        let place = finding.place.as_deref().unwrap_or_default();
        let (path, line) = place.rsplit_once(':').unwrap_or((place, ""));
        (path.to_owned(), line.parse().unwrap_or(0_usize))
    };
    findings.sort_by_cached_key(line);
    let mut shown: Vec<Finding> = Vec::new();
    for finding in findings {
        if !shown.contains(&finding) {
            shown.push(finding);
        }
    }
    let n_more = shown.len().saturating_sub(MAX_FINDINGS);
    if n_more > 0 {
        shown.truncate(MAX_FINDINGS);
        shown.push(Finding::error("source/more", format!("{n_more} more findings like these")));
    }
    shown
}

#[cfg(test)]
mod tests;
