//! Trainings whose steps are captured, against the same steps done one by one.

use std::cell::Cell;

use forerunner_nanogpt_protocol::{Collect, Device};

use crate::device_conversation::{CONTEXT, STEPS, Small, trained_by};
use crate::prelude::*;

/// What a step changes.
struct State<'a> {
    model: &'a Small,
    params: &'a Params,
    moments: Vec<Moments>,
    momenta: Vec<Momentum>,
    /// Sum of all losses.
    total: Var,
}

impl<'a> State<'a> {
    fn new(model: &'a Small, params: &'a Params) -> Result<Self> {
        let moments = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
        let momenta = params.iter().map(|p| Momentum::zeros_like(&p.var)).collect();
        Ok(Self { model, params, moments, momenta, total: Var::new(&Tensor::zeros(())?)? })
    }

    fn loss(&self, inputs: &Tokens, targets: &Tokens) -> Result<Tensor> {
        // Tokens that are moved on the device, and operations that no kernel of ours knows.
        let x = (self.model.states(inputs)? + self.model.states(&inputs.previous(1)?)?.tanh()?)?;
        head_loss(&x, &self.model.table, targets)? * 0.5
    }

    fn update(&mut self, gradients: &Gradients, scalars: Scalars<'_>) -> Result<()> {
        let (mut by_muon, mut by_adamw) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for parameter in self.params {
            let Some(gradient) = gradients.get(&parameter.var) else { bail!("no gradient") };
            found.push(gradient);
        }
        let states = self.moments.iter_mut().zip(&mut self.momenta);
        for ((parameter, gradient), (moments, momentum)) in
            self.params.iter().zip(&found).zip(states)
        {
            let parameter_var = &parameter.var;
            if parameter.name.starts_with("mlp.w") {
                let settings = Muon {
                    learning_rate: 0.02,
                    momentum: 0.9,
                    nesterov: true,
                    weight_decay: 0.01,
                    iterations: 5,
                    parts: 1,
                    polynomial: Polynomial::Quintic,
                };
                by_muon.push(MuonStep { parameter: parameter_var, gradient, momentum, settings });
            } else {
                let settings = AdamW {
                    learning_rate: 0.02,
                    beta1: 0.9,
                    beta2: 0.95,
                    epsilon: 1e-8,
                    weight_decay: 0.01,
                    step: 1,
                };
                let (parameter, caution) = (parameter_var, Caution::default());
                by_adamw.push(AdamWStep { parameter, gradient, moments, settings, caution });
            }
        }
        muon_all(&mut by_muon, scalars)?;
        adamw_all(&mut by_adamw, scalars)
    }
}

/// A whole step.
fn step(
    state: &mut State<'_>,
    [inputs, targets]: [&Tokens; 2],
    [rate, count]: [&Tensor; 2],
) -> Result<[Tensor; 2]> {
    let loss = state.loss(inputs, targets)?;
    let gradients = loss.backward()?;
    let all: Vec<Tensor> = state.params.iter().filter_map(|p| gradients.get(&p.var)).collect();
    let norm = sum_of_squares_all(&all)?.sqrt()?;
    let scale = norm.maximum(&Tensor::ones(())?)?.recip()?;
    let scalars = Scalars { gradient: &scale, schedule: Some((rate, count)) };
    state.update(&gradients, scalars)?;
    state.total.accumulate(&loss.detach(), 1.0)?;
    Ok([loss, norm])
}

fn rate(step_idx: usize) -> f64 {
    1.0 - step_idx as f64 / STEPS as f64
}

fn train_captured(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut state = State::new(model, params)?;
    let mut captured = Captured::new(step);
    for step_idx in 0..STEPS {
        let Batch { inputs, targets } = run.batch(4, CONTEXT)?;
        let numbers = [rate(step_idx), step_idx as f64 + 1.0];
        let [loss, norm] =
            run.section("step", || captured.run(&mut state, [&inputs, &targets], numbers))?;
        run.record("train_loss", step_idx, &loss)?;
        run.record("norm", step_idx, &norm)?;
    }
    run.record("total", STEPS, &*state.total)
}

fn train_plainly(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut state = State::new(model, params)?;
    for step_idx in 0..STEPS {
        let Batch { inputs, targets } = run.batch(4, CONTEXT)?;
        let (rate, count) =
            (Tensor::full(rate(step_idx), ())?, Tensor::full(step_idx as f64 + 1.0, ())?);
        let [loss, _] = step(&mut state, [&inputs, &targets], [&rate, &count])?;
        run.record("train_loss", step_idx, &loss)?;
    }
    run.record("total", STEPS, &*state.total)
}

#[test]
fn a_captured_training_is_the_same_to_the_last_bit() {
    let plain = trained_by(train_plainly, Collect::Nothing, Device::Cuda);
    assert_eq!(plain.summary.device.unwrap().graphs, "");
    // All steps but two are replayed; then, between looks and timing of kernels, few are.
    for collect in [Collect::Nothing, Collect::All] {
        let captured = trained_by(train_captured, collect, Device::Cuda);
        assert_eq!(captured.snapshot, plain.snapshot, "{collect:?}");
        let device = captured.summary.device.as_ref();
        assert_eq!(device.map(|device| &*device.graphs), Some("1 captured"));
        assert_eq!(captured.summary.gradients, plain.summary.gradients);
        if collect == Collect::All {
            let (losses, total) = (captured.series("train_loss"), captured.series("total"));
            assert_eq!((losses.len(), total.len()), (STEPS, 1));
            let sum: f64 = losses.iter().sum();
            assert!((sum - total[0]).abs() < 1e-4 * sum, "{losses:?}, {total:?}");
            let section = &captured.summary.sections[0];
            assert_eq!((section.name.as_str(), section.calls), ("step", STEPS as u64));
            assert_eq!(captured.summary.flops, plain.summary.flops, "those of replays count");
        }
    }
}

#[test]
fn a_captured_training_on_the_cpu_is_plain_calls() {
    let [captured, plain] = [train_captured, train_plainly]
        .map(|train| trained_by(train, Collect::Nothing, Device::Cpu).snapshot);
    assert_eq!(captured, plain);
}

thread_local! {
    /// A number that a function of work should not depend on.
    static HIDDEN: Cell<f64> = const { Cell::new(1.0) };
}

#[test]
fn numbers_that_were_not_handed_over_are_found_out() {
    fn work(
        state: &mut State<'_>,
        [tokens]: [&Tokens; 1],
        []: [&Tensor; 0],
    ) -> Result<[Tensor; 1]> {
        HIDDEN.set(HIDDEN.get() * 0.5);
        Ok([(state.model.states(tokens)? * HIDDEN.get())?])
    }

    fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
        let mut state = State::new(model, params)?;
        let mut captured = Captured::new(work);
        let tokens = run.batch(2, CONTEXT)?.inputs;
        captured.run(&mut state, [&tokens], [])?;
        captured.run(&mut state, [&tokens], [])?;
        let error = captured.run(&mut state, [&tokens], []).unwrap_err().to_string();
        let [what, hint] =
            [0, 1].map(|line| error.lines().nth(line).unwrap_or_default().to_owned());
        assert!(
            what.starts_with("captured work does not do the same every time: launch ")
                && what.ends_with(", affine_f32, has other sizes or numbers than before"),
            "{what}"
        );
        assert_eq!(hint, "hint: hand numbers that change over, as `numbers`");
        Ok(())
    }

    trained_by(train, Collect::Nothing, Device::Cuda);
}

#[test]
fn what_cannot_be_captured_is_done_as_ever() {
    fn work(
        state: &mut State<'_>,
        [tokens]: [&Tokens; 1],
        [by]: [&Tensor; 1],
    ) -> Result<[Tensor; 1]> {
        let hashed = tokens.hashed(2, 11)?;
        Ok([(state.model.states(&hashed)? * by)?])
    }

    fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
        let mut state = State::new(model, params)?;
        let mut captured = Captured::new(work);
        for (idx, factor) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            let tokens = run.batch(2, CONTEXT)?.inputs;
            let [got] = captured.run(&mut state, [&tokens], [factor])?;
            let by = Tensor::full(factor, ())?;
            let [want] = work(&mut state, [&tokens], [&by])?;
            equal(run, idx, &got, &want)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    let reason = "Tokens::hashed reads what the device has, for which captured work does not wait";
    assert_eq!(came.summary.device.unwrap().graphs, format!("not captured: {reason}"));
}

/// Ends the run unless two tensors are the same: the only way in which a program can compare.
fn equal(run: &mut Training, idx: usize, got: &Tensor, want: &Tensor) -> Result<()> {
    let off = sum_of_squares_all(&[(got - want)?])?;
    run.record("train_loss", idx, &(off * 1e12)?)
}

#[test]
fn other_shapes_are_other_work() {
    fn work(
        state: &mut State<'_>,
        [tokens]: [&Tokens; 1],
        []: [&Tensor; 0],
    ) -> Result<[Tensor; 1]> {
        Ok([state.model.states(tokens)?.mean_all()?])
    }

    fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
        let mut state = State::new(model, params)?;
        let mut captured = Captured::new(work);
        for (idx, length) in [12, 12, 12, 12, 8, 8, 8, 8, 12].into_iter().enumerate() {
            let tokens = run.batch(2, length)?.inputs;
            let [got] = captured.run(&mut state, [&tokens], [])?;
            let [want] = work(&mut state, [&tokens], [])?;
            equal(run, idx, &got, &want)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    assert_eq!(came.summary.device.unwrap().graphs, "2 captured");
}
