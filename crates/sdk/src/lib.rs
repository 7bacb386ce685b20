//! What the author of a Forerunner plugin depends on: the traits, one macro, a test kit.
//!
//! A plugin is a `cdylib` crate with an ordinary implementation of [`Environment`], [`Mutator`]
//! or [`Selector`] and one line that exports it:
//!
//! ```
//! use forerunner_sdk::prelude::*;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Quadratic {
//!     target: f64,
//! }
//!
//! impl Environment for Quadratic {
//!     fn spec(&self) -> Result<EnvironmentSpec> {
//!         Ok(EnvironmentSpec::new("quadratic")
//!             .objective(Objective::minimize("distance", ""))
//!             .reference(Program::single("x", "0")))
//!     }
//!
//!     fn evaluate(&self, request: &EvaluationRequest, _host: &dyn Host) -> Result<Evaluation> {
//!         let x: f64 = request.program.files["x"].trim().parse().map_err(Error::failed)?;
//!         Ok(Evaluation::accepted("distance", (x - self.target).powi(2)))
//!     }
//! }
//!
//! export_plugin! { environment "quadratic" => Ok::<Quadratic, Error> }
//!
//! // The same object runs without a dynamic library, with every value still encoded as at the
//! // plugin boundary:
//! let kit = forerunner_sdk::testkit::environment(Quadratic { target: 3.0 });
//! let program = kit.spec().unwrap().reference;
//! let request = EvaluationRequest::new(program, 1);
//! assert_eq!(kit.evaluate(&request, &NoHost).unwrap().metrics["distance"], 9.0);
//! ```
//!
//! # Core concepts
//!
//! - The constructor in `export_plugin!` takes the plugin's configuration: any type that serde
//!   can read. Errors name the field.
//! - Panics become errors; they never end the host.
//! - [`Random`] draws from the seed of a request: a run replays identically.
//! - `tracing` events of the plugin arrive in the host's log.
//! - Plugins are trusted code. Programs are not: run them through `forerunner-sandbox`.

mod export;
mod foreign;
mod guest;
mod logging;
mod random;
pub mod testkit;

pub use forerunner_core::*;
pub use random::Random;

/// Everything an author needs, in one line.
pub mod prelude {
    pub use crate::{Random, export_plugin};
    pub use forerunner_core::*;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json;
}

/// Exports this crate as a plugin.
///
/// Each entry names the kind, the export and a function from the configuration to the object.
/// `Ok::<Type, Error>` makes the configuration itself the object.
///
/// ```text
/// export_plugin! {
///     environment "quadratic" => Ok::<Quadratic, Error>,
///     mutator "llm" => |config: LlmConfig| Llm::new(config),
/// }
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($($kind:ident $name:literal => $build:expr),+ $(,)?) => {
        const _: () = {
            use $crate::__private as p;

            fn fill(registry: &mut p::Registry) {
                $( registry.$kind($name, $build); )+
            }

            extern "C" fn root() -> p::RootModuleResult {
                p::__call_root_module_loader(|| {
                    p::plugin(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), fill)
                })
            }

            // What abi_stable's `#[export_root_module]` emits, spelled for edition 2024 and
            // without asking the author's crate to depend on abi_stable.
            #[allow(unsafe_code, reason = "an exported symbol is how a plugin is found")]
            #[cfg(not(test))]
            // SAFETY: the name is abi_stable's own; a cdylib holds one such line, so it is unique.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static HEADER: p::LibHeader =
                // SAFETY: `root` returns the module type that is named here.
                unsafe { p::LibHeader::from_constructor::<p::PluginRef>(root, p::CheckTypeLayout::Yes) };
            #[cfg(test)]
            const _: (fn(&mut p::Registry), extern "C" fn() -> p::RootModuleResult) = (fill, root);
        };
    };
}

/// What the macro and the host's loader use. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{Registry, plugin};
    pub use crate::foreign::{ForeignEnvironment, ForeignMutator, ForeignSelector, answer};
    pub use abi_stable::library::{
        __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
    };
    pub use forerunner_abi::PluginRef;
}
