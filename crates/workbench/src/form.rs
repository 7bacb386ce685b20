//! The form of a program: what is left when its layout and its own names do not count.
//!
//! Two programs of equal form that compile do the same, up to the text and the places of panic
//! messages. So a search that has measured one need not measure the other. The converse does not
//! hold: programs that do the same may well have different forms.
//!
//! # What does not count
//!
//! - comments, doc comments, white space, trailing commas, the order of neighbouring `use` items;
//! - how a number is spelt: `1e-3`, `0.001` and `0.001_0` are equal, `1` and `1.0` are not;
//! - names of local variables and parameters that start with a small letter; of functions,
//!   constants and types at the top of a program of one file; of lifetimes and labels. Names may
//!   be exchanged one for one, and only where nothing outside can be meant by them: a name that
//!   stands in a text (`"{name}"`), in a `use`, in an attribute, in a derived `Debug`, or that could
//!   be an import where it is used, counts.
//!
//! Fields, methods, variants, generics and modules keep their names: without types nobody can tell
//! whose they are.
//!
//! # What is assumed
//!
//! That names from outside follow Rust's conventions (no constants in small letters), because
//! `use harness::prelude::*` brings names that cannot be seen here. Programs that can read their own
//! source (`line!`, `stringify!`, caught panics) keep it to the letter; programs with macros of
//! their own, or attributes that are not known here, lose only comments and white space.

mod imports;
mod number;
mod scope;
mod tokens;
mod top;

use forerunner_core::Program;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokens::{Kind, Token, text_of};

/// Stack of the thread that reads: several times what the reader needs, handed out as used.
const STACK_BYTES: usize = 64 << 20;

/// Words with which a program can read its own source, or what a panic says of it.
const REFLECTIVE: [&str; 14] = [
    "Any",
    "Backtrace",
    "Location",
    "PanicHookInfo",
    "PanicInfo",
    "caller",
    "catch_unwind",
    "downcast",
    "downcast_mut",
    "downcast_ref",
    "payload",
    "set_hook",
    "take_hook",
    "track_caller",
];
/// Words with which names reach the outside: the linker, or a text.
const NAMING: [&str; 5] = ["PhantomData", "TypeId", "extern", "type_name", "type_name_of_val"];
/// Macros with which it can read its own source.
const REFLECTIVE_MACROS: [&str; 8] =
    ["column", "concat", "dbg", "file", "include", "include_str", "line", "stringify"];
/// Macros whose arguments are expressions, patterns and format strings, and nothing else: those of
/// `std`, and three that every crate for errors has.
const PLAIN_MACROS: [&str; 23] = [
    "anyhow",
    "assert",
    "assert_eq",
    "assert_ne",
    "bail",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "ensure",
    "eprint",
    "eprintln",
    "format",
    "format_args",
    "matches",
    "panic",
    "print",
    "println",
    "todo",
    "unimplemented",
    "unreachable",
    "vec",
    "write",
    "writeln",
];
/// Attributes that do not look at names.
const PLAIN_ATTRIBUTES: [&str; 13] = [
    "allow",
    "cold",
    "default",
    "derive",
    "doc",
    "expect",
    "inline",
    "must_use",
    "non_exhaustive",
    "repr",
    "rustfmt",
    "warn",
    "clippy",
];
/// Derives that do not show names; `Debug` does, and is treated apart.
const PLAIN_DERIVES: [&str; 9] =
    ["Clone", "Copy", "Debug", "Default", "Eq", "Hash", "Ord", "PartialEq", "PartialOrd"];
/// Lints by which a name, a comment or its absence can stop compilation.
const STRICT: [&str; 2] = ["deny", "forbid"];

/// How much of the source counts, from least to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    /// Own names and layout do not count.
    Structure,
    /// Only comments and white space do not count.
    Tokens,
    /// Everything counts.
    Text,
}

/// The form of `program`: 128 bits in hex, equal for programs that differ in nothing that counts.
/// `None` when a `.rs` file cannot be read as Rust tokens.
///
/// Takes time and memory in proportion to the program. Text of other files counts, up to space at
/// the ends of lines and empty lines. Says nothing about programs that do not compile.
///
/// ```
/// use forerunner_core::Program;
/// use forerunner_workbench::form;
///
/// let of = |text: &str| form(&Program::single("main.rs", text));
/// let parent = of("const RATE: f64 = 1e-3; fn main() { let x = RATE; run(x) }");
/// assert_eq!(parent, of("/// Faster.\nconst LR: f64 = 0.001;\nfn main() { let y = LR; run(y) }"));
/// assert_ne!(parent, of("const RATE: f64 = 2e-3; fn main() { let x = RATE; run(x) }"));
/// assert_ne!(parent, of("const RATE: f64 = 1e-3; fn main() { let x = RATE; walk(x) }"));
/// ```
pub fn form(program: &Program) -> Option<String> {
    // A thread of its own: positions that the reader keeps per thread go with it, deep nesting has
    // room, and a reader that panics on what it does not know takes nobody along.
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("form".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || read(program))
            .ok()?;
        reader.join().ok().flatten()
    })
}

/// One Rust file.
struct File {
    tokens: Vec<Token>,
    detail: Detail,
}

fn read(program: &Program) -> Option<String> {
    let mut files: BTreeMap<&str, File> = BTreeMap::new();
    for (path, text) in &program.files {
        if path.ends_with(".rs") {
            let tokens = tokens::read(text)?;
            let detail = if hides_text(text) { Detail::Text } else { detail(&tokens) };
            files.insert(path, File { tokens, detail });
        }
    }
    // What one file may look at, another may have handed to it.
    let detail = files.values().map(|file| file.detail).max().unwrap_or(Detail::Structure);
    let whole = files.len() == 1;
    let mut hash = Hash::default();
    for (path, text) in &program.files {
        hash.part('@', path);
        match files.get_mut(path.as_str()) {
            Some(_) if detail == Detail::Text => hash.part('t', text),
            Some(file) => {
                file.detail = detail;
                write(file, whole, &mut hash);
            }
            None => {
                for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                    hash.part('t', line);
                }
            }
        }
    }
    Some(hash.finish())
}

/// Characters that reorder text; the compiler refuses them in comments.
fn hides_text(text: &str) -> bool {
    !text.is_ascii()
        && text.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        || text.starts_with("#!") && !text.starts_with("#![")
}

/// How much of a file counts.
fn detail(tokens: &[Token]) -> Detail {
    let mut detail = Detail::Structure;
    let mut depth = 0_usize;
    // An import within a block goes before what is defined around the block.
    let mut inner_import = false;
    for (idx, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth -= 1,
            Kind::Sign(';', _) => inner_import = false,
            Kind::Sign('*', _) if inner_import => detail = detail.max(Detail::Tokens),
            _ => {}
        }
        if tokens::attribute_at(tokens, idx).is_some_and(|inner| !is_plain(inner)) {
            detail = detail.max(Detail::Tokens);
        }
        let Some(word) = token.word() else { continue };
        inner_import |= word == "use" && depth > 0;
        let called = tokens.get(idx + 1).is_some_and(|next| next.is_sign('!'))
            && !tokens.get(idx + 2).is_some_and(|next| next.is_sign('='));
        let here = if REFLECTIVE.contains(&word)
            || STRICT.contains(&word)
            || (called && REFLECTIVE_MACROS.contains(&word))
        {
            Detail::Text
        } else if NAMING.contains(&word)
            || !word.is_ascii()
            || (called && !PLAIN_MACROS.contains(&word) && !tokens::is_keyword(word))
        {
            Detail::Tokens
        } else {
            Detail::Structure
        };
        detail = detail.max(here);
    }
    detail
}

/// Whether the attribute whose words are `inner` looks at no names.
fn is_plain(inner: &[Token]) -> bool {
    let Some(name) = inner.first().and_then(Token::word) else { return false };
    PLAIN_ATTRIBUTES.contains(&name)
        && (name != "derive"
            || inner[1..].iter().filter_map(Token::word).all(|word| PLAIN_DERIVES.contains(&word)))
}

/// Writes what counts of a file.
fn write(file: &File, whole: bool, hash: &mut Hash) {
    if file.detail == Detail::Tokens {
        for token in &file.tokens {
            write_plain(token, hash);
        }
        return;
    }
    let tokens = tokens::without_decoration(&file.tokens);
    let kept = kept(&tokens);
    let tokens = imports::sorted(tokens);
    let scopes = scope::read(&tokens, &kept);
    let top = if whole { top::names(&tokens, &kept, &scopes) } else { HashSet::new() };
    let mut numbers: HashMap<(Space, &str), usize> = HashMap::new();
    for (idx, token) in tokens.iter().enumerate() {
        let role = scopes.role(&tokens, idx);
        let (space, word) = match &token.kind {
            Kind::Word(word) => match role {
                scope::Role::Local(region) | scope::Role::Shorthand(region) => {
                    (Space::Local(region), word.as_str())
                }
                scope::Role::Free if top.contains(word.as_str()) => (Space::Top, word.as_str()),
                _ => {
                    write_plain(token, hash);
                    continue;
                }
            },
            Kind::Lifetime(name) if name != "static" && name != "_" => {
                (Space::Lifetime, name.as_str())
            }
            Kind::Literal(text) if !tokens::is_tuple_index(&tokens, idx) => {
                hash.part('n', &number::plain(text));
                continue;
            }
            _ => {
                write_plain(token, hash);
                continue;
            }
        };
        if matches!(role, scope::Role::Shorthand(_)) {
            // `S { x }` is `S { x: x }`.
            hash.part('w', word);
            hash.sign(':', false);
        }
        let n_known = numbers.len();
        let number = *numbers.entry((space, word)).or_insert(n_known);
        hash.number(space, number);
    }
}

/// Names that count wherever they stand: in texts, imports, attributes, names of macros; raw names.
fn kept(tokens: &[Token]) -> HashSet<String> {
    let mut kept: HashSet<String> = HashSet::new();
    let mut import = false;
    let mut attribute = 0_usize;
    let mut debug = false;
    for (idx, token) in tokens.iter().enumerate() {
        if let Some(inner) = tokens::attribute_at(tokens, idx) {
            attribute = attribute.max(idx + inner.len());
            debug |= inner.iter().any(|token| token.word() == Some("Debug"));
        }
        match &token.kind {
            Kind::Word(word) => {
                let named = idx > 0 && matches!(tokens[idx - 1].word(), Some("struct" | "enum"));
                if named && std::mem::take(&mut debug) {
                    kept.insert(word.clone());
                }
                import |= word == "use";
                let called = tokens.get(idx + 1).is_some_and(|next| next.is_sign('!'));
                if import || idx < attribute || called {
                    kept.insert(word.clone());
                }
                if let Some(raw) = word.strip_prefix("r#") {
                    kept.insert(raw.to_owned());
                }
            }
            Kind::Sign(';', _) => import = false,
            Kind::Literal(text) => {
                let text = text_of(text);
                let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                kept.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
            }
            _ => {}
        }
    }
    kept
}

fn write_plain(token: &Token, hash: &mut Hash) {
    match &token.kind {
        Kind::Word(word) => hash.part('w', word),
        Kind::Lifetime(name) => hash.part('\'', name),
        Kind::Sign(sign, joint) => hash.sign(*sign, *joint),
        Kind::Literal(text) => hash.part('l', text),
        Kind::Open(delimiter) => hash.sign(tokens::open(*delimiter), false),
        Kind::Close(delimiter) => hash.sign(tokens::close(*delimiter), false),
        Kind::Imports(paths) => {
            for path in paths {
                hash.part('u', path);
            }
        }
    }
}

/// Where a name is unique.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Space {
    Top,
    Lifetime,
    Local(usize),
}

/// Takes in one token after the other, each with its kind and its length.
#[derive(Default)]
struct Hash(Sha256);

impl Hash {
    fn part(&mut self, kind: char, text: &str) {
        self.0.update([kind as u8]);
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    fn sign(&mut self, sign: char, joint: bool) {
        self.0.update([b's', u8::from(joint), sign as u8]);
    }

    fn number(&mut self, space: Space, number: usize) {
        let kind = match space {
            Space::Top => b'T',
            Space::Lifetime => b'L',
            Space::Local(_) => b'V',
        };
        self.0.update([kind]);
        self.0.update((number as u64).to_le_bytes());
    }

    fn finish(self) -> String {
        self.0.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests;
