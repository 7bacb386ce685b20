//! Optimizer steps on many parameters at once.

use std::cell::RefCell;

use candle_core::{DType, DeviceLocation, Error, Result, Tensor, bail};
use forerunner_kernels::{
    self as kernels, AdamWSettings, AdamWTensor, LionSettings, LionTensor, MuonSettings,
    MuonTensor, StepTables,
};

use super::graph::{is_capturing, with_tables};
use super::memory::{cast, dense, empty, filled, view, view_mut, wrapped};
use super::{Place, Traced, place};
use crate::{AdamW, Caution, Lion, Muon};

/// What an optimizer remembers of a parameter: a fixed number of tensors of its size, zeros before
/// the first step.
#[derive(Debug)]
pub struct OptimizerState {
    wanted: usize,
    tensors: Vec<Tensor>,
}

impl OptimizerState {
    /// Nothing remembered yet; `wanted` tensors from the first step on: 2 for [`adamw`], 1 for
    /// [`lion`] and [`muon`].
    pub fn new(wanted: usize) -> Self {
        Self { wanted, tensors: Vec::new() }
    }

    fn ready(&mut self, operation: &str, wanted: usize, parameter: &Tensor) -> Result<()> {
        if self.wanted != wanted {
            bail!("{operation} remembers {wanted} tensors, not {}", self.wanted);
        }
        if self.tensors.len() < wanted && is_capturing() {
            bail!("{operation}: a state takes its first step, which captured work cannot be");
        }
        while self.tensors.len() < wanted {
            self.tensors.push(filled(&place()?, parameter.shape(), 0.0)?);
        }
        if self.tensors.iter().any(|tensor| tensor.dims() != parameter.dims()) {
            let (state, parameter) = (self.tensors[0].shape(), parameter.shape());
            bail!("{operation}: the state of {state:?} is not that of parameter {parameter:?}");
        }
        Ok(())
    }
}

/// One parameter's part in a step.
pub struct Step<'a, S> {
    /// The parameter, f32, changed in place.
    pub parameter: &'a Traced,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// What is remembered of its gradients.
    pub state: &'a mut OptimizerState,
    /// The settings of this step.
    pub settings: S,
}

/// Scalars on the device that a step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Scalars<'a> {
    /// Factor on every gradient.
    pub gradient: &'a Tensor,
    /// Factor on every learning rate and the number of the step, counted from 1, where they lie on
    /// the device: a step that is captured needs them there. The settings' own number does not count
    /// then.
    pub schedule: Option<(&'a Tensor, &'a Tensor)>,
}

/// Sums of squares over a parameter's values in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Squares {
    /// Of the gradient, before any scale.
    pub gradient: f64,
    /// Of what the step changed.
    pub update: f64,
    /// Of the values before the step.
    pub values: f64,
}

/// One AdamW step on every parameter; see [`crate::cautious_adamw`]. With `look`, the sums of squares
/// of each, for which the device is waited for.
///
/// # Errors
///
/// When sizes do not fit.
pub fn adamw(
    steps: &mut [Step<'_, (AdamW, Caution)>],
    scalars: Scalars<'_>,
    look: bool,
) -> Result<Vec<Squares>> {
    let ready = Ready::new("adamw", 2, steps, scalars, look)?;
    let mut tensors = Vec::with_capacity(steps.len());
    for (step, parts) in steps.iter().zip(&ready.parts) {
        let (settings, caution) = step.settings;
        tensors.push(AdamWTensor {
            parameter: view_mut(step.parameter.value())?,
            gradient: view(&parts.gradient)?,
            first: view_mut(&step.state.tensors[0])?,
            second: view_mut(&step.state.tensors[1])?,
            shadow: Some(view_mut(&parts.shadow)?),
            settings: AdamWSettings {
                learning_rate: settings.learning_rate,
                beta1: settings.beta1,
                beta2: settings.beta2,
                epsilon: settings.epsilon,
                weight_decay: settings.weight_decay,
                step: settings.step,
                cautious_update: caution.update,
                cautious_decay: caution.decay,
            },
        });
    }
    ready.run(|machine, tables, (scale, schedule), sums| {
        kernels::adamw(machine, tables, &mut tensors, scale, schedule, sums)
    })
}

/// One Lion step on every parameter; see [`crate::lion`], and [`adamw`] for the arguments.
///
/// # Errors
///
/// When sizes do not fit.
pub fn lion(
    steps: &mut [Step<'_, Lion>],
    scalars: Scalars<'_>,
    look: bool,
) -> Result<Vec<Squares>> {
    let ready = Ready::new("lion", 1, steps, scalars, look)?;
    let mut tensors = Vec::with_capacity(steps.len());
    for (step, parts) in steps.iter().zip(&ready.parts) {
        let Lion { learning_rate, beta1, beta2, weight_decay } = step.settings;
        tensors.push(LionTensor {
            parameter: view_mut(step.parameter.value())?,
            gradient: view(&parts.gradient)?,
            momentum: view_mut(&step.state.tensors[0])?,
            shadow: Some(view_mut(&parts.shadow)?),
            settings: LionSettings { learning_rate, beta1, beta2, weight_decay },
        });
    }
    ready.run(|machine, tables, (scale, schedule), sums| {
        kernels::lion(machine, tables, &mut tensors, scale, schedule, sums)
    })
}

/// One Muon step on every parameter, matrices `[out, in]`; see [`crate::muon`], and [`adamw`] for the
/// arguments. Matrices of one shape are made orthogonal together, in products of bf16.
///
/// # Errors
///
/// When sizes do not fit, or rows do not split into the parts.
pub fn muon(
    steps: &mut [Step<'_, Muon>],
    scalars: Scalars<'_>,
    look: bool,
) -> Result<Vec<Squares>> {
    let ready = Ready::new("muon", 1, steps, scalars, look)?;
    let iterations: Vec<Vec<[f64; 3]>> =
        steps.iter().map(|step| coefficients(&step.settings)).collect();
    let mut tensors = Vec::with_capacity(steps.len());
    for ((step, parts), iterations) in steps.iter().zip(&ready.parts).zip(&iterations) {
        let (rows, columns) = step.parameter.value().dims2()?;
        let settings = step.settings;
        tensors.push(MuonTensor {
            parameter: view_mut(step.parameter.value())?,
            gradient: view(&parts.gradient)?,
            momentum: view_mut(&step.state.tensors[0])?,
            shadow: Some(view_mut(&parts.shadow)?),
            rows,
            columns,
            settings: MuonSettings {
                learning_rate: settings.learning_rate,
                momentum: settings.momentum,
                nesterov: settings.nesterov,
                weight_decay: settings.weight_decay,
                iterations,
                parts: settings.parts,
            },
        });
    }
    ready.run(|machine, tables, (scale, schedule), sums| {
        kernels::muon(machine, tables, &mut tensors, scale, schedule, sums)
    })
}

/// Those of every iteration.
fn coefficients(settings: &Muon) -> Vec<[f64; 3]> {
    (0..settings.iterations).map(|idx| settings.polynomial.coefficients(idx)).collect()
}

/// What a step's kernels are given, beside the parameters and their state.
struct Ready {
    operation: &'static str,
    place: Place,
    scale: Tensor,
    /// Factor on learning rates, and number of the step.
    schedule: Option<(Tensor, Tensor)>,
    parts: Vec<Parts>,
    /// `[parameters, 3]`, where somebody looks.
    sums: Option<Tensor>,
}

struct Parts {
    gradient: Tensor,
    shadow: Tensor,
}

/// Operation, number of parameters, and where they lie.
type Key = (&'static str, usize, DeviceLocation);

thread_local! {
    /// Tables of the steps that this thread takes, by operation and number of parameters: most
    /// programs take the same ones again and again.
    static TABLES: RefCell<Vec<(Key, StepTables)>> =
        const { RefCell::new(Vec::new()) };
}

impl Ready {
    fn new<S>(
        operation: &'static str,
        remembered: usize,
        steps: &mut [Step<'_, S>],
        scalars: Scalars<'_>,
        look: bool,
    ) -> Result<Self> {
        let place = place()?;
        if is_capturing() && scalars.schedule.is_none() {
            bail!(
                "{operation}: learning rate and step are numbers of the host, and would stay as \
                   they are\nhint: hand them over as tensors, with `Scalars::schedule`"
            );
        }
        let mut parts = Vec::with_capacity(steps.len());
        for step in steps.iter_mut() {
            let parameter = step.parameter.value();
            if step.gradient.dims() != parameter.dims() {
                let (gradient, parameter) = (step.gradient.shape(), parameter.shape());
                bail!("{operation}: gradient {gradient:?} does not fit parameter {parameter:?}");
            }
            step.state.ready(operation, remembered, parameter)?;
            let Some(mut shadow) = step.parameter.shadow() else {
                bail!("{operation}: only a parameter can take a step");
            };
            let shadow = match &*shadow {
                Some(shadow) => shadow.clone(),
                None if is_capturing() => {
                    bail!(
                        "{operation}: a parameter takes its first step, which captured work cannot be"
                    )
                }
                None => shadow.insert(empty(&place, parameter.shape(), DType::BF16)?).clone(),
            };
            parts.push(Parts { gradient: dense(step.gradient)?, shadow });
        }
        let sums = look.then(|| empty(&place, (steps.len(), 3), DType::F32)).transpose()?;
        let scalar = |scalar| dense(&cast(scalar, DType::F32)?);
        let schedule =
            scalars.schedule.map(|(rate, step)| Ok::<_, Error>((scalar(rate)?, scalar(step)?)));
        let (scale, schedule) = (scalar(scalars.gradient)?, schedule.transpose()?);
        Ok(Self { operation, place, scale, schedule, parts, sums })
    }

    fn run(
        &self,
        step: impl FnOnce(
            &kernels::Machine,
            &mut StepTables,
            (&kernels::View<'_>, Option<&kernels::Schedule<'_>>),
            Option<&mut kernels::ViewMut<'_>>,
        ) -> kernels::Result<()>,
    ) -> Result<Vec<Squares>> {
        let scale = view(&self.scale)?;
        let schedule = match &self.schedule {
            Some((rate, step)) => Some(kernels::Schedule { rate: view(rate)?, step: view(step)? }),
            None => None,
        };
        let scalars = (&scale, schedule.as_ref());
        let mut sums = self.sums.as_ref().map(view_mut).transpose()?;
        let machine = &self.place.machine;
        with_tables(|tables| match tables {
            Some(tables) => step(machine, tables, scalars, sums.as_mut()),
            None => TABLES.with_borrow_mut(|all| {
                let key = (self.operation, self.parts.len(), self.place.device.location());
                let idx = all.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                    all.push((key, StepTables::new()));
                    all.len() - 1
                });
                step(machine, &mut all[idx].1, scalars, sums.as_mut())
            }),
        })
        .map_err(wrapped)?;
        let Some(sums) = &self.sums else { return Ok(Vec::new()) };
        let squares = |row: &[f32]| Squares {
            gradient: f64::from(row[0]),
            update: f64::from(row[1]),
            values: f64::from(row[2]),
        };
        Ok(sums.flatten_all()?.to_vec1::<f32>()?.chunks_exact(3).map(squares).collect())
    }
}
