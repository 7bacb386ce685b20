//! What cargo and the workbench build for a bundle.

use crate::{command, console::say, cuda_toolkit::Toolkit, install::HARNESS_PACKAGE};
use anyhow::{Context, Result, anyhow, bail};
use cargo_metadata::{Artifact, Message};
use forerunner_core::Program;
use forerunner_workbench::{Compiler, Harness};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

/// What cargo said and built.
pub(super) struct Built {
    messages: Vec<u8>,
    artifacts: Vec<Artifact>,
}

/// Runs cargo, with the environment of a toolkit where one is given.
pub(super) fn cargo(arguments: &[&str], toolkit: Option<&Toolkit>) -> Result<Built> {
    let mut cargo = command::cargo(arguments);
    cargo.args(["--release", "--message-format=json-render-diagnostics"]);
    if let Some(toolkit) = toolkit {
        toolkit.apply(&mut cargo)?;
    }
    say(format_args!("{}", command::shown(&cargo)));
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", command::shown(&cargo)))?;
    if !output.status.success() {
        bail!("the build failed ({})", output.status);
    }
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(&*output.stdout) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo's messages")? {
            artifacts.push(artifact);
        }
    }
    Ok(Built { messages: output.stdout, artifacts })
}

impl Built {
    /// The program with a name.
    pub(super) fn program(&self, name: &str) -> Result<&Path> {
        let artifacts = self.artifacts.iter().filter(|artifact| artifact.target.name == name);
        let mut programs = artifacts.filter_map(|artifact| artifact.executable.as_deref());
        let program =
            programs.next().with_context(|| format!("cargo built no program `{name}`"))?;
        Ok(program.as_std_path())
    }

    /// Programs of tests: the crate or file that they test, and where they are.
    pub(super) fn tests(&self) -> impl Iterator<Item = (&str, &Path)> {
        let tests = self.artifacts.iter().filter(|artifact| artifact.profile.test);
        tests.filter_map(|artifact| {
            Some((&*artifact.target.name, artifact.executable.as_deref()?.as_std_path()))
        })
    }
}

/// Compiles a NanoGPT program as a search compiles it, against the harness of this checkout, for CUDA
/// where a toolkit is given; answers where the binary is. `folder` keeps harness and binaries.
pub(super) fn nanogpt(text: &str, folder: &Path, toolkit: Option<&Toolkit>) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--package", HARNESS_PACKAGE, "--lib"];
    if toolkit.is_some() {
        arguments.extend(["--features", "cuda"]);
    }
    let built = cargo(&arguments, toolkit)?;
    let archives = match toolkit {
        Some(toolkit) => archives(&toolkit.home.join("lib"))?,
        None => Vec::new(),
    };
    let place = folder.join("harness");
    let harness = Harness::install_linked(&*built.messages, "harness", &place, &[], &archives)?;
    let compiler = Compiler::new(harness, &folder.join("cache"), false)?;
    let program = Program::single("main.rs", text);
    let built = compiler.build(&program).map_err(|error| match error.into_findings() {
        Ok((_, findings)) => {
            let why: Vec<_> = findings.into_iter().map(|finding| finding.message).collect();
            anyhow!("the program of the bench does not compile\n{}", why.join("\n"))
        }
        Err(error) => error.into(),
    });
    Ok(built?.binary)
}

/// The archives that stand in for CUDA's libraries, in order.
fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut archives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "a"));
    archives.sort();
    Ok(archives)
}
