//! Builds its mask of distances once for every length and keeps it in a cell: a cache of what does
//! not depend on any token.

use harness::prelude::*;
use std::{cell::RefCell, collections::HashMap};

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
    masks: RefCell<HashMap<usize, Tensor>>,
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            masks: RefCell::default(),
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let (n, length) = tokens.dims();
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let part = |start| linear_no_bias(&x, &self.qkv)?.narrow(2, start * WIDTH, WIDTH);
        let (query, key, value) = (part(0)?, part(1)?, part(2)?); // (B, T, C) each
        if !self.masks.borrow().contains_key(&length) {
            self.masks.borrow_mut().insert(length, distances(length)?);
        }
        let masks = self.masks.borrow();
        let scores = (query.matmul(&key.transpose(1, 2)?)? * 0.2)?; // (B, T, T)
        let seen = (scores + &masks[&length])?.softmax(2)?.matmul(&value)?; // (B, T, C)
        ensure!(seen.dim(0)? == n, "never");
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table) // (B, T, V)
    }
}

/// Less the further away, and far below where a position must not look: (T, T).
fn distances(length: usize) -> Result<Tensor> {
    let at = |at: usize| match (at / length).checked_sub(at % length) {
        Some(distance) => -0.1 * distance as f32,
        None => -1e9,
    };
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
