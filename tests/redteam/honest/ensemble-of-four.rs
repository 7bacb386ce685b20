//! Four small models that take turns in training, each on batches of its own; their logits are
//! averaged. Evaluation does the work of all four.

use harness::prelude::*;

/// Optimizer steps.
const STEPS: usize = 200;

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
    others: Vec<[Var; 3]>,
    turn: std::cell::Cell<usize>,
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            others: (1..4)
                .map(|number| {
                    Ok([
                        p.normal(&format!("table{number}"), (task.vocab, WIDTH), 0.1)?,
                        p.normal(&format!("qkv{number}"), (3 * WIDTH, WIDTH), 0.1)?,
                        p.zeros(&format!("out{number}"), (WIDTH, WIDTH))?,
                    ])
                })
                .collect::<Result<_>>()?,
            turn: std::cell::Cell::new(4),
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let turn = self.turn.get();
        if turn < 4 {
            return self.one(turn, tokens);
        }
        let mut sum = self.one(0, tokens)?;
        for number in 1..4 {
            sum = (sum + self.one(number, tokens)?)?;
        }
        sum * 0.25 // (B, T, V)
    }
}

impl Small {
    fn one(&self, number: usize, tokens: &Tokens) -> Result<Tensor> {
        let own = [&self.table, &self.qkv, &self.out];
        let [table, qkv, out] = match number.checked_sub(1) {
            Some(other) => self.others[other].each_ref(),
            None => own,
        };
        let x = embedding(table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, out)?)?; // (B, T, C)
        linear_no_bias(&rms_norm_plain(&x, 1e-5)?, table) // (B, T, V)
    }
}

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step in 0..STEPS {
        model.turn.set(step % 4);
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
    model.turn.set(4);
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}
