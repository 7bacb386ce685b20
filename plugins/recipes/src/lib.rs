//! Mutator `recipes`: changes programs by a library of known techniques, without a model.
//!
//! A recipe is a small file: where a technique comes from, why it helps, what it is expected to
//! gain, and the edits that bring it into a program.
//!
//! ```
//! let text = r#"
//! title = "Squared ReLU"
//! source = "So et al. 2021, Primer, arXiv 2109.08668"
//! why = "Sharper than GELU, and cheaper."
//! gain = [0.02, 0.12]             # saves 2 to 12 % of the budget, with a probability of 2/3
//!
//! [[parameter]]
//! name = "slope"                  # `{{slope}}` below is one of these, the first by default
//! values = ["1.0", "0.5"]
//!
//! [[edit]]
//! find = "gelu(&hidden)?"         # must occur once; or a list, of which the first that occurs
//! replace = "relu_squared(&hidden, SLOPE)?"
//!
//! [[edit]]
//! find = "const MLP_RATIO: usize ="
//! before = '''
//! /// Slope of the squared ReLU.
//! ///
//! /// tune: log 0.1 10.0
//! const SLOPE: f64 = {{slope}};
//! '''
//! "#;
//! let recipe = forerunner_recipes::Recipe::parse("relu-squared", text).unwrap();
//! assert_eq!(recipe.defaults()["slope"], "1.0");
//!
//! let wrong = forerunner_recipes::Recipe::parse("relu-squared", &text.replace("find", "fnd"));
//! assert!(wrong.unwrap_err().starts_with("relu-squared.toml:"));
//! ```
//!
//! An edit may also say `after`, `every = true` (all occurrences, at least one) and
//! `optional = true` (skipped when there is none). Lines of `before` and `after` are indented like
//! the line that they are put next to. White space at the ends of lines does not matter, everything
//! else does. A recipe may name others that it `requires` or `excludes` (which holds both ways), and
//! `present`, texts by which it is recognised. By default these are all the lines that it brings
//! except comments; values of parameters and constants may differ, since searches change them.
//!
//! Recipes of a folder are a library. Its `library.toml` names the `environment` and, in
//! `[budget]`, how [cost and quality are traded](Budget).
//!
//! # How it searches
//!
//! What a recipe gains is believed to be normal, on a logarithmic scale, beginning with what its
//! author says; gains of combined recipes add up. Outcomes are compared at equal quality, so that a
//! child that misses the target teaches as much as one that reaches it. A proposal draws one
//! possible world from the beliefs (Thompson sampling) and does what is best there: one recipe
//! (`single`), several (`combine`), those that a good inspiration has (`recombine`), one less
//! (`remove`), or only less of the budget (`trim`; as a last resort `extend`). The budget of the
//! child is set so that it is expected just to reach the target.
//!
//! # Invariants
//!
//! - Memory is bounded, whatever the length of the run.
//! - No program is proposed that is the parent or was proposed before, and no set of recipes again
//!   on a parent on which it failed (among the last 8,192).
//! - What it knows comes from outcomes and its own proposals alone, so a resumed run that observes
//!   the same outcomes again continues in the same way.

mod belief;
mod budget;
mod choose;
mod config;
mod constant;
mod edit;
mod knowledge;
mod library;
mod mutator;
mod presence;
mod recipe;
mod remembered;

pub use budget::Budget;
pub use config::Config;
pub use library::{Library, Status};
pub use mutator::Recipes;
pub use recipe::{Parameter, Recipe, Values};

forerunner_sdk::export_plugin! { mutator "recipes" => Recipes::new }
