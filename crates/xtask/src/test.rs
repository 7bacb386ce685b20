//! `cargo xtask test`: every test, against a fresh installation.

use crate::{command, console::say, install, workspace};
use anyhow::Result;
use clap::Args;
use std::process::{Command, ExitCode};

/// Install into target/forerunner and run every test, documentation tests included.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test --package forerunner-runtime
  cargo xtask test -- resume                       tests with `resume` in their name

Arguments are passed to `cargo test`.")]
pub(crate) struct Test {
    /// Passed to `cargo test`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        install::install(&workspace::prefix(), false)?;
        let mut tests = tests(&self.whole());
        say(format_args!("running {}", command::shown(&tests)));
        Ok(command::exit_code(command::status(&mut tests)?))
    }
}

impl Test {
    /// The arguments as they were typed: clap takes a leading `--` for itself.
    fn whole(&self) -> Vec<String> {
        let typed: Vec<String> = std::env::args().collect();
        let start = typed.len() - self.arguments.len();
        let escaped = start.checked_sub(1).is_some_and(|index| typed[index] == "--");
        let escape = escaped.then(|| "--".to_owned());
        escape.into_iter().chain(self.arguments.iter().cloned()).collect()
    }
}

/// What runs the GPU's kernels on an emulated device, so that they are tested without a GPU.
///
/// Given to the run over the whole workspace: chosen packages alone would be built with fewer features
/// of their dependencies, and candle once more.
const EMULATED: &str = "forerunner-kernels/emulator,forerunner-train-ops/emulator,\
                        forerunner-nanogpt-harness/emulator";

/// `cargo test` over the workspace, or over what `arguments` choose.
///
/// In release mode, for one reason: the installation is a release build, and tensors are too slow
/// to test in any other. A second profile would build every dependency, candle above all, twice.
/// Overflow and debug assertions are what `cargo test --workspace` adds afterwards.
pub(crate) fn tests(arguments: &[String]) -> Command {
    let mut tests = command::cargo(["test", "--release"]);
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let chosen = own.into_iter().any(|argument| {
        argument.starts_with("-p") || argument.starts_with("--package") || argument == "--workspace"
    });
    if !chosen {
        tests.args(["--workspace", "--features", EMULATED]);
    }
    tests.args(arguments);
    tests.env_remove("FORERUNNER_PREFIX");
    tests
}

#[cfg(test)]
mod tests {
    use crate::{
        command::{self, shown},
        install::{CLI_PACKAGE, HARNESS_PACKAGE},
        workspace,
    };
    use std::collections::BTreeSet;

    /// Every package that `selection` builds, with the features it is built with.
    fn built(selection: &[&str]) -> BTreeSet<String> {
        let mut tree = command::cargo(["tree", "--prefix=none", "--format={p} [{f}]"]);
        let output = tree.args(selection).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    }

    /// A feature that only tests ask for changes a dependency, and with it all that depends on it:
    /// candle would be built twice.
    #[test]
    fn tests_use_what_the_installation_built() {
        let members = workspace::members().unwrap();
        let plugins = workspace::plugins(&members).into_iter().map(|package| &**package.name);
        let mut installed = vec!["--edges=no-dev"];
        installed.extend(
            plugins.chain([CLI_PACKAGE, HARNESS_PACKAGE]).flat_map(|name| ["--package", name]),
        );
        let (installed, tested) = (built(&installed), built(&["--workspace"]));
        let again: Vec<_> = installed.difference(&tested).collect();
        assert!(again.is_empty(), "built with other features for tests: {again:?}");
    }

    #[test]
    fn the_workspace_is_tested_unless_packages_are_chosen() {
        let check = |arguments: &[&str], expected: &str| {
            let arguments: Vec<_> = arguments.iter().map(|&a| a.to_owned()).collect();
            assert_eq!(shown(&super::tests(&arguments)), expected);
        };
        let emulated = "forerunner-kernels/emulator,forerunner-train-ops/emulator,\
                        forerunner-nanogpt-harness/emulator";
        check(&[], &format!("cargo test --release --workspace --features {emulated}"));
        check(&["-p", "a"], "cargo test --release -p a");
        check(
            &["--", "-p"],
            &format!("cargo test --release --workspace --features {emulated} -- -p"),
        );
    }
}
