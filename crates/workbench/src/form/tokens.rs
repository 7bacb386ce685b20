//! A file as a flat list of tokens, without positions.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree, token_stream};
use std::str::FromStr;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// For brackets: where the partner stands, as long as the list is as it was read.
    pub(super) partner: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, keywords included, with `r#` where it stands.
    Word(String),
    /// `'a`, without the sign.
    Lifetime(String),
    /// A sign, and whether it is glued to the next one, as `&` in `&&`.
    Sign(char, bool),
    /// A number, text or character, as written.
    Literal(String),
    /// An opening bracket.
    Open(Delimiter),
    /// A closing bracket.
    Close(Delimiter),
    /// What neighbouring `use` items bring, sorted.
    Imports(Vec<String>),
}

impl Token {
    /// A token that is no bracket.
    pub(super) fn plain(kind: Kind) -> Self {
        Self { kind, partner: 0 }
    }

    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    /// Whether it is this sign, glued to the next or not.
    pub(super) fn is_sign(&self, sign: char) -> bool {
        matches!(self.kind, Kind::Sign(this, _) if this == sign)
    }

    /// Whether it is this sign and glued to the next.
    pub(super) fn is_joint(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign, true)
    }

    pub(super) fn is_open(&self, delimiter: Delimiter) -> bool {
        self.kind == Kind::Open(delimiter)
    }

    pub(super) fn is_close(&self) -> bool {
        matches!(self.kind, Kind::Close(_))
    }
}

/// Whether `word` is a keyword, now or at some place: no item or variable can be called so, or it is
/// special in some places.
pub(super) fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "Self"
            | "_"
            | "abstract"
            | "as"
            | "async"
            | "auto"
            | "await"
            | "become"
            | "box"
            | "break"
            | "const"
            | "continue"
            | "crate"
            | "default"
            | "do"
            | "dyn"
            | "else"
            | "enum"
            | "extern"
            | "false"
            | "final"
            | "fn"
            | "for"
            | "gen"
            | "if"
            | "impl"
            | "in"
            | "let"
            | "loop"
            | "match"
            | "mod"
            | "move"
            | "mut"
            | "pub"
            | "raw"
            | "ref"
            | "return"
            | "safe"
            | "self"
            | "static"
            | "struct"
            | "super"
            | "trait"
            | "true"
            | "try"
            | "type"
            | "union"
            | "unsafe"
            | "use"
            | "where"
            | "while"
            | "yield"
            | "macro_rules"
    )
}

/// Pairs of signs that mean something else than the two apart.
fn is_pair(first: char, second: char) -> bool {
    const PAIRS: [&str; 21] = [
        "&&", "||", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "%=", "^=", "&=", "|=", "<<",
        ">>", "->", "=>", "::", "..", ".=",
    ];
    PAIRS.iter().any(|pair| pair.chars().eq([first, second]))
}

/// Reads `text`; `None` when it is not made of Rust tokens. Without recursion, because brackets may
/// nest as deep as the file is long.
pub(super) fn read(text: &str) -> Option<Vec<Token>> {
    let stream = TokenStream::from_str(text).ok()?;
    let mut tokens: Vec<Token> = Vec::with_capacity(text.len() / 4);
    let mut open: Vec<(token_stream::IntoIter, Delimiter, usize)> = Vec::new();
    let mut rest = stream.into_iter();
    // Whether the sign before touches what follows.
    let mut touching = false;
    loop {
        let Some(tree) = rest.next() else {
            let Some((outer, delimiter, partner)) = open.pop() else { return Some(tokens) };
            tokens[partner].partner = tokens.len();
            tokens.push(Token { kind: Kind::Close(delimiter), partner });
            rest = outer;
            continue;
        };
        let touched = std::mem::take(&mut touching);
        let kind = match tree {
            TokenTree::Group(group) => {
                let delimiter = group.delimiter();
                let inner = group.stream().into_iter();
                open.push((std::mem::replace(&mut rest, inner), delimiter, tokens.len()));
                Kind::Open(delimiter)
            }
            TokenTree::Ident(ident) => {
                if touched && tokens.last().is_some_and(|before| before.is_sign('\'')) {
                    tokens.pop();
                    Kind::Lifetime(ident.to_string())
                } else {
                    Kind::Word(ident.to_string())
                }
            }
            TokenTree::Punct(sign) => {
                if let Some(Kind::Sign(before, joint)) =
                    tokens.last_mut().map(|token| &mut token.kind)
                {
                    *joint = touched && is_pair(*before, sign.as_char());
                }
                touching = sign.spacing() == Spacing::Joint;
                Kind::Sign(sign.as_char(), false)
            }
            TokenTree::Literal(literal) => Kind::Literal(literal.to_string()),
        };
        tokens.push(Token::plain(kind));
    }
}

/// What a literal says, if it is a text: escapes are resolved, because a name may hide in them.
pub(super) fn text_of(literal: &str) -> String {
    let is_text = literal.ends_with(['"', '#']);
    if !is_text || !literal.contains('\\') {
        return if is_text { literal.to_owned() } else { String::new() };
    }
    match syn::parse_str::<syn::Lit>(literal) {
        // As written as well: `concat` of both can only keep more names.
        Ok(syn::Lit::Str(text)) => format!("{literal} {}", text.value()),
        _ => literal.to_owned(),
    }
}

/// The tokens between the brackets of the attribute whose `[` stands at `idx`.
pub(super) fn attribute_at(tokens: &[Token], idx: usize) -> Option<&[Token]> {
    if !tokens[idx].is_open(Delimiter::Bracket) || idx == 0 {
        return None;
    }
    let outer = tokens[idx - 1].is_sign('#');
    let inner = idx > 1 && tokens[idx - 1].is_sign('!') && tokens[idx - 2].is_sign('#');
    (outer || inner).then(|| tokens.get(idx + 1..tokens[idx].partner)).flatten()
}

/// Whether the literal at `idx` may be the place of a part of a tuple: `x.0`, `x.0.1`.
pub(super) fn is_tuple_index(tokens: &[Token], idx: usize) -> bool {
    idx > 0 && tokens[idx - 1].is_sign('.') && !(idx > 1 && tokens[idx - 2].is_joint('.'))
}

/// The tokens without doc comments and commas that nothing follows.
pub(super) fn without_decoration(tokens: &[Token]) -> Vec<Token> {
    let mut plain: Vec<Token> = Vec::with_capacity(tokens.len());
    // Places of opening brackets in `plain`, and whether a comma stands between them.
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut idx = 0;
    while let Some(token) = tokens.get(idx) {
        if let Some(after) = doc_comment(tokens, idx) {
            idx = after;
            continue;
        }
        idx += 1;
        let mut token = token.clone();
        match &token.kind {
            Kind::Open(_) => open.push((plain.len(), false)),
            Kind::Close(_) => token.partner = open.pop().map_or(0, |(start, _)| start),
            Kind::Sign(',', _) => {
                let after = skip_doc_comments(tokens, idx);
                let ends =
                    tokens.get(after).is_some_and(|next| next.is_close() || next.is_sign('>'));
                if ends
                    && open.last().is_none_or(|(start, more)| *more || !is_tuple(&plain, *start))
                {
                    continue;
                }
                if let Some((_, comma)) = open.last_mut() {
                    *comma = true;
                }
            }
            _ => {}
        }
        if token.is_close() {
            let place = plain.len();
            plain[token.partner].partner = place;
        }
        plain.push(token);
    }
    plain
}

/// Whether the bracket at `start` may make a tuple, in which `(x,)` is something else than `(x)`.
fn is_tuple(tokens: &[Token], start: usize) -> bool {
    let called = start
        .checked_sub(1)
        .and_then(|before| tokens[before].word())
        .is_some_and(|word| !is_keyword(word));
    tokens[start].is_open(Delimiter::Parenthesis) && !called
}

fn skip_doc_comments(tokens: &[Token], mut idx: usize) -> usize {
    while let Some(after) = doc_comment(tokens, idx) {
        idx = after;
    }
    idx
}

/// Where a doc comment that starts at `idx` ends. One that nothing follows is an error to the
/// compiler, and stays.
fn doc_comment(tokens: &[Token], idx: usize) -> Option<usize> {
    let inner = tokens.get(idx + 1).is_some_and(|next| next.is_sign('!'));
    let open = idx + 1 + usize::from(inner);
    if !tokens[idx..].first()?.is_sign('#') {
        return None;
    }
    let [name, equals, text, close] = tokens.get(open + 1..open + 5)? else { return None };
    let is_doc = tokens[open].is_open(Delimiter::Bracket)
        && name.is_word("doc")
        && equals.is_sign('=')
        && matches!(text.kind, Kind::Literal(_))
        && close.is_close();
    let followed = tokens.get(open + 5).is_some_and(|next| !next.is_close());
    (is_doc && (inner || followed)).then_some(open + 5)
}

/// The sign of an opening bracket.
pub(super) fn open(delimiter: Delimiter) -> char {
    match delimiter {
        Delimiter::Parenthesis => '(',
        Delimiter::Brace => '{',
        Delimiter::Bracket => '[',
        Delimiter::None => ' ',
    }
}

/// The sign of a closing bracket.
pub(super) fn close(delimiter: Delimiter) -> char {
    match delimiter {
        Delimiter::Parenthesis => ')',
        Delimiter::Brace => '}',
        Delimiter::Bracket => ']',
        Delimiter::None => ' ',
    }
}
