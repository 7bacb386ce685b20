//! The host's part: runs what a test asks for, in a process of its own, so that tests can choose
//! its environment and user, and kill it.

use std::{ffi::OsString, io::Write, time::Duration};

use forerunner_sandbox::{Finished, Policy, probe, run, spawn};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Request {
    policy: Policy,
    argv: Vec<String>,
}

/// Answers one request with one JSON line (`hold`: one before it sleeps).
pub(crate) fn serve(mode: &str) {
    if mode == "layers" {
        let layers = probe().unwrap_or_else(|error| panic!("{error}"));
        return println!("{}", serde_json::to_string(&layers).unwrap());
    }
    let Request { policy, argv } = serde_json::from_reader(std::io::stdin()).unwrap();
    let argv: Vec<OsString> = argv.into_iter().map(OsString::from).collect();
    // Left open across executions on purpose: the program must not get it.
    let leak = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: plain system calls.
    unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&leak), 77) };
    match mode {
        "run" => match run(&policy, &argv) {
            Ok(finished) => show(&finished),
            Err(error) => println!("{}", json!({ "error": error.to_string() })),
        },
        // Spawned by a thread that ends at once, then waited for.
        "thread" => {
            let spawned = std::thread::spawn(move || spawn(&policy, &argv).unwrap());
            show(&spawned.join().unwrap().wait().unwrap());
        }
        "hold" => {
            let child = spawn(&policy, &argv).unwrap();
            println!("{}", json!({ "program_pid": child.program_pid() }));
            std::thread::sleep(Duration::from_secs(1000));
        }
        "drop" => {
            let mut child = spawn(&policy, &argv).unwrap();
            let mut byte = [0];
            std::io::Read::read_exact(child.stdout(), &mut byte).unwrap();
            drop(child);
            println!("{}", json!({ "dropped": true }));
        }
        "converse" => converse(&policy, &argv),
        "time" => time(&policy, &argv),
        other => panic!("unknown mode `{other}`"),
    }
}

fn show(finished: &Finished) {
    let answer = json!({
        "outcome": finished.outcome,
        "stdout": String::from_utf8_lossy(&finished.stdout),
        "stderr": String::from_utf8_lossy(&finished.stderr),
        "truncated": finished.output_truncated,
        "cpu": finished.cpu.as_secs_f64(),
        "wall": finished.wall.as_secs_f64(),
        "peak_memory_bytes": finished.peak_memory_bytes,
        "layers": finished.layers,
    });
    println!("{answer}");
}

/// Talks to the `echo` probe, reads its clock around a burst of work, and kills it.
fn converse(policy: &Policy, argv: &[OsString]) {
    let mut child = spawn(policy, argv).unwrap();
    let ask = |child: &mut forerunner_sandbox::Child, line: &str| {
        child.stdin().write_all(line.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            std::io::Read::read_exact(child.stdout(), &mut byte).unwrap();
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    };
    let answer = ask(&mut child, "hello\n");
    let before = child.cpu_time().unwrap();
    let work = ask(&mut child, "work\n");
    let after = child.cpu_time().unwrap();
    let pid = child.program_pid();
    let command_line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let finished = child.kill().unwrap();
    let answer = json!({
        "answer": answer,
        "own_clock": work.trim().parse::<f64>().unwrap(),
        "our_clock": (after - before).as_secs_f64(),
        "command_line": command_line,
        "outcome": finished.outcome,
    });
    println!("{answer}");
}

/// How long a spawn with its end takes, in seconds; the median of 21.
fn time(policy: &Policy, argv: &[OsString]) {
    let mut walls: Vec<f64> =
        (0..21).map(|_| run(policy, argv).unwrap().wall.as_secs_f64()).collect();
    walls.sort_by(f64::total_cmp);
    println!("{}", json!({ "median_wall": walls[10] }));
}
