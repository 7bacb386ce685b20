//! How tensors were made, and gradients from that.

use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Result, Tensor, bail};
use forerunner_kernels as kernels;

use super::generic::sum;
use super::graph::{copy_of, is_capturing, round_later, unnoted};
use super::memory::{cast, dense, filled, storage_address, view, view_mut, wrapped};
use super::place;

/// A tensor that remembers how it was made; a clone shares both.
#[derive(Clone)]
pub struct Traced {
    value: Tensor,
    origin: Option<Origin>,
    /// What this is the GELU of, where a product that reads this may take GELU's gradient along.
    gelu_of: Option<Arc<Traced>>,
}

/// One of the results of a step.
#[derive(Clone)]
struct Origin {
    node: Arc<Node>,
    result: usize,
}

struct Node {
    /// Larger than those of everything that it was made of.
    id: u64,
    inputs: Vec<Option<Origin>>,
    made: Made,
}

enum Made {
    /// A parameter, with its values in bf16 as far as somebody has needed them.
    Parameter { shadow: Mutex<Option<Tensor>> },
    /// A step that can be gone back once.
    Step { n_results: usize, backward: Mutex<Option<Backward>> },
}

/// From gradients of the results to gradients of the inputs; `None` where nothing arrives.
type Backward = Box<dyn FnOnce(Vec<Option<Gradient>>) -> Result<Vec<Option<Gradient>>> + Send>;

/// A gradient on its way.
#[derive(Clone)]
pub(super) struct Gradient {
    tensor: Tensor,
    /// Whether nobody else holds the tensor, so that it may be added to.
    owned: bool,
    /// Whether this is the number one that the pass began with.
    is_one: bool,
}

impl Gradient {
    /// A gradient that was made just now.
    pub(super) fn new(tensor: Tensor) -> Self {
        Self { tensor, owned: true, is_one: false }
    }

    /// A gradient that others may hold too.
    pub(super) fn shared(tensor: Tensor) -> Self {
        Self { tensor, owned: false, is_one: false }
    }

    /// The values.
    pub(super) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Whether this is the number one that the pass began with.
    pub(super) fn is_one(&self) -> bool {
        self.is_one
    }

    /// The sum of two gradients of the same tensor.
    pub(super) fn add(self, other: Self) -> Result<Self> {
        if self.tensor.dims() != other.tensor.dims() || self.tensor.dtype() != other.tensor.dtype()
        {
            bail!("gradients of {:?} and {:?} meet", self.tensor, other.tensor);
        }
        let (to, from) = if self.owned { (self, other) } else { (other, self) };
        let known = matches!(to.tensor.dtype(), DType::F32 | DType::BF16);
        if !to.owned || !known {
            return Ok(Self::new(sum(&to.tensor, &from.tensor)?));
        }
        // What candle found may lie transposed: then this is a copy, and ours as well.
        let (to, from) = (dense(&to.tensor)?, dense(&from.tensor)?);
        let machine = place()?.machine;
        kernels::add(&machine, &mut view_mut(&to)?, &view(&from)?).map_err(wrapped)?;
        Ok(Self::new(to))
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traced{:?}", self.value.dims())
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Node {
    fn new(inputs: Vec<Option<Origin>>, made: Made) -> Arc<Self> {
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), inputs, made })
    }
}

impl Traced {
    /// A tensor through which no gradient passes.
    pub fn constant(value: &Tensor) -> Self {
        Self { value: value.detach(), origin: None, gelu_of: None }
    }

    /// A parameter, whose memory stays the tensor's: gradients are taken with respect to it.
    pub fn parameter(value: &Tensor) -> Self {
        let node = Node::new(Vec::new(), Made::Parameter { shadow: Mutex::default() });
        Self { value: value.detach(), origin: Some(Origin { node, result: 0 }), gelu_of: None }
    }

    /// The values, which know nothing of how they were made.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The same values without their history.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { value: self.value.clone(), origin: None, gelu_of: None }
    }

    /// Whether gradients reach this tensor.
    pub fn is_traced(&self) -> bool {
        self.origin.is_some()
    }

    /// The same tensor, known as the GELU of another result of its step.
    pub(super) fn known_as_gelu_of(self, before: Self) -> Self {
        Self { gelu_of: before.is_traced().then(|| Arc::new(before)), ..self }
    }

    /// What this is the GELU of, if that is known. Gradients may be passed to it, in place of this.
    pub(super) fn gelu_of(&self) -> Option<&Self> {
        self.gelu_of.as_deref()
    }

    /// The values in bf16: a parameter's are rounded once and kept until it changes.
    pub(super) fn in_bf16(&self) -> Result<Tensor> {
        if self.value.dtype() == DType::BF16 {
            return dense(&self.value);
        }
        let Some(mut shadow) = self.shadow() else { return round(&self.value) };
        if let Some(shadow) = &*shadow {
            return Ok(shadow.clone());
        }
        if is_capturing() {
            // Its memory would be the graph's.
            return round(&self.value);
        }
        Ok(shadow.insert(round(&self.value)?).clone())
    }

    /// The bf16 copy of a parameter, if this is one.
    pub(super) fn shadow(&self) -> Option<MutexGuard<'_, Option<Tensor>>> {
        match &self.origin.as_ref()?.node.made {
            Made::Parameter { shadow } => {
                Some(shadow.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Made::Step { .. } => None,
        }
    }

    /// Replaces a parameter's values, whose memory stays where it is.
    ///
    /// # Errors
    ///
    /// When shapes differ.
    pub fn set(&self, values: &Tensor) -> Result<()> {
        if values.dims() != self.value.dims() {
            bail!("set: {:?} does not fit {:?}", values.shape(), self.value.shape());
        }
        let mut values = dense(&cast(values, DType::F32)?)?;
        if storage_address(&values)? == storage_address(&self.value)? {
            // A view of the parameter itself.
            values = copy_of(&values)?;
        }
        let machine = place()?.machine;
        machine.copy(&mut view_mut(&self.value)?, &view(&values)?).map_err(wrapped)?;
        self.changed()
    }

    /// Sets every value of a parameter.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn fill(&self, value: f64) -> Result<()> {
        let machine = place()?.machine;
        kernels::fill(&machine, &mut view_mut(&self.value)?, value as f32).map_err(wrapped)?;
        self.changed()
    }

    /// Adds `factor · values` to a parameter.
    ///
    /// # Errors
    ///
    /// When shapes differ.
    pub fn accumulate(&self, values: &Tensor, factor: f64) -> Result<()> {
        if values.dims() != self.value.dims() {
            bail!("accumulate: {:?} does not fit {:?}", values.shape(), self.value.shape());
        }
        let values = dense(values)?;
        let machine = place()?.machine;
        let to = &mut view_mut(&self.value)?;
        kernels::accumulate(&machine, to, &view(&values)?, factor as f32).map_err(wrapped)?;
        self.changed()
    }

    /// Brings a parameter's bf16 copy, where there is one, up to date: in place, because a graph may
    /// have recorded where it lies.
    pub(super) fn changed(&self) -> Result<()> {
        let Some(shadow) = self.shadow() else { return Ok(()) };
        let Some(shadow) = &*shadow else {
            round_later(self);
            return Ok(());
        };
        let place = place()?;
        unnoted(&place, || {
            kernels::round_to_bf16(&place.machine, &mut view_mut(shadow)?, &view(&self.value)?)
                .map_err(wrapped)
        })
    }

    /// Gradients of this scalar with respect to every parameter that it depends on.
    ///
    /// What the steps back to there kept is given back on the way, so it can be done once.
    ///
    /// # Errors
    ///
    /// When a step was gone back before, or fails.
    pub fn backward(&self) -> Result<Gradients> {
        let mut found = Gradients(HashMap::new());
        let Some(origin) = &self.origin else { return Ok(found) };
        let mut pass = Pass::default();
        let one = cast(&filled(&place()?, self.value.shape(), 1.0)?, self.value.dtype())?;
        pass.arrive(origin, Gradient { tensor: one, owned: true, is_one: true })?;
        while let Some((node, gradients)) = pass.next() {
            match &node.made {
                Made::Parameter { .. } => {
                    if let Some(Some(gradient)) = gradients.into_iter().next() {
                        found.0.insert(node.id, gradient.tensor);
                    }
                }
                Made::Step { backward, .. } => {
                    let backward = backward.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let Some(backward) = backward else {
                        bail!("a step cannot be gone back twice");
                    };
                    for (input, gradient) in node.inputs.iter().zip(backward(gradients)?) {
                        if let (Some(input), Some(gradient)) = (input, gradient) {
                            pass.arrive(input, gradient)?;
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The results of a step, and the way back. Where no input is traced, neither are the results, and
/// the way back is forgotten at once with what it would have kept.
pub(super) fn step(
    inputs: &[&Traced],
    results: Vec<Tensor>,
    backward: impl FnOnce(Vec<Option<Gradient>>) -> Result<Vec<Option<Gradient>>> + Send + 'static,
) -> Vec<Traced> {
    if inputs.iter().all(|input| input.origin.is_none()) {
        return results
            .into_iter()
            .map(|value| Traced { value, origin: None, gelu_of: None })
            .collect();
    }
    let made =
        Made::Step { n_results: results.len(), backward: Mutex::new(Some(Box::new(backward))) };
    let node = Node::new(inputs.iter().map(|input| input.origin.clone()).collect(), made);
    let traced = |(result, value)| {
        let origin = Some(Origin { node: Arc::clone(&node), result });
        Traced { value, origin, gelu_of: None }
    };
    results.into_iter().enumerate().map(traced).collect()
}

/// [`step`] with one result.
pub(super) fn step1(
    inputs: &[&Traced],
    result: Tensor,
    backward: impl FnOnce(&Gradient) -> Result<Vec<Option<Gradient>>> + Send + 'static,
) -> Traced {
    let count = inputs.len();
    let back = move |mut gradients: Vec<Option<Gradient>>| match gradients.pop().flatten() {
        Some(gradient) => backward(&gradient),
        None => Ok(vec![None; count]),
    };
    step(inputs, vec![result], back).swap_remove(0)
}

/// f32 values rounded to bf16.
pub(super) fn round(values: &Tensor) -> Result<Tensor> {
    let place = place()?;
    let values = dense(values)?;
    let rounded = super::memory::empty(&place, values.shape(), DType::BF16)?;
    kernels::round_to_bf16(&place.machine, &mut view_mut(&rounded)?, &view(&values)?)
        .map_err(wrapped)?;
    Ok(rounded)
}

/// A reverse pass on its way: nodes that gradients have reached, the latest made first.
#[derive(Default)]
struct Pass {
    waiting: BinaryHeap<u64>,
    reached: HashMap<u64, (Arc<Node>, Vec<Option<Gradient>>)>,
}

impl Pass {
    fn arrive(&mut self, at: &Origin, gradient: Gradient) -> Result<()> {
        let n_results = match &at.node.made {
            Made::Parameter { .. } => 1,
            Made::Step { n_results, .. } => *n_results,
        };
        let (_, gradients) = self.reached.entry(at.node.id).or_insert_with(|| {
            self.waiting.push(at.node.id);
            (Arc::clone(&at.node), vec![None; n_results])
        });
        let sum = match gradients[at.result].take() {
            Some(before) => before.add(gradient)?,
            None => gradient,
        };
        gradients[at.result] = Some(sum);
        Ok(())
    }

    fn next(&mut self) -> Option<(Arc<Node>, Vec<Option<Gradient>>)> {
        self.reached.remove(&self.waiting.pop()?)
    }
}

/// What [`Traced::backward`] found.
#[derive(Debug)]
pub struct Gradients(HashMap<u64, Tensor>);

impl Gradients {
    /// The gradient with respect to a parameter, or `None` when the scalar does not depend on it.
    pub fn get(&self, parameter: &Traced) -> Option<&Tensor> {
        self.0.get(&parameter.origin.as_ref()?.node.id)
    }
}
