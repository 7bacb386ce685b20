//! Runs one row of the table in one setting and judges what came of it.

use std::{fmt, time::Duration};

use crate::hosted::{Host, Setting};
use forerunner_sandbox::{Outcome, Profile};
use serde_json::Value;

use super::rows::{Detail, Expected, Row};

/// What a cell says.
pub(crate) enum Verdict {
    Blocked(String),
    Bounded(&'static str),
    /// In the column without the sandbox: it can be done there.
    Possible,
    /// There: it would do harm, or the machine may refuse it by itself.
    NotTried,
    /// A failure.
    Open(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(how) => write!(f, "blocked ({how})"),
            Self::Bounded(how) => write!(f, "bounded ({how})"),
            Self::Possible => f.write_str("possible"),
            Self::NotTried => f.write_str("–"),
            Self::Open(why) => write!(f, "**OPEN** ({why})"),
        }
    }
}

/// How many times a program was run for a cell, and how many processes were left afterwards.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) runs: usize,
    pub(crate) survivors: usize,
}

/// Runs a row with each of its profiles.
pub(crate) fn judge(row: &Row, setting: Setting) -> (Verdict, Count) {
    let mut count = Count::default();
    let (mut how, mut bounded) = (Vec::new(), None);
    for &profile in row.profiles {
        match judge_once(row, setting, profile, &mut count) {
            Verdict::Blocked(reason) if !how.contains(&reason) => how.push(reason),
            Verdict::Bounded(reason) => bounded = Some(Verdict::Bounded(reason)),
            open @ Verdict::Open(_) => return (open, count),
            _ => {}
        }
    }
    (bounded.unwrap_or_else(|| Verdict::Blocked(how.join(", "))), count)
}

fn judge_once(row: &Row, setting: Setting, profile: Profile, count: &mut Count) -> Verdict {
    let mut host = Host::new(setting, profile).expect("the situation has been found possible");
    let mut victim = setting.victim();
    (row.change)(&mut host.policy);
    let detail = detail(row, &host, victim.pid());
    let mut run = |host: &Host, probe: &str| {
        let answer = host.ask_and_count(&host.probe_argv(probe, &detail));
        count.runs += 1;
        count.survivors += answer.1;
        answer.0
    };
    let verdict = match row.expected {
        Expected::Refused => refused(&run(&host, row.probe)),
        Expected::Says(stdout, how) => {
            let answer = run(&host, row.probe);
            match answer["stdout"] == stdout {
                true if stdout.starts_with("refused: ") => Verdict::Bounded(how),
                true => Verdict::Blocked(how.to_owned()),
                false => Verdict::Open(answer.to_string()),
            }
        }
        Expected::Ends(outcome, how) => ended(&run(&host, row.probe), outcome, how),
        Expected::Tasks => few_tasks(&run(&host, row.probe)),
        Expected::Nothing(how) => {
            // What it leaves is the point; it may end as it likes.
            run(&host, row.probe);
            Verdict::Bounded(how)
        }
        Expected::Forgotten(second) => {
            run(&host, row.probe);
            host.policy.work_dir = host.second_work_dir();
            match refused(&run(&host, second)) {
                Verdict::Blocked(_) => Verdict::Blocked("nothing was found".to_owned()),
                other => other,
            }
        }
        Expected::Unseen(reading) => {
            let before = run(&host, row.probe);
            run(&host, reading);
            let after = run(&host, row.probe);
            if before["outcome"]["exited"] == 0 && before["stdout"] == after["stdout"] {
                Verdict::Blocked("unchanged".to_owned())
            } else {
                Verdict::Open(format!("{} became {}", before["stdout"], after["stdout"]))
            }
        }
        Expected::DiesWithHost => {
            let mut process = host.start("hold", &host.probe_argv(row.probe, &detail));
            let mut line = String::new();
            let stdout = process.stdout.take().unwrap();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
            let was_alive = host.survivors() > 0;
            process.kill().unwrap();
            process.wait().unwrap();
            count.runs += 1;
            host.await_no_survivors();
            if line.contains("program_pid") && was_alive {
                Verdict::Bounded("killed with the host")
            } else {
                Verdict::Open(format!("nothing to kill: {line}"))
            }
        }
    };
    if victim.is_alive() { verdict } else { Verdict::Open("a bystander was killed".to_owned()) }
}

/// The same without the sandbox: shows that the attempt is a real one.
pub(crate) fn control(row: &Row) -> Verdict {
    if !row.controlled {
        return Verdict::NotTried;
    }
    let mut host = Host::new(Setting::Waived, row.profiles[0]).unwrap();
    let victim = Setting::Waived.victim();
    host.policy.limits.wall = Duration::from_secs(20);
    let detail = detail(row, &host, victim.pid());
    let run = |host: &Host, probe: &str| host.ask("run", &host.probe_argv(probe, &detail));
    let (possible, answer) = match row.expected {
        Expected::Forgotten(second) => {
            run(&host, row.probe);
            host.policy.work_dir = host.second_work_dir();
            let answer = run(&host, second);
            // Machines differ in what they offer, but several of these places are everywhere.
            let found = answer["stdout"].as_str().unwrap_or_default();
            (found.matches("\", \"").count() >= 4, answer)
        }
        Expected::Unseen(reading) => {
            let before = run(&host, row.probe);
            run(&host, reading);
            let after = run(&host, row.probe);
            if before["stdout"] == after["stdout"] {
                return Verdict::NotTried; // This machine notes no reading times.
            }
            (true, after)
        }
        _ => {
            let answer = run(&host, row.probe);
            (answer["stdout"].as_str().unwrap_or_default().starts_with("allowed: "), answer)
        }
    };
    if possible { Verdict::Possible } else { Verdict::Open(answer.to_string()) }
}

fn detail(row: &Row, host: &Host, victim: u32) -> String {
    match row.detail {
        Detail::Text(text) => text.to_owned(),
        Detail::Granted => host.granted_file().to_string_lossy().into_owned(),
        Detail::Victim => victim.to_string(),
        Detail::OfVictim(file) => format!("/proc/{victim}/{file}"),
        Detail::Beside => {
            let beside = host.granted_file().with_file_name("beside");
            std::fs::write(&beside, "of another run").unwrap();
            beside.to_string_lossy().into_owned()
        }
    }
}

/// `refused: …` and code 3, with the name of the error.
fn refused(answer: &Value) -> Verdict {
    let output = answer["stdout"].as_str().unwrap_or_default();
    let Some(reason) = output.strip_prefix("refused: ") else {
        return Verdict::Open(answer.to_string());
    };
    if answer["outcome"]["exited"] != 3 {
        return Verdict::Open(answer.to_string());
    }
    let number = reason
        .rsplit_once("os error ")
        .and_then(|(_, rest)| rest.trim_end().trim_end_matches(')').parse::<i32>().ok());
    match number.map(nix::errno::Errno::from_raw) {
        Some(error) => Verdict::Blocked(format!("{error:?}")),
        None => Verdict::Blocked(reason.trim_end().to_owned()),
    }
}

fn ended(answer: &Value, outcome: Outcome, how: &'static str) -> Verdict {
    if answer["outcome"] == serde_json::to_value(outcome).unwrap() {
        Verdict::Bounded(how)
    } else {
        Verdict::Open(answer.to_string())
    }
}

/// `refused: after N …`, where N is near the limit. Without a user namespace other tasks of the same
/// user move the bound.
fn few_tasks(answer: &Value) -> Verdict {
    let output = answer["stdout"].as_str().unwrap_or_default();
    let n_tasks = output
        .strip_prefix("refused: after ")
        .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    let counted_alone = answer["layers"]["user_namespace"] == true;
    let most = if counted_alone { 32 } else { 400 };
    match n_tasks {
        Some(n_tasks) if (10..=most).contains(&n_tasks) => Verdict::Bounded("task limit"),
        _ => Verdict::Open(answer.to_string()),
    }
}
