//! Tests of the logic, natively.

use super::*;

/// An evaluation as an honest program gets it.
fn honest() -> Account {
    let metric = |(name, value): (&str, f64)| (name.to_owned(), value);
    let metrics = [
        ("loss", 1.62),
        ("seconds", 21.0),
        ("seconds_to_target", 21.0),
        ("tokens", 1_228_800.0),
        ("steps", 2400.0),
        ("parameters", 121_000.0),
        ("flops", 9e11),
    ];
    let ledger = [
        ("tokens", 1_228_800),
        ("batches", 2400),
        ("scored_tokens", 65_536),
        ("windows", 1024),
        ("reported_gradients", 2400),
    ];
    let probe = |name: &str| Probe { name: name.into(), trials: 12, failures: 0 };
    let series = [
        (TOKENS_PER_STEP, vec![(1200, 512.0), (2400, 512.0)]),
        (DEV_LOSS, vec![(0, 5.6), (32, 4.0), (64, 3.3), (1024, 1.9), (2048, 1.7), (2400, 1.63)]),
    ];
    Account {
        track: "cpu".into(),
        metrics: metrics.map(metric).into(),
        ledger: ledger.map(|(name, count)| (name.to_owned(), count)).into(),
        series: series.map(|(name, points)| (name.to_owned(), points)).into(),
        probes: vec![probe("causality"), probe(AUDIT)],
    }
}

fn set(account: &mut Account, metric: &str, value: f64) {
    account.metrics.insert(metric.into(), value);
}

fn forget(account: &mut Account, metric: &str) {
    account.metrics.remove(metric);
}

fn count(account: &mut Account, entry: &str, count: u64) {
    account.ledger.insert(entry.into(), count);
}

fn draw(account: &mut Account, series: &str, points: Vec<(u64, f64)>) {
    account.series.insert(series.into(), points);
}

/// The rules that a changed honest account breaks; those that only warn with a `?`.
#[track_caller]
fn check(change: impl FnOnce(&mut Account), expected: &[&str]) {
    let mut account = honest();
    change(&mut account);
    let found: Vec<String> = judge(&account)
        .into_iter()
        .map(|o| format!("{}{}", o.rule, if o.rejects { "" } else { "?" }))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_honest_account_passes() {
    check(|_| (), &[]);
    // What an environment does not count cannot contradict anything.
    check(|a| a.ledger.clear(), &[]);
    check(|a| a.series.clear(), &[]);
    check(|a| forget(a, "seconds_to_target"), &[]);
}

#[test]
fn loss_and_seconds_must_be_positive_numbers() {
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        check(|a| set(a, "loss", bad), &["no-measurement"]);
    }
    check(|a| forget(a, "seconds"), &["no-measurement"]);
    let both = ["no-measurement", "seconds-disagree"];
    check(|a| set(a, "seconds", 0.0), &both);
    check(|a| set(a, "seconds_to_target", 20.0), &both[1..]);
}

#[test]
fn accounts_of_tokens_must_agree() {
    check(|a| set(a, "tokens", 1_228_799.0), &["ledger-disagrees"]);
    check(|a| set(a, "steps", 2401.0), &["ledger-disagrees"]);
    // One token more than the phases have: the metric and the phases both disagree.
    check(|a| count(a, "tokens", 1_228_801), &["ledger-disagrees"; 2]);
    check(|a| draw(a, TOKENS_PER_STEP, vec![(2400, 511.0)]), &["ledger-disagrees"]);
    check(
        |a| {
            a.series.clear();
            set(a, "tokens", 5.0);
            count(a, "tokens", 5);
        },
        &["ledger-disagrees"],
    );
    check(|a| count(a, "scored_tokens", 0), &["nothing-scored"]);
    for wrong in [0, 1023, u64::MAX] {
        check(|a| count(a, "windows", wrong), &["ledger-disagrees"]);
    }
    check(|a| count(a, "parameters", 120_999), &["ledger-disagrees"]);
    check(|a| count(a, "parameters", 121_000), &[]);
}

#[test]
fn uneven_phases_still_add_up() {
    // 801 steps of 500 tokens, then 1599 of as many as are left.
    let rest = (1_228_800.0 - 801.0 * 500.0) / 1599.0;
    check(|a| draw(a, TOKENS_PER_STEP, vec![(801, 500.0), (2400, rest)]), &[]);
}

#[test]
fn probes_must_be_made_and_passed() {
    check(|a| a.probes[0].failures = 1, &["probe-failed"]);
    check(|a| a.probes.iter_mut().for_each(|probe| probe.failures = 12), &["probe-failed"]);
    check(|a| a.probes[1].trials = 0, &["no-audit"]);
    check(|a| a.probes.clear(), &["no-audit"]);
}

#[test]
fn the_unusual_only_warns() {
    check(|a| count(a, "reported_gradients", 0), &["no-gradients?"]);
    let late = vec![(0, 5.6), (32, 5.5), (64, 5.4), (1024, 5.0), (2048, 4.5), (2400, 1.6)];
    check(|a| draw(a, DEV_LOSS, late.clone()), &["late-fall?"]);
    check(|a| draw(a, DEV_LOSS, late[1..].to_vec()), &[]);
    check(|a| draw(a, DEV_LOSS, vec![(0, 5.6); 6]), &[]);
    check(|a| set(a, "flops", 1e15), &["implausible-rate?"]);
    check(
        |a| {
            set(a, "flops", 1e15);
            a.track = "gpu".into();
        },
        &[],
    );
}

#[test]
fn messages_fit_into_a_report() {
    let account =
        Account { probes: vec![Probe { name: "x".into(), trials: 1, failures: 1 }], ..honest() };
    for objection in judge(&account).into_iter().chain(judge(&Account::default())) {
        assert!(
            objection.message.len() < 300 && !objection.message.contains('\n'),
            "{objection:?}"
        );
    }
}
