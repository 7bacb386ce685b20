//! How output should look on the terminal at hand.

use std::io::{self, IsTerminal};

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether a block of status is drawn in place below the lines. Needs a terminal.
    pub live: bool,
    /// Whether words are coloured. Colour never says anything that the words do not.
    pub colour: bool,
    /// Whether lines about single evaluations are left out; new bests and trouble remain.
    pub quiet: bool,
    /// How wide the status may be.
    pub width: Width,
}

/// How wide the terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// So many columns.
    Columns(usize),
    /// As wide as the terminal behind the stream is at the moment of drawing; 80 when unknown.
    Of(Stream),
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Look {
    /// Lines only, no colour: for files, pipes and continuous integration.
    pub fn plain() -> Self {
        Self { live: false, colour: false, quiet: false, width: Width::Columns(80) }
    }

    /// What `stream` and the environment allow: live and coloured on a terminal, plain elsewhere.
    /// A non-empty `NO_COLOR` (<https://no-color.org>) turns colour off, `TERM=dumb` both.
    pub fn detect(stream: Stream) -> Self {
        let terminal = match stream {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        };
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = variable("TERM").is_none_or(|term| term == "dumb");
        Self::of(terminal && !dumb, variable("NO_COLOR").is_some(), Width::Of(stream))
    }

    fn of(capable: bool, no_colour: bool, width: Width) -> Self {
        Self { live: capable, colour: capable && !no_colour, quiet: false, width }
    }
}

impl Width {
    /// The number of columns now, at least 20.
    pub(crate) fn columns(self) -> usize {
        let columns = match self {
            Self::Columns(columns) => Some(columns),
            Self::Of(Stream::Stdout) => measure(io::stdout()),
            Self::Of(Stream::Stderr) => measure(io::stderr()),
        };
        columns.unwrap_or(80).max(20)
    }
}

fn measure(stream: impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_needs_a_terminal_and_permission() {
        let look = |capable, no_colour| {
            let look = Look::of(capable, no_colour, Width::Columns(80));
            (look.live, look.colour)
        };
        assert_eq!(look(true, false), (true, true));
        assert_eq!(look(true, true), (true, false));
        assert_eq!(look(false, false), (false, false));
        assert_eq!(Width::Columns(3).columns(), 20);
    }
}
