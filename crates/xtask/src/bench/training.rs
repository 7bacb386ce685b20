//! `cargo xtask bench training`: a training step beside the same step in PyTorch.
//!
//! A GPT in the style of GPT-2 is trained on the same tokens by a NanoGPT program, compiled against
//! the installed harness, and by a script for PyTorch. Both are pinned to as many cores as they have
//! threads and run in turn, so that what slows the machine down slows both. What counts is the CPU
//! time of the processes between two steps, with several threads the wall time: neither start nor
//! warm-up is in it.

mod core;
mod ours;
mod report;
mod setting;
mod stream;
mod theirs;

use self::{
    core::Cores,
    report::{Report, Row, step_ms},
    setting::{SETTINGS, Setting},
    theirs::PyTorch,
};
use super::{Common, Machine};
use crate::console::{print, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use forerunner_core::Program;
use forerunner_workbench::{Compiler, Harness};
use std::path::{Path, PathBuf};

/// A training step beside the same step in PyTorch.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench training --install
  cargo xtask bench training --only bytes --pairs 9
  cargo xtask bench training --python ~/venv/bin/python --json
  cargo xtask bench training --threads 2 --only bytes

PyTorch is taken from --python or from target/pytorch, which --install makes. Without either, our
side is measured alone. Settings: bytes (vocabulary 256, width 64), fineweb-small (50,257, width 32,
two sequences at a time, as the reference of that track), words (width 64) and words-wide (width
128). The default build of PyTorch loads libraries for GPUs, which take
memory; `loaded` is what it had resident before there was a model.

Our programs keep freed memory, PyTorch returns large buffers to the system at every step. For a
comparison without that difference, give it the same settings:
  MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967295 cargo xtask bench training")]
pub(crate) struct Training {
    #[command(flatten)]
    common: Common,
    /// Runs of each side, in turn, after one that does not count.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Threads of both sides. One is measured in CPU seconds; several are measured in wall seconds,
    /// to which whatever else runs on these cores adds.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Measure these settings only.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// A Python interpreter that has PyTorch.
    #[arg(long, value_name = "FILE", conflicts_with = "install")]
    python: Option<PathBuf>,
    /// Install PyTorch into target/pytorch first, with pip, unless it is there.
    #[arg(long)]
    install: bool,
}

impl Training {
    pub(super) fn run(&self) -> Result<()> {
        for name in &self.only {
            let known = SETTINGS.map(|setting| setting.name);
            ensure!(
                known.contains(&name.as_str()),
                "no setting `{name}` (known: {})",
                known.join(", ")
            );
        }
        let pytorch = PyTorch::find(self.python.as_deref(), self.install)?;
        if pytorch.is_none() {
            say("measuring our side only: there is no PyTorch\n\
                 hint: --install puts it into target/pytorch, --python names an interpreter");
        }
        let place = Place::new(&self.common.prefix()?, usize::from(self.threads))?;
        let wanted = |setting: &&Setting| {
            self.only.is_empty() || self.only.iter().any(|name| name == setting.name)
        };
        let rows = SETTINGS
            .iter()
            .filter(wanted)
            .map(|setting| self.measure(&place, setting, pytorch.as_ref()))
            .collect::<Result<Vec<Row>>>()?;
        let report = Report {
            machine: Machine::now(),
            clock: if place.cores.threads() == 1 { "CPU" } else { "wall" },
            cores: place.cores,
            pairs: self.pairs,
            pytorch: pytorch.map(|pytorch| pytorch.version),
            goals: report::goals(&rows),
            rows,
        };
        if self.common.json {
            return Ok(print(serde_json::to_string(&report)?)?);
        }
        Ok(print(report)?)
    }

    /// Runs both sides in turn.
    fn measure(&self, place: &Place, setting: &Setting, pytorch: Option<&PyTorch>) -> Result<Row> {
        let binary = setting::build(&place.compiler, &setting.program()?)?;
        let tokens = stream::tokens(setting.vocabulary, setting.steps * setting.step_tokens());
        let file = place.folder.path().join(setting.name);
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        std::fs::write(&file, bytes)?;
        let (mut ours, mut theirs, mut peak) = (Vec::new(), Vec::new(), 0_f64);
        for pair in 0..=self.pairs {
            peak = peak.max(place.product_peak()?);
            let task = (setting.vocabulary, setting.length);
            let run = ours::train(&binary, &place.cores, task, &tokens)?;
            let mut said = format!("ours {:.2} ms a step", step_ms(setting, &run.stamps)?);
            if let Some(pytorch) = pytorch {
                let run = pytorch.train(&place.cores, setting, &file)?;
                said += &format!(", PyTorch {:.2} ms", step_ms(setting, &run.stamps)?);
                theirs.push(run);
            }
            let of =
                if pair == 0 { "warm-up".to_owned() } else { format!("{pair}/{}", self.pairs) };
            say(format_args!("{} {of}: {said}", setting.name));
            ours.push(run);
        }
        report::row(setting, &ours[1..], theirs.get(1..).unwrap_or_default(), peak)
    }
}

/// Where programs are built and run.
struct Place {
    compiler: Compiler,
    /// Binary of `product.rs`.
    product: PathBuf,
    cores: Cores,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(prefix: &Path, threads: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("forerunner-bench-").tempdir()?;
        let harness =
            Harness::load(&prefix.join("lib/forerunner/harness/nanogpt")).with_context(|| {
                format!("hint: `cargo xtask install --prefix {}`", prefix.display())
            })?;
        // The programs are our own: what compiles and runs them needs no protection from them.
        let compiler = Compiler::new(harness, &folder.path().join("cache"), true)?;
        let product = Program::single("main.rs", include_str!("training/product.rs"));
        let product = setting::build(&compiler, &product)?;
        Ok(Self { compiler, product, cores: Cores::last(threads)?, folder })
    }

    /// Floating-point operations per second of matrix products alone.
    fn product_peak(&self) -> Result<f64> {
        // A round asks for one sequence of one position: two tokens.
        let run = ours::train(&self.product, &self.cores, (2, 1), &[0; 1 << 10])?;
        Ok(ours::product_peak(&run))
    }
}
