//! What rustc says, turned into findings.

use forerunner_core::Finding;
use serde::Deserialize;

/// Most errors passed on; later ones mostly follow from earlier ones.
const MAX_FINDINGS: usize = 8;
/// Longest text of one error in characters; models and people stop reading there.
const MAX_CHARS: usize = 2000;
/// Error codes that speak of the rlibs and not of the program: crates that are missing, of
/// another compiler, or damaged.
const HARNESS_CODES: [&str; 6] = ["E0460", "E0461", "E0462", "E0514", "E0519", "E0786"];

/// What the errors amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Diagnosis {
    /// The program is wrong.
    Program(Vec<Finding>),
    /// The linker failed; its complaint. A missing linker does that, and so does a program
    /// without `main`.
    Linker(String),
    /// The machine got in the way, for example by a full disk; rustc's complaint.
    Machine(String),
    /// The harness does not fit; rustc's complaint.
    Harness(String),
    /// No error could be read.
    Nothing,
}

#[derive(Deserialize)]
struct Diagnostic {
    message: String,
    code: Option<Code>,
    level: String,
    #[serde(default)]
    spans: Vec<Span>,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct Span {
    file_name: String,
    line_start: usize,
    is_primary: bool,
}

/// Reads the JSON lines that rustc wrote; warnings are ignored. `hidden` are path prefixes that
/// mean nothing to the author.
pub(crate) fn diagnose(stderr: &[u8], extern_crate: &str, hidden: &[&str]) -> Diagnosis {
    let text = String::from_utf8_lossy(stderr);
    let errors: Vec<Diagnostic> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Diagnostic>(line).ok())
        .filter(|diagnostic| diagnostic.level.starts_with("error"))
        .filter(|diagnostic| !diagnostic.message.starts_with("aborting due to"))
        .collect();
    for error in &errors {
        let code = error.code.as_ref().map_or("", |code| code.code.as_str());
        let depends = format!("which `{extern_crate}` depends on");
        let crate_itself = format!("can't find crate for `{extern_crate}`");
        let is_lost = error.message.contains(&depends) || error.message.starts_with(&crate_itself);
        if HARNESS_CODES.contains(&code) || (code == "E0463" && is_lost) {
            return Diagnosis::Harness(cap(&error.message));
        }
        let is_linker = error.message.starts_with("linking with `")
            || error.message.starts_with("linker `")
            || error.message.starts_with("could not exec the linker");
        if is_linker && code.is_empty() {
            return Diagnosis::Linker(cap(error.rendered.as_ref().unwrap_or(&error.message)));
        }
        // What a program causes has a place in it.
        if error.message.contains("(os error ") && code.is_empty() && error.spans.is_empty() {
            return Diagnosis::Machine(cap(&error.message));
        }
    }
    if errors.is_empty() {
        return Diagnosis::Nothing;
    }
    let n_more = errors.len().saturating_sub(MAX_FINDINGS);
    let mut findings: Vec<Finding> =
        errors.iter().take(MAX_FINDINGS).map(|error| finding(error, hidden)).collect();
    if n_more > 0 {
        let message = format!("{n_more} more errors; mend the first ones");
        findings.push(Finding::error("compile/error", message));
    }
    Diagnosis::Program(findings)
}

fn finding(error: &Diagnostic, hidden: &[&str]) -> Finding {
    let rendered = error.rendered.as_deref().unwrap_or(&error.message);
    let clean = |text: &str| hidden.iter().fold(text.to_owned(), |t, path| t.replace(path, ""));
    let finding = Finding::error("compile/error", cap(clean(rendered).trim_end()));
    let primary = error.spans.iter().find(|span| span.is_primary).or(error.spans.first());
    match primary {
        Some(span) => finding.at(format!("{}:{}", clean(&span.file_name), span.line_start)),
        None => finding,
    }
}

fn cap(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}\n[...]", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(message: &str, code: Option<&str>, rendered: &str) -> String {
        let span = json!({"file_name": "src/main.rs", "line_start": 3, "is_primary": true});
        let code = code.map(|code| json!({"code": code, "explanation": null}));
        json!({"message": message, "code": code, "level": "error", "spans": [span],
            "children": [], "rendered": rendered})
        .to_string()
    }

    #[test]
    fn errors_become_findings_without_our_paths() {
        let text = "error[E0308]: mismatched types\n --> src/main.rs:3:5\n";
        let warning = r#"{"message":"unused","code":null,"level":"warning","spans":[]}"#;
        let end = r#"{"message":"aborting due to 1 previous error","code":null,"level":"error","spans":[]}"#;
        let lines = [warning, &error("mismatched types", Some("E0308"), text), end, "noise"];
        let Diagnosis::Program(found) = diagnose(lines.join("\n").as_bytes(), "harness", &["src/"])
        else {
            panic!("not a program error")
        };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rule, "compile/error");
        assert_eq!(found[0].place.as_deref(), Some("main.rs:3"));
        assert_eq!(found[0].message, "error[E0308]: mismatched types\n --> main.rs:3:5");
    }

    #[test]
    fn long_and_many_errors_are_capped() {
        let lines = vec![error("x", None, &"é".repeat(5000)); 30].join("\n");
        let Diagnosis::Program(found) = diagnose(lines.as_bytes(), "harness", &[]) else {
            panic!("not a program error")
        };
        assert_eq!(found.len(), MAX_FINDINGS + 1);
        assert!(found[0].message.chars().count() < MAX_CHARS + 10);
        assert_eq!(found[MAX_FINDINGS].message, "22 more errors; mend the first ones");
    }

    #[test]
    fn what_is_not_the_programs_fault_is_told_apart() {
        let check = |message: &str, code: Option<&str>, expected: &str| {
            let line = error(message, code, message);
            let found = diagnose(line.as_bytes(), "harness", &[]);
            assert!(format!("{found:?}").starts_with(expected), "{found:?}");
        };
        check("linker `cc` not found", None, "Linker");
        check("linking with `cc` failed: exit status: 1", None, "Linker");
        check("can't find crate for `x` which `harness` depends on", Some("E0463"), "Harness");
        check(
            "found crate `harness` compiled by an incompatible version",
            Some("E0514"),
            "Harness",
        );
        check("can't find crate for `candle`", Some("E0463"), "Program");
        check("linker `x`", Some("E0999"), "Program");
        // `compile_error!` with such a text has a place, so it is the program's.
        check("failed to write: No space left on device (os error 28)", None, "Program");
        let full = json!({"message": "failed to write `x`: No space left on device (os error 28)",
            "code": null, "level": "error", "spans": [], "rendered": "error"});
        let found = diagnose(full.to_string().as_bytes(), "harness", &[]);
        assert!(matches!(found, Diagnosis::Machine(_)), "{found:?}");
        assert_eq!(diagnose(b"\xff\n{}\n", "harness", &[]), Diagnosis::Nothing);
    }
}
