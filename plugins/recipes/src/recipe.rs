//! Recipes: what their files say, and which files make sense.

use crate::presence::Signature;
use serde::Deserialize;
use std::{collections::BTreeMap, ops::Range};
use toml::Spanned;

/// The values that a proposal gives to a recipe's parameters, by name.
pub type Values = BTreeMap<String, String>;

/// A known technique as edits of a program.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The stem of its file's name.
    pub name: String,
    /// A few words for people.
    pub title: String,
    /// Where the technique comes from.
    pub source: String,
    /// How it helps.
    pub why: String,
    /// Expected relative saving of the budget at equal quality: a central two-thirds interval.
    pub gain: (f64, f64),
    /// Recipes that must be in the program already.
    pub requires: Vec<String>,
    /// Recipes that must not be in the program.
    pub excludes: Vec<String>,
    /// What may be chosen when it is applied.
    pub parameters: Vec<Parameter>,
    pub(crate) signature: Signature,
    pub(crate) edits: Vec<Edit>,
}

/// A part of a recipe's texts that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `{{name}}` in the edits stands for the value.
    pub name: String,
    /// What it may be, the default first.
    pub values: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Edit {
    /// Alternatives; the first that occurs is taken.
    pub(crate) find: Vec<String>,
    pub(crate) action: Action,
    pub(crate) every: bool,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Replace(String),
    /// Whole lines above and below.
    Insert {
        before: Option<String>,
        after: Option<String>,
    },
}

impl Action {
    /// The texts that it brings into the program.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &String> {
        let (replace, before, after) = match self {
            Self::Replace(text) => (Some(text), None, None),
            Self::Insert { before, after } => (None, before.as_ref(), after.as_ref()),
        };
        replace.into_iter().chain(before).chain(after)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    title: Spanned<String>,
    source: Spanned<String>,
    why: Spanned<String>,
    gain: Spanned<[f64; 2]>,
    #[serde(default)]
    requires: Vec<String>,
    #[serde(default)]
    excludes: Vec<String>,
    #[serde(default)]
    present: Vec<Spanned<String>>,
    #[serde(default)]
    parameter: Vec<Spanned<ParameterTable>>,
    edit: Spanned<Vec<Spanned<EditTable>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterTable {
    name: String,
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditTable {
    find: OneOrMore,
    replace: Option<String>,
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    every: bool,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`find` is a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Recipe {
    /// Reads the text of `NAME.toml`.
    ///
    /// # Errors
    /// When the text is no recipe; the error begins with `NAME.toml:LINE: `.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let at = |span: Range<usize>, message: &str| {
            format!("{name}.toml:{}: {message}", line_number(text, span.start))
        };
        let file: RecipeFile = toml::from_str(text).map_err(|error| {
            at(error.span().unwrap_or_default(), &error.message().replace('\n', ", "))
        })?;
        for (field, words) in [("title", &file.title), ("source", &file.source), ("why", &file.why)]
        {
            if words.get_ref().trim().is_empty() {
                return Err(at(words.span(), &format!("`{field}` is empty")));
            }
        }
        let [low, high] = *file.gain.get_ref();
        if !(-10.0 <= low && low < high && high < 1.0) {
            let message = "`gain` is a low and a higher share of the budget, below 1";
            return Err(at(file.gain.span(), message));
        }
        let mut parameters: Vec<Parameter> = Vec::new();
        for table in file.parameter {
            let (span, ParameterTable { name, values }) = (table.span(), table.into_inner());
            let known = parameters.iter().any(|parameter| parameter.name == name);
            if known || values.is_empty() || !is_name(&name) {
                let message = format!("parameter `{name}` needs a name of its own and values");
                return Err(at(span, &message));
            }
            parameters.push(Parameter { name, values });
        }
        if file.edit.get_ref().is_empty() {
            return Err(at(file.edit.span(), "`edit` is empty"));
        }
        let mut edits = Vec::new();
        for table in file.edit.into_inner() {
            let span = table.span();
            edits.push(edit(table.into_inner(), &parameters).map_err(|why| at(span, &why))?);
        }
        if let Some(text) = file.present.iter().find(|text| text.get_ref().trim().is_empty()) {
            return Err(at(text.span(), "`present` has an empty text"));
        }
        let present = file.present.into_iter().map(Spanned::into_inner).collect();
        let signature = Signature::new(present, &edits)
            .ok_or_else(|| at(0..0, "a recipe that only removes text needs `present`"))?;
        Ok(Self {
            name: name.to_owned(),
            title: file.title.into_inner(),
            source: file.source.into_inner(),
            why: file.why.into_inner(),
            gain: (low, high),
            requires: file.requires,
            excludes: file.excludes,
            parameters,
            signature,
            edits,
        })
    }

    /// The default value of every parameter.
    pub fn defaults(&self) -> Values {
        let default = |parameter: &Parameter| (parameter.name.clone(), parameter.values[0].clone());
        self.parameters.iter().map(default).collect()
    }
}

fn edit(table: EditTable, parameters: &[Parameter]) -> Result<Edit, String> {
    let EditTable { find, replace, before, after, every, optional } = table;
    let find = match find {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(texts) => texts,
    };
    if find.is_empty() || find.iter().any(|text| text.trim().is_empty()) {
        return Err("`find` is empty".into());
    }
    let action = match (replace, before, after) {
        (Some(text), None, None) => Action::Replace(text),
        (None, None, None) => return Err("an edit needs `replace`, `before` or `after`".into()),
        (None, before, after) => Action::Insert { before, after },
        _ => return Err("`replace` stands alone, without `before` and `after`".into()),
    };
    for text in find.iter().chain(action.texts()) {
        for name in placeholders(text) {
            if !parameters.iter().any(|parameter| parameter.name == name) {
                let known: Vec<_> = parameters.iter().map(|p| p.name.as_str()).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(format!("`{{{{{name}}}}}` is no parameter (known: {known})"));
            }
        }
    }
    Ok(Edit { find, action, every, optional })
}

/// The names in double braces, in order. Anything else in double braces is the program's own.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split("{{").skip(1);
    parts.filter_map(|part| part.split_once("}}").map(|(name, _)| name)).filter(|n| is_name(n))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The text with the values in place.
pub(crate) fn substitute(text: &str, values: &Values) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

/// The line, from 1, that holds a byte.
pub(crate) fn line_number(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "title = 'T'\nsource = 'S'\nwhy = 'W'\ngain = [0.1, 0.2]\n";

    fn check(body: &str, expected: &str) {
        let text = format!("{HEAD}{body}");
        let error = Recipe::parse("toy", &text).expect_err("makes no sense");
        assert_eq!(error, expected, "{body}");
    }

    #[test]
    fn errors_name_file_and_line() {
        check(
            "colour = 1\n",
            "toy.toml:5: unknown field `colour`, expected one of `title`, \
            `source`, `why`, `gain`, `requires`, `excludes`, `present`, `parameter`, `edit`",
        );
        check("edit = []\n", "toy.toml:5: `edit` is empty");
        check(
            "\n[[edit]]\nfind = 'x'\n",
            "toy.toml:6: an edit needs `replace`, `before` or `after`",
        );
        check(
            "[[edit]]\nfind = 'x'\nreplace = 'y'\n\n[[edit]]\nfind = 'x'\nafter = 'a'\nreplace = ''\n",
            "toy.toml:9: `replace` stands alone, without `before` and `after`",
        );
        check("[[edit]]\nfind = ' '\nreplace = 'y'\n", "toy.toml:5: `find` is empty");
        check(
            "[[edit]]\nfind = 'x'\nreplace = '{{base}}'\n",
            "toy.toml:5: `{{base}}` is no parameter (known: none)",
        );
        check(
            "[[edit]]\nfind = 'x'\nreplace = ''\n",
            "toy.toml:1: a recipe that only removes text needs `present`",
        );
        check(
            "[[parameter]]\nname = 'a'\nvalues = []\n[[edit]]\nfind = 'x'\nreplace = 'y'\n",
            "toy.toml:5: parameter `a` needs a name of its own and values",
        );
        check(
            "[[edit]]\nfind = 3\nreplace = 'y'\n",
            "toy.toml:6: `find` is a text or a list of texts",
        );
    }

    #[test]
    fn gains_and_words_make_sense() {
        let parse = |text: &str| Recipe::parse("toy", text).expect_err("makes no sense");
        let rest = "[[edit]]\nfind = 'x'\nreplace = 'y'\n";
        let error = parse(&(HEAD.replace("[0.1, 0.2]", "[0.2, 0.1]") + rest));
        assert_eq!(error, "toy.toml:4: `gain` is a low and a higher share of the budget, below 1");
        let error = parse(&(HEAD.replace("'S'", "''") + rest));
        assert_eq!(error, "toy.toml:2: `source` is empty");
        assert_eq!(parse(rest), "toy.toml:1: missing field `title`");
    }

    #[test]
    fn texts_take_their_values_and_keep_other_braces() {
        let values = Values::from([("base".to_owned(), "100".to_owned())]);
        assert_eq!(substitute("{{base}} {{ base }} {{x}}", &values), "100 {{ base }} {{x}}");
        assert_eq!(placeholders("{{a}} {{ b }} {{C}} {{d").collect::<Vec<_>>(), ["a"]);
    }
}
