//! What the person at the terminal sees.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a line of progress to standard error.
pub(crate) fn say(message: impl Display) {
    // Nothing can be done about a closed standard error.
    drop(writeln!(io::stderr(), "{message}"));
}

/// Writes a result to standard output.
pub(crate) fn print(result: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{result}")
}

/// `1` crate, `2` crates.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}
