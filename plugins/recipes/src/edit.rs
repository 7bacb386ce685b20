//! Edits of a text: finding places, and what is put there.

use crate::recipe::{Action, Edit, Values, substitute};
use std::{borrow::Cow, collections::BTreeSet, ops::Range};

/// Why an edit cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mismatch {
    NotFound { text: String },
    Ambiguous { text: String, times: usize },
}

/// A text that is searched without regard to white space at the ends of lines.
#[derive(Debug)]
pub(crate) struct Trimmed<'a> {
    text: Cow<'a, str>,
    /// Where each byte is in the original; `None` when nothing was cut.
    origin: Option<Vec<usize>>,
}

impl<'a> Trimmed<'a> {
    pub(crate) fn new(original: &'a str) -> Self {
        if original.split('\n').all(|line| line.trim_end() == line) {
            return Self { text: Cow::Borrowed(original), origin: None };
        }
        let (mut text, mut origin, mut start) = (String::new(), Vec::new(), 0);
        for line in original.split_inclusive('\n') {
            let kept = line.trim_end();
            origin.extend(start..start + kept.len());
            text.push_str(kept);
            start += line.len();
            if line.ends_with('\n') {
                origin.push(start - 1);
                text.push('\n');
            }
        }
        Self { text: Cow::Owned(text), origin: Some(origin) }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// Where `text` occurs, in bytes of the original.
    pub(crate) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let wanted = without_line_ends(text);
        let found = self.text.match_indices(&*wanted).map(|(start, _)| start..start + wanted.len());
        match &self.origin {
            None => found.collect(),
            Some(origin) => found.map(|at| origin[at.start]..origin[at.end - 1] + 1).collect(),
        }
    }
}

/// The text without white space before its line breaks.
fn without_line_ends(text: &str) -> Cow<'_, str> {
    let Some((head, last)) = text.rsplit_once('\n') else { return Cow::Borrowed(text) };
    if head.split('\n').all(|line| line.trim_end() == line) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<&str> = head.split('\n').map(str::trim_end).chain([last]).collect();
    Cow::Owned(lines.join("\n"))
}

impl Edit {
    /// The places that it edits: none when it is optional and not applicable.
    pub(crate) fn places(
        &self,
        text: &Trimmed<'_>,
        values: &Values,
    ) -> Result<Vec<Range<usize>>, Mismatch> {
        for alternative in &self.find {
            let wanted = substitute(alternative, values);
            let found = text.find(&wanted);
            match found.len() {
                0 => {}
                times if times > 1 && !self.every => {
                    return Err(Mismatch::Ambiguous { text: first_line(&wanted), times });
                }
                _ => return Ok(found),
            }
        }
        if self.optional {
            return Ok(Vec::new());
        }
        Err(Mismatch::NotFound { text: first_line(&substitute(&self.find[0], values)) })
    }

    fn apply(&self, text: &str, values: &Values) -> Result<String, Mismatch> {
        let places = self.places(&Trimmed::new(text), values)?;
        // What is put where, each place and thing once: two finds may share a line.
        let mut splices = BTreeSet::new();
        for place in places {
            match &self.action {
                Action::Replace(by) => {
                    splices.insert((place.start, place.end, substitute(by, values)));
                }
                Action::Insert { before, after } => {
                    let lines = whole_lines(text, place);
                    if let Some(before) = before {
                        let added = lines_before(text, &lines, &substitute(before, values));
                        splices.insert((lines.start, lines.start, added));
                    }
                    if let Some(after) = after {
                        let added = lines_after(text, &lines, &substitute(after, values));
                        splices.insert((lines.end, lines.end, added));
                    }
                }
            }
        }
        let mut edited = text.to_owned();
        for (start, end, by) in splices.into_iter().rev() {
            edited.replace_range(start..end, &by);
        }
        Ok(edited)
    }
}

impl Edit {
    /// Takes the edit back; `None` when what it brought is not there once, as it brought it, or
    /// when it cannot be told what was there before.
    fn undo(&self, text: &str, values: &Values) -> Option<String> {
        let [find] = self.find.as_slice() else { return None };
        if self.every || self.optional {
            return None;
        }
        let find = substitute(find, values);
        let once = |wanted: &str| {
            let found = Trimmed::new(text).find(wanted);
            <[Range<usize>; 1]>::try_from(found).ok().map(|[place]| place)
        };
        let mut undone = text.to_owned();
        match &self.action {
            Action::Replace(by) => {
                let by = substitute(by, values);
                let place = if by.is_empty() { None } else { once(&by) };
                undone.replace_range(place?, &find);
            }
            Action::Insert { before, after } => {
                let lines = whole_lines(text, once(&find)?);
                if let Some(after) = after {
                    let added = lines_after(text, &lines, &substitute(after, values));
                    let rest = text[lines.end..].strip_prefix(&added)?;
                    undone = format!("{}{rest}", &text[..lines.end]);
                }
                if let Some(before) = before {
                    let added = lines_before(text, &lines, &substitute(before, values));
                    let head = text[..lines.start].strip_suffix(&added)?;
                    undone = format!("{head}{}", &undone[lines.start..]);
                }
            }
        }
        Some(undone)
    }
}

/// Takes all edits back, the last one first; `None` when that does not work out exactly.
pub(crate) fn undo(edits: &[Edit], text: &str, values: &Values) -> Option<String> {
    let mut edits_back = edits.iter().rev();
    let undone = edits_back.try_fold(text.to_owned(), |text, edit| edit.undo(&text, values))?;
    (apply(edits, &undone, values).as_deref() == Ok(text)).then_some(undone)
}

/// Makes all edits, each on the result of the one before.
pub(crate) fn apply(edits: &[Edit], text: &str, values: &Values) -> Result<String, Mismatch> {
    edits.iter().try_fold(text.to_owned(), |text, edit| edit.apply(&text, values))
}

/// The first line of a text that has anything on it.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// The lines that hold a place, without the last line break.
fn whole_lines(text: &str, place: Range<usize>) -> Range<usize> {
    let found = &text[place.clone()];
    let first = place.start + (found.len() - found.trim_start_matches(['\n', '\r']).len());
    let last = place.end - (found.len() - found.trim_end_matches(['\n', '\r']).len());
    let start = text[..first].rfind('\n').map_or(0, |at| at + 1);
    let end = text[last..].find('\n').map_or(text.len(), |at| last + at);
    start..end
}

/// What stands above `lines` when `added` is put there.
fn lines_before(text: &str, lines: &Range<usize>, added: &str) -> String {
    indented(added, indent(&text[lines.clone()]))
}

/// What follows `lines` when `added` is put there, also where a file ends without a line break.
fn lines_after(text: &str, lines: &Range<usize>, added: &str) -> String {
    let last = text[lines.clone()].rsplit('\n').next().unwrap_or_default();
    let added = indented(added, indent(last));
    format!("\n{}", added.strip_suffix('\n').unwrap_or(&added))
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// Whole lines, with `indent` before each that is not empty.
fn indented(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        if !line.trim().is_empty() {
            lines += indent;
            lines += line;
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    fn recipe(edit: &str) -> Recipe {
        let head = "title = 'T'\nsource = 'S'\nwhy = 'W'\ngain = [0.1, 0.2]\npresent = ['x']\n";
        Recipe::parse("toy", &format!("{head}[[edit]]\n{edit}")).expect("a recipe")
    }

    fn edited(edit: &str, text: &str) -> Result<String, Mismatch> {
        apply(&recipe(edit).edits, text, &Values::new())
    }

    #[test]
    fn edits_are_taken_back_exactly_or_not_at_all() {
        let check = |edit: &str, text: &str, back: bool| {
            let edited = edited(edit, text).expect("it applies");
            let undone = undo(&recipe(edit).edits, &edited, &Values::new());
            assert_eq!(undone.as_deref(), back.then_some(text), "{edit} {edited}");
        };
        check("find = 'b'\nreplace = 'x'", "a b c\n", true);
        check("find = 'b'\nreplace = 'x'", "a b x\n", false);
        check("find = 'b'\nreplace = ''", "a b c\n", false);
        check("find = ['q', 'b']\nreplace = 'x'", "a b c\n", false);
        check("find = 'b'\nbefore = 'x'\nafter = \"y\\n  z\"", " {\n  b\n }\n", true);
        let two = "find = 'b'\nafter = 'x'\n[[edit]]\nfind = 'x'\nreplace = 'y'";
        check(two, "a b c\n", true);
        let recipe = recipe("find = 'b'\nafter = 'x'");
        assert_eq!(undo(&recipe.edits, "b\nz\n", &Values::new()), None);
    }

    fn check(edit: &str, text: &str, expected: &str) {
        assert_eq!(edited(edit, text).as_deref(), Ok(expected), "{edit} {text}");
    }

    #[test]
    fn texts_are_replaced_exactly() {
        check("find = 'b'\nreplace = 'x'", "a b c\n", "a x c\n");
        check("find = 'b '\nreplace = ''", "a b c\n", "a c\n");
        check("find = ['q', 'b']\nreplace = 'x'", "a b c\n", "a x c\n");
        check("find = 'b'\nevery = true\nreplace = 'xb'", "b b\nb", "xb xb\nxb");
        check("find = 'q'\noptional = true\nreplace = 'x'", "a b c\n", "a b c\n");
        check("find = \"a\\nb\"\nreplace = 'x'", "é\na \t\r\nb  \nc ", "é\nx  \nc ");
        check("find = \"a  \\nb\"\nreplace = 'x'", "a\nb", "x");
    }

    #[test]
    fn lines_are_indented_like_their_neighbour() {
        check("find = 'b'\nbefore = 'x'", "{\n    a b c\n}\n", "{\n    x\n    a b c\n}\n");
        check(
            "find = 'b'\nafter = \"x {\\n\\n    y\\n}\\n\"",
            "  a b c\n",
            "  a b c\n  x {\n\n      y\n  }\n",
        );
        check("find = 'b'\nafter = 'x'", "a b", "a b\nx");
        check("find = 'b'\nbefore = \"x\\n\\n\"", "b\n", "x\n\nb\n");
        check("find = 'b'\nafter = \"\\nx\\n\\n\"", "b\nc\n", "b\n\nx\n\nc\n");
        check("find = \"{\\n  a\\n\"\nbefore = 'x'\nafter = 'y'", "{\n  a\n}", "x\n{\n  a\n  y\n}");
        check("find = 'b'\nevery = true\nafter = 'x'", "b b\nb\n", "b b\nx\nb\nx\n");
    }

    #[test]
    fn what_does_not_fit_is_quoted() {
        let missing = edited("find = \"\\n  q r\\ns\"\nreplace = 'x'", "a");
        assert_eq!(missing, Err(Mismatch::NotFound { text: "q r".into() }));
        let twice = edited("find = ['b', 'a']\nreplace = 'x'", "a b b");
        assert_eq!(twice, Err(Mismatch::Ambiguous { text: "b".into(), times: 2 }));
        assert!(edited("find = 'q'\nevery = true\nreplace = 'x'", "a").is_err());
    }
}
