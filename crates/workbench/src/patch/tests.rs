//! Patches as mutators write them, well and badly.

use super::apply;
use forerunner_core::Program;
use proptest::prelude::*;
use std::{collections::BTreeMap, fmt::Write};

const GPT: &str = "\
const LR: f32 = 1e-3;
const WIDTH: usize = 64;

fn forward(x: &Tensor) -> Tensor {
    let h = norm(x);
    if WIDTH > 32 {
        let h = relu(&h);
        return h;
    }
    h
}

fn backward(x: &Tensor) -> Tensor {
    let h = norm(x);
    h
}
";

fn block(search: &str, replace: &str) -> String {
    format!("<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n")
}

fn program(files: &[(&str, &str)]) -> Program {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    Program { files: files.collect::<BTreeMap<_, _>>() }
}

/// The whole result on one page: the changed lines, or every finding.
fn show(parent: &Program, patch: &str) -> String {
    let mut page = String::new();
    match apply(parent, patch) {
        Ok(child) => {
            for (path, text) in &child.files {
                let old = parent.files.get(path).map_or("", String::as_str);
                if old != text {
                    let old: Vec<&str> = old.lines().collect();
                    for line in text.lines().filter(|line| !old.contains(line)) {
                        writeln!(page, "{path}: {line}").unwrap();
                    }
                }
            }
        }
        Err(findings) => {
            for finding in findings {
                let place = finding.place.map(|place| format!(" [{place}]")).unwrap_or_default();
                writeln!(page, "{}{place}: {}", finding.rule, finding.message).unwrap();
            }
        }
    }
    page
}

fn gpt(patch: &str) -> String {
    show(&program(&[("main.rs", GPT)]), patch)
}

#[test]
fn an_exact_block_with_prose_around_it() {
    let patch = format!(
        "I raise the rate.\n\n```rust\n{}```\n=======\nDone.",
        block("const LR: f32 = 1e-3;", "const LR: f32 = 2e-3;")
    );
    insta::assert_snapshot!(gpt(&patch), @"main.rs: const LR: f32 = 2e-3;");
}

#[test]
fn blocks_apply_in_order() {
    let patch = block("const LR: f32 = 1e-3;", "const LR: f32 = 2e-3;")
        + &block("const LR: f32 = 2e-3;", "const LR: f32 = 3e-3;");
    insta::assert_snapshot!(gpt(&patch), @"main.rs: const LR: f32 = 3e-3;");
}

#[test]
fn an_empty_replacement_deletes() {
    let patch = "<<<<<<< SEARCH\nconst WIDTH: usize = 64;\n\n=======\n>>>>>>> REPLACE";
    let child = apply(&program(&[("main.rs", GPT)]), patch).unwrap();
    assert!(child.files["main.rs"].starts_with("const LR: f32 = 1e-3;\nfn forward"));
}

#[test]
fn wrong_indentation_is_tolerated_and_mended() {
    let patch = block("let h = relu(&h);\nreturn h;", "let h = gelu(&h);\nif deep {\n    h\n}");
    insta::assert_snapshot!(gpt(&patch), @"
    main.rs:         let h = gelu(&h);
    main.rs:         if deep {
    main.rs:             h
    main.rs:         }
    ");
    // Too deep, with trailing space and a blank line too many.
    let patch = block(
        "\n            let h = relu(&h);  \n            return h;",
        "\n            let h = gelu(&h);\n        let out = 1;",
    );
    insta::assert_snapshot!(gpt(&patch), @"
    main.rs:         let h = gelu(&h);
    main.rs:     let out = 1;
    ");
}

#[test]
fn line_ends_of_the_file_are_kept() {
    let parent = program(&[("main.rs", "fn a() {\r\n    one();\r\n}\r\n")]);
    let child = apply(&parent, &block("    one();", "    two();\n    three();")).unwrap();
    assert_eq!(child.files["main.rs"], "fn a() {\r\n    two();\r\n    three();\r\n}\r\n");
}

#[test]
fn an_ambiguous_block_names_every_place() {
    let patch = block("    let h = norm(x);", "    let h = x;");
    insta::assert_snapshot!(gpt(&patch), @"patch/ambiguous [main.rs:5]: block at line 1 of the patch: the search part matches 2 places (main.rs:5, main.rs:14); add neighbouring lines until it matches one");
}

#[test]
fn an_unmatched_block_quotes_the_nearest_text() {
    let patch = block("    if WIDTH > 64 {\n        let h = relu(&h);", "x");
    insta::assert_snapshot!(gpt(&patch), @r"
    patch/unmatched [main.rs:6]: block at line 1 of the patch: the search part, which starts with `if WIDTH > 64 {`, is not in the program; the nearest text is main.rs:6:
        6 |     if WIDTH > 32 {
        7 |         let h = relu(&h);
    hint: copy the lines as they stand there
    ");
    insta::assert_snapshot!(gpt(&block("0123456789", "x")), @"patch/unmatched: block at line 1 of the patch: the search part, which starts with `0123456789`, resembles nothing in main.rs; quote lines as they stand in the program");
}

#[test]
fn every_bad_block_is_reported() {
    let patch = block("no such line", "x") + &block("    let h = norm(x);", "x");
    assert_eq!(gpt(&patch).matches("block at line").count(), 2);
}

#[test]
fn malformed_and_empty_patches() {
    insta::assert_snapshot!(gpt("Nothing to improve."), @r"
    patch/empty: no search/replace block found; write
    <<<<<<< SEARCH
    lines of the program
    =======
    lines instead
    >>>>>>> REPLACE
    ");
    insta::assert_snapshot!(gpt(&block("    h", "    h").replace("    h\n", "fn forward(x: &Tensor) -> Tensor {\n")), @"patch/no-change: every block puts back what it found, so there is nothing to measure; change at least one line");
    insta::assert_snapshot!(gpt("<<<<<<< SEARCH\nx\n"), @"patch/malformed: block at line 1 of the patch: no `>>>>>>> REPLACE` at its end");
    insta::assert_snapshot!(gpt("<<<<<<< SEARCH\nx\n>>>>>>> REPLACE"), @"patch/malformed: block at line 1 of the patch: no `=======` between search and replacement");
    insta::assert_snapshot!(gpt("<<<<<<< SEARCH\nx\n=======\ny\n=======\nz\n>>>>>>> REPLACE"), @r"
    patch/malformed: block at line 1 of the patch: a second `=======` inside the block
    patch/malformed: block at line 7 of the patch: `>>>>>>> REPLACE` without `<<<<<<< SEARCH` before it
    ");
    insta::assert_snapshot!(gpt("<<<<<<< SEARCH\nx\n=======\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE"), @r"
    patch/malformed: block at line 1 of the patch: no `>>>>>>> REPLACE` before the next block
    patch/unmatched: block at line 4 of the patch: the search part, which starts with `x`, resembles nothing in main.rs; quote lines as they stand in the program
    ");
    insta::assert_snapshot!(gpt("<<<<<<< SEARCH\n=======\ny\n>>>>>>> REPLACE"), @"patch/empty-search: block at line 1 of the patch: the search part is empty, so there is no place to change; quote the lines to replace, or name a new file on the line before the block");
}

#[test]
fn programs_of_several_files() {
    let parent = program(&[
        ("main.rs", "mod gpt;\nconst A: u32 = 1;\n"),
        ("gpt.rs", "const A: u32 = 1;\nconst B: u32 = 1;\n"),
    ]);
    let both = block("const A: u32 = 1;", "const A: u32 = 2;");
    insta::assert_snapshot!(show(&parent, &both), @"patch/ambiguous [gpt.rs:1]: block at line 1 of the patch: the search part matches 2 places (gpt.rs:1, main.rs:2); add neighbouring lines until it matches one");
    insta::assert_snapshot!(show(&parent, &format!("gpt.rs\n{both}")), @"gpt.rs: const A: u32 = 2;");
    insta::assert_snapshot!(show(&parent, &block("const B: u32 = 1;", "const B: u32 = 3;")), @"gpt.rs: const B: u32 = 3;");
    insta::assert_snapshot!(show(&parent, &format!("model.rs\n{both}")), @"patch/unknown-file: block at line 2 of the patch: no file `model.rs` (known: gpt.rs, main.rs)");
    insta::assert_snapshot!(show(&parent, "optim.rs\n<<<<<<< SEARCH\n=======\nstruct AdamW;\n>>>>>>> REPLACE"), @"optim.rs: struct AdamW;");
}

#[test]
fn a_program_of_one_file_may_be_called_anything() {
    let patch = format!("train.rs\n{}", block("const LR: f32 = 1e-3;", "const LR: f32 = 2e-3;"));
    insta::assert_snapshot!(gpt(&patch), @"main.rs: const LR: f32 = 2e-3;");
}

#[test]
fn a_huge_patch_is_refused() {
    let found = apply(&program(&[("main.rs", GPT)]), &" ".repeat(3 << 20)).unwrap_err();
    assert_eq!(found[0].rule, "patch/size");
}

/// Blocks that turn `a` into `b`: each run of changed lines with one line of context, as long as
/// that is unambiguous, or else the whole text.
fn diff(a: &str, b: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
    let front = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - front;
    let back =
        old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let (front, back) = (front.saturating_sub(1), back.saturating_sub(1));
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let write = |search: &[&str], replace: &[&str]| {
        let (search, replace) = (lines(search), lines(replace));
        format!("<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n")
    };
    let (search, replace) = (&old[front..old.len() - back], &new[front..new.len() - back]);
    let n_places = old.windows(search.len()).filter(|window| *window == search).count();
    let is_blank = search.iter().all(|line| line.trim().is_empty());
    if n_places == 1 && !is_blank { write(search, replace) } else { write(&old, &new) }
}

proptest! {
    /// What a diff takes apart, a patch puts together, to the last byte.
    #[test]
    fn a_diff_applied_gives_the_other_text(
        a in "([ \t]{0,3}[a-c(){};=]{0,3}\r?\n?){1,12}",
        b in "([ \t]{0,3}[a-c(){};=]{0,3}\r?\n?){1,12}",
    ) {
        // A patch strips the carriage return of its own lines; texts here do not have one.
        let (a, b) = (a.replace('\r', ""), b.replace('\r', ""));
        prop_assume!(a != b && !a.trim().is_empty());
        let parent = program(&[("main.rs", &a)]);
        let child = apply(&parent, &diff(&a, &b));
        prop_assert_eq!(child, Ok(program(&[("main.rs", &b)])));
    }

    /// Nonsense makes findings, never a panic, and never leaves the program's own paths.
    #[test]
    fn nonsense_does_not_panic(
        text in "((<{5,9} SEARCH|={5,9}|>{5,9} REPLACE|main\\.rs|\\.\\./x\\.rs|b\\.rs|[ \t]*h|\\PC{0,9})\r?\n){0,24}",
    ) {
        let parent = program(&[("main.rs", GPT), ("gpt.rs", "\t h\n\n")]);
        match apply(&parent, &text) {
            Ok(child) => prop_assert!(child.files.keys().all(|path| !path.contains(".."))),
            Err(findings) => prop_assert!(!findings.is_empty()),
        }
    }

    /// Moving a searched text to another indentation moves its replacement along.
    #[test]
    fn indentation_follows_the_place(extra in 1_usize..12) {
        let pad = " ".repeat(extra);
        let parent = program(&[("main.rs", &format!("{pad}a();\n{pad}if b {{\n{pad}    c();\n{pad}}}\n"))]);
        let patch = block("a();\nif b {\n    c();\n}", "if b {\n    d();\n\n}");
        let expected = format!("{pad}if b {{\n{pad}    d();\n\n{pad}}}\n");
        prop_assert_eq!(apply(&parent, &patch), Ok(program(&[("main.rs", &expected)])));
    }
}
