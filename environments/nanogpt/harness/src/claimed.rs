//! The loss that a program claims to be equivalent to cross-entropy, on logits of the supervisor's.

use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, LossAnswer, LossCase};

use crate::channel::{Channel, unexpected};
use crate::params::flat;
use crate::{Error, Model, Result, Tensor, Tokens, Var};

/// Answers cases with the value of the claimed loss and its gradient until told to stop. No model
/// is made: the loss is a function of logits and targets alone.
pub(crate) fn claim<M: Model>(mut channel: Channel) -> Result<()> {
    channel.start()?;
    loop {
        match channel.receive()? {
            FromSupervisor::LossCase(case) => {
                channel.send(&FromProgram::Loss(answer::<M>(case)?))?;
                channel.flush()?;
            }
            FromSupervisor::Stop => return Ok(()),
            other => return Err(unexpected(&other, "a loss case or stop")),
        }
    }
}

fn answer<M: Model>(case: LossCase) -> Result<LossAnswer> {
    let (rows, vocab) = (case.rows as usize, case.vocab as usize);
    let logits = Var::new(&Tensor::from_vec(case.logits, (1, rows, vocab))?)?;
    let targets = Tokens::new(case.targets, 1, vocab)?;
    let loss = M::claimed_loss(&logits, &targets)?;
    let [value] = flat(&loss)?[..] else {
        let shape = loss.dims();
        return Err(Error::program(format!("the claimed loss must be one number, not {shape:?}")));
    };
    let gradient = match loss.backward()?.get(&logits) {
        Some(gradient) => flat(&gradient)?,
        // It does not depend on the logits in a differentiable way.
        None => vec![0.0; rows * vocab],
    };
    Ok(LossAnswer { value, gradient })
}
