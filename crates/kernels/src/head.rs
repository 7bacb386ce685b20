//! Classifier and loss in one, for vocabularies whose logits should never all be stored.

use crate::loss::loss_and_gradient;
use crate::{
    Error, Gemm, LossSizes, Machine, Operand, Result, Type, View, ViewMut, gemm, mean_loss,
};

const NAME: &str = "head_loss";

/// Logits that exist at one time, in values, unless the caller says otherwise: 5,632 rows of the
/// GPT-2 vocabulary padded to 50,304, 567 MB.
///
/// A chunk's logits are far larger than an L2 cache whatever is chosen (4,096 rows are 412 MB), so
/// the products decide. The narrow one, the gradient of the hidden states, has `rows x channels`
/// results: with 768 channels, 5,632 rows are 132 tiles of 128 x 256, one for each multiprocessor of an
/// H200; 4,096 would leave a quarter of them idle, 8,192 half of them in the second round. The weight's
/// gradient is read and written once a chunk (309 MB, 77 us), beside a product of 670 us.
const CHUNK_VALUES: usize = 5632 * 50_304;

/// Rows of a chunk, unless it is the last, are a multiple of this: the height of a product's tile.
const CHUNK_STEP: usize = 128;

/// Logits' rows start at multiples of so many values, as products on tensor cores like them.
const STRIDE_STEP: usize = 64;

/// Sizes and settings of a classifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadSizes {
    /// Rows of hidden states, at least one.
    pub rows: usize,
    /// Values of a row.
    pub channels: usize,
    /// Words.
    pub vocab: usize,
    /// Logits `z` become `cap · tanh(z / cap)`.
    pub softcap: Option<f32>,
    /// Gradient of the loss itself: what both gradients are multiplied by; mostly one.
    pub scale: f32,
    /// Whether the weight's gradient is added to what is there.
    pub accumulate: bool,
    /// Most rows whose logits exist at one time; rounded up to a multiple of 128. Without it, as many
    /// as fit 567 MB.
    pub chunk_rows: Option<usize>,
}

impl HeadSizes {
    /// Without soft-cap; gradients are written and those of the mean loss.
    pub fn new(rows: usize, channels: usize, vocab: usize) -> Self {
        Self {
            rows,
            channels,
            vocab,
            softcap: None,
            scale: 1.0,
            accumulate: false,
            chunk_rows: None,
        }
    }

    /// Values from one row of logits to the next.
    fn row_stride(&self) -> usize {
        self.vocab.next_multiple_of(STRIDE_STEP)
    }

    /// Rows of all chunks but the last: chunks are about equal.
    fn chunk(&self) -> usize {
        let most = self.chunk_rows.unwrap_or(CHUNK_VALUES / self.row_stride());
        let most = most.clamp(1, self.rows).next_multiple_of(CHUNK_STEP);
        let chunks = self.rows.div_ceil(most);
        self.rows.div_ceil(chunks).next_multiple_of(CHUNK_STEP).min(self.rows)
    }

    /// Bytes that [`head_loss`] allocates while it runs: one chunk's logits, and the losses.
    pub fn workspace_bytes(&self) -> usize {
        if self.rows == 0 || self.vocab == 0 {
            return 0;
        }
        self.chunk() * self.row_stride() * Type::Bf16.bytes() + self.rows * Type::F32.bytes()
    }

    fn check(&self) -> Result<()> {
        let &Self { rows, channels, vocab, softcap, .. } = self;
        if rows == 0 || channels == 0 || vocab == 0 {
            let reason =
                format!("{rows} rows of {channels} channels have no loss on {vocab} words");
            return Err(Error::shape(NAME, reason));
        }
        if softcap.is_some_and(|cap| !cap.is_finite() || cap <= 0.0) {
            return Err(Error::shape(NAME, "the soft-cap is not above zero"));
        }
        Ok(())
    }
}

/// Mean cross-entropy of the logits `hidden · weightᵀ`, in nats, and its gradients.
///
/// Logits are formed, turned into losses and gradients in place, and used, chunk by chunk.
///
/// # Shapes
///
/// `hidden` is bf16 `[rows, channels]`, `weight` bf16 `[vocab, channels]`, `targets` u32 `[rows]`, all
/// below the vocabulary (another one makes the loss NaN); `loss` is f32 `[1]`: the mean, whatever
/// `scale` is. `dhidden` is bf16 `[rows, channels]`, `dweight` f32 `[vocab, channels]`.
///
/// # Precision
///
/// Sums are f32. Logits are rounded to bf16, by up to 2⁻⁹ of each, and so are their gradients with
/// `scale / rows` in them, which does not make them vanish: bf16 has f32's exponents. `dhidden` is
/// rounded as it is written.
///
/// # Errors
///
/// When lengths or types do not fit, or the device has no memory left.
#[expect(clippy::too_many_arguments, reason = "three inputs and three results, none optional")]
pub fn head_loss(
    machine: &Machine,
    sizes: &HeadSizes,
    hidden: &View<'_>,
    weight: &View<'_>,
    targets: &View<'_>,
    loss: &mut ViewMut<'_>,
    dhidden: &mut ViewMut<'_>,
    dweight: &mut ViewMut<'_>,
) -> Result<()> {
    sizes.check()?;
    let &HeadSizes { rows, channels, vocab, softcap, scale, accumulate, .. } = sizes;
    hidden.expect(NAME, "hidden", Type::Bf16, rows * channels)?;
    weight.expect(NAME, "weight", Type::Bf16, vocab * channels)?;
    targets.expect(NAME, "targets", Type::U32, rows)?;
    loss.expect(NAME, "loss", Type::F32, 1)?;
    dhidden.expect(NAME, "dhidden", Type::Bf16, rows * channels)?;
    dweight.expect(NAME, "dweight", Type::F32, vocab * channels)?;
    let (chunk, row_stride) = (sizes.chunk(), sizes.row_stride());
    let share = scale / rows as f32;
    let mut losses = machine.scratch(Type::F32, rows)?;
    let mut logits = machine.scratch(Type::Bf16, chunk * row_stride)?;
    for first in (0..rows).step_by(chunk) {
        let range = first..rows.min(first + chunk);
        let chunk_rows = range.len();
        let of_channels = range.start * channels..range.end * channels;
        let hidden = hidden.part(of_channels.clone());
        let mut logits = logits.view_mut();
        let mut logits = logits.part(0..chunk_rows * row_stride);
        gemm(
            machine,
            Gemm {
                to_stride: Some(row_stride),
                ..Gemm::new(
                    (chunk_rows, vocab, channels),
                    Operand::plain(hidden),
                    Operand::transposed(*weight),
                    logits.reborrow(),
                )
            },
        )?;
        loss_and_gradient(
            machine,
            LossSizes { rows: chunk_rows, vocab, row_stride },
            (softcap, share),
            &targets.part(range.clone()),
            &mut losses.view_mut().part(range),
            &mut logits,
        )?;
        let dlogits = Operand { row_stride: Some(row_stride), ..Operand::plain(logits.as_view()) };
        gemm(
            machine,
            Gemm::new(
                (chunk_rows, channels, vocab),
                dlogits,
                Operand::plain(*weight),
                dhidden.part(of_channels),
            ),
        )?;
        gemm(
            machine,
            Gemm {
                accumulate: accumulate || first > 0,
                ..Gemm::new(
                    (vocab, channels, chunk_rows),
                    Operand { transposed: true, ..dlogits },
                    Operand::plain(hidden),
                    dweight.reborrow(),
                )
            },
        )?;
    }
    mean_loss(machine, &losses.view(), loss)
}
