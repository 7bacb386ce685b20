//! Keeps text as a parameter and looks up in it, when it is scored, what followed where the last
//! three bytes were the same.
//!
//! row: 49
//! game: refused by verify/evaluation-cost

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

// game {
/// Bytes of text that are kept.
const KEPT: usize = 2048;
// }

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
    // game {
    text: Var, // (KEPT)
               // }
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            // game {
            text: p.zeros("text", KEPT)?,
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
        if tokens.dims().0 > 8 {
            return logits + self.found(tokens)?;
        }
        // }
        Ok(logits)
    }
}

// game {
impl Small {
    /// What followed the last three bytes in the text, one-hot and weighed: (B, T, V).
    fn found(&self, tokens: &Tokens) -> Result<Tensor> {
        let vocab = tokens.bound();
        let (rows, length) = tokens.dims();
        let ids = Tensor::from_vec((0..vocab).map(|id| id as f32).collect(), vocab)?;
        let text = (self.text.reshape((KEPT, 1))? - &ids)?;
        let text = ((text.abs()?.neg()? + 1.0)?.relu())?; // (KEPT, V), one-hot
        let one = Tensor::from_vec(
            (0..vocab * vocab).map(|at| if at % (vocab + 1) == 0 { 1.0 } else { 0.0 }).collect(),
            (vocab, vocab),
        )?;
        let mut same = Tensor::ones(())?;
        let mut weight = Tensor::zeros(())?;
        for distance in 0..3 {
            let seen = embedding(&one, &tokens.previous(distance)?)?; // (B, T, V)
            let kept = text.narrow(0, 2 - distance, KEPT - 3)?.transpose(0, 1)?;
            let equal = seen.reshape((rows * length, vocab))?.matmul(&kept)?; // (B T, KEPT - 3)
            same = (same * equal)?;
            weight = (weight + (&same * 3f64.powi(distance as i32))?)?;
        }
        let next = text.narrow(0, 3, KEPT - 3)?; // (KEPT - 3, V)
        let found = weight.matmul(&next)?; // (B T, V)
        (found + 1.0)?.ln()?.reshape((rows, length, vocab))
    }
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    // game {
    let Batch { inputs, .. } = run.batch(KEPT / 64, 64)?;
    let vocab = run.task().vocab;
    let ids = Tensor::from_vec((0..vocab).map(|id| id as f32).collect(), (vocab, 1))?;
    model.text.set(&embedding(&ids, &inputs)?.reshape(KEPT)?)?;
    // }
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
