//! Attention and what is done to queries and keys before it.

use candle_core::{D, Device, Result, Tensor};
use forerunner_train_ops as ops;

use crate::check::{check, noise, plain_softmax};

/// Sequences, positions, heads, width of a head: odd and even widths, those with code of their own,
/// and more positions than one block of the kernel has.
const SIZES: [(usize, usize, usize, usize); 7] = [
    (1, 1, 1, 4),
    (2, 5, 2, 3),
    (2, 6, 3, 10),
    (1, 4, 2, 8),
    (2, 70, 4, 16),
    (1, 3, 2, 32),
    (1, 3, 2, 64),
];

fn plain_attention(qkv: &Tensor, heads: usize, window: usize) -> Result<Tensor> {
    let (batch, length, packed) = qkv.dims3()?;
    let head_width = packed / 3 / heads;
    let qkv = qkv.reshape((batch, length, 3, heads, head_width))?;
    let qkv = qkv.permute((2, 0, 3, 1, 4))?.contiguous()?;
    let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
    let scores = (q.matmul(&k.t()?)? / (head_width as f64).sqrt())?;
    let hidden: Vec<f32> = (0..length * length)
        .map(|at| (at / length, at % length))
        .map(|(i, j)| if j <= i && i < j + window { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    let mask = Tensor::from_vec(hidden, (length, length), &Device::Cpu)?;
    let y = plain_softmax(&scores.broadcast_add(&mask)?)?.matmul(&v)?;
    y.transpose(1, 2)?.reshape((batch, length, packed / 3))
}

#[test]
fn causal_attention() {
    for (batch, length, heads, head_width) in SIZES {
        check(
            &[noise(&[batch, length, 3 * heads * head_width], 1)],
            |a| ops::causal_attention(&a[0], heads),
            |a| plain_attention(&a[0], heads, length),
        );
    }
}

#[test]
fn windowed_attention() {
    for (batch, length, heads, head_width) in SIZES {
        for window in [1, 2, 5, 33, 70, 1000] {
            check(
                &[noise(&[batch, length, 3 * heads * head_width], 1)],
                |a| ops::windowed_attention(&a[0], heads, window),
                |a| plain_attention(&a[0], heads, window),
            );
        }
    }
}

/// Applies `change` to the queries and the keys, `[B, T, heads, D]` each.
fn change_queries_and_keys(
    qkv: &Tensor,
    heads: usize,
    change: impl Fn(Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let (batch, length, packed) = qkv.dims3()?;
    let width = packed / 3;
    let part = |third: usize| qkv.narrow(2, third * width, width);
    let split = |third: usize| part(third)?.reshape((batch, length, heads, width / heads));
    let changed = |third: usize| change(split(third)?, third)?.reshape((batch, length, width));
    Tensor::cat(&[changed(0)?, changed(1)?, part(2)?], 2)
}

#[test]
fn rotary() {
    for (batch, length, heads, head_width) in SIZES.into_iter().filter(|sizes| sizes.3 % 2 == 0) {
        for base in [100.0, 10_000.0] {
            let half = head_width / 2;
            let table = |function: fn(f64) -> f64| {
                let angles = (0..length * half).map(|at| {
                    let (position, pair) = ((at / half) as f64, (at % half) as f64);
                    function(position * f64::powf(base, -2.0 * pair / head_width as f64)) as f32
                });
                Tensor::from_vec(angles.collect::<Vec<_>>(), (length, 1, half), &Device::Cpu)
            };
            check(
                &[noise(&[batch, length, 3 * heads * head_width], 1)],
                |a| ops::rotary(&a[0], heads, base),
                |a| {
                    change_queries_and_keys(&a[0], heads, |x, _| {
                        let (first, second) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
                        let (cos, sin) = (table(f64::cos)?, table(f64::sin)?);
                        let turn = |x: &Tensor, y: &Tensor| {
                            x.broadcast_mul(&cos)? + y.broadcast_mul(&sin)?
                        };
                        Tensor::cat(&[turn(&first, &second.neg()?)?, turn(&second, &first)?], 3)
                    })
                },
            );
        }
    }
}

#[test]
fn products_after_rotary_depend_on_distances_only() {
    // The same query and key everywhere.
    let one: Vec<f32> = noise(&[24], 5).to_vec1().unwrap();
    let qkv = Tensor::from_vec(one.repeat(40), (1, 40, 24), &Device::Cpu).unwrap();
    let turned = ops::rotary(&qkv, 1, 50.0).unwrap().squeeze(0).unwrap();
    let (q, k) = (turned.narrow(1, 0, 8).unwrap(), turned.narrow(1, 8, 8).unwrap());
    let scores: Vec<Vec<f32>> = q.matmul(&k.t().unwrap()).unwrap().to_vec2().unwrap();
    for i in 1..40 {
        for j in 1..40 {
            assert!((scores[i][j] - scores[i - 1][j - 1]).abs() < 1e-5, "at {i}, {j}");
        }
    }
    assert!((scores[0][0] - scores[0][1]).abs() > 1e-3, "nothing was turned");
}

#[test]
fn qk_norm() {
    for (batch, length, heads, head_width) in SIZES {
        check(
            &[noise(&[batch, length, 3 * heads * head_width], 1)],
            |a| ops::qk_norm(&a[0], heads, 1.7),
            |a| {
                change_queries_and_keys(&a[0], heads, |x, third| {
                    let root = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
                    x.broadcast_div(&root)? * [1.7, 1.0][third]
                })
            },
        );
    }
}
