//! Rules on the text as such: size, names of files, characters.

use super::Rules;
use forerunner_core::{Finding, Program};

/// Characters that reorder or hide text on a screen, by range.
const INVISIBLE: [(u32, u32, &str); 6] = [
    (0x00ad, 0x00ad, "an invisible hyphen"),
    (0x061c, 0x061c, "a bidirectional control"),
    (0x200b, 0x200f, "a zero-width or bidirectional control"),
    (0x202a, 0x202e, "a bidirectional control"),
    (0x2060, 0x206f, "an invisible or bidirectional control"),
    (0xfeff, 0xfeff, "a byte order mark"),
];

/// Checks size, file names and characters.
pub(super) fn check(rules: &Rules, program: &Program) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bytes = program.len_bytes();
    if bytes > rules.max_bytes {
        let message = format!(
            "{bytes} bytes of source; at most {} are allowed, because a program is to be read; \
             remove what it does not need",
            rules.max_bytes
        );
        findings.push(Finding::error("source/size", message));
    }
    for (path, text) in &program.files {
        if !path.ends_with(".rs") {
            let message = "only Rust source files (`.rs`) belong to a program, because data and \
                           build settings come from the environment; remove it";
            findings.push(Finding::error("source/file", message).at(format!("{path}:1")));
        }
        // The compiler skips such a line while our parser would read it, so that a comment opened
        // there could hide code from the rules.
        if text.starts_with("#!") && !text.starts_with("#![") {
            let message = "a first line `#!...` is refused: a program is compiled, not run as a \
                           script; remove it";
            findings.push(Finding::error("source/file", message).at(format!("{path}:1")));
        }
        for (idx, line) in text.lines().enumerate() {
            if let Some(found) = line.chars().find(|c| !is_plain(*c)) {
                let what = describe(found);
                let message = format!(
                    "{what}; source is plain ASCII, so that what people read is what the \
                     compiler reads; spell it out, or write `\\u{{...}}` in a string"
                );
                let finding = Finding::error("source/ascii", message);
                findings.push(finding.at(format!("{path}:{}", idx + 1)));
            }
        }
    }
    findings
}

fn is_plain(c: char) -> bool {
    // `lines` has taken off the carriage return of a line end; others hide what stands before.
    matches!(c, ' '..='~' | '\t')
}

fn describe(c: char) -> String {
    let code = u32::from(c);
    let hidden = INVISIBLE.iter().find(|(low, high, _)| (*low..=*high).contains(&code));
    match hidden {
        Some((.., name)) => format!("{name} (U+{code:04X})"),
        None if c.is_ascii_control() => format!("a control character (U+{code:04X})"),
        None => format!("`{c}` (U+{code:04X})"),
    }
}
