//! Writing HTML: the only place that knows its syntax.
//!
//! Names of elements and attributes are literals of ours; every other text is escaped on its way
//! in, wherever it goes. Characters that show nothing, or change how others are shown, are made
//! visible: a page must not hide what a program contains.

use crate::sanitize::is_hidden;
use std::fmt::{Display, Write as _};

/// Elements without content and end tag.
const VOID: [&str; 1] = ["meta"];

/// A piece of a page. Foreign text gets in only escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Markup(String);

impl Markup {
    /// Markup of ours, written as it is: what is known when we compile cannot be foreign.
    pub(crate) fn ours(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Text, escaped.
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        let mut escaped = String::new();
        escape(text.as_ref(), &mut escaped);
        Self(escaped)
    }

    /// All pieces, one after the other.
    pub(crate) fn all<T: Into<Self>>(pieces: impl IntoIterator<Item = T>) -> Self {
        let mut all = Self::default();
        pieces.into_iter().for_each(|piece| all.push(piece));
        all
    }

    pub(crate) fn push(&mut self, piece: impl Into<Self>) {
        self.0.push_str(&piece.into().0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// An element under construction.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Element {
    tag: &'static str,
    classes: String,
    attributes: String,
    content: String,
}

/// An element without attributes and content.
pub(crate) fn el(tag: &'static str) -> Element {
    Element { tag, classes: String::new(), attributes: String::new(), content: String::new() }
}

impl Element {
    /// Adds an attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        let _ = write!(self.attributes, " {name}=\"");
        escape(&value.to_string(), &mut self.attributes);
        self.attributes.push('"');
        self
    }

    /// Adds classes, separated by blanks.
    pub(crate) fn class(mut self, classes: &str) -> Self {
        if !self.classes.is_empty() {
            self.classes.push(' ');
        }
        escape(classes, &mut self.classes);
        self
    }

    /// Adds text.
    pub(crate) fn text(mut self, text: impl AsRef<str>) -> Self {
        escape(text.as_ref(), &mut self.content);
        self
    }

    /// Adds a child.
    pub(crate) fn with(mut self, child: impl Into<Markup>) -> Self {
        self.content.push_str(&child.into().0);
        self
    }

    /// Adds children.
    pub(crate) fn with_all<T: Into<Markup>>(
        mut self,
        children: impl IntoIterator<Item = T>,
    ) -> Self {
        children.into_iter().for_each(|child| self.content.push_str(&child.into().0));
        self
    }
}

impl From<Element> for Markup {
    fn from(element: Element) -> Self {
        let Element { tag, classes, mut attributes, content } = element;
        if !classes.is_empty() {
            attributes = format!(" class=\"{classes}\"{attributes}");
        }
        if VOID.contains(&tag) {
            return Self(format!("<{tag}{attributes}>"));
        }
        Self(format!("<{tag}{attributes}>{content}</{tag}>"))
    }
}

/// An element that may be missing.
impl From<Option<Element>> for Markup {
    fn from(element: Option<Element>) -> Self {
        element.map(Self::from).unwrap_or_default()
    }
}

/// Text that means nothing to a parser of HTML, in content and in quoted attributes.
fn escape(text: &str, into: &mut String) {
    for char in text.chars() {
        match char {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            '\n' => into.push('\n'),
            '\t' => into.push_str("    "),
            // The pictures that Unicode has for control characters.
            '\0'..='\u{1f}' => into.extend(char::from_u32(0x2400 + u32::from(char))),
            '\u{7f}' => into.push('\u{2421}'),
            char if is_invisible(char) => {
                let _ = write!(into, "⟨U+{:04X}⟩", u32::from(char));
            }
            char => into.push(char),
        }
    }
}

/// Beyond what terminals must not see: line separators, and code points that are no characters.
fn is_invisible(char: char) -> bool {
    is_hidden(char)
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(char) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(Markup::from(el("p").text(text)).into_string(), format!("<p>{expected}</p>"));
        let attribute = Markup::from(el("p").attr("title", text)).into_string();
        assert_eq!(attribute, format!("<p title=\"{expected}\"></p>"));
    }

    #[test]
    fn foreign_text_is_text() {
        check("</script><img src=x>", "&lt;/script&gt;&lt;img src=x&gt;");
        check("\" onload='f(1)", "&quot; onload=&#39;f(1)");
        check("a && b", "a &amp;&amp; b");
        check("Größe → 日本 🚀\n2", "Größe → 日本 🚀\n2");
    }

    #[test]
    fn what_shows_nothing_is_shown() {
        check("a\0b\u{1b}[31mc\rd\u{7f}", "a␀b␛[31mc␍d␡");
        check("let x\u{202e} = 1;\u{200b}", "let x⟨U+202E⟩ = 1;⟨U+200B⟩");
        check(
            "a\u{2028}b\u{feff}\u{9b}c\u{ffff}\u{1fffe}",
            "a⟨U+2028⟩b⟨U+FEFF⟩⟨U+009B⟩c⟨U+FFFF⟩⟨U+1FFFE⟩",
        );
        check("\tx", "    x");
    }

    #[test]
    fn elements_nest() {
        let list = el("ul")
            .class("a")
            .attr("id", 1)
            .class("b")
            .with_all((1..=2).map(|n| el("li").text(n.to_string())));
        let page = Markup::all([Markup::from(el("meta").attr("charset", "utf-8")), list.into()]);
        let expected =
            "<meta charset=\"utf-8\"><ul class=\"a b\" id=\"1\"><li>1</li><li>2</li></ul>";
        assert_eq!(page.into_string(), expected);
        assert!(Markup::from(None::<Element>).is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_markup(text in any::<String>()) {
            let page = Markup::from(el("p").attr("title", &text).text(&text)).into_string();
            let inner = page.strip_prefix("<p title=\"").and_then(|p| p.strip_suffix("</p>"));
            let (attribute, content) = inner.and_then(|p| p.split_once("\">")).unwrap();
            for part in [attribute, content] {
                prop_assert!(!part.contains(['<', '>', '"', '\'']), "{part}");
                prop_assert!(part.chars().all(|c| c == '\n' || !is_invisible(c)), "{part}");
            }
        }
    }
}
