//! Source rules: no source makes them crash, and none that they accept holds what they must refuse.

use super::{MIB, Target};
use forerunner_core::Program;
use forerunner_workbench::Rules;
use proc_macro2::{TokenStream, TokenTree};

pub(super) const TARGET: Target = Target {
    name: "rules",
    about: "source rules on a program",
    corpus,
    dictionary: &[
        "unsafe",
        "r#unsafe",
        " unsafe { *p }",
        "extern \"C\" { fn f(); }",
        "extern crate std as s;",
        "macro_rules! m { () => {} }",
        "m!()",
        "include_bytes!(\"/etc/passwd\")",
        "std::fs::read",
        "::std::process::abort()",
        "use std::{fs as f, fmt};",
        "use core as c;",
        "env!(\"PATH\")",
        "asm!(\"nop\")",
        "#[no_mangle]",
        "#![feature(asm)]",
        "#[path = \"/x\"] mod x;",
        "r#\"",
        "\"#",
        "/*",
        "*/",
        "//",
        "'a",
        "b'\\x00'",
        "\\u{202e}",
        "'",
        "\"",
        "dyn for<'a> Fn(&'a ()) -> impl Sized + 'a",
        "if let Some(x) = y && true {",
        "match x { _ if true => {} }",
        "1e999_f64",
        "0xffff_ffff_ffff_ffff_ffff",
        "::",
        "->",
        "=>",
        "..=",
    ],
    // Several times a program, and of what Rules::default() takes.
    longest: 128 << 10,
    confined: true,
    memory_bytes: 1 << 30,
    allocation_bytes: 512 * MIB,
    run,
};

fn corpus() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../../../environments/nanogpt/programs/gpt2.rs"),
        include_str!("../../../workbench/src/rules/tests/honest.rs"),
        "use harness::prelude::*;\n\nfn main() {\n    let x = vec![1.0_f32; 4];\n    eprintln!(\"{x:?}\");\n}\n",
        "fn main() { unsafe { std::hint::unreachable_unchecked() } }\n",
        "use std::collections::BTreeMap;\nmod inner { pub fn f<T: Clone>(x: &T) -> T { x.clone() } }\nfn main() { inner::f(&1); }\n",
        "#[derive(Clone, Debug)]\nstruct S<'a, const N: usize> { x: &'a [f32; N] }\nimpl<'a, const N: usize> S<'a, N> { fn f(&self) -> f32 { self.x.iter().sum() } }\nfn main() {}\n",
        "fn main() { std::fs::read(\"val.bin\").ok(); }\n",
        "fn main() { let s = r#\"raw \" text\"#; let c = 'x'; let b = b\"bytes\"; /* a /* nested */ comment */ }\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Words that no accepted program may hold as a token, whatever stands around them.
const REFUSED_WORDS: [&str; 7] =
    ["unsafe", "extern", "macro_rules", "asm", "global_asm", "include_bytes", "include_str"];

/// Paths that no accepted program may hold.
const REFUSED_PATHS: [[&str; 2]; 6] = [
    ["std", "fs"],
    ["std", "net"],
    ["std", "env"],
    ["std", "process"],
    ["std", "os"],
    ["std", "thread"],
];

fn run(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input).into_owned();
    // As the NanoGPT environment, so that its programs can be accepted.
    let macros = ["bail", "ensure", "section"].map(str::to_owned).into();
    let rules = Rules { macros, ..Rules::default() };
    let findings = rules.check(&Program::single("main.rs", text.clone()));
    let panicked = "makes our parser panic";
    assert!(findings.iter().all(|finding| !finding.message.contains(panicked)), "{findings:?}");
    if findings.is_empty() {
        assert_accepted(&text);
        return "accepted".to_owned();
    }
    let mut rules: Vec<String> = findings.into_iter().map(|finding| finding.rule).collect();
    rules.sort();
    rules.dedup();
    rules.truncate(3);
    rules.join(" ")
}

/// Reads an accepted program a second time, in the plainest way.
fn assert_accepted(text: &str) {
    assert!(text.is_ascii(), "a program that is not ASCII was accepted");
    let tokens: TokenStream = text.parse().expect("an accepted program is made of tokens");
    let mut words = Vec::new();
    flatten(tokens, &mut words);
    for (index, word) in words.iter().enumerate() {
        assert!(!REFUSED_WORDS.contains(&word.as_str()), "`{word}` was accepted");
        let next = |offset: usize| words.get(index + offset).map_or("", String::as_str);
        let is_path = next(1) == ":" && next(2) == ":";
        let refused = REFUSED_PATHS.iter().any(|[root, module]| word == root && next(3) == *module);
        // How `main` may answer.
        let is_exit_code = next(3) == "process" && next(6) == "ExitCode";
        assert!(!(is_path && refused) || is_exit_code, "`{word}::{}` was accepted", next(3));
    }
}

fn flatten(tokens: TokenStream, words: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                words.push("(".to_owned());
                flatten(group.stream(), words);
                words.push(")".to_owned());
            }
            TokenTree::Ident(ident) => words.push(ident.to_string()),
            TokenTree::Punct(punct) => words.push(punct.to_string()),
            TokenTree::Literal(_) => words.push("0".to_owned()),
        }
    }
}
