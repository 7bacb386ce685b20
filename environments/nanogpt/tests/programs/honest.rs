//! A bigram table trained by gradient: the smallest honest program.

use harness::prelude::*;

/// Optimizer steps.
///
/// tune: log 10 1000
const STEPS: usize = 60;

struct Bigram {
    table: Var, // (V, V)
}

impl Model for Bigram {
    fn new(params: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self { table: params.normal("table", (task.vocab, task.vocab), 0.01)? })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        embedding(&self.table, tokens) // (B, T, V)
    }
}

fn train(model: &Bigram, _params: &Params, run: &mut Training) -> Result<()> {
    for step in 0..STEPS {
        let batch = run.batch(8, run.task().context)?;
        let loss = run.section("forward", || -> Result<Tensor> {
            cross_entropy(&model.logits(&batch.inputs)?, &batch.targets)
        })?;
        let gradients = run.section("backward", || loss.backward())?;
        if let Some(gradient) = gradients.get(&model.table) {
            model.table.set(&(&*model.table - (gradient * 30.0)?)?)?;
        }
        run.record("train_loss", step, &loss)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Bigram>(train)
}
