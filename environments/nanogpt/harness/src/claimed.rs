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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// A model whose loss is made by `LOSS`: 0 is the harness's own, 1 is detached from the
    /// logits, 2 has a value for each row.
    struct Claims<const LOSS: u8>;

    impl<const LOSS: u8> Model for Claims<LOSS> {
        fn new(_params: &mut Params, _task: &Task) -> Result<Self> {
            Ok(Self)
        }

        fn logits(&self, _tokens: &Tokens) -> Result<Tensor> {
            bail!("no logits are asked for")
        }

        fn claimed_loss(logits: &Tensor, targets: &Tokens) -> Result<Tensor> {
            match LOSS {
                0 => cross_entropy(logits, targets),
                1 => cross_entropy(&logits.detach(), targets),
                _ => logits.sum(2),
            }
        }
    }

    fn case() -> LossCase {
        LossCase { rows: 2, vocab: 2, logits: vec![0.0, 0.0, 3.0, 3.0], targets: vec![0, 1] }
    }

    #[test]
    fn value_and_gradient_are_those_of_the_logits() {
        let answer = answer::<Claims<0>>(case()).unwrap();
        assert!((f64::from(answer.value) - 2.0_f64.ln()).abs() < 1e-6);
        let expected = [-0.25, 0.25, 0.25, -0.25];
        assert!(
            answer.gradient.iter().zip(expected).all(|(is, should)| (is - should).abs() < 1e-6)
        );
    }

    #[test]
    fn what_does_not_depend_on_the_logits_has_no_gradient() {
        let answer = answer::<Claims<1>>(case()).unwrap();
        assert!((f64::from(answer.value) - 2.0_f64.ln()).abs() < 1e-6);
        assert_eq!(answer.gradient, [0.0; 4]);
    }

    #[test]
    fn a_loss_is_one_number() {
        let error = answer::<Claims<2>>(case()).unwrap_err().to_string();
        assert!(error.contains("must be one number, not [1, 2, 1]"), "{error}");
    }
}
