//! Work that is recorded once and done again: as if it were queued launch by launch.
#![cfg(any(feature = "emulator", feature = "cuda"))]

mod support;

use forerunner_kernels::{
    AdamWSettings, AdamWTensor, Buffer, Error, Gemm, Machine, Operand, Schedule, StepTables, Type,
    View, accumulate, adamw, fill, gemm, sum_of_squares,
};
use support::{machines, noise};

const SIDE: usize = 24;
const VALUES: usize = SIDE * SIDE;

/// What a small training keeps.
struct State {
    parameter: Buffer,
    first: Buffer,
    second: Buffer,
    shadow: Buffer,
    norm: Buffer,
}

impl State {
    fn new(machine: &Machine) -> Self {
        Self {
            parameter: machine.upload_f32(Type::F32, &noise(VALUES, 1)).unwrap(),
            first: machine.zeros(Type::F32, VALUES).unwrap(),
            second: machine.zeros(Type::F32, VALUES).unwrap(),
            shadow: machine.upload_f32(Type::Bf16, &noise(VALUES, 1)).unwrap(),
            norm: machine.zeros(Type::F32, 1).unwrap(),
        }
    }

    fn bits(&self, machine: &Machine) -> Vec<u32> {
        let buffers = [&self.parameter, &self.first, &self.second, &self.shadow, &self.norm];
        let values = buffers.map(|buffer| machine.download(&buffer.view()).unwrap());
        values.concat().into_iter().map(f32::to_bits).collect()
    }
}

/// A step with everything that a graph has to cope with: memory of its own, products, a fill, tables of
/// addresses, and a schedule.
fn step(
    machine: &Machine,
    state: &mut State,
    tables: &mut [StepTables; 2],
    input: &View<'_>,
    schedule: &Schedule<'_>,
    rate: f64,
) -> Result<(), Error> {
    let mut product = machine.scratch(Type::Bf16, VALUES)?;
    let (a, b) = (Operand::plain(state.shadow.view()), Operand::transposed(*input));
    gemm(machine, Gemm::new((SIDE, SIDE, SIDE), a, b, product.view_mut()))?;
    let mut gradient = machine.scratch(Type::F32, VALUES)?;
    fill(machine, &mut gradient.view_mut(), 0.125)?;
    accumulate(machine, &mut gradient.view_mut(), &product.view(), 0.5)?;
    let (of_norm, of_step) = tables.split_at_mut(1);
    let norm = &mut state.norm.view_mut();
    sum_of_squares(machine, &mut of_norm[0], &[gradient.view(), product.view()], norm)?;
    let settings = AdamWSettings {
        learning_rate: rate,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
        cautious_update: true,
        cautious_decay: false,
    };
    let tensor = AdamWTensor {
        parameter: state.parameter.view_mut(),
        gradient: gradient.view(),
        first: state.first.view_mut(),
        second: state.second.view_mut(),
        shadow: Some(state.shadow.view_mut()),
        settings,
    };
    let scale = state.norm.view();
    adamw(machine, &mut of_step[0], &mut [tensor], &scale, Some(schedule), None)
}

fn input(machine: &Machine, step: usize) -> Buffer {
    machine.upload_f32(Type::Bf16, &noise(VALUES, 10 + step as u64)).unwrap()
}

#[test]
fn a_graph_does_what_was_recorded() {
    for machine in machines() {
        let run = |captured: bool| {
            let mut state = State::new(&machine);
            let mut tables = [StepTables::new(), StepTables::new()];
            // What changes lies in one place.
            let mut tokens = machine.zeros(Type::Bf16, VALUES).unwrap();
            let mut numbers = machine.zeros(Type::F32, 2).unwrap();
            let mut graph = None;
            let mut counts = Vec::new();
            for idx in 0..6 {
                machine.copy(&mut tokens.view_mut(), &input(&machine, idx).view()).unwrap();
                let now = [0.5 + idx as f32, 1.0 + idx as f32];
                let now = machine.upload_f32(Type::F32, &now).unwrap();
                machine.copy(&mut numbers.view_mut(), &now.view()).unwrap();
                let at = |idx| numbers.view().part(idx..idx + 1);
                let schedule = Schedule { rate: at(0), step: at(1) };
                let before = machine.counts();
                if captured && idx == 1 {
                    let like = |of| StepTables::like(&machine, of).unwrap();
                    let mut own = [like(&tables[0]), like(&tables[1])];
                    let unchanged = state.bits(&machine);
                    let work =
                        || step(&machine, &mut state, &mut own, &tokens.view(), &schedule, 0.01);
                    let ((), captured) = machine.capture::<_, Error>(work).1.unwrap();
                    assert_eq!(state.bits(&machine), unchanged, "recorded, not done");
                    assert_eq!(machine.counts(), before);
                    graph = Some((captured, own));
                }
                match &graph {
                    Some((graph, _)) => machine.replay(graph).unwrap(),
                    None => {
                        let tokens = &tokens.view();
                        step(&machine, &mut state, &mut tables, tokens, &schedule, 0.01).unwrap();
                    }
                }
                let after = machine.counts();
                counts.push((after.launches - before.launches, after.flops - before.flops));
            }
            assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
            state.bits(&machine)
        };
        assert_eq!(run(true), run(false));
    }
}

#[test]
fn numbers_that_change_are_seen() {
    for machine in machines() {
        let from = input(&machine, 0);
        let watch = |factors: &[f32]| {
            let work = || {
                let mut to = machine.scratch(Type::F32, VALUES)?;
                fill(&machine, &mut to.view_mut(), 0.0)?;
                for &factor in factors {
                    accumulate(&machine, &mut to.view_mut(), &from.view(), factor)?;
                }
                Ok::<_, Error>(())
            };
            machine.watch(work).unwrap().1
        };
        let (first, same, other, more) =
            (watch(&[0.5]), watch(&[0.5]), watch(&[0.25]), watch(&[0.5, 0.5]));
        assert_eq!(first, same, "on other memory");
        assert_eq!(first.difference(&same), None);
        let last = first.len() - 1;
        assert_eq!(
            first.difference(&other).unwrap(),
            format!(
                "accumulate_bf16, number {last} of what is queued, has other sizes or numbers than before"
            )
        );
        assert_eq!(
            first.difference(&more).unwrap(),
            format!("number {} of what is queued is accumulate_bf16 and was nothing", last + 1)
        );
    }
}

#[test]
fn settings_that_change_are_seen() {
    for machine in machines() {
        let mut state = State::new(&machine);
        let mut tables = [StepTables::new(), StepTables::new()];
        let numbers = machine.upload_f32(Type::F32, &[1.0, 1.0]).unwrap();
        let at = |idx| numbers.view().part(idx..idx + 1);
        let schedule = Schedule { rate: at(0), step: at(1) };
        let tokens = input(&machine, 0);
        let [first, same, other] = [0.01, 0.01, 0.02].map(|rate| {
            let work = || step(&machine, &mut state, &mut tables, &tokens.view(), &schedule, rate);
            machine.watch(work).unwrap().1
        });
        assert_eq!(first, same);
        let difference = first.difference(&other).unwrap();
        assert!(difference.starts_with("settings, "), "{difference}");
    }
}

#[test]
fn what_a_graph_cannot_do_is_refused() {
    for machine in machines() {
        let buffer = machine.zeros(Type::F32, 4).unwrap();
        let refused = |operation: &str, work: &dyn Fn() -> Result<(), Error>| {
            let error = machine.capture(work).1.map(drop).unwrap_err().to_string();
            let reason = "work is being captured, which neither waits nor reads the host's memory";
            assert_eq!(error, format!("{operation}: the device says: {reason}"));
            // The machine is as good as before.
            assert_eq!(machine.download(&buffer.view()).unwrap(), [0.0; 4]);
        };
        refused("upload", &|| machine.upload_f32(Type::F32, &[1.0]).map(drop));
        refused("download", &|| machine.download(&buffer.view()).map(drop));
        refused("synchronize", &|| machine.synchronize());
        refused("mark", &|| machine.mark().map(drop));
        let nested = machine.capture(|| machine.watch(|| Ok::<_, Error>(())));
        assert_eq!(
            nested.1.map(drop).unwrap_err().to_string(),
            "capture: other work is being watched or captured"
        );
    }
}

#[test]
fn memory_of_a_graph_is_not_to_be_kept() {
    for machine in machines() {
        let mut kept = Vec::new();
        fill(&machine, &mut machine.zeros(Type::F32, 8).unwrap().view_mut(), 1.0).unwrap();
        let work = || {
            let mut buffers = [machine.scratch(Type::F32, 8)?, machine.scratch(Type::F32, 8)?];
            for buffer in &mut buffers {
                fill(&machine, &mut buffer.view_mut(), 1.0)?;
            }
            let [first, _] = buffers;
            kept.push(first);
            Ok::<_, Error>(())
        };
        let error = machine.capture(work).1.map(drop).unwrap_err();
        assert!(matches!(error, Error::Kept { kept: 1, allocated: 2 }), "{error}");
        // Also where the work failed after that, for it might be tried again.
        let work = || {
            kept.push(machine.scratch(Type::F32, 8)?);
            Err::<(), _>(Error::shape("work", "it fails"))
        };
        let error = machine.capture(work).1.map(drop).unwrap_err();
        assert!(matches!(error, Error::Kept { kept: 1, allocated: 1 }), "{error}");
        // Nobody can give it back.
        std::mem::forget(kept);
    }
}

#[test]
fn work_that_panics_leaves_the_machine_as_it_was() {
    for machine in machines() {
        let work = || -> Result<(), Error> { panic!("as a test does") };
        let captured = std::panic::AssertUnwindSafe(|| drop(machine.capture(work)));
        std::panic::catch_unwind(captured).unwrap_err();
        assert!(!machine.is_capturing());
        let mut buffer = machine.zeros(Type::F32, 4).unwrap();
        fill(&machine, &mut buffer.view_mut(), 2.0).unwrap();
        assert_eq!(machine.download(&buffer.view()).unwrap(), [2.0; 4]);
    }
}
