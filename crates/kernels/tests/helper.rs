//! `forerunner-gpu` as others start it. On a machine without a GPU its refusals are what there is to
//! see.
#![cfg(feature = "cuda")]
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forerunner-gpu")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_and_wrong_arguments() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(said(&help).0.contains("69  no driver"), "{}", said(&help).0);
    let wrong = run(&["scrap"]);
    assert_eq!(wrong.status.code(), Some(2));
    let (out, error) = said(&wrong);
    assert_eq!(out, "");
    assert_eq!(
        error,
        "unknown argument `scrap` (known: probe, scrub, matmul)\nhint: see `forerunner-gpu --help`\n"
    );
}

#[test]
fn every_command_answers_or_says_in_one_line_what_is_missing() {
    for command in ["probe", "scrub", "matmul"] {
        let output = run(&[command, "--json"]);
        let (out, error) = said(&output);
        match output.status.code() {
            Some(0) => {
                assert!(out.starts_with('{') && out.ends_with("}\n"), "{out}");
                let key = match command {
                    "probe" => "\"uuid\": \"GPU-",
                    "scrub" => "\"total_bytes\": ",
                    _ => "\"flops_per_second\": ",
                };
                assert!(out.contains(key), "{out}");
            }
            Some(69) => {
                assert_eq!(out, "");
                let lines: Vec<&str> = error.lines().collect();
                assert_eq!(lines.len(), 2, "{error}");
                assert!(lines[0].starts_with("no usable GPU: "), "{error}");
                assert!(lines[1].starts_with("hint: "), "{error}");
                eprintln!("skipped: {command} on a GPU: {}", lines[0]);
            }
            other => panic!("{command}: {other:?} {out}{error}"),
        }
    }
}
