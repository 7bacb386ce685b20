//! Every way in which a hook can misbehave, and what the host answers.
//!
//! The test assembles all hooks and writes them to files. Then it runs itself again: that second
//! process only loads and calls hooks, so its peak memory is the host's.

#[path = "assemble/mod.rs"]
mod assemble;
#[path = "hostile/rows.rs"]
mod rows;

use forerunner_core::{Evaluation, Permission, Program, Slice};
use forerunner_verify::{HookError, HookHost, Limits, Report, Subject};
use rows::{Expected, Row, Setting};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::Duration,
};

/// Names the folder of hooks to the second process.
const FOLDER: &str = "FORERUNNER_HOSTILE_HOOKS";
const MAX_PEAK_KIB: u64 = 64 << 10;

/// What came of one hook.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    loaded: bool,
    /// Of the error, if there was one.
    cause: Option<String>,
    message: Option<String>,
    report: Option<Report>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Outcomes {
    rows: BTreeMap<String, Outcome>,
    peak_kib: u64,
}

impl Outcomes {
    /// For people: what the host answered to every hook.
    fn table(&self) -> String {
        let mut lines = vec![format!("peak memory of the host: {} KiB", self.peak_kib)];
        for (name, Outcome { message, report, .. }) in &self.rows {
            let answer = match (message, report) {
                (Some(message), _) => message.replace('\n', " "),
                (None, Some(report)) => format!("{:?}, {:?}", report.verdict, report.usage),
                (None, None) => "nothing".to_owned(),
            };
            lines.push(format!("{name}: {answer}"));
        }
        lines.join("\n") + "\n"
    }
}

#[test]
fn hostile_hooks_are_stopped_named_and_kept_small() {
    match std::env::var_os(FOLDER) {
        Some(folder) => run_all(Path::new(&folder)),
        None => check_all(),
    }
}

/// The first process: assembles, runs the second, compares.
fn check_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = rows::all();
    let mut settings = BTreeMap::new();
    for Row { name, bytes, setting, .. } in &rows {
        std::fs::write(folder.path().join(format!("{name}.wasm")), bytes).expect("room");
        assert!(settings.insert(*name, *setting).is_none(), "{name} is there twice");
    }
    let text = serde_json::to_string(&settings).expect("plain data");
    std::fs::write(folder.path().join("settings.json"), text).expect("room");
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["hostile_hooks_are_stopped_named_and_kept_small", "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .status()
        .expect("this test starts");
    assert!(status.success(), "the process with the hooks ended with {status}");
    let text = std::fs::read_to_string(folder.path().join("outcomes.json")).expect("outcomes");
    let outcomes: Outcomes = serde_json::from_str(&text).expect("what the process wrote");
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-hooks.txt");
    std::fs::write(table, outcomes.table()).expect("room");
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let outcome = &outcomes.rows[row.name];
            row.problem(outcome).map(|problem| format!("{}: {problem}: {outcome:?}", row.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        outcomes.peak_kib < MAX_PEAK_KIB,
        "the host took {} KiB (limit {MAX_PEAK_KIB})",
        outcomes.peak_kib
    );
}

impl Row {
    fn problem(&self, outcome: &Outcome) -> Option<&'static str> {
        let check = |cause: &str, named: &str, version: &str, says: &str| {
            let message = outcome.message.as_deref().unwrap_or_default();
            if outcome.cause.as_deref() != Some(cause) {
                Some("another cause")
            } else if !message.starts_with(&format!("hook `{named}` {version}: ")) {
                Some("hook and version are not named")
            } else if !message.contains(says) {
                Some("the message does not say it")
            } else if message.chars().any(|c| c.is_control() && c != '\n') {
                Some("control characters in the message")
            } else {
                None
            }
        };
        match &self.expected {
            Expected::Refused(cause, says) => {
                if outcome.loaded {
                    return Some("it was loaded");
                }
                check(cause, self.name, "(version unknown)", says)
            }
            Expected::Fails(cause, says) => {
                if !outcome.loaded {
                    return Some("it was not loaded");
                }
                check(cause, &rows::manifest_name(self.name), "1.2.3", says)
            }
            Expected::Reports(accepts) => match &outcome.report {
                Some(report) if accepts(report) => None,
                _ => Some("not the expected report"),
            },
        }
    }
}

/// The second process: loads and calls every hook, one after the other.
fn run_all(folder: &Path) {
    let text = std::fs::read_to_string(folder.join("settings.json")).expect("settings");
    let settings: BTreeMap<String, Setting> = serde_json::from_str(&text).expect("settings");
    let mut rows = BTreeMap::new();
    for setting in [Setting::Usual, Setting::LittleFuel, Setting::LittleTime] {
        let usual = Limits::default();
        let limits = match setting {
            Setting::Usual => usual,
            Setting::LittleFuel => Limits { fuel: 20_000_000, ..usual },
            Setting::LittleTime => {
                Limits { fuel: u64::MAX, deadline: Duration::from_millis(100), ..usual }
            }
        };
        let host = HookHost::new(limits, None).expect("a host");
        for (name, _) in settings.iter().filter(|(_, theirs)| **theirs == setting) {
            let path = folder.join(format!("{name}.wasm"));
            rows.insert(name.clone(), outcome(&host, &path));
        }
    }
    let outcomes = Outcomes { rows, peak_kib: peak_kib() };
    let text = serde_json::to_string(&outcomes).expect("plain data");
    std::fs::write(folder.join("outcomes.json"), text).expect("room");
}

fn outcome(host: &HookHost, path: &Path) -> Outcome {
    let failed = |loaded: bool, error: &HookError| Outcome {
        loaded,
        cause: Some(error.cause().to_owned()),
        message: Some(error.to_string()),
        report: None,
    };
    let hook = match host.load(path) {
        Ok(hook) => hook,
        Err(error) => return failed(false, &error),
    };
    let program = Program::single("main.rs", "fn main() {}");
    let evaluation = Evaluation::accepted("loss", 1.5);
    let subject = Subject {
        environment: "test",
        track: "small",
        program: &program,
        parent: None,
        seed: 7,
        slice: Slice::Dev,
        evaluation: &evaluation,
    };
    let mut permitted = BTreeSet::from(Permission::ALL);
    permitted.remove(&Permission::Probes);
    match hook.verify(&subject, &permitted) {
        Ok(report) => Outcome { loaded: true, cause: None, message: None, report: Some(report) },
        Err(error) => failed(true, &error),
    }
}

/// Largest resident memory that this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
