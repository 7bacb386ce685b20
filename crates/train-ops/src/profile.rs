//! What every operation cost on this thread: calls, time, bytes, floating-point operations.
//!
//! Collected always. A call costs two readings of the monotonic clock, which need no system call,
//! and a few additions; `cargo run --release -p forerunner-nanogpt-harness --example profiling` shows the
//! share of a training step. Time that passes between operations, in candle itself or in a program,
//! is nobody's here.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::product::flops;

/// The part of training that an operation ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The result of an operation.
    Forward,
    /// The gradients of its arguments.
    Backward,
    /// A step of an optimizer.
    Update,
}

/// What one pass of one operation cost since its thread began.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Name of the operation or optimizer.
    pub operation: &'static str,
    /// Which pass of it.
    pub pass: Pass,
    /// How often it ran.
    pub calls: u64,
    /// Total time by the wall clock: more than CPU time where others use the core too.
    pub time: Duration,
    /// Bytes of arguments and results, in the backward pass of the gradient that arrives too, each
    /// counted once. What an operation writes and reads again on the way is not counted.
    pub bytes: u64,
    /// Floating-point operations in matrix products, as [`crate::flops`] counts them.
    pub flops: u64,
}

impl Cost {
    /// `linear.forward`, `linear.backward`, `adamw`.
    pub fn name(&self) -> String {
        match self.pass {
            Pass::Forward => format!("{}.forward", self.operation),
            Pass::Backward => format!("{}.backward", self.operation),
            Pass::Update => self.operation.to_owned(),
        }
    }
}

thread_local! {
    static COLLECTING: Cell<bool> = const { Cell::new(true) };
    static COSTS: RefCell<Vec<Cost>> = const { RefCell::new(Vec::new()) };
}

/// The costs on the calling thread so far, in order of first use.
pub fn costs() -> Vec<Cost> {
    COSTS.with_borrow(Clone::clone)
}

/// Bytes and floating-point operations of all of them together.
pub fn totals() -> (u64, u64) {
    COSTS.with_borrow(|costs| {
        costs.iter().fold((0, 0), |sum, cost| (sum.0 + cost.bytes, sum.1 + cost.flops))
    })
}

/// Turns collecting on the calling thread off or on again: to measure what collecting costs.
pub fn collect(on: bool) {
    COLLECTING.set(on);
}

/// One pass that is running; its cost is noted when it is dropped.
pub(crate) struct Running {
    operation: &'static str,
    pass: Pass,
    bytes: usize,
    /// The time, and the operations counted by then; nothing while collecting is off.
    begin: Option<(Instant, u64)>,
}

impl Running {
    fn start(operation: &'static str, pass: Pass) -> Self {
        let begin = COLLECTING.get().then(|| (Instant::now(), flops()));
        Self { operation, pass, bytes: 0, begin }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self { operation, pass, bytes, begin } = *self;
        let Some((time, before)) = begin else { return };
        let (time, flops) = (time.elapsed(), flops() - before);
        COSTS.with_borrow_mut(|costs| {
            let known = costs.iter().position(|c| c.operation == operation && c.pass == pass);
            let idx = known.unwrap_or_else(|| {
                costs.push(Cost {
                    operation,
                    pass,
                    calls: 0,
                    time: Duration::ZERO,
                    bytes: 0,
                    flops: 0,
                });
                costs.len() - 1
            });
            let cost = &mut costs[idx];
            cost.calls += 1;
            cost.time += time;
            cost.bytes += bytes as u64;
            cost.flops += flops;
        });
    }
}

/// Begins a step of an optimizer that reads and writes so many `f32` values.
pub(crate) fn step(optimizer: &'static str, n_values: usize) -> Running {
    let mut running = Running::start(optimizer, Pass::Update);
    running.bytes = n_values * size_of::<f32>();
    running
}

/// An operation whose passes are counted.
pub(crate) struct Profiled<O>(pub(crate) O);

type Output = (CpuStorage, Shape);

/// Bytes of what an operation was given in the forward pass.
fn given(arguments: &[(&CpuStorage, &Layout)]) -> usize {
    let size = |(storage, layout): &(&CpuStorage, &Layout)| {
        layout.shape().elem_count() * storage_value_bytes(storage)
    };
    arguments.iter().map(size).sum()
}

fn storage_value_bytes(storage: &CpuStorage) -> usize {
    use candle_core::backend::BackendStorage;
    storage.dtype().size_in_bytes()
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

fn all_bytes(tensors: &[&Tensor]) -> usize {
    tensors.iter().map(|tensor| bytes(tensor)).sum()
}

fn gradient_bytes(gradient: &Option<Tensor>) -> usize {
    gradient.as_ref().map_or(0, bytes)
}

fn forward(
    name: &'static str,
    arguments: &[(&CpuStorage, &Layout)],
    body: impl FnOnce() -> Result<Output>,
) -> Result<Output> {
    let mut running = Running::start(name, Pass::Forward);
    let (storage, shape) = body()?;
    running.bytes = given(arguments) + shape.elem_count() * storage_value_bytes(&storage);
    Ok((storage, shape))
}

impl<O: CustomOp1> CustomOp1 for Profiled<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout) -> Result<Output> {
        forward(self.0.name(), &[(a, al)], || self.0.cpu_fwd(a, al))
    }

    fn bwd(&self, a: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut running = Running::start(self.0.name(), Pass::Backward);
        let da = self.0.bwd(a, y, dy)?;
        running.bytes = all_bytes(&[a, dy]) + gradient_bytes(&da);
        Ok(da)
    }
}

impl<O: CustomOp2> CustomOp2 for Profiled<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout, b: &CpuStorage, bl: &Layout) -> Result<Output> {
        forward(self.0.name(), &[(a, al), (b, bl)], || self.0.cpu_fwd(a, al, b, bl))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut running = Running::start(self.0.name(), Pass::Backward);
        let (da, db) = self.0.bwd(a, b, y, dy)?;
        running.bytes = all_bytes(&[a, b, dy]) + gradient_bytes(&da) + gradient_bytes(&db);
        Ok((da, db))
    }
}

impl<O: CustomOp3> CustomOp3 for Profiled<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
        c: &CpuStorage,
        cl: &Layout,
    ) -> Result<Output> {
        let arguments = [(a, al), (b, bl), (c, cl)];
        forward(self.0.name(), &arguments, || self.0.cpu_fwd(a, al, b, bl, c, cl))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut running = Running::start(self.0.name(), Pass::Backward);
        let (da, db, dc) = self.0.bwd(a, b, c, y, dy)?;
        let gradients = [&da, &db, &dc].map(gradient_bytes);
        running.bytes = all_bytes(&[a, b, c, dy]) + gradients.iter().sum::<usize>();
        Ok((da, db, dc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// A layer forward and backward, and a step: `[4, 2] x [3, 2]ᵀ + [3] -> [4, 3]`.
    fn train() -> Result<()> {
        let weight = Var::from_vec(vec![0.5f32; 6], (3, 2), &Device::Cpu)?;
        let bias = Var::from_vec(vec![0.5f32; 3], 3, &Device::Cpu)?;
        let x = Var::from_vec(vec![1f32; 8], (4, 2), &Device::Cpu)?;
        let targets = Tensor::new(&[0u32, 1, 2, 0], &Device::Cpu)?;
        let loss = crate::cross_entropy(&crate::linear(&x, &weight, &bias)?, &targets)?;
        let gradients = loss.backward()?;
        let gradient = gradients.get(&weight).expect("the loss depends on it");
        let one = Tensor::new(1f32, &Device::Cpu)?;
        let lion = crate::Lion { learning_rate: 0.1, beta1: 0.9, beta2: 0.9, weight_decay: 0.0 };
        let mut momentum = crate::Momentum::zeros_like(&weight);
        crate::lion(&weight, gradient, &one, &mut momentum, &lion)
    }

    #[test]
    fn every_pass_is_counted_with_its_bytes_and_products() {
        assert_eq!(costs(), []);
        train().unwrap();
        train().unwrap();
        let costs = costs();
        let rows: Vec<_> = costs.iter().map(|c| (c.name(), c.calls, c.bytes)).collect();
        let sum = (costs.iter().map(|c| c.bytes).sum(), costs.iter().map(|c| c.flops).sum());
        assert_eq!(totals(), sum);
        let row = |name: &str, n_values: u64| (name.to_owned(), 2, 2 * 4 * n_values);
        let (x, weight, bias, y) = (8, 6, 3, 12);
        assert_eq!(
            rows,
            [
                row("linear.forward", x + weight + bias + y),
                row("cross_entropy.forward", y + 4 + 1),
                row("cross_entropy.backward", 2 * y + 4 + 1),
                row("linear.backward", 2 * (x + weight + bias) + y),
                row("lion", 5 * weight),
            ]
        );
        // Tests on other threads may add to the count of operations while these run.
        let products: Vec<_> = costs.iter().map(|c| c.flops >= 2 * 2 * 4 * 3 * 2).collect();
        assert!(products[0] && products[3], "{costs:?}");
        assert!(costs[3].flops >= 2 * costs[0].flops.min(2 * 2 * 4 * 3 * 2), "{costs:?}");
        assert!(costs.iter().all(|cost| cost.time > Duration::ZERO), "{costs:?}");
    }

    #[test]
    fn nothing_is_counted_while_collecting_is_off() {
        collect(false);
        train().unwrap();
        assert_eq!(costs(), []);
        collect(true);
        train().unwrap();
        assert_eq!(costs().len(), 5);
    }

    #[test]
    fn an_error_is_passed_on() {
        let table = Tensor::zeros((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let ids = Tensor::new(&[7u32], &Device::Cpu).unwrap();
        let error = crate::embedding(&table, &ids).unwrap_err().to_string();
        assert!(error.contains("id 7"), "{error}");
        let counted: Vec<_> = costs().iter().map(|c| (c.name(), c.calls, c.bytes)).collect();
        assert_eq!(counted, [("embedding.forward".to_owned(), 1, 0)]);
    }
}
