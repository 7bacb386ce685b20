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
        tests.arg("--workspace");
    }
    tests.args(arguments);
    tests.env_remove("FORERUNNER_PREFIX");
    tests
}

#[cfg(test)]
mod tests {
    use crate::command::shown;

    #[test]
    fn the_workspace_is_tested_unless_packages_are_chosen() {
        let check = |arguments: &[&str], expected: &str| {
            let arguments: Vec<_> = arguments.iter().map(|&a| a.to_owned()).collect();
            assert_eq!(shown(&super::tests(&arguments)), expected);
        };
        check(&[], "cargo test --release --workspace");
        check(&["-p", "a"], "cargo test --release -p a");
        check(&["--", "-p"], "cargo test --release --workspace -- -p");
    }
}
