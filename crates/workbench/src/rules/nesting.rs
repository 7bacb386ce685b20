//! How deep source may nest: parsers recurse, and a stack that overflows ends the process.

use super::{
    Source,
    tokens::{Kind, Token},
};
use forerunner_core::Finding;
use proc_macro2::Delimiter;

/// Deepest recursion of a parser, in tokens: brackets around a token plus the tokens before it
/// that it may hang below (`!!!!x`, `a + b + c`, `if … else if …`). Honest code stays below 200.
const MAX_DEPTH: usize = 1000;
/// Words after `}` that go on with the same expression.
const CONTINUES: [&str; 5] = ["else", "as", "in", "if", "where"];

/// The tokens at one level of brackets since something that ends an expression.
#[derive(Default)]
struct Run {
    length: usize,
    /// Whether a comma may stand between closure parameters or generics, and so end nothing.
    comma_may_nest: bool,
}

/// At most one finding: the first place that nests too deep.
pub(super) fn check(source: &Source<'_>) -> Option<Finding> {
    let tokens = &source.tokens;
    let mut outer: Vec<Run> = Vec::new();
    let mut run = Run::default();
    // Sum of the lengths of all runs in `outer`.
    let mut depth_outside = 0;
    for (idx, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Open(_) => {
                run.length += 1;
                depth_outside += run.length;
                outer.push(std::mem::take(&mut run));
            }
            Kind::Close(delimiter) => {
                run = outer.pop().unwrap_or_default();
                depth_outside -= run.length;
                if *delimiter == Delimiter::Brace && ends_expression(tokens.get(idx + 1)) {
                    run = Run::default();
                }
            }
            Kind::Sign(';') => run = Run::default(),
            Kind::Sign(',') if !run.comma_may_nest => run = Run::default(),
            kind => {
                run.length += 1;
                run.comma_may_nest |= matches!(kind, Kind::Sign('|' | '<'));
            }
        }
        if depth_outside + run.length > MAX_DEPTH {
            let message = "the source nests too deeply or has too long an expression to be \
                           parsed safely; give parts of it names with `let` or functions";
            return Some(source.finding("source/nesting", token.line, message));
        }
    }
    None
}

/// Whether what follows a `}` starts something new.
fn ends_expression(next: Option<&Token>) -> bool {
    match next.map(|token| &token.kind) {
        Some(Kind::Word(word)) => !CONTINUES.contains(&word.as_str()),
        Some(Kind::Literal(_) | Kind::Lifetime | Kind::Sign('#')) => true,
        _ => false,
    }
}
