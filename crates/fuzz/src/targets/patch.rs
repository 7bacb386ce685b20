//! Patches as mutators write them: nothing crashes, and what applies yields what it says.
//!
//! An input is a program, a zero byte, and a patch in free text; or, when it starts with a zero
//! byte, three numbers, a replacement, a zero byte and a program, from which a patch is made whose
//! effect is known.

use super::{MIB, Target};
use forerunner_core::{Change, Finding, Program};
use forerunner_workbench::apply;

pub(super) const TARGET: Target = Target {
    name: "patch",
    about: "search/replace blocks against a program",
    corpus,
    dictionary: &[
        "<<<<<<< SEARCH\n",
        "=======\n",
        ">>>>>>> REPLACE\n",
        "\n<<<<<<< SEARCH\n=======\nnew\n>>>>>>> REPLACE\n",
        "main.rs\n",
        "../main.rs\n",
        "```rust\n",
        "\r\n",
        "\u{e4}\u{4e2d}",
        "    ",
        "\0",
    ],
    longest: 16 << 10,
    confined: true,
    memory_bytes: 512 << 20,
    allocation_bytes: 64 * MIB,
    run,
};

const PROGRAM: &str = "\
const LR: f32 = 1e-3;

fn forward(x: &Tensor) -> Tensor {
    let h = norm(x);
    if WIDTH > 32 {
        let h = relu(&h);
        return h;
    }
    h
}
";

fn corpus() -> Vec<Vec<u8>> {
    let with = |patch: &str| format!("{PROGRAM}\0{patch}").into_bytes();
    let block = |search: &str, replace: &str| {
        format!("<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n")
    };
    vec![
        with(&block("const LR: f32 = 1e-3;", "const LR: f32 = 2e-3;")),
        with(&block("let h = relu(&h);\nreturn h;", "return relu(&h);")),
        with(&format!(
            "Two.\n\nmain.rs\n```rust\n{}```\n{}",
            block("    h", ""),
            block("}", "}\n")
        )),
        with(&block("    let h = norm(x);", "\tlet h = norm(x);\r")),
        with("new.rs\n<<<<<<< SEARCH\n=======\nfn new() {}\n>>>>>>> REPLACE\n"),
        with("<<<<<<< SEARCH\nno divider\n>>>>>>> REPLACE\n"),
        format!("\0\x01\x02\x00let h = 1;\n\0{PROGRAM}").into_bytes(),
        format!("\0\x03\x01\x01\0{PROGRAM}").into_bytes(),
        b"\0\x00\x01\x00two\nlines\0one line".to_vec(),
    ]
}

fn run(input: &[u8]) -> String {
    match input.strip_prefix(b"\0") {
        Some(rest) => known_effect(rest),
        None => free_text(input),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn halves(input: &[u8]) -> (String, String) {
    let middle = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    (text(&input[..middle]), text(input.get(middle + 1..).unwrap_or_default()))
}

fn free_text(input: &[u8]) -> String {
    let (program, patch) = halves(input);
    let parent = Program::single("main.rs", program);
    let answer = apply(&parent, &Change::Patch(patch));
    if let Ok(child) = &answer {
        assert_ne!(child, &parent, "a patch that applies changes something");
        for path in child.files.keys() {
            let stays_inside = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
            assert!(stays_inside && !path.is_empty(), "a patch made the file {path:?}");
        }
    }
    said(answer)
}

/// Replaces a range of lines of a program by a patch that quotes them exactly.
fn known_effect(rest: &[u8]) -> String {
    let Some((&[start, length, final_newline], rest)) = rest.split_first_chunk::<3>() else {
        return "too short".to_owned();
    };
    let (replacement, mut program) = halves(rest);
    if final_newline % 2 == 0 && !program.ends_with('\n') {
        program.push('\n');
    }
    let lines: Vec<&str> = program.split('\n').collect();
    let start = usize::from(start) % lines.len();
    let end = (start + 1 + usize::from(length) % 8).min(lines.len());
    let search = &lines[start..end];
    let replace: Vec<&str> = replacement.split('\n').collect();
    let is_plain = |line: &&str| {
        // Anything that might be read as a marker, or loses a carriage return on the way.
        !line.contains('\r') && !line.trim().starts_with(['<', '=', '>'])
    };
    let all_plain = [search, &replace].concat().iter().all(is_plain) && !program.contains('\r');
    if !all_plain || search.iter().all(|line| line.trim().is_empty()) {
        return "not plain".to_owned();
    }
    let patch = format!(
        "<<<<<<< SEARCH\n{}\n=======\n{}\n>>>>>>> REPLACE\n",
        search.join("\n"),
        replace.join("\n")
    );
    let n_places = lines.windows(search.len()).filter(|window| *window == search).count();
    let expected = [&lines[..start], &replace, &lines[end..]].concat().join("\n");
    let parent = Program::single("main.rs", program.clone());
    let answer = apply(&parent, &Change::Patch(patch.clone()));
    match &answer {
        Ok(child) => {
            assert_eq!(n_places, 1, "an ambiguous patch was applied: {patch}");
            assert_eq!(child.files.len(), 1);
            assert_eq!(child.files["main.rs"], expected, "{patch}");
        }
        Err(findings) => {
            let same = expected == program;
            assert!(n_places > 1 || same, "an exact patch was refused: {findings:?}\n{patch}");
        }
    }
    said(answer)
}

fn said(answer: Result<Program, Vec<Finding>>) -> String {
    match answer {
        Ok(child) => format!("applied, {}", if child.files.len() > 1 { "new file" } else { "one" }),
        Err(findings) => findings.into_iter().map(|finding| finding.rule).take(3).collect(),
    }
}
