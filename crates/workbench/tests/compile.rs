//! Programs compiled against a real harness in the real sandbox.
//!
//! Has its own `main`, because the binary that starts sandboxed processes is also their launcher.

mod support;

use forerunner_core::{Cause, Program};
use forerunner_sandbox::Limits;
use forerunner_workbench::{CompileError, Compiler, Error, Harness};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use support::Bench;

const GOOD: &str = "fn main() { std::process::exit(harness::answer() as i32) }\n";

fn main() {
    forerunner_sandbox::init();
    support::Runner::default().run(&[
        ("a_good_program_is_built_once", a_good_program_is_built_once),
        ("the_binary_depends_on_the_source_alone", the_binary_depends_on_the_source_alone),
        ("a_type_error_is_a_finding_at_its_line", a_type_error_is_a_finding_at_its_line),
        ("a_check_is_remembered", a_check_is_remembered),
        ("what_the_compiler_forbids", what_the_compiler_forbids),
        ("programs_of_several_files_compile", programs_of_several_files_compile),
        ("compile_bombs_end", compile_bombs_end),
        ("a_program_the_linker_refuses", a_program_the_linker_refuses),
        ("the_compiler_sees_no_other_files", the_compiler_sees_no_other_files),
        ("the_compiler_sees_no_other_program", the_compiler_sees_no_other_program),
        ("the_compiler_sees_no_environment", the_compiler_sees_no_environment),
        ("processes_share_the_cache", processes_share_the_cache),
        ("another_compiler_is_refused", another_compiler_is_refused),
        ("a_damaged_harness_is_noticed", a_damaged_harness_is_noticed),
        ("native_libraries_come_from_the_harness", native_libraries_come_from_the_harness),
        ("only_what_programs_need_is_installed", only_what_programs_need_is_installed),
    ])
}

fn a_good_program_is_built_once(bench: &Bench) {
    let compiler = bench.compiler("once");
    let built = compiler.build(&Program::single("main.rs", GOOD)).unwrap();
    assert!(!built.cached);
    assert!(built.layers.floor_holds(), "{}", built.layers);
    assert!(built.cpu > Duration::ZERO);
    let status = Command::new(&built.binary).status().unwrap();
    assert_eq!(status.code(), Some(42));

    let again = compiler.build(&Program::single("main.rs", GOOD)).unwrap();
    assert!(again.cached);
    assert_eq!((again.binary, again.cpu), (built.binary, built.cpu));
    assert!(compiler.check(&Program::single("main.rs", GOOD)).is_ok());
    let left = fs::read_dir(bench.cache("once").join("work")).unwrap().count();
    assert_eq!(left, 0, "the compiler's folder is removed");
}

fn native_libraries_come_from_the_harness(bench: &Bench) {
    let harness = bench.native_harness();
    harness.verify().unwrap();
    assert_ne!(harness.hash(), bench.harness().hash());
    let dir = harness.dir().to_owned();
    let compiler = Compiler::new(harness, &bench.cache("native"), false).unwrap();
    let built = compiler.build(&Program::single("main.rs", GOOD)).unwrap();
    let status = Command::new(&built.binary).status().unwrap();
    assert_eq!(status.code(), Some(43));
    // An archive that has gone is noticed when the harness is opened.
    fs::remove_file(dir.join("libforerunner_elsewhere.a")).unwrap();
    let error = Harness::load(&dir).unwrap_err().to_string();
    assert!(error.contains("libforerunner_elsewhere.a"), "{error}");
}

fn the_binary_depends_on_the_source_alone(bench: &Bench) {
    let source = "fn main() { if harness::answer() > 1 { panic!(\"here\") } }\n";
    let program = Program::single("main.rs", source);
    let read =
        |cache: &str| fs::read(bench.compiler(cache).build(&program).unwrap().binary).unwrap();
    assert!(read("first") == read("second"), "two folders make two binaries");
    let output =
        Command::new(bench.compiler("first").build(&program).unwrap().binary).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(" main.rs:1:"), "a panic names the program's own path: {text}");
}

fn a_type_error_is_a_finding_at_its_line(bench: &Bench) {
    let source = "fn main() {\n    let unused = 1;\n    let x: String = harness::answer();\n}\n";
    let program = Program::single("main.rs", source);
    let compiler = bench.compiler("type");
    let refused = |error| match error {
        Err(CompileError::Refused(findings)) => findings,
        _ => panic!("not refused"),
    };
    let found = refused(compiler.check(&program));
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].rule, found[0].place.as_deref()), ("compile/error", Some("main.rs:3")));
    insta::assert_snapshot!(found[0].message, @r"
    error[E0308]: mismatched types
     --> main.rs:3:21
      |
    3 |     let x: String = harness::answer();
      |            ------   ^^^^^^^^^^^^^^^^^ expected `String`, found `u32`
      |            |
      |            expected due to this
      |
    help: try using a conversion method
      |
    3 |     let x: String = harness::answer().to_string();
      |                                      ++++++++++++
    ");
    // The refusal is kept, for building too.
    assert_eq!(refused(compiler.build(&program).map(drop)), found);
    let (cause, same) = compiler.check(&program).unwrap_err().into_findings().unwrap();
    assert_eq!((cause, same), (Cause::Compile, found));
}

fn a_check_is_remembered(bench: &Bench) {
    let program = Program::single("main.rs", "fn main() { harness::answer(); }");
    bench.compiler("checked").check(&program).unwrap();
    let marks = |cache: &str| support::files_below(&bench.cache(cache), "checked");
    assert_eq!(marks("checked"), 1);
    bench.compiler("checked").check(&program).unwrap();
    // The binary says more than the mark.
    bench.compiler("checked").build(&program).unwrap();
    assert_eq!(marks("checked"), 0);
}

fn what_the_compiler_forbids(bench: &Bench) {
    let compiler = bench.compiler("forbidden");
    let check = |source: &str, expected: &str| {
        let error = compiler.build(&Program::single("main.rs", source)).unwrap_err();
        let CompileError::Refused(findings) = error else { panic!("{source}: {error}") };
        assert!(findings.iter().any(|f| f.message.contains(expected)), "{source}: {findings:?}");
    };
    check("fn main() { unsafe { std::hint::unreachable_unchecked() } }", "`unsafe`");
    check("#![allow(unsafe_code)] fn main() {}", "incompatible with previous forbid");
    check("#[unsafe(no_mangle)] fn f() {} fn main() {}", "no_mangle");
    check("unsafe extern \"C\" { fn getpid(); } fn main() {}", "unsafe");
    check(
        "fn main() { const X: u64 = { let mut i = 0; while i < u64::MAX { i += 1 } i }; X; }",
        "constant evaluation is taking a long time",
    );
    check("#![feature(test)] fn main() {}", "may not be used on the stable");
    check("use libc::getpid; fn main() {}", "libc");
    check("fn f() {}", "`main` function not found");
    check("fn main() {", "unclosed delimiter");
}

fn programs_of_several_files_compile(bench: &Bench) {
    let compiler = bench.compiler("several");
    let program = |files: &[(&str, &str)]| Program {
        files: files
            .iter()
            .map(|(p, t)| ((*p).to_owned(), (*t).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    let main = "mod a; fn main() { std::process::exit(a::b::seven()) }";
    let good = program(&[
        ("main.rs", main),
        ("a/mod.rs", "pub mod b;"),
        ("a/b.rs", "pub fn seven() -> i32 { 7 }"),
    ]);
    let built = compiler.build(&good).unwrap();
    assert_eq!(Command::new(built.binary).status().unwrap().code(), Some(7));
    let check = |program: &Program, rule: &str| {
        let Err(CompileError::Refused(found)) = compiler.build(program) else { panic!("{rule}") };
        assert_eq!(found[0].rule, rule);
    };
    check(&program(&[("a.rs", "fn main() {}"), ("b.rs", "")]), "files/root");
    check(&program(&[("../../x.rs", "fn main() {}")]), "files/path");
}

fn compile_bombs_end(bench: &Bench) {
    // Some bombs go on until a limit ends them, so the limits are tight. Others the compiler refuses
    // by itself: these get all the time that a busy machine may make of one second.
    let tight = Limits { cpu_seconds: 3, memory_bytes: 1 << 30, ..Limits::default() };
    let wide = Limits { cpu_seconds: 300, wall: Duration::from_secs(600), ..tight };
    let compiler = |limits| bench.compiler("bombs").with_limits(limits);
    let (tight, wide) = (compiler(tight), compiler(wide));
    let doubling: String = (0..40)
        .map(|i| {
            format!("macro_rules! m{i} {{ ($($x:tt)*) => {{ m{}!($($x)* $($x)*) }} }}\n", i + 1)
        })
        .collect();
    let check = |compiler: &Compiler, bomb: String, expected: &[&str]| {
        let start: String = bomb.chars().take(60).collect();
        let error = compiler.build(&Program::single("main.rs", bomb)).unwrap_err();
        let (cause, findings) = error.into_findings().unwrap();
        assert_eq!(cause, Cause::Compile, "{start}");
        assert!(expected.contains(&&*findings[0].rule), "{start}: {findings:?}");
    };
    // Whether time or memory runs out first depends on the machine.
    let limit = ["compile/timeout", "compile/memory"];
    check(
        &tight,
        format!("{doubling} macro_rules! m40 {{ ($($x:tt)*) => {{}} }} fn main() {{ m0!(a b); }}"),
        &limit,
    );
    check(&tight, "static X: [u8; 3 << 30] = [1; 3 << 30]; fn main() { X[0]; }".to_owned(), &limit);
    check(
        &wide,
        "fn main() { f(0u8) } fn f<T>(x: T) { f(((x, 1u64), 2u64)) }".to_owned(),
        &["compile/error"],
    );
    check(
        &wide,
        "const fn f(n: u64) -> u64 { if n < 2 { 1 } else { f(n - 1) + f(n - 2) } } \
         const X: u64 = f(60); fn main() { X; }"
            .to_owned(),
        &["compile/error"],
    );
    let brackets = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    check(
        &tight,
        format!("fn main() {{ let x = {brackets}; }}"),
        &["compile/error", "compile/crash", "compile/timeout", "compile/memory"],
    );
    let (_, found) = CompileError::TimedOut.into_findings().unwrap();
    insta::assert_snapshot!(found[0].message, @"compiling the program takes too long; macros and types that unfold into very much code do this; write it shorter");
}

fn a_program_the_linker_refuses(bench: &Bench) {
    let no_main = Program::single("main.rs", "#![no_main]");
    let error = bench.compiler("linker").build(&no_main).unwrap_err();
    let CompileError::Refused(found) = error else { panic!("{error:?}") };
    assert_eq!(found[0].rule, "compile/link");
    // When not even an empty program can be linked, the program is not to blame.
    let broken = bench.install_with("broken-linker", &["-Clinker=no-such-linker"]);
    let compiler = Compiler::new(broken, &bench.cache("linker"), false).unwrap();
    let error = compiler.build(&Program::single("main.rs", GOOD)).unwrap_err();
    assert!(matches!(error, CompileError::Host(Error::Linker(_))), "{error:?}");
    assert!(error.to_string().contains("\nhint: "));
    // And nothing is kept of it.
    assert!(bench.compiler("linker").build(&Program::single("main.rs", GOOD)).is_ok());
}

fn the_compiler_sees_no_other_files(bench: &Bench) {
    let secret = bench.secret();
    let source = format!("const S: &[u8] = include_bytes!({secret:?}); fn main() {{ S; }}");
    let error = bench.compiler("secret").build(&Program::single("main.rs", source)).unwrap_err();
    let CompileError::Refused(findings) = error else { panic!("{error}") };
    assert!(findings[0].message.contains("couldn't read"), "{findings:?}");
    let outside = format!("#[path = {secret:?}] mod x; fn main() {{}}");
    assert!(bench.compiler("secret").check(&Program::single("main.rs", outside)).is_err());
}

/// Neither what is being compiled beside it, nor what was compiled before, nor itself in `/proc`.
fn the_compiler_sees_no_other_program(bench: &Bench) {
    let compiler = bench.compiler("neighbours");
    let earlier = compiler.build(&Program::single("main.rs", GOOD)).unwrap().binary;
    let work = bench.cache("neighbours").join("work");
    let beside = work.join("beside");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("main.rs"), "fn main() {}").unwrap();
    let check = |path: &Path| {
        let source = format!("const S: &[u8] = include_bytes!({path:?}); fn main() {{ S; }}");
        let error = compiler.build(&Program::single("main.rs", source)).unwrap_err();
        let CompileError::Refused(findings) = error else { panic!("{error}") };
        assert!(findings[0].message.contains("couldn't read"), "{path:?}: {findings:?}");
    };
    check(&earlier);
    check(&earlier.with_file_name("result.json"));
    check(&beside.join("main.rs"));
    check(Path::new("/proc/self/environ"));
    check(Path::new("/dev/shm/x"));
    fs::remove_dir_all(beside).unwrap();
    assert_eq!(fs::read_dir(work).unwrap().count(), 0, "refused programs leave nothing behind");
}

/// What cargo and the shell tell this process, rustc is not told.
fn the_compiler_sees_no_environment(bench: &Bench) {
    assert!(std::env::var_os("HOME").is_some() && std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let source = "\
const _: () = assert!(option_env!(\"HOME\").is_none());
const _: () = assert!(option_env!(\"CARGO_MANIFEST_DIR\").is_none());
const _: () = assert!(option_env!(\"PATH\").is_some());
fn main() {}
";
    bench.compiler("environment").build(&Program::single("main.rs", source)).unwrap();
}

fn processes_share_the_cache(bench: &Bench) {
    // Threads with compilers of their own stand for processes: locks belong to open files.
    let program = Program::single("main.rs", "fn main() { harness::answer(); harness::answer(); }");
    let built: Vec<bool> = std::thread::scope(|scope| {
        let build = || bench.compiler("shared").build(&program).unwrap().cached;
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(build)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(built.iter().filter(|cached| !**cached).count(), 1, "compiled exactly once");
}

fn another_compiler_is_refused(bench: &Bench) {
    let dir = bench.copy_of_harness("other-compiler");
    edit(&dir.join("manifest.json"), "rustc 1.", "rustc 0.");
    let error = Compiler::new(Harness::load(&dir).unwrap(), &bench.cache("x"), false).unwrap_err();
    assert!(matches!(error, Error::WrongCompiler { .. }));
    let text = error.to_string();
    assert!(
        text.contains("the harness was built with rustc 0.") && text.contains("\nhint: "),
        "{text}"
    );
}

fn a_damaged_harness_is_noticed(bench: &Bench) {
    let dir = bench.copy_of_harness("damaged");
    let harness = Harness::load(&dir).unwrap();
    harness.verify().unwrap();
    let library = library_of(&dir);
    let mut bytes = fs::read(&library).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&library, &bytes).unwrap();
    assert!(harness.verify().unwrap_err().to_string().contains("not the file that was installed"));
    bytes.pop();
    fs::write(&library, &bytes).unwrap();
    assert!(Harness::load(&dir).unwrap_err().to_string().contains("bytes instead of"));
    fs::remove_file(&library).unwrap();
    assert!(matches!(Harness::load(&dir), Err(Error::BadHarness { .. })));
    edit(&dir.join("manifest.json"), "\"format\": 1", "\"format\": 9");
    assert!(Harness::load(&dir).unwrap_err().to_string().contains("format 9 (known: 1)"));
}

fn only_what_programs_need_is_installed(bench: &Bench) {
    let dir = bench.copy_of_harness("needed");
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.split('-').next().unwrap().to_owned())
        .collect();
    names.sort();
    // Not `libbuildtool`, which only the build script uses.
    assert_eq!(names, ["libdeep", "libharness", "manifest.json"]);
    // Installing over an old harness replaces it; the identity is that of the contents.
    assert_eq!(bench.harness().hash(), bench.install_again().hash());
}

/// The harness crate's own rlib, which keeps the hash that cargo gave it.
fn library_of(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_library =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("libharness-");
    files.find(is_library).unwrap()
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}
