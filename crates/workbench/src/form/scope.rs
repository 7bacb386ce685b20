//! Which words are local variables, and which bindings they belong to.
//!
//! Reads tokens, not syntax trees, and so cannot know everything. It errs on one side: a word of a
//! function is a variable only if every place in that function where it could be one lies in the
//! scope of a binding of that word. Where the source is stranger than this reader, a word is bound
//! in too few places, and then it keeps its name.

mod level;
mod syntax;

use super::tokens::{Kind, Token, is_keyword};
use level::{Level, Pattern, Place};
use proc_macro2::Delimiter;
use std::collections::{HashMap, HashSet};
use syntax::{constants, ends_operand, parameters, starts_item};

/// Types that look like variables.
const PRIMITIVES: [&str; 19] = [
    "bool", "char", "f128", "f16", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "str",
    "u128", "u16", "u32", "u64", "u8", "usize",
];
/// Words before `{` that make it a block.
const BEFORE_BLOCK: [&str; 13] = [
    "async", "break", "const", "do", "else", "in", "loop", "move", "return", "try", "unsafe",
    "where", "yield",
];
/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// No name, or one that may come from outside: a field, a method, a part of a path.
    Kept,
    /// The name of a field before its value.
    Field,
    /// A name that stands alone and is no known variable.
    Free,
    /// A variable of this function.
    Local(usize),
    /// A variable of this function and a field: `S { x }`.
    Shorthand(usize),
}

/// The words of a file.
pub(super) struct Scopes<'a> {
    roles: Vec<Role>,
    regions: Vec<Region<'a>>,
}

/// An outermost function.
#[derive(Default)]
struct Region<'a> {
    /// Words that are not surely variables at some place.
    unsure: HashSet<&'a str>,
    /// Whether the reader lost its way.
    lost: bool,
}

impl Scopes<'_> {
    /// What the word at `idx` of the same `tokens` is.
    pub(super) fn role(&self, tokens: &[Token], idx: usize) -> Role {
        let role = self.roles[idx];
        let (Role::Local(region) | Role::Shorthand(region)) = role else { return role };
        let region = &self.regions[region];
        let unsure =
            region.lost || tokens[idx].word().is_none_or(|word| region.unsure.contains(word));
        match role {
            Role::Shorthand(_) if unsure => Role::Field,
            _ if unsure => Role::Free,
            _ => role,
        }
    }
}

/// Reads the words of `tokens`; words in `kept` are no variables anywhere.
pub(super) fn read<'a>(tokens: &'a [Token], kept: &'a HashSet<String>) -> Scopes<'a> {
    let mut reader = Reader {
        tokens,
        kept,
        roles: vec![Role::Kept; tokens.len()],
        regions: Vec::new(),
        region: None,
        live: HashMap::new(),
        outer: Vec::new(),
        level: Level::new(Place::Other, false),
        constants: constants(tokens),
    };
    for idx in 0..tokens.len() {
        reader.step(idx);
    }
    Scopes { roles: reader.roles, regions: reader.regions }
}

struct Reader<'a> {
    tokens: &'a [Token],
    kept: &'a HashSet<String>,
    roles: Vec<Role>,
    regions: Vec<Region<'a>>,
    /// The function at work, and how many brackets are open around it.
    region: Option<(usize, usize)>,
    /// How many bindings of a word are in scope.
    live: HashMap<&'a str, usize>,
    outer: Vec<Level<'a>>,
    level: Level<'a>,
    constants: HashSet<&'a str>,
}

impl<'a> Reader<'a> {
    fn step(&mut self, idx: usize) {
        let tokens = self.tokens;
        let token = &tokens[idx];
        if self.level.place == Place::Match && !token.is_close() {
            self.arm(idx);
        }
        match &token.kind {
            Kind::Open(delimiter) => self.open(idx, *delimiter),
            Kind::Close(_) => self.close(idx),
            Kind::Word(word) => self.word(idx, word),
            Kind::Sign(sign, joint) => self.sign(idx, *sign, *joint),
            Kind::Lifetime(_) | Kind::Literal(_) | Kind::Imports(_) => {}
        }
    }

    /// The function at work is not understood: all its names stay.
    fn lose(&mut self) {
        if let Some((region, _)) = self.region {
            self.regions[region].lost = true;
        }
    }

    fn begin(&mut self, words: &[&'a str]) {
        for word in words {
            *self.live.entry(word).or_insert(0) += 1;
        }
    }

    fn end(&mut self, words: Vec<&'a str>) {
        for word in words {
            if let Some(count) = self.live.get_mut(word) {
                *count -= 1;
            }
        }
    }

    fn before(&self, idx: usize, distance: usize) -> Option<&'a Token> {
        idx.checked_sub(distance).and_then(|before| self.tokens.get(before))
    }

    fn is_joint_before(&self, idx: usize, sign: char) -> bool {
        self.before(idx, 1).is_some_and(|before| before.is_joint(sign))
    }

    fn in_pattern(&self) -> bool {
        self.level.in_pattern || self.level.pattern.is_some()
    }

    fn open(&mut self, idx: usize, delimiter: Delimiter) {
        let in_pattern = self.in_pattern();
        let before = self.before(idx, 1);
        let mut begins = Vec::new();
        let place = match delimiter {
            Delimiter::Parenthesis if self.level.parameters == Some(idx) => Place::Parameters,
            Delimiter::Brace if in_pattern => Place::Fields,
            Delimiter::Brace => {
                if let Some((place, sticky)) = self.level.header.take() {
                    begins = std::mem::take(&mut self.level.in_block);
                    let usual = before.is_some_and(|before| {
                        ends_operand(before) || (sticky && before.is_sign(','))
                    });
                    if !begins.is_empty() && !usual {
                        self.lose();
                    }
                    place
                } else if self.level.place == Place::Variants {
                    Place::Definitions
                } else if before.is_some_and(|before| {
                    before.is_sign('>')
                        || before.word().is_some_and(|word| !BEFORE_BLOCK.contains(&word))
                }) && !self.is_arrow(idx)
                {
                    Place::Fields
                } else {
                    Place::Other
                }
            }
            _ => Place::Other,
        };
        if place == Place::Fields {
            self.roles[idx] = Role::Field;
        }
        let in_pattern = in_pattern && place != Place::Parameters;
        let mut level = Level::new(place, in_pattern);
        self.begin(&begins);
        level.until_end = begins;
        self.outer.push(std::mem::replace(&mut self.level, level));
    }

    /// Whether `=>` ends before `idx`.
    fn is_arrow(&self, idx: usize) -> bool {
        self.before(idx, 1).is_some_and(|before| before.is_sign('>'))
            && self.before(idx, 2).is_some_and(|before| before.is_joint('='))
    }

    fn close(&mut self, idx: usize) {
        let unfinished = match self.level.place {
            Place::Match => !self.level.arm_body && !self.level.arm_empty,
            Place::Parameters => false,
            _ => self.level.pattern.is_some(),
        };
        if unfinished || !self.level.in_block.is_empty() {
            self.lose();
        }
        let outer = self.outer.pop().unwrap_or_else(|| Level::new(Place::Other, false));
        let mut level = std::mem::replace(&mut self.level, outer);
        for words in [
            std::mem::take(&mut level.until_end),
            std::mem::take(&mut level.until_comma),
            std::mem::take(&mut level.until_arm),
        ] {
            self.end(words);
        }
        // What a pattern bound in brackets belongs to the pattern around them; parameters belong
        // to the body.
        if level.place == Place::Parameters {
            self.level.in_block.append(&mut level.bound);
        } else {
            self.level.bound.append(&mut level.bound);
        }
        let brace = self.tokens[idx].kind == Kind::Close(Delimiter::Brace);
        if self.level.place == Place::Match && self.level.arm_body && brace {
            let goes_on =
                self.tokens.get(idx + 1).is_some_and(|next| next.is_sign('.') || next.is_sign('?'));
            let opened = self.tokens[idx].partner;
            if self.is_arrow(opened) && !goes_on {
                self.end_arm();
            }
        }
        if brace
            && self.region.is_some_and(|(_, depth)| depth == self.outer.len())
            && self.level.header.is_none()
        {
            self.region = None;
        }
    }

    fn end_arm(&mut self) {
        let words = std::mem::take(&mut self.level.until_arm);
        self.end(words);
        let words = std::mem::take(&mut self.level.until_comma);
        self.end(words);
        self.level.arm_body = false;
        self.level.arm_empty = true;
        self.level.pattern = Some(Pattern::Arm);
        self.level.bound.clear();
    }

    /// Before a token that stands directly between the braces of a `match`.
    fn arm(&mut self, idx: usize) {
        let token = &self.tokens[idx];
        let arrow =
            token.is_joint('=') && self.tokens.get(idx + 1).is_some_and(|next| next.is_sign('>'));
        if self.level.arm_body {
            if arrow {
                self.lose();
            }
        } else if token.is_sign(',') {
            if !self.level.arm_empty {
                self.lose();
            }
        } else {
            self.level.arm_empty = false;
            if arrow || token.is_word("if") {
                self.end_pattern();
            }
            self.level.arm_body = arrow;
        }
    }

    /// The pattern of this level is complete.
    fn end_pattern(&mut self) {
        let words = std::mem::take(&mut self.level.bound);
        match self.level.pattern.take() {
            Some(Pattern::Let) if self.level.header.is_some() => self.level.in_block.extend(words),
            Some(Pattern::Let) => self.level.after_statement.extend(words),
            Some(Pattern::For) => self.level.in_block.extend(words),
            Some(Pattern::Closure) => {
                self.begin(&words);
                self.level.until_comma.extend(words);
            }
            Some(Pattern::Arm) => {
                self.begin(&words);
                self.level.until_arm.extend(words);
            }
            Some(Pattern::Parameter) => self.level.bound = words,
            None => {}
        }
    }

    fn sign(&mut self, idx: usize, sign: char, joint: bool) {
        let next = self.tokens.get(idx + 1);
        let colon = sign == ':' && !joint && !self.is_joint_before(idx, ':');
        if let Some(angle) = self.level.angle {
            match sign {
                '<' => self.level.angle = Some(angle + 1),
                '>' if !self.is_joint_before(idx, '-') => {
                    self.level.angle = Some(angle.saturating_sub(1));
                }
                ',' if angle == 0 => {
                    self.level.angle = None;
                    let closure = self.level.place != Place::Parameters;
                    self.level.pattern =
                        Some(if closure { Pattern::Closure } else { Pattern::Parameter });
                }
                '|' => {
                    self.level.angle = None;
                    self.level.pattern = Some(Pattern::Closure);
                    self.end_pattern();
                }
                _ => {}
            }
            return;
        }
        match (self.level.pattern, sign) {
            (Some(Pattern::Let), ':') if colon => {
                self.end_pattern();
            }
            // `..=` belongs to the pattern.
            (Some(Pattern::Let), '=') if !self.is_joint_before(idx, '.') => self.end_pattern(),
            (Some(Pattern::Let), ';') => self.end_pattern(),
            (Some(Pattern::Parameter | Pattern::Closure), ':') if colon => {
                self.level.angle = Some(0);
                self.level.pattern = None;
            }
            (Some(Pattern::Closure), '|') => {
                self.end_pattern();
                return;
            }
            (Some(Pattern::Closure), '=') if joint => self.lose(),
            (None, '|') if !self.level.in_pattern => {
                let after_operand =
                    self.before(idx, 1).is_some_and(ends_operand) && !self.is_arrow(idx);
                let second = self.is_joint_before(idx, '|');
                let empty = joint && next.is_some_and(|next| next.is_sign('|'));
                if !after_operand && !second && !empty && self.level.header.is_none() {
                    self.level.pattern = Some(Pattern::Closure);
                    self.level.bound.clear();
                }
                return;
            }
            _ => {}
        }
        let arrow = sign == '=' && joint && next.is_some_and(|next| next.is_sign('>'));
        if self.level.pattern.is_none() && (matches!(sign, ',' | ';') || arrow) {
            self.end_expression(sign);
        }
    }

    /// At `,`, `;` or `=>`.
    fn end_expression(&mut self, sign: char) {
        let words = std::mem::take(&mut self.level.until_comma);
        self.end(words);
        let sticky = self.level.header.is_some_and(|(_, sticky)| sticky);
        if sign == ';' || !sticky {
            self.level.header = None;
            if !self.level.in_block.is_empty() {
                // A function without a body has parameters that nothing uses.
                self.level.in_block.clear();
                if !sticky {
                    self.lose();
                }
            }
        }
        if sign == ';' {
            let words = std::mem::take(&mut self.level.after_statement);
            self.begin(&words);
            self.level.until_end.extend(words);
            if self.region.is_some_and(|(_, depth)| depth == self.outer.len()) {
                self.region = None;
            }
        }
        if sign == ',' && self.level.place == Place::Match && self.level.arm_body {
            self.end_arm();
        }
    }

    fn word(&mut self, idx: usize, word: &'a str) {
        if is_keyword(word) {
            return self.keyword(idx, word);
        }
        let before = self.before(idx, 1);
        let next = self.tokens.get(idx + 1);
        let member = before.is_some_and(|before| before.is_sign('.'))
            && !self.before(idx, 2).is_some_and(|before| before.is_joint('.'));
        let path_part = before.is_some_and(|before| before.is_sign(':'))
            && self.before(idx, 2).is_some_and(|before| before.is_joint(':'));
        let called = next.is_some_and(|next| next.is_sign('!'))
            && !self.tokens.get(idx + 2).is_some_and(|next| next.is_sign('='));
        let is_small = word.starts_with(|c: char| c == '_' || c.is_ascii_lowercase());
        let path_head = next.is_some_and(|next| next.is_joint(':'))
            && !self.tokens.get(idx + 3).is_some_and(|next| next.is_sign('<'));
        if member || path_part || called || (path_head && is_small) {
            return;
        }
        let starts = before.is_some_and(|before| {
            before.is_sign(',')
                || matches!(before.kind, Kind::Open(_) | Kind::Close(Delimiter::Bracket))
        });
        let after_visibility = before.is_some_and(|before| {
            before.is_word("pub") || before.kind == Kind::Close(Delimiter::Parenthesis)
        });
        let colon = next.is_some_and(|next| next.is_sign(':') && !next.is_joint(':'));
        let ends = next.is_some_and(|next| next.is_sign(',') || next.is_close());
        match self.level.place {
            Place::Fields if starts && colon => return self.roles[idx] = Role::Field,
            Place::Definitions if colon && (starts || after_visibility) => return,
            Place::Variants if starts => return,
            _ => {}
        }
        let shorthand = self.level.place == Place::Fields && starts && ends;
        let Some((region, _)) = self.region else {
            self.roles[idx] = if shorthand { Role::Field } else { Role::Free };
            return;
        };
        // `S { ref x }` is too rare to be taken apart.
        let adorned = self.level.place == Place::Fields
            && before.is_some_and(|before| before.is_word("ref") || before.is_word("mut"))
            && ends;
        let is_variable = is_small
            && !adorned
            && !PRIMITIVES.contains(&word)
            && !self.kept.contains(word)
            && !self.constants.contains(word);
        let opens = next.is_some_and(|next| {
            next.is_open(Delimiter::Parenthesis) || next.is_open(Delimiter::Brace)
        });
        let binds = is_variable && self.in_pattern() && !opens;
        if binds {
            self.level.bound.push(word);
        }
        let covered = binds || (is_variable && self.live.get(word).is_some_and(|count| *count > 0));
        if !covered {
            self.regions[region].unsure.insert(word);
        }
        self.roles[idx] = match (covered, shorthand || adorned) {
            (true, false) => Role::Local(region),
            (true, true) => Role::Shorthand(region),
            (false, true) => Role::Field,
            (false, false) => Role::Free,
        };
    }

    fn keyword(&mut self, idx: usize, word: &str) {
        let next = self.tokens.get(idx + 1);
        let names = next.is_some_and(|next| next.word().is_some());
        let sticky = self.level.header.is_some_and(|(_, sticky)| sticky);
        let expression = matches!(
            word,
            "if" | "match" | "while" | "loop" | "unsafe" | "async" | "const" | "else" | "for"
        );
        if expression && !self.level.in_block.is_empty() {
            self.lose();
        }
        match word {
            "if" | "while" => self.level.header = Some((Place::Other, false)),
            "match" => self.level.header = Some((Place::Match, false)),
            "fn" if names => {
                self.level.header = Some((Place::Other, true));
                self.level.parameters = parameters(self.tokens, idx + 2);
                if self.region.is_none() {
                    self.region = Some((self.regions.len(), self.outer.len()));
                    self.regions.push(Region::default());
                }
            }
            "struct" if names => self.level.header = Some((Place::Definitions, true)),
            "enum" if names => self.level.header = Some((Place::Variants, true)),
            "trait" | "mod" if names => self.level.header = Some((Place::Other, true)),
            "impl" if self.before(idx, 1).is_none_or(starts_item) => {
                self.level.header = Some((Place::Other, true));
            }
            "let" => {
                self.level.pattern = Some(Pattern::Let);
                self.level.bound.clear();
            }
            "for" if !sticky && !next.is_some_and(|next| next.is_sign('<')) => {
                self.level.pattern = Some(Pattern::For);
                self.level.bound.clear();
            }
            "in" if self.level.pattern == Some(Pattern::For) => {
                self.end_pattern();
                self.level.header = Some((Place::Other, false));
            }
            _ => {}
        }
    }
}
