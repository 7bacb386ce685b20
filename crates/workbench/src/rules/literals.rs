//! How much information the literals of a program hold.

use super::{
    Rules, Source, attributes,
    tokens::{Kind, Token},
};
use forerunner_core::Finding;
use proc_macro2::Delimiter;
use syn::visit::{self, Visit};

/// Bytes of information in a decimal digit: `ln 10 / ln 256`.
const DIGIT_BYTES: f64 = 0.415;
/// Lists longer than this count at least a byte an item, whatever the items are: a list of names
/// or of `true` and `false` is a table as well.
const LONG_LIST: usize = 32;

/// The bytes counted, and where most of them are.
#[derive(Default)]
struct Total {
    bytes: f64,
    largest: f64,
    place: Option<(String, usize)>,
}

impl Total {
    fn add(&mut self, source: &Source<'_>, line: usize, bytes: f64) {
        self.bytes += bytes;
        if bytes > self.largest {
            self.largest = bytes;
            self.place = Some((source.path.to_owned(), line));
        }
    }
}

/// At most one finding: the whole program, at its largest literal.
pub(super) fn check(rules: &Rules, syntax: &[(&Source<'_>, syn::File)]) -> Option<Finding> {
    let mut total = Total::default();
    for (source, file) in syntax {
        count_tokens(source, &mut total);
        let mut names = DebugNames::default();
        names.visit_file(file);
        for (line, bytes) in names.found {
            total.add(source, line, bytes);
        }
    }
    if total.bytes <= rules.max_literal_bytes as f64 {
        return None;
    }
    let (path, line) = total.place.unwrap_or_default();
    let message = format!(
        "about {:.0} bytes of data in literals (text, digits, long lists, names that `Debug` \
         prints); at most {} are allowed, because what a program knows about the data must be \
         learned on the clock; compute tables from formulas and learn the rest; the largest \
         literal is here",
        total.bytes, rules.max_literal_bytes
    );
    Some(Finding::error("source/literals", message).at(format!("{path}:{line}")))
}

fn count_tokens(source: &Source<'_>, total: &mut Total) {
    let tokens = &source.tokens;
    // Bytes and items of the lists around a token, with the line each starts on.
    let mut lists: Vec<(f64, usize, usize)> = Vec::new();
    let mut idx = 0;
    while let Some(token) = tokens.get(idx) {
        // Documentation cannot be read by the program.
        if let Some(end) = documentation_at(tokens, idx) {
            idx = end;
            continue;
        }
        match &token.kind {
            Kind::Literal(text) => {
                let bytes = information(text);
                total.add(source, token.line, bytes);
                if let Some((inside, ..)) = lists.last_mut() {
                    *inside += bytes;
                }
            }
            Kind::Open(_) => lists.push((0.0, 1, token.line)),
            Kind::Close(delimiter) => {
                let (inside, n_items, line) = lists.pop().unwrap_or_default();
                if *delimiter == Delimiter::Bracket && n_items > LONG_LIST {
                    total.add(source, line, (n_items as f64 - inside).max(0.0));
                }
                if let Some((outside, ..)) = lists.last_mut() {
                    *outside += inside;
                }
            }
            Kind::Sign(',') => {
                if let Some((_, n_items, _)) = lists.last_mut() {
                    *n_items += 1;
                }
            }
            _ => {}
        }
        idx += 1;
    }
}

fn documentation_at(tokens: &[Token], idx: usize) -> Option<usize> {
    let name = attributes::attribute_at(tokens, idx)?;
    let is_text = tokens.get(name)?.is_word("doc")
        && tokens.get(name + 1)?.is_sign('=')
        && matches!(tokens.get(name + 2)?.kind, Kind::Literal(_));
    is_text.then_some(name + 3)
}

/// Bytes of information in a literal as written.
fn information(literal: &str) -> f64 {
    let body = literal.trim_start_matches(['b', 'c', 'r', '#']);
    if let Some(text) = body.strip_prefix(['"', '\'']) {
        // The closing sign and `#`s.
        return text.trim_end_matches('#').len().saturating_sub(1) as f64;
    }
    // A suffix such as `f32` counts as digits too; that is little.
    let digits = |text: &str, radix| text.chars().filter(|c| c.is_digit(radix)).count() as f64;
    match literal.split_at_checked(2) {
        Some(("0x", digits_16)) => digits(digits_16, 16) / 2.0,
        Some(("0b", digits_2)) => digits(digits_2, 2) / 8.0,
        _ => digits(literal, 10) * DIGIT_BYTES,
    }
}

/// Names that a derived `Debug` turns into text.
#[derive(Default)]
struct DebugNames {
    found: Vec<(usize, f64)>,
}

impl DebugNames {
    fn add(&mut self, ident: &syn::Ident) {
        let bytes = ident.to_string().len() as f64;
        self.found.push((ident.span().start().line, bytes));
    }

    fn add_fields(&mut self, fields: &syn::Fields) {
        fields.iter().filter_map(|field| field.ident.as_ref()).for_each(|ident| self.add(ident));
    }
}

fn derives_debug(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let is_debug = |token: proc_macro2::TokenTree| token.to_string() == "Debug";
        list.path.is_ident("derive") && list.tokens.clone().into_iter().any(is_debug)
    })
}

impl<'ast> Visit<'ast> for DebugNames {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if derives_debug(&item.attrs) {
            self.add(&item.ident);
            self.add_fields(&item.fields);
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if derives_debug(&item.attrs) {
            for variant in &item.variants {
                self.add(&variant.ident);
                self.add_fields(&variant.fields);
            }
        }
        visit::visit_item_enum(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_grows_with_what_a_literal_can_say() {
        let check = |literal: &str, expected: f64| {
            assert!((information(literal) - expected).abs() < 1e-9, "{literal}");
        };
        check("\"hello\"", 5.0);
        check("b\"hello\"", 5.0);
        check("br##\"hello\"##", 5.0);
        check("'x'", 1.0);
        check("b'x'", 1.0);
        check("0", 0.415);
        check("12345", 5.0 * 0.415);
        check("0xffff", 2.0);
        check("0b11110000", 1.0);
    }
}
