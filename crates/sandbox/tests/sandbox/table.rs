//! The table of docs/sandbox.md: what programs try, in each situation a machine can offer, and what
//! comes of it. One test runs all of it and prints it; `cargo xtask sandbox-table` shows it alone.

mod rows;
mod runs;

use std::{fmt::Write as _, fs};

use crate::hosted::{Host, Setting, am_root};
use forerunner_sandbox::{Layers, Profile};
use rows::Row;
use runs::{Count, Verdict};

/// Who starts the sandbox, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Situation {
    Root,
    User,
    UserWithoutNamespaces,
}

impl Situation {
    const ALL: [Self; 3] = [Self::Root, Self::User, Self::UserWithoutNamespaces];

    fn title(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "ordinary user",
            Self::UserWithoutNamespaces => "ordinary user, namespaces denied",
        }
    }

    /// `None` if it cannot be had here, which is said in the table's head.
    fn setting(self) -> Option<Setting> {
        match self {
            Self::Root => am_root().then_some(Setting::Full),
            Self::User if am_root() => Some(Setting::User),
            Self::User => Some(Setting::Full),
            Self::UserWithoutNamespaces => Some(Setting::UserDenied),
        }
    }

    /// What confines programs here, after making sure that it is the situation it is meant to be.
    fn layers(self, setting: Setting) -> Layers {
        let host = Host::new(setting, Profile::Program).unwrap();
        let layers: Layers = serde_json::from_value(host.ask("layers", &[])).unwrap();
        assert!(layers.floor_holds(), "{self:?}: {layers}");
        assert_eq!(layers.dropped_root, self == Self::Root, "{self:?}: {layers}");
        if self == Self::UserWithoutNamespaces {
            assert!(!layers.user_namespace && !layers.pid_namespace, "{layers}");
        }
        layers
    }
}

#[test]
fn everything_is_blocked_or_bounded_in_every_situation() {
    let mut text = String::new();
    let mut had = Vec::new();
    for situation in Situation::ALL {
        match situation.setting() {
            Some(setting) => {
                let layers = situation.layers(setting);
                writeln!(text, "- {}: {layers}", situation.title()).unwrap();
                had.push((situation, setting));
            }
            None => {
                eprintln!("skipped: {} (the tests are not run by root)", situation.title());
                writeln!(text, "- {}: skipped, not run by root", situation.title()).unwrap();
            }
        }
    }
    text.push_str("\n| what is tried |");
    had.iter().for_each(|(situation, _)| write!(text, " {} |", situation.title()).unwrap());
    text.push_str(" without the sandbox |\n| --- |");
    text.push_str(&" --- |".repeat(had.len() + 1));
    text.push('\n');
    let rows = rows::all();
    let columns = judge_all(&rows, &had);
    let (mut n_runs, mut open, mut survivors) = (0, Vec::new(), 0);
    for (index, row) in rows.iter().enumerate() {
        write!(text, "| {} |", row.what).unwrap();
        for (&(situation, _), column) in had.iter().zip(&columns) {
            let (verdict, count) = &column[index];
            if let Verdict::Open(why) = verdict {
                open.push(format!("{}, {}: {why}", row.what, situation.title()));
            }
            n_runs += count.runs;
            survivors += count.survivors;
            write!(text, " {verdict} |").unwrap();
        }
        let control = runs::control(row);
        if let Verdict::Open(why) = &control {
            open.push(format!("{}, without the sandbox: {why}", row.what));
        }
        writeln!(text, " {control} |").unwrap();
    }
    writeln!(text, "\n{n_runs} runs in the sandbox, {survivors} survivors.").unwrap();
    eprintln!("{text}");
    if let Some(path) = std::env::var_os("FORERUNNER_SANDBOX_TABLE") {
        fs::write(path, &text).unwrap();
    }
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(survivors, 0);
}

/// Every row in every situation; the situations side by side, since much of it is waiting.
fn judge_all(rows: &[Row], had: &[(Situation, Setting)]) -> Vec<Vec<(Verdict, Count)>> {
    let judge_in = |setting| rows.iter().map(|row| runs::judge(row, setting)).collect();
    std::thread::scope(|scope| {
        let columns: Vec<_> =
            had.iter().map(|&(_, setting)| scope.spawn(move || judge_in(setting))).collect();
        columns.into_iter().map(|column| column.join().unwrap()).collect()
    })
}
