//! `cargo xtask estimate-gpu`: what a training step of GPT-2 124M should take on an H200, from counted
//! bytes and operations, as a page of documentation.
//!
//! A prediction, for want of a device: each kernel takes as long as its bytes need at the rate of memory,
//! or its operations at the rate of such products, whichever is more. What that leaves out (launches, the
//! ends of grids, clocks under load) makes the truth slower.

mod harness;
mod pytorch;
mod step;

use crate::{console::say, install, workspace};
use anyhow::{Context, Result};
use clap::Args;
use std::{fmt::Write as _, fs, path::PathBuf};
use step::{BATCH, LENGTH, Part, Row, Step, TOKENS, parameters, yardstick};

/// Where the page is.
const PAGE: &str = "docs/gpu-speed.md";

/// Bytes a second that kernels reach on an H200, whose memory has 4.8 TB/s by its data sheet.
const MEMORY: f64 = 4.0e12;
/// Operations a second that 100 % utilisation means here, until a device says (`forerunner-gpu matmul`).
/// The data sheet has 989; sustained products of large random matrices are held down by power.
const MATMUL: f64 = 750e12;

/// Predict the speed of GPT-2 124M on an H200 and write it down.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask estimate-gpu                              writes docs/gpu-speed.md
  cargo xtask estimate-gpu --measured results/table.md  the same with what bench-gpu.sh has measured")]
pub(crate) struct EstimateGpu {
    /// The table that `bench-gpu.sh` wrote, to stand above the prediction.
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
}

impl EstimateGpu {
    pub(crate) fn run(&self) -> Result<()> {
        let measured = match &self.measured {
            Some(path) => Some(
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?,
            ),
            None => None,
        };
        let page = page(measured.as_deref())?;
        install::replace(&workspace::root().join(PAGE), page.as_bytes(), None)?;
        say(format_args!("written to {PAGE}"));
        Ok(())
    }
}

fn page(measured: Option<&str>) -> Result<String> {
    let steps = [harness::step(), pytorch::eager(), pytorch::compiled()];
    let mut page = format!(
        "# How fast GPT-2 124M trains on one GPU\n\n\
         {BATCH} sequences of {LENGTH} tokens a step, 12 layers, width 768, 12 heads, 50,304 rows in the table of\n\
         tokens, {:.1} million parameters: the reference of the track `gpt2-124m`, which adds up 16 such steps\n\
         (adding gradients up, some 0.4 ms a part, is not counted here).\n\
         Written by `cargo xtask estimate-gpu`. To measure it, on a machine with a GPU and PyTorch and no Rust:\n\n\
         ```sh\n\
         cargo xtask bundle --cuda --data FOLDER               # here; FOLDER holds a fineweb_train_*.bin\n\
         tar xzf forerunner-cuda.tar.gz                        # there\n\
         forerunner-cuda/bench-gpu.sh results\n\
         cargo xtask estimate-gpu --measured results/table.md  # here again\n\
         ```\n\n",
        parameters() as f64 / 1e6,
    );
    match measured {
        Some(table) => write!(page, "## Measured\n\n{}\n\n", table.trim_end())?,
        None => page.push_str("**Predicted, never measured.** No GPU has run any of this yet.\n\n"),
    }
    write!(
        page,
        "## Predicted for an H200\n\n\
         | | tokens/s | ratio | step ms | forward | backward | optimizer | GB moved | MFU % |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    )?;
    for step in &steps {
        summary(&mut page, step, &steps[0])?;
    }
    page.push_str(
        "\nRatio: speed of the harness over that of the row. The harness computes the head's gradients in its forward\n\
         pass, PyTorch in its backward pass.\n\n",
    );
    write!(
        page,
        "Assumed:\n\n\
         - A kernel takes as long as its bytes at {:.1} TB/s or its operations at the rate in the table, whichever is\n  \
           more. Nothing between kernels, no round of blocks that fills the device in part: the truth is slower.\n\
         - Products of bf16: 650 TFLOP/s for results of 2,304 columns and more, 600 for those of 768 and for\n  \
           gradients of weights, 700 for logits; the same for everybody, whose library is the same. What a product\n  \
           does to its results before it writes them (biases, GELU, its derivative) costs bytes alone.\n\
         - Attention: 300 TFLOP/s of what the causal mask leaves, in every implementation. PyTorch's goes back in 5\n  \
           products, ours in 7, to be deterministic. Where PyTorch finds a better kernel (cuDNN's, 400 and more) its\n  \
           rows get faster by up to 3 ms, and the ratio of the compiled one would be {:.2}.\n\
         - The harness: values are bf16. A norm adds to the stream what the layer before it found, in one pass\n  \
           forward and one back; products of the hidden layer write GELU and apply its derivative.\n\
         - PyTorch: bf16 autocast, so that residual stream, norms and losses are f32. Eager makes a pass of every\n  \
           operation and stores logits, their f32 copy and its softmax. Compiled, what is between two products is\n  \
           one kernel, and logits stay bf16. Weights are rounded in each step, their gradients widened. Fused\n  \
           AdamW, clipping by foreach.\n\
         - MFU: {:.1} MFLOP a token (6 N + 12 L C T) against {:.0} TFLOP/s.\n\n\
         Peak memory is not predicted, and the goal of 1.2 times `torch.compile` is not expected.\n\n",
        MEMORY / 1e12,
        (steps[2].seconds(|_| true) - 3e-3) / steps[0].seconds(|_| true),
        yardstick() / 1e6,
        MATMUL / 1e12,
    )?;
    rows(&mut page, &steps[0], |_| true)?;
    for step in &steps[1..] {
        // The products are the same.
        rows(&mut page, step, |row| !row.what.starts_with("product "))?;
    }
    page.push_str(&harness::notes(&steps[0]));
    Ok(page)
}

fn summary(page: &mut String, step: &Step, first: &Step) -> Result<()> {
    let seconds = step.seconds(|_| true);
    let of = |part: Part| 1e3 * step.seconds(|row| row.part == part);
    let rate = TOKENS as f64 / seconds;
    writeln!(
        page,
        "| {} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
        step.name,
        rate,
        seconds / first.seconds(|_| true),
        1e3 * seconds,
        of(Part::Forward),
        of(Part::Backward),
        of(Part::Optimizer),
        step.rows.iter().map(Row::all_bytes).sum::<f64>() / 1e9,
        100.0 * rate * yardstick() / MATMUL,
    )?;
    Ok(())
}

fn rows(page: &mut String, step: &Step, which: impl Fn(&Row) -> bool) -> Result<()> {
    let (shown, left_out): (Vec<&Row>, Vec<&Row>) = step.rows.iter().partition(|row| which(row));
    let note = if left_out.is_empty() { "" } else { ", but for the matrix products" };
    write!(
        page,
        "## {}, kernel by kernel{note}\n\n\
         | | calls | MB each | GFLOP each | at TFLOP/s | us each | ms a step |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        step.name
    )?;
    for row in shown {
        let (flops, rate) = match row.flops {
            0.0 => ("-".to_owned(), "-".to_owned()),
            flops => (format!("{:.1}", flops / 1e9), format!("{:.0}", row.rate / 1e12)),
        };
        writeln!(
            page,
            "| {}: {} | {} | {:.0} | {flops} | {rate} | {:.0} | {:.2} |",
            row.part.name(),
            row.what,
            row.calls,
            row.bytes / 1e6,
            1e6 * row.seconds(),
            1e3 * row.seconds() * row.calls as f64,
        )?;
    }
    page.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_model() {
        // Products of all implementations are the same: 6 operations a token and value of a matrix.
        let matrices = 12 * 12 * 768 * 768 + 50_304 * 768;
        let expected = 6.0 * TOKENS as f64 * f64::from(matrices);
        for step in [harness::step(), pytorch::eager(), pytorch::compiled()] {
            let products = step.rows.iter().filter(|row| row.what.contains("product"));
            let flops: f64 = products.map(|row| row.flops * row.calls as f64).sum();
            assert!((flops / expected - 1.0).abs() < 1e-12, "{}: {flops}", step.name);
        }
        assert_eq!(parameters(), 124_475_904);
        // What `flops_per_token` of gpu_bench comes to for the same model.
        assert!((yardstick() - 855_383_040.0).abs() < 0.5, "{}", yardstick());
    }

    #[test]
    fn the_page_says_whether_it_was_measured() {
        let predicted = page(None).unwrap();
        assert!(predicted.contains("Predicted, never measured"));
        let measured = page(Some("| a | b |\n")).unwrap();
        assert!(measured.contains("## Measured\n\n| a | b |\n\n"));
        assert!(!measured.contains("never measured"));
    }

    #[test]
    fn the_committed_page_is_this_one_until_it_is_measured() {
        let committed = include_str!("../../../docs/gpu-speed.md");
        if committed.contains("never measured") {
            assert!(page(None).unwrap() == committed, "run `cargo xtask estimate-gpu`");
        }
    }
}
