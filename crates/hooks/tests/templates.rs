//! The templates of `forerunner hook new`: their logic compiles and passes its own tests, with
//! nothing but a native compiler.

use forerunner_hook_tools::{Language, create};
use std::{path::Path, process::Command};

fn must(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

#[test]
fn the_logic_in_rust_passes_its_tests() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = folder.path().join("mine");
    create(&hook, Language::Rust).expect("made");
    let binary = folder.path().join("tests");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    must(
        Command::new(rustc)
            .args(["--edition", "2024", "--test", "-D", "warnings", "-A", "dead_code", "-o"])
            .args([&binary, &hook.join("src/lib.rs")]),
    );
    assert!(must(&mut Command::new(binary)).contains("1 passed"));
}

#[test]
fn the_logic_in_c_passes_its_tests() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = folder.path().join("mine");
    create(&hook, Language::C).expect("made");
    let binary = folder.path().join("tests");
    // Rust needs a C compiler to link, so there is one.
    let compile = ["-Wall", "-Wextra", "-Werror", "-o"];
    must(Command::new("cc").args(compile).args([&binary, &hook.join("test.c")]));
    assert_eq!(must(&mut Command::new(binary)), "passed\n");
}

/// The C header spells the interface out; this notices when a function or permission is missing.
#[test]
fn the_c_header_has_the_whole_interface() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = folder.path().join("mine");
    create(&hook, Language::C).expect("made");
    let read = |file: &str| std::fs::read_to_string(Path::new(&hook).join(file)).expect("made");
    let (wit, header) = (read("wit/verify.wit"), read("forerunner.h"));
    let interface = wit.split("interface evidence").nth(1).expect("the interface");
    let functions = interface.lines().filter_map(|line| line.split_once(": func("));
    let names: Vec<_> =
        functions.map(|(name, _)| name.trim().trim_start_matches("export ")).collect();
    assert!(names.len() >= 12, "{names:?}");
    for name in names.iter().filter(|name| !["describe", "verify"].contains(*name)) {
        assert!(header.contains(&format!("IMPORT(\"{name}\")")), "{name}");
    }
    for permission in forerunner_core::Permission::ALL {
        let name = format!("WANT_{}", permission.as_str().to_uppercase());
        assert!(header.contains(&name), "{name}");
    }
}
