//! How a recipe is recognised in a program.

use crate::{edit::Trimmed, recipe::Edit};

/// What a program has that has a recipe.
#[derive(Debug, Clone)]
pub(crate) enum Signature {
    /// All these texts, as the recipe's author gave them.
    Texts(Vec<String>),
    /// All the lines that its edits bring, each in pieces that follow one another in a line of the
    /// program: what lies between them are values, which searches may have changed.
    Lines(Vec<Vec<String>>),
}

impl Signature {
    /// `None` when there is nothing to recognise the recipe by.
    pub(crate) fn new(present: Vec<String>, edits: &[Edit]) -> Option<Self> {
        if !present.is_empty() {
            return Some(Self::Texts(present));
        }
        // What may be left out of a program says nothing about it.
        let texts = edits.iter().filter(|edit| !edit.optional).flat_map(|edit| edit.action.texts());
        let lines: Vec<_> = texts.flat_map(|text| text.lines()).filter_map(pieces).collect();
        (!lines.is_empty()).then_some(Self::Lines(lines))
    }

    /// Whether these files, as one program, have the recipe.
    pub(crate) fn is_in(&self, files: &[Trimmed<'_>]) -> bool {
        match self {
            Self::Texts(texts) => {
                texts.iter().all(|text| files.iter().any(|file| !file.find(text).is_empty()))
            }
            Self::Lines(lines) => lines.iter().all(|pieces| {
                files.iter().any(|file| file.lines().any(|line| has_pieces(line, pieces)))
            }),
        }
    }
}

/// A line without its values; `None` when it says nothing.
fn pieces(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with("//") {
        return None;
    }
    let is_constant = line.starts_with("const ") || line.starts_with("pub const ");
    if let (true, Some((declared, _))) = (is_constant, line.split_once('=')) {
        return Some(vec![declared.to_owned()]);
    }
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some((piece, (_, after))) =
        rest.split_once("{{").and_then(|(piece, rest)| Some((piece, rest.split_once("}}")?)))
    {
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let pieces: Vec<String> =
        pieces.into_iter().filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
    (!pieces.is_empty()).then_some(pieces)
}

fn has_pieces(line: &str, pieces: &[String]) -> bool {
    let mut rest = Some(line);
    for piece in pieces {
        rest = rest.and_then(|text| text.split_once(piece.as_str())).map(|(_, after)| after);
    }
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Action;

    fn check(brings: &str, program: &str, expected: bool) {
        let edit = Edit {
            find: vec!["x".into()],
            action: Action::Replace(brings.into()),
            every: false,
            optional: false,
        };
        let signature = Signature::new(vec![], &[edit]).expect("something to recognise");
        assert_eq!(signature.is_in(&[Trimmed::new(program)]), expected, "{brings} {program}");
    }

    #[test]
    fn values_and_comments_do_not_matter() {
        check("/// Base.\nconst BASE: f64 = {{base}};", "    const BASE: f64 = 3e4;\n", true);
        check("const BASE: f64 = 100.0;", "const BASES: f64 = 100.0;", false);
        check("relu(&x)?", "let y = relu(&x)?;", true);
        check("rotary(&q, {{base}})?", "let q = rotary(&q, 134)?;", true);
        check("rotary(&q, {{base}})?", "let q = rotary(&q, 134);\n x?;", false);
        check("a();\nb();", "a();\nother();\n  b();", true);
        check("a();\nb();", "a();", false);
    }
}
