//! The table: rule, hostile source, honest twin.

use super::{broken, check};

/// Wraps statements in `main`.
fn main(body: &str) -> String {
    format!("fn main() {{ {body} }}")
}

fn in_main(rule: &str, hostile: &str, honest: &str) {
    check(rule, &main(hostile), &main(honest));
}

#[test]
fn text() {
    check("source/ascii", "fn main() {} // \u{202e}gnihton", "fn main() {} // nothing");
    check("source/ascii", "fn ma\u{200b}in() {}", "fn main() {}");
    check("source/ascii", "\u{feff}fn main() {}", "fn main() {}");
    check("source/ascii", "fn m\u{430}in() {}", "fn main() {}");
    check("source/ascii", "// na\u{ef}ve\nfn main() {}", "// naive\nfn main() {}\r\n\t");
    check("source/ascii", "fn main() {}\0", "fn main() {}");
    check("source/size", &"// padding\n".repeat(20_000), "// a comment\nfn main() {}");
    check("source/parse", "fn main() {", "fn main() {}");
    check("source/parse", "fn main() { let = 1; }", "fn main() { let x = 1; }");
    check("source/parse", "fn main() { \"open }", "fn main() { \"closed\"; }");
}

#[test]
fn foreign_and_unsafe_code() {
    in_main("source/no-unsafe", "unsafe { *p }", "\"unsafe\"; /* unsafe */");
    in_main("source/no-unsafe", "vec![unsafe { *p }];", "vec![1];");
    check("source/no-unsafe", "unsafe impl Send for X {}", "impl X {}");
    check("source/no-unsafe", "fn f() { r#unsafe }", "fn f() { safe }");
    check("source/no-extern", "extern \"C\" fn f() {}", "fn f() {}");
    check("source/no-extern", "extern crate std as s;", "use std::fmt;");
    in_main("source/macro", "asm!(\"nop\");", "eprintln!(\"nop\");");
    in_main("source/macro", "global_asm!(\"nop\");", "eprintln!(\"nop\");");
}

#[test]
fn attributes() {
    for attribute in [
        "no_mangle",
        "path = \"/etc/passwd\"",
        "link_section = \".init_array\"",
        "global_allocator",
        "export_name = \"clock_gettime\"",
        "cfg(debug_assertions)",
        "cfg_attr(all(), x)",
        "used",
        "target_feature(enable = \"avx2\")",
        "link(name = \"m\")",
        "proc_macro",
        "test",
        "macro_use",
    ] {
        check("source/attribute", &format!("#[{attribute}] fn f() {{}}"), "#[inline] fn f() {}");
    }
    for attribute in [
        "feature(asm)",
        "no_std",
        "no_main",
        "crate_type = \"dylib\"",
        "recursion_limit = \"9999\"",
    ] {
        check("source/attribute", &format!("#![{attribute}]"), "#![allow(dead_code)]");
    }
    check(
        "source/attribute",
        "fn f() { let _ = #[cfg(x)] 1; }",
        "fn f() { let _ = #[allow(unused)] 1; }",
    );
    check(
        "source/attribute",
        "#[derive(Serialize)] struct X;",
        "#[derive(Clone, std::fmt::Debug)] struct X;",
    );
    in_main(
        "source/attribute",
        "vec![{ #[no_mangle] fn f() {} 1 }];",
        "vec![{ #[inline] fn f() {} 1 }];",
    );
    check(
        "source/macro",
        "#[doc = include_str!(\"/etc/passwd\")] struct X;",
        "#[doc = \"text\"] struct X;",
    );
}

#[test]
fn macros() {
    for hostile in [
        "include!(\"x\")",
        "include_str!(\"/etc/passwd\")",
        "include_bytes!(\"val.bin\")",
        "env!(\"HOME\")",
        "option_env!(\"HOME\")",
        "println!(\"loss: 0\")",
        "print!(\"x\")",
        "todo!()",
        "dbg!(1)",
        "stringify!(the text)",
        "concat!(\"a\", \"b\")",
        "cfg!(test)",
        "thread_local!(x)",
        "global_asm!(\"\")",
        "file!()",
        "harness::evil!()",
        "other::section!()",
        "other::vec![1]",
        "vec![include_bytes!(\"x\")]",
        "assert!(include!(\"x\"))",
        "r#try!(x)",
    ] {
        in_main(
            "source/macro",
            &format!("{hostile};"),
            "section!(\"forward\"); harness::section!(x);",
        );
    }
    check("source/macro", "macro_rules! m { () => {} }", "fn m() {}");
    let fine = "vec![1]; format!(\"{x}\"); std::format!(\"\"); assert!(a != b); eprintln!(\"x\"); \
                matches!(x, Some(_)); if !(a) {} return !(b); let c = a != (b); x = !{ 1 };";
    assert_eq!(broken(&main(fine)), [].into());
}

#[test]
fn the_standard_library() {
    for hostile in [
        "std::fs::read(\"x\");",
        "std::env::var(\"X\");",
        "std::process::exit(0);",
        "std::thread::spawn(f);",
        "std::net::TcpStream::connect(a);",
        "std::io::stdout();",
        "std::time::Instant::now();",
        "std::panic::set_hook(h);",
        "std::ptr::null::<u8>();",
        "std::any::type_name::<T>();",
        "std::mem::transmute(x);",
        "std::mem::forget(x);",
        "std::sync::Mutex::new(1);",
        "std::sync::atomic::AtomicU64::new(0);",
        "std::arch::x();",
        "std::sync::OnceLock::new();",
        "std::os::fd::x();",
        "std::path::Path::new(\"x\");",
        "::std::fs::read(\"x\");",
        "core::mem::transmute(x);",
        "alloc::alloc::alloc(x);",
        "r#std::r#fs::read(\"x\");",
        "std :: fs :: read(\"x\");",
        "std::/* */fs::read(\"x\");",
        "<std::fs::File>::open(\"x\");",
        "let f: fn() -> std::fs::File;",
        "vec![std::fs::read(x)];",
        "format!(\"{:?}\", std::env::args());",
        "let x = [0; std::fs::x()];",
        "impl Read for std::fs::File {}",
        "f::<std::fs::File>();",
        "match x { std::fs::X => 1 };",
        "std::alloc::System;",
        "std::random::x();",
        "std::collections::hash_map::RandomState::new();",
        "x.hasher();",
        "BuildHasher::hash_one(&s, 1);",
        "std::prelude::v1::x();",
    ] {
        let honest = "let std = 0.02; std * 2.0; self.std; std::mem::swap(a, b); std::f32::consts::PI; \
                      std::cmp::max(1, 2); core::iter::zip(a, b); std::sync::Arc::new(1); x::fs::y(); \
                      Vec::<u8>::new(); <Vec<u8>>::new(); std::collections::HashMap::new();";
        in_main("source/std", hostile, honest);
    }
    for hostile in [
        "use std::fs;",
        "use std::fs as f;",
        "use std as s;",
        "use std::*;",
        "use ::std as s;",
        "use std::{self as s};",
        "use std::{fmt, fs::File};",
        "use core::ptr::read;",
        "use std;",
        "use {std::env};",
        "use std::sync::*;",
        "use std::sync as s;",
        "use std::mem::{self as m};",
        "use std::sync::{Arc, Mutex};",
        "use std::process;\nfn f() { process::exit(1) }",
        "use std::mem;\nfn f() { mem::forget(1) }",
        "use std::mem;\nuse mem::forget;",
        "use std::sync;\nuse self::sync as s;",
        "use std::sync;\nfn f() { crate::sync::Mutex::new(1); }",
        "use std::include_bytes as vec;",
        "use std::prelude::v1::*;",
        "use std::hash::RandomState;",
        "use alloc::alloc::alloc;",
        "fn f() { use std::env; }",
        "fn f() { vec![{ use std::env; 1 }]; }",
    ] {
        let honest = "use std::collections::{HashMap, *};\nuse std::{fmt::{self, Write as W}, ops::*};\n\
                      use std::mem;\nuse std::process::ExitCode;\nuse std::sync::{Arc, Weak as W2};\n\
                      fn f() -> ExitCode { mem::swap(a, b); process::start(); sync::all(); }";
        check("source/std", hostile, honest);
    }
}

/// Each of the hostile ones is the heart of a program that reads any memory without `unsafe`, tried
/// on rustc 1.95; the honest ones are what they look like.
#[test]
fn gaps_of_the_compiler() {
    // rust-lang/rust issue 25860: what a reference to a reference implies is forgotten.
    check(
        "source/soundness",
        "fn f<'b, T>(x: &T) -> &'b T { let g: fn(&'b &'static (), &T) -> &'b T = h; g(&&(), x) }",
        "fn f<'b, T>(x: &'b T) -> &'b T { let g = h; g(&&(), x) }",
    );
    check(
        "source/soundness",
        "fn f<T, O>(g: fn(&'static (), &T) -> O, x: &T) -> O { g(&(), x) }",
        "fn f<T, O>(g: impl Fn(&(), &T) -> O, x: &T) -> O { g(&(), x) }",
    );
    check(
        "source/soundness",
        "type Out = &'static str; type Pair = (Out, u8); fn f(g: fn(&str) -> Pair) {}",
        "type Pair = (f64, u8); fn f(g: fn(&str) -> Pair) {}",
    );
    check(
        "source/soundness",
        "struct Slot<'a>(Option<&'a str>); fn f(g: fn(&str, &mut Slot)) {}",
        "struct Slot(Option<&'static str>); fn f(g: fn(&str, &mut Slot)) {}",
    );
    in_main("source/soundness", "let g = h as fn(_) -> u8;", "let g = h as fn(u8) -> u8;");
    in_main(
        "source/soundness",
        "let g: Vec<fn(Option<&u8>) -> u8> = x;",
        "let g: Vec<fn(Option<u8>, &u8) -> u8> = x; let y = &x;",
    );
    check(
        "source/soundness",
        "impl Model for Small { fn f(g: fn(&str) -> Self) {} }",
        "impl Model for Small { fn f(g: fn(&str) -> f64) -> Self { x } }",
    );
    // Issue 57893: a trait object and an implementation for everything disagree.
    check(
        "source/soundness",
        "impl<T: ?Sized, U> Object<U> for T { type Output = U; }",
        "impl<T, U> Object<U> for T { type Output = U; }",
    );
    check(
        "source/soundness",
        "fn f<T>(x: &T) where T: Copy + ?S {}",
        "fn f<T>(x: T) where T: Copy {}",
    );
    // Issue 84591: bounds of a supertrait are taken for granted under a binder.
    check(
        "source/soundness",
        "fn f<S: for<'a> Sub<'a, &'static &'a ()>>(s: S) {}",
        "fn f<S: Fn(&u8) -> u8>(s: S) { for x in <Vec<u8>>::new() {} }",
    );
    // Issue 100051: what the head of an implementation implies is believed.
    check(
        "source/soundness",
        "impl<'a, 'b> Extend<'a, 'b> for () where for<'x, 'y> &'x &'y (): Trait {}",
        "impl<'a> Extend<'a> for () where &'a (): Trait {}",
    );
    // Issue 84366: a closure that lives for ever may return what does not.
    check(
        "source/soundness",
        "impl<R, F: Fn() -> R> Trait for F { fn f(&self) {} type Associated = R; }",
        "impl<R, F: Fn() -> R> Trait for F { fn f(&self) -> R { self() } type Associated = f64; }",
    );
    check(
        "source/soundness",
        "impl<R, F> Trait for W<F> where F: Fn() -> Option<R> { type Associated = Vec<R>; }",
        "impl<R> Trait for W<R> where R: Copy { type Associated = Vec<R>; }",
    );
    // Function pointers as honest programs have them.
    let fine = "type Activation = fn(&Tensor) -> Result<Tensor>;\n\
                struct Layer { act: fn(&Tensor) -> Result<Tensor>, name: &'static str }\n\
                struct Wrapped<L: Layer, const N: usize>(L); enum Kind<T> { One(T), Other }\n\
                fn g(act: fn(&Wrapped<Layer, 2>, Kind<f64>) -> Vec<f64>) {}\n\
                const RATES: [(&str, fn(f64) -> f64); 2] = [(\"a\", a), (\"b\", b)];\n\
                fn f(act: Activation, go: fn(&Params, &mut Training) -> Result<()>) -> Result<&str> {\n\
                let y = act(&x)?; let g: fn(usize) -> f64 = |at| at as f64; Ok(y + &x?) }";
    assert_eq!(broken(fine), [].into());
}

#[test]
fn state() {
    check("source/static", "static N: u32 = 0;", "const N: u32 = 0;");
    check(
        "source/static",
        "fn f() { static mut N: u32 = 0; }",
        "fn f(x: &'static str) { const N: u32 = 0; }",
    );
    in_main("source/static", "vec![{ static N: u32 = 0; N }];", "let f: &'static str = x;");
}

#[test]
fn crates() {
    check("source/crate", "use candle_core::Tensor;", "use harness::Tensor;");
    check("source/crate", "use ::tch::Rng;", "use ::harness::Rng;");
    check("source/crate", "fn f() { ::tch::x(); }", "fn f() { ::harness::x(); }");
    check("source/crate", "use *;", "use harness::*;");
    // After a glob the name may have come with it; the compiler knows.
    let own = "use harness::prelude::*;\nuse ops::gelu;\nenum Kind { A }\nuse Kind::A;\nuse self::Kind::*;";
    assert_eq!(broken(own), [].into());
}

#[test]
fn names_an_environment_refuses() {
    let own = "struct Rng; impl Rng { fn rand(&self) -> f32 { self.rand() } }\nfn f() { Rng::rand(&r); x.rand(); rand(); }";
    for hostile in [
        "fn f() { Tensor::rand(0, 1); }",
        "fn f() { harness::Tensor::rand(0, 1); }",
        "fn f() { <Tensor>::rand(0, 1); }",
        "fn f() { let f = Tensor::rand; }",
        "fn f() { Tensor::<u8>::rand(0, 1); }",
        "use harness::Tensor as T;\nfn f() { T::rand(0, 1); }",
        "type T = harness::Tensor;\nfn f() { T::rand(0, 1); }",
        "struct T;\nmod a { use harness::Tensor as T; fn f() { T::rand(0, 1); } }",
        "impl Ext for Tensor { fn f() { Self::rand(0, 1); } }",
        "fn f() { vec![Tensor::rand(0, 1)]; }",
        "fn f() { x.storage_and_layout(); }",
        "fn f() { Tensor::storage_and_layout(x); }",
        "fn f() { Tensor::r#storage_and_layout(x); }",
        "fn storage_and_layout() {}",
    ] {
        check("source/refused-name", hostile, own);
    }
}

#[test]
fn data_in_literals() {
    let prose = "The quick brown fox jumps over the lazy dog. ".repeat(100);
    check(
        "source/literals",
        &format!("const T: &str = \"{prose}\";"),
        &format!("/// {prose}\nfn f() {{}} // {prose}"),
    );
    check(
        "source/literals",
        &format!("const T: &[u8] = br#\"{prose}\"#;"),
        "const T: &[u8] = b\"text\";",
    );
    let numbers = "0.12345, ".repeat(2000);
    check(
        "source/literals",
        &format!("const T: [f32; 2000] = [{numbers}];"),
        "const T: [f32; 2000] = [0.0; 2000];",
    );
    let bits = "true, false, ".repeat(2500);
    check(
        "source/literals",
        &format!("const T: [bool; 5000] = [{bits}];"),
        "const T: [bool; 3] = [true, false, true];",
    );
    let hex = "ab".repeat(5000);
    check("source/literals", &format!("fn f() {{ x(0x{hex}); }}"), "fn f() { x(0xabcd); }");
    let names: String = (0..400).map(|i| format!("the_quick_brown_fox_{i}, ")).collect();
    check(
        "source/literals",
        &format!("#[derive(Debug)] enum E {{ {names} }}"),
        &format!("#[derive(Clone)] enum E {{ {names} }}"),
    );
    let arms: String = (0..3000).map(|i| format!("{i} => 7,")).collect();
    check(
        "source/literals",
        &format!("fn f() {{ match x {{ {arms} }} }}"),
        "fn f() { match x { 1 => 7, _ => 8 } }",
    );
}

/// Ways to make the rules read something else than the compiler.
#[test]
fn disguises() {
    let honest = "fn main() { harness::run(); }";
    let theft = "std::fs::read(\"x\")";
    // The compiler skips the first line, so the comment would hide the code from the rules alone.
    check("source/file", &format!("#!/*\nfn main() {{ {theft}; }}\n// */ []\n"), honest);
    check("source/ascii", &format!("// a\rfn main() {{ {theft}; }}"), "// a\r\nfn main() {}");
    check(
        "source/std",
        &main(&format!("if a >::{theft}.len() {{}}")),
        &main("if a > b::<u8>::len() {}"),
    );
    check("source/std", &main(&format!("let r#use = x + {theft};")), &main("let r#use = x + y;"));
    check(
        "source/std",
        &main(&format!("vec![#[allow(use)] {theft}];")),
        &main("vec![#[allow(unused)] 1];"),
    );
    check("source/attribute", "#[rustfmt::skip(use)] fn f() {}", "#[rustfmt::skip] fn f() {}");
    check("source/macro", "fn f() { r#include_str!(\"x\"); }", "fn f() { r#vec![1]; }");
    check(
        "source/macro",
        "fn f() { include_str /* */ !\n(\"x\"); }",
        "fn f() { vec /* */ !\n[1]; }",
    );
    check(
        "source/std",
        &format!("/* /* */ \" */ fn f() {{ {theft}; }} // \""),
        "/* \" */ fn f() {} // \"",
    );
    check(
        "source/std",
        &format!("fn f(x: char) {{ x == '\"'; {theft}; }} // \"'"),
        "fn f(x: char) { x == '\"'; }",
    );
    check(
        "source/std",
        &format!("fn f<'a>() {{ br##\"\"#\"##; {theft}; }}"),
        "fn f<'a>() { br##\"\"#\"##; }",
    );
}
