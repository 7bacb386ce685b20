//! `cargo xtask bundle`: everything that a machine with a GPU, and without Rust, needs to test and
//! measure.
//!
//! ```text
//! forerunner-cuda/bench-gpu.sh            runs all of it, see there
//! forerunner-cuda/bench_torch.py          the same model in PyTorch
//! forerunner-cuda/compare.py              the table
//! forerunner-cuda/bench.rs                the program that is measured, for its settings
//! forerunner-cuda/bin/bench               the same, compiled
//! forerunner-cuda/bin/bench-captured      the same with steps that are captured as graphs
//! forerunner-cuda/bin/gpu_bench           its supervisor
//! forerunner-cuda/bin/forerunner-gpu      what the GPU is, and its rate of matrix products
//! forerunner-cuda/tests/*                 every test of an operation that runs on a device
//! forerunner-cuda/sandbox/…               the sandbox' tests
//! forerunner-cuda/data/*                  tokens, with `--data`
//! ```

mod build;
mod check;
mod data;
pub(crate) mod program;

use crate::{
    command,
    console::{plural, print, say},
    cuda_toolkit, workspace,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use program::Size;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Most bytes of the archive, so that it can be carried to any machine.
const MOST_BYTES: u64 = 64 << 20;
/// The archive's one folder.
const NAME: &str = "forerunner-cuda";
/// Scripts, below the root of the workspace.
const SCRIPTS: &str = "environments/nanogpt/bench-gpu";
const SCRIPT_NAMES: [&str; 3] = ["bench-gpu.sh", "bench_torch.py", "compare.py"];

/// What the tests of these packages are for: operations on a device.
const TESTED: [&str; 3] =
    ["forerunner-kernels", "forerunner-train-ops", crate::install::HARNESS_PACKAGE];
/// Tests in them that a device has no part in, or that look for other programs where they were built.
const LEFT_OUT: [&str; 5] =
    ["against_reference", "emulator", "forerunner-gpu", "helper", "tensor_cores"];
const SANDBOX: &str = "forerunner-sandbox";

/// Make an archive with which a machine that has a GPU, and no Rust, can test and measure.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask cuda-toolkit                     once, where no CUDA compiler is installed
  cargo xtask bundle --cuda --data FOLDER      writes target/forerunner-cuda.tar.gz
  cargo xtask bundle --program > bench.rs      the program that is measured
  cargo xtask bundle --check                   is PyTorch's model the same? on the CPU, at toy size

There: tar xzf forerunner-cuda.tar.gz && forerunner-cuda/bench-gpu.sh")]
pub(crate) struct Bundle {
    #[command(flatten)]
    what: What,
    /// A folder with a `*train*.bin` of GPT-2 tokens; what the bench reads of it goes along. Without it the
    /// bench trains on random tokens.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["program", "check"])]
    data: Option<PathBuf>,
    /// The program at the size that a CPU trains.
    #[arg(long, conflicts_with_all = ["cuda", "check"])]
    toy: bool,
    /// A Python interpreter that has PyTorch [default: that of target/pytorch].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cuda", "program"])]
    python: Option<PathBuf>,
}

/// What is to be made.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Build for CUDA and write the archive.
    #[arg(long)]
    cuda: bool,
    /// Print the program of the bench.
    #[arg(long)]
    program: bool,
    /// Train the toy in both implementations on the CPU and compare the losses.
    #[arg(long)]
    check: bool,
}

impl Bundle {
    pub(crate) fn run(&self) -> Result<()> {
        if self.what.program {
            let size = if self.toy { Size::Toy } else { Size::Full };
            return Ok(print(program::text(size)?.trim_end())?);
        }
        if self.what.check {
            return check::run(self.python.as_deref());
        }
        self.cuda()
    }

    fn cuda(&self) -> Result<()> {
        let toolkit = cuda_toolkit::toolkit()?;
        let target = workspace::root().join("target");
        let folder = target.join(NAME);
        let _ = fs::remove_dir_all(&folder);
        let text = program::text(Size::Full)?;
        let files = Files { folder: folder.clone() };
        for name in SCRIPT_NAMES {
            files.put(&workspace::root().join(SCRIPTS).join(name), name)?;
        }
        fs::write(folder.join("bench.rs"), &text).context("cannot write bench.rs")?;
        if let Some(data) = &self.data {
            fs::create_dir_all(folder.join("data"))?;
            let count = program::STEPS * program::BATCH * program::LENGTH + 1;
            data::cut(data, count, &folder.join("data/fineweb_train.bin"))?;
        }

        let programs = build::cargo(
            &[
                "build",
                "--package",
                "forerunner-kernels",
                "--features",
                "cuda",
                "--bin",
                "forerunner-gpu",
            ],
            Some(&toolkit),
        )?;
        files.put_stripped(programs.program("forerunner-gpu")?, "bin/forerunner-gpu")?;
        let bench = build::nanogpt(&text, &target.join("bundle/cuda"), Some(&toolkit))?;
        files.put_stripped(&bench, "bin/bench")?;
        let captured = program::captured(Size::Full)?;
        let captured = build::nanogpt(&captured, &target.join("bundle/cuda"), Some(&toolkit))?;
        files.put_stripped(&captured, "bin/bench-captured")?;
        // The supervisor knows nothing of CUDA, but its package is then built once.
        let package = crate::install::HARNESS_PACKAGE;
        let supervisor = build::cargo(
            &["build", "--package", package, "--features", "cuda", "--example", "gpu_bench"],
            Some(&toolkit),
        )?;
        files.put_stripped(supervisor.program("gpu_bench")?, "bin/gpu_bench")?;
        self.tests(&files, &toolkit)?;

        let archive = target.join(format!("{NAME}.tar.gz"));
        pack(&target, &archive)?;
        files.list()?;
        let bytes = fs::metadata(&archive)?.len();
        let megabytes = bytes as f64 / f64::from(1 << 20);
        if bytes > MOST_BYTES {
            bail!(
                "{} has {megabytes:.1} MiB, more than {}\nhint: leave --data out, or test with fewer packages",
                archive.display(),
                MOST_BYTES >> 20
            );
        }
        if self.data.is_none() {
            say("no --data: the bench will train on random tokens, whose losses mean nothing");
        }
        say(format_args!("{}: {megabytes:.1} MiB", archive.display()));
        Ok(())
    }

    fn tests(&self, files: &Files, toolkit: &cuda_toolkit::Toolkit) -> Result<()> {
        let features = TESTED.map(|package| format!("{package}/cuda")).join(",");
        let mut arguments =
            vec!["test", "--no-run", "--lib", "--test", "*", "--features", &features];
        for package in TESTED {
            arguments.extend(["--package", package]);
        }
        let tests = build::cargo(&arguments, Some(toolkit))?;
        let mut n_tests = 0;
        for (name, path) in tests.tests().filter(|(name, _)| !LEFT_OUT.contains(name)) {
            // Two packages may have tests of one name; a binary's file name begins with its own.
            let to = files.free(&format!("tests/{name}"));
            files.put_stripped(path, &to)?;
            n_tests += 1;
        }
        if n_tests < TESTED.len() {
            bail!("cargo built {}, fewer than packages", plural(n_tests, "test"));
        }
        let sandbox = ["test", "--no-run", "--package", SANDBOX, "--test", "sandbox"];
        let sandbox = build::cargo(&sandbox, None)?;
        files.put_stripped(sandbox.program("sandbox")?, "sandbox/deps/sandbox")?;
        // Found by the tests one folder above their own.
        let hostile = ["build", "--package", SANDBOX, "--example", "hostile"];
        let hostile = build::cargo(&hostile, None)?;
        files.put_stripped(hostile.program("hostile")?, "sandbox/examples/hostile")
    }
}

/// What goes into the archive.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn put(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.folder.join(to);
        fs::create_dir_all(to.parent().context("a file in no folder")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    /// Without symbols, which are most of a program.
    fn put_stripped(&self, from: &Path, to: &str) -> Result<()> {
        self.put(from, to)?;
        command::run(Command::new("strip").arg(self.folder.join(to)))
            .context("hint: `strip` comes with the C compiler (binutils)")
    }

    /// The name, with a number behind it if it is taken.
    fn free(&self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names.find(|name| !self.folder.join(name).exists()).unwrap_or_default()
    }

    /// Prints every file with its size.
    fn list(&self) -> Result<()> {
        for entry in walkdir::WalkDir::new(&self.folder).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                let name = entry.path().strip_prefix(&self.folder)?.display();
                print(format_args!("{:>12}  {name}", entry.metadata()?.len()))?;
            }
        }
        Ok(())
    }
}

/// Packs the folder beside which the archive goes.
fn pack(parent: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-czf"])
        .arg(archive)
        .arg("-C")
        .arg(parent)
        .arg(NAME);
    command::run(&mut tar)
}
