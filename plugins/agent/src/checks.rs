//! `./check`: lets the agent have its program checked while it works.
//!
//! The script makes a folder in `.check`, waits for an answer beside the scratch folder, prints it
//! and leaves with its code. Nobody waits for anybody else: an agent that dies leaves a folder behind,
//! and a script that is not answered any more sees that the service is closed.

use crate::harvest::Wanted;
use crate::scratch::Scratch;
use crate::text::{block, line};
use forerunner_sdk::{Error, Finding, Host, Program, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How often we look for requests.
const PERIOD: Duration = Duration::from_millis(40);
/// Requests that are kept in mind; an agent that asks more often is not answered any more.
const MAX_REQUESTS: usize = 10_000;
/// Findings in an answer.
const MAX_FINDINGS: usize = 20;
/// Characters of a finding's message: compilers explain at length.
const MESSAGE: usize = 4000;

/// Answers the checks of one scratch folder.
#[derive(Debug)]
pub(crate) struct Service<'a> {
    scratch: &'a Scratch,
    wanted: &'a Wanted,
    answers: PathBuf,
    limit: u32,
    used: AtomicU32,
}

/// What a check says: the script's exit code, and what it prints.
type Said = (u8, String);

const PASSED: u8 = 0;
const REFUSED: u8 = 1;
const UNANSWERED: u8 = 2;

impl<'a> Service<'a> {
    /// Puts the script into the folder and opens the service.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn open(scratch: &'a Scratch, wanted: &'a Wanted, limit: u32) -> Result<Self> {
        let answers = scratch.answers();
        scratch.add_script("check", &script(&answers))?;
        fs::write(answers.join("open"), "").map_err(Error::failed)?;
        Ok(Self { scratch, wanted, answers, limit, used: AtomicU32::new(0) })
    }

    /// Checks that were answered.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed).min(self.limit)
    }

    /// Answers until `done`.
    pub(crate) fn serve(&self, host: &dyn Host, done: &AtomicBool) {
        let mut seen = BTreeSet::new();
        while !done.load(Ordering::Relaxed) && seen.len() < MAX_REQUESTS {
            for name in self.scratch.requests() {
                let is_name = name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphanumeric());
                if is_name && !done.load(Ordering::Relaxed) && seen.insert(name.clone()) {
                    let (code, text) = self.answer(host);
                    // An answer that cannot be written is none; the script goes on waiting until
                    // the service closes.
                    _ = self.put(&name, &format!("{code}\n{text}"));
                }
            }
            std::thread::sleep(PERIOD);
        }
        _ = fs::remove_file(self.answers.join("open"));
    }

    fn answer(&self, host: &dyn Host) -> Said {
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.limit {
            return (UNANSWERED, format!("no check is left of {}\n", self.limit));
        }
        match self.scratch.program(self.wanted) {
            Err(problem) => (REFUSED, format!("refused: {problem}\n")),
            Ok(program) => self.check(&program, host),
        }
    }

    fn check(&self, program: &Program, host: &dyn Host) -> Said {
        match host.check(program) {
            Ok(check) => {
                let mut text = findings(&check.findings);
                let code = if check.passed() { PASSED } else { REFUSED };
                text += match (check.passed(), check.cause) {
                    (true, _) => "passed".to_owned(),
                    (false, None) => "refused".to_owned(),
                    (false, Some(cause)) => format!("refused ({})", cause.as_str()),
                }
                .as_str();
                let left = self.limit - self.used();
                (code, format!("{text}; {left} of {} checks left\n", self.limit))
            }
            Err(Error::Cancelled) => (UNANSWERED, "the run ends\n".to_owned()),
            Err(error) => {
                (UNANSWERED, format!("no check was made: {}\n", block(&error.to_string(), MESSAGE)))
            }
        }
    }

    /// Complete or not at all.
    fn put(&self, name: &str, text: &str) -> std::io::Result<()> {
        let draft = self.answers.join(format!("{name}.draft"));
        fs::write(&draft, text)?;
        fs::rename(draft, self.answers.join(name))
    }
}

/// Findings in words, gravest first.
pub(crate) fn findings(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut text = String::new();
    for finding in sorted.iter().take(MAX_FINDINGS) {
        let severity = finding.severity.as_str();
        let place = finding.place.as_deref().map(|place| format!(" at {}", line(place, 200)));
        let (rule, message) = (line(&finding.rule, 100), block(&finding.message, MESSAGE));
        text += &format!("{severity} {rule}{}: {message}\n", place.unwrap_or_default());
    }
    if findings.len() > MAX_FINDINGS {
        text += &format!("and {} more findings\n", findings.len() - MAX_FINDINGS);
    }
    text
}

/// The script. It needs nothing but a POSIX shell, `mkdir`, `sleep` and `cat`.
fn script(answers: &Path) -> String {
    let answers = quoted(&answers.to_string_lossy());
    format!(
        r#"#!/bin/sh
# Has the program in this folder checked as it will be before it is measured, and prints what was
# found. Exit code 0: passed. 1: refused. 2: no answer.
answers={answers}
cd "$(dirname "$0")" || exit 2
number=0
until mkdir ".check/$$x$number" 2>/dev/null; do
    number=$((number + 1))
    if [ "$number" -gt 99 ]; then
        echo "check: the folder .check cannot be written to" >&2
        exit 2
    fi
done
answer="$answers/$$x$number"
while [ ! -e "$answer" ]; do
    if [ ! -e "$answers/open" ]; then
        echo "check: nobody answers any more" >&2
        exit 2
    fi
    sleep 0.05 2>/dev/null || sleep 1
done
{{
    read -r code
    cat
}} < "$answer"
exit "$code"
"#
    )
}

/// A word of a shell that means just this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted("/tmp/a b'c"), r"'/tmp/a b'\''c'");
    }

    #[test]
    fn findings_are_told_gravest_first_and_without_control_characters() {
        let told = findings(&[
            Finding::warning("a/b", "careful"),
            Finding::error("compile/error", "\u{1b}[31mno\u{1b}[0m\nsuch name").at("main.rs:1"),
        ]);
        assert_eq!(
            told,
            "error compile/error at main.rs:1: [31mno[0m\nsuch name\nwarning a/b: careful\n"
        );
    }
}
