//! Texts from outside, made fit for people.

use crate::secret::Key;

/// The longest message, in characters; its hints may be as long again.
const LONGEST: usize = 300;

/// One line without control characters, keys and words that look like a masked key, cut to
/// 300 characters without its hints. A line that we wrote ourselves as a `hint:` stays a line.
pub(crate) fn for_people(text: &str, key: &Key) -> String {
    // First the key: cleaning could tear it apart.
    let clean = key.out_of_message(text);
    let mut lines: Vec<String> = Vec::new();
    for line in clean.split('\n') {
        let words = line
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty());
        let line: Vec<&str> =
            words.map(|word| if is_masked(word) { "[masked]" } else { word }).collect();
        let line = line.join(" ");
        match lines.last_mut() {
            Some(last) if !line.starts_with("hint: ") => {
                if !line.is_empty() {
                    last.push(' ');
                    last.push_str(&line);
                }
            }
            _ => lines.push(line),
        }
    }
    // A hint is worth more than the end of a long message.
    let hints = if lines.len() > 1 { lines.split_off(1).join("\n") } else { String::new() };
    let parts = [lines.concat(), hints].map(|part| shortened(&part));
    let [message, hints] = parts;
    if hints.is_empty() { message } else { format!("{message}\n{hints}") }
}

fn shortened(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c == '\n' || !is_deceptive(*c)).collect();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}...", text[..end].trim_end()),
    }
}

/// Whether a provider blotted something out in this word.
fn is_masked(word: &str) -> bool {
    word.contains("***") || word.contains("\u{2022}\u{2022}\u{2022}")
}

/// Control characters, and those that reorder or hide text.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e01ef}'
        )
}

/// The reply without the thoughts that some local models put before it, and whether they were left
/// unfinished.
pub(crate) fn without_thoughts(text: String) -> String {
    let Some(rest) = text.trim_start().strip_prefix("<think>") else { return text };
    match rest.split_once("</think>") {
        Some((_, reply)) => reply.trim_start().to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_short_harmless_line() {
        let check =
            |text: &str, expected: &str| assert_eq!(for_people(text, &Key::Unneeded), expected);
        check("a\u{1b}[31mb\r\nc\td", "a [31mb c d");
        check("key sk-p****wxyz given", "key [masked] given");
        check("no\nhint: do this", "no\nhint: do this");
        check("safe\u{202e}txt", "safetxt");
        for invisible in
            "\u{ad}\u{61c}\u{180e}\u{206a}\u{206f}\u{fe00}\u{fe0f}\u{e0000}\u{e0041}\u{e01ef}"
                .chars()
        {
            check(&format!("sa{invisible}fe"), "safe");
        }
        check("one\u{2028}line\u{2029}only", "one line only");
        let hinted = for_people(&format!("{}\nhint: do this", "ä".repeat(1000)), &Key::Unneeded);
        assert!(hinted.ends_with("ä...\nhint: do this"), "{hinted}");
        let long = for_people(&"ä".repeat(1000), &Key::Unneeded);
        assert_eq!(long.chars().count(), 303);
    }

    #[test]
    fn thoughts_are_no_part_of_a_reply() {
        let check =
            |text: &str, expected: &str| assert_eq!(without_thoughts(text.to_owned()), expected);
        check("<think>hm</think>\n\nyes", "yes");
        check("\n<think>\nhm\n</think>yes", "yes");
        check("<think>never ends", "");
        check("tags are <think>written</think> so", "tags are <think>written</think> so");
        check(" plain ", " plain ");
    }
}
