//! A line of styled words that knows its width.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a piece of a line is, which decides its colour where there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Ordinary text.
    Plain,
    /// Less important: times and labels.
    Faint,
    /// A new best.
    Good,
    /// Something failed.
    Bad,
    /// Something to look at.
    Notice,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Notice => AnsiColor::Yellow.on_default(),
        }
    }
}

/// A line under construction. Texts must be free of control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    /// A line that begins with `label`, padded to `width` columns and two blanks.
    pub(crate) fn labelled(tone: Tone, label: &str, width: usize) -> Self {
        let blanks = width.saturating_sub(label.width()) + 2;
        Self::default().with(tone, label).with(Tone::Plain, " ".repeat(blanks))
    }

    /// The line with more text at its end.
    pub(crate) fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.pieces.push((tone, text.into()));
        self
    }

    /// The line as text, cut to `columns` with an ellipsis when it is wider.
    pub(crate) fn render(&self, colour: bool, columns: Option<usize>) -> String {
        let width: usize = self.pieces.iter().map(|(_, text)| text.width()).sum();
        let fits = columns.is_none_or(|columns| width <= columns);
        let mut left = match columns {
            Some(columns) if !fits => columns.saturating_sub(1),
            _ => usize::MAX,
        };
        let mut line = String::new();
        for (tone, text) in &self.pieces {
            let text = cut(text, &mut left);
            let style = tone.style();
            if colour && *tone != Tone::Plain && !text.is_empty() {
                line.push_str(&format!("{style}{text}{style:#}"));
            } else {
                line.push_str(text);
            }
        }
        if !fits {
            line.push('…');
        }
        line
    }
}

/// The longest beginning of `text` that fits into the columns `left`, which it uses up.
fn cut<'a>(text: &'a str, left: &mut usize) -> &'a str {
    for (index, char) in text.char_indices() {
        let width = char.width().unwrap_or(0);
        if width > *left {
            *left = 0;
            return &text[..index];
        }
        *left -= width;
    }
    text
}

/// `text` cut to `columns` with an ellipsis when it is wider.
pub(crate) fn shorten(text: &str, columns: usize) -> String {
    Line::default().with(Tone::Plain, text).render(false, Some(columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_cut_at_their_width_and_colour_takes_none() {
        let line = Line::labelled(Tone::Good, "best", 6).with(Tone::Plain, "28.3 s");
        assert_eq!(line.render(false, None), "best    28.3 s");
        assert_eq!(line.render(false, Some(14)), "best    28.3 s");
        assert_eq!(line.render(false, Some(13)), "best    28.3…");
        assert_eq!(line.render(false, Some(1)), "…");
        assert_eq!(line.render(true, Some(3)), "\x1b[1m\x1b[32mbe\x1b[0m…");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("日本語", 4), "日…");
    }

    proptest! {
        #[test]
        fn a_cut_line_fits(texts in prop::collection::vec("\\PC{0,12}", 0..5), columns in 1..40_usize) {
            let line = texts.into_iter().fold(Line::default(), |line, t| line.with(Tone::Plain, t));
            prop_assert!(line.render(false, Some(columns)).width() <= columns);
        }
    }
}
