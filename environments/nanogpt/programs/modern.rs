//! A GPT of 124 million parameters in the style of 2024, trained with Muon: what is publicly known to
//! carry over to one GPU, for the track `gpt2-124m`.
//!
//! Rotary positions, normalised queries and keys, norms without gains, squared ReLU, no biases,
//! projections into the stream that start at zero, capped logits; Muon for the matrices of the blocks and Adam for
//! the table of tokens; a level learning rate with a linear cool-down. All of it from the NanoGPT
//! speedrun's records of October and November 2024 (Jordan et al., github.com/KellerJordan/modded-nanogpt) and the
//! papers named beside each part; rates and steps follow its record `ModernArch`. The program has not
//! been trained to its end on this harness yet.
//!
//! Left out: an untied head, which would be 38 million parameters more than the track allows.
//!
//! Read it from top to bottom: settings, model, optimizer, schedule, training loop. Measure it:
//!
//! ```text
//! forerunner evaluate environments/nanogpt/programs/modern.rs --environment nanogpt \
//!     --track gpt2-124m --timeout 60000
//! ```
//!
//! A line `tune:` closes the description of every constant that a search may change: the scale, then
//! the range or the choices.

use harness::prelude::*;

// ------------------------------------------------------------------------------------- settings

/// Optimizer steps in the whole training: 2.7 billion tokens.
///
/// tune: log 1000 20000
const STEPS: usize = 5100;

/// Sequences in a batch: half a million tokens.
///
/// tune: choice 128 256 512
const BATCH: usize = 512;

/// Sequences that are worked on at a time; gradients of the parts of a batch are added up.
///
/// tune: choice 16 32 64
const PART: usize = 32;

/// Positions of a training sequence.
const LENGTH: usize = 1024;

/// Channels of the residual stream.
const WIDTH: usize = 768;

/// Transformer blocks.
///
/// tune: int 8 12
const LAYERS: usize = 12;

/// Attention heads in a block; they share the channels evenly, 128 for each.
///
/// tune: choice 6 12
const HEADS: usize = 6;

/// Width of the hidden layer of an MLP, in widths of the residual stream.
///
/// tune: int 2 4
const MLP_RATIO: usize = 4;

/// The table of tokens has a multiple of so many rows, because matrix units like even sizes: 50,304
/// for a vocabulary of 50,257. The rows beyond it stand for no token.
const VOCAB_MULTIPLE: usize = 128;

/// Standard deviation of the initial table of tokens, which is the head too.
///
/// tune: log 0.005 0.1
const TABLE_STD: f64 = 0.02;

/// Rotary positions turn pair `i` of `D` channels by `ROTARY_BASE^(-2i / D)` per position.
///
/// tune: log 1000 100000
const ROTARY_BASE: f64 = 10_000.0;

/// Normalised queries are multiplied by this.
///
/// tune: linear 0.5 2.0
const QUERY_SCALE: f64 = 1.0;

/// Logits are bent so that they stay below this (Gemma 2, Riviere et al. 2024).
///
/// tune: log 10 60
const LOGIT_CAP: f64 = 30.0;

/// Added to the mean square in norms.
const NORM_EPSILON: f32 = 1e-6;

/// Muon's learning rate: how far a step moves a square matrix, in spectral norm.
///
/// tune: log 1e-3 1e-1
const MUON_RATE: f64 = 0.01;

/// Decay of Muon's running mean of gradients.
///
/// tune: linear 0.8 0.98
const MUON_MOMENTUM: f64 = 0.95;

/// Newton-Schulz iterations.
///
/// tune: int 3 6
const MUON_ITERATIONS: usize = 5;

/// Adam's learning rate, for the table of tokens.
///
/// tune: log 1e-4 3e-2
const TABLE_RATE: f64 = 3.6e-3;

/// Decay of Adam's running mean of gradients.
///
/// tune: linear 0.5 0.98
const BETA1: f64 = 0.9;

/// Decay of Adam's running mean of squared gradients.
///
/// tune: linear 0.8 0.999
const BETA2: f64 = 0.95;

/// Keeps Adam's denominator away from zero.
const EPSILON: f64 = 1e-8;

/// Share of the steps in which the learning rate rises from zero.
///
/// tune: linear 0.0 0.2
const WARMUP: f64 = 0.01;

/// Share of the steps, at the end, in which it falls to zero.
///
/// tune: linear 0.1 1.0
const COOLDOWN: f64 = 0.28;

/// Steps between two points of the recorded rate.
const RECORD_EVERY: usize = 10;

const _: () = assert!(WIDTH.is_multiple_of(2 * HEADS), "heads share pairs of channels evenly");
const _: () = assert!(BATCH.is_multiple_of(PART), "a batch has whole parts");
const _: () = assert!(STEPS > 0 && PART > 0 && LENGTH > 0 && LAYERS > 0, "nothing to train");

// ---------------------------------------------------------------------------------------- model
//
// B sequences, T positions, C = WIDTH channels, V token values, R >= V rows of their table.

/// Attention, then an MLP; each reads a normalised copy of the stream and adds to it.
struct Block {
    qkv: Var,           // (3C, C)
    attention_out: Var, // (C, C)
    mlp_in: Var,        // (4C, C)
    mlp_out: Var,       // (C, 4C)
}

impl Block {
    fn new(p: &mut Params, name: &str) -> Result<Self> {
        let hidden = MLP_RATIO * WIDTH;
        // The usual bound of a linear layer: a third of the variance that keeps norms as they are.
        let bound = (1.0 / WIDTH as f64).sqrt();
        let sub = |part: &str| format!("{name}.{part}");
        Ok(Self {
            qkv: p.uniform(&sub("qkv"), (3 * WIDTH, WIDTH), bound)?,
            // What adds to the stream starts at zero: a block starts as the identity (ReZero,
            // Bachlechner et al. 2020; Yang et al. 2022).
            attention_out: p.zeros(&sub("attention_out"), (WIDTH, WIDTH))?,
            mlp_in: p.uniform(&sub("mlp_in"), (hidden, WIDTH), bound)?,
            mlp_out: p.zeros(&sub("mlp_out"), (WIDTH, hidden))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = linear_no_bias(&norm(x)?, &self.qkv)?; // (B, T, 3C)
        let qkv = qk_norm(&qkv, HEADS, QUERY_SCALE)?; // (Henry et al. 2020)
        let qkv = rotary(&qkv, HEADS, ROTARY_BASE)?; // (Su et al. 2021)
        let seen = causal_attention(&qkv, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.attention_out)?)?; // (B, T, C)
        let hidden = relu_squared(&linear_no_bias(&norm(&x)?, &self.mlp_in)?)?; // (So et al. 2021)
        x + linear_no_bias(&hidden, &self.mlp_out)? // (B, T, C)
    }
}

/// Division by the root mean square of a position's channels, without a gain.
fn norm(x: &Tensor) -> Result<Tensor> {
    rms_norm_plain(x, NORM_EPSILON)
}

/// The whole model.
struct Gpt {
    table: Var, // (R, C), what is read and what is predicted
    blocks: Vec<Block>,
    vocab: usize,
}

impl Model for Gpt {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        let rows = task.vocab.next_multiple_of(VOCAB_MULTIPLE);
        Ok(Self {
            table: p.normal("table", (rows, WIDTH), TABLE_STD)?,
            blocks: (0..LAYERS)
                .map(|layer_idx| Block::new(p, &format!("block{layer_idx}")))
                .collect::<Result<_>>()?,
            vocab: task.vocab,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let logits = linear_no_bias(&self.hidden(tokens)?, &self.table)?; // (B, T, R)
        softcap(&logits.narrow(2, 0, self.vocab)?, LOGIT_CAP) // (B, T, V)
    }
}

impl Gpt {
    /// What the head reads.
    fn hidden(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut x = norm(&embedding(&self.table, tokens)?)?; // (B, T, C)
        for block in &self.blocks {
            x = block.forward(&x)?; // (B, T, C)
        }
        norm(&x) // (B, T, C)
    }

    /// Mean loss; at no time are there logits for all positions.
    fn loss(&self, inputs: &Tokens, targets: &Tokens) -> Result<Tensor> {
        softcapped_head_loss(&self.hidden(inputs)?, &self.table, targets, LOGIT_CAP) // ()
    }
}

// ------------------------------------------------------------------------------------ optimizer

/// Muon (Jordan et al. 2024) for matrices between channels, Adam (Kingma and Ba 2014) for the table,
/// whose rows are moved one by one.
enum State {
    Muon(Momentum),
    Adam(Moments),
}

/// What training changes.
struct Trainer<'a> {
    model: &'a Gpt,
    params: &'a Params,
    states: Vec<State>,
    /// Gradients of the parts of a batch so far, added up, and their loss.
    gradients: Vec<Var>,
    loss: Var, // ()
    /// Gradients are taken as they are.
    one: Tensor,
}

impl<'a> Trainer<'a> {
    fn new(model: &'a Gpt, params: &'a Params) -> Result<Self> {
        let state = |parameter: &Parameter| match parameter.name.starts_with("block") {
            true => State::Muon(Momentum::zeros_like(&parameter.var)),
            false => State::Adam(Moments::zeros_like(&parameter.var)),
        };
        let zeros = |parameter: &Parameter| Var::new(&Tensor::zeros(parameter.var.dims())?);
        Ok(Self {
            model,
            params,
            states: params.iter().map(state).collect(),
            gradients: params.iter().map(zeros).collect::<Result<_>>()?,
            loss: Var::new(&Tensor::zeros(())?)?,
            one: Tensor::ones(())?,
        })
    }
}

/// Adds loss and gradients of a part of a batch to those of earlier parts.
fn add_up(
    trainer: &mut Trainer<'_>,
    [inputs, targets]: [&Tokens; 2], // (B, T) each
    []: [&Tensor; 0],
) -> Result<[Tensor; 0]> {
    let loss = trainer.model.loss(inputs, targets)?; // ()
    let gradients = loss.backward()?;
    let share = PART as f64 / BATCH as f64;
    for (parameter, sum) in trainer.params.iter().zip(&trainer.gradients) {
        let Some(gradient) = gradients.get(&parameter.var) else {
            bail!("parameter `{}` has no part in the loss", parameter.name);
        };
        sum.accumulate(&gradient, share)?;
    }
    trainer.loss.accumulate(&loss, share)?;
    Ok([])
}

/// Takes a step along what was added up, at a share `rate` of the learning rates; returns the loss.
fn update(
    trainer: &mut Trainer<'_>,
    []: [&Tokens; 0],
    [rate, step]: [&Tensor; 2], // () each
) -> Result<[Tensor; 1]> {
    let (mut by_muon, mut by_adam) = (Vec::new(), Vec::new());
    let of_each = trainer.params.iter().zip(&trainer.gradients).zip(&mut trainer.states);
    for ((Parameter { name, var: parameter }, gradient), state) in of_each {
        match state {
            State::Muon(momentum) => {
                let settings = Muon {
                    learning_rate: MUON_RATE,
                    momentum: MUON_MOMENTUM,
                    nesterov: true,
                    weight_decay: 0.0,
                    iterations: MUON_ITERATIONS,
                    // Queries, keys and values are three matrices that share a product.
                    parts: if name.ends_with("qkv") { 3 } else { 1 },
                    polynomial: Polynomial::Quintic,
                };
                by_muon.push(MuonStep { parameter, gradient, momentum, settings });
            }
            State::Adam(moments) => {
                let settings = AdamW {
                    learning_rate: TABLE_RATE,
                    beta1: BETA1,
                    beta2: BETA2,
                    epsilon: EPSILON,
                    weight_decay: 0.0,
                    step: 1, // `step` counts
                };
                let caution = Caution::default();
                by_adam.push(AdamWStep { parameter, gradient, moments, settings, caution });
            }
        }
    }
    let scalars = Scalars { gradient: &trainer.one, schedule: Some((rate, step)) };
    muon_all(&mut by_muon, scalars)?;
    adamw_all(&mut by_adam, scalars)?;
    let loss = (&*trainer.loss + 0.0)?; // a copy
    for sum in trainer.gradients.iter().chain([&trainer.loss]) {
        sum.fill(0.0)?;
    }
    Ok([loss])
}

// ------------------------------------------------------------------------------------- schedule

/// Share of the learning rates in a step: up along a line, level, down along a line to zero
/// (Haegele et al. 2024).
fn rate(step_idx: usize) -> f64 {
    let begun = (step_idx + 1) as f64 / STEPS as f64;
    let left = (STEPS - step_idx) as f64 / STEPS as f64;
    (begun / WARMUP).min(left / COOLDOWN).min(1.0)
}

// ------------------------------------------------------------------------------------- training

fn train(model: &Gpt, params: &Params, run: &mut Training) -> Result<()> {
    // On a GPU both parts of a step become graphs that are recorded once and replayed.
    let mut trainer = Captured::new(Trainer::new(model, params)?);
    for step_idx in 0..STEPS {
        let Batch { inputs, targets } = run.batch(BATCH, LENGTH)?; // (BATCH, T) each

        for start in (0..BATCH).step_by(PART) {
            let inputs = inputs.sequences(start, PART)?; // (B, T)
            let targets = targets.sequences(start, PART)?; // (B, T)
            run.section("gradients", || trainer.run(add_up, [&inputs, &targets], []))?;
        }
        let rate = rate(step_idx);
        let numbers = [rate, step_idx as f64 + 1.0];
        let [loss] = run.section("optimizer", || trainer.run(update, [], numbers))?;

        run.record("train_loss", step_idx, &loss)?; // a loss that explodes ends the run here
        if step_idx % RECORD_EVERY == 0 {
            run.record("rate", step_idx, rate)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Gpt>(train)
}
