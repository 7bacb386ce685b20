//! A toy environment: each recipe turns a line of the program on, and formulas say what that does.

use forerunner_recipes::{Config, Recipes};
use forerunner_sdk::{
    Cause, Change, EnvironmentSpec, Evaluation, Finding, Idea, Member, Metrics, Mutator, NoHost,
    Objective, Objectives, Outcome, Program, ProgramId, Proposal, ProposalRequest, Seed,
};
use std::{fs, path::Path};

/// Writes a recipe that turns `name` on, with more lines for its head.
pub(crate) fn write_recipe(folder: &Path, name: &str, gain: (f64, f64), more: &str) {
    let text = format!(
        "title = '{name}'\nsource = 'nobody'\nwhy = 'it is a toy'\ngain = [{}, {}]\n{more}\n\
         [[edit]]\nfind = '{name}: off'\nreplace = '{name}: on'\n",
        gain.0, gain.1
    );
    fs::write(folder.join(format!("{name}.toml")), text).expect("written");
}

pub(crate) const BUDGET: &str = "environment = 'toy'\n[budget]\nconstant = 'STEPS'\n\
                                 metric = 'loss'\ncost = 'seconds'\nexchange = 0.25\n";

/// A program in which these names can be turned on, and those are.
pub(crate) fn program(off: &[&str], on: &[&str], steps: u64) -> Program {
    let switch = |name: &&str, state: &str| format!("// {name}: {state}\n");
    let lines: String = off
        .iter()
        .map(|name| switch(name, "off"))
        .chain(on.iter().map(|name| switch(name, "on")))
        .collect();
    Program::single(
        "main.rs",
        format!("/// tune: int 100 9000\nconst STEPS: usize = {steps};\n{lines}"),
    )
}

pub(crate) fn task(target: Option<f64>) -> EnvironmentSpec {
    let loss = Objective::minimize("loss", "");
    let mut task = EnvironmentSpec::new("toy");
    task.objectives = Objectives(vec![
        Objective::minimize("seconds_to_target", "s"),
        target.map_or(loss.clone(), |target| loss.with_target(target)),
    ]);
    task
}

pub(crate) fn metrics(seconds: f64, loss: f64, target: f64) -> Metrics {
    let mut metrics: Metrics =
        [("seconds", seconds), ("loss", loss)].map(|(k, v)| (k.to_owned(), v)).into();
    if loss <= target {
        metrics.insert("seconds_to_target".into(), seconds);
    }
    metrics
}

pub(crate) fn evaluated(metrics: Metrics) -> Evaluation {
    Evaluation { metrics, ..Evaluation::accepted("", 0.0) }
}

pub(crate) fn failed() -> Evaluation {
    Evaluation::failed(Cause::Compile, Finding::error("compile/error", "no"))
}

pub(crate) fn request(parent: Program, iteration: u64) -> ProposalRequest {
    ProposalRequest {
        iteration,
        seed: Seed(9).derive("propose", iteration).0,
        task: task(Some(1.5)),
        parent: member(parent, evaluated(metrics(20.0, 1.5, 1.5))),
        inspirations: vec![],
        failures: vec![],
        island: 0,
        stagnant: 0,
    }
}

pub(crate) fn member(program: Program, evaluation: Evaluation) -> Member {
    Member { id: program.id(), program, evaluation, idea: None }
}

pub(crate) fn mutator(folder: &Path) -> Recipes {
    Recipes::new(config(folder)).expect("sound")
}

pub(crate) fn config(folder: &Path) -> Config {
    Config { path: Some(folder.to_owned()), ..Config::default() }
}

pub(crate) fn propose(mutator: &Recipes, request: &ProposalRequest) -> Proposal {
    mutator.propose(request, &NoHost).expect("a proposal")
}

pub(crate) fn apply(parent: &Program, proposal: &Proposal) -> Program {
    let Change::Files(files) = &proposal.change else { panic!("recipes change files") };
    let mut child = parent.clone();
    child.files.extend(files.clone());
    child
}

pub(crate) fn outcome(request: &ProposalRequest, idea: Idea, evaluation: Evaluation) -> Outcome {
    Outcome {
        iteration: request.iteration,
        idea,
        parent: request.parent.id.clone(),
        parent_evaluation: request.parent.evaluation.clone(),
        program: Some(ProgramId("child".into())),
        evaluation,
    }
}

/// The details of an idea that applies these recipes.
pub(crate) fn idea(library: &Path, names: &[&str], operator: &str) -> Idea {
    let recipes: Vec<_> = names.iter().map(|name| serde_json::json!({"name": name})).collect();
    let library = library.file_name().expect("a name").to_string_lossy();
    let details = serde_json::json!({
        "library": library, "operator": operator, "recipes": recipes, "removed": [],
        "child": names.join("+"), "factor": 1.0, "objectives": task(Some(1.5)).objectives,
    });
    Idea { details, ..Idea::default() }
}

/// The text in front of the operator's name in a summary, and that name.
pub(crate) fn split(summary: &str) -> (&str, &str) {
    let (what, operator) = summary.rsplit_once(" (").expect("an operator");
    (what, operator.trim_end_matches(')'))
}
