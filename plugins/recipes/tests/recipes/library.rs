//! Libraries in folders: what is refused, and what is said of a program.

use crate::toy::{BUDGET, config, program, write_recipe};
use forerunner_recipes::{Config, Library, Recipes, Values};
use forerunner_sdk::Program;
use std::fs;
use tempfile::tempdir;

#[test]
fn a_recipe_that_does_not_apply_says_why() {
    let folder = tempdir().expect("a folder");
    let path = folder.path();
    let write = |name: &str, more: &str| write_recipe(path, name, (0.0, 0.1), more);
    write("alpha", "");
    write("bravo", "");
    write("charlie", "requires = ['alpha', 'bravo']");
    write("delta", "excludes = ['alpha']");
    write("echo", "");
    write("foxtrot", "");
    write("golf", "");
    write("hotel", "requires = ['alpha']");
    let parent = Program {
        files: [
            ("a.rs", "alpha: on\nbravo: off\ncharlie: off\ndelta: off\nhotel: off   \n"),
            ("b.rs", "foxtrot: off\nfoxtrot: off\ngolf: off\n"),
            ("c.rs", "golf: off\n"),
        ]
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .into(),
    };
    let library = Library::read(path).expect("sound");
    let told: Vec<String> =
        library.explain(&parent).iter().map(|(name, status)| format!("{name} {status}")).collect();
    assert_eq!(
        told,
        [
            "alpha is in the program",
            "bravo applies",
            "charlie requires `bravo` in the program",
            "delta does not go with `alpha` in the program",
            "echo the program has no `echo: off`",
            "foxtrot the program has `foxtrot: off` 2 times",
            "golf `golf: off` is in `b.rs`, `c.rs`",
            "hotel applies",
        ]
    );
    let child = library.apply(&parent, "hotel", &Values::new()).expect("it applies");
    assert_eq!(child.files["a.rs"], parent.files["a.rs"].replace("hotel: off", "hotel: on"));
    assert_eq!(
        library.apply(&child, "hotel", &Values::new()).unwrap_err().to_string(),
        "is in the program"
    );
}

#[test]
fn exclusion_holds_both_ways() {
    let folder = tempdir().expect("a folder");
    write_recipe(folder.path(), "alpha", (0.0, 0.1), "excludes = ['bravo']");
    write_recipe(folder.path(), "bravo", (0.0, 0.1), "");
    let library = Library::read(folder.path()).expect("sound");
    let parent = program(&["bravo"], &["alpha"], 100);
    let (_, status) = library.explain(&parent).remove(1);
    assert_eq!(status.to_string(), "does not go with `alpha` in the program");
}

#[test]
fn mistakes_are_named_with_file_and_line() {
    let folder = tempdir().expect("a folder");
    let path = folder.path();
    let check = |file: &str, text: &str, expected: &str| {
        fs::write(path.join(file), text).expect("written");
        let error = Recipes::new(config(path)).expect_err("makes no sense").to_string();
        let expected = format!("bad configuration: `path`: {}/{expected}", path.display());
        assert_eq!(error, expected);
        fs::remove_file(path.join(file)).expect("removed");
    };
    let error = Recipes::new(config(path)).expect_err("empty").to_string();
    assert!(error.ends_with(": there is no recipe in it"), "{error}");
    write_recipe(path, "alpha", (0.0, 0.1), "");
    let recipe = fs::read_to_string(path.join("alpha.toml")).expect("written above");
    check(
        "bravo.toml",
        &recipe.replace("why", "hwy"),
        "bravo.toml:3: unknown field `hwy`, \
        expected one of `title`, `source`, `why`, `gain`, `requires`, `excludes`, `present`, \
        `parameter`, `edit`",
    );
    check(
        "bravo.toml",
        &recipe.replace("[[edit]]", "requires = ['alfa']\n[[edit]]"),
        "bravo.toml:6: `requires` names no other recipe: `alfa` (known: alpha, bravo)",
    );
    check(
        "library.toml",
        &BUDGET.replace("0.25", "0"),
        "library.toml:6: `exchange` is not above 0",
    );
    check(
        "library.toml",
        "enviroment = 'toy'\n",
        "library.toml:1: unknown field `enviroment`, expected `environment` or `budget`",
    );
}

#[test]
fn configurations_that_make_no_sense_name_the_field() {
    let check = |json: serde_json::Value, expected: &str| {
        let config: Config = serde_json::from_value(json).expect("well-formed");
        let error = Recipes::new(config).expect_err("makes no sense").to_string();
        assert!(error.starts_with(&format!("bad configuration: {expected}")), "{error}");
    };
    let folder = tempdir().expect("a folder");
    write_recipe(folder.path(), "alpha", (0.0, 0.1), "");
    let path = folder.path();
    check(
        serde_json::json!({"library": "nanogtp"}),
        "`library`: unknown library `nanogtp` (known: ",
    );
    check(serde_json::json!({"most": 0}), "`most`: 0 is not within 1 and 20");
    check(serde_json::json!({"library": "nanogpt", "path": path}), "`path`: there is a `library`");
    check(serde_json::json!({"path": path.join("x")}), "`path`: cannot read ");
    let known = "unknown recipe `alfa` (known: alpha)";
    check(serde_json::json!({"path": path, "only": ["alfa"]}), &format!("`only`: {known}"));
    check(serde_json::json!({"path": path, "without": ["alfa"]}), &format!("`without`: {known}"));
}
