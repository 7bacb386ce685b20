//! Sources that break one rule each, and honest twins that break none.

use super::{Refused, Rules};
use forerunner_core::Program;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

mod hostile;

fn rules() -> Rules {
    Rules {
        macros: vec!["section".to_owned()],
        refused: vec![
            Refused::new("Tensor::rand", "randomness comes from the harness; use `run.rng()`"),
            Refused::new("storage_and_layout", "it shows what lies beyond a view; use `narrow`"),
        ],
        ..Rules::default()
    }
}

/// The rules that `source` breaks.
fn broken(source: &str) -> BTreeSet<String> {
    let program = Program::single("main.rs", source);
    rules().check(&program).into_iter().map(|finding| finding.rule).collect()
}

/// One hostile source: exactly this rule; its twin: none.
fn check(rule: &str, hostile: &str, honest: &str) {
    assert_eq!(broken(hostile), BTreeSet::from([rule.to_owned()]), "hostile: {hostile}");
    assert_eq!(broken(honest), BTreeSet::new(), "honest: {honest}");
}

fn messages(source: &str) -> String {
    let findings = rules().check(&Program::single("main.rs", source));
    let line = |finding: forerunner_core::Finding| {
        format!("{} [{}]: {}\n", finding.place.unwrap_or_default(), finding.rule, finding.message)
    };
    findings.into_iter().map(line).collect()
}

#[test]
fn an_honest_program_passes() {
    insta::assert_snapshot!(messages(include_str!("tests/honest.rs")), @"");
}

#[test]
fn findings_say_where_why_and_what_instead() {
    let source = "\
use std::fs;
#[no_mangle]
fn main() {
    let start = std::time::Instant::now();
    println!(\"{:?}\", start);
    let x = Tensor::rand(0f32, 1.0, 4);
    unsafe { danger() }
}
";
    insta::assert_snapshot!(messages(source), @r#"
    main.rs:1 [source/std]: `use std::fs` is refused: a program reads and writes nothing itself, so that its score can only come from training; data comes from the harness, and `eprintln!` writes messages
    main.rs:2 [source/attribute]: `#[no_mangle]` is refused: a program must not replace or hook into symbols of the process; remove it (allowed: allow, cold, default, deny, deprecated, derive, doc, expect, forbid, inline, must_use, non_exhaustive, repr, track_caller, warn)
    main.rs:4 [source/std]: `std::time::Instant::now` is refused: the clock is outside the program; count steps or tokens instead
    main.rs:5 [source/macro]: `println!` is refused: standard output is the harness's channel; use `eprintln!` or the harness's recorder (allowed: assert, assert_eq, assert_ne, debug_assert, debug_assert_eq, debug_assert_ne, eprint, eprintln, format, matches, panic, unreachable, vec, write, writeln, section)
    main.rs:6 [source/refused-name]: `Tensor::rand` is refused: randomness comes from the harness; use `run.rng()`
    main.rs:7 [source/no-unsafe]: `unsafe` is refused: programs are safe Rust, so that the compiler can vouch for them; use slices and the harness's operations
    "#);
}

#[test]
fn files_of_a_program_are_checked_together() {
    let check = |files: &[(&str, &str)], expected: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let found = rules().check(&Program { files: files.collect::<BTreeMap<_, _>>() });
        let found: Vec<(String, String)> =
            found.into_iter().map(|f| (f.rule, f.place.unwrap_or_default())).collect();
        let expected: Vec<(String, String)> =
            expected.iter().map(|(rule, place)| ((*rule).into(), (*place).into())).collect();
        assert_eq!(found, expected);
    };
    let main = "mod gpt;\nfn main() { gpt::train() }";
    check(&[("main.rs", main), ("gpt.rs", "pub fn train() {}")], &[]);
    check(&[("main.rs", main), ("gpt/mod.rs", "pub fn train() {}")], &[]);
    check(&[("main.rs", main)], &[("source/module", "main.rs:1")]);
    let nested =
        [("main.rs", "mod a { pub mod b; }\nfn main() {}"), ("a/b.rs", "mod c;"), ("a/b/c.rs", "")];
    check(&nested, &[]);
    check(&nested[..2], &[("source/module", "a/b.rs:1")]);
    // Data beside the source, and a rule broken in the second file.
    check(&[("main.rs", "fn main() {}"), ("val.bin", "0")], &[("source/file", "val.bin:1")]);
    check(
        &[("main.rs", main), ("gpt.rs", "\nstatic X: u8 = 0;")],
        &[("source/static", "gpt.rs:2")],
    );
    // A module of std that one file imports is known in the others.
    check(
        &[
            ("main.rs", "mod a;\nuse a::sync as s;\nfn main() { crate::a::sync::Mutex::new(1); }"),
            ("a.rs", "pub use std::sync;"),
        ],
        &[("source/std", "main.rs:2"), ("source/std", "main.rs:3")],
    );
}

#[test]
fn an_environment_can_open_more() {
    let source = "fn main() { std::thread::scope(|_| ()); probe!(); tools::probe!(); }";
    assert_eq!(broken(source).len(), 2);
    let rules = Rules {
        crates: vec!["harness".to_owned(), "tools".to_owned()],
        macros: vec!["probe".to_owned()],
        std_paths: vec!["std::thread::scope".to_owned()],
        ..Rules::default()
    };
    assert_eq!(rules.check(&Program::single("main.rs", source)), []);
    let spawns = Program::single("main.rs", "fn main() { std::thread::spawn(|| ()); }");
    assert_eq!(rules.check(&spawns).len(), 1);
}

#[test]
fn findings_are_capped() {
    let source = "static X: u8 = 0;\n".repeat(100);
    let found = rules().check(&Program::single("main.rs", source));
    assert_eq!(found.len(), super::MAX_FINDINGS + 1);
    assert_eq!(found.last().unwrap().message, "80 more findings like these");
}

/// Every way to make a recursive parser go deep is refused before it does, in this unoptimised
/// build, where frames are largest.
#[test]
fn deep_sources_do_not_overflow_the_stack() {
    let n = 4_000;
    let deep = [
        "(".repeat(n) + &")".repeat(n),
        format!("fn f() {{ {}x }}", "!".repeat(n)),
        format!("fn f() {{ {}x }}", "&".repeat(n)),
        format!("fn f() {{ x{} }}", " + x".repeat(n)),
        format!("fn f() {{ x{} }}", ".y()".repeat(n)),
        format!("fn f() {{ x{} }}", "?".repeat(n)),
        format!("fn f() {{ x{} }}", " as u8".repeat(n)),
        format!("fn f() {{ {}x }}", "|a, b| ".repeat(n)),
        format!("fn f() {{ {}{{}} }}", "if a {} else ".repeat(n)),
        format!("fn f() {{ {}x }}", "return ".repeat(n)),
        format!("fn f() {{ {}x {} }}", "if ".repeat(n), "{}".repeat(n)),
        format!("fn f() {{ {}x {} }}", "for S {} in ".repeat(n), "{}".repeat(n)),
        format!("type T = {}u8{};", "Vec<".repeat(n), ">".repeat(n)),
        format!("type T = {}u8{};", "Map<u8, ".repeat(n / 2), ">".repeat(n / 2)),
        format!("fn f() {{ {}x{} }}", "{ !!!!".repeat(n / 4), "}".repeat(n / 4)),
        format!("fn f() {{ {} }}", "x = ".repeat(n)),
        format!("fn f() {{ let {}x; }}", "&".repeat(n)),
        format!("type T = {}u8;", "&".repeat(n)),
        format!("fn f() {{ let {}_ = 1; }}", "A | ".repeat(n)),
        format!("fn f() {{ vec![{}x] }}", "!".repeat(n)),
    ];
    for source in deep {
        let start: String = source.chars().take(40).collect();
        let program = Program::single("main.rs", source);
        let rules = Rules { max_bytes: 1 << 20, ..rules() };
        let found: Vec<String> = rules.check(&program).into_iter().map(|f| f.rule).collect();
        assert_eq!(found, ["source/nesting"], "{start}");
    }
}

/// Just below the bound, the stack is large enough.
#[test]
fn the_deepest_allowed_sources_are_parsed() {
    let deepest = |source: &dyn Fn(usize) -> String| {
        let passes = |n: usize| !broken(&source(n)).contains("source/nesting");
        (0..11).rev().fold(0, |n, bit| if passes(n | 1 << bit) { n | 1 << bit } else { n })
    };
    let unary = |n: usize| format!("fn f() -> bool {{ {}x }}", "!".repeat(n));
    let bracket = |n: usize| format!("fn f() {{ {}x{} }}", "(".repeat(n), ")".repeat(n));
    let block = |n: usize| format!("fn f() {{ {}x{} }}", "{".repeat(n), "}".repeat(n));
    let closure = |n: usize| format!("fn f() {{ {}x }}", "|| ".repeat(n));
    let generic = |n: usize| format!("type T = {}u8{};", "V<".repeat(n), ">".repeat(n));
    let shapes: [&dyn Fn(usize) -> String; 5] = [&unary, &bracket, &block, &closure, &generic];
    for shape in shapes {
        assert!(deepest(shape) > 200);
    }
}

#[test]
fn long_honest_lists_are_not_deep() {
    let arms: String = (0..60).map(|i| format!("({i}, b) => {{ b + {i} }} A | B => c, ")).collect();
    let calls: String = (0..2000).map(|_| "f(x, y); if a { b } else { c } ").collect();
    let source = format!("fn main() {{ match x {{ {arms} }} {calls} }}");
    assert_eq!(broken(&source), BTreeSet::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nonsense_does_not_panic(
        source in "((use|std|fs|::|mod|x|\\{|\\}|;|#|\\[|\\]|\"a\"|'a|!|as|\\*|,|<|>|1e3|0x|vec|\\PC) ?){0,40}",
    ) {
        let findings = rules().check(&Program::single("main.rs", source));
        prop_assert!(findings.len() <= super::MAX_FINDINGS + 1);
    }
}
