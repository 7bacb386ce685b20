//! The recipes that come with the plugin.

use forerunner_recipes::{Config, Library, Recipe, Recipes, Status};
use forerunner_sdk::Program;
use std::collections::BTreeSet;

fn reference() -> Program {
    let text = include_str!("../../../../environments/nanogpt/programs/gpt2.rs");
    Program::single("main.rs", text)
}

#[test]
fn every_embedded_library_makes_sense() {
    let names: Vec<_> = Library::embedded_names().collect();
    assert!(names.contains(&"nanogpt"), "{names:?}");
    for name in names {
        let library = Library::embedded(name).expect("it is listed").expect("it makes sense");
        assert_eq!((library.name.as_str(), library.environment.as_str()), (name, name));
    }
    Recipes::new(Config::default()).expect("the default configuration works");
}

/// A recipe with those that it requires, in order.
fn unit<'a>(library: &'a Library, recipe: &'a Recipe) -> Vec<&'a Recipe> {
    let known = |name: &String| library.recipes.iter().find(|recipe| recipe.name == *name);
    let required = recipe.requires.iter().filter_map(known);
    required.flat_map(|recipe| unit(library, recipe)).chain([recipe]).collect()
}

/// The reference with these recipes, each once.
fn with(library: &Library, recipes: &[&Recipe]) -> Result<Program, Status> {
    recipes.iter().try_fold(reference(), |program, recipe| {
        match library.apply(&program, &recipe.name, &recipe.defaults()) {
            Err(Status::Present) => Ok(program),
            result => result,
        }
    })
}

/// The recipes that are recognised in a program.
fn recognised(library: &Library, program: &Program) -> BTreeSet<String> {
    names(&library.found_in(program))
}

fn names(recipes: &[&Recipe]) -> BTreeSet<String> {
    recipes.iter().map(|recipe| recipe.name.clone()).collect()
}

#[test]
fn every_nanogpt_recipe_applies_to_the_reference_and_is_recognised_afterwards() {
    let library = Library::embedded("nanogpt").expect("listed").expect("sound");
    assert_eq!(recognised(&library, &reference()), BTreeSet::new());
    let mut wrong = Vec::new();
    for recipe in &library.recipes {
        let recipes = unit(&library, recipe);
        match with(&library, &recipes).map(|program| recognised(&library, &program)) {
            Err(why) => wrong.push(format!("{}: {why}", recipe.name)),
            Ok(found) if found != names(&recipes) => {
                wrong.push(format!("{}: recognised as {found:?}", recipe.name));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nanogpt_recipes_that_do_not_exclude_each_other_go_together() {
    let library = Library::embedded("nanogpt").expect("listed").expect("sound");
    let mut wrong = Vec::new();
    for first in &library.recipes {
        for second in library.recipes.iter().filter(|second| second.name != first.name) {
            let both = [unit(&library, first), unit(&library, second)].concat();
            match with(&library, &both).map(|program| recognised(&library, &program)) {
                Err(Status::Excluded(_)) => {}
                Err(why) => wrong.push(format!("{} after {}: {why}", second.name, first.name)),
                Ok(found) if found != names(&both) => {
                    wrong.push(format!("{} after {}: {found:?}", second.name, first.name));
                }
                Ok(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
