//! Cross-entropy of logits, in nats.

use crate::launch::args;
use crate::{Argument, Error, Launch, Machine, Result, Type, View, ViewMut, sum};

const THREADS: u32 = 512;

/// Shared memory of the kernel that keeps a row of bf16: with its own 128 bytes just below 99 KiB,
/// the least that devices from 8.0 on give a block, and less than half of what Hopper has.
const KEPT_BYTES: u32 = 100_864;

/// Sizes of rows of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossSizes {
    /// Rows: one for each target.
    pub rows: usize,
    /// Logits of a row.
    pub vocab: usize,
    /// Values from one row to the next, at least `vocab`. What lies between is neither read nor
    /// written. Rows that start at multiples of 16 bytes are fastest.
    pub row_stride: usize,
}

/// The sizes as kernels take them.
struct Words {
    vocab: u32,
    row_stride: u32,
}

impl LossSizes {
    fn words(&self, operation: &'static str) -> Result<Words> {
        let &Self { rows, vocab, row_stride } = self;
        if vocab == 0 || row_stride < vocab {
            let reason = format!("rows of {vocab} logits, {row_stride} values apart");
            return Err(Error::shape(operation, reason));
        }
        let most = i32::MAX as usize;
        if rows > most || row_stride > most {
            let reason = format!("{rows} rows, {row_stride} values apart, are more than {most}");
            return Err(Error::shape(operation, reason));
        }
        Ok(Words { vocab: vocab as u32, row_stride: row_stride as u32 })
    }

    fn expect_logits(&self, operation: &'static str, logits: &View<'_>) -> Result<()> {
        logits.expect(operation, "logits", logits.type_(), self.rows * self.row_stride)?;
        if logits.type_() == Type::U32 {
            return Err(Error::shape(operation, "logits are not integers"));
        }
        Ok(())
    }

    /// Whether rows can be read 16 bytes at once.
    fn wide(&self, type_: Type, aligned: bool) -> i32 {
        i32::from(aligned && (self.row_stride * type_.bytes()).is_multiple_of(16))
    }
}

/// Losses of rows of logits: `-ln softmax(logits)[target]`, in nats, and `ln Σ exp(logits)`, which
/// the gradient needs.
///
/// A NaN or an infinity among the logits, or nothing but `-inf`, makes the row's loss NaN; `-inf`
/// elsewhere than at the target is a probability of zero. A target that is not below the vocabulary
/// is the caller's mistake, and makes the loss NaN.
///
/// # Shapes
///
/// `logits` is bf16 or f32 `[rows, row_stride]`, `targets` u32 `[rows]`, `losses` and `log_sums` are
/// f32 `[rows]`. The mean is [`mean_loss`]'s.
///
/// # Errors
///
/// When lengths or types do not fit.
pub fn cross_entropy_forward(
    machine: &Machine,
    sizes: LossSizes,
    logits: &View<'_>,
    targets: &View<'_>,
    losses: &mut ViewMut<'_>,
    log_sums: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "cross_entropy_forward";
    let words = sizes.words(NAME)?;
    sizes.expect_logits(NAME, logits)?;
    targets.expect(NAME, "targets", Type::U32, sizes.rows)?;
    losses.expect(NAME, "losses", Type::F32, sizes.rows)?;
    log_sums.expect(NAME, "log_sums", Type::F32, sizes.rows)?;
    let kernel = match logits.type_() {
        Type::Bf16 => "loss_forward_bf16",
        _ => "loss_forward_f32",
    };
    let wide = sizes.wide(logits.type_(), logits.is_aligned());
    let arguments =
        args![logits, targets, &*losses, &*log_sums, words.vocab, words.row_stride, wide];
    // SAFETY: the kernel has a block for each row, which reads `vocab` of `row_stride` logits and one
    // target and writes one value to both results; all are as long as was checked.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&Launch::line(kernel, sizes.rows, THREADS), arguments)
    }
}

/// Gradients of the logits: `scale · (softmax(logits) - target)`.
///
/// # Shapes
///
/// As for [`cross_entropy_forward`], which gave `log_sums`; `scale` is f32 `[1]` on the device: the
/// gradient of the mean loss divided by the number of rows. `dlogits` has the logits' shape and type.
///
/// # Errors
///
/// When lengths or types do not fit.
pub fn cross_entropy_backward(
    machine: &Machine,
    sizes: LossSizes,
    logits: &View<'_>,
    targets: &View<'_>,
    log_sums: &View<'_>,
    scale: &View<'_>,
    dlogits: &mut ViewMut<'_>,
) -> Result<()> {
    let type_ = logits.type_();
    logits.expect(BACKWARD, "logits", type_, dlogits.len())?;
    dlogits.expect(BACKWARD, "dlogits", type_, logits.len())?;
    let from = (Argument::from(logits), logits.is_aligned());
    backward(machine, sizes, from, [targets, log_sums, scale], dlogits)
}

/// The same as [`cross_entropy_backward`], in the logits' own memory.
///
/// # Errors
///
/// When lengths or types do not fit.
pub fn cross_entropy_backward_in_place(
    machine: &Machine,
    sizes: LossSizes,
    targets: &View<'_>,
    log_sums: &View<'_>,
    scale: &View<'_>,
    logits: &mut ViewMut<'_>,
) -> Result<()> {
    let from = (Argument::from(&*logits), logits.is_aligned());
    backward(machine, sizes, from, [targets, log_sums, scale], logits)
}

const BACKWARD: &str = "cross_entropy_backward";

/// Logits are as many as their gradients, and given as a pointer that may be the same.
fn backward(
    machine: &Machine,
    sizes: LossSizes,
    (logits, aligned): (Argument, bool),
    [targets, log_sums, scale]: [&View<'_>; 3],
    dlogits: &mut ViewMut<'_>,
) -> Result<()> {
    let Words { vocab, row_stride } = sizes.words(BACKWARD)?;
    sizes.expect_logits(BACKWARD, &dlogits.as_view())?;
    targets.expect(BACKWARD, "targets", Type::U32, sizes.rows)?;
    log_sums.expect(BACKWARD, "log_sums", Type::F32, sizes.rows)?;
    scale.expect(BACKWARD, "scale", Type::F32, 1)?;
    let kernel = match dlogits.type_() {
        Type::Bf16 => "loss_backward_bf16",
        _ => "loss_backward_f32",
    };
    let wide = sizes.wide(dlogits.type_(), aligned && dlogits.is_aligned());
    let arguments = args![logits, targets, log_sums, scale, &*dlogits, vocab, row_stride, wide];
    // SAFETY: the kernel has a block for each row, which reads `vocab` of `row_stride` logits, one
    // target, one sum and the scale, and writes as many gradients, each after the same thread has read
    // the logit there; all are as long as was checked.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&Launch::line(kernel, sizes.rows, THREADS), arguments)
    }
}

/// Replaces rows of bf16 logits by `share` times their gradients, and keeps their losses: what
/// [`crate::head_loss`] does to a chunk.
pub(crate) fn loss_and_gradient(
    machine: &Machine,
    sizes: LossSizes,
    (softcap, share): (Option<f32>, f32),
    targets: &View<'_>,
    losses: &mut ViewMut<'_>,
    logits: &mut ViewMut<'_>,
) -> Result<()> {
    const NAME: &str = "head_loss";
    let words = sizes.words(NAME)?;
    logits.expect(NAME, "logits", Type::Bf16, sizes.rows * sizes.row_stride)?;
    targets.expect(NAME, "targets", Type::U32, sizes.rows)?;
    losses.expect(NAME, "losses", Type::F32, sizes.rows)?;
    assert!(sizes.wide(Type::Bf16, logits.is_aligned()) == 1, "rows start at 16 bytes");
    let kept = sizes.vocab * Type::Bf16.bytes() <= KEPT_BYTES as usize;
    let kernel = match (kept, softcap.is_some()) {
        (true, false) => "loss_head_kept",
        (true, true) => "loss_head_kept_capped",
        (false, false) => "loss_head_again",
        (false, true) => "loss_head_again_capped",
    };
    let launch = Launch {
        // Always as much: what a kernel may ask for is set when it is first launched.
        shared_bytes: if kept { KEPT_BYTES } else { 0 },
        ..Launch::line(kernel, sizes.rows, THREADS)
    };
    let cap = softcap.unwrap_or(1.0);
    let Words { vocab, row_stride } = words;
    let arguments = args![&*logits, targets, &*losses, vocab, row_stride, cap, share];
    // SAFETY: the kernel has a block for each row, which reads and writes `vocab` of `row_stride`
    // logits, reads one target and writes one loss; all are as long as was checked. Shared memory
    // holds the row where the kernel keeps it.
    #[expect(unsafe_code, reason = "a launch")]
    unsafe {
        machine.launch(&launch, arguments)
    }
}

/// The mean of losses, summed in a fixed order; NaN where one of them is.
///
/// # Shapes
///
/// `losses` is f32 `[N]`, not empty, `mean` is f32 `[1]`.
///
/// # Errors
///
/// When lengths or types do not fit.
pub fn mean_loss(machine: &Machine, losses: &View<'_>, mean: &mut ViewMut<'_>) -> Result<()> {
    const NAME: &str = "mean_loss";
    losses.expect(NAME, "losses", Type::F32, losses.len())?;
    mean.expect(NAME, "mean", Type::F32, 1)?;
    if losses.is_empty() {
        return Err(Error::shape(NAME, "no losses have no mean"));
    }
    sum(machine, losses, mean, 1.0 / losses.len() as f32)
}
