//! Counting instead of training: a standing adversary of the track `cpu`.
//!
//! At this budget counting n-grams reaches a lower loss within a second than a small network in
//! half a minute. This program does what counting can do under the rules: exact counts of byte
//! pairs, and of bytes after three classes of bytes, turned into conditional probabilities and
//! multiplied. It is accepted like any program, and must stay far above the track's target; a test
//! watches that. docs/calibration-cpu-track.md says what counting reaches without the rules.
//!
//! Tokens cannot be read, but the gradient of a mean cross-entropy at zero logits holds counts:
//! for a table indexed by context it is `(n(context) / V - n(context, token)) / N`.

use harness::prelude::*;

// ------------------------------------------------------------------------------------- settings

/// Batches to count, twice; ten times as many gain 0.01 nats.
///
/// tune: log 10 400
const BATCHES: usize = 40;

/// Sequences in a batch.
const BATCH: usize = 256;

/// Classes that the three last bytes are sorted into, nearest first.
const CLASSES: [usize; 3] = [7, 8, 4];

/// Contexts made of three classes.
const CONTEXTS: usize = CLASSES[0] * CLASSES[1] * CLASSES[2];

/// Added to every count of a pair.
///
/// tune: log 1e-3 1.0
const SMOOTHING: f64 = 0.02;

/// Weight of what the classes add to the pairs' logarithms.
///
/// tune: linear 0.0 1.5
const CLASS_WEIGHT: f64 = 1.0;

// ---------------------------------------------------------------------------------------- model

struct Counts {
    pairs: Var,   // (V, V): ln p(next | last byte)
    classes: Var, // (V, CONTEXTS): what three classes add to it
    kinds: Vec<Tensor>,
}

/// A class of a byte, from coarse (4) to fine (8): by what programmers type.
fn class_of(byte: usize, n_classes: usize) -> usize {
    let class = match byte as u8 {
        b'a'..=b'z' | b'_' => 0,
        b' ' => 1,
        b'\n' => 2,
        b'A'..=b'Z' => 3,
        b'0'..=b'9' => 4,
        b'(' | b'[' | b'{' | b'<' => 5,
        b')' | b']' | b'}' | b'>' => 6,
        _ => 7,
    };
    class.min(n_classes - 1)
}

impl Model for Counts {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        let kinds = CLASSES.iter().map(|&n_classes| {
            let mut one_hot = vec![0.0; task.vocab * n_classes];
            for byte in 0..task.vocab {
                one_hot[byte * n_classes + class_of(byte, n_classes)] = 1.0;
            }
            Tensor::from_vec(one_hot, (task.vocab, n_classes)) // (V, K)
        });
        Ok(Self {
            kinds: kinds.collect::<Result<_>>()?,
            pairs: p.zeros("pairs", (task.vocab, task.vocab))?,
            classes: p.zeros("classes", (task.vocab, CONTEXTS))?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let contexts = self.contexts(tokens)?; // (B, T, CONTEXTS)
        embedding(&self.pairs, tokens)? + linear_no_bias(&contexts, &self.classes)? // (B, T, V)
    }
}

impl Counts {
    /// One-hot vectors of the three last bytes' classes, multiplied out: (B, T, CONTEXTS).
    fn contexts(&self, tokens: &Tokens) -> Result<Tensor> {
        let (n_sequences, n_positions) = tokens.dims();
        let mut joint = Tensor::ones((n_sequences, n_positions, 1, 1))?;
        let mut n_joint = 1;
        for (distance, (kind, n_classes)) in self.kinds.iter().zip(CLASSES).enumerate() {
            let one_hot = embedding(kind, &tokens.previous(distance)?)?; // (B, T, K)
            let one_hot = one_hot.reshape((n_sequences, n_positions, 1, n_classes))?;
            joint = (joint.reshape((n_sequences, n_positions, n_joint, 1))? * one_hot)?;
            n_joint *= n_classes;
        }
        joint.reshape((n_sequences, n_positions, CONTEXTS))
    }
}

// ------------------------------------------------------------------------------------- counting

fn train(model: &Counts, _params: &Params, run: &mut Training) -> Result<()> {
    let (vocab, context) = (run.task().vocab, run.task().context);
    let zero_pairs = Var::new(&Tensor::zeros((vocab, vocab))?)?;
    let zero_classes = Var::new(&Tensor::zeros((vocab, CONTEXTS))?)?;
    let mut class_shares = Tensor::zeros((vocab, CONTEXTS))?; // p(next, classes)
    let mut expected_shares = Tensor::zeros((vocab, CONTEXTS))?; // the same, if pairs were all
    let mut pair_gradients = Tensor::zeros((vocab, vocab))?; // p(last) / V - p(last, next)

    for step_idx in 0..BATCHES {
        let Batch { inputs, targets } = run.batch(BATCH, context)?; // (B, T)
        let loss = cross_entropy(&embedding(&zero_pairs, &inputs)?, &targets)?;
        run.record("train_loss", step_idx, &loss)?;
        pair_gradients = (pair_gradients + count_gradient(&loss, &zero_pairs)?)?;
    }
    // A pair that was never seen has exactly p(last) / V, the largest of its row.
    let gradients = (pair_gradients / BATCHES as f64)?;
    let pair_shares = (gradients.max(1)? - &gradients)?; // p(last, next), (V, V)
    let tokens_seen = (BATCHES * BATCH * context) as f64;
    let smooth = SMOOTHING / tokens_seen;
    let pairs = normalised(&(pair_shares + smooth)?, 1)?.ln()?; // (V, V)
    model.pairs.set(&pairs)?;

    for _ in 0..BATCHES {
        let Batch { inputs, targets } = run.batch(BATCH, context)?; // (B, T)
        let contexts = model.contexts(&inputs)?; // (B, T, CONTEXTS)
        // With the pairs' logits the gradient is p(next, classes) as expected minus as seen; at
        // zero logits it is p(classes) / V minus as seen.
        let logits = (embedding(&pairs, &inputs)? + linear_no_bias(&contexts, &zero_classes)?)?;
        let surprise = count_gradient(&cross_entropy(&logits, &targets)?, &zero_classes)?;
        let blank = linear_no_bias(&contexts, &zero_classes)?;
        let seen = count_gradient(&cross_entropy(&blank, &targets)?, &zero_classes)?;
        class_shares = (class_shares - &seen)?;
        expected_shares = ((expected_shares + surprise)? - seen)?;
    }
    // Both sums lack p(classes) / V, which is what makes the smallest seen share zero.
    let missing = class_shares.neg()?.max(0)?; // (1, CONTEXTS)
    let seen = ((class_shares + &missing)? + 1e-4)?;
    let expected = ((expected_shares + missing)? + 1e-4)?;
    let gain = ((seen / expected)?.ln()? * CLASS_WEIGHT)?; // (V, CONTEXTS)
    model.classes.set(&gain)
}

/// The gradient of a mean cross-entropy with respect to a table of zeros, which holds counts.
fn count_gradient(loss: &Tensor, table: &Var) -> Result<Tensor> {
    let Some(gradient) = loss.backward()?.get(table) else {
        bail!("the loss does not depend on the table");
    };
    Ok(gradient)
}

/// Divided by its sum over a dimension.
fn normalised(shares: &Tensor, dim: usize) -> Result<Tensor> {
    shares / shares.sum(dim)?
}

fn main() -> ExitCode {
    harness::run::<Counts>(train)
}
