//! What source may be compiled at run time, and what of a compiler's words is passed on.

use crate::{Error, Result};

/// Bytes of a source; somewhat arbitrary, ten times what a fused operation takes.
pub(super) const MOST_BYTES: usize = 64 << 10;

/// Directives that name files.
const FILES: [&str; 4] = ["include", "include_next", "import", "embed"];
/// Words that ask for files, wherever they stand.
const ASKING: [&str; 3] = ["__has_include", "__has_include_next", "__has_embed"];

/// Refuses what is too long, what is not plain text, and whatever could name a file: a compiler in
/// a program's process is not to read anything on its behalf.
///
/// Directives are looked for without regard to strings and comments, which may be refused too.
pub(super) fn check(text: &str) -> Result<()> {
    let refuse = |reason: String| Err(Error::Custom { reason });
    if text.len() > MOST_BYTES {
        return refuse(format!("the source has {} bytes, more than {MOST_BYTES}", text.len()));
    }
    let is_plain = |c: char| matches!(c, ' '..='~' | '\n' | '\t');
    if let Some((at, c)) = text.char_indices().find(|&(_, c)| !is_plain(c)) {
        let line = text[..at].matches('\n').count() + 1;
        return refuse(format!(
            "line {line} of the source holds {c:?}\nhint: write it in ASCII, with tabs and line \
             feeds as the only control characters"
        ));
    }
    if let Some(trigraph) = ["??=", "??/"].into_iter().find(|trigraph| text.contains(trigraph)) {
        return refuse(format!("the source holds the trigraph `{trigraph}`"));
    }
    let joined = join_lines(text);
    for mark in ["#", "%:"] {
        for (at, _) in joined.match_indices(mark) {
            let word = first_word(skip_blanks(&joined[at + mark.len()..]));
            if FILES.contains(&word) {
                return refuse(format!(
                    "the source holds `#{word}`\nhint: what kernels need is there without it; see \
                     the documentation of custom kernels"
                ));
            }
        }
    }
    let mut words = joined.split(|c: char| !is_of_word(c));
    match words.find(|word| ASKING.contains(word)) {
        Some(word) => refuse(format!("the source holds `{word}`")),
        None => Ok(()),
    }
}

/// Lines that end in a backslash, joined with the next; some compilers forgive blanks after it.
fn join_lines(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.trim_end().strip_suffix('\\') {
            Some(begun) if line.ends_with('\n') => joined.push_str(begun),
            _ => joined.push_str(line),
        }
    }
    joined
}

/// What follows blanks and comments on the same line.
fn skip_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches([' ', '\t']);
        let Some(comment) = text.strip_prefix("/*") else { return text };
        text = comment.split_once("*/").map_or("", |(_, rest)| rest);
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !is_of_word(c)).next().unwrap_or_default()
}

/// A name that somebody asked for, as far as it can be shown.
pub(super) fn readable_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(128).collect()
}

/// Characters of a compiler's words that are passed on.
#[cfg(any(feature = "cuda", test))]
const MOST_WORDS: usize = 4096;

/// A compiler's words, as far as they are printable and not too many: they quote the source.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn readable(words: &str) -> String {
    let one = |c: char| match c {
        ' '..='~' | '\n' => Some(c),
        '\t' => Some(' '),
        c if c.is_control() => None,
        _ => Some('?'),
    };
    let mut readable: String = words.chars().filter_map(one).take(MOST_WORDS + 1).collect();
    if readable.len() > MOST_WORDS {
        readable.truncate(MOST_WORDS);
        readable.push_str("\n(cut here)");
    }
    readable.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_could_name_a_file_is_refused() {
        let refused = |text: &str, reason: &str| {
            let error = check(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        };
        refused("#include \"/etc/hosts\"", "`#include`");
        refused("int a;\n  #  include <a>", "`#include`");
        refused("#/* a */ /**/ include <a>", "`#include`");
        refused("#/*\n*/include <a>", "`#include`");
        refused("#inc\\\nlude <a>", "`#include`");
        refused("#inc\\ \t\nlude <a>", "`#include`");
        refused("\\\n#include <a>", "`#include`");
        refused("%:include <a>", "`#include`");
        refused("%\\\n:include <a>", "`#include`");
        refused("const char* a = \"#/*\";\n#include <a>\n*/", "`#include`");
        refused("#include_next <a>", "`#include_next`");
        refused("#import <a>", "`#import`");
        refused("#embed <a>", "`#embed`");
        refused("#if __has_include(<a>)\n#endif", "`__has_include`");
        refused("??=include <a>", "trigraph");
        refused("#inc??/\nlude <a>", "trigraph");
    }

    #[test]
    fn other_directives_and_words_are_not() {
        for text in [
            "#define N 3\n#pragma unroll\n#if N\n#endif\n#undef N",
            "// What these include is said above.\nint includes;",
            "#define STRING(x) #x\n#define JOIN(a, b) a##b",
            "asm(\"mov.b32 %0, %1;\" : \"=r\"(a) : \"r\"(b));",
            "",
        ] {
            check(text).unwrap();
        }
        check(&" ".repeat(MOST_BYTES)).unwrap();
    }

    #[test]
    fn only_short_plain_text_is_source() {
        let error = check(&" ".repeat(MOST_BYTES + 1)).unwrap_err().to_string();
        assert_eq!(error, "custom kernels: the source has 65537 bytes, more than 65536");
        for (text, at) in [
            ("a\nb\u{e9}", "line 2 of the source holds 'é'"),
            ("\0", "line 1 of the source holds '\\0'"),
            ("a\r\n", "line 1 of the source holds '\\r'"),
            ("\u{b}#include", "holds '\\u{b}'"),
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.contains(at), "{error}");
        }
    }

    #[test]
    fn words_are_capped_and_harmless() {
        assert_eq!(readable("  a\tb\u{1b}[31m\nc\u{202e}\r\n\0"), "a b[31m\nc?");
        let long = readable(&"x".repeat(MOST_WORDS + 7));
        assert_eq!(long.len(), MOST_WORDS + "\n(cut here)".len());
        assert_eq!(readable(&"x".repeat(MOST_WORDS)).len(), MOST_WORDS);
    }
}
