//! Finding the constants of a program, and writing others in their place.

use super::{
    annotation::{self, Annotation, Rule},
    lines, literal,
    literal::Style,
};
use crate::domain::Domain;
use forerunner_sdk::Program;
use std::{collections::BTreeMap, ops::Range};

/// A constant that may be tuned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    /// Its name; the n-th constant of a name is called `NAME#n`.
    pub(crate) key: String,
    /// The file it stands in.
    pub(crate) file: String,
    /// Where its value stands in the file.
    pub(crate) span: Range<usize>,
    /// Its value as written.
    pub(crate) text: String,
    /// Its value, when it is a number.
    pub(crate) value: Option<f64>,
    /// How the number is written.
    pub(crate) style: Option<Style>,
    /// Where it may go.
    pub(crate) domain: Domain,
    /// Whether only integers are allowed.
    pub(crate) integer: bool,
    /// What ties it to another constant.
    pub(crate) rule: Option<Rule>,
}

/// What a program has to tune.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scan {
    /// The constants, in the order of files and lines.
    pub(crate) constants: Vec<Constant>,
    /// All numeric constants by name, tunable or not: what rules may refer to.
    pub(crate) numbers: BTreeMap<String, f64>,
    /// Hash of everything but the values of the tunable constants.
    pub(crate) skeleton: u64,
    /// Annotations that make no sense, as `file:line: reason`.
    pub(crate) senseless: Vec<String>,
}

/// A line that gives a name a value.
struct Binding<'a> {
    name: &'a str,
    /// Where the value starts, in bytes from the start of the line.
    value_start: usize,
    /// Whether the type, if there is one, is an integer's.
    integer: Option<bool>,
    /// Whether the line is not indented.
    top_level: bool,
    rust: bool,
}

/// Words in names of constants that are no matter of taste.
const NOT_EVIDENT: [&str; 6] = ["SEED", "VERSION", "MAGIC", "VOCAB", "EPSILON", "EPS"];

/// Finds the annotated constants of `program` or, where nothing is annotated, the evident ones:
/// numbers bound to a name at the top level.
pub(crate) fn scan(program: &Program) -> Scan {
    let mut scan = Scan::default();
    let mut evident = Vec::new();
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut annotated = false;
    for (file, text) in &program.files {
        let rust = file.ends_with(".rs");
        let lines: Box<dyn Iterator<Item = lines::Line<'_>>> =
            if rust { Box::new(lines::of_rust(text)) } else { Box::new(lines::of_text(text)) };
        let mut comment = None;
        for line in lines {
            let trimmed = line.text.trim_start();
            if let Some(text) = comment_text(trimmed, rust) {
                comment = Some(text);
                continue;
            }
            if rust && trimmed.starts_with("#[") && trimmed.ends_with(']') {
                continue;
            }
            let note = comment.take().and_then(annotation::read);
            annotated |= note.is_some();
            let binding = if rust { rust_binding(line.text) } else { text_binding(line.text) };
            let constant = binding.and_then(|binding| {
                let n = seen.entry(binding.name).or_default();
                *n += 1;
                let key = match n {
                    1 => binding.name.to_owned(),
                    n => format!("{}#{n}", binding.name),
                };
                let number = number(&binding, line.text);
                if let Some((value, _, _)) = &number {
                    scan.numbers.insert(key.clone(), *value);
                }
                match &note {
                    None => evident_constant(&binding, number?, key, file, line)
                        .map(|constant| evident.push(constant))
                        .and(None),
                    Some(Err(_)) => None,
                    Some(Ok(note)) => annotated_constant(note, &binding, number, key, file, line),
                }
            });
            match (note, constant) {
                (_, Some(constant)) => scan.constants.push(constant),
                (None, None) => {}
                (Some(note), None) => {
                    let number = 1 + text[..line.start].matches('\n').count();
                    let reason = note.err().unwrap_or_else(|| "no such constant follows".into());
                    scan.senseless.push(format!("{file}:{number}: {reason}"));
                }
            }
        }
    }
    if !annotated {
        scan.constants = evident;
    }
    scan.skeleton = skeleton(program, &scan.constants);
    scan
}

fn comment_text(trimmed: &str, rust: bool) -> Option<&str> {
    if rust {
        return trimmed.strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!']));
    }
    let rest = trimmed.strip_prefix('#').or_else(|| trimmed.strip_prefix("//"))?;
    Some(rest.trim_start_matches(['#', '/']))
}

/// `pub(crate) const NAME: TYPE = VALUE;`
fn rust_binding(line: &str) -> Option<Binding<'_>> {
    let mut rest = line.trim_start();
    let top_level = rest.len() == line.len();
    if let Some(public) = rest.strip_prefix("pub") {
        let public = public.trim_start();
        rest = match public.strip_prefix('(') {
            Some(scope) => scope.split_once(')')?.1.trim_start(),
            None => public,
        };
    }
    let rest = rest.strip_prefix("const")?.strip_prefix([' ', '\t'])?;
    let (name, rest) = rest.split_once(':')?;
    let (kind, value) = rest.split_once('=')?;
    let (name, kind, value) = (name.trim(), kind.trim(), value.trim_start());
    if !is_name(name) {
        return None;
    }
    let integer = match kind {
        "f32" | "f64" => Some(false),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128"
        | "usize" => Some(true),
        _ => None,
    };
    Some(Binding { name, value_start: line.len() - value.len(), integer, top_level, rust: true })
}

/// `name = VALUE`, `name: type = VALUE` or `section.name = VALUE`.
fn text_binding(line: &str) -> Option<Binding<'_>> {
    let (left, right) = line.split_once('=')?;
    let value = right.trim_start();
    let trimmed = left.trim_start();
    let (name, kind) = trimmed.split_once(':').unwrap_or((trimmed, ""));
    let (name, kind) = (name.trim_end(), kind.trim());
    if !is_name(name) || !(kind.is_empty() || is_name(kind)) {
        return None;
    }
    let top_level = trimmed.len() == left.len();
    let integer = (kind == "int").then_some(true);
    Some(Binding { name, value_start: line.len() - value.len(), integer, top_level, rust: false })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// The number that is all of the binding's value: value, style, length.
fn number(binding: &Binding<'_>, line: &str) -> Option<(f64, Style, usize)> {
    let text = &line[binding.value_start..];
    let (value, mut style, end) = literal::read(text)?;
    let rest = text[end..].trim_start();
    let complete = if binding.rust {
        binding.integer.is_some() && rest.starts_with(';')
    } else {
        let comment = rest.starts_with(['#', ';']) || rest.starts_with("//");
        rest.is_empty() || comment
    };
    match binding.integer {
        Some(true) if style.float => return None,
        Some(false) => style.float = true,
        _ => {}
    }
    complete.then_some((value, style, end))
}

fn annotated_constant(
    note: &Annotation,
    binding: &Binding<'_>,
    number: Option<(f64, Style, usize)>,
    key: String,
    file: &str,
    line: lines::Line<'_>,
) -> Option<Constant> {
    let start = line.start + binding.value_start;
    let constant = |value, style, text: &str, domain, integer| Constant {
        key,
        file: file.to_owned(),
        span: start..start + text.len(),
        text: text.to_owned(),
        value,
        style,
        domain,
        integer,
        rule: note.rule.clone(),
    };
    let right = &line.text[binding.value_start..];
    if let Domain::Choice(_) = note.domain {
        let text = match number {
            Some((_, _, end)) => &right[..end],
            None => expression(right, binding.rust)?,
        };
        return Some(constant(None, None, text, note.domain.clone(), false));
    }
    let (value, style, end) = number?;
    let integer = note.integer || !style.float;
    // Where the program already is cannot be out of range.
    let domain = note.domain.clone().including(value)?;
    Some(constant(Some(value), Some(style), &right[..end], domain, integer))
}

fn evident_constant(
    binding: &Binding<'_>,
    (value, style, end): (f64, Style, usize),
    key: String,
    file: &str,
    line: lines::Line<'_>,
) -> Option<Constant> {
    let upper = binding.name.to_ascii_uppercase();
    let mut words = upper.split(['_', '.', '-']);
    if !binding.top_level || words.any(|word| NOT_EVIDENT.contains(&word)) {
        return None;
    }
    let integer = !style.float;
    let domain = Domain::around(value, integer)?;
    let start = line.start + binding.value_start;
    Some(Constant {
        key,
        file: file.to_owned(),
        span: start..start + end,
        text: line.text[binding.value_start..][..end].to_owned(),
        value: Some(value),
        style: Some(style),
        domain,
        integer,
        rule: None,
    })
}

/// The expression at the start of `text`, up to `;` in Rust or a comment elsewhere.
fn expression(text: &str, rust: bool) -> Option<&str> {
    let mut quoted = false;
    let mut escaped = false;
    let ends = |c: char| if rust { c == ';' } else { c == '#' };
    let end = text.char_indices().find(|(_, c)| {
        let end = !quoted && ends(*c);
        quoted ^= *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    });
    let end = match end {
        Some((at, _)) => at,
        None if rust => return None,
        None => text.len(),
    };
    Some(text[..end].trim_end()).filter(|text| !text.is_empty())
}

/// The program's files that change when the constants of these indices get these texts.
pub(crate) fn patch(
    program: &Program,
    scan: &Scan,
    changes: &BTreeMap<usize, String>,
) -> BTreeMap<String, String> {
    let mut files = BTreeMap::<String, String>::new();
    // From the end of each file, so that earlier spans stay where they are.
    for (idx, text) in changes.iter().rev() {
        let constant = &scan.constants[*idx];
        let Some(original) = program.files.get(&constant.file) else { continue };
        let file = files.entry(constant.file.clone()).or_insert_with(|| original.clone());
        file.replace_range(constant.span.clone(), text);
    }
    files
}

/// A hash of all files with the constants' values left out. Not for adversaries.
fn skeleton(program: &Program, constants: &[Constant]) -> u64 {
    let mut hash = crate::hash::Hash::default();
    for (file, text) in &program.files {
        hash.bytes(file.as_bytes());
        let mut from = 0;
        for constant in constants.iter().filter(|constant| constant.file == *file) {
            hash.bytes(&text.as_bytes()[from..constant.span.start]);
            from = constant.span.end;
        }
        hash.bytes(&text.as_bytes()[from..]);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(scan: &Scan) -> Vec<String> {
        scan.constants.iter().map(|constant| constant.key.clone()).collect()
    }

    fn check(file: &str, text: &str, expected: &[(&str, &str)]) -> Scan {
        let scan = scan(&Program::single(file, text));
        let found: Vec<(&str, &str)> =
            scan.constants.iter().map(|c| (c.key.as_str(), c.text.as_str())).collect();
        assert_eq!(found, expected, "{text}");
        for constant in &scan.constants {
            assert_eq!(text[constant.span.clone()], constant.text);
        }
        scan
    }

    const ANNOTATED: &str = "\
//! A program.

/// Peak rate.
///
/// tune: log 1e-4 3e-2
pub const LEARNING_RATE: f64 = 3e-3;
const UNTOUCHED: f64 = 1.0;

/// tune: int 1 8 divides WIDTH
#[rustfmt::skip]
pub(crate) const HEADS : usize = 1_2usize; // heads
const WIDTH: usize = 64;

mod inner {
    // tune: choice Act::Gelu Act::Relu
    const ACT: Act = Act::Gelu;
    /// tune: choice \"a;b\" \"c\"
    const NAME: &str = \"a;b\";
}
/* tune: log 1 2
const COMMENTED: f64 = 1.5; */
";

    #[test]
    fn annotated_constants_are_found_and_nothing_else() {
        let expected = [
            ("LEARNING_RATE", "3e-3"),
            ("HEADS", "1_2usize"),
            ("ACT", "Act::Gelu"),
            ("NAME", "\"a;b\""),
        ];
        let scan = check("main.rs", ANNOTATED, &expected);
        assert_eq!(scan.numbers["WIDTH"], 64.0);
        assert_eq!(scan.constants[1].rule, Some(Rule::Divides("WIDTH".into())));
        assert!(scan.constants[1].integer);
        assert!(scan.senseless.is_empty(), "{:?}", scan.senseless);
    }

    #[test]
    fn evident_constants_are_found_where_nothing_is_annotated() {
        let text = "const A: f64 = 0.1;\nconst B: usize = 3;\npub const C: i32 = -2;\n\
                    const ZERO: f64 = 0.0;\nconst SEED: u64 = 42;\nconst HEX: u32 = 0x10;\n\
                    const EXPR: usize = 4 * 2;\nconst TEXT: &str = \"7\";\nlet d: f64 = 1.0;\n\
                    fn f() {\n    const LOCAL: f64 = 1.0;\n}\n";
        check("main.rs", text, &[("A", "0.1"), ("B", "3"), ("C", "-2")]);
        let text = "# a comment\nlr = 3e-4\nsteps: int = 100  # so many\nname = \"x\"\n\
                    [section]\nlr = 1.5\nlist = [1, 2]\n  indented = 2.0\nx == 3\n\
                    \"\"\"\ndoc = 1.0\n\"\"\"\n";
        check("run.toml", text, &[("lr", "3e-4"), ("steps", "100"), ("lr#2", "1.5")]);
    }

    #[test]
    fn annotations_work_in_other_files_too() {
        let text = "# tune: log 1e-5 1e-1\n  lr = 3e-4\nmomentum = 0.9\n";
        check("train.py", text, &[("lr", "3e-4")]);
    }

    #[test]
    fn senseless_annotations_are_reported_with_their_place() {
        let text = "/// tune: log 0 1\nconst A: f64 = 0.5;\n\n/// tune: int 1 8\nfn main() {}\n\
                    /// tune: logit 0.1 0.9\nconst B: f64 = 2.0;\n";
        let scan = check("main.rs", text, &[]);
        assert_eq!(
            scan.senseless,
            [
                "main.rs:2: a log range starts above 0",
                "main.rs:5: no such constant follows",
                "main.rs:7: no such constant follows",
            ]
        );
    }

    #[test]
    fn patching_changes_the_values_alone() {
        let program = Program::single("main.rs", ANNOTATED);
        let before = scan(&program);
        let changes =
            BTreeMap::from([(0, "1.25e-2".to_owned()), (1, "4usize".into()), (3, "\"c\"".into())]);
        let files = patch(&program, &before, &changes);
        let expected = ANNOTATED
            .replace("3e-3", "1.25e-2")
            .replace("1_2usize", "4usize")
            .replace("= \"a;b\"", "= \"c\"");
        assert_eq!(files["main.rs"], expected);
        let after = scan(&Program { files });
        assert_eq!(keys(&after), keys(&before));
        assert_eq!(after.skeleton, before.skeleton);
        assert_ne!(
            before.skeleton,
            scan(&Program::single("main.rs", "const A: f64 = 1.0;")).skeleton
        );
    }

    /// Lines that look almost like what is searched for.
    fn almost() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "(pub )?const [A-C]: (f64|usize|i8|&str) = -?[0-9_]{1,4}(\\.[0-9]{0,2})?(e-?[0-9])?;",
            "[a-c](: int)? = -?[0-9]{1,3}(\\.[0-9]{1,2})?( # x)?",
            "(///|//|#) tune: (log|int|linear|logit|choice) -?[0-9.]{1,3} [0-9.e]{1,4}( divides A)?",
            "[\"'/*#r\\\\{} ]{0,6}",
            ".{0,20}",
        ];
        proptest::collection::vec(line, 0..14).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn no_text_panics_and_patched_programs_keep_their_constants(
            text in almost(),
            rust: bool,
            steps in proptest::collection::vec(-1.5_f64..1.5, 16),
        ) {
            let file = if rust { "main.rs" } else { "main.toml" };
            let program = Program::single(file, text);
            let before = scan(&program);
            let space = crate::space::Space::new(&before);
            let moved = steps.iter().cycle().zip(0..before.constants.len());
            let changes: BTreeMap<usize, String> = moved
                .map(|(step, idx)| {
                    (idx, space.text(idx, space.moved(idx, space.parent[idx], *step)))
                })
                .collect();
            let mut files = program.files.clone();
            files.extend(patch(&program, &before, &changes));
            let patched = Program { files };
            let after = scan(&patched);
            prop_assert_eq!(keys(&after), keys(&before), "{:?}", patched);
            prop_assert_eq!(after.skeleton, before.skeleton);
            for (idx, constant) in after.constants.iter().enumerate() {
                prop_assert_eq!(&constant.text, &changes[&idx]);
            }
        }
    }
}
