//! What hooks cost: compilation, loading from the cache, and calls for a typical subject.
//!
//! `cargo run --release -p forerunner-verify --example call_cost [-- --json]`

#![expect(clippy::print_stdout, reason = "printing is what an example is for")]

#[path = "../tests/assemble/mod.rs"]
mod assemble;

use assemble::{
    ACCEPT, ANSWER, Guest, LEDGER, METRICS, NOTE, PARENT, PROBES, SERIES, SOURCE, answer,
};
use forerunner_core::{Evaluation, Permission, Probe, Program, Slice};
use forerunner_verify::{Hook, HookHost, Limits, Subject};
use std::{collections::BTreeSet, error::Error, time::Instant};

const PROGRAM_BYTES: usize = 20_000;
const N_SERIES: u64 = 20;
const N_POINTS: u64 = 3_000;
const N_PROBES: u64 = 10;
const N_CALLS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("reader.wasm");
    std::fs::write(&path, reader())?;
    let idle = folder.path().join("idle.wasm");
    std::fs::write(&idle, idler())?;

    let fresh = HookHost::new(Limits::default(), None)?;
    let compile = median(20, || fresh.load(&path).map(drop))?;
    let host = HookHost::new(Limits::default(), Some(&folder.path().join("cache")))?;
    let hook = host.load(&path)?;
    let load = median(200, || host.load(&path).map(drop))?;

    let parent = program(0);
    let program = program(7);
    let evaluation = evaluation();
    let subject = Subject {
        environment: "nanogpt",
        track: "cpu",
        program: &program,
        parent: Some(&parent),
        seed: 1,
        slice: Slice::Dev,
        evaluation: &evaluation,
    };
    let permitted = BTreeSet::from(Permission::ALL);
    let call = |hook: &Hook| hook.verify(&subject, &permitted).map(drop);
    let idle = host.load(&idle)?;
    let instantiate = median(N_CALLS, || call(&idle))?;
    let verify = median(N_CALLS, || call(&hook))?;
    let usage = hook.verify(&subject, &permitted)?.usage;

    let rows = [
        ("compile_seconds", compile, "compile and describe"),
        ("load_seconds", load, "load from the cache and describe"),
        ("instantiate_seconds", instantiate, "instantiate, and return at once"),
        ("verify_seconds", verify, "verify, reading everything"),
    ];
    if std::env::args().any(|argument| argument == "--json") {
        let mut json = serde_json::json!({ "calls": N_CALLS, "usage": usage });
        for (name, seconds, _) in rows {
            json[name] = seconds.into();
        }
        println!("{json}");
        return Ok(());
    }
    println!(
        "a program of {PROGRAM_BYTES} bytes and its parent, {N_SERIES} series of {N_POINTS} points, \
         {N_PROBES} probes; medians"
    );
    for (_, seconds, what) in rows {
        println!("{:>9.3} ms  {what}", seconds * 1e3);
    }
    println!(
        "verify used {} units of fuel, {} KiB of memory, {} host calls",
        usage.fuel,
        usage.memory_bytes >> 10,
        usage.host_calls
    );
    Ok(())
}

/// Median seconds of `n` runs.
fn median<E>(n: usize, mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut seconds = Vec::with_capacity(n);
    for _ in 0..n {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[n / 2])
}

/// A program of typical size in which every line whose number ends in zero depends on `variant`.
fn program(variant: u64) -> Program {
    let mut text = String::new();
    let mut line = 0_u64;
    while text.len() < PROGRAM_BYTES {
        let width = if line.is_multiple_of(10) { line + variant } else { line };
        text.push_str(&format!("    let layer_{line} = linear(&x, {width})?; // (B, T, C)\n"));
        line += 1;
    }
    Program::single("main.rs", text)
}

fn evaluation() -> Evaluation {
    let mut evaluation = Evaluation::accepted("val_loss", 1.5);
    for series in 0..N_SERIES {
        let points = (0..N_POINTS).map(|step| (step, 5.0 / (1 + step + series) as f64)).collect();
        evaluation.telemetry.series.insert(format!("series_{series:02}"), points);
    }
    for probe in 0..N_PROBES {
        let probe = Probe::new(format!("probe-{probe}"), 100, 0).with("residual", 1e-6);
        evaluation.evidence.probes.push(probe);
    }
    for name in ["tokens", "batches", "scored_tokens"] {
        evaluation.evidence.ledger.insert(name.to_owned(), 65_536);
    }
    evaluation
}

/// A hook that asks for everything and adds up every point of every series.
fn reader() -> Vec<u8> {
    let questions = ["source", "parent-diff", "metrics", "ledger", "probes", "list-series"];
    let imports = [&questions[..], &["steps", "values"]].concat();
    let mut guest = Guest::new("reader")
        .wants(&[SOURCE, PARENT, METRICS, LEDGER, SERIES, PROBES])
        .imports(&imports)
        .pages(32);
    let finding = guest.finding(b"read", NOTE, b"read everything");
    let report = answer(guest.report(ACCEPT, &[finding], &[]));
    let calls: String =
        questions.iter().map(|name| format!("(call ${name} (i32.const {ANSWER}))")).collect();
    let (list, length) = (ANSWER + 4, ANSWER + 8);
    // Asks for one list of numbers, and adds up what `read` makes of each.
    let add = |function: &str, read: &str| {
        format!(
            "(call ${function} (i32.load (local.get $item)) (i32.load offset=4 (local.get $item))
                (i64.const 0) (i32.const 65536) (i32.const {ANSWER}))
            (local.set $at (i32.load (i32.const {list})))
            (local.set $end
                (i32.add (local.get $at) (i32.mul (i32.load (i32.const {length})) (i32.const 8))))
            (loop $add
                (local.set $sum (f64.add (local.get $sum) {read}))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $add (i32.lt_u (local.get $at) (local.get $end))))"
        )
    };
    guest.component(&format!(
        "(local $item i32) (local $last i32) (local $at i32) (local $end i32) (local $sum f64)
        {calls}
        (local.set $item (i32.load (i32.const {list})))
        (local.set $last
            (i32.add (local.get $item) (i32.mul (i32.load (i32.const {length})) (i32.const 16))))
        (loop $next
            {} {}
            (local.set $item (i32.add (local.get $item) (i32.const 16)))
            (br_if $next (i32.lt_u (local.get $item) (local.get $last))))
        (if (f64.ne (local.get $sum) (local.get $sum)) (then (unreachable)))
        {report}",
        add("steps", "(f64.convert_i64_u (i64.load (local.get $at)))"),
        add("values", "(f64.load (local.get $at))"),
    ))
}

/// A hook that asks for nothing.
fn idler() -> Vec<u8> {
    let mut guest = Guest::new("idler");
    let report = guest.report(ACCEPT, &[], &[]);
    guest.component(&answer(report))
}
