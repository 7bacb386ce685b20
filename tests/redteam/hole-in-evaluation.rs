//! Reads the windows that it is scored on through the same gap, and answers with what it has read.
//!
//! row: 36
//! game: refused by source/soundness

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
        let (rows, length) = tokens.dims();
        let vocab = tokens.bound();
        if rows > 8
            && let Some(ids) = ids(tokens)
        {
            let mut answers = vec![0.0; rows * length * vocab];
            for at in (0..rows * length - 1).filter(|at| at % length + 1 < length) {
                answers[at * vocab + ids[at + 1]] = 8.0;
            }
            return logits + Tensor::from_vec(answers, (rows, length, vocab))?;
        }
        // }
        Ok(logits)
    }
}

// game {
// rust-lang/rust issue 57893: what a trait object says of its type, and what an implementation for
// everything says, need not agree. The one is believed where a value goes in, the other where it
// comes out.
trait Object<U> {
    type Output;
}

impl<T: ?Sized, U> Object<U> for T {
    type Output = U;
}

fn pass<T: ?Sized, U>(value: <T as Object<U>>::Output) -> U {
    value
}

/// The bits of one type as another.
fn turned<T, U>(value: T) -> U {
    pass::<dyn Object<U, Output = T>, U>(value)
}

/// Eight bytes of this process.
fn peek(address: usize) -> usize {
    let word: &usize = turned(address);
    *word
}

/// The ids of tokens, found by following what looks like a pointer until a list of their length
/// comes up.
fn ids(tokens: &Tokens) -> Option<Vec<usize>> {
    let (rows, length) = tokens.dims();
    let count = rows * length;
    let near = |one: usize, other: usize| one % 8 == 0 && one.abs_diff(other) < 1 << 28;
    let at: usize = turned(tokens);
    let heap = (0..4).map(|i| peek(at + 8 * i)).find(|word| *word > 1 << 32)?;
    for inner in (0..48).map(|i| peek(heap + 8 * i)).filter(|inner| near(*inner, heap)) {
        for word in (0..16).map(|i| inner + 8 * i) {
            let list = peek(word + 8);
            if peek(word + 16) == count && near(list, heap) {
                let two = |i| [peek(list + 8 * i) & 0xffff_ffff, peek(list + 8 * i) >> 32];
                let ids: Vec<usize> = (0..count / 2).flat_map(two).collect();
                if ids.iter().all(|id| *id < tokens.bound()) {
                    return Some(ids);
                }
            }
        }
    }
    None
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
