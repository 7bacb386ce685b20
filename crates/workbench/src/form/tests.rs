//! Which programs have one form, and which must not.

use super::form;
use forerunner_core::Program;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn of(text: &str) -> String {
    form(&Program::single("main.rs", text)).unwrap_or_else(|| panic!("does not lex: {text}"))
}

#[track_caller]
fn equal(one: &str, other: &str) {
    assert_eq!(of(one), of(other), "\n{one}\n{other}");
}

#[track_caller]
fn differ(one: &str, other: &str) {
    assert_ne!(of(one), of(other), "\n{one}\n{other}");
}

#[test]
fn layout_does_not_count() {
    equal("fn main() { f(1, 2) }", "fn main(){\n  // why\n  f( 1,\n 2, ) /* x */ }\n");
    equal("/// A.\nfn f() {}", "//! B.\n/** C */ fn f() {}");
    equal(
        "struct S { a: f32, b: f32 }",
        "struct S {\n    /// tune: log 1 2\n    a: f32,\n    b: f32,\n}",
    );
    equal("fn f() -> Vec<(u8, u8)> { g::<A, B>(x) }", "fn f() -> Vec<(u8, u8,)> { g::<A, B,>(x) }");
    equal("const A: f64 = 1e-3;", "const A: f64 = 0.001_0;");
    equal("fn f() { g(0..1_000) }", "fn f() { g(0..1000) }");
}

#[test]
fn what_looks_like_layout_and_is_not_counts() {
    differ("fn f() { g((x,)) }", "fn f() { g((x)) }");
    differ("fn f() { return (x,) }", "fn f() { return (x) }");
    differ("fn f() { a && b }", "fn f() { a & &b }");
    differ("fn f() { x.0.1 }", "fn f() { x.0.10 }");
    differ("fn f() { g(1) }", "fn f() { g(1.0) }");
    differ("fn f() { g(1.0f32) }", "fn f() { g(1.0f64) }");
    differ("fn f() { g(\"a b\") }", "fn f() { g(\"a  b\") }");
    differ("fn f() { x; }", "fn f() { x }");
    differ("fn f() { -1 - 2 }", "fn f() { -(1 - 2) }");
    differ("fn f() { g(a, b) }", "fn f() { g(b, a) }");
    // At the end of a block it is an error.
    differ("fn f() { /// x\n }", "fn f() { }");
}

#[test]
fn imports_are_a_set() {
    equal("use a::{b, c};\nuse d::*;\nfn f() {}", "use d::*;\nuse a::c;\nuse a::b;\nfn f() {}");
    equal("use a::{self, b::{c as d, e}};", "use a::{b::e, b::c as d, self};");
    differ("use a::{b, c};", "use a::{b};");
    differ("use a::{self};", "use a;");
    differ("use a::b as c;", "use a::c as b;");
    differ("use a::b; fn f() {} use a::c;", "use a::c; fn f() {} use a::b;");
    differ("#[allow(x)] use a::b; use c;", "use a::b; #[allow(x)] use c;");
}

#[test]
fn own_names_do_not_count() {
    // Variables of all kinds of bindings.
    equal("fn f() { let x = 1; g(x) }", "fn f() { let y = 1; g(y) }");
    equal(
        "fn f(x: &T, (y, z): (u8, u8)) { g(x, y, z) }",
        "fn f(a: &T, (b, c): (u8, u8)) { g(a, b, c) }",
    );
    equal(
        "fn f<F: Fn(u8) -> u8>(h: F) where F: Copy, { h(1) }",
        "fn f<F: Fn(u8) -> u8>(k: F) where F: Copy, { k(1) }",
    );
    equal("fn f() { xs.map(|x| x + 1) }", "fn f() { xs.map(|item| item + 1) }");
    equal("fn f() { for (i, x) in xs { g(i, x) } }", "fn f() { for (idx, v) in xs { g(idx, v) } }");
    equal(
        "fn f(o: O) { match o { Some(x) if x > 1 => g(x), S { a, b: c } => { h(a, c) } _ => {} } }",
        "fn f(p: O) { match p { Some(y) if y > 1 => g(y), S { a, b: d } => { h(a, d) } _ => {} } }",
    );
    equal(
        "fn f() { if let Some(x) = h() { g(x) } while let Some(y) = h() { g(y) } }",
        "fn f() { if let Some(a) = h() { g(a) } while let Some(b) = h() { g(b) } }",
    );
    equal(
        "fn f() { let Some(x) = h() else { return }; let y = x; S { y, x: 1 } }",
        "fn f() { let Some(b) = h() else { return }; let a = b; S { y: a, x: 1 } }",
    );
    equal(
        "impl S { fn m(&self) -> T { let x = self.x; g(x) } }",
        "impl S { fn m(&self) -> T { let b = self.x; g(b) } }",
    );
    // A field and a method of the same name are something else.
    equal(
        "fn f() { let len = g(); h(len, v.len(), s.len) }",
        "fn f() { let n = g(); h(n, v.len(), s.len) }",
    );
    // Items at the top.
    equal(
        "use h::*; const RATE: f64 = 0.1; fn main() { step(RATE) } fn step(x: f64) {}",
        "use h::*; const LR: f64 = 0.1; fn main() { go(LR) } fn go(x: f64) {}",
    );
    equal(
        "struct Block { a: u8 } impl Block { fn new() -> Self { Self { a: 1 } } } fn f(x: &Block) -> Vec<Block> { Block::new() }",
        "struct Layer { a: u8 } impl Layer { fn new() -> Self { Self { a: 1 } } } fn f(x: &Layer) -> Vec<Layer> { Layer::new() }",
    );
    equal(
        "fn f<'a>(x: &'a u8) -> &'a u8 { 'l: loop { break 'l x } }",
        "fn f<'b>(x: &'b u8) -> &'b u8 { 'm: loop { break 'm x } }",
    );
}

#[test]
fn names_from_outside_count() {
    // The pairs differ in what an import may bring.
    differ(
        "use h::*; fn f() { let relu = 1; } fn g() { k(relu) }",
        "use h::*; fn f() { let tanh = 1; } fn g() { k(tanh) }",
    );
    differ("fn f() { let relu = relu(1); relu }", "fn f() { let tanh = tanh(1); tanh }");
    differ(
        "fn f() { { let relu = 1; g(relu); } h(relu) }",
        "fn f() { { let tanh = 1; g(tanh); } h(tanh) }",
    );
    differ(
        "fn f() { if let relu = g() && relu { relu } }",
        "fn f() { if let tanh = g() && tanh { tanh } }",
    );
    differ("fn f() { xs.map(|relu| relu), relu }", "fn f() { xs.map(|tanh| tanh), tanh }");
    differ(
        "fn f() { match x { relu => relu, _ => 1 }; relu }",
        "fn f() { match x { tanh => tanh, _ => 1 }; tanh }",
    );
    differ(
        "fn f() { match x { 1 => g::<A, B>(relu), _ => 1 } }",
        "fn f() { match x { 1 => g::<A, B>(tanh), _ => 1 } }",
    );
    differ("fn f(m: Map<String, u8>) { x as u8 }", "fn f(m: Map<String, i8>) { x as i8 }");
    differ(
        "fn f() { g(|m: Map<String, u8>| x as u8) }",
        "fn f() { g(|m: Map<String, i8>| x as i8) }",
    );
    differ("fn f() { for relu in g(relu) { relu } }", "fn f() { for tanh in g(tanh) { tanh } }");
    // Fields and methods of types that nobody here defines.
    differ(
        "fn f() { let lr = 1; let wd = 2; C { lr, wd } }",
        "fn f() { let wd = 1; let lr = 2; C { wd, lr } }",
    );
    differ("fn f(C { lr, wd }: C) { g(lr, wd) }", "fn f(C { wd, lr }: C) { g(wd, lr) }");
    differ(
        "fn f() { if let C { lr, wd } = c { g(lr, wd) } }",
        "fn f() { if let C { wd, lr } = c { g(wd, lr) } }",
    );
    differ(
        "struct S { start: u8 } fn f() { s.start + r.start }",
        "struct S { end: u8 } fn f() { s.end + r.end }",
    );
    differ(
        "impl S { fn relu(&self) {} } fn f() { t.relu() }",
        "impl S { fn tanh(&self) {} } fn f() { t.tanh() }",
    );
    differ(
        "impl T for S { fn a() { 1 } fn b() { 2 } }",
        "impl T for S { fn b() { 1 } fn a() { 2 } }",
    );
    differ("use std::mem::swap; fn f() { swap(x) }", "use std::mem::take; fn f() { take(x) }");
    differ("struct Item; type T = I<Item = Item>;", "struct Other; type T = I<Other = Other>;");
    differ(
        "use h::*; struct Relu { a: u8 } fn f() { Relu(1) }",
        "use h::*; struct Tanh { a: u8 } fn f() { Tanh(1) }",
    );
    differ(
        "use h::*; const A: u8 = 1; fn f() { crate::A }",
        "use h::*; const B: u8 = 1; fn f() { crate::B }",
    );
    differ(
        "use h::*; const A: u8 = 1; enum E { X = A }  enum F { Y = C }",
        "use h::*; const C: u8 = 1; enum E { X = C } enum F { Y = A }",
    );
    differ("fn relu() {} fn f() { use h::*; relu() }", "fn tanh() {} fn f() { use h::*; tanh() }");
    differ("fn main() {}", "fn other() {}");
}

#[test]
fn names_that_something_reads_count() {
    differ("fn f() { let x = 1; format!(\"{x}\") }", "fn f() { let y = 1; format!(\"{y}\") }");
    differ(
        "fn f() { let x = 1; let y = 2; format!(\"{x}\", x = y) }",
        "fn f() { let y = 1; let x = 2; format!(\"{x}\", x = x) }",
    );
    differ(
        "fn f() { let x = 1; let y = 2; format!(\"{\\u{78}}\") }",
        "fn f() { let y = 1; let x = 2; format!(\"{\\u{78}}\") }",
    );
    differ(
        "#[derive(Debug)] struct A; fn f() { show(A) }",
        "#[derive(Debug)] struct B; fn f() { show(B) }",
    );
    differ("fn f() { let x = 1; name!(x) }", "fn f() { let y = 1; name!(y) }");
    differ("fn f() { name!(1e-3) }", "fn f() { name!(0.001) }");
    differ("fn f() { line!() }", "fn f() {\n line!() }");
    differ("fn f() { stringify!(a + b) }", "fn f() { stringify!(a+b) }");
    differ("fn f() { catch_unwind(g) } // a", "fn f() { catch_unwind(g) } // b");
    differ("#![deny(unused)] fn f() { let x = 1; }", "#![deny(unused)] fn f() { let _x = 1; }");
}

#[test]
fn renaming_is_one_to_one_and_shadows_as_it_did() {
    differ("fn f() { let x = 1; let y = 2; x }", "fn f() { let x = 1; let y = 2; y }");
    differ("fn f() { let x = 1; let x = 2; x }", "fn f() { let x = 1; let y = 2; x }");
    differ("fn f() { let x = 1; { let x = 2; } x }", "fn f() { let x = 1; { let y = 2; } y }");
    differ("fn f(a: u8, b: u8) { a - b }", "fn f(a: u8, b: u8) { b - a }");
    differ("fn f(a: u8, b: u8) { a - b }", "fn f(b: u8, a: u8) { a - b }");
    equal("fn f(a: u8, b: u8) { a - b }", "fn f(b: u8, a: u8) { b - a }");
    differ("fn f() { let _ = g(); }", "fn f() { let x = g(); }");
    differ("fn step() {} fn f() { let y = 1; step(y) }", "fn y() {} fn f() { let y = 1; y(y) }");
    // A pattern that compares is no pattern that binds.
    differ(
        "const x: u8 = 1; fn f() { match a { x => 1, _ => 2 } }",
        "const y: u8 = 1; fn f() { match a { x => 1, _ => 2 } }",
    );
    differ(
        "enum K { a, b } use K::*; fn f(k: K) { match k { a => 1, _ => 2 } }",
        "enum K { a, b } use K::*; fn f(k: K) { match k { b => 1, _ => 2 } }",
    );
}

#[test]
fn all_files_count() {
    let program = |files: &[(&str, &str)]| {
        let files: BTreeMap<String, String> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        form(&Program { files }).expect("lexes")
    };
    let two = program(&[("main.rs", "mod a; fn main() {}"), ("a.rs", "pub fn f() {}")]);
    assert_ne!(two, program(&[("main.rs", "mod a; fn main() {}"), ("b.rs", "pub fn f() {}")]));
    // Names at the top of several files are seen from the others.
    assert_ne!(two, program(&[("main.rs", "mod a; fn main() {}"), ("a.rs", "pub fn g() {}")]));
    assert_eq!(two, program(&[("main.rs", "mod a;\nfn main() {}\n"), ("a.rs", "pub fn f() { }")]));
    let notes = program(&[("notes.txt", "a\n\n b  \n")]);
    assert_eq!(notes, program(&[("notes.txt", "a\n b\n\n\n")]));
    assert_ne!(notes, program(&[("notes.txt", "a\nb")]));
    assert_eq!(form(&Program::single("main.rs", "fn main() { \" }")), None);
    assert_eq!(form(&Program::single("main.rs", "fn main() { ( }")), None);
}

#[test]
fn hostile_sources_end_in_time_and_on_the_stack() {
    let n = 60_000;
    for text in [
        format!("{}{}", "(".repeat(n), ")".repeat(n)),
        format!("fn f() {}{}", "{ match x ".repeat(n / 8), "}".repeat(n / 8)),
        "fn f<".repeat(n / 5),
        format!("use {}{{{}}};", "a::".repeat(n / 6), "x,".repeat(n / 4)),
        format!("use {}{};", "a::{".repeat(n / 8), "}".repeat(n / 8)),
        "|".repeat(n),
        "let x = |a: ".repeat(n / 12),
        format!("fn f() {{ {} }}", "let x = x; ".repeat(n / 11)),
        format!("fn f() {{ match x {{ {} }} }}", "y => y, ".repeat(n / 8)),
        "#[doc = \"\"]".repeat(n / 11),
        format!("const A: f64 = {}e{};", "1".repeat(n), "9".repeat(n)),
        "} ) ] impl for in , ; => : :: . enum { struct".to_owned(),
        "#".repeat(n),
        ". :: ' 'a".repeat(n / 9),
    ] {
        let _ = form(&Program::single("main.rs", text));
    }
}

/// Tokens out of which anything can be made, sense or not.
const SCRAPS: [&str; 48] = [
    "fn", "f", "x", "y", "let", "=", ";", ",", "(", ")", "{", "}", "[", "]", "|", "||", "match",
    "=>", "if", "for", "in", "impl", "struct", "enum", "use", "S", "::", ":", ".", "..", "<", ">",
    "->", "&", "'a", "1", "0.5", "\"x\"", "#", "!", "mut", "const", "X", "while", "else", "_",
    "move", "*",
];

proptest! {
    #[test]
    fn nothing_makes_it_panic(picks in proptest::collection::vec(0..SCRAPS.len(), 0..120)) {
        let text: Vec<&str> = picks.iter().map(|pick| SCRAPS[*pick]).collect();
        // In this thread: a panic must not be swallowed.
        let _ = super::read(&Program::single("main.rs", text.join(" ")));
    }

    /// Whatever the tokens: exchanging two names that stand for nothing known, in the whole text,
    /// gives an equal form only if it gives a program of the same structure, and layout never counts.
    #[test]
    fn layout_never_counts(picks in proptest::collection::vec(0..SCRAPS.len(), 0..60)) {
        let text: Vec<&str> = picks.iter().map(|pick| SCRAPS[*pick]).collect();
        let one = super::read(&Program::single("main.rs", text.join(" ")));
        let other = super::read(&Program::single("main.rs", text.join("\n /* x */ ")));
        prop_assert_eq!(one, other);
    }

    /// Replacing one token by another changes the form, unless both are the same number or name a
    /// variable throughout.
    #[test]
    fn a_different_operator_counts(
        left in "[a-z]{1,3}", right in "[a-z]{1,3}", one in 0..6_usize, other in 0..6_usize,
    ) {
        let signs = ["+", "-", "*", "/", "&&", "=="];
        let text = |sign: &str| format!("fn main() {{ let v_{left} = 1; g(v_{left} {sign} {right}_w) }}");
        let same = of(&text(signs[one])) == of(&text(signs[other]));
        prop_assert_eq!(same, one == other);
    }
}

/// The reference program of the shipped environment.
fn reference() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../environments/nanogpt/programs/gpt2.rs");
    std::fs::read_to_string(path).expect("the repository is complete")
}

/// The words of a text that are neither in comments nor in strings, by where they start.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or_default();
        let mut from = None;
        let mut quoted = false;
        for (idx, char) in code.char_indices().chain([(code.len(), ' ')]) {
            quoted ^= char == '"';
            let inside = !quoted && (char.is_ascii_alphanumeric() || char == '_');
            match from {
                None if inside => from = Some(idx),
                Some(begin) if !inside => {
                    words.push((start + begin, &code[begin..idx]));
                    from = None;
                }
                _ => {}
            }
        }
        start += line.len();
    }
    words.retain(|(_, word)| !word.starts_with(|c: char| c.is_ascii_digit()));
    words
}

#[test]
fn one_other_word_in_a_real_program_always_counts() {
    let text = reference();
    let form_of = |text: String| super::read(&Program::single("main.rs", text));
    let whole = form_of(text.clone());
    let words = words(&text);
    assert!(words.len() > 600, "{}", words.len());
    for (idx, (start, word)) in words.iter().enumerate() {
        // Another word of the program, from elsewhere.
        let others = words.iter().cycle().skip((idx * 37) % words.len());
        let (_, other) = others.clone().find(|(_, other)| other != word).expect("many words");
        let changed = format!("{}{other}{}", &text[..*start], &text[start + word.len()..]);
        assert_ne!(form_of(changed), whole, "`{word}` at byte {start} became `{other}`");
    }
}

#[test]
fn other_names_throughout_a_real_program_do_not_count() {
    let text = reference();
    let words = words(&text);
    let mut renamed = text.clone();
    let pairs = [
        ("LEARNING_RATE", "PEAK"),
        ("gradient_of", "fetch"),
        ("LayerNorm", "Norm"),
        ("step_idx", "s"),
        ("hidden", "h"),
        ("cosine", "c"),
        ("x", "stream"),
    ];
    for (start, word) in words.iter().rev() {
        if let Some((_, new)) = pairs.iter().find(|(old, _)| old == word) {
            renamed.replace_range(*start..start + word.len(), new);
        }
    }
    let without_comments: String = renamed
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .collect::<Vec<_>>()
        .join("\n ");
    assert!(without_comments.contains("stream = block.forward(&stream)"), "{without_comments}");
    assert_eq!(of(&without_comments), of(&text));
}
