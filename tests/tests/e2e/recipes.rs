//! The library of known techniques on the reference program, through the installed binary.

use forerunner_core::Program;
use forerunner_recipes::{Library, Recipe};
use forerunner_tests::{Scratch, workspace};
use serde_json::Value;

fn library() -> Library {
    Library::embedded("nanogpt").expect("it comes with the plugin").expect("sound recipes")
}

/// The reference with a training of a few steps.
fn short_reference() -> Program {
    let path = workspace().join("environments/nanogpt/programs/gpt2.rs");
    let source = std::fs::read_to_string(path).expect("the reference program");
    let short = source.replace("const STEPS: usize = 2800;", "const STEPS: usize = 40;");
    assert_ne!(short, source, "the reference has other steps now: change this test");
    Program::single("main.rs", short)
}

fn with(library: &Library, program: &Program, recipe: &Recipe) -> Option<Program> {
    library.apply(program, &recipe.name, &recipe.defaults()).ok()
}

/// Trains, scores, and says what went wrong.
fn trouble(scratch: &Scratch, name: &str, program: &Program) -> Option<String> {
    scratch.write(&format!("{name}.rs"), &program.files["main.rs"]);
    let config = r#"{"windows":64,"clock":"steps"}"#;
    let options = ["--environment", "nanogpt", "--json", "--config", config];
    let mut command = scratch.command(&format!("evaluate {name}.rs"));
    let done = scratch.done({
        command.args(options);
        command
    });
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    (report["verdict"] != "accepted").then(|| format!("{name}: {}{}", report, done.failure()))
}

/// What every recipe makes of the reference compiles, learns, and passes the checks on the way.
#[test]
fn every_recipe_trains() {
    let (library, reference) = (library(), short_reference());
    let scratch = Scratch::new();
    let mut wrong = Vec::new();
    for recipe in &library.recipes {
        let requires = |name: &&Recipe| recipe.requires.contains(&name.name);
        let base = library
            .recipes
            .iter()
            .filter(requires)
            .try_fold(reference.clone(), |program, required| with(&library, &program, required));
        let program = base.and_then(|base| with(&library, &base, recipe));
        let program = program.unwrap_or_else(|| panic!("{} does not apply", recipe.name));
        wrong.extend(trouble(&scratch, &recipe.name, &program));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Recipes that go together by their texts also compile together: many at once, in two orders.
#[test]
fn recipes_go_together() {
    let library = library();
    let scratch = Scratch::new();
    // Tables of their own would together pass the cap on parameters.
    let tables = ["previous-byte", "hashed-bigrams", "untied-head", "value-embedding"];
    let small = |recipe: &&Recipe| !tables.contains(&recipe.name.as_str());
    let forwards: Vec<&Recipe> = library.recipes.iter().filter(small).collect();
    let backwards: Vec<&Recipe> = forwards.iter().rev().copied().collect();
    for (name, order) in [("forwards", forwards), ("backwards", backwards)] {
        let mut program = short_reference();
        let mut applied = 0;
        for recipe in order {
            if let Some(next) = with(&library, &program, recipe) {
                (program, applied) = (next, applied + 1);
            }
        }
        assert!(applied >= 15, "{name}: only {applied} recipes go together");
        assert_eq!(trouble(&scratch, name, &program), None);
    }
}
