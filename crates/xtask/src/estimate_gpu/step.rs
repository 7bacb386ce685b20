//! A training step as a list of kernels, and what all implementations have in common.

use super::MEMORY;

// GPT-2 124M, and the batch of the bench.
pub(super) const BATCH: usize = 32;
pub(super) const LENGTH: usize = 1024;
pub(super) const TOKENS: usize = BATCH * LENGTH;
pub(super) const LAYERS: usize = 12;
pub(super) const HEADS: usize = 12;
pub(super) const WIDTH: usize = 768;
pub(super) const HIDDEN: usize = 4 * WIDTH;
pub(super) const ROWS: usize = 50_304;

/// Values of the residual stream.
pub(super) const STREAM: f64 = (TOKENS * WIDTH) as f64;
/// Values of an MLP's hidden layer.
pub(super) const MLP: f64 = (TOKENS * HIDDEN) as f64;
/// Values of all logits.
pub(super) const LOGITS: f64 = TOKENS as f64 * ROWS as f64;
/// Values of the table of tokens.
pub(super) const TABLE: f64 = (ROWS * WIDTH) as f64;

/// Operations a second of attention's products.
pub(super) const ATTENTION: f64 = 300e12;
/// Operations a second of a matrix product, by its shape.
const WIDE: f64 = 650e12;
const NARROW: f64 = 600e12;
const OF_LOGITS: f64 = 700e12;

/// Where in a step a kernel runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Forward,
    Backward,
    Optimizer,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Optimizer => "optimizer",
        }
    }
}

/// A kernel of a step.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) part: Part,
    pub(super) what: String,
    pub(super) calls: usize,
    /// Bytes read and written by one call.
    pub(super) bytes: f64,
    /// Operations of one call's products.
    pub(super) flops: f64,
    /// Operations a second.
    pub(super) rate: f64,
}

impl Row {
    /// Seconds of one call.
    pub(super) fn seconds(&self) -> f64 {
        let computing = if self.flops > 0.0 { self.flops / self.rate } else { 0.0 };
        computing.max(self.bytes / MEMORY)
    }

    /// Bytes of all calls.
    pub(super) fn all_bytes(&self) -> f64 {
        self.bytes * self.calls as f64
    }
}

/// A step of one implementation.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) rows: Vec<Row>,
}

impl Step {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, rows: Vec::new() }
    }

    /// A kernel bound by memory.
    pub(super) fn moves(&mut self, part: Part, what: &str, calls: usize, bytes: f64) {
        let what = what.to_owned();
        self.rows.push(Row { part, what, calls, bytes, flops: 0.0, rate: 1.0 });
    }

    /// The product of `m x k` and `k x n`, whose results have so many bytes.
    pub(super) fn product(
        &mut self,
        (part, what): (Part, &str),
        calls: usize,
        [m, n, k]: [usize; 3],
        result: f64,
    ) {
        let [m_, n_, k_] = [m, n, k].map(|side| side as f64);
        let rate = match (m.max(n), n) {
            (ROWS, _) if m == TOKENS => OF_LOGITS,
            (ROWS, _) => WIDE,
            _ if k == TOKENS => NARROW,
            (_, 2304..) => WIDE,
            _ => NARROW,
        };
        self.rows.push(Row {
            part,
            what: format!("product {what} ({m} x {n} x {k})"),
            calls,
            bytes: 2.0 * (m_ * k_ + k_ * n_) + result * m_ * n_,
            flops: 2.0 * m_ * n_ * k_,
            rate,
        });
    }

    /// Attention with so many products over the keys that positions see.
    pub(super) fn attention(&mut self, (part, what): (Part, &str), products: usize, bytes: f64) {
        let seen = (LENGTH + 1) as f64 / 2.0;
        let width = (WIDTH / HEADS) as f64;
        let product = 2.0 * (BATCH * HEADS * LENGTH) as f64 * seen * width;
        let (what, calls, flops) = (what.to_owned(), LAYERS, products as f64 * product);
        self.rows.push(Row { part, what, calls, bytes, flops, rate: ATTENTION });
    }

    /// Seconds of some of the kernels.
    pub(super) fn seconds(&self, which: impl Fn(&Row) -> bool) -> f64 {
        let rows = self.rows.iter().filter(|row| which(row));
        rows.map(|row| row.seconds() * row.calls as f64).sum()
    }

    /// The products of all layers and their gradients; weights' gradients have so many bytes. With `gelu`,
    /// the MLP's first product writes GELU and what it is taken of, 2 bytes a value each, and the product
    /// that goes back to there reads the latter and applies the derivative.
    pub(super) fn layers(&mut self, gelu: bool, of_weights: f64) {
        let shapes = [
            ("qkv", 3 * WIDTH, WIDTH),
            ("attention out", WIDTH, WIDTH),
            ("MLP in", HIDDEN, WIDTH),
            ("MLP out", WIDTH, HIDDEN),
        ];
        for (what, outputs, inputs) in shapes {
            let (what, bytes) = match what {
                "MLP in" if gelu => ("MLP in, and GELU", 4.0),
                _ => (what, 2.0),
            };
            self.product((Part::Forward, what), LAYERS, [TOKENS, outputs, inputs], bytes);
        }
        for (what, outputs, inputs) in shapes {
            let (mut of_input, of_weight) =
                (format!("{what}, of input"), format!("{what}, of weight"));
            let mut bytes = 2.0;
            if gelu && what == "MLP out" {
                (of_input, bytes) = ("MLP out, of input and GELU".to_owned(), 4.0);
            }
            let part = Part::Backward;
            self.product((part, &of_input), LAYERS, [TOKENS, inputs, outputs], bytes);
            self.product((part, &of_weight), LAYERS, [outputs, inputs, TOKENS], of_weights);
        }
    }
}

/// Parameters of the model.
pub(super) fn parameters() -> usize {
    let block = 12 * WIDTH * WIDTH + 13 * WIDTH;
    (ROWS + LENGTH) * WIDTH + LAYERS * block + 2 * WIDTH
}

/// Operations of training on a token by the usual yardstick, as `gpu_bench` has it.
pub(super) fn yardstick() -> f64 {
    let in_products = parameters() - LENGTH * WIDTH;
    (6 * in_products + 12 * LAYERS * WIDTH * LENGTH) as f64
}
