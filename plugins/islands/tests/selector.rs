//! The selector from outside: what it keeps, whom it chooses, and that it forgets nothing it owes.

use forerunner_islands::{Config, Islands};
use forerunner_sdk::{
    Cause, Cost, EnvironmentSpec, Feature, Metrics, Objective, Program, ProgramId, Select,
    Selection, Selector, Standing, Verdict,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn task() -> EnvironmentSpec {
    let mut task = EnvironmentSpec::new("toy")
        .objective(Objective::minimize("seconds", "s"))
        .objective(Objective::minimize("loss", ""))
        .reference(Program::single("main.rs", "x".repeat(1000)));
    task.features =
        vec![Feature { metric: "width".into(), low: 1.0, high: 1000.0, bins: 10, log: true }];
    task
}

fn started(config: Config) -> Islands {
    let islands = Islands::new(config).expect("a sound configuration");
    islands.start(&task()).expect("a sound task");
    islands
}

fn id(name: impl std::fmt::Display) -> ProgramId {
    ProgramId(format!("{name}"))
}

/// An accepted program of 1,000 bytes.
fn standing(iteration: u64, island: u32, seconds: f64, width: f64) -> Standing {
    Standing {
        id: id(iteration),
        parent: (iteration > 0).then(|| id(0)),
        iteration,
        island,
        verdict: Verdict::Accepted,
        metrics: Metrics::from([("seconds".to_owned(), seconds), ("width".to_owned(), width)]),
        bytes: 1000,
        cost: Cost::default(),
    }
}

fn insert(islands: &Islands, standing: &Standing) {
    islands.insert(standing).expect("started");
}

fn select(islands: &Islands, iteration: u64, count: usize, seed: u64) -> Vec<Selection> {
    islands.select(&Select { iteration, generation: 1, count, seed }).expect("a population")
}

/// A hash that spreads `n` over all 64 bits, for populations without any order to them.
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (x >> 32)
}

fn anything(iteration: u64) -> Standing {
    let bits = mix(iteration);
    let seconds = (bits % 10_007) as f64;
    let mut any =
        standing(iteration, (bits >> 20) as u32 % 7, seconds, (bits >> 30) as f64 % 999.0);
    any.bytes = 300 + (bits >> 40) % 3000;
    match (bits >> 50) % 10 {
        0 if iteration > 0 => any.verdict = Verdict::Failed(Cause::Crash),
        1 if iteration > 0 => any.verdict = Verdict::Rejected,
        2 => drop(any.metrics.remove("seconds")),
        _ => {}
    }
    any
}

#[test]
fn the_reference_stands_on_every_island() {
    let islands = started(Config::default());
    insert(&islands, &standing(0, 0, 9.0, 5.0));
    assert_eq!(islands.view().expect("started").islands, [1, 1, 1, 1]);
    for (idx, selection) in select(&islands, 1, 8, 3).iter().enumerate() {
        assert_eq!(selection.parent, id(0));
        assert!(selection.inspirations.is_empty(), "there is nothing else yet");
        assert_eq!(selection.island as usize, idx % 4);
    }
}

#[test]
fn a_population_without_members_says_what_to_do() {
    let islands = started(Config::default());
    let mut failed = standing(0, 0, 9.0, 5.0);
    failed.verdict = Verdict::Failed(Cause::Compile);
    insert(&islands, &failed);
    let request = Select { iteration: 1, generation: 1, count: 1, seed: 1 };
    let error = islands.select(&request).expect_err("no parent").to_string();
    assert!(error.starts_with("no accepted program"), "{error}");
    assert!(error.contains("1 failed, 0 rejected"), "{error}");
    assert!(error.contains("\nhint: "), "{error}");
}

#[test]
fn failed_and_rejected_programs_are_counted_but_never_chosen() {
    let islands = started(Config::default());
    insert(&islands, &standing(0, 0, 9.0, 5.0));
    for (iteration, verdict) in [(1, Verdict::Rejected), (2, Verdict::Failed(Cause::Timeout))] {
        let mut bad = standing(iteration, 1, 0.1, 50.0);
        bad.verdict = verdict;
        insert(&islands, &bad);
    }
    let counts = islands.counts();
    assert_eq!((counts.accepted, counts.rejected, counts.failed), (1, 1, 1));
    for selection in select(&islands, 3, 100, 5) {
        assert_eq!(selection.parent, id(0));
        assert!(selection.inspirations.is_empty());
    }
}

#[test]
fn a_cell_keeps_its_better_program_and_ties_keep_the_older() {
    let islands = started(Config { islands: 1, ..Config::default() });
    for (iteration, seconds) in [(0, 9.0), (1, 8.0), (2, 8.5), (3, 8.0)] {
        insert(&islands, &standing(iteration, 0, seconds, 5.0));
    }
    let view = islands.view().expect("started");
    assert_eq!(view.islands, [1]);
    assert_eq!(view.elites, [id(1), id(3), id(2), id(0)]);
    assert!((view.coverage - 1.0 / 160.0).abs() < 1e-12);
}

#[test]
fn a_program_measured_again_keeps_its_better_result() {
    let islands = started(Config { islands: 1, ..Config::default() });
    insert(&islands, &standing(0, 0, 9.0, 5.0));
    insert(&islands, &standing(1, 0, 8.0, 500.0));
    // Worse, and in another cell: ignored. Better, and in another cell: moves there.
    for (seconds, width) in [(8.5, 50.0), (7.0, 50.0)] {
        insert(&islands, &Standing { id: id(1), ..standing(2, 0, seconds, width) });
        let view = islands.view().expect("started");
        assert_eq!((view.islands, view.elites), (vec![2], vec![id(1), id(0)]));
    }
}

#[test]
fn reaching_the_target_beats_not_reaching_it() {
    let islands = started(Config { islands: 1, ..Config::default() });
    let mut missed = standing(0, 0, 0.0, 5.0);
    missed.metrics = Metrics::from([("loss".to_owned(), 0.1)]);
    insert(&islands, &missed);
    insert(&islands, &standing(1, 0, 99.0, 5.0));
    assert_eq!(islands.view().expect("started").elites, [id(1), id(0)]);
}

#[test]
fn the_best_of_an_island_travel_around_the_ring() {
    let config = Config { islands: 3, migration_every: 4, elites: 1, ..Config::default() };
    let islands = started(config);
    insert(&islands, &standing(0, 0, 9.0, 5.0));
    insert(&islands, &standing(1, 1, 1.0, 5.0));
    insert(&islands, &standing(2, 1, 8.0, 50.0));
    assert_eq!(islands.view().expect("started").islands, [1, 2, 1]);
    insert(&islands, &standing(3, 1, 8.0, 500.0));
    // Program 1 took the reference's cell on island 2; 0 travelled in circles and lost.
    assert_eq!(islands.view().expect("started").islands, [1, 3, 1]);
    let greedy = Config { exploration: 0.0, exploitation: 0.0, ..Config::default() };
    let islands_of_1: BTreeSet<u32> = {
        let islands = started(Config { islands: 3, migration_every: 4, ..greedy });
        for (iteration, seconds, width) in
            [(0, 9.0, 5.0), (1, 1.0, 5.0), (2, 8.0, 50.0), (3, 8.0, 500.0)]
        {
            insert(&islands, &standing(iteration, u32::from(iteration > 0), seconds, width));
        }
        let chosen = select(&islands, 1, 300, 11);
        chosen.iter().filter(|s| s.parent == id(1)).map(|s| s.island).collect()
    };
    assert_eq!(islands_of_1, BTreeSet::from([1, 2]));
}

#[test]
fn shares_of_parents_are_as_configured() {
    // One island with 40 members; the elite archive holds the best alone.
    let share_of_best = |exploration: f64, exploitation: f64| {
        let config = Config {
            islands: 1,
            elites: 1,
            exploration,
            exploitation,
            migration_every: 0,
            ..Config::default()
        };
        let islands = started(config);
        for iteration in 0..10 {
            let width = 10_f64.powf(0.3 * iteration as f64 + 0.1);
            insert(&islands, &standing(iteration, 0, 100.0 - iteration as f64, width));
        }
        assert_eq!(islands.view().expect("started").islands, [10]);
        let chosen = select(&islands, 1, 4000, 17);
        chosen.iter().filter(|s| s.parent == id(9)).count() as f64 / 4000.0
    };
    let close = |measured: f64, expected: f64| {
        assert!((measured - expected).abs() < 0.03, "{measured} instead of {expected}");
    };
    close(share_of_best(1.0, 0.0), 0.1);
    close(share_of_best(0.0, 1.0), 1.0);
    // By rank with pressure 3, the best of ten: 10^(-1/3).
    close(share_of_best(0.0, 0.0), 0.464);
    close(share_of_best(0.5, 0.5), 0.55);
}

#[test]
fn inspirations_are_distinct_best_first_and_not_the_parent() {
    let islands = started(Config::default());
    for iteration in 0..200 {
        insert(&islands, &anything(iteration));
    }
    let elites = islands.view().expect("started").elites;
    let rank = |id: &ProgramId| elites.iter().position(|elite| elite == id).unwrap_or(usize::MAX);
    for selection in select(&islands, 201, 100, 23) {
        let distinct: BTreeSet<_> = selection.inspirations.iter().collect();
        assert_eq!(distinct.len(), selection.inspirations.len());
        assert!(!selection.inspirations.is_empty() && selection.inspirations.len() <= 4);
        assert!(!distinct.contains(&selection.parent));
        let ranks: Vec<_> = selection.inspirations.iter().map(rank).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert!(ranks[0] < 2, "the best elite that is not the parent comes first");
    }
}

#[test]
fn a_hundred_thousand_programs_leave_no_more_than_the_bound() {
    let config = Config { capacity: 100, ..Config::default() };
    let islands = started(config.clone());
    for iteration in 0..100_000 {
        insert(&islands, &anything(iteration));
    }
    let view = islands.view().expect("started");
    assert!(view.islands.iter().all(|members| (90..=100).contains(members)), "{view:?}");
    assert_eq!(view.elites.len(), config.elites);
    assert_eq!(islands.counts().inserted(), 100_000);
}

#[test]
fn a_resumed_run_selects_as_the_first_one_would_have() {
    let (first, resumed) = (started(Config::default()), started(Config::default()));
    for iteration in 0..300 {
        insert(&first, &anything(iteration));
        // The first run selects between insertions, the resumed one only inserts.
        select(&first, iteration + 1, 3, iteration);
    }
    for iteration in 0..300 {
        insert(&resumed, &anything(iteration));
    }
    assert_eq!(select(&first, 301, 20, 99), select(&resumed, 301, 20, 99));
    assert_eq!(first.view().expect("started"), resumed.view().expect("started"));
    assert_ne!(select(&first, 301, 20, 99), select(&first, 301, 20, 100));
}

proptest! {
    #[test]
    fn any_sequence_keeps_the_population_sound(
        programs in proptest::collection::vec((0_u64..40, 0_u32..9, 0_u32..20, 0_u64..5000), 1..120),
        seed: u64,
        capacity in 1_usize..20,
    ) {
        let config = Config { capacity, elites: 5, migration_every: 7, ..Config::default() };
        let islands = started(config);
        insert(&islands, &standing(0, 0, 9.5, 5.0));
        let mut known = BTreeSet::from([id(0)]);
        for (name, island, seconds, bytes) in programs {
            let mut program = standing(name, island, f64::from(seconds), bytes as f64);
            program.bytes = bytes;
            known.insert(program.id.clone());
            insert(&islands, &program);
        }
        let view = islands.view().expect("started");
        prop_assert!(view.islands.iter().all(|n| (1..=capacity as u64).contains(n)));
        prop_assert!((0.0..=1.0).contains(&view.coverage));
        let distinct: BTreeSet<_> = view.elites.iter().collect();
        prop_assert_eq!(distinct.len(), view.elites.len());
        for selection in select(&islands, 1, 10, seed) {
            prop_assert!(known.contains(&selection.parent));
        }
    }
}

#[test]
fn some_inspirations_come_from_another_island() {
    let config = Config { islands: 2, elites: 2, ..Config::default() };
    let islands = started(config);
    insert(&islands, &standing(0, 0, 9.0, 5.0));
    for (iteration, island, seconds) in [(1, 0, 5.0), (2, 0, 6.0), (3, 1, 8.0), (4, 1, 8.5)] {
        let width = 5.0 * 10_f64.powi(iteration as i32 % 3);
        insert(&islands, &standing(iteration, island, seconds, width));
    }
    let selections = select(&islands, 5, 40, 3);
    let of_first = selections.iter().filter(|selection| selection.island == 0);
    let seen: BTreeSet<_> = of_first.flat_map(|selection| selection.inspirations.clone()).collect();
    assert!(seen.contains(&id(3)) && seen.contains(&id(4)), "no elites, and elsewhere: {seen:?}");
}
