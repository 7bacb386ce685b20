//! The entry point of a program.

use std::process::ExitCode;

use crate::channel::Channel;
use crate::claimed::claim;
use crate::evaluation::evaluate;
use crate::{
    Error, Params, Result, Task, Tensor, Tokens, Training, operations::cross_entropy, process,
};

/// Exit status where there is no GPU for a track that needs one.
const UNAVAILABLE: u8 = 69;

/// A language model.
pub trait Model: Sized {
    /// Declares the parameters and keeps what [`Model::logits`] needs.
    ///
    /// Called in the trainer and again in the evaluator: whatever is not a declared parameter must
    /// follow from the task alone.
    ///
    /// # Errors
    ///
    /// When a parameter cannot be declared.
    fn new(params: &mut Params, task: &Task) -> Result<Self>;

    /// Logits of the next token at every position.
    ///
    /// # Shapes
    ///
    /// `tokens` is `[B, T]`; the result is `[B, T, V]`. In evaluation `T` is
    /// [`Task::context`]. Logits at a position may depend on that token and earlier ones in the
    /// same row only, and calls must not depend on each other; both are tested.
    ///
    /// # Errors
    ///
    /// When a tensor operation fails.
    fn logits(&self, tokens: &Tokens) -> Result<Tensor>;

    /// A loss that is equivalent to [`cross_entropy`]: the same value, the same gradient. Only
    /// environments that require an equivalent training loss ask for it; on random logits, in a
    /// process of its own. Write it when the loss you train on is yours, and call it in training.
    ///
    /// # Shapes
    ///
    /// `logits` is `[B, T, V]` and `targets` is `[B, T]`; the result is a scalar, in nats.
    ///
    /// # Errors
    ///
    /// When a tensor operation fails.
    fn claimed_loss(logits: &Tensor, targets: &Tokens) -> Result<Tensor> {
        cross_entropy(logits, targets)
    }
}

/// Runs a program as its command line asks: `train`, `evaluate` or `loss`. The whole `main` of a program.
///
/// An error is printed to standard error and gives exit status 1; a panic gives 101; a track that
/// needs a GPU where there is none gives 69, as the C library's `EX_UNAVAILABLE`.
pub fn run<M: Model>(train: fn(&M, &Params, &mut Training) -> Result<()>) -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let result = process::prepare()
        .and_then(|()| {
            Channel::standard()
                .map_err(|error| Error::program(format!("standard input or output: {error}")))
        })
        .and_then(|channel| match mode.as_str() {
            "train" => train_and_hand_over(train, channel),
            "evaluate" => evaluate::<M>(channel),
            "loss" => claim::<M>(channel),
            _ => Err(Error::Mode(mode)),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program's errors go to standard error")]
            {
                eprintln!("error: {error}");
            }
            match error {
                Error::NoDevice(_) => ExitCode::from(UNAVAILABLE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

pub(crate) fn train_and_hand_over<M: Model>(
    train: impl FnOnce(&M, &Params, &mut Training) -> Result<()>,
    mut channel: Channel,
) -> Result<()> {
    let start = channel.start()?;
    let task = Task::from(&start);
    let mut params = Params::from_seed(start.seed, task.max_parameters);
    let model = M::new(&mut params, &task)?;
    let mut training = Training::new(&start, &params, channel);
    train(&model, &params, &mut training)?;
    training.finish()
}
