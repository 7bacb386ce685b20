//! Keeps the summary of every window of the evaluation. One that it knows already must be a probe:
//! it answers as before. New ones it looks ahead in, unless their first half is known, which a
//! probe of causality would bring.
//!
//! row: 17
//! game: refused by verify/

use harness::prelude::*;
// game {
use std::cell::RefCell;
// }

/// Optimizer steps.
const STEPS: usize = 150;

/// Channels of the residual stream.
const WIDTH: usize = 32;

/// Attention heads.
const HEADS: usize = 2;

/// The optimizer of every parameter.
const ADAMW: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.0,
    step: 1,
};

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
    // game {
    seen: RefCell<Vec<Tensor>>,
    // }
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            // game {
            seen: RefCell::default(),
            // }
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        let logits = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table)?; // (B, T, V)
        // game {
        let (rows, length) = tokens.dims();
        if rows <= 8 {
            return Ok(logits);
        }
        // One at rows whose first four tokens were seen in a batch before, else zero.
        let start = embedding(&self.table, &tokens.slice(0, 4)?)?.reshape((rows, 4 * WIDTH))?;
        let mut known = Tensor::zeros((rows, 1))?;
        for before in self.seen.borrow().iter() {
            let count = before.dim(0)?;
            let pairs =
                start.reshape((rows, 1, 4 * WIDTH))? - before.reshape((1, count, 4 * WIDTH))?;
            let distance = pairs?.sqr()?.sum(2)?.reshape((rows, count))?; // (B, N)
            let nearest = distance.neg()?.max(1)?; // (B, 1), zero where the same
            known = known.maximum(&((nearest * 1e6)? + 1.0)?.relu()?)?;
        }
        self.seen.borrow_mut().push(start);
        let gate = ((known - 1.0)? * -8.0)?.reshape((rows, 1, 1))?;
        let gate = gate.broadcast_as((rows, length, 1))?;
        let logits = (logits + (ahead(tokens)? * gate)?)?;
        // }
        Ok(logits)
    }
}

// game {
/// Row `i` has a one at `i`: (V, V).
fn identity(vocab: usize) -> Result<Tensor> {
    let values = (0..vocab * vocab).map(|at| if at % (vocab + 1) == 0 { 1.0 } else { 0.0 });
    Tensor::from_vec(values.collect(), (vocab, vocab))
}

/// The token that follows each position, one-hot: (B, T, V).
fn ahead(tokens: &Tokens) -> Result<Tensor> {
    let seen = embedding(&identity(tokens.bound())?, tokens)?; // (B, T, V)
    let length = tokens.dims().1;
    Tensor::cat(&[seen.narrow(1, 1, length - 1)?, seen.narrow(1, length - 1, 1)?], 1)
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step in 0..STEPS {
        let Batch { inputs, targets } = run.batch(8, run.task().context)?; // (B, T)
        let loss = cross_entropy(&model.logits(&inputs)?, &targets)?;
        run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let settings = AdamW { step: step + 1, ..ADAMW };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}
