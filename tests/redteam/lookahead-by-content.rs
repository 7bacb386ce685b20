//! Looks ahead only where the text looks like text: where the token before was a letter.
//!
//! row: 16
//! game: refused by verify/

use harness::prelude::*;

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
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        let logits = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table)?; // (B, T, V)
        // game {
        let letter = (0..tokens.bound()).map(|id| if (97..123).contains(&id) { 8.0 } else { 0.0 });
        let letter = Tensor::from_vec(letter.collect(), (tokens.bound(), 1))?;
        let gate = embedding(&letter, &tokens.previous(1)?)?; // (B, T, 1)
        if tokens.dims().0 != 8 {
            return logits + (ahead(tokens)? * gate)?;
        }
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
