//! Losses and norms.

use candle_core::{D, Device, Result, Tensor};
use forerunner_train_ops as ops;

use crate::check::{check, ids, noise, plain_linear, plain_softmax};

fn plain_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let logits = logits.reshape(((), logits.dim(D::Minus1)?))?;
    let targets = targets.flatten_all()?.unsqueeze(1)?;
    plain_softmax(&logits)?.log()?.gather(&targets, 1)?.mean_all()?.neg()
}

#[test]
fn cross_entropy() {
    for (rows, vocabulary) in [(1, 2), (7, 19), (40, 256)] {
        let targets = ids(&[2, rows], vocabulary as u32);
        check(
            &[noise(&[2, rows, vocabulary], 1)],
            |a| ops::cross_entropy(&a[0], &targets),
            |a| plain_cross_entropy(&a[0], &targets),
        );
    }
}

#[test]
fn head_loss() {
    // The third vocabulary has tiles of two sizes, the last is so large that the rows come in
    // chunks.
    for (rows, channels, vocabulary) in [(3, 5, 7), (20, 16, 256), (5, 9, 1_300), (40, 2, 131_072)]
    {
        let targets = ids(&[2, rows], vocabulary as u32);
        check(
            &[noise(&[2, rows, channels], 1), noise(&[vocabulary, channels], 2)],
            |a| ops::head_loss(&a[0], &a[1], &targets),
            |a| plain_cross_entropy(&plain_linear(&a[0], &a[1])?, &targets),
        );
    }
}

#[test]
fn sum_of_squares() {
    check(&[noise(&[9, 100], 4)], |a| ops::sum_of_squares(&a[0]), |a| a[0].sqr()?.sum_all());
}

#[test]
fn not_a_number_reaches_the_loss() {
    let logits = Tensor::new(&[[0f32, f32::NAN, 1.0]], &Device::Cpu).unwrap();
    let loss = ops::cross_entropy(&logits, &ids(&[1], 3)).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan());
    let hidden = Tensor::new(&[[f32::NAN, 1.0]], &Device::Cpu).unwrap();
    let loss = ops::head_loss(&hidden, &noise(&[1_300, 2], 1), &ids(&[1], 3)).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan());
}
