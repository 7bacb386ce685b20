//! Whole searches of a synthetic speedrun.

use crate::toy::*;
use forerunner_recipes::Recipes;
use forerunner_sdk::{
    Evaluation, Member, Mutator, NoHost, Outcome, Program, ProposalRequest, Result, Seed,
};
use std::{fs, path::Path, sync::Mutex};
use tempfile::{TempDir, tempdir};

/// Log-gain in steps, and in seconds per step.
type Gains = (f64, f64);

/// Name, what the author expects, and what is true; a recipe without gains does not compile.
const RECIPES: [(&str, (f64, f64), Option<Gains>); 14] = [
    ("amber", (0.15, 0.45), Some((0.35, -0.02))),
    ("birch", (0.1, 0.4), Some((-0.15, -0.05))),
    ("cedar", (0.05, 0.3), Some((0.2, 0.05))),
    ("dogwood", (0.0, 0.2), Some((-0.1, 0.0))),
    ("elm", (0.0, 0.2), Some((0.15, -0.05))),
    ("fir", (0.1, 0.3), None),
    ("ginkgo", (-0.05, 0.15), Some((0.3, -0.1))),
    ("hazel", (-0.05, 0.15), Some((-0.3, 0.1))),
    ("ivy", (0.0, 0.1), Some((0.0, 0.12))),
    ("juniper", (-0.1, 0.1), Some((-0.05, -0.05))),
    ("kapok", (0.0, 0.15), Some((0.02, 0.0))),
    ("larch", (0.05, 0.2), None),
    ("maple", (0.0, 0.2), Some((0.12, 0.0))),
    ("nutmeg", (-0.1, 0.3), Some((-0.5, 0.0))),
];

const TARGET: f64 = 1.5;

fn folder() -> TempDir {
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("library.toml"), BUDGET).expect("written");
    RECIPES.iter().for_each(|(name, gain, _)| write_recipe(folder.path(), name, *gain, ""));
    folder
}

fn reference() -> Program {
    program(&RECIPES.map(|(name, _, _)| name), &[], 2800)
}

/// Log-gains in steps and per step; `None` when it does not compile.
fn truth(program: &Program) -> Option<(f64, f64)> {
    let text = &program.files["main.rs"];
    let on = RECIPES.iter().filter(|(name, _, _)| text.contains(&format!("{name}: on")));
    on.map(|(_, _, gains)| *gains)
        .try_fold((0.0, 0.0), |sum, gains| gains.map(|(a, b)| (sum.0 + a, sum.1 + b)))
}

/// Seconds and loss, with noise: 2 % and 0.4 % of the loss.
fn measure(program: &Program, seed: Seed) -> Evaluation {
    let Some((fewer, faster)) = truth(program) else { return failed() };
    let normal = |name: &str| (0..12).map(|n| seed.derive(name, n).unit()).sum::<f64>() - 6.0;
    let text = program.files["main.rs"].split_once(" = ").expect("a value").1;
    let steps: f64 = text.split_once(';').expect("an end").0.parse().expect("a number");
    let seconds = 20.0 * steps / 2800.0 * (-faster + 0.02 * normal("clock")).exp();
    let loss = 1.49 - 0.25 * ((steps / 2800.0).ln() + fewer) + 0.004 * normal("loss");
    evaluated(metrics(seconds, loss, TARGET))
}

/// Searches as the host does, two proposals at a time, mostly from the best.
fn search(mutator: &dyn Mutator, seed: u64, n_evaluations: u64) -> Vec<Member> {
    let seed = Seed(seed);
    let task = task(Some(TARGET));
    let measured = |program: Program, n| {
        let evaluation = measure(&program, seed.derive("measure", n));
        member(program, evaluation)
    };
    let mut members = vec![measured(reference(), 0)];
    while members.len() as u64 <= n_evaluations {
        let mut ranked: Vec<&Member> =
            members.iter().filter(|member| member.evaluation.is_accepted()).collect();
        ranked
            .sort_by(|a, b| task.objectives.compare(&a.evaluation.metrics, &b.evaluation.metrics));
        let first = members.len() as u64;
        let mut waiting = Vec::new();
        for iteration in first..first + 2 {
            let draw = seed.derive("select", iteration).unit().powi(6);
            let parent = ranked[(draw * ranked.len() as f64) as usize];
            let others = ranked.iter().filter(|other| other.id != parent.id).take(2);
            let request = ProposalRequest {
                iteration,
                seed: seed.derive("propose", iteration).0,
                task: task.clone(),
                parent: parent.clone(),
                inspirations: others.map(|other| (*other).clone()).collect(),
                failures: vec![],
                island: 0,
                stagnant: 0,
            };
            let proposal = mutator.propose(&request, &NoHost).expect("a proposal");
            waiting.push((request, proposal));
        }
        for (request, proposal) in waiting {
            let child = apply(&request.parent.program, &proposal);
            let child = measured(child, request.iteration);
            let outcome = outcome(&request, proposal.idea, child.evaluation.clone());
            mutator.observe(&outcome).expect("taken in");
            members.push(child);
        }
    }
    members
}

/// True seconds at the target of what a search would submit, as a gain over the reference.
fn submitted(members: &[Member]) -> f64 {
    let task = task(Some(TARGET));
    let accepted = members.iter().filter(|member| member.evaluation.is_accepted());
    let best = accepted
        .min_by(|a, b| task.objectives.compare(&a.evaluation.metrics, &b.evaluation.metrics))
        .expect("the reference");
    20.0 / best.evaluation.metrics["seconds"]
}

/// The best that there is.
fn possible() -> f64 {
    let gains = RECIPES.iter().filter_map(|(_, _, gains)| *gains).map(|(a, b)| a + b);
    (gains.filter(|gain| *gain > 0.0).sum::<f64>() + 0.04).exp()
}

#[test]
fn thirty_evaluations_find_most_of_what_there_is() {
    let folder = folder();
    let mut gains: Vec<f64> =
        (0..20).map(|seed| submitted(&search(&mutator(folder.path()), seed, 30))).collect();
    gains.sort_by(f64::total_cmp);
    let (low, median) = (gains[3], gains[10]);
    // In logarithms; 1.00 is everything.
    let share = |gain: f64| gain.ln() / possible().ln();
    assert!(share(median) > 0.85 && share(low) > 0.75, "of {:.2}: {gains:.2?}", possible());
    let early: Vec<f64> =
        (0..20).map(|seed| submitted(&search(&mutator(folder.path()), seed, 10))).collect();
    let good = early.iter().filter(|gain| share(**gain) > 0.3).count();
    assert!(good >= 16, "after ten: {early:.2?}");
}

#[test]
fn searches_replay_and_resume_identically() {
    struct Recorder(Recipes, Mutex<Vec<Outcome>>);
    impl Mutator for Recorder {
        fn propose(
            &self,
            request: &ProposalRequest,
            host: &dyn forerunner_sdk::Host,
        ) -> Result<forerunner_sdk::Proposal> {
            self.0.propose(request, host)
        }
        fn observe(&self, outcome: &Outcome) -> Result<()> {
            self.1.lock().expect("one thread").push(outcome.clone());
            self.0.observe(outcome)
        }
    }
    let folder = folder();
    let make = |path: &Path| Recorder(mutator(path), Mutex::default());
    let recorder = make(folder.path());
    let members = search(&recorder, 4, 20);
    let again = search(&make(folder.path()), 4, 20);
    let ids = |members: &[Member]| members.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&members), ids(&again));

    // A mutator that only observed what another one did goes on as that one would have.
    let resumed = mutator(folder.path());
    for outcome in recorder.1.lock().expect("one thread").iter() {
        // As from a store: through text.
        let text = serde_json::to_string(outcome).expect("plain data");
        resumed.observe(&serde_json::from_str(&text).expect("own text")).expect("taken in");
    }
    for iteration in 21..30 {
        let request = ProposalRequest {
            parent: members[(iteration % 5) as usize * 4].clone(),
            ..request(reference(), iteration)
        };
        if request.parent.evaluation.is_accepted() {
            assert_eq!(propose(&recorder.0, &request), propose(&resumed, &request));
        }
    }
}
