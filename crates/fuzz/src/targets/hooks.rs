//! Verification hooks: whatever bytes a hook answers with, the host gets a clean report or an error;
//! and so it does for whatever file is called a hook.
//!
//! The hook here is written by hand: it asks for an artifact, which is the input, and answers with
//! its bytes as the report, at a fixed address in its memory.

use super::{MIB, Target};
use forerunner_core::{Evaluation, Permission, Program, Slice, Verdict};
use forerunner_verify::{Hook, HookHost, Limits, MAX_FINDINGS, MAX_MESSAGE_BYTES, Subject};
use std::{collections::BTreeSet, fs, path::PathBuf, sync::OnceLock};

pub(super) const REPORT: Target = Target {
    name: "hook-report",
    about: "what a verification hook answers",
    corpus,
    dictionary: &[
        "\x00\x00\x02\x00",
        "\x40\x00\x02\x00",
        "\u{1b}[2J",
        "\u{202e}",
        "a/b",
        "\u{7f}\u{85}",
    ],
    longest: 32 << 10,
    // wasmtime makes memory files, which the sandbox refuses.
    confined: false,
    // The address space of the pool of memories, above all.
    memory_bytes: 4 << 30,
    allocation_bytes: 256 * MIB,
    run,
};

pub(super) const COMPONENT: Target = Target {
    name: "hook-file",
    about: "components that are no hooks",
    corpus: || vec![component(), b"\0asm\x01\0\0\0".to_vec(), b"no hook".to_vec()],
    dictionary: &["\0asm", "cabi_realloc", "verify", "describe", "artifact", "wasi:io/poll@0.2.0"],
    run: load,
    ..REPORT
};

/// Where the bytes of the artifact come to lie.
const BASE: u32 = 0x2_0000;

/// Exports what a hook exports; memory is handed out upwards and never taken back.
const HOOK: &str = r#"
(module
  (import "forerunner:verify/evidence@0.1.0" "artifact"
    (func $artifact (param i32 i32 i64 i32 i32)))
  (memory (export "memory") 8)
  (global $next (mut i32) (i32.const 0x10000))
  (data (i32.const 16) "fuzzed1.0.0\06\07input")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  ;; name "fuzzed", version "1.0.0", wants artifacts and recompute
  (func (export "describe") (result i32)
    (i32.store (i32.const 64) (i32.const 16))
    (i32.store (i32.const 68) (i32.const 6))
    (i32.store (i32.const 72) (i32.const 22))
    (i32.store (i32.const 76) (i32.const 5))
    (i32.store (i32.const 80) (i32.const 27))
    (i32.store (i32.const 84) (i32.const 2))
    (i32.const 64))
  (func (export "verify")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (global.set $next (i32.const 0x20000))
    (call $artifact (i32.const 29) (i32.const 5) (i64.const 0) (i32.const 0x8000) (i32.const 128))
    (i32.const 0x20000)))
"#;

struct Fixture {
    hook: Hook,
    program: Program,
    evaluation: Evaluation,
}

/// In the work directory.
const ARTIFACT: &str = "artifact";

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        fs::write("fuzzed.wasm", component()).expect("the work directory is writable");
        let host = new_host();
        let hook = host.load("fuzzed.wasm".as_ref()).expect("it is a hook");
        let mut evaluation = Evaluation::accepted("loss", 1.5);
        let path = PathBuf::from(ARTIFACT);
        evaluation.evidence.artifacts.insert("input".to_owned(), path);
        Fixture { hook, program: Program::single("main.rs", "fn main() {}"), evaluation }
    })
}

fn component() -> Vec<u8> {
    let module = wat::parse_str(HOOK).expect("the hook is written in WAT");
    forerunner_hook_tools::encode(&module).expect("it has the hook's interface")
}

fn new_host() -> HookHost {
    let limits = Limits { concurrent_calls: 1, ..Limits::default() };
    HookHost::new(limits, None).expect("this machine runs hooks")
}

fn load(input: &[u8]) -> String {
    static HOST: OnceLock<HookHost> = OnceLock::new();
    fs::write("input.wasm", input).expect("the work directory is writable");
    match HOST.get_or_init(new_host).load("input.wasm".as_ref()) {
        Ok(hook) => {
            let manifest = hook.manifest();
            assert!(is_clean(&manifest.name) && is_clean(&manifest.version), "{manifest:?}");
            "a hook".to_owned()
        }
        Err(error) => {
            let text = error.to_string();
            assert!(is_clean(&text), "an error that is not clean: {text:?}");
            // Which of its checks refused it, and the first words of why.
            format!("{}: {}", error.cause(), text.chars().take(60).collect::<String>())
        }
    }
}

/// Reports as a compiler would lay them out, with room for strings behind.
fn corpus() -> Vec<Vec<u8>> {
    let word = |number: u32| number.to_le_bytes();
    let report = |verdict: u32, findings: [u32; 2], metrics: [u32; 2]| {
        let parts = [0, verdict, findings[0], findings[1], metrics[0], metrics[1]];
        parts.map(word).concat()
    };
    // rule, severity, message, and a place of the kind `point`.
    let finding = |rule: u32, severity: u32, place: u32| {
        let text = [rule, 4, severity, BASE + 256, 24, 0, 1, 0, place, 0, rule, 4, 7, 0];
        text.map(word).concat()
    };
    let texts = b"rule-a.rsname.........................a message\n\x1b[31m of it\xe2\x80\xae";
    let at = |offset: u32| BASE + offset;
    let page = |head: Vec<u8>, findings: Vec<u8>| {
        let mut bytes = head;
        bytes.resize(64, 0);
        bytes.extend(findings);
        bytes.resize(256, 0);
        bytes.extend_from_slice(texts);
        bytes
    };
    let metric = [word(at(265)), word(4), word(0), word(0x3ff8_0000)].concat();
    vec![
        page(report(0, [0, 0], [0, 0]), Vec::new()),
        page(report(1, [0, 0], [0, 0]), Vec::new()),
        page(report(0, [at(64), 1], [0, 0]), finding(at(256), 2, 0)),
        page(
            report(2, [at(64), 2], [0, 0]),
            [finding(at(256), 0, 2), finding(at(265), 1, 4)].concat(),
        ),
        page(report(0, [0, 0], [at(64), 1]), metric),
        // The other arm of the result: an error with a text.
        page([1, at(256), 40].map(word).concat(), Vec::new()),
        page(report(0, [at(64), 1_000_000], [0, 0]), Vec::new()),
    ]
}

fn run(input: &[u8]) -> String {
    let fixture = fixture();
    fs::write(ARTIFACT, input).expect("the work directory is writable");
    let subject = Subject {
        environment: "fuzz",
        track: "",
        program: &fixture.program,
        parent: None,
        seed: 7,
        slice: Slice::Dev,
        evaluation: &fixture.evaluation,
    };
    let permitted = BTreeSet::from([Permission::Artifacts, Permission::Recompute]);
    let report = match fixture.hook.verify(&subject, &permitted) {
        Ok(report) => report,
        Err(error) => {
            let text = error.to_string();
            assert!(is_clean(&text), "an error that is not clean: {text:?}");
            return error.cause().to_owned();
        }
    };
    // One more than it gave: the finding that says why there is none.
    assert!(report.findings.len() <= MAX_FINDINGS + 1);
    let has_error =
        report.findings.iter().any(|finding| finding.severity == forerunner_core::Severity::Error);
    assert_eq!(report.verdict == Verdict::Rejected, has_error, "{report:?}");
    assert!(!matches!(report.verdict, Verdict::Failed { .. }), "{report:?}");
    for finding in &report.findings {
        assert!(finding.rule.starts_with("fuzzed/"), "{finding:?}");
        assert!(finding.message.len() <= MAX_MESSAGE_BYTES, "{finding:?}");
        let place = finding.place.as_deref().unwrap_or_default();
        assert!(is_clean(&finding.rule) && is_clean(&finding.message) && is_clean(place));
    }
    assert!(report.metrics.values().all(|value| value.is_finite()), "{report:?}");
    assert!(report.metrics.keys().all(|name| is_clean(name)), "{report:?}");
    format!(
        "{:?}, {} findings, {} metrics",
        report.verdict,
        report.findings.len().min(2),
        report.metrics.len().min(2)
    )
}

/// Nothing that moves a cursor or turns text round.
fn is_clean(text: &str) -> bool {
    text.chars().all(|letter| letter == '\n' || !letter.is_control() && letter != '\u{202e}')
}
