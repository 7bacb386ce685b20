//! The same training in PyTorch, run by an interpreter of Python that has it.

use super::{
    core::{Cores, Guarded},
    setting::Setting,
};
use crate::{command, console::say, processes, workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
};

/// The script, given to the interpreter on its command line.
const SCRIPT: &str = include_str!("gpt2.py");

/// Where PyTorch keeps builds for the CPU only, much smaller than those of the default index:
/// <https://pytorch.org/get-started/locally>.
const CPU_BUILDS: &str = "https://download.pytorch.org/whl/cpu";

/// What a training run came to.
#[derive(Debug)]
pub(super) struct Run {
    /// Seconds of the process when each step began: CPU seconds of one thread, wall seconds of
    /// several.
    pub(super) stamps: Vec<f64>,
    /// Training loss of each step.
    pub(super) losses: Vec<f64>,
    /// Most bytes that the process had resident before it made the model.
    pub(super) loaded_memory: u64,
    /// Most bytes that it ever had resident.
    pub(super) peak_memory: u64,
}

/// An interpreter with PyTorch.
#[derive(Debug, Clone)]
pub(super) struct PyTorch {
    python: PathBuf,
    /// Its version, and the vector instructions that it uses.
    pub(super) version: String,
}

/// First thing that the script says.
#[derive(Deserialize)]
struct Loaded {
    version: String,
    instructions: String,
}

/// Last thing that it says.
#[derive(Deserialize)]
struct Trained {
    stamps: Vec<f64>,
    losses: Vec<f64>,
}

impl PyTorch {
    /// The one that `python` has, or else that of the scratch environment, which is made first when
    /// `install` says so. `None` when there is no such environment.
    pub(super) fn find(python: Option<&Path>, install: bool) -> Result<Option<Self>> {
        let scratch = workspace::root().join("target/pytorch");
        let python = match python {
            Some(python) => python.to_owned(),
            None => {
                let python = scratch.join("bin/python");
                if !python.exists() && !install {
                    return Ok(None);
                }
                if install && Self::of(&python).is_err() {
                    install_into(&scratch)?;
                }
                python
            }
        };
        Self::of(&python).map(Some)
    }

    fn of(python: &Path) -> Result<Self> {
        let question = "import json, torch; print(json.dumps({'version': torch.__version__, \
                        'instructions': torch.backends.cpu.get_cpu_capability()}))";
        let output = Command::new(python).args(["-c", question]).output();
        let output = output.with_context(|| format!("cannot start {}", python.display()))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{} has no usable PyTorch: {}\n\
                 hint: `cargo xtask bench training --install`, or name another with --python",
                python.display(),
                words.lines().last().unwrap_or("it says nothing")
            );
        }
        let Loaded { version, instructions } = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} answers nonsense", python.display()))?;
        let version = format!("{version}, {instructions}");
        Ok(Self { python: python.to_owned(), version })
    }

    /// Trains on the tokens in a file, with as many threads as cores. The allocator's settings (`MALLOC_…`) and
    /// everything else in the environment reach it.
    pub(super) fn train(&self, cores: &Cores, setting: &Setting, tokens: &Path) -> Result<Run> {
        let arguments = setting.script_arguments(tokens, cores.threads()).to_string();
        let mut command = Command::new(&self.python);
        command
            .args(["-W", "ignore", "-c", SCRIPT, &arguments])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(name, cores.threads().to_string());
        }
        let mut child = Guarded(cores.spawn(&mut command)?);
        let mut input = child.0.stdin.take().context("no pipe to Python")?;
        let mut output = BufReader::new(child.0.stdout.take().context("no pipe from Python")?);
        let memory = || processes::peak_memory(child.pid()).unwrap_or_default();
        line(&mut output)?;
        let loaded_memory = memory();
        writeln!(input)?;
        let answer = line(&mut output)?;
        let peak_memory = memory();
        // Its input ends, and so does it.
        drop(input);
        let Trained { stamps, losses } =
            serde_json::from_str(&answer).context("the script answers nonsense")?;
        Ok(Run { stamps, losses, loaded_memory, peak_memory })
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    if output.read_line(&mut line)? == 0 {
        bail!("the PyTorch side ended early; what it said is above");
    }
    Ok(line)
}

/// Makes a scratch environment with PyTorch in it.
fn install_into(folder: &Path) -> Result<()> {
    say(format_args!("installing PyTorch into {}", folder.display()));
    command::run(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .context("no Python environment can be made\nhint: install python3 with its module venv")?;
    let pip = |more: &[&str]| {
        let mut command = Command::new(folder.join("bin/python"));
        command.args(["-m", "pip", "install", "--quiet", "--retries", "1", "torch"]).args(more);
        command::run(&mut command)
    };
    if pip(&["--index-url", CPU_BUILDS]).is_ok() {
        return Ok(());
    }
    say("no build for the CPU only; trying the default index, whose builds are large");
    pip(&[]).context(
        "PyTorch cannot be installed; without a network it cannot be had this way\n\
         hint: name an interpreter that has it with --python",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_without_pytorch_is_an_error_with_a_hint() {
        let check = |python: &str, expected: &str| {
            let error = PyTorch::find(Some(Path::new(python)), false).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
        };
        check("/no/such/python", "cannot start /no/such/python");
        check("/bin/false", "/bin/false has no usable PyTorch: it says nothing\nhint: ");
        check("/bin/true", "/bin/true answers nonsense");
    }
}
