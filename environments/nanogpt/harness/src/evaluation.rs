//! A model that answers windows of tokens with logits.

#[cfg(feature = "device")]
use forerunner_nanogpt_protocol::Rows;
use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, Windows};

use crate::channel::{Channel, unexpected};
use crate::params::flat;
use crate::{Error, Model, Params, Result, Task, Tensor, Tokens};

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
            #[cfg(feature = "device")]
            FromSupervisor::Score(windows) => {
                channel.send(&FromProgram::Losses(losses(&model, &task, &windows)?))?;
                channel.flush()?;
            }
            #[cfg(feature = "device")]
            FromSupervisor::Rows(rows) => {
                channel.send(&FromProgram::Logits(some_logits(&model, &task, rows)?))?;
                channel.flush()?;
            }
            FromSupervisor::Stop => return Ok(()),
            other => return Err(unexpected(&other, "windows, peek or stop")),
        }
    }
}

fn logits<M: Model>(model: &M, task: &Task, windows: Windows) -> Result<Vec<f32>> {
    flat(&logits_of(model, task, &windows)?)
}

fn logits_of<M: Model>(model: &M, task: &Task, windows: &Windows) -> Result<Tensor> {
    let shape = (windows.batch as usize, windows.length as usize);
    let ids = windows.tokens.iter().map(|&token| u32::from(token)).collect();
    let logits = model.logits(&Tokens::new(ids, shape.0, task.vocab)?)?;
    if logits.dims() != [shape.0, shape.1, task.vocab] {
        return Err(Error::program(format!(
            "logits of shape {:?} for tokens of shape {shape:?} and a vocabulary of {}",
            logits.dims(),
            task.vocab
        )));
    }
    Ok(logits)
}

/// Losses of windows of one token more than the model is shown. They are made of the very logits
/// that [`some_logits`] gives out, so that an audit can compare them.
#[cfg(feature = "device")]
fn losses<M: Model>(model: &M, task: &Task, windows: &Windows) -> Result<Vec<f32>> {
    let length = windows.length as usize;
    let part = |range: std::ops::Range<usize>| -> Vec<u16> {
        windows.tokens.chunks_exact(length).flat_map(|row| row[range.clone()].to_vec()).collect()
    };
    if length < 2 {
        return Err(Error::program("windows of one token have nothing to score"));
    }
    let seen = Windows { length: windows.length - 1, tokens: part(0..length - 1), ..*windows };
    let logits = logits_of(model, task, &seen)?;
    let targets = part(1..length).into_iter().map(u32::from).collect();
    let targets = Tokens::new(targets, windows.batch as usize, task.vocab)?;
    let losses = forerunner_train_ops::device::token_losses(logits.trace()?, &targets.ids)?;
    Ok(losses.to_vec1()?)
}

/// The logits at one position of each window.
#[cfg(feature = "device")]
fn some_logits<M: Model>(model: &M, task: &Task, rows: Rows) -> Result<Vec<f32>> {
    let Rows { windows, positions } = rows;
    let logits = logits_of(model, task, &windows)?;
    let mut asked = Vec::with_capacity(positions.len() * task.vocab);
    for (window, position) in positions.into_iter().enumerate() {
        asked.extend(flat(&logits.narrow(0, window, 1)?.narrow(1, position as usize, 1)?)?);
    }
    Ok(asked)
}
