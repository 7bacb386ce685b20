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
    let ledger = [("tokens", 1_228_800), ("batches", 2400), ("scored_tokens", 65_536)];
    let probe = |name: &str| Probe { name: name.into(), trials: 12, failures: 0 };
    let series = [
        (TOKENS_PER_STEP, vec![(1200, 512.0), (2400, 512.0)]),
        (DEV_LOSS, vec![(0, 5.6), (800, 2.1), (1600, 1.8), (2400, 1.63)]),
        (TRAIN_LOSS, vec![(0, 5.6), (2000, 1.7), (2200, 1.6), (2300, 1.5), (2400, 1.6)]),
    ];
    Account {
        track: "cpu".into(),
        metrics: metrics.map(metric).into(),
        ledger: ledger.map(|(name, count)| (name.to_owned(), count)).into(),
        series: series.map(|(name, points)| (name.to_owned(), points)).into(),
        probes: vec![probe("causality"), probe(AUDIT)],
    }
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
    check(|a| drop(a.metrics.remove("seconds_to_target")), &[]);
}

#[test]
fn loss_and_seconds_must_be_positive_numbers() {
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        check(|a| drop(a.metrics.insert("loss".into(), bad)), &["no-measurement"]);
    }
    check(
        |a| {
            a.metrics.remove("seconds");
        },
        &["no-measurement"],
    );
    let both = ["no-measurement", "seconds-disagree"];
    check(|a| drop(a.metrics.insert("seconds".into(), 0.0)), &[&both[..], &["implausible-rate?"]].concat());
    check(|a| drop(a.metrics.insert("seconds_to_target".into(), 20.0)), &both[1..]);
}

#[test]
fn accounts_of_tokens_must_agree() {
    check(|a| drop(a.metrics.insert("tokens".into(), 1_228_799.0)), &["ledger-disagrees"]);
    check(|a| drop(a.metrics.insert("steps".into(), 2401.0)), &["ledger-disagrees"]);
    // One token more than the phases have: the metric and the phases both disagree.
    check(|a| drop(a.ledger.insert("tokens".into(), 1_228_801)), &["ledger-disagrees"; 2]);
    check(
        |a| drop(a.series.insert(TOKENS_PER_STEP.into(), vec![(2400, 511.0)])),
        &["ledger-disagrees"],
    );
    check(
        |a| {
            a.series.clear();
            a.metrics.insert("tokens".into(), 5.0);
            a.ledger.insert("tokens".into(), 5);
        },
        &["ledger-disagrees"],
    );
    check(|a| drop(a.ledger.insert("scored_tokens".into(), 0)), &["nothing-scored"]);
    let windows = |a: &mut Account, n: u64| {
        a.ledger.insert("windows".into(), n);
        a.ledger.insert("context".into(), 64);
    };
    check(|a| windows(a, 1024), &[]);
    check(|a| windows(a, 1023), &["ledger-disagrees"]);
    check(|a| windows(a, u64::MAX), &["ledger-disagrees"]);
}

#[test]
fn uneven_phases_still_add_up() {
    check(
        |a| {
            let thirds = vec![(800, 1_228_800.0 / 2400.0), (1601, 512.0), (2400, 512.0)];
            a.series.insert(TOKENS_PER_STEP.into(), thirds);
        },
        &[],
    );
}

#[test]
fn probes_must_be_made_and_passed() {
    check(|a| a.probes[0].failures = 1, &["probe-failed"]);
    check(|a| a.probes[1].failures = 12, &["probe-failed"]);
    check(|a| a.probes[1].trials = 0, &["no-audit"]);
    check(|a| a.probes.clear(), &["no-audit"]);
}

#[test]
fn the_unusual_only_warns() {
    let train = |value: f64| vec![(0, 5.6), (1, value), (2, value), (3, value), (4, value)];
    let replace = |a: &mut Account, name: &str, points| drop(a.series.insert(name.into(), points));
    check(|a| replace(a, TRAIN_LOSS, train(2.7)), &["training-loss-gap?"]);
    check(|a| replace(a, TRAIN_LOSS, train(0.1)), &["training-loss-gap?"]);
    check(|a| replace(a, TRAIN_LOSS, train(2.5)), &[]);
    check(|a| replace(a, TRAIN_LOSS, vec![(0, 99.0)]), &[]);
    let late = vec![(0, 5.6), (800, 5.0), (1600, 4.5), (2400, 1.6)];
    check(|a| replace(a, DEV_LOSS, late.clone()), &["late-fall?"]);
    check(|a| replace(a, DEV_LOSS, late[1..].to_vec()), &[]);
    check(|a| replace(a, DEV_LOSS, vec![(0, 5.6); 4]), &[]);
    check(|a| drop(a.metrics.insert("flops".into(), 1e15)), &["implausible-rate?"]);
    check(
        |a| {
            a.metrics.insert("flops".into(), 1e15);
            a.track = "gpu".into();
        },
        &[],
    );
}

#[test]
fn messages_fit_into_a_report() {
    let account = Account { probes: vec![Probe { name: "x".into(), trials: 1, failures: 1 }], ..honest() };
    for objection in judge(&account).into_iter().chain(judge(&Account::default())) {
        assert!(objection.message.len() < 300 && !objection.message.contains('\n'), "{objection:?}");
    }
}
