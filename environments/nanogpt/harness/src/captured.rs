//! Work that is the same in every step, captured as a CUDA graph where there is a GPU.

use crate::{Result, Tensor, Tokens};

/// What a program keeps, and work on it that is done again and again with other tokens and numbers.
///
/// On the CPU that is a call of a function. On a GPU every operation costs the host microseconds,
/// which is what a small model spends its time on; there the work is done twice as ever, recorded as a
/// CUDA graph, and replayed, which costs the host about as much as a few operations:
///
/// ```no_run
/// # use harness::prelude::*;
/// struct Trainer {
///     table: Var,
///     moments: Moments,
///     one: Tensor,
/// }
///
/// fn step(
///     trainer: &mut Trainer,
///     [inputs, targets]: [&Tokens; 2],
///     [rate, count]: [&Tensor; 2],
/// ) -> Result<[Tensor; 1]> {
///     let loss = cross_entropy(&embedding(&trainer.table, inputs)?, targets)?;
///     let Some(gradient) = loss.backward()?.get(&trainer.table) else { bail!("no gradient") };
///     let settings = AdamW {
///         learning_rate: 0.1,
///         beta1: 0.9,
///         beta2: 0.95,
///         epsilon: 1e-8,
///         weight_decay: 0.0,
///         step: 1, // `count` counts
///     };
///     let scalars = Scalars { gradient: &trainer.one, schedule: Some((rate, count)) };
///     adamw(&trainer.table, &gradient, scalars, &mut trainer.moments, &settings)?;
///     Ok([loss])
/// }
///
/// fn train(trainer: Trainer, run: &mut Training) -> Result<()> {
///     let mut trainer = Captured::new(trainer);
///     for idx in 0..1000 {
///         let Batch { inputs, targets } = run.batch(8, 64)?;
///         let numbers = [1.0 - idx as f64 / 1000.0, idx as f64 + 1.0];
///         let [loss] = trainer.run(step, [&inputs, &targets], numbers)?;
///         run.record("train_loss", idx, &loss)?;
///     }
///     Ok(())
/// }
/// ```
///
/// # What the work has to keep to
///
/// A replay does not call the function. So:
///
/// - Numbers that change from step to step are handed over, and arrive as scalar tensors. Optimizers
///   take a factor on learning rates and the step's number from tensors
///   ([`Scalars::schedule`](crate::Scalars::schedule)); their other settings stay what they are.
/// - A counter, a choice or a random number of the host's has the value that it had when the work was
///   recorded. Calls that are done as ever (below) run the function, replays do not, and a call whose
///   recording is refused runs it twice: what is to be counted in each step is counted outside.
/// - Where operations, their numbers, or the memory that they read and write are others when the work
///   is recorded than when it was watched, the run ends and says so. Later calls are not looked at.
/// - What is kept beyond the call is written in place: [`Var::set`](crate::Var::set),
///   [`Var::fill`](crate::Var::fill), [`Var::accumulate`](crate::Var::accumulate), optimizers. Nothing
///   else that was made in a call may be kept, the tokens and numbers that arrive included. Results
///   are copied out.
/// - Constants are made beforehand ([`Tensor::from_vec`](crate::Tensor::from_vec)), so are variables and
///   the states of optimizers.
///
/// Where a device cannot record the work, it is done as ever, and telemetry says why: so it is with
/// [`Tokens::hashed`], with records and batches inside, and with what candle does by way of the host.
/// And it is done as ever now and then: while kernels are timed one by one, and where norms are looked
/// at. Sections inside the work are timed only then.
pub struct Captured<S> {
    state: S,
    #[cfg(feature = "device")]
    graphs: on_device::Graphs,
}

/// Work on a state, on tokens and with numbers.
type Work<S, const T: usize, const N: usize, const R: usize> =
    fn(&mut S, [&Tokens; T], [&Tensor; N]) -> Result<[Tensor; R]>;

impl<S> Captured<S> {
    /// Nothing has been done yet.
    pub fn new(state: S) -> Self {
        Self {
            state,
            #[cfg(feature = "device")]
            graphs: on_device::Graphs::default(),
        }
    }

    /// What the work changes.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// What the work changes, for other changes than the work's: what was recorded is forgotten.
    pub fn state_mut(&mut self) -> &mut S {
        #[cfg(feature = "device")]
        {
            self.graphs = on_device::Graphs::default();
        }
        &mut self.state
    }

    /// Does the work, a function of the state, of tokens and of numbers, which arrive in single
    /// precision. Its results have no history. Work on tokens of other shapes is other work; of eight at
    /// most, the last ones, it is remembered how to do them.
    ///
    /// # Errors
    ///
    /// Those of the work, and on a GPU when it does not do the same every time.
    pub fn run<const T: usize, const N: usize, const R: usize>(
        &mut self,
        work: Work<S, T, N, R>,
        tokens: [&Tokens; T],
        numbers: [f64; N],
    ) -> Result<[Tensor; R]> {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            return self.graphs.run(&mut self.state, work, tokens, numbers);
        }
        called(&mut self.state, work, tokens, numbers)
    }
}

/// The work, as a call.
fn called<S, const T: usize, const N: usize, const R: usize>(
    state: &mut S,
    work: Work<S, T, N, R>,
    tokens: [&Tokens; T],
    numbers: [f64; N],
) -> Result<[Tensor; R]> {
    let scalars = each(numbers, |number| Tensor::full(number, ()))?;
    let results = work(state, tokens, scalars.each_ref())?;
    // A result may be a variable of the state's.
    each(results, |result| result.copy())
}

fn each<A, B, const N: usize>(all: [A; N], make: impl Fn(A) -> Result<B>) -> Result<[B; N]> {
    let made = all.into_iter().map(make).collect::<Result<Vec<_>>>()?;
    made.try_into().map_err(|_| crate::Error::program("as many as there were"))
}

#[cfg(feature = "device")]
mod on_device {
    //! Done, watched, recorded, replayed.

    use candle_core::Device;
    use forerunner_train_ops::device::{self as ops, NotCaptured, Traced, Watched};

    use super::{Work, called};
    use crate::norms::{looking, n_seen};
    use crate::tensor::{n_backward, set_backward};
    use crate::{Error, Result, Tensor, Tokens};

    /// Works, or shapes of tokens, that are known at a time; the one that was not done for the longest
    /// time is forgotten.
    const MOST: usize = 8;
    /// Values from one number to the next: each begins where wide accesses may.
    const STRIDE: usize = 4;

    /// All work on a state, what was done last at the end.
    #[derive(Default)]
    pub(super) struct Graphs(Vec<(Key, Stage)>);

    /// A function, shapes and bounds of its tokens, and how many numbers and results it has.
    type Key = (usize, Vec<((usize, usize), usize)>, usize, usize);

    impl Graphs {
        pub(super) fn run<S, const T: usize, const N: usize, const R: usize>(
            &mut self,
            state: &mut S,
            work: Work<S, T, N, R>,
            tokens: [&Tokens; T],
            numbers: [f64; N],
        ) -> Result<[Tensor; R]> {
            if ops::is_in_pass() {
                // Part of other work, which is captured with it.
                return called(state, work, tokens, numbers);
            }
            let facts = tokens.map(|tokens| (tokens.dims(), tokens.bound()));
            let key = (work as usize, facts.to_vec(), N, R);
            let known = self.0.iter().position(|(other, _)| *other == key);
            let mut stage = match known {
                Some(idx) => self.0.remove(idx).1,
                None => Stage::new(&tokens, N)?,
            };
            // As many as the key says.
            let done = stage.run(&tokens, &numbers, |tokens, numbers| {
                let tokens = std::array::from_fn(|idx| &tokens[idx]);
                let numbers = std::array::from_fn(|idx| &numbers[idx]);
                Ok(work(state, tokens, numbers)?.to_vec())
            });
            let results = done.and_then(|()| stage.results())?;
            if self.0.len() == MOST {
                self.0.remove(0);
            }
            self.0.push((key, stage));
            results.try_into().map_err(|_| Error::program("as many results as there are"))
        }
    }

    /// One work, and how far it has come.
    struct Stage {
        /// What the work reads, always the same memory.
        tokens: Vec<Tokens>,
        numbers: candle_core::Tensor,
        n_numbers: usize,
        /// Its results, always the same memory; none before it was done once.
        results: Option<Vec<Tensor>>,
        /// Whether it takes steps whose norms are looked at, once that is known.
        takes_steps: Option<bool>,
        recorded: Recorded,
    }

    enum Recorded {
        Not,
        /// Done once: what is made at first use is there.
        Once,
        Watched(Watched),
        /// With the number of times that a replay goes backward.
        Captured(ops::Captured, u64),
        Refused,
    }

    impl Stage {
        fn new(tokens: &[&Tokens], n_numbers: usize) -> Result<Self> {
            let own = |tokens: &&Tokens| Ok(tokens.with_ids(ops::copy_of(&tokens.ids)?));
            Ok(Self {
                tokens: tokens.iter().map(own).collect::<Result<_>>()?,
                numbers: ops::full((n_numbers.max(1), STRIDE), 0.0)?,
                n_numbers,
                results: None,
                takes_steps: None,
                recorded: Recorded::Not,
            })
        }

        /// Copies of the results, which the next replay does not overwrite.
        fn results(&self) -> Result<Vec<Tensor>> {
            self.results.iter().flatten().map(Tensor::copy).collect()
        }

        fn run(
            &mut self,
            tokens: &[&Tokens],
            numbers: &[f64],
            work: impl FnMut(&[Tokens], &[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<()> {
            self.write(tokens, numbers)?;
            let is_looked_at = looking() && self.takes_steps != Some(false);
            let is_plain = matches!(self.recorded, Recorded::Not | Recorded::Refused);
            if is_plain || is_looked_at || crate::device::is_timed() {
                self.do_plainly(work)
            } else {
                self.go_on(work)
            }
        }

        /// Does the work as ever.
        fn do_plainly(
            &mut self,
            work: impl FnMut(&[Tokens], &[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<()> {
            if !matches!(self.recorded, Recorded::Refused) {
                ops::about_to_run_plainly()?;
            }
            let seen = n_seen();
            self.do_work(work)?;
            if looking() {
                self.takes_steps = Some(n_seen() > seen);
            }
            if let Recorded::Not = self.recorded {
                self.recorded = Recorded::Once;
            }
            Ok(())
        }

        /// Watches, records, or replays the work, whatever comes next.
        fn go_on(
            &mut self,
            mut work: impl FnMut(&[Tokens], &[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<()> {
            let before = n_backward();
            match std::mem::replace(&mut self.recorded, Recorded::Refused) {
                Recorded::Captured(captured, n) => {
                    captured.replay()?;
                    set_backward(before + n);
                    self.recorded = Recorded::Captured(captured, n);
                }
                Recorded::Watched(watched) => match watched.capture(|| self.do_work(&mut work)) {
                    Ok(((), captured)) => {
                        captured.replay()?;
                        crate::device::captured(None);
                        self.recorded = Recorded::Captured(captured, n_backward() - before);
                    }
                    Err(NotCaptured::Broken(reason)) => {
                        return Err(Error::program(format!(
                            "captured work is not captured: {reason}\n\
                             hint: what changes is handed over as a number, and what is kept is \
                             written in place; see `Captured`"
                        )));
                    }
                    Err(NotCaptured::Refused(error)) => {
                        // Candle's errors may carry a backtrace.
                        let reason = error.to_string().lines().next().map(str::to_owned);
                        crate::device::captured(Some(reason.unwrap_or_default()));
                        set_backward(before);
                        ops::about_to_run_plainly()?;
                        self.do_plainly(work)?;
                    }
                },
                Recorded::Not | Recorded::Once | Recorded::Refused => {
                    ops::about_to_run_plainly()?;
                    let ((), watched) = Watched::new(|| self.do_work(&mut work))?;
                    self.recorded = Recorded::Watched(watched);
                }
            }
            Ok(())
        }

        fn write(&self, tokens: &[&Tokens], numbers: &[f64]) -> Result<()> {
            for (own, tokens) in self.tokens.iter().zip(tokens) {
                ops::copy_to(&own.ids, &tokens.ids)?;
            }
            if numbers.is_empty() {
                return Ok(());
            }
            let mut values = vec![0.0f32; numbers.len() * STRIDE];
            for (idx, number) in numbers.iter().enumerate() {
                values[idx * STRIDE] = *number as f32;
            }
            let shape = (numbers.len(), STRIDE);
            let values = candle_core::Tensor::from_vec(values, shape, &Device::Cpu)?;
            Ok(ops::copy_to(&self.numbers, &values.to_device(self.numbers.device())?)?)
        }

        /// Does the work, or has it recorded, and copies its results to where they always lie.
        fn do_work(
            &mut self,
            mut work: impl FnMut(&[Tokens], &[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<()> {
            let mut numbers = Vec::with_capacity(self.n_numbers);
            for idx in 0..self.n_numbers {
                let number = self.numbers.narrow(0, idx, 1)?.narrow(1, 0, 1)?.reshape(())?;
                numbers.push(Tensor::traced(Traced::constant(&number)));
            }
            let found = work(&self.tokens, &numbers)?;
            match &self.results {
                Some(results) => {
                    for (to, from) in results.iter().zip(&found) {
                        ops::copy_to(to.values(), from.values())?;
                    }
                }
                None => self.results = Some(found.iter().map(Tensor::copy).collect::<Result<_>>()?),
            }
            Ok(())
        }
    }
}
