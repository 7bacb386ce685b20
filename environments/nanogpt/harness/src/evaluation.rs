//! A model that answers windows of tokens with logits.

use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, Windows};

use crate::channel::{Channel, unexpected};
use crate::params::flat;
use crate::{Error, Model, Params, Result, Task, Tokens};

/// Serves logits of the model whose parameters come through the channel until told to stop.
pub(crate) fn evaluate<M: Model>(mut channel: Channel) -> Result<()> {
    let task = Task::from(&channel.start()?);
    let snapshot = match channel.receive()? {
        FromSupervisor::Parameters(snapshot) => snapshot,
        other => return Err(unexpected(&other, "parameters")),
    };
    let mut params = Params::from_snapshot(&snapshot, task.max_parameters);
    let model = M::new(&mut params, &task)?;
    params.check_complete()?;
    loop {
        match channel.receive()? {
            FromSupervisor::Windows(windows) => {
                channel.send(&FromProgram::Logits(logits(&model, &task, windows)?))?;
                channel.flush()?;
            }
            FromSupervisor::Peek => {
                channel.send(&FromProgram::Checkpoint(params.snapshot()?))?;
                channel.flush()?;
            }
            FromSupervisor::Stop => return Ok(()),
            other => return Err(unexpected(&other, "windows, peek or stop")),
        }
    }
}

fn logits<M: Model>(model: &M, task: &Task, windows: Windows) -> Result<Vec<f32>> {
    let shape = (windows.batch as usize, windows.length as usize);
    let ids = windows.tokens.into_iter().map(u32::from).collect();
    let logits = model.logits(&Tokens::new(ids, shape.0, task.vocab)?)?;
    if logits.dims() != [shape.0, shape.1, task.vocab] {
        return Err(Error::program(format!(
            "logits of shape {:?} for tokens of shape {shape:?} and a vocabulary of {}",
            logits.dims(),
            task.vocab
        )));
    }
    flat(&logits)
}
