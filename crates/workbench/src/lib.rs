//! Turns a program into something that can be measured: applies a mutator's change, checks the
//! source rules, and compiles against a prebuilt harness inside the sandbox.
//!
//! ```
//! use forerunner_core::{Change, Program};
//! use forerunner_workbench::{Rules, apply};
//!
//! let parent = Program::single("main.rs", "const LR: f32 = 0.1;\n\nfn main() {}\n");
//! let patch = "\
//! <<<<<<< SEARCH
//! const LR: f32 = 0.1;
//! =======
//! const LR: f32 = 0.2;
//! >>>>>>> REPLACE
//! ";
//! let child = apply(&parent, &Change::Patch(patch.to_owned())).unwrap();
//! assert!(child.files["main.rs"].contains("0.2"));
//! assert!(Rules::default().check(&child).is_empty());
//!
//! let thief = Program::single("main.rs", "fn main() { std::fs::read(\"val.bin\").ok(); }");
//! assert_eq!(Rules::default().check(&thief)[0].rule, "source/std");
//! ```
//!
//! # Core concepts
//!
//! - [`apply`] makes a child from a parent and a [`forerunner_core::Change`]; what does not
//!   apply comes back as findings that a mutator can act on.
//! - [`Rules`] read the source and refuse what has no place in a program. They give clear
//!   messages early and close the cheap doors. **They are no isolation**: safe Rust can corrupt
//!   memory, so nothing of value may live in the process that runs a program.
//! - [`form()`] tells whether two programs differ in more than layout and their own names.
//! - [`Harness`] is a folder of prebuilt rlibs with a manifest, made by [`Harness::install`].
//! - [`Compiler`] calls `rustc` directly, in the sandbox, with a content-addressed cache that
//!   processes share.
//!
//! This crate prints nothing and knows no benchmark.

mod cache;
mod compiler;
mod diagnostics;
mod error;
mod files;
mod form;
mod harness;
mod patch;
mod rules;
mod toolchain;

pub use compiler::{Built, CompileError, Compiler};
pub use error::Error;
pub use files::{apply, root_file};
pub use form::form;
pub use harness::Harness;
pub use rules::{Refused, Rules};
