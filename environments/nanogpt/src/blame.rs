//! What a program did wrong, told from how its process ended or what it sent.

use crate::{process::Trouble, telemetry::printable};
use forerunner_core::Cause;
use forerunner_nanogpt_protocol::Error as WireError;
use forerunner_sandbox::{Finished, Outcome};

/// How the harness puts it when a number is not finite. A label for a failure, nothing more: a
/// program can print what it likes.
const NOT_FINITE: [&str; 4] = ["not finite", " is NaN", " is inf", " is -inf"];

/// How it puts it when the device's memory is used up; a label, too.
const DEVICE_MEMORY: [&str; 2] = ["CUDA_ERROR_OUT_OF_MEMORY", "out of memory"];

/// Exit status of a harness that finds no GPU where its track needs one.
const UNAVAILABLE: i32 = 69;

/// What to do about a model above the cap.
const MAKE_IT_SMALLER: &str =
    "make it smaller: fewer or narrower layers, or one tensor in several places";

/// A model above the track's cap of `most` values.
pub(crate) fn too_large(what: &str, n_values: usize, most: usize) -> Trouble {
    let text = format!("{what} {n_values} values, the track allows {most}; {MAKE_IT_SMALLER}");
    Trouble::program(Cause::Rule, "snapshot/size", text)
}

/// What a process did wrong that ended before it was asked to; `most` is the track's cap on values.
pub(crate) fn ended_early(stage: &str, most: usize, finished: &Finished) -> Trouble {
    let said = last_words(&finished.stderr);
    let with_words = |text: String| if said.is_empty() { text } else { format!("{text}: {said}") };
    match finished.outcome {
        Outcome::OutOfCpu => Trouble::program(
            Cause::Timeout,
            "limit/cpu",
            format!("{stage} used up its CPU time; do less work or take fewer steps"),
        ),
        Outcome::TimedOut => Trouble::program(
            Cause::Timeout,
            "limit/wall",
            format!("{stage} used up its wall time; it may wait for something that never comes"),
        ),
        Outcome::OutOfMemory => Trouble::program(
            Cause::Memory,
            "limit/memory",
            format!("{stage} needed more memory than the track allows; make something smaller"),
        ),
        Outcome::Exited(0) => Trouble::program(
            Cause::Protocol,
            "program/early-exit",
            with_words(format!(
                "{stage} ended before handing anything over; let `harness::run` end it"
            )),
        ),
        Outcome::Exited(_) if NOT_FINITE.iter().any(|words| said.contains(words)) => {
            Trouble::program(Cause::NotFinite, "program/not-finite", with_words(stage.to_owned()))
        }
        Outcome::Exited(_) if DEVICE_MEMORY.iter().any(|words| said.contains(words)) => {
            let text =
                format!("{stage} needed more memory than the device has; make something smaller");
            Trouble::program(Cause::Memory, "limit/device-memory", with_words(text))
        }
        // Whoever wants to can end like this, so it is the program's failure, not the machine's.
        Outcome::Exited(UNAVAILABLE) => Trouble::program(
            Cause::Crash,
            "program/no-device",
            with_words(format!("{stage} could not use its GPU")),
        ),
        Outcome::Exited(_) if let Some(n_values) = declared_too_many(&said, most) => {
            too_large(&format!("the model of {stage} has at least"), n_values, most)
        }
        outcome => {
            let what = match outcome {
                _ if said.contains("panicked at") => "panicked".into(),
                Outcome::Exited(code) => format!("failed with exit status {code}"),
                other => other.to_string(),
            };
            Trouble::program(Cause::Crash, "program/crash", with_words(format!("{stage} {what}")))
        }
    }
}

/// What a process did wrong that sent something we did not expect.
pub(crate) fn misspoken(stage: &str, most: usize, error: &WireError) -> Trouble {
    if let WireError::TooLong { kind: "snapshot" | "checkpoint", length, .. } = error {
        return Trouble::program(
            Cause::Rule,
            "snapshot/size",
            format!(
                "{stage} sent a snapshot of {length} bytes, far more than the {most} values that \
                 the track allows take; {MAKE_IT_SMALLER}"
            ),
        );
    }
    Trouble::program(
        Cause::Protocol,
        "protocol/frame",
        format!(
            "{stage} sent what is not a frame ({error}); standard output belongs to the harness, \
             a program must not write to it"
        ),
    )
}

/// How many values the harness counted when it refused a parameter that passes the cap. A label
/// again: a program that prints this itself has failed all the same.
fn declared_too_many(said: &str, most: usize) -> Option<usize> {
    let (_, rest) = said.split_once("with it the model has ")?;
    let (n_values, rest) = rest.split_once(" values, the track allows ")?;
    let cap: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let n_values = n_values.parse().ok().filter(|n_values| *n_values > most)?;
    (cap.parse() == Ok(most)).then_some(n_values)
}

/// The last lines of standard error, made harmless and short. A program's words are data.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE"))
        .collect();
    let from = lines.iter().rposition(|line| line.contains("panicked at"));
    let from = from.unwrap_or(lines.len().saturating_sub(3));
    printable(&lines[from..].join(" / "), 400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn finished(outcome: Outcome, stderr: &str) -> Finished {
        Finished {
            outcome,
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            peak_memory_bytes: 0,
            stdout: Vec::new(),
            stderr: stderr.into(),
            output_truncated: false,
            layers: forerunner_sandbox::Layers::default(),
        }
    }

    #[test]
    fn every_end_has_its_cause() {
        let check = |outcome, stderr: &str, cause: Cause, text: &str| {
            let Trouble::Program(found, finding) =
                ended_early("the trainer", 10, &finished(outcome, stderr))
            else {
                panic!("the program is to blame");
            };
            assert_eq!(found, cause);
            assert!(finding.message.contains(text), "{}", finding.message);
        };
        check(Outcome::OutOfCpu, "", Cause::Timeout, "the trainer used up its CPU time");
        check(Outcome::TimedOut, "", Cause::Timeout, "wall time");
        check(Outcome::OutOfMemory, "", Cause::Memory, "memory");
        check(Outcome::Exited(0), "", Cause::Protocol, "before handing anything over");
        check(Outcome::Signalled(11), "", Cause::Crash, "signal 11");
        check(
            Outcome::Signalled(6),
            "\nthread 'main' panicked at main.rs:3:5:\nindex\x1b[31m out of bounds\nnote: run \
             with `RUST_BACKTRACE=1`",
            Cause::Crash,
            "the trainer panicked: thread 'main' panicked at main.rs:3:5: / index?[31m out \
             of bounds",
        );
        check(
            Outcome::Exited(1),
            "error: a parameter is not finite after training",
            Cause::NotFinite,
            "not finite",
        );
        let words = "error: gelu: CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"";
        check(Outcome::Exited(1), words, Cause::Memory, "more memory than the device has");
        let words = "error: no driver library `libcuda.so.1`";
        check(Outcome::Exited(69), words, Cause::Crash, "could not use its GPU: error: no driver");
        let words = "error: the training loss is NaN at step 1";
        check(Outcome::Exited(1), words, Cause::NotFinite, "at step 1");
        let words = "error: parameter `w`: with it the model has 12 values, the track allows 10";
        let text = "the model of the trainer has at least 12 values, the track allows 10; make it";
        check(Outcome::Exited(1), words, Cause::Rule, text);
    }

    #[test]
    fn only_the_harness_s_own_complaint_names_a_size() {
        let check = |said: &str, expected| assert_eq!(declared_too_many(said, 10), expected);
        let panic =
            "Parameter { reason: \"with it the model has 12 values, the track allows 10\" }";
        check(panic, Some(12));
        check("with it the model has 12 values, the track allows 1000", None);
        check("with it the model has 9 values, the track allows 10", None);
        check("with it the model has -1 values, the track allows 10", None);
        check("with it the model has", None);
    }

    #[test]
    fn nonsense_is_a_protocol_error_and_a_giant_snapshot_a_rule() {
        let check = |error: WireError, expected: Cause| match misspoken("the trainer", 10, &error) {
            Trouble::Program(cause, _) => assert_eq!(cause, expected),
            Trouble::Host(error) => panic!("{error}"),
        };
        check(WireError::UnknownKind(104), Cause::Protocol);
        check(WireError::TooLong { kind: "logits", length: 9, limit: 1 }, Cause::Protocol);
        check(WireError::TooLong { kind: "snapshot", length: 9, limit: 1 }, Cause::Rule);
    }
}
