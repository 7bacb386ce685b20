//! The constant of a program that its cost is proportional to.

use forerunner_sdk::Program;
use std::ops::Range;

/// Decimal digits that are worth writing.
const DIGITS: usize = 3;

/// A numeric constant: `const STEPS: usize = 2_800;`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    file: String,
    place: Range<usize>,
    pub(crate) text: String,
    value: f64,
    integer: bool,
    limits: Limits,
}

/// What the comment above says of the values it may have.
#[derive(Debug, Clone, PartialEq)]
enum Limits {
    None,
    Range { low: f64, high: f64, multiple: f64 },
    Choice(Vec<String>),
}

/// A constant with another value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rescaled {
    pub(crate) from: String,
    pub(crate) to: String,
    /// New value over old one.
    pub(crate) factor: f64,
}

impl Constant {
    /// Finds a constant by name.
    pub(crate) fn find(program: &Program, name: &str) -> Option<Self> {
        program.files.iter().find_map(|(file, text)| {
            let mut start = 0;
            for (line_idx, line) in text.split_inclusive('\n').enumerate() {
                if let Some(place) = value_place(line, name) {
                    let literal = &line[place.clone()];
                    let above: Vec<&str> = text.lines().take(line_idx).collect();
                    return Some(Self {
                        file: file.clone(),
                        place: start + place.start..start + place.end,
                        text: literal.to_owned(),
                        value: number(literal)?,
                        integer: !literal.contains(['.', 'e']),
                        limits: limits(&above),
                    });
                }
                start += line.len();
            }
            None
        })
    }

    /// Multiplies the constant in `program`, in which it was found; `None` when that changes
    /// nothing.
    pub(crate) fn rescale(&self, program: &mut Program, factor: f64) -> Option<Rescaled> {
        let to = self.text_of(self.value * factor);
        let factor = number(&to)? / self.value;
        if (factor - 1.0).abs() < 1e-9 || !factor.is_finite() || factor <= 0.0 {
            return None;
        }
        program.files.get_mut(&self.file)?.replace_range(self.place.clone(), &to);
        Some(Rescaled { from: self.text.clone(), to, factor })
    }

    fn text_of(&self, wanted: f64) -> String {
        let rounded = round_significant(wanted, DIGITS);
        let value = match &self.limits {
            Limits::None => rounded,
            Limits::Range { low, high, multiple } if *multiple > 0.0 => {
                let multiples = (rounded / multiple).round();
                multiples.clamp((low / multiple).ceil(), (high / multiple).floor()) * multiple
            }
            Limits::Range { low, high, .. } => rounded.clamp(*low, *high),
            Limits::Choice(options) => {
                let distance = |text: &&String| {
                    number(text).map_or(f64::INFINITY, |value| (value / wanted).ln().abs())
                };
                let nearest = options.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
                return nearest.cloned().unwrap_or_else(|| self.text.clone());
            }
        };
        if !self.integer {
            let text = format!("{value}");
            return if text.contains('.') { text } else { text + ".0" };
        }
        let digits = format!("{}", value.round().max(1.0));
        if self.text.contains('_') { grouped(&digits) } else { digits }
    }
}

/// Where the value is in a line that declares the constant.
fn value_place(line: &str, name: &str) -> Option<Range<usize>> {
    let declared = line.trim_start().trim_start_matches("pub ").strip_prefix("const ")?;
    let (_type, value) = declared.strip_prefix(name)?.strip_prefix(':')?.split_once('=')?;
    let literal = value.split(';').next()?.trim();
    number(literal)?;
    let start = literal.as_ptr().addr() - line.as_ptr().addr();
    Some(start..start + literal.len())
}

/// A positive number, as Rust writes it without a suffix.
fn number(literal: &str) -> Option<f64> {
    let value: f64 = literal.replace('_', "").parse().ok()?;
    (value > 0.0 && value.is_finite()).then_some(value)
}

/// Reads `tune:` in the comment at the end of these lines.
fn limits(above: &[&str]) -> Limits {
    let comment = above.iter().rev().map(|line| line.trim());
    let comment = comment.take_while(|line| line.starts_with("//") || line.starts_with("#["));
    let words =
        comment.filter_map(|line| line.trim_start_matches('/').trim().strip_prefix("tune:"));
    let Some(words) = words.map(|text| text.split_whitespace().collect::<Vec<_>>()).next() else {
        return Limits::None;
    };
    match words.as_slice() {
        ["choice", options @ ..] => {
            Limits::Choice(options.iter().map(|option| (*option).to_owned()).collect())
        }
        [_, low, high, rest @ ..] => {
            let (Some(low), Some(high)) = (number(low), number(high)) else { return Limits::None };
            let multiple = match rest {
                ["multiple", of] => number(of).unwrap_or_default(),
                _ => 0.0,
            };
            Limits::Range { low, high: high.max(low), multiple }
        }
        _ => Limits::None,
    }
}

fn round_significant(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, factor: f64, expected: &str) {
        let mut program = Program::single("main.rs", source);
        let constant = Constant::find(&program, "STEPS").expect("it is there");
        constant.rescale(&mut program, factor);
        assert_eq!(program.files["main.rs"], expected, "{factor}");
    }

    #[test]
    fn constants_keep_their_style_and_their_range() {
        let steps = "const STEPS: usize = 2800;\n";
        check(steps, 0.7018, "const STEPS: usize = 1970;\n");
        check(
            "const STEPS: usize = 2_800; // many\n",
            0.5,
            "const STEPS: usize = 1_400; // many\n",
        );
        check("    pub const STEPS: f64 = 2.0;", 1.5, "    pub const STEPS: f64 = 3.0;");
        let tuned = format!("/// tune: log 1000 3e3\n{steps}");
        check(&tuned, 0.1, &tuned.replace("2800", "1000"));
        check(&tuned, 1.5, &tuned.replace("2800", "3000"));
        let multiple = format!("/// tune: int 100 6000 multiple 64\n{steps}");
        check(&multiple, 0.5, &multiple.replace("2800", "1408"));
        let choice = format!("/// tune: choice 700 1400 2800\n{steps}");
        check(&choice, 0.6, &choice.replace("= 2800", "= 1400"));
        check(&choice, 1.4, &choice);
        check("const STEPS: usize = 2;\n", 0.2, "const STEPS: usize = 1;\n");
    }

    #[test]
    fn other_lines_are_no_constants() {
        for text in ["let STEPS = 3;", "const STEPS_A: u8 = 3;", "const STEPS: u8 = A;", ""] {
            assert_eq!(Constant::find(&Program::single("a", text), "STEPS"), None, "{text}");
        }
    }
}
