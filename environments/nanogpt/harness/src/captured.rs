//! Work that is the same in every step, captured as a CUDA graph where there is a GPU.

use crate::{Result, Tensor, Tokens};

/// Work that is done again and again: on the tokens and with the numbers that it is handed, and on
/// what a program keeps.
///
/// On the CPU this is a call of a function. On a GPU every operation costs the host microseconds,
/// which is what a small model spends its time on; there the work is done twice as ever, recorded as a
/// CUDA graph, and replayed, which costs the host about as much as a single operation:
///
/// ```no_run
/// # use harness::prelude::*;
/// struct State {
///     table: Var,
///     moments: Moments,
/// }
///
/// fn step(
///     state: &mut State,
///     [inputs, targets]: [&Tokens; 2],
///     [rate, count]: [&Tensor; 2],
/// ) -> Result<[Tensor; 1]> {
///     let loss = cross_entropy(&embedding(&state.table, inputs)?, targets)?;
///     let Some(gradient) = loss.backward()?.get(&state.table) else { bail!("no gradient") };
///     let one = Tensor::ones(())?;
///     let scalars = Scalars { gradient: &one, schedule: Some((rate, count)) };
///     let settings = AdamW {
///         learning_rate: 0.1,
///         beta1: 0.9,
///         beta2: 0.95,
///         epsilon: 1e-8,
///         weight_decay: 0.0,
///         step: 1,
///     };
///     let (parameter, moments) = (&state.table, &mut state.moments);
///     let (gradient, caution) = (&gradient, Caution::default());
///     adamw_all(&mut [AdamWStep { parameter, gradient, moments, settings, caution }], scalars)?;
///     Ok([loss])
/// }
///
/// fn train(state: &mut State, run: &mut Training) -> Result<()> {
///     let mut step = Captured::new(step);
///     for idx in 0..1000 {
///         let Batch { inputs, targets } = run.batch(8, 64)?;
///         let rate = 1.0 - idx as f64 / 1000.0;
///         let [loss] = step.run(state, [&inputs, &targets], [rate, idx as f64 + 1.0])?;
///         run.record("train_loss", idx, &loss)?;
///     }
///     Ok(())
/// }
/// ```
///
/// What the function has to keep to, because a replay does not call it:
///
/// - Numbers that change from step to step are handed over, and arrive as scalar tensors. Others stay
///   what they were when the work was recorded; work whose operations get other numbers, or are
///   others, in the third call than in the second ends the run.
/// - Optimizers take learning rates and the step's number from tensors ([`crate::Scalars::schedule`]).
/// - What it keeps beyond the call it writes in place: [`crate::Var::set`], [`crate::Var::fill`],
///   [`crate::Var::accumulate`], optimizers. Results are copied out; nothing else made in a call may be
///   kept.
/// - [`Tokens::hashed`], and kernels by candle that read the host, cannot be recorded.
///
/// Where a device cannot record the work, it is done as ever, and telemetry says why. Now and then it
/// is done as ever anyway: while kernels are timed one by one, and while norms are looked at.
pub struct Captured<S, const T: usize, const N: usize, const R: usize> {
    work: Work<S, T, N, R>,
    #[cfg(feature = "device")]
    stage: on_device::Stage<T, R>,
}

type Work<S, const T: usize, const N: usize, const R: usize> =
    fn(&mut S, [&Tokens; T], [&Tensor; N]) -> Result<[Tensor; R]>;

impl<S, const T: usize, const N: usize, const R: usize> Captured<S, T, N, R> {
    /// Work that was not done yet. A function, not a closure: what it depends on is handed to it.
    pub fn new(work: Work<S, T, N, R>) -> Self {
        Self {
            work,
            #[cfg(feature = "device")]
            stage: on_device::Stage::default(),
        }
    }

    /// Does the work; its results have no history. Numbers arrive in single precision.
    ///
    /// # Errors
    ///
    /// Those of the work, and on a GPU when it does not do the same as the first time.
    pub fn run(
        &mut self,
        state: &mut S,
        tokens: [&Tokens; T],
        numbers: [f64; N],
    ) -> Result<[Tensor; R]> {
        #[cfg(feature = "device")]
        if crate::device::current().is_some() {
            return self.stage.run(self.work, state, tokens, numbers);
        }
        let mut scalars = Vec::with_capacity(N);
        for number in numbers {
            scalars.push(Tensor::full(number, ())?);
        }
        let results = (self.work)(state, tokens, std::array::from_fn(|idx| &scalars[idx]))?;
        Ok(results.map(|result| result.detach()))
    }
}

#[cfg(feature = "device")]
mod on_device {
    //! Done, recorded, replayed.

    use candle_core::{DType, Device};
    use forerunner_train_ops::device::{self as ops, Traced, Watched};

    use super::Work;
    use crate::norms::looking;
    use crate::tensor::{n_backward, set_backward};
    use crate::{Error, Result, Tensor, Tokens};

    /// Values from one number to the next: each begins where wide accesses may.
    const STRIDE: usize = 4;

    /// How far the work has come.
    pub(super) struct Stage<const T: usize, const R: usize> {
        /// What the work reads, and its results: always the same memory.
        memory: Option<Memory<T, R>>,
        recorded: Recorded,
    }

    struct Memory<const T: usize, const R: usize> {
        tokens: [Tokens; T],
        numbers: candle_core::Tensor,
        /// None before the work was done once.
        results: Option<[Tensor; R]>,
    }

    enum Recorded {
        Not,
        /// Done once: what is made at first use is there.
        Done,
        Watched(Watched),
        /// With the number of times that a replay goes backward.
        Captured(ops::Captured, u64),
        Refused,
    }

    impl<const T: usize, const R: usize> Default for Stage<T, R> {
        fn default() -> Self {
            Self { memory: None, recorded: Recorded::Not }
        }
    }

    impl<const T: usize, const R: usize> Stage<T, R> {
        pub(super) fn run<S, const N: usize>(
            &mut self,
            work: Work<S, T, N, R>,
            state: &mut S,
            tokens: [&Tokens; T],
            numbers: [f64; N],
        ) -> Result<[Tensor; R]> {
            if ops::is_capturing() {
                return Err(Error::program("captured work inside captured work"));
            }
            if self.memory.as_ref().is_some_and(|memory| !memory.fits(tokens)) {
                // Other shapes are other work.
                *self = Self::default();
            }
            let memory = match &mut self.memory {
                Some(memory) => memory,
                None => self.memory.insert(Memory::new(tokens, N)?),
            };
            memory.write(tokens, numbers)?;
            let is_plain = match self.recorded {
                Recorded::Not => {
                    self.recorded = Recorded::Done;
                    true
                }
                Recorded::Refused => true,
                _ => looking() || crate::device::is_timed(),
            };
            if is_plain {
                return detached(memory.done(work, state)?);
            }
            match &self.recorded {
                Recorded::Captured(captured, n) => {
                    captured.replay()?;
                    set_backward(n_backward() + n);
                }
                Recorded::Watched(watched) => {
                    let before = n_backward();
                    let recorded = watched.capture(|| memory.done(work, state).map(drop));
                    let n = n_backward() - before;
                    match recorded {
                        Ok(Ok(((), captured))) => {
                            captured.replay()?;
                            crate::device::captured(None);
                            self.recorded = Recorded::Captured(captured, n);
                        }
                        Ok(Err(difference)) => {
                            return Err(Error::program(format!(
                                "captured work does not do the same every time: {difference}\n\
                                 hint: hand numbers that change over, as `numbers`"
                            )));
                        }
                        Err(error) => {
                            // Candle's errors may carry a backtrace.
                            let reason = error.to_string().lines().next().map(str::to_owned);
                            crate::device::captured(Some(reason.unwrap_or_default()));
                            self.recorded = Recorded::Refused;
                            set_backward(before);
                            return detached(memory.done(work, state)?);
                        }
                    }
                }
                _ => {
                    let ((), watched) = Watched::new(|| memory.done(work, state).map(drop))?;
                    self.recorded = Recorded::Watched(watched);
                }
            }
            match &memory.results {
                Some(results) => detached(results.clone()),
                None => Err(Error::program("captured work has no results")),
            }
        }
    }

    impl<const T: usize, const R: usize> Memory<T, R> {
        fn new(tokens: [&Tokens; T], n_numbers: usize) -> Result<Self> {
            let mut own = Vec::with_capacity(T);
            for tokens in tokens {
                own.push(tokens.with_ids(ops::copy_of(&tokens.ids)?));
            }
            let Ok(tokens) = own.try_into() else {
                return Err(Error::program("captured work reads as many tokens as it reads"));
            };
            let numbers = ops::full((n_numbers.max(1), STRIDE), 0.0)?;
            Ok(Self { tokens, numbers, results: None })
        }

        fn fits(&self, tokens: [&Tokens; T]) -> bool {
            let facts = |tokens: &Tokens| (tokens.dims(), tokens.bound());
            self.tokens.iter().zip(tokens).all(|(own, tokens)| facts(own) == facts(tokens))
        }

        fn write<const N: usize>(&self, tokens: [&Tokens; T], numbers: [f64; N]) -> Result<()> {
            for (own, tokens) in self.tokens.iter().zip(tokens) {
                ops::copy_to(&own.ids, &tokens.ids)?;
            }
            if N == 0 {
                return Ok(());
            }
            let mut values = vec![0.0f32; N * STRIDE];
            for (idx, number) in numbers.iter().enumerate() {
                values[idx * STRIDE] = *number as f32;
            }
            let values = candle_core::Tensor::from_vec(values, (N, STRIDE), &Device::Cpu)?;
            Ok(ops::copy_to(&self.numbers, &values.to_device(self.numbers.device())?)?)
        }

        /// Does the work, and copies its results to where they always lie.
        fn done<S, const N: usize>(
            &mut self,
            work: Work<S, T, N, R>,
            state: &mut S,
        ) -> Result<[Tensor; R]> {
            let mut scalars = Vec::with_capacity(N);
            for idx in 0..N {
                let number = self.numbers.narrow(0, idx, 1)?.narrow(1, 0, 1)?.reshape(())?;
                scalars.push(Tensor::traced(Traced::constant(&number)));
            }
            let tokens = std::array::from_fn(|idx| &self.tokens[idx]);
            let found = work(state, tokens, std::array::from_fn(|idx| &scalars[idx]))?;
            let Some(results) = &self.results else {
                let mut results = Vec::with_capacity(R);
                for found in &found {
                    results.push(copy_of(found)?);
                }
                let Ok(results) = <[Tensor; R]>::try_from(results) else {
                    return Err(Error::program("captured work has as many results as it has"));
                };
                return Ok(self.results.insert(results).clone());
            };
            for (to, from) in results.iter().zip(&found) {
                ops::copy_to(to.values(), from.values())?;
            }
            Ok(results.clone())
        }
    }

    /// Copies, which the next replay does not overwrite.
    fn detached<const R: usize>(results: [Tensor; R]) -> Result<[Tensor; R]> {
        let mut copies = Vec::with_capacity(R);
        for result in &results {
            copies.push(copy_of(result)?);
        }
        copies.try_into().map_err(|_| Error::program("there are as many copies as results"))
    }

    fn copy_of(tensor: &Tensor) -> Result<Tensor> {
        let values = tensor.values();
        debug_assert!(matches!(values.dtype(), DType::F32 | DType::BF16));
        Ok(Tensor::traced(Traced::constant(&ops::copy_of(values)?)))
    }
}
