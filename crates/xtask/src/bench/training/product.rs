//! Matrix products and nothing else, as a NanoGPT program: what the core could do at most.
//!
//! Between two requests for tokens lies one round of products, so that the supervisor can time each
//! round by the process's CPU clock.

use harness::prelude::*;

/// Rounds of products; the best counts.
const ROUNDS: usize = 40;

/// Products in a round.
const PRODUCTS: usize = 4;

/// Rows, inner dimension and columns of a product: everything fits an L2 cache, and the inner
/// dimension is so long that writing the result does not matter.
const ROWS: usize = 256;
const INNER: usize = 512;
const COLUMNS: usize = 256;

struct Product {
    weight: Var, // (COLUMNS, INNER)
}

impl Model for Product {
    fn new(p: &mut Params, _task: &Task) -> Result<Self> {
        Ok(Self { weight: p.normal("weight", (COLUMNS, INNER), 1.0)? })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        embedding(&self.weight, tokens) // never asked for
    }
}

fn train(model: &Product, _params: &Params, run: &mut Training) -> Result<()> {
    let left = Tensor::full(0.5, (ROWS, INNER))?;
    for _ in 0..ROUNDS {
        run.batch(1, 1)?;
        for _ in 0..PRODUCTS {
            linear_no_bias(&left, &model.weight)?; // (ROWS, COLUMNS)
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Product>(train)
}
