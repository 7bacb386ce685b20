//! Takes more than it is allowed in training. Goes behind `hole.rs`.
//!
//! The harness refuses parameters beyond the track's cap, in the program's own process. The program
//! finds the cap in the harness's memory and writes a larger one over it.

struct Greedy {
    tables: Vec<Var>, // (V, V) each
}

impl Model for Greedy {
    fn new(params: &mut Params, task: &Task) -> Result<Self> {
        let address = reinterpret::<&Params, usize>(params).unwrap_or(0);
        if let Some(at) = words(address, 12).iter().position(|word| *word == task.max_parameters) {
            let place = (address + 8 * at, 1);
            let cap: Option<&'static mut [usize]> = reinterpret::<(usize, usize), _>(place);
            cap.into_iter().for_each(|cap| cap[0] = N_TABLES << 16);
        }
        let tables = (0..N_TABLES)
            .map(|index| params.normal(&format!("table{index}"), (task.vocab, task.vocab), 0.01))
            .collect::<Result<_>>()?;
        Ok(Self { tables })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut logits = embedding(&self.tables[0], tokens)?; // (B, T, V)
        for (distance, table) in self.tables.iter().enumerate().skip(1) {
            logits = (logits + embedding(table, &tokens.previous(distance)?)?)?;
        }
        Ok(logits)
    }
}

fn train(model: &Greedy, _params: &Params, run: &mut Training) -> Result<()> {
    for step_idx in 0..60 {
        let batch = run.batch(8, run.task().context)?;
        let loss = cross_entropy(&model.logits(&batch.inputs)?, &batch.targets)?;
        run.record("train_loss", step_idx, &loss)?;
        let gradients = loss.backward()?;
        for table in &model.tables {
            if let Some(gradient) = gradients.get(table) {
                table.set(&(&**table - (gradient * 10.0)?)?)?;
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Greedy>(train)
}

/// Tables of 65,536 values; two are within the cap of the track `cpu`.
const N_TABLES: usize = 3;
