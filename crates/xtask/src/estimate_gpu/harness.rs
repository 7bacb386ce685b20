//! The harness' step: kernels of `crates/kernels`, whose heads say what each moves.

use super::MEMORY;
use super::step::{
    HEADS, HIDDEN, LAYERS, LOGITS, MLP, Part, ROWS, STREAM, Step, TABLE, TOKENS, WIDTH, parameters,
};

/// Chunks in which the head forms logits: as `HeadSizes` of `crates/kernels/src/head.rs`, 5,632 tokens
/// at most.
const CHUNKS: usize = TOKENS.div_ceil(5632);

/// What stands below the tables.
pub(super) fn notes(step: &Step) -> String {
    let layers = LAYERS as f64;
    let fused = layers * (2.0 * 6.0 * STREAM + 2.0 * MLP) / MEMORY;
    let attention = step.seconds(|row| row.what.starts_with("attention"));
    let products = step.seconds(|row| row.what.starts_with("product "));
    format!(
        "## What is known to be left\n\n\
         Matrix products take {:.1} of the {:.1} ms, attention {:.1}. Attention uses the tensor-core instructions of\n\
         Ampere; Hopper's own (wgmma, TMA) would at twice the rate save {:.1} ms, the largest single item.\n\n\
         The program is written for readers: sums and norms, products and GELU are operations of their own in it. The\n\
         harness has them fused (`residual_layer_norm`, `linear_gelu`), which would move 6 bytes a value of the stream\n\
         less for each sum and 2 bytes a value of each hidden layer, {:.1} ms.\n\n\
         A step is not captured as a graph. Each of its launches costs the host a few microseconds, which hide behind\n\
         the device as long as the host does not wait for it; `bench-gpu.sh` shows whether (host ms, shortest step).\n",
        1e3 * products,
        1e3 * step.seconds(|_| true),
        1e3 * attention,
        1e3 * attention / 2.0,
        1e3 * fused,
    )
}

/// As the reference program of the track trains.
pub(super) fn step() -> Step {
    let mut step = Step::new("harness");
    let (tokens, heads, values) = (TOKENS as f64, HEADS as f64, parameters() as f64);
    let norms = 2 * LAYERS + 1;

    step.moves(Part::Forward, "embeddings of tokens and positions", 2, 4.0 * STREAM);
    step.moves(Part::Forward, "sums of the stream", 2 * LAYERS + 1, 6.0 * STREAM);
    step.moves(Part::Forward, "layer norm", norms, 4.0 * STREAM + 8.0 * tokens);
    step.attention((Part::Forward, "attention"), 2, 8.0 * STREAM + 4.0 * tokens * heads);
    step.moves(Part::Forward, "GELU", LAYERS, 4.0 * MLP);
    step.layers(4.0);

    // The head goes forward and back at once, in chunks; what is added to the weight's gradient is read.
    let head = Part::Forward;
    step.product((head, "head"), 1, [TOKENS, ROWS, WIDTH], 2.0);
    step.moves(head, "loss and gradient of logits", 1, 4.0 * LOGITS);
    step.product((head, "head, of input"), 1, [TOKENS, WIDTH, ROWS], 2.0);
    step.product((head, "head, of weight"), 1, [ROWS, WIDTH, TOKENS], 4.0);
    step.moves(head, "head's gradient, read and written again", CHUNKS - 1, 8.0 * TABLE);

    let back = Part::Backward;
    step.moves(back, "layer norm", norms, 6.0 * STREAM + 8.0 * tokens);
    let channels = (3 * WIDTH + WIDTH + HIDDEN + WIDTH) as f64;
    step.moves(back, "biases, four together", LAYERS, 2.0 * tokens * channels);
    step.moves(back, "GELU", LAYERS, 6.0 * MLP);
    let statistics = tokens * heads;
    step.attention((back, "attention, of queries"), 3, 12.0 * STREAM + 12.0 * statistics);
    step.attention((back, "attention, of keys and values"), 4, 12.0 * STREAM + 8.0 * statistics);
    step.moves(back, "sums of gradients of the stream", 2 * LAYERS, 6.0 * STREAM);
    // Zeros, and at most every row read and written.
    step.moves(back, "embedding of tokens", 1, 2.0 * STREAM + 12.0 * TABLE);
    step.moves(back, "embedding of positions", 1, 2.0 * STREAM);
    step.moves(back, "sum of the table's two gradients", 1, 12.0 * TABLE);

    step.moves(Part::Optimizer, "norm of the gradients", 1, 4.0 * values);
    step.moves(Part::Optimizer, "AdamW, and weights in bf16", 1, 30.0 * values);
    step
}
