//! The harness' step: kernels of `crates/kernels`, whose heads say what each moves.

use super::step::{
    HEADS, HIDDEN, LAYERS, LOGITS, Part, ROWS, STREAM, Step, TABLE, TOKENS, WIDTH, parameters,
};

/// Chunks in which the head forms logits: as `HeadSizes` of `crates/kernels/src/head.rs`, 5,632 tokens
/// at most.
const CHUNKS: usize = TOKENS.div_ceil(5632);

/// A pass that is known to be left.
const BIASES: &str = "biases, four together";

/// What stands below the tables.
pub(super) fn notes(step: &Step) -> String {
    let attention = step.seconds(|row| row.what.starts_with("attention"));
    let products = step.seconds(|row| row.what.starts_with("product "));
    let biases = step.seconds(|row| row.what == BIASES);
    format!(
        "## What is known to be left\n\n\
         Matrix products take {:.1} of the {:.1} ms, attention {:.1}. Attention uses the tensor-core instructions of\n\
         Ampere; Hopper's own (wgmma, TMA) would at twice the rate save {:.1} ms, the largest single item.\n\n\
         Gradients of biases are sums in passes of their own, {:.1} ms; cublasLt can form them in the products that find\n\
         gradients of weights, which is not used.\n\n\
         The reference does not capture its step as a graph; the bench measures it with [captured steps](cuda.md#graphs)\n\
         as well. Each launch costs the host a few microseconds, which hide behind the device as long as the host does\n\
         not wait for it; `bench-gpu.sh` shows whether (host ms, shortest step).\n",
        1e3 * products,
        1e3 * step.seconds(|_| true),
        1e3 * attention,
        1e3 * attention / 2.0,
        1e3 * biases,
    )
}

/// As the reference program of the track trains.
pub(super) fn step() -> Step {
    let mut step = Step::new("harness");
    let (tokens, heads, values) = (TOKENS as f64, HEADS as f64, parameters() as f64);

    step.moves(Part::Forward, "embeddings of tokens and positions", 2, 4.0 * STREAM);
    // Reads the stream and what is added, writes the sum and its norm; the first sum is that of the
    // embeddings.
    let both = 8.0 * STREAM + 8.0 * tokens;
    step.moves(Part::Forward, "sum of the stream and layer norm", 2 * LAYERS + 1, both);
    step.attention((Part::Forward, "attention"), 2, 8.0 * STREAM + 4.0 * tokens * heads);
    step.layers(true, 4.0);

    // The head goes forward and back at once, in chunks; what is added to the weight's gradient is read.
    let head = Part::Forward;
    step.product((head, "head"), 1, [TOKENS, ROWS, WIDTH], 2.0);
    step.moves(head, "loss and gradient of logits", 1, 4.0 * LOGITS);
    step.product((head, "head, of input"), 1, [TOKENS, WIDTH, ROWS], 2.0);
    step.product((head, "head, of weight"), 1, [ROWS, WIDTH, TOKENS], 4.0);
    step.moves(head, "head's gradient, read and written again", CHUNKS - 1, 8.0 * TABLE);

    let back = Part::Backward;
    step.moves(back, "head's gradients, times the part's share", 1, 8.0 * TABLE + 4.0 * STREAM);
    // Nobody else reads the last sum; the others have a gradient from the stream as well, which is added.
    step.moves(back, "last layer norm", 1, 6.0 * STREAM + 8.0 * tokens);
    step.moves(back, "layer norm and sum of the stream", 2 * LAYERS, both);
    let channels = (3 * WIDTH + WIDTH + HIDDEN + WIDTH) as f64;
    step.moves(back, BIASES, LAYERS, 2.0 * tokens * channels);
    let statistics = tokens * heads;
    step.attention((back, "attention, of queries"), 3, 12.0 * STREAM + 12.0 * statistics);
    step.attention((back, "attention, of keys and values"), 4, 12.0 * STREAM + 8.0 * statistics);
    // Zeros, and at most every row read and written.
    step.moves(back, "embedding of tokens", 1, 2.0 * STREAM + 12.0 * TABLE);
    step.moves(back, "embedding of positions", 1, 2.0 * STREAM);
    step.moves(back, "sum of the table's two gradients", 1, 12.0 * TABLE);

    step.moves(Part::Optimizer, "norm of the gradients", 1, 4.0 * values);
    step.moves(Part::Optimizer, "AdamW, and weights in bf16", 1, 30.0 * values);
    step
}
