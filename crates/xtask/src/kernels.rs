//! `cargo xtask kernels`: what every CUDA kernel uses of a device, as a page of documentation.
//!
//! The compiler knows it without a device. The page is committed, so that a change that costs registers,
//! or has values spilled to memory, is seen when it is made.

mod ptxas;

use crate::{
    console::{plural, say},
    cuda_toolkit::{self, Compiler},
    install, workspace,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use ptxas::Usage;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where the page is.
const PAGE: &str = "docs/kernels.md";

/// What includes every kernel, in the folder in which it is compiled.
const SOURCE: &str = "cuda/all.cu";

/// As `crates/kernels/build.rs` compiles them, for the architectures that it embeds.
const OPTIONS: [&str; 3] = ["-std=c++17", "-O3", "-cubin"];
const ARCHITECTURES: [&str; 2] = ["80", "90a"];

/// Marks the compiler's version in the page.
const COMPILER: &str = "nvcc ";

/// Kernels that may spill, each with the most bytes of stores and loads together, and the reason.
/// Any other must not.
const ALLOWANCES: &[Allowance] = &[];

/// What a kernel may spill.
struct Allowance {
    kernel: &'static str,
    bytes: u32,
    why: &'static str,
}

/// Compile the CUDA kernels and write down what each one uses.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask cuda-toolkit     once, where no CUDA compiler is installed
  cargo xtask kernels          writes docs/kernels.md
  cargo xtask kernels --check  fails when the page is out of date, or a kernel spills registers")]
pub(crate) struct Kernels {
    /// Change nothing; fail when the page is not what the sources make.
    #[arg(long)]
    check: bool,
}

/// What one function uses on each architecture that it was compiled for.
type Uses = BTreeMap<String, BTreeMap<&'static str, Usage>>;

impl Kernels {
    pub(crate) fn run(&self) -> Result<()> {
        let compiler = cuda_toolkit::toolkit()?.compiler;
        let folder = workspace::root().join("crates/kernels");
        let uses = compile(&compiler, &folder, SOURCE)?;
        let path = workspace::root().join(PAGE);
        let page = page(&compiler.version.to_string(), &uses)?;
        if self.check {
            compare(&path, &page)?;
        } else {
            install::replace(&path, page.as_bytes(), None)?;
        }
        let spilling = spilling(&uses, ALLOWANCES);
        if !spilling.is_empty() {
            bail!(
                "registers are spilled:\n{}\nhint: use fewer values at a time or fewer threads to a block; \
                 what cannot be helped gets an allowance, with its reason, in crates/xtask/src/kernels.rs",
                spilling.join("\n")
            );
        }
        let state = if self.check { "as" } else { "written to" };
        say(format_args!("kernels: {}, {state} {PAGE}", plural(uses.len(), "function")));
        Ok(())
    }
}

/// Compiles `source` for every architecture.
fn compile(compiler: &Compiler, folder: &Path, source: &str) -> Result<Uses> {
    let scratch = tempfile::tempdir().context("cannot make a folder")?;
    let start = |architecture: &&'static str| -> Result<(&'static str, Child)> {
        let code = format!("arch=compute_{architecture},code=sm_{architecture}");
        let mut nvcc = Command::new(&compiler.nvcc);
        nvcc.args(OPTIONS)
            .args(["-gencode", &code, "-Xptxas", "-v", source, "-o"])
            .arg(scratch.path().join(architecture))
            .current_dir(folder)
            // Options for somebody else's kernels would change ours.
            .env_remove("NVCC_APPEND_FLAGS")
            .env_remove("NVCC_PREPEND_FLAGS")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = nvcc.spawn();
        let child = child.with_context(|| format!("cannot start {}", compiler.nvcc.display()))?;
        Ok((*architecture, child))
    };
    // All at once: a second architecture takes no longer where there is a second core.
    let children = ARCHITECTURES.iter().map(start).collect::<Vec<_>>();
    let mut uses = Uses::new();
    for child in children {
        let (architecture, child) = child?;
        let output = child.wait_with_output().context("cannot wait for nvcc")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let more = String::from_utf8_lossy(&output.stdout);
            bail!("nvcc refuses {source} for sm_{architecture}:\n{more}{said}");
        }
        let found = ptxas::parse(&said)?;
        if found.is_empty() {
            bail!("{source} holds no kernel for sm_{architecture}");
        }
        for (name, usage) in found {
            uses.entry(name).or_default().insert(architecture, usage);
        }
    }
    Ok(uses)
}

/// What the compiler does not manage without memory, and may not spill.
fn spilling(uses: &Uses, allowances: &[Allowance]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, by_architecture) in uses {
        let allowance = allowances.iter().find(|allowance| allowance.kernel == name);
        let most = allowance.map_or(0, |allowance| allowance.bytes);
        for (architecture, usage) in by_architecture {
            let bytes = usage.spill_stores + usage.spill_loads;
            if bytes > most {
                found.push(format!(
                    "  {name} for sm_{architecture}: {bytes} bytes (at most {most})"
                ));
            }
        }
    }
    found
}

fn page(version: &str, uses: &Uses) -> Result<String> {
    let mut page = format!(
        "# What the CUDA kernels use\n\n\
         Every kernel of `crates/kernels/cuda`, by the compiler's account ({COMPILER}{version}, `{}`). Made by\n\n\
         ```sh\n\
         cargo xtask cuda-toolkit     # once, where no CUDA compiler is installed\n\
         cargo xtask kernels\n\
         ```\n\n\
         and compared with the sources by `cargo xtask kernels --check`, which also fails when a kernel spills. No\n\
         device is needed, and nothing here was measured on one.\n\n\
         Registers are those of one thread; a multiprocessor has 65,536, so that 32 leave room for the 2,048 threads\n\
         that it can hold, 64 for 1,024, 128 for 512. Bytes of stack and spills are a thread's too: spilled is what\n\
         the compiler stores and loads because registers did not suffice. Shared memory is a block's, in bytes, and\n\
         only what a kernel declares itself: what a launch asks for is not known here.\n\n",
        OPTIONS.join(" ")
    );
    let mut head = "| kernel |".to_owned();
    let mut rule = "| --- |".to_owned();
    for architecture in ARCHITECTURES {
        write!(head, " sm_{architecture}: registers | stack | spilled, stores + loads | shared |")?;
        rule.push_str(" --- | --- | --- | --- |");
    }
    writeln!(page, "{head}\n{rule}")?;
    for (name, by_architecture) in uses {
        write!(page, "| `{name}` |")?;
        for architecture in ARCHITECTURES {
            match by_architecture.get(architecture) {
                Some(Usage { registers, stack, spill_stores, spill_loads, shared }) => {
                    // A function that is called shares its caller's registers.
                    let registers = registers.map_or("called".to_owned(), |n| n.to_string());
                    write!(
                        page,
                        " {registers} | {stack} | {spill_stores} + {spill_loads} | {shared} |"
                    )?;
                }
                None => page.push_str(" | | | |"),
            }
        }
        page.push('\n');
    }
    if !ALLOWANCES.is_empty() {
        page.push_str("\nAllowed to spill:\n\n");
        for Allowance { kernel, bytes, why } in ALLOWANCES {
            writeln!(page, "- `{kernel}`, at most {bytes} bytes: {why}.")?;
        }
    }
    Ok(page)
}

/// Whether the committed page is `page`. Compilers of different versions use registers differently, so
/// that only pages of the same one can be compared.
fn compare(path: &PathBuf, page: &str) -> Result<()> {
    let known = fs::read_to_string(path)
        .with_context(|| format!("cannot read {PAGE}\nremedy: `cargo xtask kernels`"))?;
    let (made_by, here) = (compiler_of(&known), compiler_of(page));
    if made_by != here {
        let made_by = made_by.unwrap_or("an unknown one");
        say(format_args!(
            "kernels: {PAGE} not compared: made by nvcc {made_by}, here is {}; \
             `cargo xtask cuda-toolkit --pinned` brings the pinned one",
            here.unwrap_or_default()
        ));
        return Ok(());
    }
    if known == page {
        return Ok(());
    }
    let differs = |(known, new): &(&str, &str)| known != new;
    let line = known.lines().zip(page.lines()).find(differs);
    let (was, is) = line.unwrap_or(("", "a line more, or one less"));
    bail!(
        "{PAGE} is out of date\n  was: {was}\n  is:  {is}\nremedy: `cargo xtask kernels`, and commit what it \
         writes"
    )
}

/// The version that a page says it was made with.
fn compiler_of(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(&format!("({COMPILER}"))?;
    rest.split([',', ')']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(spill_stores: u32) -> Uses {
        let usage =
            Usage { registers: Some(40), stack: 8, spill_stores, spill_loads: 4, shared: 512 };
        let called = Usage { registers: None, ..Usage::default() };
        let mut uses = Uses::new();
        uses.entry("norm".to_owned()).or_default().insert("80", usage);
        uses.entry("helper".to_owned()).or_default().insert("90a", called);
        uses
    }

    #[test]
    fn the_page_has_a_row_for_each_function() {
        let page = page("13.0.88", &uses(16)).unwrap();
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let expected = [
            "| `helper` | | | | | called | 0 | 0 + 0 | 0 |",
            "| `norm` | 40 | 8 | 16 + 4 | 512 | | | | |",
        ];
        assert_eq!(rows, expected);
        assert_eq!(compiler_of(&page), Some("13.0.88"));
        assert_eq!(compiler_of("# Kernels"), None);
    }

    #[test]
    fn spills_beyond_the_allowance_are_refused() {
        let check = |bytes: u32, expected: &[&str]| {
            let allowances = [Allowance { kernel: "norm", bytes, why: "" }];
            assert_eq!(spilling(&uses(16), &allowances), expected);
        };
        check(19, &["  norm for sm_80: 20 bytes (at most 19)"]);
        check(20, &[]);
        assert_eq!(spilling(&uses(16), &[]).len(), 1);
    }

    #[test]
    fn a_page_of_other_sources_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernels.md");
        let of = |version: &str, spill: u32| page(version, &uses(spill)).unwrap();
        let check = |known: &str, expected: Option<&str>| {
            fs::write(&path, known).unwrap();
            let result = compare(&path, &of("13.0.88", 0)).map_err(|error| format!("{error:#}"));
            match expected {
                None => assert_eq!(result, Ok(())),
                Some(words) => {
                    assert!(result.as_ref().is_err_and(|e| e.contains(words)), "{result:?}")
                }
            }
        };
        check(&of("13.0.88", 0), None);
        check(&of("13.0.88", 8), Some("was: | `norm` | 40 | 8 | 8 + 4"));
        check(&(of("13.0.88", 0) + "| more |\n"), Some("a line more, or one less"));
        // Another compiler's page says nothing about this one's.
        check(&of("12.8.93", 8), None);
        fs::remove_file(&path).unwrap();
        let error = format!("{:#}", compare(&path, "").unwrap_err());
        assert!(error.contains("remedy: `cargo xtask kernels`"), "{error}");
    }
}
