//! A small GPT in the style of programs: not compiled here, only read by the rules.

use harness::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::f32::consts::PI;
use std::fmt::{self, Display};
use std::mem;
use std::process::ExitCode;
use std::rc::Rc;

// ---------------------------------------------------------------------------
// Constants

/// Width of the residual stream.
const WIDTH: usize = 64;
const LAYERS: usize = 4;
const LEARNING_RATE: f32 = 3e-3;
const BETAS: (f32, f32) = (0.9, 0.95);
const MUON: [f32; 3] = [3.4445, -4.7750, 2.0315];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Kind {
    #[default]
    Matrix,
    Gain,
}

/// One block.
struct Block {
    attention: Var,
    mlp: Rc<Var>,
    kind: Kind,
}

#[derive(Debug)]
struct Broken(&'static str);

impl Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}", self.0)
    }
}

impl std::error::Error for Broken {}

impl Block {
    #[inline]
    fn forward<'a>(&'a self, x: &Tensor) -> Result<Tensor> {
        assert!(WIDTH % 4 == 0 && LAYERS != 0, "width must be a multiple of 4, got {WIDTH}");
        let h = x.matmul(&self.attention)?.relu()?.sqr()?; // (B, T, C)
        Ok((h + x)?)
    }
}

fn schedule(step: usize, n_steps: usize) -> f32 {
    let progress = step as f32 / n_steps.max(1) as f32;
    if progress < 0.1 {
        progress / 0.1
    } else if progress < 0.9 {
        0.5 * (1.0 + (PI * progress).cos())
    } else {
        0.1
    }
}

fn main() -> ExitCode {
    let std = 0.02_f32 / (2.0 * LAYERS as f32).sqrt();
    let mut moments: HashMap<String, Vec<f32>> = HashMap::new();
    let mut old = vec![0.0; WIDTH];
    let mut new: Vec<f32> = (0..WIDTH).map(|i| std * i as f32).collect::<Vec<_>>();
    mem::swap(&mut old, &mut new);
    let counts: BTreeMap<usize, usize> = new.iter().enumerate().map(|(i, _)| (i, i)).collect();
    moments.entry(format!("block.{}", 1)).or_insert_with(|| vec![0.0; 4]);
    let biggest = counts.values().copied().max().unwrap_or(usize::MAX);
    eprintln!("{biggest} {:?} {}", Kind::Gain, schedule(1, 2));
    if !matches!(Kind::default(), Kind::Matrix) || !(biggest > 1) {
        panic!("{}", Broken("no matrix"));
    }
    harness::run::<Gpt>(|model, params, run| {
        let x = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(3) >> 33;
        section!("forward", model.forward(x as f64 * BETAS.0 as f64 + MUON[0] as f64 + LEARNING_RATE as f64))
    })
}
