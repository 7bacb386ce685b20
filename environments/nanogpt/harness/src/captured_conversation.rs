//! Trainings whose steps are captured, against the same steps done one by one.

use std::cell::Cell;
use std::sync::mpsc::channel;

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
    let mut captured = Captured::new(State::new(model, params)?);
    for step_idx in 0..STEPS {
        let Batch { inputs, targets } = run.batch(4, CONTEXT)?;
        let numbers = [rate(step_idx), step_idx as f64 + 1.0];
        let [loss, norm] =
            run.section("step", || captured.run(step, [&inputs, &targets], numbers))?;
        run.record("train_loss", step_idx, &loss)?;
        run.record("norm", step_idx, &norm)?;
    }
    run.record("total", STEPS, &*captured.state().total)
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
    assert_eq!(plain.graphs(), "");
    // All steps but two are replayed; then, between looks and timing of kernels, few are.
    for collect in [Collect::Nothing, Collect::All] {
        let captured = trained_by(train_captured, collect, Device::Cuda);
        assert_eq!(captured.snapshot, plain.snapshot, "{collect:?}");
        assert_eq!(captured.graphs(), "1 captured");
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

/// Ends the run unless two tensors are the same: the only way in which a program can compare.
fn equal(run: &mut Training, idx: usize, got: &Tensor, want: &Tensor) -> Result<()> {
    let off = sum_of_squares_all(&[(got - want)?])?;
    run.record("train_loss", idx, &(off * 1e12)?)
}

thread_local! {
    /// A number that work should not depend on: half as large in each call.
    static HIDDEN: Cell<f64> = const { Cell::new(1.0) };
}

fn hidden() -> f64 {
    HIDDEN.replace(HIDDEN.get() * 0.5)
}

type Work = fn(&mut State<'_>, [&Tokens; 1], [&Tensor; 2]) -> Result<[Tensor; 1]>;

/// What became of the third call of this work: what was captured or not, or the error.
fn third_call(work: Work) -> String {
    let (send, said) = channel();
    let train = move |model: &Small, params: &Params, run: &mut Training| {
        HIDDEN.set(1.0);
        let mut captured = Captured::new(State::new(model, params)?);
        let tokens = run.batch(2, CONTEXT)?.inputs;
        let mut call = || captured.run(work, [&tokens], [0.5, 1.0]).map(drop);
        call()?;
        call()?;
        send.send(call().err()).map_err(|error| Error::program(error.to_string()))
    };
    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    match said.recv().unwrap() {
        Some(error) => error.to_string(),
        None => came.graphs().to_owned(),
    }
}

#[test]
fn work_that_changes_is_found_out() {
    let works: [(Work, &str); 6] = [
        (
            |state, [tokens], _| Ok([(state.model.states(tokens)? * hidden())?]),
            ": affine_f32, number ",
        ),
        (|state, [tokens], _| Ok([state.model.states(tokens)?.powf(hidden())?]), ": powf, number "),
        (
            |state, [tokens], _| {
                let start = if hidden() < 0.3 { 2 } else { 0 };
                Ok([state.model.states(&tokens.slice(start, 4)?)?])
            },
            ": it reads or writes other memory",
        ),
        (
            |state, [tokens], _| {
                Ok([state.model.states(&tokens.previous((8.0 * hidden()) as usize)?)?])
            },
            ": previous, number ",
        ),
        (
            |state, [tokens], [rate, count]| {
                let loss = state.loss(tokens, tokens)?;
                let Some(gradient) = loss.backward()?.get(&state.model.table) else {
                    bail!("no gradient")
                };
                let one = Tensor::ones(())?;
                let scalars = Scalars { gradient: &one, schedule: Some((rate, count)) };
                let settings =
                    Lion { learning_rate: 0.1, beta1: hidden(), beta2: 0.99, weight_decay: 0.0 };
                let table = &state.model.table;
                lion(table, &gradient, scalars, &mut state.momenta[0], &settings)?;
                Ok([loss])
            },
            ": settings, number ",
        ),
        (
            |state, [tokens], [by, _]| {
                let found = state.model.states(tokens)?;
                if hidden() > 0.3 {
                    return Ok([found]);
                }
                let added = (found.tanh()? * by)?;
                Ok([(added + Tensor::from_vec(vec![1.0], (1, 1, 1))?)?])
            },
            ", and failed: Tensor::from_vec needs the host",
        ),
    ];
    for (work, what) in works {
        let said = third_call(work);
        let begin =
            format!("captured work is not captured: it does not do the same every time{what}");
        assert!(said.starts_with(&begin), "{said}");
        assert!(said.contains("\nhint: what changes is handed over as a number"), "{said}");
    }
}

#[test]
fn what_cannot_be_captured_is_done_as_ever() {
    let works: [(Work, &str); 4] = [
        (|state, [tokens], _| Ok([state.model.states(&tokens.hashed(2, 11)?)?]), "Tokens::hashed"),
        (|_, _, [by, _]| Ok([(by + Tensor::from_vec(vec![1.0], ())?)?]), "Tensor::from_vec"),
        (|_, _, [by, _]| Ok([(by + &*Var::new(by)?)?]), "Var::new"),
        (
            |state, [tokens], [by, _]| {
                let loss = state.loss(tokens, tokens)?;
                let Some(gradient) = loss.backward()?.get(&state.model.table) else {
                    bail!("no gradient")
                };
                let settings =
                    Lion { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, weight_decay: 0.0 };
                lion(&state.model.table, &gradient, by, &mut state.momenta[0], &settings)?;
                Ok([loss])
            },
            "lion: learning rate and step are numbers of the host, and would stay as they are",
        ),
    ];
    for (work, what) in works {
        let said = third_call(work);
        assert!(said.starts_with(&format!("not captured: {what}")), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn what_was_not_captured_is_right() {
    fn work(
        state: &mut State<'_>,
        [tokens]: [&Tokens; 1],
        [by]: [&Tensor; 1],
    ) -> Result<[Tensor; 1]> {
        state.total.accumulate(by, 1.0)?;
        Ok([(state.model.states(&tokens.hashed(2, 11)?)? * &*state.total)?])
    }

    fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
        let (mut captured, mut plain) =
            (Captured::new(State::new(model, params)?), State::new(model, params)?);
        for (idx, factor) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            let tokens = run.batch(2, CONTEXT)?.inputs;
            let [got] = captured.run(work, [&tokens], [factor])?;
            let [want] = work(&mut plain, [&tokens], [&Tensor::full(factor, ())?])?;
            equal(run, idx, &got, &want)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    let reason = "not captured: Tokens::hashed needs the host, and cannot be captured";
    assert_eq!(came.graphs(), reason);
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
        let (mut captured, mut plain) =
            (Captured::new(State::new(model, params)?), State::new(model, params)?);
        for idx in 0..12 {
            let tokens = run.batch(2, if idx % 2 == 0 { 12 } else { 8 })?.inputs;
            let [got] = captured.run(work, [&tokens], [])?;
            let [want] = work(&mut plain, [&tokens], [])?;
            equal(run, idx, &got, &want)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    assert_eq!(came.graphs(), "2 captured");
}

/// What is kept for others than the work: an average, read in bf16 outside, and results that are variables.
#[test]
fn what_captured_work_keeps_is_seen_outside() {
    struct Average {
        matrix: Var,
        count: Var,
        factor: Tensor,
    }

    fn work(average: &mut Average, []: [&Tokens; 0], [by]: [&Tensor; 1]) -> Result<[Tensor; 1]> {
        let added = (by * &average.factor)?.broadcast_as((8, 8))?;
        average.matrix.accumulate(&added, 0.5)?;
        average.count.accumulate(&Tensor::ones(())?, 1.0)?;
        Ok([(*average.count).clone()])
    }

    fn train(_: &Small, _: &Params, run: &mut Training) -> Result<()> {
        let zeros = |shape: &[usize]| Var::new(&Tensor::zeros(shape)?);
        let factor = Tensor::full(1.0, ())?;
        let average = Average { matrix: zeros(&[8, 8])?, count: zeros(&[])?, factor };
        let mut captured = Captured::new(average);
        let x = Tensor::ones((1, 8))?;
        let (mut sum, mut counts) = (0.0, Vec::new());
        for idx in 0..12 {
            if idx == 9 {
                captured.state_mut().factor = Tensor::full(3.0, ())?;
            }
            let [count] = captured.run(work, [], [idx as f64])?;
            counts.push(count);
            sum += 0.5 * idx as f64 * if idx >= 9 { 3.0 } else { 1.0 };
            // The first reading comes after the work was captured.
            if idx > 4 {
                let got = linear_no_bias(&x, &captured.state().matrix)?;
                equal(run, idx, &got, &Tensor::full(8.0 * sum, (1, 8))?)?;
            }
        }
        for (idx, count) in counts.iter().enumerate() {
            equal(run, idx, count, &Tensor::full(idx as f64 + 1.0, ())?)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    assert_eq!(came.graphs(), "2 captured", "once more after a change");
    trained_by(train, Collect::Nothing, Device::Cpu);
}

#[test]
fn captured_work_may_be_part_of_other_work() {
    struct Outer<'a> {
        inner: Captured<State<'a>>,
    }

    fn inner(
        state: &mut State<'_>,
        [tokens]: [&Tokens; 1],
        [by]: [&Tensor; 1],
    ) -> Result<[Tensor; 1]> {
        Ok([(state.model.states(tokens)? * by)?])
    }

    fn work(
        outer: &mut Outer<'_>,
        [tokens]: [&Tokens; 1],
        []: [&Tensor; 0],
    ) -> Result<[Tensor; 1]> {
        let [once] = outer.inner.run(inner, [tokens], [2.0])?;
        Ok([once.mean_all()?])
    }

    fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
        let inside = Captured::new(State::new(model, params)?);
        let mut captured = Captured::new(Outer { inner: inside });
        for idx in 0..6 {
            let tokens = run.batch(2, CONTEXT)?.inputs;
            let [got] = captured.run(work, [&tokens], [])?;
            equal(run, idx, &got, &(model.states(&tokens)? * 2.0)?.mean_all()?)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::Nothing, Device::Cuda);
    assert_eq!(came.graphs(), "1 captured");
}

/// Norms are looked at where this crate's optimizers take steps; who takes steps otherwise is captured.
#[test]
fn an_optimizer_of_a_program_is_captured() {
    fn work(
        state: &mut State<'_>,
        [tokens]: [&Tokens; 1],
        []: [&Tensor; 0],
    ) -> Result<[Tensor; 1]> {
        let loss = state.loss(tokens, tokens)?;
        let gradients = loss.backward()?;
        for parameter in state.params {
            let Some(gradient) = gradients.get(&parameter.var) else { bail!("no gradient") };
            parameter.var.accumulate(&gradient, -0.01)?;
        }
        Ok([loss])
    }

    fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
        let mut captured = Captured::new(State::new(model, params)?);
        for idx in 0..20 {
            let tokens = run.batch(2, CONTEXT)?.inputs;
            let [loss] = captured.run(work, [&tokens], [])?;
            run.record("train_loss", idx, &loss)?;
        }
        Ok(())
    }

    let came = trained_by(train, Collect::All, Device::Cuda);
    assert_eq!(came.graphs(), "1 captured");
    let plain = trained_by(train, Collect::All, Device::Cpu);
    assert_eq!((came.series("train_loss").len(), plain.series("train_loss").len()), (20, 20));
    for (got, want) in came.series("train_loss").iter().zip(plain.series("train_loss")) {
        assert!((got - want).abs() < 0.05, "{got} and {want}");
    }
}
