//! How far gradients and updates reach, by group of parameters: looked at now and then, wherever a
//! program takes its steps with this crate's optimizers.
//!
//! A look copies the parameters before and after their steps in one batch, which costs two per
//! cent of a step. So looks become rarer: eight at every batch, eight at every second one, eight at
//! every fourth one, and so on; 66 in the 2,800 steps of the reference program, 0.05 % of its time.
//! Nothing that trains depends on them.

use std::cell::{Cell, RefCell};

use candle_core::TensorId;

use crate::params::flat;
use crate::{Params, Result, Tensor, Var};

/// Looks after which the distance between them doubles.
const LOOKS: u32 = 8;
/// Groups that are told apart; what has no place among them is `rest`.
const MAX_GROUPS: usize = 16;
const REST: &str = "rest";
/// Series that are recorded here where the program does not record them itself.
const LEARNING_RATE: &str = "learning_rate";
const GRADIENT_NORM: &str = "gradient_norm";
/// Values that are summed at a time in `f32`, side by side in lanes.
const BLOCK: usize = 1024;
const LANES: usize = 16;

thread_local! {
    static LOOKING: Cell<bool> = const { Cell::new(false) };
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

/// One step of an optimizer on one parameter.
struct Seen {
    parameter: TensorId,
    count: usize,
    learning_rate: f64,
    squares: Squares,
}

/// Sums of squares over all values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Squares {
    gradient: f64,
    update: f64,
    /// Of the values before the step.
    values: f64,
}

/// Takes the step of an optimizer on `parameter`, with a look at it when it is time for one.
pub(crate) fn looked_at(
    parameter: &Var,
    gradient: &Tensor,
    learning_rate: f64,
    step: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if !LOOKING.get() {
        return step();
    }
    let before = flat(parameter)?;
    step()?;
    let (after, gradient) = (flat(parameter)?, flat(gradient)?);
    let squares = Squares {
        gradient: sum(&gradient, &gradient, |g, _| g * g),
        update: sum(&before, &after, |before, after| (after - before) * (after - before)),
        values: sum(&before, &before, |value, _| value * value),
    };
    let parameter = parameter.inner.as_tensor();
    let (parameter, count) = (parameter.id(), parameter.elem_count());
    SEEN.with_borrow_mut(|seen| seen.push(Seen { parameter, count, learning_rate, squares }));
    Ok(())
}

/// Whether it is time for a look.
#[cfg(feature = "device")]
pub(crate) fn looking() -> bool {
    LOOKING.get()
}

/// Steps that this look has seen.
#[cfg(feature = "device")]
pub(crate) fn n_seen() -> usize {
    SEEN.with_borrow(Vec::len)
}

/// Notes what a device saw of one parameter's step.
#[cfg(feature = "device")]
pub(crate) fn saw(
    parameter: &Var,
    learning_rate: f64,
    squares: forerunner_train_ops::device::Squares,
) {
    let squares =
        Squares { gradient: squares.gradient, update: squares.update, values: squares.values };
    let parameter = parameter.inner.as_tensor();
    let (parameter, count) = (parameter.id(), parameter.elem_count());
    SEEN.with_borrow_mut(|seen| seen.push(Seen { parameter, count, learning_rate, squares }));
}

/// The sum of `term` over two equally long slices.
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let block = |(a, b): (&[f32], &[f32])| {
        let mut lanes = [0.0_f32; LANES];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += term(a, b);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| term(a, b)).sum();
        f64::from(lanes.iter().sum::<f32>() + rest)
    };
    a.chunks(BLOCK).zip(b.chunks(BLOCK)).map(block).sum()
}

/// When to look.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    taken: u32,
    next: u64,
}

impl Looks {
    /// Begins a look at the steps that follow batch `batch` when it is time, or goes on with one
    /// for which no step was taken yet.
    pub(crate) fn begin(&mut self, batch: u64) {
        if batch >= self.next {
            LOOKING.set(true);
        }
    }

    /// Ends a look and returns what was seen, as points of series; nothing where no step was taken
    /// since it began.
    pub(crate) fn end(
        &mut self,
        batch: u64,
        params: &Params,
        recorded: Recorded,
    ) -> Vec<(String, f64)> {
        let seen = SEEN.take();
        if seen.is_empty() {
            return Vec::new();
        }
        LOOKING.set(false);
        self.taken += 1;
        self.next = batch + (1 << (self.taken / LOOKS).min(u64::BITS - 1));
        Sight::new(&seen, params).points(recorded)
    }

    /// Looks at nothing more on this thread.
    pub(crate) fn stop() {
        LOOKING.set(false);
        SEEN.take();
    }
}

/// Which of the series that a look makes the program records itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recorded {
    learning_rate: bool,
    gradient_norm: bool,
}

impl Recorded {
    /// Takes note that the program records a series.
    pub(crate) fn note(&mut self, series: &str) {
        self.learning_rate |= series == LEARNING_RATE;
        self.gradient_norm |= series == GRADIENT_NORM;
    }
}

/// The steps in one batch.
#[derive(Debug)]
struct Sight {
    /// By group, in order of declaration.
    groups: Vec<(String, Squares)>,
    /// Learning rate of the largest parameter.
    learning_rate: f64,
}

impl Sight {
    fn new(seen: &[Seen], params: &Params) -> Self {
        let mut groups: Vec<(&str, Squares)> = Vec::new();
        let mut largest = (0, 0.0);
        for parameter in params {
            let id = parameter.var.inner.as_tensor().id();
            for step in seen.iter().filter(|step| step.parameter == id) {
                let idx = place(&parameter.name, &mut groups);
                let squares = &mut groups[idx].1;
                squares.gradient += step.squares.gradient;
                squares.update += step.squares.update;
                squares.values += step.squares.values;
                if step.count > largest.0 {
                    largest = (step.count, step.learning_rate);
                }
            }
        }
        let groups = groups.into_iter().map(|(name, squares)| (name.to_owned(), squares));
        Self { groups: groups.collect(), learning_rate: largest.1 }
    }

    /// Gradients are measured as the optimizer got them, before any scale. A group of zeros has no
    /// relative update.
    fn points(&self, recorded: Recorded) -> Vec<(String, f64)> {
        let mut points = Vec::new();
        for (group, Squares { gradient, update, values }) in &self.groups {
            points.push((format!("{GRADIENT_NORM}.{group}"), gradient.sqrt()));
            points.push((format!("update_norm.{group}"), update.sqrt()));
            if *values > 0.0 {
                points.push((format!("relative_update.{group}"), (update / values).sqrt()));
            }
        }
        if !recorded.learning_rate {
            points.push((LEARNING_RATE.to_owned(), self.learning_rate));
        }
        if !recorded.gradient_norm {
            let squares: f64 = self.groups.iter().map(|(_, squares)| squares.gradient).sum();
            points.push((GRADIENT_NORM.to_owned(), squares.sqrt()));
        }
        points
    }
}

/// Where the group of a parameter is; it is added where it is new and there is room.
fn place<'a>(parameter: &'a str, groups: &mut Vec<(&'a str, Squares)>) -> usize {
    let mut name = group_of(parameter);
    if groups.len() + 1 >= MAX_GROUPS && !groups.iter().any(|(known, _)| *known == name) {
        name = REST;
    }
    groups.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        groups.push((name, Squares::default()));
        groups.len() - 1
    })
}

/// The group of a parameter: its name up to the first dot.
pub(crate) fn group_of(parameter: &str) -> &str {
    parameter.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    #[test]
    fn sums_are_those_of_every_value() {
        for count in [0, 1, 15, 16, 17, 1023, 1024, 1025, 5000] {
            let a: Vec<f32> = (0..count).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..count).map(|i| (i % 7) as f32).collect();
            let expected: f64 =
                a.iter().zip(&b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            assert_eq!(sum(&a, &b, |a, b| (a - b) * (a - b)), expected, "{count}");
        }
    }

    fn looks_over(batches: Range<u64>, taking_steps: bool) -> Vec<u64> {
        let var = Var::new(&Tensor::ones(2).unwrap()).unwrap();
        let (mut looks, params) = (Looks::default(), Params::from_seed(1, 10));
        let mut seen = |batch: &u64| {
            looks.begin(*batch);
            if taking_steps || batch % 3 == 2 {
                looked_at(&var, &var, 0.1, || Ok(())).unwrap();
            }
            !looks.end(*batch, &params, Recorded::default()).is_empty()
        };
        batches.filter(|batch| seen(batch)).collect()
    }

    #[test]
    fn looks_become_rarer() {
        let batches = looks_over(0..2800, true);
        assert_eq!(batches[..12], [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15]);
        assert_eq!(batches.len(), 66, "{batches:?}");
    }

    #[test]
    fn a_look_waits_for_a_step() {
        let batches = looks_over(0..60, false);
        assert!(batches.iter().all(|batch| batch % 3 == 2), "{batches:?}");
        assert_eq!(batches[..10], [2, 5, 8, 11, 14, 17, 20, 23, 26, 29]);
        assert_eq!(batches[16..], [53, 59]);
    }

    #[test]
    fn many_groups_share_one_place() {
        let mut params = Params::from_seed(1, 100);
        let mut seen = Vec::new();
        for idx in 0..40 {
            let var = params.ones(&format!("layer{}.w{idx}", idx / 2), 1).unwrap();
            let squares = Squares { gradient: 1.0, update: 4.0, values: 1.0 };
            let parameter = var.inner.as_tensor().id();
            let learning_rate = f64::from(idx);
            seen.push(Seen { parameter, count: 1, learning_rate, squares });
        }
        let sight = Sight::new(&seen, &params);
        assert_eq!(sight.groups.len(), MAX_GROUPS);
        let squares = |n| Squares { gradient: n, update: 4.0 * n, values: n };
        assert_eq!(sight.groups[0], ("layer0".to_owned(), squares(2.0)));
        assert_eq!(sight.groups[MAX_GROUPS - 1], ("rest".to_owned(), squares(10.0)));
        let points = sight.points(Recorded::default());
        assert_eq!(points.len(), 3 * MAX_GROUPS + 2);
        assert_eq!(points[2], ("relative_update.layer0".to_owned(), 2.0));
        assert_eq!(points[3 * MAX_GROUPS], ("learning_rate".to_owned(), 0.0));
        assert_eq!(points[3 * MAX_GROUPS + 1], ("gradient_norm".to_owned(), 40f64.sqrt()));
        let mut recorded = Recorded::default();
        recorded.note("gradient_norm");
        recorded.note("learning_rate");
        assert_eq!(sight.points(recorded).len(), 3 * MAX_GROUPS);
    }
}
