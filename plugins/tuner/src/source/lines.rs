//! Lines of code, without those that begin inside a comment or a string.

/// What a line of Rust begins in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Code,
    /// Block comments nest.
    Comment(usize),
    Text,
    /// A raw string that ends with a quote and so many `#`.
    RawText(usize),
}

/// A line, and where it starts in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) start: usize,
    pub(crate) text: &'a str,
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.split_inclusive('\n').scan(0, |start, text| {
        let line = Line { start: *start, text: text.trim_end_matches(['\n', '\r']) };
        *start += text.len();
        Some(line)
    })
}

/// The lines of a Rust file that begin in code.
pub(crate) fn of_rust(text: &str) -> impl Iterator<Item = Line<'_>> {
    lines(text)
        .scan(Mode::Code, |mode, line| {
            let begins_in = *mode;
            *mode = after(begins_in, line.text.as_bytes());
            Some((begins_in == Mode::Code).then_some(line))
        })
        .flatten()
}

/// The lines of any other file, without those inside a triple-quoted string.
pub(crate) fn of_text(text: &str) -> impl Iterator<Item = Line<'_>> {
    lines(text)
        .scan(None, |open: &mut Option<&str>, line| {
            let begins_in = *open;
            let mut rest = line.text;
            loop {
                let quotes = open.map_or_else(|| vec!["\"\"\"", "'''"], |quote| vec![quote]);
                let next = quotes.iter().filter_map(|q| rest.find(*q).map(|at| (at, *q))).min();
                let Some((at, quote)) = next else { break };
                rest = &rest[at + quote.len()..];
                *open = if open.is_none() { Some(quote) } else { None };
            }
            Some(begins_in.is_none().then_some(line))
        })
        .flatten()
}

fn after(mut mode: Mode, line: &[u8]) -> Mode {
    // Most lines can neither open a string nor a block comment.
    if mode == Mode::Code && !line.contains(&b'"') && !line.contains(&b'*') {
        return mode;
    }
    let mut idx = 0;
    while idx < line.len() {
        let rest = &line[idx..];
        (mode, idx) = match mode {
            Mode::Code => match rest[0] {
                b'/' if rest.starts_with(b"//") => return Mode::Code,
                b'/' if rest.starts_with(b"/*") => (Mode::Comment(1), idx + 2),
                b'"' => (Mode::Text, idx + 1),
                b'r' if idx == 0 || !is_name(line[idx - 1]) || b"bc".contains(&line[idx - 1]) => {
                    match raw_quote(rest) {
                        Some(hashes) => (Mode::RawText(hashes), idx + hashes + 2),
                        None => (mode, idx + 1),
                    }
                }
                b'\'' => (mode, idx + quoted_char(rest)),
                _ => (mode, idx + 1),
            },
            Mode::Comment(depth) if rest.starts_with(b"*/") => {
                (if depth == 1 { Mode::Code } else { Mode::Comment(depth - 1) }, idx + 2)
            }
            Mode::Comment(depth) if rest.starts_with(b"/*") => (Mode::Comment(depth + 1), idx + 2),
            Mode::Text if rest[0] == b'\\' => (mode, idx + 2),
            Mode::Text if rest[0] == b'"' => (Mode::Code, idx + 1),
            Mode::RawText(hashes) if rest[0] == b'"' => {
                let closed = rest[1..].iter().take_while(|byte| **byte == b'#').count() >= hashes;
                (if closed { Mode::Code } else { mode }, idx + 1)
            }
            Mode::Comment(_) | Mode::Text | Mode::RawText(_) => (mode, idx + 1),
        };
    }
    mode
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How many `#` stand between `r` and the quote of a raw string.
fn raw_quote(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// Length of the character literal at the start of `rest`; 1 when it is a lifetime.
fn quoted_char(rest: &[u8]) -> usize {
    let find = |from: usize, until: usize| {
        let end = rest.len().min(until);
        let body = rest.get(from..end)?;
        body.iter().position(|byte| *byte == b'\'').map(|at| from + at + 1)
    };
    match rest.get(1) {
        Some(b'\\') => find(3, 12).unwrap_or(1),
        Some(first) if first.is_ascii() && rest.get(2) == Some(&b'\'') => 3,
        Some(first) if first.is_ascii() => 1,
        // A character of up to four bytes.
        Some(_) => find(2, 7).unwrap_or(1),
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<_> = of_rust(text).map(|line| line.text).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn rust_lines_in_comments_and_strings_are_left_out() {
        check("a\nb\r\nc", &["a", "b", "c"]);
        check("a /* x\nb /* y */ z\n*/ c\nd", &["a /* x", "d"]);
        check("let s = \"x\ny\\\"\nz\";\nd", &["let s = \"x", "d"]);
        check("r#\"x\n\" y\n\"# ;\nd", &["r#\"x", "d"]);
        check("let c = '\"';\nd", &["let c = '\"';", "d"]);
        check("let c = '\\'';\nd", &["let c = '\\'';", "d"]);
        check("fn f<'a>(x: &'a str) {\nd", &["fn f<'a>(x: &'a str) {", "d"]);
        check("// it's \"quoted\nd", &["// it's \"quoted", "d"]);
        check("let c = 'é'; let q = '\"';\nd", &["let c = 'é'; let q = '\"';", "d"]);
        check("for r in x { \"a\" }\nd", &["for r in x { \"a\" }", "d"]);
    }

    #[test]
    fn other_lines_in_triple_quotes_are_left_out() {
        let text = "a\n\"\"\"doc\nb = 1\n\"\"\"\nc = 2\n'''x''' + '''\nd = 3\n'''\ne";
        let found: Vec<_> = of_text(text).map(|line| line.text).collect();
        assert_eq!(found, ["a", "\"\"\"doc", "c = 2", "'''x''' + '''", "e"]);
    }
}
