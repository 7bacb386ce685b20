//! What single tokens tell about the source around them.

use super::super::tokens::{Kind, Token, is_keyword};
use proc_macro2::Delimiter;
use std::collections::HashSet;

/// Longest list of generics of a function that is looked through, in tokens.
const MAX_GENERICS: usize = 256;

/// Words that a pattern compares with instead of binding them: constants, and variants of enums,
/// which an import may bring without their enum.
pub(super) fn constants(tokens: &[Token]) -> HashSet<&str> {
    let mut constants = HashSet::new();
    let mut enum_ahead = false;
    let mut variants_until = 0;
    for (idx, token) in tokens.iter().enumerate() {
        let before = |distance: usize| idx.checked_sub(distance).and_then(|at| tokens[at].word());
        match &token.kind {
            Kind::Word(word) => {
                enum_ahead |= word == "enum";
                let named = match before(1) {
                    Some("const" | "static" | "struct") => true,
                    Some("mut") => before(2) == Some("static"),
                    _ => false,
                };
                if named || idx < variants_until {
                    constants.insert(word.as_str());
                }
            }
            Kind::Open(Delimiter::Brace) if std::mem::take(&mut enum_ahead) => {
                variants_until = variants_until.max(token.partner);
            }
            _ => {}
        }
    }
    constants
}

/// Whether an expression may end with this token, so that a `|` after it is an operator.
pub(super) fn ends_operand(token: &Token) -> bool {
    match &token.kind {
        Kind::Word(word) => {
            !is_keyword(word)
                || matches!(word.as_str(), "self" | "Self" | "true" | "false" | "await")
        }
        Kind::Literal(_) | Kind::Close(_) | Kind::Lifetime(_) => true,
        Kind::Sign(sign, _) => matches!(sign, '?' | '>' | '.'),
        Kind::Open(_) | Kind::Imports(_) => false,
    }
}

/// Whether an item may start after this token.
pub(super) fn starts_item(token: &Token) -> bool {
    match &token.kind {
        Kind::Sign(sign, _) => *sign == ';',
        Kind::Open(Delimiter::Brace) | Kind::Close(_) | Kind::Imports(_) => true,
        _ => token.is_word("unsafe") || token.is_word("default"),
    }
}

/// Where the parameters of a function stand, from the token after its name.
pub(super) fn parameters(tokens: &[Token], start: usize) -> Option<usize> {
    let mut angle = 0_usize;
    let mut idx = start;
    for _ in 0..MAX_GENERICS {
        let token = tokens.get(idx)?;
        match &token.kind {
            Kind::Open(Delimiter::Parenthesis) if angle == 0 => return Some(idx),
            Kind::Open(_) => idx = token.partner,
            Kind::Sign('<', _) => angle += 1,
            Kind::Sign('>', _) if !tokens[idx - 1].is_joint('-') => {
                angle = angle.checked_sub(1)?;
            }
            _ if angle == 0 => return None,
            _ => {}
        }
        idx += 1;
    }
    None
}
