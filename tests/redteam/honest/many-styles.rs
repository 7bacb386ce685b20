//! Rust as different people write it: modules, traits and objects, closures, constants in generics,
//! lifetimes, maps, shared pointers. The source rules are for none of it.

#![allow(clippy::needless_range_loop)]

use harness::prelude::*;
use std::{cell::Cell, collections::BTreeMap, fmt, rc::Rc};

mod layers {
    //! What the model is made of.

    use super::*;

    /// Anything that turns a stream into another.
    pub trait Layer {
        fn forward(&self, x: &Tensor) -> Result<Tensor>;
    }

    /// Adds what a layer makes of the normalised stream.
    pub struct Residual<L: Layer, const SCALED: bool>(pub L);

    impl<L: Layer, const SCALED: bool> Layer for Residual<L, SCALED> {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            let change = self.0.forward(&rms_norm_plain(x, 1e-5)?)?;
            x + (change * if SCALED { 0.5 } else { 1.0 })?
        }
    }

    /// Attention over all earlier positions.
    pub struct Attention {
        pub qkv: Var,
        pub out: Var,
        pub heads: usize,
    }

    impl Layer for Attention {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            let qkv = rotary(&linear_no_bias(x, &self.qkv)?, self.heads, 1e4)?;
            linear_no_bias(&causal_attention(&qkv, self.heads)?, &self.out)
        }
    }

    /// Two matrices around any function of the values.
    pub struct Mlp {
        pub up: Var,
        pub down: Var,
        pub function: Box<dyn Fn(&Tensor) -> Result<Tensor>>,
        pub after: fn(&Tensor) -> Result<Tensor>,
    }

    impl Layer for Mlp {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            let hidden = (self.function)(&linear_no_bias(x, &self.up)?)?;
            (self.after)(&linear_no_bias(&hidden, &self.down)?)
        }
    }
}

use layers::{Attention, Layer, Mlp, Residual};

/// A schedule by its name.
type Schedule = fn(f64) -> f64;

const SCHEDULES: [(&str, Schedule); 2] =
    [("cosine", |p| 0.5 * (1.0 + (std::f64::consts::PI * p).cos())), ("line", |p| 1.0 - p)];
const STEPS: usize = 150;
const WIDTH: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    #[default]
    Table,
    Matrix,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

struct Net {
    table: Rc<Var>,
    layers: Vec<Box<dyn Layer>>,
    calls: Cell<usize>,
}

impl Model for Net {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        let mut matrix = |name: &str, sizes: (usize, usize)| p.normal(name, sizes, 0.1);
        let table = Rc::new(matrix("table", (task.vocab, WIDTH))?);
        let attention = Attention {
            qkv: matrix("qkv", (3 * WIDTH, WIDTH))?,
            out: matrix("out", (WIDTH, WIDTH))?,
            heads: 2,
        };
        let power = 2.0;
        let mlp = Mlp {
            up: matrix("up", (2 * WIDTH, WIDTH))?,
            down: matrix("down", (WIDTH, 2 * WIDTH))?,
            function: Box::new(move |x| x.relu()?.powf(power)),
            after: Tensor::tanh,
        };
        let layers: Vec<Box<dyn Layer>> =
            vec![Box::new(Residual::<_, false>(attention)), Box::new(Residual::<_, true>(mlp))];
        Ok(Self { table, layers, calls: Cell::new(0) })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        // Counted for messages, never used.
        self.calls.set(self.calls.get() + 1);
        let start = embedding(&self.table, tokens)?;
        let x = self.layers.iter().try_fold(start, |x, layer| layer.forward(&x))?;
        linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table)
    }
}

/// Everything that a step needs.
struct Trainer<'run, 'pipe> {
    run: &'run mut Training<'pipe>,
    moments: BTreeMap<&'run str, (Kind, Moments)>,
}

impl<'run, 'pipe> Trainer<'run, 'pipe> {
    fn new(run: &'run mut Training<'pipe>, params: &'run Params) -> Self {
        let moments = params.iter().map(|Parameter { name, var }| {
            let kind = if name == "table" { Kind::Table } else { Kind::Matrix };
            (name.as_str(), (kind, Moments::zeros_like(var)))
        });
        let moments = moments.collect();
        Self { run, moments }
    }

    fn step<F>(&mut self, step: usize, params: &Params, forward: F) -> Result<()>
    where
        F: Fn(&Tokens) -> Result<Tensor>,
    {
        let context = self.run.task().context;
        let batch = self.run.batch(8, context)?;
        let loss = cross_entropy(&forward(&batch.inputs)?, &batch.targets)?;
        self.run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        let progress = step as f64 / STEPS as f64;
        for Parameter { name, var } in params {
            let Some((kind, moments)) = self.moments.get_mut(name.as_str()) else {
                bail!("no moments for `{name}`");
            };
            let gradient = match gradients.get(var) {
                Some(gradient) if gradient.rank() == 2 => gradient,
                Some(_) | None => continue,
            };
            let (_, schedule) = SCHEDULES[*kind as usize];
            let settings = AdamW {
                learning_rate: 1e-2 * schedule(progress),
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.0,
                step: step + 1,
            };
            adamw(var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
        Ok(())
    }
}

fn train(model: &Net, params: &Params, run: &mut Training) -> Result<()> {
    let mut trainer = Trainer::new(run, params);
    for step in 0..STEPS {
        trainer.step(step, params, |tokens| model.logits(tokens))?;
    }
    eprintln!("{} calls, {} and {}", model.calls.get(), Kind::default(), Kind::Matrix);
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Net>(train)
}
