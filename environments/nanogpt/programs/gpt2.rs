//! A small GPT in the style of 2019, trained with AdamW: the reference program.
//!
//! Learned positions, LayerNorm with bias before each sublayer, GELU, biases everywhere, a head
//! tied to the token embedding; AdamW with decoupled weight decay, gradients clipped by norm, a
//! linear warm-up and a cosine decay. Nothing in it is newer than GPT-2 and GPT-3, and its settings
//! are honestly tuned for the track `cpu` (docs/calibration-cpu-track.md), so that beating it says
//! something.
//!
//! Read it from top to bottom: settings, model, optimizer, schedule, training loop. Measure it:
//!
//! ```text
//! forerunner evaluate environments/nanogpt/programs/gpt2.rs --environment nanogpt --track cpu
//! ```
//!
//! The harness hands over the tokens, initialises the parameters for the run's seed, and takes the
//! trained ones back; data, validation, score and clock are fixed and out of reach. A line
//! `tune:` closes the description of every constant that a search may change: the scale, then
//! the range or the choices.

use harness::prelude::*;

// ------------------------------------------------------------------------------------- settings

/// Optimizer steps in the whole training.
///
/// tune: log 400 6000
const STEPS: usize = 2800;

/// Sequences in a batch.
///
/// tune: int 2 32
const BATCH: usize = 8;

/// Positions of a training sequence, at most the evaluation's. Positions that training never sees
/// stay as they were initialised, so less than the evaluation's pays only with other position codes.
const LENGTH: usize = 64;

/// Channels of the residual stream.
///
/// tune: int 32 96 multiple 8
const WIDTH: usize = 64;

/// Transformer blocks.
///
/// tune: int 1 6
const LAYERS: usize = 2;

/// Attention heads in a block; they share the channels evenly.
///
/// tune: choice 1 2 4 8
const HEADS: usize = 4;

/// Width of the hidden layer of an MLP, in widths of the residual stream.
///
/// tune: int 1 6
const MLP_RATIO: usize = 4;

/// Standard deviation of initial weights; projections back into the residual stream get less.
///
/// tune: log 0.01 0.3
const INIT_STD: f64 = 0.12;

/// Highest learning rate.
///
/// tune: log 1e-4 3e-2
const LEARNING_RATE: f64 = 5e-3;

/// Share of the steps in which the learning rate rises from zero.
///
/// tune: linear 0.0 0.3
const WARMUP: f64 = 0.05;

/// Last learning rate, as a share of the highest.
///
/// tune: linear 0.0 0.5
const FINAL_RATE: f64 = 0.1;

/// Decay of AdamW's running mean of gradients.
///
/// tune: linear 0.5 0.98
const BETA1: f64 = 0.9;

/// Decay of AdamW's running mean of squared gradients.
///
/// tune: linear 0.8 0.999
const BETA2: f64 = 0.95;

/// Keeps AdamW's denominator away from zero.
const EPSILON: f64 = 1e-8;

/// Share of a weight matrix that AdamW takes away per unit of learning rate.
///
/// tune: log 1e-3 1.0
const WEIGHT_DECAY: f64 = 0.1;

/// Norm over all gradients above which they are scaled down.
///
/// tune: log 0.1 10.0
const CLIP: f64 = 1.0;

/// Added to the variance in LayerNorm, as in GPT-2.
const NORM_EPSILON: f32 = 1e-5;

/// Steps between two points of the recorded norms and rates.
const RECORD_EVERY: usize = 10;

const _: () = assert!(WIDTH.is_multiple_of(HEADS), "heads share the channels evenly");
const _: () = assert!(STEPS > 0 && BATCH > 0 && LENGTH > 0 && LAYERS > 0, "nothing to train");

// ---------------------------------------------------------------------------------------- model
//
// B sequences, T positions, C = WIDTH channels, V token values.

/// A matrix and a bias.
struct Linear {
    weight: Var, // (out, in)
    bias: Var,   // (out)
}

impl Linear {
    fn new(p: &mut Params, name: &str, sizes: (usize, usize), std: f64) -> Result<Self> {
        let weight = p.normal(&format!("{name}.weight"), sizes, std)?;
        let bias = p.zeros(&format!("{name}.bias"), sizes.0)?;
        Ok(Self { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, &self.bias) // (.., in) -> (.., out)
    }
}

/// Normalisation of each position's channels, with a learned gain and bias.
struct LayerNorm {
    gain: Var, // (C)
    bias: Var, // (C)
}

impl LayerNorm {
    fn new(p: &mut Params, name: &str) -> Result<Self> {
        let gain = p.ones(&format!("{name}.gain"), WIDTH)?;
        let bias = p.zeros(&format!("{name}.bias"), WIDTH)?;
        Ok(Self { gain, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.gain, &self.bias, NORM_EPSILON) // (B, T, C)
    }
}

/// Attention, then an MLP; each reads a normalised copy of the stream and adds to it.
struct Block {
    attention_norm: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    mlp_norm: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl Block {
    fn new(p: &mut Params, name: &str) -> Result<Self> {
        let hidden = MLP_RATIO * WIDTH;
        // 2 LAYERS projections add to the stream; together they should add one INIT_STD (GPT-2).
        let out_std = INIT_STD / (2.0 * LAYERS as f64).sqrt();
        let sub = |part: &str| format!("{name}.{part}");
        Ok(Self {
            attention_norm: LayerNorm::new(p, &sub("attention_norm"))?,
            qkv: Linear::new(p, &sub("qkv"), (3 * WIDTH, WIDTH), INIT_STD)?,
            attention_out: Linear::new(p, &sub("attention_out"), (WIDTH, WIDTH), out_std)?,
            mlp_norm: LayerNorm::new(p, &sub("mlp_norm"))?,
            mlp_in: Linear::new(p, &sub("mlp_in"), (hidden, WIDTH), INIT_STD)?,
            mlp_out: Linear::new(p, &sub("mlp_out"), (WIDTH, hidden), out_std)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.attention_norm.forward(x)?)?; // (B, T, 3C)
        let seen = causal_attention(&qkv, HEADS)?; // (B, T, C)
        let x = (x + self.attention_out.forward(&seen)?)?; // (B, T, C)
        let hidden = self.mlp_in.forward(&self.mlp_norm.forward(&x)?)?; // (B, T, 4C)
        x + self.mlp_out.forward(&gelu(&hidden)?)? // (B, T, C)
    }
}

/// The whole model.
struct Gpt {
    token_embedding: Var,    // (V, C), also the head
    position_embedding: Var, // (T of the evaluation, C)
    blocks: Vec<Block>,
    final_norm: LayerNorm,
}

impl Model for Gpt {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        ensure!(LENGTH <= task.context, "LENGTH {LENGTH} exceeds the context {}", task.context);
        Ok(Self {
            token_embedding: p.normal("token_embedding", (task.vocab, WIDTH), INIT_STD)?,
            position_embedding: p.normal("position_embedding", (task.context, WIDTH), INIT_STD)?,
            blocks: (0..LAYERS)
                .map(|layer_idx| Block::new(p, &format!("block{layer_idx}")))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::new(p, "final_norm")?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut x = (embedding(&self.token_embedding, tokens)?
            + embedding(&self.position_embedding, &tokens.positions()?)?)?; // (B, T, C)
        for block in &self.blocks {
            x = block.forward(&x)?; // (B, T, C)
        }
        let x = self.final_norm.forward(&x)?; // (B, T, C)
        linear_no_bias(&x, &self.token_embedding) // (B, T, V)
    }
}

// ------------------------------------------------------------------------------------ optimizer

/// AdamW over all parameters: matrices decay, gains and biases do not.
struct Optimizer {
    moments: Vec<Moments>,
}

impl Optimizer {
    fn new(params: &Params) -> Self {
        Self { moments: params.iter().map(|p| Moments::zeros_like(&p.var)).collect() }
    }

    /// Takes the step counted `step_idx` from zero and returns the norm of the gradients.
    fn step(
        &mut self,
        params: &Params,
        gradients: &Gradients,
        step_idx: usize,
        learning_rate: f64,
    ) -> Result<Tensor> {
        let norm = gradient_norm(params, gradients)?; // ()
        let scale = (norm.maximum(&Tensor::full(CLIP, ())?)?.recip()? * CLIP)?; // ()
        for (parameter, moments) in params.iter().zip(&mut self.moments) {
            let gradient = gradient_of(parameter, gradients)?;
            let settings = AdamW {
                learning_rate,
                beta1: BETA1,
                beta2: BETA2,
                epsilon: EPSILON,
                weight_decay: if gradient.rank() >= 2 { WEIGHT_DECAY } else { 0.0 },
                step: step_idx + 1,
            };
            adamw(&parameter.var, &gradient, &scale, moments, &settings)?;
        }
        Ok(norm)
    }
}

fn gradient_of(parameter: &Parameter, gradients: &Gradients) -> Result<Tensor> {
    let Some(gradient) = gradients.get(&parameter.var) else {
        bail!("parameter `{}` has no part in the loss", parameter.name);
    };
    Ok(gradient)
}

fn gradient_norm(params: &Params, gradients: &Gradients) -> Result<Tensor> {
    let mut sum = Tensor::zeros(())?;
    for parameter in params {
        sum = (sum + sum_of_squares(&gradient_of(parameter, gradients)?)?)?;
    }
    sum.sqrt()
}

// ------------------------------------------------------------------------------------- schedule

/// Learning rate of a step: up along a line, down along half a cosine.
fn learning_rate(step_idx: usize) -> f64 {
    let progress = (step_idx + 1) as f64 / STEPS as f64;
    if progress < WARMUP {
        return LEARNING_RATE * progress / WARMUP;
    }
    let decayed = (progress - WARMUP) / (1.0 - WARMUP);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * decayed).cos());
    LEARNING_RATE * (FINAL_RATE + (1.0 - FINAL_RATE) * cosine)
}

// ------------------------------------------------------------------------------------- training

fn train(model: &Gpt, params: &Params, run: &mut Training) -> Result<()> {
    let mut optimizer = Optimizer::new(params);
    for step_idx in 0..STEPS {
        let Batch { inputs, targets } = run.batch(BATCH, LENGTH)?; // (B, T) each

        let loss = run.section("forward", || {
            let logits = model.logits(&inputs)?; // (B, T, V)
            cross_entropy(&logits, &targets) // ()
        })?;
        run.record("train_loss", step_idx, &loss)?; // a loss that explodes ends the run here

        let gradients = run.section("backward", || loss.backward())?;
        let rate = learning_rate(step_idx);
        let norm =
            run.section("optimizer", || optimizer.step(params, &gradients, step_idx, rate))?;

        if step_idx % RECORD_EVERY == 0 {
            run.record("gradient_norm", step_idx, &norm)?;
            run.record("learning_rate", step_idx, rate)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Gpt>(train)
}
