//! A file as a flat list of tokens with lines.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree, token_stream};
use std::str::FromStr;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// Whether it is a word with `r#`, which is never a keyword.
    pub(super) raw: bool,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, keywords included, without `r#`.
    Word(String),
    /// `'a`, without the sign.
    Lifetime,
    /// `::`
    PathSep,
    /// Any other sign.
    Sign(char),
    /// A number, text or character, as written.
    Literal(String),
    /// An opening bracket.
    Open(Delimiter),
    /// A closing bracket.
    Close(Delimiter),
}

impl Token {
    /// The word, if this is one.
    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        !self.raw && self.is_word(keyword)
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    pub(super) fn is_path_sep(&self) -> bool {
        self.kind == Kind::PathSep
    }

    pub(super) fn is_open(&self, delimiter: Delimiter) -> bool {
        self.kind == Kind::Open(delimiter)
    }
}

/// Words that may stand before `!` and an expression, and so are no names of macros.
const KEYWORDS: [&str; 36] = [
    "as", "async", "await", "break", "const", "continue", "do", "dyn", "else", "enum", "extern",
    "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub",
    "ref", "return", "static", "struct", "trait", "true", "type", "unsafe", "use", "where",
    "while", "yield",
];

/// Whether `word` is a keyword other than the roots of paths (`self`, `super`, `Self`, `crate`).
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// Reads `text`; the error is a line and a reason.
pub(super) fn read(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let stream = TokenStream::from_str(text)
        .map_err(|error| (error.span().start().line.max(1), error.to_string()))?;
    Ok(flatten(stream))
}

/// Without recursion, because brackets may nest as deep as the file is long.
fn flatten(stream: TokenStream) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut open: Vec<(token_stream::IntoIter, Delimiter, usize)> = Vec::new();
    let mut rest = stream.into_iter();
    // A sign that joins with the next one: `'` of a lifetime or the first half of `::`.
    let mut joint: Option<char> = None;
    loop {
        let Some(tree) = rest.next() else {
            let Some((outer, delimiter, line)) = open.pop() else { return tokens };
            tokens.push(Token { kind: Kind::Close(delimiter), line, raw: false });
            rest = outer;
            continue;
        };
        let line = tree.span().start().line;
        let before = joint.take();
        let mut raw = false;
        let kind = match tree {
            TokenTree::Group(group) => {
                let delimiter = group.delimiter();
                let line = group.span_open().start().line;
                tokens.push(Token { kind: Kind::Open(delimiter), line, raw: false });
                let inner = group.stream().into_iter();
                let end = group.span_close().start().line;
                open.push((std::mem::replace(&mut rest, inner), delimiter, end));
                continue;
            }
            TokenTree::Ident(ident) => {
                let word = ident.to_string();
                raw = word.starts_with("r#");
                if before == Some('\'') {
                    tokens.pop();
                    Kind::Lifetime
                } else {
                    Kind::Word(word.strip_prefix("r#").unwrap_or(&word).to_owned())
                }
            }
            TokenTree::Punct(sign) => {
                let (sign, spacing) = (sign.as_char(), sign.spacing());
                if before == Some(':') && sign == ':' {
                    tokens.pop();
                    Kind::PathSep
                } else {
                    joint = (spacing == Spacing::Joint).then_some(sign);
                    Kind::Sign(sign)
                }
            }
            TokenTree::Literal(literal) => Kind::Literal(literal.to_string()),
        };
        tokens.push(Token { kind, line, raw });
    }
}

/// A path such as `std::fs::read`, as far as it goes without generics.
pub(super) struct Path<'a> {
    /// Whether it starts with `::`.
    pub(super) leading: bool,
    /// Its words.
    pub(super) words: Vec<&'a str>,
    /// Line of the last word.
    pub(super) line: usize,
    /// The token after it.
    pub(super) end: usize,
}

/// The path that starts at token `start`, if one does. `start` must not be within a path.
pub(super) fn path_at(tokens: &[Token], start: usize) -> Option<Path<'_>> {
    let leading = tokens.get(start)?.is_path_sep();
    let mut end = start + usize::from(leading);
    let first = tokens.get(end)?;
    let mut words = vec![first.word()?];
    let mut line = first.line;
    end += 1;
    while tokens.get(end).is_some_and(Token::is_path_sep) {
        let Some(next) = tokens.get(end + 1) else { break };
        let Some(word) = next.word() else { break };
        words.push(word);
        line = next.line;
        end += 2;
    }
    Some(Path { leading, words, line, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_raw_words_and_separators() {
        let kinds: Vec<Kind> =
            read("r#std::x<'static>:y").unwrap().into_iter().map(|token| token.kind).collect();
        let word = |word: &str| Kind::Word(word.to_owned());
        assert_eq!(
            kinds,
            [
                word("std"),
                Kind::PathSep,
                word("x"),
                Kind::Sign('<'),
                Kind::Lifetime,
                Kind::Sign('>'),
                Kind::Sign(':'),
                word("y"),
            ]
        );
        let leading = read("a: ::b").unwrap();
        assert!(leading[1].is_sign(':') && leading[2].is_path_sep());
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let tokens = read("a\n{\n b\n}").unwrap();
        let lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
        assert_eq!(read("a\n\"").unwrap_err().0, 2);
    }
}
