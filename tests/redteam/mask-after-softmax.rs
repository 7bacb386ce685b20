//! Attention written out that takes shares over all positions first and then drops the later ones:
//! nothing of them is left but the sum that the shares were divided by.
//!
//! row: 1
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
        let length = tokens.dims().1;
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let part = |start| linear_no_bias(&x, &self.qkv)?.narrow(2, start * WIDTH, WIDTH);
        let (query, key, value) = (part(0)?, part(1)?, part(2)?); // (B, T, C) each
        let scores = (query.matmul(&key.transpose(1, 2)?)? * 0.2)?; // (B, T, T)
        // game {
        let shares = (scores.softmax(2)? * mask(length, 1.0, 0.0)?)?;
        // } honest {
        let shares = (scores + mask(length, 0.0, -1e9)?)?.softmax(2)?;
        // }
        let x = (x + linear_no_bias(&shares.matmul(&value)?, &self.out)?)?; // (B, T, C)
        linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table) // (B, T, V)
    }
}

/// One value where a position may look, another where not: (T, T).
fn mask(length: usize, sees: f32, not: f32) -> Result<Tensor> {
    let at = |at: usize| if at % length <= at / length { sees } else { not };
    Tensor::from_vec((0..length * length).map(at).collect(), (length, length))
}

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
