//! Foreign text cut to size, and the words that sections share.

use super::markup::{Element, Markup, el};

/// `text` on one line, cut to `most` characters with a note of how many are missing. What remains
/// is still foreign: [`super::markup`] escapes it.
pub(crate) fn line(text: &str, most: usize) -> String {
    // A text may be long: what is cut is only counted.
    let mut line = String::new();
    let mut chars = text.chars().peekable();
    let mut n_chars = 0;
    while let Some(char) = chars.next() {
        let char = if char.is_whitespace() {
            while chars.next_if(|next| next.is_whitespace()).is_some() {}
            if n_chars == 0 || chars.peek().is_none() {
                continue;
            }
            ' '
        } else {
            char
        };
        if n_chars == most {
            return format!("{line}… (cut, {} characters more)", 1 + chars.count());
        }
        line.push(char);
        n_chars += 1;
    }
    line
}

/// `text` with its lines, cut after `most` characters, and how many characters are missing.
pub(crate) fn block(text: &str, most: usize) -> (&str, usize) {
    match text.char_indices().nth(most) {
        None => (text, 0),
        Some((at, _)) => (&text[..at], text[at..].chars().count()),
    }
}

/// A part of the page with its heading, which is in the list of contents.
pub(crate) struct Section {
    /// Anchor.
    pub(crate) id: &'static str,
    /// In the list of contents.
    pub(crate) short: &'static str,
    /// Heading.
    pub(crate) title: &'static str,
    /// What follows the heading.
    pub(crate) body: Markup,
}

impl Section {
    pub(crate) fn render(self) -> Element {
        let heading = format!("{}-heading", self.id);
        el("section")
            .attr("id", self.id)
            .attr("aria-labelledby", &heading)
            .with(el("h2").attr("id", &heading).text(self.title))
            .with(self.body)
    }
}

/// A paragraph that explains, in a quieter voice.
pub(crate) fn note(text: impl AsRef<str>) -> Element {
    el("p").class("note").text(text)
}

/// An identity, short, in a fixed-width font; the whole of it in its title.
pub(crate) fn identity(id: &forerunner_core::ProgramId) -> Element {
    el("code").class("id").attr("title", id).text(id.short())
}

/// A column of a table: its heading, and whether it is for numbers.
pub(crate) struct Column {
    heading: String,
    class: &'static str,
}

impl Column {
    pub(crate) fn text(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), class: "text" }
    }

    pub(crate) fn number(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), class: "num" }
    }
}

/// A table that scrolls by itself where the page is too narrow. The first cell of a row is its
/// heading.
pub(crate) fn table(caption: &str, columns: &[Column], rows: Vec<Vec<Markup>>) -> Element {
    let head = columns
        .iter()
        .map(|column| el("th").attr("scope", "col").class(column.class).text(&column.heading));
    let rows = rows.into_iter().map(|row| {
        let cells = row.into_iter().zip(columns).enumerate().map(|(index, (cell, column))| {
            let head = || el("th").attr("scope", "row");
            let element = if index == 0 { head() } else { el("td") };
            element.class(column.class).with(cell)
        });
        el("tr").with_all(cells)
    });
    let table = el("table")
        .with(el("caption").text(caption))
        .with(el("thead").with(el("tr").with_all(head)))
        .with(el("tbody").with_all(rows));
    el("div")
        .class("scroll")
        .attr("tabindex", 0)
        .attr("role", "group")
        .attr("aria-label", caption)
        .with(table)
}

/// A list of names and values.
pub(crate) fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, Markup)>) -> Element {
    el("dl").with_all(
        rows.into_iter()
            .map(|(name, value)| el("div").with(el("dt").text(name)).with(el("dd").with(value))),
    )
}

/// What is shown only when somebody asks for it.
pub(crate) fn fold(summary: impl Into<Markup>, body: impl Into<Markup>) -> Element {
    el("details").with(el("summary").with(summary)).with(body)
}

/// Code with its lines as they are.
pub(crate) fn code(text: &str) -> Element {
    el("pre").attr("tabindex", 0).with(el("code").text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_say_so() {
        assert_eq!(line("  two\n\n lines\tand more ", 99), "two lines and more");
        assert_eq!(line("abc", 3), "abc");
        assert_eq!(line("abcdef", 3), "abc… (cut, 3 characters more)");
        assert_eq!(line("日本語", 1), "日… (cut, 2 characters more)");
        assert_eq!(line(" \n ", 5), "");
    }

    #[test]
    fn long_blocks_are_cut_between_characters() {
        assert_eq!(block("日本\n語", 2), ("日本", 2));
        assert_eq!(block("日本", 2), ("日本", 0));
    }
}
