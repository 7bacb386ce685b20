//! Changes as models write them, well and badly.

use super::*;
use proptest::prelude::*;

const BLOCK: &str = "<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE\n";

fn single() -> Program {
    Program::single("main.rs", "fn main() {\n    old();\n}\n")
}

fn several() -> Program {
    let mut program = single();
    program.files.insert("model/block.rs".to_owned(), "old\n".to_owned());
    program
}

fn read(answer: &str, form: Form, parent: &Program) -> Result<Change, String> {
    read_change(answer, form, parent)
}

fn patch(text: &str) -> Result<Change, String> {
    Ok(Change::Patch(text.to_owned()))
}

fn files(pairs: &[(&str, &str)]) -> Result<Change, String> {
    let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    Ok(Change::Files(pairs.iter().map(own).collect()))
}

#[test]
fn blocks_are_cut_out_of_the_words_around_them() {
    let check = |answer: &str, expected: &str| {
        assert_eq!(read(answer, Form::Patch, &single()), patch(expected), "{answer}");
    };
    check(BLOCK, BLOCK);
    check(&format!("{{\"summary\": \"s\"}}\n\n{BLOCK}Done."), BLOCK);
    check(&format!("A rate of 0.2.\n\n\n\n\n{BLOCK}"), BLOCK);
    let named = format!("one\ntwo\nthree\nmain.rs\n\n```rust\n{BLOCK}```\nfour");
    check(&named, &format!("main.rs\n\n```rust\n{BLOCK}"));
    check(&format!("{BLOCK}and\n{BLOCK}"), &format!("{BLOCK}and\n{BLOCK}"));
    // Whoever applies it says what is wrong with it.
    check("<<<<<<< SEARCH\nold\n=======\nnew", "<<<<<<< SEARCH\nold\n=======\nnew");
    // Blocks pass where a program was asked for.
    assert_eq!(read(BLOCK, Form::Program, &single()), patch(BLOCK));
}

#[test]
fn a_program_is_the_largest_fence() {
    let program = "fn main() {\n    new();\n}\n";
    let check = |answer: &str, form| {
        let expected = files(&[("main.rs", program)]);
        assert_eq!(read(answer, form, &single()), expected, "{answer}");
    };
    check(&format!("```json\n{{}}\n```\n```rust\n{program}```"), Form::Program);
    check(&format!("main.rs\n~~~~\n{program}~~~~\n"), Form::Program);
    // Passes where blocks were asked for, when it is a program by its size.
    check(&format!("```rust\n{program}```"), Form::Patch);
    let inner = "//! ```\n//! x\n//! ```\nfn main() {}\n";
    let answer = format!("````rust\n{inner}````");
    assert_eq!(read(&answer, Form::Program, &single()), files(&[("main.rs", inner)]));
}

#[test]
fn files_of_a_larger_program_are_told_apart_by_their_paths() {
    let answer = "**`model/block.rs`**:\n```rust\nnew\n```\nFile main.rs\n\n```\nfn main() {}\n```\n\
                  ```\nnobody's\n```";
    let expected = files(&[("main.rs", "fn main() {}\n"), ("model/block.rs", "new\n")]);
    assert_eq!(read(answer, Form::Program, &several()), expected);
    let answer = "../../etc/passwd\n```\nroot\n```";
    assert!(read(answer, Form::Program, &several()).is_err());
}

#[test]
fn what_is_missing_is_named() {
    let why = |answer: &str, form| read(answer, form, &single()).expect_err("nothing to read");
    assert!(why("", Form::Patch).contains("no BLOCKS"));
    assert!(why("I cannot help with that.", Form::Patch).contains("no BLOCKS"));
    assert!(why("```rust\nx\n```", Form::Patch).contains("no BLOCKS"));
    assert!(why("no", Form::Program).contains("no fenced code block"));
    assert!(why("```rust\nfn main() {", Form::Program).contains("has no end"));
    let same = "```\nfn main() {\n    old();\n}\n```";
    assert!(why(same, Form::Program).contains("is the one"));
}

#[test]
fn a_change_is_told_by_what_it_makes() {
    let parent = single();
    let program = Program::single("main.rs", "fn main() {}\n");
    let whole = Change::Program(program.clone());
    let Ok(as_files) = files(&[("main.rs", "fn main() {}\n")]) else { unreachable!("built here") };
    assert_eq!(digest(&parent, &whole), program.id().0);
    assert_eq!(digest(&parent, &as_files), program.id().0);
    let patch = |text: &str| Change::Patch(text.to_owned());
    assert_eq!(digest(&parent, &patch(BLOCK)), digest(&parent, &patch(BLOCK.trim())));
    assert_eq!(digest(&parent, &patch(BLOCK)), digest(&parent, &patch(&format!("Well.\n{BLOCK}"))));
    let other = BLOCK.replace("new", "newer");
    assert_ne!(digest(&parent, &patch(BLOCK)), digest(&parent, &patch(&other)));
    assert_ne!(digest(&parent, &patch(BLOCK)), digest(&several(), &patch(BLOCK)));
    let of = |file: &str| digest(&several(), &patch(&format!("{file}\n{BLOCK}")));
    assert_ne!(of("main.rs"), of("model/block.rs"));
    assert_eq!(of("main.rs"), of("**main.rs**:"));
}

proptest! {
    #[test]
    fn whatever_is_read_was_there(
        parts in proptest::collection::vec(
            prop_oneof!["<<<<<<< SEARCH\n", "=======\n", ">>>>>>> REPLACE\n", "```rust\n", "```\n",
                        "~~~\n", "main.rs\n", "[a-z\n\u{1b}∂]{0,12}"],
            0..40,
        )
    ) {
        let answer = parts.concat();
        for form in [Form::Patch, Form::Program] {
            for parent in [single(), several()] {
                match read_change(&answer, form, &parent) {
                    Ok(Change::Patch(patch)) => {
                        prop_assert!(answer.contains(&patch));
                        prop_assert!(patch.contains("<<<<<<< SEARCH"));
                    }
                    Ok(Change::Files(files)) => {
                        prop_assert!(!files.is_empty());
                        prop_assert!(files.keys().all(|path| parent.files.contains_key(path)));
                    }
                    Ok(Change::Program(_)) => prop_assert!(false, "never read"),
                    Err(why) => prop_assert!(!why.is_empty()),
                }
            }
        }
    }
}
