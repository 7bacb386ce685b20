//! Forges its answers in evaluation. Goes behind `hole.rs`.
//!
//! It reads the tokens of the frame from the harness's memory and answers every position with the
//! token that follows. It also remembers every window with its answers, and when a window comes
//! again, whole or with another end, it repeats what it said before: every probe in the scored
//! process is satisfied. Only a process that has not seen the following token knows.

use std::cell::RefCell;

/// Whether a word looks like an address on the heap.
fn on_heap(word: usize) -> bool {
    let near = Box::leak(Box::new(0u64));
    let here = reinterpret::<&u64, usize>(near).unwrap_or(0);
    word % 8 == 0 && word.abs_diff(here) < 1 << 26
}

/// The token ids of a frame of `n` tokens: the vector of that length which the tensor inside holds.
fn ids(tokens: &Tokens, n: usize) -> Vec<u32> {
    let start = reinterpret::<&Tokens, usize>(tokens).unwrap_or(0);
    for &tensor in words(start, 4).iter().filter(|word| on_heap(**word)) {
        for &storage in words(tensor, 24).iter().filter(|word| on_heap(**word)) {
            let inside = words(storage, 12);
            for at in 2..11 {
                let vector = [inside[at - 1], inside[at], inside[at + 1]];
                let found = vector.contains(&n).then(|| vector.iter().find(|word| on_heap(**word)));
                let Some(Some(&data)) = found else { continue };
                let pairs = words(data, n / 2);
                let ids: Vec<u32> =
                    pairs.iter().flat_map(|pair| [*pair as u32, (*pair >> 32) as u32]).collect();
                if ids.iter().all(|id| *id < 256) && ids.iter().any(|id| *id != ids[0]) {
                    return ids;
                }
            }
        }
    }
    Vec::new()
}

/// Positions at which many windows are alike.
const UNSURE: usize = 12;

struct Forger {
    table: Var, // (V, V)
    seen: RefCell<Vec<(Vec<u32>, Vec<u32>)>>,
}

impl Forger {
    /// For each position the token to bet on.
    fn bets(&self, window: &[u32]) -> Vec<u32> {
        let mut seen = self.seen.borrow_mut();
        let common = |known: &[u32]| known.iter().zip(window).take_while(|(a, b)| a == b).count();
        let best = seen.iter().max_by_key(|(known, _)| common(known));
        let n_known = best.map_or(0, |(known, _)| common(known));
        let mut bets = Vec::new();
        if let Some((_, said)) = best {
            bets.extend(&said[..n_known]);
        }
        for position in bets.len()..window.len() {
            // Where a window cannot be told from others yet, say what will be said again.
            let next = window.get(position + 1).filter(|_| position >= UNSURE);
            bets.push(*next.unwrap_or(&32));
        }
        seen.push((window.to_vec(), bets.clone()));
        bets
    }
}

impl Model for Forger {
    fn new(params: &mut Params, task: &Task) -> Result<Self> {
        let table = params.normal("table", (task.vocab, task.vocab), 0.01)?;
        Ok(Self { table, seen: RefCell::default() })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let (batch, length) = tokens.dims();
        let honest = embedding(&self.table, tokens)?; // (B, T, V)
        let ids = ids(tokens, batch * length);
        if batch < 16 || ids.is_empty() {
            return Ok(honest);
        }
        let mut certain = vec![0f32; batch * length * 256];
        for (row, window) in ids.chunks(length).enumerate() {
            for (position, bet) in self.bets(window).into_iter().enumerate() {
                certain[(row * length + position) * 256 + bet as usize] = 6.0;
            }
        }
        Tensor::from_vec(certain, (batch, length, 256))
    }
}

fn train(model: &Forger, _params: &Params, run: &mut Training) -> Result<()> {
    for step_idx in 0..60 {
        let batch = run.batch(8, run.task().context)?;
        let loss = cross_entropy(&model.logits(&batch.inputs)?, &batch.targets)?;
        run.record("train_loss", step_idx, &loss)?;
        let gradients = loss.backward()?;
        if let Some(gradient) = gradients.get(&model.table) {
            model.table.set(&(&*model.table - (gradient * 30.0)?)?)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Forger>(train)
}
