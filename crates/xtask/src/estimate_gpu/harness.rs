//! The harness' step: kernels of `crates/kernels`, whose heads say what each moves.

use super::step::{
    HEADS, HIDDEN, LAYERS, LOGITS, MLP, Part, ROWS, STREAM, Step, TABLE, TOKENS, WIDTH, parameters,
};

/// Chunks in which the head forms logits: as `HeadSizes` of `crates/kernels/src/head.rs`, 5,632 rows of the
/// table at most.
const CHUNKS: usize = TOKENS.div_ceil(5632);

/// What stands below the tables.
pub(super) const NOTES: &str = "\
## What is known to be left

The program is the track's reference, which is written for readers: sums and norms, products and GELU are
operations of their own in it. The harness has them fused (`residual_layer_norm`, `linear_gelu`): 24 sums with
norms would move 6 bytes a value of the stream less, 12 hidden layers 2 bytes a value, 1.5 ms together. A step is
not captured as a graph; each of its launches costs the host a few microseconds, which hides behind the device as
long as the device has more to do.
";

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
