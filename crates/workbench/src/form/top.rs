//! Names that a program of one file gives to its functions, constants and types.

use super::{
    scope::{Role, Scopes},
    tokens::{Kind, Token, is_keyword},
};
use proc_macro2::Delimiter;
use std::collections::{HashMap, HashSet};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    /// A function, constant or static: a value.
    Value,
    /// A struct with named fields, an enum, a trait, an alias: a type.
    Type,
    /// A struct without named fields: both.
    Both,
}

/// Names defined once, at the top, that mean nothing else anywhere in the file. What is defined at
/// the top goes before what `use …::*` brings. Words in `kept` are left out.
pub(super) fn names<'a>(
    tokens: &'a [Token],
    kept: &HashSet<String>,
    scopes: &Scopes<'_>,
) -> HashSet<&'a str> {
    if tokens.iter().any(|token| token.is_word("mod")) {
        return HashSet::new();
    }
    let mut items: HashMap<&str, Option<Item>> = HashMap::new();
    let mut depth = 0_usize;
    for (idx, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth = depth.saturating_sub(1),
            Kind::Word(word) => {
                let Some(item) = definition(tokens, idx) else { continue };
                let usual = match item {
                    Item::Value if tokens[idx - 1].is_word("fn") => is_small(word),
                    Item::Value => !word.contains(|c: char| c.is_ascii_lowercase()),
                    Item::Type | Item::Both => !is_small(word),
                };
                let own = depth == 0 && usual && word != "main" && !is_keyword(word);
                items
                    .entry(word)
                    .and_modify(|item| *item = None)
                    .or_insert_with(|| own.then_some(item));
            }
            _ => {}
        }
    }
    let mut names: HashSet<&str> = items
        .iter()
        .filter(|(word, item)| item.is_some() && !kept.contains(**word))
        .map(|(word, _)| *word)
        .collect();
    for (idx, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        if !names.contains(word) {
            continue;
        }
        let fits = match scopes.role(tokens, idx) {
            // `S { x }` names a field as well, whose it may be.
            Role::Field => !shorthand(tokens, idx),
            Role::Shorthand(_) => false,
            Role::Local(_) => true,
            Role::Kept => !is_rooted(tokens, idx),
            Role::Free if is_argument(tokens, idx) => false,
            Role::Free => match items.get(word).copied().flatten() {
                Some(Item::Value) => !is_path_head(tokens, idx),
                Some(Item::Type) => is_type(tokens, scopes, idx),
                Some(Item::Both) => true,
                None => false,
            },
        };
        if !fits {
            names.remove(word);
        }
    }
    names
}

fn is_small(word: &str) -> bool {
    word.starts_with(|c: char| c == '_' || c.is_ascii_lowercase())
}

/// What the word at `idx` is defined as, if it is being defined.
fn definition(tokens: &[Token], idx: usize) -> Option<Item> {
    let before = idx.checked_sub(1).and_then(|before| tokens[before].word())?;
    let before = match before {
        "mut" => idx.checked_sub(2).and_then(|before| tokens[before].word())?,
        before => before,
    };
    match before {
        "fn" | "static" => Some(Item::Value),
        "const" if tokens[idx].word().is_none_or(|word| !is_keyword(word)) => Some(Item::Value),
        "enum" | "trait" | "type" => Some(Item::Type),
        "struct" => {
            // A list of generics leaves it open; as a type alone it must prove more.
            let both = tokens
                .get(idx + 1)
                .is_some_and(|next| next.is_sign(';') || next.is_open(Delimiter::Parenthesis));
            Some(if both { Item::Both } else { Item::Type })
        }
        _ => None,
    }
}

fn shorthand(tokens: &[Token], idx: usize) -> bool {
    !tokens.get(idx + 1).is_some_and(|next| next.is_sign(':'))
}

fn is_path_head(tokens: &[Token], idx: usize) -> bool {
    tokens.get(idx + 1).is_some_and(|next| next.is_joint(':'))
        && !tokens.get(idx + 3).is_some_and(|next| next.is_sign('<'))
}

/// Whether the word stands in `crate::word`, where an import may be meant.
fn is_rooted(tokens: &[Token], idx: usize) -> bool {
    let root = idx.checked_sub(3).and_then(|root| tokens[root].word());
    idx > 0 && tokens[idx - 1].is_sign(':') && matches!(root, Some("crate" | "self" | "super"))
}

/// Whether the word may name something of a trait from outside: `Iterator<Item = X>`.
fn is_argument(tokens: &[Token], idx: usize) -> bool {
    let opens = idx > 0 && (tokens[idx - 1].is_sign('<') || tokens[idx - 1].is_sign(','));
    let joint = |next: &Token| next.is_joint('=') || next.is_joint(':');
    opens
        && tokens
            .get(idx + 1)
            .is_some_and(|next| (next.is_sign('=') || next.is_sign(':')) && !joint(next))
}

/// Whether only a type can stand at `idx`.
fn is_type(tokens: &[Token], scopes: &Scopes<'_>, idx: usize) -> bool {
    let next = tokens.get(idx + 1);
    let fields = next.is_some_and(|next| next.is_open(Delimiter::Brace))
        && scopes.role(tokens, idx + 1) == Role::Field;
    if fields || next.is_some_and(|next| next.is_joint(':')) {
        return true;
    }
    // `a < W >> 3` is no list of types.
    let ends = next.is_some_and(|next| next.is_sign('>') && !next.is_joint('>'));
    // References before the type.
    let mut start = idx;
    while start > 0
        && (tokens[start - 1].is_sign('&')
            || tokens[start - 1].is_word("mut")
            || tokens[start - 1].is_word("dyn")
            || matches!(tokens[start - 1].kind, Kind::Lifetime(_)))
    {
        start -= 1;
    }
    let Some(before) = start.checked_sub(1).map(|before| &tokens[before]) else { return false };
    let joint = |sign| start > 1 && tokens[start - 2].is_joint(sign);
    match &before.kind {
        Kind::Word(word) => {
            let word = word.as_str();
            matches!(word, "struct" | "enum" | "trait" | "type" | "impl" | "for" | "as")
        }
        Kind::Sign('>', _) => joint('-'),
        Kind::Sign('<', _) => ends,
        Kind::Sign(':', _) if !joint(':') => {
            start > 1 && scopes.role(tokens, start - 2) != Role::Field
        }
        _ => false,
    }
}
