//! An answer, for people or as JSON.

use std::fmt::Write;

/// Names and values, in the order in which they are told.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(&'static str, Value)>);

#[derive(Debug)]
enum Value {
    Text(String),
    Count(u64),
    Number(f64),
}

impl Report {
    pub(crate) fn text(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.0.push((name, Value::Text(text.into())));
        self
    }

    pub(crate) fn count(mut self, name: &'static str, count: u64) -> Self {
        self.0.push((name, Value::Count(count)));
        self
    }

    pub(crate) fn number(mut self, name: &'static str, number: f64) -> Self {
        self.0.push((name, Value::Number(number)));
        self
    }

    /// One `key: value` a line.
    pub(crate) fn lines(&self) -> String {
        let line = |(name, value): &(&str, Value)| match value {
            Value::Text(text) => format!("{name}: {text}\n"),
            Value::Count(count) => format!("{name}: {count}\n"),
            Value::Number(number) => format!("{name}: {number:.6}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// One object on one line. A number that is none becomes `null`.
    pub(crate) fn json(&self) -> String {
        let member = |(name, value): &(&str, Value)| {
            let value = match value {
                Value::Text(text) => quoted(text),
                Value::Count(count) => count.to_string(),
                Value::Number(number) if number.is_finite() => format!("{number:e}"),
                Value::Number(_) => "null".to_owned(),
            };
            format!("{}: {value}", quoted(name))
        };
        let members: Vec<String> = self.0.iter().map(member).collect();
        format!("{{{}}}", members.join(", "))
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c < ' ' => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_both_forms() {
        let report = Report::default()
            .text("name", "a \"GPU\"\n\\")
            .count("bytes", u64::MAX)
            .number("seconds", 0.25)
            .number("rate", 7.9e14)
            .number("nothing", f64::NAN);
        assert_eq!(
            report.json(),
            r#"{"name": "a \"GPU\"\u000a\\", "bytes": 18446744073709551615, "seconds": 2.5e-1, "rate": 7.9e14, "nothing": null}"#
        );
        assert!(report.lines().contains("\nbytes: 18446744073709551615\nseconds: 0.250000\n"));
    }
}
