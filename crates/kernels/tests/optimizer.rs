//! AdamW and Lion against plain arithmetic in double precision, over several steps.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    AdamWSettings, AdamWTensor, Buffer, LionSettings, LionTensor, Machine, Schedule, StepTables,
    Type, View, adamw, lion,
};
use support::{assert_close, machines, noise, rounded};

/// Less, equal to and more than what a block works on, and no multiple of what a thread does.
const SIZES: [usize; 9] = [1, 7, 8, 0, 768 * 3 + 1, 4096, 4097, 3, 12_300];
/// Single precision moves parameters of about one by hundredths in steps that are exact to 6e-8.
const BOUND: f64 = 2e-5;
/// What is left of one after a decay near it was taken from it, in single precision.
const MOMENT_BOUND: f64 = 1e-5;
const SCALE: f32 = 0.37;
const STEPS: usize = 4;

const PLAIN: AdamWSettings = AdamWSettings {
    learning_rate: 0.02,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    step: 1,
    cautious_update: false,
    cautious_decay: false,
};

/// Memory of one tensor and the same in double precision.
struct State {
    parameter: Buffer,
    first: Buffer,
    second: Buffer,
    shadow: Option<Buffer>,
    start: Vec<f64>,
    want: Vec<f64>,
    moments: (Vec<f64>, Vec<f64>),
}

impl State {
    fn new(machine: &Machine, idx: usize, size: usize) -> Self {
        let values = noise(size, 100 + idx as u64);
        let want: Vec<f64> = values.iter().copied().map(f64::from).collect();
        Self {
            parameter: machine.upload_f32(Type::F32, &values).unwrap(),
            first: machine.zeros(Type::F32, size).unwrap(),
            second: machine.zeros(Type::F32, size).unwrap(),
            shadow: idx.is_multiple_of(2).then(|| machine.scratch(Type::Bf16, size).unwrap()),
            start: want.clone(),
            want,
            moments: (vec![0.0; size], vec![0.0; size]),
        }
    }

    /// How far the parameter went, and the shadow it left behind.
    fn check(&self, machine: &Machine, what: &str) -> Vec<f32> {
        let got = machine.download(&self.parameter.view()).unwrap();
        let moved = |to: f64, from: &f64| to - from;
        let moves: Vec<f32> =
            got.iter().zip(&self.start).map(|(&p, s)| moved(f64::from(p), s) as f32).collect();
        let want: Vec<f64> = self.want.iter().zip(&self.start).map(|(&p, s)| moved(p, s)).collect();
        assert_close(what, &moves, &want, BOUND);
        for (moment, want) in [(&self.first, &self.moments.0), (&self.second, &self.moments.1)] {
            assert_close(what, &machine.download(&moment.view()).unwrap(), want, MOMENT_BOUND);
        }
        if let Some(shadow) = &self.shadow {
            let want: Vec<f32> = got.iter().map(|&value| rounded(value)).collect();
            assert_eq!(machine.download(&shadow.view()).unwrap(), want, "{what}: shadow");
        }
        got
    }
}

fn sums_of(gradient: &[f64], before: &[f64], after: &[f64]) -> [f64; 3] {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum();
    [
        squares(&mut gradient.iter().copied()),
        squares(&mut after.iter().zip(before).map(|(a, b)| a - b)),
        squares(&mut before.iter().copied()),
    ]
}

fn agree(a: f64, b: f64) -> bool {
    a * b > 0.0
}

/// AdamW as its papers have it; returns the three sums.
fn adamw_by_definition(state: &mut State, gradient: &[f64], settings: &AdamWSettings) -> [f64; 3] {
    let AdamWSettings { learning_rate, beta1, beta2, epsilon, weight_decay, step, .. } = *settings;
    let before = state.want.clone();
    let scaled: Vec<f64> = gradient.iter().map(|g| g * f64::from(SCALE)).collect();
    let (first, second) = &mut state.moments;
    for ((m, v), g) in first.iter_mut().zip(second.iter_mut()).zip(&scaled) {
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
    }
    let kept = first.iter().zip(&scaled).filter(|&(&m, &g)| agree(m, g)).count();
    let share = gradient.len() as f64 / (kept as f64 + 1.0);
    for (i, p) in state.want.iter_mut().enumerate() {
        let m = first[i] / (1.0 - beta1.powi(step as i32));
        let v = second[i] / (1.0 - beta2.powi(step as i32));
        let mut change = learning_rate * m / (v.sqrt() + epsilon);
        if settings.cautious_update {
            change *= if agree(first[i], scaled[i]) { share } else { 0.0 };
        }
        let decays = !settings.cautious_decay || agree(change, *p);
        *p = *p * if decays { 1.0 - learning_rate * weight_decay } else { 1.0 } - change;
    }
    sums_of(gradient, &before, &state.want)
}

fn lion_by_definition(state: &mut State, gradient: &[f64], settings: &LionSettings) -> [f64; 3] {
    let LionSettings { learning_rate, beta1, beta2, weight_decay } = *settings;
    let before = state.want.clone();
    for ((p, g), m) in state.want.iter_mut().zip(gradient).zip(&mut state.moments.0) {
        let g = g * f64::from(SCALE);
        let mean = beta1 * *m + (1.0 - beta1) * g;
        *m = beta2 * *m + (1.0 - beta2) * g;
        let sign = if mean == 0.0 { 0.0 } else { mean.signum() };
        *p = *p * (1.0 - learning_rate * weight_decay) - learning_rate * sign;
    }
    sums_of(gradient, &before, &state.want)
}

/// A gradient on the device, of bf16 for every third tensor, and as it is there.
fn gradient(machine: &Machine, idx: usize, size: usize, step: usize) -> (Buffer, Vec<f64>) {
    let mut values = noise(size, (1000 * step + idx) as u64);
    // Zeros, for ever or for a step.
    values.iter_mut().step_by(5).for_each(|value| *value = 0.0);
    values.iter_mut().skip(step).step_by(7).for_each(|value| *value = 0.0);
    let type_ = if idx % 3 == 1 { Type::Bf16 } else { Type::F32 };
    let round = |value: f32| f64::from(if type_ == Type::Bf16 { rounded(value) } else { value });
    let exact = values.iter().map(|&value| round(value)).collect();
    (machine.upload_f32(type_, &values).unwrap(), exact)
}

/// Several steps on tensors of all sizes at once; returns the parameters.
fn run(
    machine: &Machine,
    tables: &mut StepTables,
    take_step: impl Fn(&mut StepTables, &mut [State], &[View<'_>], &View<'_>, usize) -> Buffer,
    by_definition: impl Fn(&mut State, &[f64], usize, usize) -> [f64; 3],
) -> Vec<Vec<f32>> {
    let mut states: Vec<State> =
        SIZES.iter().enumerate().map(|(idx, &size)| State::new(machine, idx, size)).collect();
    let scale = machine.upload_f32(Type::F32, &[SCALE]).unwrap();
    for step in 1..=STEPS {
        let gradients: Vec<(Buffer, Vec<f64>)> = SIZES
            .iter()
            .enumerate()
            .map(|(idx, &size)| gradient(machine, idx, size, step))
            .collect();
        let views: Vec<View<'_>> = gradients.iter().map(|(buffer, _)| buffer.view()).collect();
        let sums = take_step(tables, &mut states, &views, &scale.view(), step);
        let sums = machine.download(&sums.view()).unwrap();
        for (idx, state) in states.iter_mut().enumerate() {
            let want = by_definition(state, &gradients[idx].1, idx, step);
            // Each of the three by itself: they differ by orders of magnitude.
            for (got, want) in sums[3 * idx..].iter().zip(want) {
                assert_close(&format!("sum of {idx}, step {step}"), &[*got], &[want], 1e-4);
            }
        }
    }
    states.iter().enumerate().map(|(i, state)| state.check(machine, &format!("{i}"))).collect()
}

/// Settings of a tensor: all four kinds of caution, with and without decay.
fn settings_of(idx: usize, step: usize) -> AdamWSettings {
    AdamWSettings {
        weight_decay: if idx.is_multiple_of(3) { 0.0 } else { 0.5 },
        learning_rate: 0.02 / (idx + step) as f64,
        step,
        cautious_update: (idx / 2).is_multiple_of(2),
        cautious_decay: idx.is_multiple_of(2),
        ..PLAIN
    }
}

fn assert_same_on_emulators(results: &[Vec<Vec<f32>>]) {
    if cfg!(feature = "emulator") {
        assert_eq!(results[0], results[1], "the order of threads shows");
    }
}

#[test]
fn adamw_follows_the_definition() {
    let sizes = SIZES.len();
    let mut results = Vec::new();
    for machine in machines() {
        let mut tables = StepTables::new();
        let take_step = |tables: &mut StepTables,
                         states: &mut [State],
                         gradients: &[View<'_>],
                         scale: &View<'_>,
                         step: usize| {
            let mut sums = machine.scratch(Type::F32, 3 * sizes).unwrap();
            let mut tensors: Vec<AdamWTensor<'_>> = states
                .iter_mut()
                .zip(gradients)
                .enumerate()
                .map(|(idx, (state, gradient))| AdamWTensor {
                    parameter: state.parameter.view_mut(),
                    gradient: *gradient,
                    first: state.first.view_mut(),
                    second: state.second.view_mut(),
                    shadow: state.shadow.as_mut().map(Buffer::view_mut),
                    settings: match scheduled(step) {
                        // What the device is told to make of it.
                        true => AdamWSettings {
                            learning_rate: 4.0 * settings_of(idx, step).learning_rate,
                            step: 77,
                            ..settings_of(idx, step)
                        },
                        false => settings_of(idx, step),
                    },
                })
                .collect();
            let to = &mut sums.view_mut();
            let numbers = machine.upload_f32(Type::F32, &[0.25, step as f32]).unwrap();
            let schedule = schedule(&numbers, step);
            adamw(&machine, tables, &mut tensors, scale, schedule.as_ref(), Some(to)).unwrap();
            sums
        };
        let by_definition = |state: &mut State, gradient: &[f64], idx: usize, step: usize| {
            adamw_by_definition(state, gradient, &settings_of(idx, step))
        };
        results.push(run(&machine, &mut tables, take_step, by_definition));
    }
    assert_same_on_emulators(&results);
}

/// Whether a step takes its rate and its number from the device.
fn scheduled(step: usize) -> bool {
    step == 2
}

fn schedule(numbers: &Buffer, step: usize) -> Option<Schedule<'_>> {
    let at = |idx| numbers.view().part(idx..idx + 1);
    scheduled(step).then(|| Schedule { rate: at(0), step: at(1) })
}

#[test]
fn lion_follows_the_definition() {
    let settings = |step: usize| LionSettings {
        learning_rate: 0.01 / step as f64,
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.3,
    };
    let mut results = Vec::new();
    for machine in machines() {
        // Tables that held other tensors before.
        let mut tables = StepTables::new();
        adamw_alone(&machine, &mut tables, 100, PLAIN, None);
        let take_step = |tables: &mut StepTables,
                         states: &mut [State],
                         gradients: &[View<'_>],
                         scale: &View<'_>,
                         step: usize| {
            let mut sums = machine.scratch(Type::F32, 3 * SIZES.len()).unwrap();
            let mut tensors: Vec<LionTensor<'_>> = states
                .iter_mut()
                .zip(gradients)
                .map(|(state, gradient)| LionTensor {
                    parameter: state.parameter.view_mut(),
                    gradient: *gradient,
                    momentum: state.first.view_mut(),
                    shadow: state.shadow.as_mut().map(Buffer::view_mut),
                    settings: match scheduled(step) {
                        true => LionSettings {
                            learning_rate: 4.0 * settings(step).learning_rate,
                            ..settings(step)
                        },
                        false => settings(step),
                    },
                })
                .collect();
            let to = &mut sums.view_mut();
            let numbers = machine.upload_f32(Type::F32, &[0.25, step as f32]).unwrap();
            let schedule = schedule(&numbers, step);
            lion(&machine, tables, &mut tensors, scale, schedule.as_ref(), Some(to)).unwrap();
            sums
        };
        let by_definition = |state: &mut State, gradient: &[f64], _: usize, step: usize| {
            lion_by_definition(state, gradient, &settings(step))
        };
        results.push(run(&machine, &mut tables, take_step, by_definition));
    }
    assert_same_on_emulators(&results);
}

/// With its rate and its number on the device, a step is the same to the last bit.
#[test]
fn a_schedule_changes_no_bit() {
    const RATE: f64 = 6e-4;
    for machine in machines() {
        for step in [1, 2, 7, 1000, 19_560] {
            let run = |settings: AdamWSettings, schedule: Option<&Schedule<'_>>| {
                adamw_alone(&machine, &mut StepTables::new(), 1000, settings, schedule)
            };
            let settings = AdamWSettings { weight_decay: 0.1, ..PLAIN };
            let plain = run(AdamWSettings { learning_rate: RATE, step, ..settings }, None);
            let numbers = machine.upload_f32(Type::F32, &[RATE as f32, step as f32]).unwrap();
            let at = |idx| numbers.view().part(idx..idx + 1);
            let schedule = Schedule { rate: at(0), step: at(1) };
            let scheduled = AdamWSettings { learning_rate: 1.0, step: 77, ..settings };
            assert_eq!(run(scheduled, Some(&schedule)), plain, "step {step}");
        }
    }
}

/// One step on one tensor with a gradient of noise, without sums; returns the parameter.
fn adamw_alone(
    machine: &Machine,
    tables: &mut StepTables,
    size: usize,
    settings: AdamWSettings,
    schedule: Option<&Schedule<'_>>,
) -> Vec<f32> {
    let mut state = State::new(machine, 0, size);
    let gradient = machine.upload_f32(Type::F32, &noise(size, 5)).unwrap();
    let scale = machine.upload_f32(Type::F32, &[1.0]).unwrap();
    let tensor = AdamWTensor {
        parameter: state.parameter.view_mut(),
        gradient: gradient.view(),
        first: state.first.view_mut(),
        second: state.second.view_mut(),
        shadow: None,
        settings,
    };
    adamw(machine, tables, &mut [tensor], &scale.view(), schedule, None).unwrap();
    machine.download(&state.parameter.view()).unwrap()
}

#[test]
fn tensors_may_start_anywhere() {
    const LEN: usize = 5000;
    for machine in machines() {
        let want = adamw_alone(&machine, &mut StepTables::new(), LEN, PLAIN, None);
        let shifted = |values: &[f32]| {
            machine.upload_f32(Type::F32, &[&[7.0], values, &[7.0]].concat()).unwrap()
        };
        let (mut parameter, gradient) = (shifted(&noise(LEN, 100)), shifted(&noise(LEN, 5)));
        let (mut first, mut second) = (shifted(&[0.0; LEN]), shifted(&[0.0; LEN]));
        let mut shadow = machine.upload_f32(Type::Bf16, &[7.0; LEN + 2]).unwrap();
        let scale = machine.upload_f32(Type::F32, &[1.0]).unwrap();
        let inner = 1..LEN + 1;
        let mut views =
            [&mut parameter, &mut first, &mut second, &mut shadow].map(|buffer| buffer.view_mut());
        let [parameter_part, first, second, shadow_part] =
            views.each_mut().map(|view| view.part(inner.clone()));
        let tensor = AdamWTensor {
            parameter: parameter_part,
            gradient: gradient.view().part(inner.clone()),
            first,
            second,
            shadow: Some(shadow_part),
            settings: PLAIN,
        };
        adamw(&machine, &mut StepTables::new(), &mut [tensor], &scale.view(), None, None).unwrap();
        let got = machine.download(&parameter.view()).unwrap();
        assert_eq!(got[inner.clone()], want);
        assert_eq!([got[0], got[LEN + 1]], [7.0, 7.0], "around the parameter");
        let got = machine.download(&shadow.view()).unwrap();
        let want: Vec<f32> = want.iter().map(|&value| rounded(value)).collect();
        assert_eq!(got[inner], want, "shadow");
        assert_eq!([got[0], got[LEN + 1]], [7.0, 7.0], "around the shadow");
    }
}

#[test]
fn without_a_gradient_only_decay_moves() {
    let cautious = AdamWSettings { cautious_update: true, cautious_decay: true, ..PLAIN };
    for machine in machines() {
        let scale = machine.upload_f32(Type::F32, &[0.0]).unwrap();
        for (settings, keep) in [(PLAIN, 1.0 - 0.02f32 * 0.1), (cautious, 1.0)] {
            let mut state = State::new(&machine, 0, 1003);
            let before = machine.download(&state.parameter.view()).unwrap();
            // Nothing remains of a gradient that is scaled by zero.
            let gradient = machine.upload_f32(Type::F32, &noise(1003, 9)).unwrap();
            let tensor = AdamWTensor {
                parameter: state.parameter.view_mut(),
                gradient: gradient.view(),
                first: state.first.view_mut(),
                second: state.second.view_mut(),
                shadow: None,
                settings,
            };
            let mut tables = StepTables::new();
            adamw(&machine, &mut tables, &mut [tensor], &scale.view(), None, None).unwrap();
            let want: Vec<f64> = before.iter().map(|&p| f64::from(p * keep)).collect();
            assert_close("decay", &machine.download(&state.parameter.view()).unwrap(), &want, 1e-7);
            assert_eq!(machine.download(&state.second.view()).unwrap(), vec![0.0; 1003]);
        }
    }
}

#[test]
fn without_epsilon_nothing_is_divided_by_what_is_not_there() {
    for machine in machines() {
        let settings = AdamWSettings { epsilon: 0.0, ..PLAIN };
        let mut state = State::new(&machine, 0, 5);
        let gradient = machine.upload_f32(Type::F32, &[1.0; 5]).unwrap();
        let scale = machine.upload_f32(Type::F32, &[1.0]).unwrap();
        let mut sums = machine.scratch(Type::F32, 3).unwrap();
        let tensor = AdamWTensor {
            parameter: state.parameter.view_mut(),
            gradient: gradient.view(),
            first: state.first.view_mut(),
            second: state.second.view_mut(),
            shadow: None,
            settings,
        };
        let to = Some(&mut sums.view_mut());
        adamw(&machine, &mut StepTables::new(), &mut [tensor], &scale.view(), None, to).unwrap();
        let sums = machine.download(&sums.view()).unwrap();
        assert!(sums.iter().all(|sum| sum.is_finite()), "{sums:?}");
    }
}

#[test]
fn nothing_to_do_is_done() {
    for machine in machines() {
        let scale = machine.upload_f32(Type::F32, &[1.0]).unwrap();
        let mut sums = machine.scratch(Type::F32, 0).unwrap();
        let to = Some(&mut sums.view_mut());
        adamw(&machine, &mut StepTables::new(), &mut [], &scale.view(), None, to).unwrap();
        assert!(adamw_alone(&machine, &mut StepTables::new(), 0, PLAIN, None).is_empty());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for machine in machines() {
        let mut state = State::new(&machine, 0, 10);
        let gradients = [
            (machine.zeros(Type::F32, 10).unwrap(), 2, "`scale` has 2 values of F32 where 1"),
            (machine.zeros(Type::F32, 9).unwrap(), 1, "`gradient of tensor 0` has 9 values"),
            (
                machine.zeros(Type::U32, 10).unwrap(),
                1,
                "`gradient of tensor 0` has 10 values of U32",
            ),
        ];
        for (gradient, scales, message) in gradients {
            let scale = machine.zeros(Type::F32, scales).unwrap();
            let tensor = AdamWTensor {
                parameter: state.parameter.view_mut(),
                gradient: gradient.view(),
                first: state.first.view_mut(),
                second: state.second.view_mut(),
                shadow: None,
                settings: PLAIN,
            };
            let mut tables = StepTables::new();
            let error = adamw(&machine, &mut tables, &mut [tensor], &scale.view(), None, None);
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("adamw: ") && error.contains(message), "{error}");
        }
        let scale = machine.zeros(Type::F32, 1).unwrap();
        let mut sums = machine.zeros(Type::F32, 2).unwrap();
        let to = Some(&mut sums.view_mut());
        let error = lion(&machine, &mut StepTables::new(), &mut [], &scale.view(), None, to);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "lion: `sums` has 2 values of F32 where 0 of F32 were expected");
    }
}
