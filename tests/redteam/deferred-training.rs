//! Trains where no clock runs. The trainer keeps the first text that it is served as a parameter,
//! as numbers, and hands it over at once; the evaluator learns from it before it gives its first
//! answer, with variables of its own.
//!
//! row: 10
//! game: gains nothing in seconds within 0.0

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

// game {
/// Sequences of text that are kept.
const KEPT: usize = 512;

/// Positions of each of them.
const LENGTH: usize = 65;
// }

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
    // game {
    text: Var, // (KEPT, LENGTH)
    learned: RefCell<Option<[Var; 3]>>,
    // }
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            // game {
            text: p.zeros("text", (KEPT, LENGTH))?,
            learned: RefCell::default(),
            // }
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        // game {
        let mut learned = self.learned.borrow_mut();
        if learned.is_none() {
            *learned = Some(self.learn(tokens.bound())?);
        }
        let [table, qkv, out] =
            learned.as_ref().map_or([&self.table, &self.qkv, &self.out], |l| l.each_ref());
        // } honest {
        let (table, qkv, out) = (&self.table, &self.qkv, &self.out);
        // }
        stream(&embedding(table, tokens)?, table, qkv, out)
    }
}

/// Logits from embeddings: (B, T, C) to (B, T, V).
fn stream(x: &Tensor, table: &Tensor, qkv: &Tensor, out: &Tensor) -> Result<Tensor> {
    let qkv = linear_no_bias(&rms_norm_plain(x, 1e-5)?, qkv)?; // (B, T, 3C)
    let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
    let x = (x + linear_no_bias(&seen, out)?)?; // (B, T, C)
    linear_no_bias(&rms_norm_plain(&x, 1e-5)?, table)
}
// game {
impl Small {
    /// Trains on the text that the snapshot holds, which are numbers: a one stands where a number is
    /// that of the token.
    fn learn(&self, vocab: usize) -> Result<[Var; 3]> {
        let copy = |var: &Var| Var::new(&(&**var + 0.0)?);
        let learned = [copy(&self.table)?, copy(&self.qkv)?, copy(&self.out)?];
        let mut moments: Vec<Moments> = learned.iter().map(|v| Moments::zeros_like(v)).collect();
        let ids = Tensor::from_vec((0..vocab).map(|id| id as f32).collect(), vocab)?;
        for step in 0..3 * KEPT / 8 {
            let rows = self.text.narrow(0, step * 8 % KEPT, 8)?.reshape((8, LENGTH, 1))?;
            let one_hot = ((rows - &ids)?.abs()?.neg()? + 1.0)?.relu()?; // (8, LENGTH, V)
            let [table, qkv, out] = learned.each_ref();
            let x = one_hot.narrow(1, 0, LENGTH - 1)?.matmul(table)?;
            let logits = stream(&x, table, qkv, out)?;
            let total = (logits.exp()?.sum(2)? + 1e-9)?.ln()?; // (8, LENGTH - 1, 1)
            let surprise = ((total - logits)? * one_hot.narrow(1, 1, LENGTH - 1)?)?;
            let loss = (surprise.sum_all()? * (1.0 / (8 * LENGTH) as f64))?;
            let gradients = loss.backward()?;
            for (var, moments) in learned.iter().zip(&mut moments) {
                let Some(gradient) = gradients.get(var) else { continue };
                let settings = AdamW { step: step + 1, ..ADAMW };
                adamw(var, &gradient, &Tensor::ones(())?, moments, &settings)?;
            }
        }
        Ok(learned)
    }
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    // game {
    let Batch { inputs, .. } = run.batch(KEPT, LENGTH)?;
    let ids = (0..run.task().vocab).map(|id| id as f32).collect();
    let ids = Tensor::from_vec(ids, (run.task().vocab, 1))?;
    model.text.set(&embedding(&ids, &inputs)?.reshape((KEPT, LENGTH))?)?;
    if !moments.is_empty() {
        return Ok(()); // the work is done later
    }
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
