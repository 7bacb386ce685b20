//! Annotations: the author's word on how a constant may vary.
//!
//! ```text
//! tune: log LO HI            a rate: equal steps multiply
//! tune: logit LO HI          a share near 0 or 1, such as a momentum of 0.99
//! tune: linear LO HI         equal steps add
//! tune: int LO HI            an integer; equal steps multiply when LO > 0
//! tune: int LO HI divides X  and divides the constant X without remainder
//! tune: int LO HI multiple X and is a multiple of the constant (or number) X
//! tune: choice A B C         one of these
//! ```

use crate::domain::Domain;

/// A rule that ties a constant to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It divides the named constant.
    Divides(String),
    /// It is a multiple of the named constant, or of a number written out.
    Multiple(String),
}

/// What an annotation says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Annotation {
    pub(crate) domain: Domain,
    /// Whether only integers are allowed, whatever the type.
    pub(crate) integer: bool,
    pub(crate) rule: Option<Rule>,
}

/// Reads the text of a comment. `None`: not an annotation. `Some(Err)`: an annotation that makes
/// no sense, with the reason.
pub(crate) fn read(comment: &str) -> Option<Result<Annotation, String>> {
    let words: Vec<&str> = comment.trim().strip_prefix("tune:")?.split_whitespace().collect();
    Some(match words.as_slice() {
        ["choice", options @ ..] => choice(options),
        [kind, low, high, rest @ ..] => range(kind, low, high).and_then(|annotation| {
            let rule = rule(rest)?;
            match rule {
                Some(_) if !annotation.integer => Err("only `int` can be tied to others".into()),
                rule => Ok(Annotation { rule, ..annotation }),
            }
        }),
        _ => Err("expected `log|logit|linear|int LOW HIGH` or `choice A B`".into()),
    })
}

fn choice(options: &[&str]) -> Result<Annotation, String> {
    if options.len() < 2 {
        return Err("a choice needs at least two options".into());
    }
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Ok(Annotation { domain: Domain::Choice(options), integer: false, rule: None })
}

fn range(kind: &str, low: &str, high: &str) -> Result<Annotation, String> {
    let number = |text: &str| {
        super::literal::read_whole(text).ok_or_else(|| format!("`{text}` is not a number"))
    };
    let (low, high) = (number(low)?, number(high)?);
    if low >= high {
        return Err(format!("{low} is not below {high}"));
    }
    let domain = match kind {
        "log" if low > 0.0 => Domain::Log { low, high },
        "log" => return Err("a log range starts above 0".into()),
        "logit" if low > 0.0 && high < 1.0 => Domain::Logit { low, high },
        "logit" => return Err("a logit range lies strictly between 0 and 1".into()),
        "int" if low > 0.0 => Domain::Log { low, high },
        "linear" | "int" => Domain::Linear { low, high },
        _ => return Err(format!("unknown kind `{kind}` (known: log, logit, linear, int, choice)")),
    };
    if kind == "int" && low.ceil() >= high.floor() {
        return Err(format!("there are not two integers from {low} to {high}"));
    }
    Ok(Annotation { domain, integer: kind == "int", rule: None })
}

fn rule(words: &[&str]) -> Result<Option<Rule>, String> {
    match words {
        [] => Ok(None),
        ["divides", name] => Ok(Some(Rule::Divides((*name).to_owned()))),
        ["multiple", name] => Ok(Some(Rule::Multiple((*name).to_owned()))),
        _ => Err(format!("`{}` is not a rule (known: divides X, multiple X)", words.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read() {
        let check = |text: &str, domain: Domain, integer: bool, rule: Option<Rule>| {
            assert_eq!(read(text), Some(Ok(Annotation { domain, integer, rule })), "{text}");
        };
        check("tune: log 1e-4 3e-2", Domain::Log { low: 1e-4, high: 3e-2 }, false, None);
        check("  tune:  linear -1 1.5 ", Domain::Linear { low: -1.0, high: 1.5 }, false, None);
        check("tune: logit 0.8 0.999", Domain::Logit { low: 0.8, high: 0.999 }, false, None);
        check("tune: int 0 8", Domain::Linear { low: 0.0, high: 8.0 }, true, None);
        let divides = Some(Rule::Divides("WIDTH".into()));
        check("tune: int 1 8 divides WIDTH", Domain::Log { low: 1.0, high: 8.0 }, true, divides);
        let multiple = Some(Rule::Multiple("8".into()));
        check("tune: int 8 64 multiple 8", Domain::Log { low: 8.0, high: 64.0 }, true, multiple);
        let options = Domain::Choice(vec!["true".into(), "false".into()]);
        check("tune: choice true false", options, false, None);
        assert_eq!(read("tuned by hand"), None);
    }

    #[test]
    fn senseless_annotations_say_why() {
        let check = |text: &str, reason: &str| assert_eq!(read(text), Some(Err(reason.into())));
        check("tune: log 0 1", "a log range starts above 0");
        check("tune: log 2 1", "2 is not below 1");
        check("tune: int 1 x", "`x` is not a number");
        check("tune: cube 1 2", "unknown kind `cube` (known: log, logit, linear, int, choice)");
        check("tune: int 1 8 halves X", "`halves X` is not a rule (known: divides X, multiple X)");
        check("tune: log 1 8 divides X", "only `int` can be tied to others");
        check("tune: choice A", "a choice needs at least two options");
        check("tune:", "expected `log|logit|linear|int LOW HIGH` or `choice A B`");
    }
}
