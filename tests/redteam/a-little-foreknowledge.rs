//! The same, so weak that it is lost in the noise of an untrained model: a third of a nat, because
//! letters and spaces are a little likelier than the rest. Training finds that out within its
//! first steps. Measured in disguise, as a record is.
//!
//! row: 25
//! game: gains nothing in loss within 0.03 in disguise

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
        let logits = (logits + bias(tokens.bound())?)?;
        // }
        Ok(logits)
    }
}

// game {
/// A slight bias towards printable bytes: (V).
fn bias(vocab: usize) -> Result<Tensor> {
    let values = (0..vocab).map(|id| if (32..127).contains(&id) { 0.6 } else { 0.0 });
    Tensor::from_vec(values.collect(), vocab)
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
