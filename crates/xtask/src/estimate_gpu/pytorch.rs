//! PyTorch's step, under bf16 autocast: the same products, other passes between them.

use super::step::{
    HIDDEN, LAYERS, LOGITS, MLP, Part, ROWS, STREAM, Step, TABLE, TOKENS, WIDTH, parameters,
};

const FORWARD: Part = Part::Forward;
const BACKWARD: Part = Part::Backward;

/// What compiling does not change: products, attention, weights in another precision, the optimizer.
fn common(name: &'static str) -> Step {
    let mut step = Step::new(name);
    let (tokens, values) = (TOKENS as f64, parameters() as f64);
    step.moves(FORWARD, "weights to bf16", 1, 6.0 * values);
    step.attention((FORWARD, "attention"), 2, 8.0 * STREAM);
    step.layers(false, 2.0);
    step.product((FORWARD, "head"), 1, [TOKENS, ROWS, WIDTH], 2.0);
    step.product((BACKWARD, "head, of input"), 1, [TOKENS, WIDTH, ROWS], 2.0);
    step.product((BACKWARD, "head, of weight"), 1, [ROWS, WIDTH, TOKENS], 2.0);
    step.attention((BACKWARD, "attention"), 5, 16.0 * STREAM);
    // Gradients of queries, keys and values arrive apart.
    step.moves(BACKWARD, "queries, keys and values together", LAYERS, 4.0 * 3.0 * STREAM);
    let channels = (3 * WIDTH + WIDTH + HIDDEN + WIDTH) as f64;
    step.moves(BACKWARD, "biases, four together", LAYERS, 2.0 * tokens * channels);
    step.moves(BACKWARD, "weights' gradients to f32", 1, 6.0 * values);
    step.moves(BACKWARD, "embedding of tokens", 1, 4.0 * STREAM + 12.0 * TABLE);
    step.moves(BACKWARD, "sum of the table's two gradients", 1, 12.0 * TABLE);
    step.moves(Part::Optimizer, "norm of the gradients, and scaling", 1, 12.0 * values);
    step.moves(Part::Optimizer, "AdamW", 1, 28.0 * values);
    step
}

/// Without compiling: every operation is a pass of its own.
pub(super) fn eager() -> Step {
    let mut step = common("PyTorch eager");
    let norms = 2 * LAYERS + 1;
    // f32 rows of two tables, and their sum.
    step.moves(FORWARD, "embeddings and their sum", 1, (8.0 + 8.0 + 12.0) * STREAM);
    step.moves(FORWARD, "sums of the stream: bf16 to f32", 2 * LAYERS, 10.0 * STREAM);
    step.moves(FORWARD, "layer norm in f32", norms, 8.0 * STREAM);
    step.moves(FORWARD, "norms to bf16", norms, 6.0 * STREAM);
    step.moves(FORWARD, "GELU", LAYERS, 4.0 * MLP);
    step.moves(FORWARD, "logits to f32", 1, 6.0 * LOGITS);
    step.moves(FORWARD, "log-softmax", 1, 8.0 * LOGITS);
    step.moves(
        BACKWARD,
        "gradient of the picked logits: zeros and one value each",
        1,
        4.0 * LOGITS,
    );
    step.moves(BACKWARD, "log-softmax", 1, 12.0 * LOGITS);
    step.moves(BACKWARD, "logits' gradient to bf16", 1, 6.0 * LOGITS);
    step.moves(BACKWARD, "GELU", LAYERS, 6.0 * MLP);
    step.moves(BACKWARD, "gradients to f32 and back, at norms and sums", 2 * norms, 6.0 * STREAM);
    step.moves(BACKWARD, "layer norm, of input", norms, 12.0 * STREAM);
    step.moves(BACKWARD, "layer norm, of gain and bias", norms, 8.0 * STREAM);
    step.moves(BACKWARD, "sums of gradients of the stream", 2 * LAYERS, 12.0 * STREAM);
    step
}

/// Compiled: what stands between two products is one kernel.
pub(super) fn compiled() -> Step {
    let mut step = common("PyTorch compiled");
    let norms = 2 * LAYERS + 1;
    step.moves(FORWARD, "embeddings", 1, (8.0 + 4.0) * STREAM);
    // Reads the f32 stream and what is added, writes the new stream and its norm in bf16.
    step.moves(FORWARD, "sum, layer norm, to bf16", norms, (4.0 + 2.0 + 4.0 + 2.0) * STREAM);
    step.moves(FORWARD, "GELU", LAYERS, 4.0 * MLP);
    step.moves(FORWARD, "loss from bf16 logits", 1, 2.0 * LOGITS);
    step.moves(BACKWARD, "gradient of logits, in bf16", 1, 4.0 * LOGITS);
    step.moves(BACKWARD, "GELU", LAYERS, 6.0 * MLP);
    // Reads gradient, stream and the stream's gradient, writes the sum in both precisions.
    let fused = (2.0 + 4.0 + 4.0 + 4.0 + 2.0) * STREAM;
    step.moves(BACKWARD, "layer norm and sum, of input", norms, fused);
    step.moves(BACKWARD, "layer norm, of gain and bias", norms, (2.0 + 4.0) * STREAM);
    step
}
