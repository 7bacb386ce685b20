//! The table: one row for each way to misbehave.

use crate::assemble::{
    ACCEPT, ANSWER, ERROR, Guest, NOTE, PROBES, RECOMPUTE, REJECT, UNDECIDED, answer, finding,
};
use forerunner_core::{Severity, Verdict};
use forerunner_verify::Report;
use serde::{Deserialize, Serialize};

/// Which limits a row runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Setting {
    Usual,
    LittleFuel,
    LittleTime,
}

/// What must come of a hook.
pub(crate) enum Expected {
    /// It is not loaded: cause, and a part of the message.
    Refused(&'static str, &'static str),
    /// It is loaded and fails when it is called: cause, and a part of the message.
    Fails(&'static str, &'static str),
    /// There is a report of this kind.
    Reports(fn(&Report) -> bool),
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) setting: Setting,
    pub(crate) expected: Expected,
}

use Expected::{Fails, Refused, Reports};
use Setting::{LittleFuel, LittleTime, Usual};

/// What a row's hook calls itself, so that file and hook can be told apart in messages.
pub(crate) fn manifest_name(row: &str) -> String {
    format!("{row}-hook")
}

const FOREVER: &str = "(loop (br 0)) (unreachable)";
/// Somewhere beyond all static data, and zero.
const EMPTY: u32 = 1 << 17;
const NO_LIST: [u32; 2] = [8, 0];

/// A hook whose `verify` is what `make` answers.
fn hook(
    name: &'static str,
    setting: Setting,
    expected: Expected,
    make: impl FnOnce(&mut Guest) -> String,
) -> Row {
    let mut guest = Guest::new(&manifest_name(name));
    let body = make(&mut guest);
    Row { name, bytes: guest.component(&body), setting, expected }
}

/// A hook that misbehaves in what it answers or does, under the usual limits.
fn usual(name: &'static str, expected: Expected, make: impl FnOnce(&mut Guest) -> String) -> Row {
    hook(name, Usual, expected, make)
}

/// A file that is no hook.
fn file(name: &'static str, expected: Expected, bytes: impl Into<Vec<u8>>) -> Row {
    Row { name, bytes: bytes.into(), setting: Usual, expected }
}

/// A component from its own text.
fn raw(name: &'static str, expected: Expected, text: &str) -> Row {
    file(name, expected, wat::parse_str(text).expect("valid text"))
}

pub(crate) fn all() -> Vec<Row> {
    let mut rows = time();
    rows.extend(traps());
    rows.extend(memory());
    rows.extend(lists());
    rows.extend(values());
    rows.extend(calls());
    rows.extend(manifests());
    rows.extend(reports());
    rows.extend(files());
    rows
}

fn accept(guest: &mut Guest) -> String {
    answer(guest.report(ACCEPT, &[], &[]))
}

fn time() -> Vec<Row> {
    vec![
        hook("never-returns", Usual, Fails("out-of-fuel", "500000000 units"), |_| FOREVER.into()),
        hook("takes-its-time", LittleTime, Fails("deadline", "0.1 seconds"), |_| FOREVER.into()),
        // A single instruction here costs one unit and writes 16 MiB.
        hook("fills-memory", LittleTime, Fails("deadline", "0.1 seconds"), |guest| {
            guest.pages = 300;
            format!(
                "(loop
                    (memory.fill (i32.const {EMPTY}) (i32.const 0) (i32.const 16777216)) (br 0))
                (unreachable)"
            )
        }),
        hook("never-describes", LittleFuel, Refused("out-of-fuel", "`describe`"), |guest| {
            guest.describe = "(loop (br 0))".into();
            accept(guest)
        }),
        hook("never-starts", LittleFuel, Refused("out-of-fuel", "`describe`"), |guest| {
            guest.fields = "(func $start (loop (br 0))) (start $start)".into();
            accept(guest)
        }),
        hook("never-allocates", LittleFuel, Fails("out-of-fuel", "`verify`"), |guest| {
            guest.realloc = FOREVER.into();
            accept(guest)
        }),
        hook("never-cleans-up", LittleFuel, Fails("out-of-fuel", "`verify`"), |guest| {
            guest.fields = "(func (export \"cabi_post_verify\") (param i32) (loop (br 0)))".into();
            accept(guest)
        }),
    ]
}

fn traps() -> Vec<Row> {
    let trap =
        |name, says, body: &'static str| usual(name, Fails("trapped", says), |_| body.into());
    vec![
        trap("unreachable", "`unreachable`", "(unreachable)"),
        trap("divides", "divide by zero", "(i32.div_s (i32.const 1) (i32.const 0))"),
        trap("reads-outside", "out of bounds memory", "(i32.load (i32.const -16))"),
        trap("converts", "conversion to integer", "(i32.trunc_f64_s (f64.const nan))"),
        usual("recurses", Fails("trapped", "call stack"), |_| {
            let parameters: String = (0..10).map(|n| format!("(local.get {n})")).collect();
            format!("(call $verify {parameters})")
        }),
        usual("calls-nothing", Fails("trapped", "uninitialized element"), |guest| {
            guest.fields = "(table 1 funcref) (type $nothing (func (result i32)))".into();
            "(call_indirect (type $nothing) (i32.const 0))".into()
        }),
        usual("allocator-traps", Fails("trapped", "`unreachable`"), |guest| {
            guest.realloc = "(unreachable)".into();
            accept(guest)
        }),
        usual("traps-in-describe", Refused("trapped", "`describe`"), |guest| {
            guest.describe = "(unreachable)".into();
            accept(guest)
        }),
    ]
}

fn memory() -> Vec<Row> {
    vec![
        usual("grows", Fails("memory", "limit: 25165824 bytes"), |_| {
            "(loop (drop (memory.grow (i32.const 64))) (br 0)) (unreachable)".into()
        }),
        usual("grows-at-once", Fails("memory", "4294967296 bytes of memory"), |_| {
            "(drop (memory.grow (i32.const 65534))) (unreachable)".into()
        }),
        usual("declares-memory", Refused("memory", "131072000 bytes"), |guest| {
            guest.pages = 2_000;
            accept(guest)
        }),
        usual("grows-in-describe", Refused("memory", "limit: 25165824 bytes"), |guest| {
            guest.describe = "(drop (memory.grow (i32.const 1000)))".into();
            accept(guest)
        }),
        usual("grows-tables", Fails("memory", "20001 table elements (limit: 20000)"), |guest| {
            guest.fields = "(table $t 1 funcref)".into();
            let grow = "(table.grow $t (ref.null func) (i32.const 10000))";
            format!("(loop (drop {grow}) (br 0)) (unreachable)")
        }),
        usual("declares-tables", Refused("not-compiled", "exceeds the limit"), |guest| {
            guest.fields = "(table 10000000 funcref)".into();
            accept(guest)
        }),
        // The limit may be used up to the last byte; this is what the host's peak is made of.
        usual(
            "touches-all-it-may",
            Reports(|report| report.usage.memory_bytes == 24 << 20),
            |guest| {
                let report = accept(guest);
                format!(
                    "(local $at i32)
                    (drop (memory.grow (i32.sub (i32.const 384) (memory.size))))
                    (local.set $at (i32.const {EMPTY}))
                    (loop $next
                        (i32.store (local.get $at) (local.get $at))
                        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                        (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))
                    {report}",
                    24 << 20
                )
            },
        ),
    ]
}

fn lists() -> Vec<Row> {
    let far = |findings: [u32; 2], metrics: [u32; 2], pages: u32| {
        move |guest: &mut Guest| {
            guest.pages = pages;
            answer(guest.raw_report(ACCEPT, findings, metrics))
        }
    };
    let mut rows = vec![
        usual(
            "list-outside",
            Fails("invalid-value", "out of bounds"),
            far([64, 10_000], NO_LIST, 2),
        ),
        usual(
            "list-wraps",
            Fails("invalid-value", "out of bounds"),
            far([64, u32::MAX], NO_LIST, 2),
        ),
        usual(
            "million-findings",
            Fails("invalid-value", "out of bounds"),
            far([64, 1_000_000], NO_LIST, 2),
        ),
        usual(
            "many-findings-that-are-there",
            Fails("too-much-data", "4194304 bytes"),
            far([EMPTY, 400_000], NO_LIST, 350),
        ),
        usual(
            "million-metrics",
            Fails("too-much-data", "4194304 bytes"),
            far(NO_LIST, [EMPTY, 1_000_000], 300),
        ),
        usual(
            "ten-thousand-findings",
            Fails("report", "10000 findings (at most 100)"),
            far([EMPTY, 10_000], NO_LIST, 20),
        ),
        usual("misaligned-list", Fails("invalid-value", "aligned"), far([66, 1], NO_LIST, 2)),
    ];
    rows.push(usual("amplified-strings", Fails("too-much-data", "4194304 bytes"), |guest| {
        guest.pages = 350;
        let rule = guest.text(b"rule");
        let same = finding(rule, NOTE, [EMPTY, 20_000_000]).repeat(100);
        let findings = guest.list(&same, 100);
        answer(guest.raw_report(ACCEPT, findings, NO_LIST))
    }));
    rows.push(usual("string-outside", Fails("invalid-value", "out of bounds"), |guest| {
        let rule = guest.text(b"rule");
        let findings = guest.list(&finding(rule, NOTE, [EMPTY, 1_000_000]), 1);
        answer(guest.raw_report(ACCEPT, findings, NO_LIST))
    }));
    rows
}

fn values() -> Vec<Row> {
    let invalid = |name, says, make: fn(&mut Guest) -> String| {
        usual(name, Fails("invalid-value", says), make)
    };
    vec![
        invalid("unknown-verdict", "discriminant", |guest| answer(guest.report(77, &[], &[]))),
        invalid("unknown-severity", "discriminant", |guest| {
            let finding = guest.finding(b"rule", 9, b"text");
            answer(guest.report(ACCEPT, &[finding], &[]))
        }),
        invalid("unknown-result", "discriminant", |guest| answer(guest.place(&[9; 24]))),
        invalid("no-utf8", "utf-8", |guest| {
            let finding = guest.finding(b"rule", NOTE, b"\xff\xfe");
            answer(guest.report(ACCEPT, &[finding], &[]))
        }),
        invalid("answers-outside", "out of bounds", |_| answer(u32::MAX - 7)),
        invalid("answers-misaligned", "aligned", |_| answer(4_097)),
        invalid("allocates-outside", "", |guest| {
            guest.realloc = "(i32.const -16)".into();
            accept(guest)
        }),
    ]
}

fn calls() -> Vec<Row> {
    let spam = |guest: &mut Guest, n_lines: u32| {
        guest.imports = vec!["log"];
        let line = guest.text(&[b'x'; 1_000]);
        let report = accept(guest);
        format!(
            "(local $left i32) (local.set $left (i32.const {n_lines}))
            (loop $next
                (call $log (i32.const 1) (i32.const {}) (i32.const {}))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $next (local.get $left)))
            {report}",
            line[0], line[1]
        )
    };
    vec![
        usual(
            "log-spam",
            Reports(|report| {
                let n_bytes: usize = report.log.iter().map(|line| line.message.len()).sum();
                let n_lines = report.log.len() as u64 + report.usage.dropped_log_lines;
                n_bytes <= 65_536 && n_lines == 2_000 && report.log.len() == 65
            }),
            move |guest| spam(guest, 2_000),
        ),
        usual("endless-log", Fails("too-many-calls", "more than 10000 times"), move |guest| {
            spam(guest, u32::MAX)
        }),
        usual("endless-questions", Fails("too-many-calls", "more than 10000 times"), |guest| {
            guest.imports = vec!["source"];
            format!("(loop (call $source (i32.const {ANSWER})) (br 0)) (unreachable)")
        }),
        usual("huge-log-line", Fails("too-much-data", "4194304 bytes"), |guest| {
            guest.imports = vec!["log"];
            guest.pages = 350;
            let report = accept(guest);
            format!("(call $log (i32.const 1) (i32.const {EMPTY}) (i32.const 20000000)) {report}")
        }),
        usual("unknown-level", Fails("invalid-value", "discriminant"), |guest| {
            guest.imports = vec!["log"];
            let report = accept(guest);
            format!("(call $log (i32.const 99) (i32.const 0) (i32.const 0)) {report}")
        }),
    ]
}

/// A file whose hook calls itself something odd.
fn calls_itself(file: &'static str, expected: Expected, name: &str, version: &str) -> Row {
    let mut guest = Guest::new(name).version(version);
    let body = accept(&mut guest);
    Row { name: file, bytes: guest.component(&body), setting: Usual, expected }
}

fn manifests() -> Vec<Row> {
    let nonsense = |says| Refused("manifest", says);
    vec![
        calls_itself("odd-name", nonsense("`two words`"), "two words", "1"),
        calls_itself("terminal-name", nonsense("`[2Jx`"), "\u{1b}[2Jx", "1"),
        calls_itself("other-hooks-rule", nonsense("`a/b`"), "a/b", "1"),
        calls_itself("nameless", nonsense("name is ``"), "", "1"),
        calls_itself("long-name", nonsense("aaa…"), &"a".repeat(5_000), "1"),
        calls_itself("versionless", nonsense("version is ``"), "x", ""),
        calls_itself("odd-version", nonsense("`1 (latest)`"), "x", "1 (latest)"),
        usual("unknown-wish", Refused("invalid-value", "discriminant"), |guest| {
            *guest = guest.clone().wants(&[99]);
            accept(guest)
        }),
        usual("wants-more", Fails("not-permitted", "`probes`"), |guest| {
            *guest = guest.clone().wants(&[RECOMPUTE, PROBES]);
            accept(guest)
        }),
    ]
}

fn reports() -> Vec<Row> {
    vec![
        usual("says-nothing", Reports(|report| report.verdict == Verdict::Accepted), accept),
        usual(
            "accepts-with-an-error",
            Reports(|report| report.verdict == Verdict::Rejected && report.findings.len() == 1),
            |guest| {
                let finding = guest.finding(b"rule", ERROR, b"wrong");
                answer(guest.report(ACCEPT, &[finding], &[]))
            },
        ),
        usual(
            "rejects-without-an-error",
            Reports(|report| {
                let last = report.findings.last();
                report.verdict == Verdict::Rejected
                    && last.is_some_and(|finding| {
                        finding.severity == Severity::Error
                            && finding.rule == "rejects-without-an-error-hook/rejected"
                    })
            }),
            |guest| {
                let finding = guest.finding(b"rule", NOTE, b"fine");
                answer(guest.report(REJECT, &[finding], &[]))
            },
        ),
        usual("cannot-tell", Reports(|report| report.verdict == Verdict::Unverified), |guest| {
            answer(guest.report(UNDECIDED, &[], &[]))
        }),
        usual(
            "paints-the-terminal",
            Reports(|report| {
                let message = &report.findings[0].message;
                message.starts_with("[31mred two") && message.len() <= 1_000
            }),
            |guest| {
                let text = format!("\u{1b}[31mred\ntwo\u{202e}{}", "x".repeat(5_000));
                let finding = guest.finding(b"rule", NOTE, text.as_bytes());
                answer(guest.report(ACCEPT, &[finding], &[]))
            },
        ),
        usual("too-many-findings", Fails("report", "101 findings (at most 100)"), |guest| {
            let finding = guest.finding(b"rule", NOTE, b"again");
            answer(guest.report(ACCEPT, &vec![finding; 101], &[]))
        }),
        usual("odd-rule", Fails("report", "`a [2Jrule`"), |guest| {
            let finding = guest.finding(b"a \x1b[2Jrule", NOTE, b"text");
            answer(guest.report(ACCEPT, &[finding], &[]))
        }),
        usual("metrics-without-permission", Fails("report", "`recompute`"), |guest| {
            let metric = guest.metric(b"loss", 0.0);
            answer(guest.report(ACCEPT, &[], &[metric]))
        }),
        usual("metric-is-nan", Fails("report", "`loss` is NaN"), |guest| {
            *guest = guest.clone().wants(&[RECOMPUTE]);
            let metric = guest.metric(b"loss", f64::NAN);
            answer(guest.report(ACCEPT, &[], &[metric]))
        }),
        usual("metric-is-infinite", Fails("report", "`loss` is inf"), |guest| {
            *guest = guest.clone().wants(&[RECOMPUTE]);
            let metric = guest.metric(b"loss", f64::INFINITY);
            answer(guest.report(ACCEPT, &[], &[metric]))
        }),
        usual("gives-up", Fails("declined", "no [2Jidea"), |guest| {
            answer(guest.decline(b"no\n\x1b[2Jidea"))
        }),
    ]
}

fn files() -> Vec<Row> {
    let mut guest = Guest::new("honest");
    let body = accept(&mut guest);
    let honest = guest.component(&body);
    let engine = wasmtime::Engine::default();
    let image = engine.precompile_component(&honest).expect("it is valid");
    let garbage = [&honest[..8], &[0xee; 100]].concat();
    // Two functions of another type under the right names.
    let wrong = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i \"f\")))
        (export \"describe\" (func $f)) (export \"verify\" (func $f))";
    let instances = "(core instance (instantiate $m))".repeat(40);
    let import = |name: &str, function: &str| {
        format!("(component (import \"{name}\" (instance (export \"{function}\" (func)))) {wrong})")
    };
    vec![
        file("empty", Refused("not-wasm", "it is empty"), ""),
        file("text", Refused("not-wasm", "it is text"), "(component)"),
        file("binary", Refused("not-wasm", "first bytes"), [0xff; 100]),
        file("native", Refused("not-wasm", "native machine code"), *b"\x7fELF\x02\x01\x01\0\0\0"),
        file("foreign-image", Refused("precompiled", "precompiled image"), image),
        file("too-large", Refused("too-large", "4194304"), vec![0; (4 << 20) + 1]),
        file("truncated", Refused("not-compiled", ""), &honest[..honest.len() / 2]),
        file("garbage", Refused("not-compiled", ""), garbage),
        raw("core-module", Refused("core-module", "not a component"), "(module)"),
        raw("empty-component", Refused("wrong-world", "exports no `describe`"), "(component)"),
        raw("other-types", Refused("wrong-world", "describe"), &format!("(component {wrong})")),
        raw(
            "many-instances",
            Refused("not-compiled", "instances"),
            &format!("(component {wrong} {instances})"),
        ),
        raw(
            "wants-files",
            Refused("forbidden-imports", "`wasi:filesystem/preopens@0.2.0`"),
            &import("wasi:filesystem/preopens@0.2.0", "get-directories"),
        ),
        raw(
            "wants-another-interface",
            Refused("forbidden-imports", "`forerunner:verify/secrets@0.1.0`"),
            &import("forerunner:verify/secrets@0.1.0", "answers"),
        ),
        raw(
            "wants-a-resource",
            Refused("forbidden-imports", "`secret`"),
            &format!("(component (import \"secret\" (type (sub resource))) {wrong})"),
        ),
        raw(
            "wants-more-evidence",
            Refused("wrong-world", "answers"),
            &import("forerunner:verify/evidence@0.1.0", "answers"),
        ),
        raw(
            "newer-version",
            Refused("other-version", "built for version 0.2.0 of forerunner:verify (known: 0.1.0)"),
            &import("forerunner:verify/evidence@0.2.0", "log"),
        ),
        raw(
            "older-version",
            Refused("other-version", "built for version 0.0.9"),
            &import("forerunner:verify/evidence@0.0.9", "log"),
        ),
    ]
}
