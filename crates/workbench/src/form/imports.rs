//! `use` items, whose order does not matter among neighbours.

use super::tokens::{Kind, Token};
use proc_macro2::Delimiter;

/// Most bytes that an import may unfold into: a long path before a large group would unfold into
/// their product. Somewhat arbitrary; honest imports stay below a hundredth of it.
const MAX_UNFOLDED_BYTES: usize = 1 << 16;

/// The tokens with every run of neighbouring plain `use` items replaced by what they bring, in
/// order. Items with a visibility or attributes stay as they are.
pub(super) fn sorted(tokens: Vec<Token>) -> Vec<Token> {
    let mut result: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut open: Vec<usize> = Vec::new();
    let mut idx = 0;
    while idx < tokens.len() {
        if let Some((paths, after)) = item(&tokens, idx) {
            match result.last_mut().map(|token| &mut token.kind) {
                Some(Kind::Imports(before)) => before.extend(paths),
                _ => result.push(Token::plain(Kind::Imports(paths))),
            }
            idx = after;
            continue;
        }
        let mut token = tokens[idx].clone();
        idx += 1;
        match token.kind {
            Kind::Open(_) => open.push(result.len()),
            Kind::Close(_) => {
                token.partner = open.pop().unwrap_or(0);
                let place = result.len();
                result[token.partner].partner = place;
            }
            _ => {}
        }
        result.push(token);
    }
    for token in &mut result {
        if let Kind::Imports(paths) = &mut token.kind {
            paths.sort_unstable();
        }
    }
    result
}

/// The paths of the `use` item that starts at `start`, and where it ends.
fn item(tokens: &[Token], start: usize) -> Option<(Vec<String>, usize)> {
    if !tokens[start].is_word("use") {
        return None;
    }
    let begins = start.checked_sub(1).is_none_or(|before| {
        let before = &tokens[before];
        before.is_sign(';')
            || before.is_open(Delimiter::Brace)
            || before.kind == Kind::Close(Delimiter::Brace)
    });
    if !begins {
        return None;
    }
    let mut paths = Vec::new();
    let mut bytes = 0;
    let mut path = String::new();
    // How long the path was before each group that is open.
    let mut groups: Vec<usize> = Vec::new();
    let mut finish = |path: &mut String, keep: usize| {
        bytes += path.len();
        if path.len() > keep {
            paths.push(path.clone());
            path.truncate(keep);
        }
        bytes <= MAX_UNFOLDED_BYTES
    };
    for (idx, token) in tokens.iter().enumerate().skip(start + 1) {
        let keep = groups.last().copied().unwrap_or(0);
        match &token.kind {
            Kind::Word(word) if word == "as" => path.push_str(" as "),
            Kind::Word(word) => path.push_str(word),
            Kind::Sign(':', _) => path.push(':'),
            Kind::Sign('*', _) => path.push('*'),
            Kind::Open(Delimiter::Brace) => groups.push(path.len()),
            Kind::Sign(',', _) => {
                if !finish(&mut path, keep) {
                    return None;
                }
            }
            Kind::Close(Delimiter::Brace) => {
                if !finish(&mut path, keep) {
                    return None;
                }
                groups.pop()?;
                // The group's own path is complete with it.
                path.truncate(groups.last().copied().unwrap_or(0));
            }
            Kind::Sign(';', _) if groups.is_empty() => {
                finish(&mut path, 0);
                return Some((paths, idx + 1));
            }
            _ => return None,
        }
        if path.len() > MAX_UNFOLDED_BYTES {
            return None;
        }
    }
    None
}
