//! Patterns by which safe Rust gets past the compiler's own checks.
//!
//! The compiler has known gaps (issues 25860, 57893, 84366, 84591 and 100051 of rust-lang/rust)
//! through which a program without `unsafe` keeps references to what is gone or turns any value into
//! any other, and so reads and writes all of its memory. What stands here are the parts without which
//! the known ways do not work. **Not a boundary**: there may be others, and nothing in a program's
//! process is believed.

use super::{
    Source,
    tokens::{Kind, Token},
};
use forerunner_core::Finding;
use proc_macro2::Delimiter;
use std::collections::HashSet;

const RULE: &str = "source/soundness";
const WHY: &str = "the compiler has a gap there, through which safe code reads and writes any \
                   memory";

/// Checks bounds, binders, function pointers and associated types.
pub(super) fn check(source: &Source<'_>) -> Vec<Finding> {
    let tokens = &source.tokens;
    let carriers = carriers(tokens);
    let mut findings = Vec::new();
    for (idx, token) in tokens.iter().enumerate() {
        let next = tokens.get(idx + 1);
        let found = if token.is_sign('?') && begins_bound(tokens, idx) {
            Some(format!(
                "`?Sized` is refused: {WHY}; leave it out, or take `&dyn Trait` where a type of \
                 unknown size is meant"
            ))
        } else if token.is_keyword("for")
            && next.is_some_and(|next| next.is_sign('<'))
            && tokens.get(idx + 2).is_some_and(|after| after.kind == Kind::Lifetime)
        {
            Some(format!(
                "`for<'a>` is refused: {WHY}; leave the lifetimes out, as in `Fn(&Tensor) -> \
                 f64`, which means the same"
            ))
        } else if token.is_keyword("fn")
            && next.is_some_and(|next| next.is_open(Delimiter::Parenthesis))
            && let Some(word) = carried(tokens, idx + 1, &carriers)
        {
            Some(format!(
                "a function pointer with {word} in its type is refused: {WHY}; take `impl \
                 Fn(..) -> ..`, keep a `Box<dyn Fn(..) -> ..>`, or choose with an enum and \
                 `match` (plain ones, like `fn(&Tensor) -> Result<Tensor>`, are fine)"
            ))
        } else if token.is_keyword("impl") && returned_type(tokens, idx) {
            Some(format!(
                "an associated type that is what a closure returns is refused: {WHY}; name the type \
                 that it returns, or call the closure where it is (`impl Fn() -> f64`)"
            ))
        } else {
            None
        };
        findings.extend(found.map(|message| source.finding(RULE, token.line, message)));
    }
    findings
}

/// Whether the `?` at `idx` takes a bound away; elsewhere it passes errors on.
fn begins_bound(tokens: &[Token], idx: usize) -> bool {
    let Some(before) = idx.checked_sub(1).map(|before| &tokens[before]) else { return false };
    before.is_sign(':') || before.is_sign('+') || matches!(before.kind, Kind::Open(_))
}

/// What carries a lifetime in the type of the function pointer whose arguments open at `open`.
fn carried(tokens: &[Token], open: usize, carriers: &HashSet<&str>) -> Option<String> {
    let (mut depth, mut angles) = (0_usize, 0_usize);
    // Whether an argument begins here, where a reference is plain.
    let mut begins = false;
    for (idx, token) in tokens.iter().enumerate().skip(open) {
        let arrow = idx.checked_sub(1).is_some_and(|before| tokens[before].is_sign('-'));
        let was_begin = std::mem::take(&mut begins);
        match &token.kind {
            Kind::Open(_) => {
                depth += 1;
                begins = depth == 1;
            }
            Kind::Close(_) if depth == 0 => return None,
            Kind::Close(_) => depth -= 1,
            Kind::Sign('<') => angles += 1,
            // The arrow of a return type.
            Kind::Sign('>') if arrow => {}
            Kind::Sign('>') if angles == 0 && depth == 0 => return None,
            Kind::Sign('>') => angles = angles.saturating_sub(1),
            Kind::Sign(',' | ';' | '=' | '+') if depth == 0 && angles == 0 => return None,
            Kind::Sign(',') => begins = depth == 1 && angles == 0,
            Kind::Sign('&') if !was_begin => return Some("`&` beyond a plain argument".to_owned()),
            Kind::Lifetime => return Some("a named lifetime".to_owned()),
            Kind::Word(word) if depth == 0 && angles == 0 && word == "where" => return None,
            Kind::Word(word) if word == "_" || carriers.contains(word.as_str()) => {
                return Some(format!("`{word}`"));
            }
            _ => {}
        }
        let next = tokens.get(idx + 1);
        let over = depth == 0
            && matches!(token.kind, Kind::Close(_))
            && angles == 0
            && !next
                .is_some_and(|next| next.is_sign('-') || next.is_path_sep() || next.is_sign('<'));
        if over {
            return None;
        }
    }
    None
}

/// Names that may stand for a type with a lifetime that is not written beside them: generic
/// parameters, `Self`, types with lifetimes among their parameters, and aliases of all these.
fn carriers(tokens: &[Token]) -> HashSet<&str> {
    let mut found = HashSet::from(["Self"]);
    let mut aliases: Vec<(&str, &[Token])> = Vec::new();
    for (idx, token) in tokens.iter().enumerate() {
        let Some(keyword) = token.word().filter(|_| !token.raw) else { continue };
        let name = tokens.get(idx + 1).and_then(Token::word);
        let generics = match (keyword, name) {
            ("impl", _) => idx + 1,
            ("fn" | "struct" | "enum" | "trait" | "type" | "union", Some(_)) => idx + 2,
            _ => continue,
        };
        found.extend(parameters(tokens, generics));
        match (keyword, name) {
            ("type", Some(name)) => aliases.push((name, definition(&tokens[idx + 2..]))),
            ("struct" | "enum" | "union", Some(name)) => {
                // Lifetimes come first among parameters.
                let is_borrowing = tokens.get(generics).is_some_and(|token| token.is_sign('<'))
                    && tokens.get(generics + 1).is_some_and(|token| token.kind == Kind::Lifetime);
                found.extend(is_borrowing.then_some(name));
            }
            _ => {}
        }
    }
    loop {
        let before = found.len();
        for (name, body) in &aliases {
            let carries = body.iter().any(|token| {
                token.is_sign('&')
                    || token.kind == Kind::Lifetime
                    || token.word().is_some_and(|word| found.contains(word))
            });
            if carries {
                found.insert(name);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The type parameters of `<…>` at `open`, if generics open there.
fn parameters(tokens: &[Token], open: usize) -> Vec<&str> {
    let mut found = Vec::new();
    if !tokens.get(open).is_some_and(|token| token.is_sign('<')) {
        return found;
    }
    let mut depth = 0_usize;
    for (idx, token) in tokens.iter().enumerate().skip(open) {
        let arrow = tokens[idx - 1].is_sign('-');
        match token.kind {
            Kind::Sign('<') => depth += 1,
            Kind::Sign('>') if !arrow => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        let begins = token.is_sign('<') || token.is_sign(',');
        let name = tokens.get(idx + 1).and_then(Token::word);
        found.extend(name.filter(|name| depth == 1 && begins && *name != "const"));
    }
    found
}

/// Whether the implementation at `idx` has an associated type with a parameter in it that a closure
/// returns.
fn returned_type(tokens: &[Token], idx: usize) -> bool {
    let generics = parameters(tokens, idx + 1);
    let Some(open) = tokens.iter().skip(idx).position(|token| token.is_open(Delimiter::Brace))
    else {
        return false;
    };
    let (head, body) = tokens[idx..].split_at(open);
    let mut returned: HashSet<&str> = HashSet::new();
    for at in (1..head.len()).filter(|&at| head[at].is_sign('>') && head[at - 1].is_sign('-')) {
        // The return type, and a little more: bounds that follow it name nothing else.
        let words =
            head[at..].iter().take_while(|token| !token.is_sign(',')).filter_map(Token::word);
        returned.extend(words.filter(|word| generics.contains(word)));
    }
    if returned.is_empty() {
        return false;
    }
    let body = definition(body);
    let carries = |at: usize| {
        let value = body[at..].iter().take_while(|token| !token.is_sign(';'));
        value.filter_map(Token::word).any(|word| returned.contains(word))
    };
    (0..body.len()).any(|at| body[at].is_keyword("type") && carries(at))
}

/// What belongs to a definition: up to `;`, or to the end of its first braces.
fn definition(tokens: &[Token]) -> &[Token] {
    let mut depth = 0_usize;
    for (idx, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(delimiter) => {
                depth = depth.saturating_sub(1);
                if depth == 0 && delimiter == Delimiter::Brace {
                    return &tokens[..idx];
                }
            }
            Kind::Sign(';') if depth == 0 => return &tokens[..idx],
            _ => {}
        }
    }
    tokens
}
