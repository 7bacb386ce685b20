//! `use` declarations: what they name, and what they must not.

use super::{
    Rules, Source,
    names::Names,
    std_paths::{self, Verdict},
    tokens::{Kind, Token},
};
use forerunner_core::Finding;
use proc_macro2::Delimiter;

/// One leaf of a `use` tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// Whether the path starts with `::`.
    pub(super) leading: bool,
    /// The whole path; without `*` and a final `self`.
    pub(super) words: Vec<String>,
    /// Whether it ends in `*`.
    pub(super) glob: bool,
    /// The name after `as`.
    pub(super) rename: Option<String>,
    pub(super) line: usize,
}

/// The end of the `use` declaration that starts at `idx`, if one does.
pub(super) fn declaration_at(tokens: &[Token], idx: usize) -> Option<usize> {
    // `impl Trait + use<'a>` is no declaration.
    if !tokens[idx].is_keyword("use") || tokens.get(idx + 1)?.is_sign('<') {
        return None;
    }
    let mut depth = 0;
    for (end, token) in tokens.iter().enumerate().skip(idx + 1) {
        match token.kind {
            Kind::Open(Delimiter::Brace) => depth += 1,
            Kind::Close(Delimiter::Brace) if depth > 0 => depth -= 1,
            Kind::Sign(';') if depth == 0 => return Some(end),
            // Nothing but braces belongs to a tree: what this is, it hides nothing.
            Kind::Open(_) | Kind::Close(_) | Kind::Sign(';') => return None,
            _ => {}
        }
    }
    None
}

/// Every import of a file, within macros too.
pub(super) fn read(tokens: &[Token]) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut idx = 0;
    while idx < tokens.len() {
        match declaration_at(tokens, idx) {
            Some(end) => {
                read_tree(&tokens[idx + 1..end], &mut imports);
                idx = end;
            }
            None => idx += 1,
        }
    }
    imports
}

fn read_tree(tokens: &[Token], imports: &mut Vec<Import>) {
    // Words before each open brace.
    let mut prefixes: Vec<Vec<String>> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut leading = false;
    let mut idx = 0;
    while let Some(token) = tokens.get(idx) {
        let line = token.line;
        match &token.kind {
            Kind::PathSep if words.is_empty() => leading = true,
            Kind::Open(Delimiter::Brace) => prefixes.push(words.clone()),
            Kind::Close(Delimiter::Brace) => {
                prefixes.pop();
            }
            Kind::Sign(',') => words = prefixes.last().cloned().unwrap_or_default(),
            Kind::Sign('*') => {
                imports.push(Import {
                    leading,
                    words: words.clone(),
                    glob: true,
                    rename: None,
                    line,
                });
            }
            Kind::Word(word) => {
                // A final `self` names what stands before it.
                if word != "self" || words.is_empty() {
                    words.push(word.clone());
                }
                let next = tokens.get(idx + 1);
                if !next.is_some_and(Token::is_path_sep) {
                    let renames = next.is_some_and(|next| next.is_word("as"));
                    let name = renames.then(|| tokens.get(idx + 2)?.word()).flatten();
                    let rename = name.map(str::to_owned);
                    imports.push(Import {
                        leading,
                        words: words.clone(),
                        glob: false,
                        rename,
                        line,
                    });
                    idx += if renames { 2 } else { 0 };
                }
            }
            _ => {}
        }
        idx += 1;
    }
}

/// Checks every import.
pub(super) fn check(rules: &Rules, source: &Source<'_>, names: &Names) -> Vec<Finding> {
    let mut findings = Vec::new();
    for import in read(&source.tokens) {
        let Some(root) = import.words.first() else {
            let message = "`use *` names nothing";
            findings.push(source.finding("source/crate", import.line, message));
            continue;
        };
        // Past `std` itself, or from a module of `std` that another file has imported.
        let std_module = import.words.iter().position(|word| names.std_modules.contains(word));
        let start = if std_paths::is_root(root) { Some(1) } else { std_module };
        if let Some(start) = start {
            findings.extend(check_std(rules, source, &import, start));
        } else if !is_known_root(rules, names, &import, root) {
            let message = format!(
                "`{root}` is not there: a program is compiled against {} and `std` alone; use \
                 what they offer, or write it yourself",
                list(&rules.crates)
            );
            findings.push(source.finding("source/crate", import.line, message));
        }
    }
    findings
}

/// Judges an import whose words from `start` on are a path below `std`.
fn check_std(rules: &Rules, source: &Source<'_>, import: &Import, start: usize) -> Option<Finding> {
    let words: Vec<&str> = import.words.iter().skip(start).map(String::as_str).collect();
    let shown = import.words.join("::") + if import.glob { "::*" } else { "" };
    let why = match std_paths::judge(rules, &words) {
        Verdict::Open => return None,
        Verdict::Refused(why) => why.to_owned(),
        // `use std::mem;` is fine, since `mem::…` is then checked as `std::mem::…`.
        Verdict::Partial(_) if !import.glob && import.rename.is_none() => return None,
        Verdict::Partial(allowed) => format!(
            "only part of it may be used, so it takes no other name and no `*`; name what you \
             need ({})",
            allowed.join(", ")
        ),
    };
    let message = format!("`use {shown}` is refused: {why}");
    Some(source.finding("source/std", import.line, message))
}

fn is_known_root(rules: &Rules, names: &Names, import: &Import, root: &str) -> bool {
    let is_crate = rules.crates.iter().any(|name| name == root);
    if import.leading {
        return is_crate;
    }
    // A glob may have brought the name along.
    is_crate
        || matches!(root, "crate" | "self" | "super" | "Self")
        || names.items.contains(root)
        || names.has_foreign_glob
}

/// "`a`, `b`", for messages.
pub(super) fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "no crate".to_owned() } else { quoted.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tokens;

    #[test]
    fn trees_are_read_to_their_leaves() {
        let check = |text: &str, expected: &[&str]| {
            let shown: Vec<String> = read(&tokens::read(text).unwrap())
                .into_iter()
                .map(|import| {
                    let leading = if import.leading { "::" } else { "" };
                    let glob = if import.glob { "::*" } else { "" };
                    let rename = import.rename.map(|name| format!(" as {name}"));
                    let rename = rename.unwrap_or_default();
                    format!("{leading}{}{glob}{rename}", import.words.join("::"))
                })
                .collect();
            assert_eq!(shown, expected, "{text}");
        };
        check("use std::fs;", &["std::fs"]);
        check("pub(crate) use ::std::fs as f;", &["::std::fs as f"]);
        check(
            "use std::{fs, io::{self, Read as R}, fmt::*};",
            &["std::fs", "std::io", "std::io::Read as R", "std::fmt::*"],
        );
        check("use {std::fs, ::core::mem as m};", &["std::fs", "::core::mem as m"]);
        check("use std::{self as s};", &["std as s"]);
        check("fn f() { use r#std::fs; }", &["std::fs"]);
        check("vec![{ use std::env as e; 1 }];", &["std::env as e"]);
        check("fn f<'a>() -> impl Sized + use<'a> {}", &[]);
        check("use self::x::y;", &["self::x::y"]);
    }
}
