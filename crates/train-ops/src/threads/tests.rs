//! Helpers do their share, survive panics and sleep; operations give the same bits on any number of
//! threads.

use super::*;
use crate as ops;
use candle_core::{Device, Result, Tensor, Var};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Runs `body` on a thread of its own that has so many threads, and answers how many jobs were
/// shared too.
fn with_threads<R: Send>(count: usize, body: impl FnOnce() -> R + Send) -> (R, usize) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            use_threads(count).unwrap();
            assert_eq!(threads(), count.max(1));
            let result = body();
            let n_jobs = POOL.with_borrow(|pool| pool.as_ref().map_or(0, Pool::jobs));
            use_threads(1).unwrap();
            (result, n_jobs)
        });
        thread.join().unwrap()
    })
}

#[test]
fn every_value_is_in_one_share() {
    let check = |count: usize, length: usize| {
        let (values, n_jobs) = with_threads(count, || {
            let mut values = vec![0; length];
            let work = (&mut *values, 0..length);
            in_shares(work, usize::MAX, usize::MAX, |(values, indices)| {
                assert_eq!(values.len(), indices.len());
                for (value, index) in values.iter_mut().zip(indices) {
                    *value += index + 1;
                }
            });
            values
        });
        assert_eq!(values, (1..=length).collect::<Vec<_>>());
        assert_eq!(n_jobs, usize::from(count > 1));
    };
    for count in 0..6 {
        for length in [0, 1, 15, 16, 33, 100, 1000] {
            check(count, length);
        }
    }
}

#[test]
fn shares_of_shares_are_not_shared() {
    let (n_calls, n_jobs) = with_threads(3, || {
        let n_calls = AtomicUsize::new(0);
        in_shares(0..64, usize::MAX, usize::MAX, |outer: Range<usize>| {
            in_shares(outer, usize::MAX, usize::MAX, |inner: Range<usize>| {
                n_calls.fetch_add(inner.len(), Ordering::Relaxed);
            });
        });
        n_calls.into_inner()
    });
    assert_eq!((n_calls, n_jobs), (64, 1));
}

#[test]
fn a_panic_in_any_share_reaches_the_caller_and_helpers_live_on() {
    let (failed, n_jobs) = with_threads(3, || {
        let mut failed = Vec::new();
        for bad in [0, 20, 47] {
            let result = std::panic::catch_unwind(|| {
                in_shares(0..48, usize::MAX, usize::MAX, |share: Range<usize>| {
                    assert!(!share.contains(&bad), "{bad} is bad");
                });
            });
            let text = result.unwrap_err().downcast_ref::<String>().cloned();
            failed.push(text);
            let sum = AtomicUsize::new(0);
            in_shares(0..48, usize::MAX, usize::MAX, |share: Range<usize>| {
                sum.fetch_add(share.len(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 48);
        }
        // The owner and a helper at once: one of the panics is seen, in this job alone.
        let both = std::panic::catch_unwind(|| {
            in_shares(0..48, usize::MAX, usize::MAX, |_: Range<usize>| panic!("all are bad"));
        });
        assert!(both.is_err());
        in_shares(0..48, usize::MAX, usize::MAX, |_: Range<usize>| ());
        failed
    });
    let expected = [0, 20, 47].map(|bad| Some(format!("{bad} is bad")));
    assert_eq!((failed.as_slice(), n_jobs), (expected.as_slice(), 8));
}

/// Threads of this process whose name begins so, and their CPU time.
fn named(prefix: &str) -> Vec<Duration> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of_prefix = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(prefix))
    });
    let cpu = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
    };
    of_prefix.filter_map(cpu).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn idle_helpers_use_no_cpu_time_and_end_with_their_pool() {
    std::thread::scope(|scope| {
        let work = || {
            let mut pool = Pool::start_named(3, "idle test").unwrap();
            pool.run(&|_| ());
            std::thread::sleep(Duration::from_millis(100));
            let before = named("idle test");
            std::thread::sleep(Duration::from_millis(300));
            let after = named("idle test");
            // A thread that only sleeps is not even scheduled.
            assert_eq!((before.len(), before), (3, after));
            drop(pool);
            // Joined threads are gone but for a moment in which the kernel takes them apart.
            while !named("idle test").is_empty() {
                std::thread::yield_now();
            }
        };
        scope.spawn(work).join().unwrap();
    });
}

/// Values that are not round, in [-1, 1].
fn noise(shape: &[usize], seed: usize) -> Var {
    let value = |i: usize| ((i * 2_654_435_761 + seed * 97_003) % 65_521) as f32 / 32_760.5 - 1.0;
    let values = (0..shape.iter().product()).map(value).collect();
    Var::from_vec::<_, f32>(values, shape, &Device::Cpu).unwrap()
}

fn ids(shape: (usize, usize), below: usize) -> Tensor {
    let values = (0..shape.0 * shape.1).map(|i| (i * i % below) as u32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// The result of an operation and the gradients of its arguments.
fn both_ways(y: Result<Tensor>, arguments: &[&Var]) -> Vec<Vec<u32>> {
    let y = y.unwrap();
    // Gradients of the results that are not all the same.
    let weights = noise(y.dims(), 9);
    let gradients = (&y * weights.as_tensor()).unwrap().backward().unwrap();
    let of_arguments = arguments.iter().map(|argument| bits(gradients.get(argument).unwrap()));
    std::iter::once(bits(&y)).chain(of_arguments).collect()
}

/// Checks that `operation` gives the same bits on one to four threads, having shared its work.
#[track_caller]
fn check(operation: impl Fn() -> Vec<Vec<u32>> + Sync) {
    let (expected, n_jobs) = with_threads(1, &operation);
    assert_eq!(n_jobs, 0);
    for count in 2..5 {
        let (result, n_jobs) = with_threads(count, &operation);
        assert!(result == expected, "other bits on {count} threads");
        assert!(n_jobs > 0, "nothing was shared by {count} threads");
    }
}

#[test]
fn products_are_the_same() {
    use crate::product::{Old, View, product};
    // Around the sizes at which gemm changes its ways.
    for (m, n, k) in [
        (64, 64, 64),
        (33, 33, 7),
        (47, 32, 700),
        (64, 64, 700),
        (160, 64, 700),
        (179, 40, 1300),
        (350, 65, 513),
        (512, 256, 64),
        (1000, 33, 3),
        (77, 1000, 1100),
    ] {
        let (a, b) = (noise(&[m, k], 1), noise(&[k, n], 2));
        let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
        let (a, b) = (a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
        check(|| {
            // Every combination of what is transposed.
            let a_views = [View::new(&a, m, k), View::new(&a, k, m).transposed()];
            let b_views = [View::new(&b, k, n), View::new(&b, n, k).transposed()];
            let mut all = Vec::new();
            for (a, b) in a_views.into_iter().flat_map(|a| b_views.map(|b| (a, b))) {
                for old in [Old::Replace, Old::Add] {
                    let mut to = vec![0.25; m * (n + 3)];
                    product(&mut to[..m * (n + 3) - 3], n + 3, old, a, b, 0.7);
                    all.push(to.into_iter().map(f32::to_bits).collect());
                }
            }
            all
        });
    }
}

#[test]
fn linear_layers_are_the_same() {
    for (rows, inputs, outputs) in [(2 * 77, 48, 100), (2 * 300, 33, 64), (2 * 17, 700, 37)] {
        let x = noise(&[2, rows / 2, inputs], 1);
        let (weight, bias) = (noise(&[outputs, inputs], 2), noise(&[outputs], 3));
        check(|| both_ways(ops::linear(&x, &weight, &bias), &[&x, &weight, &bias]));
        check(|| both_ways(ops::linear_no_bias(&x, &weight), &[&x, &weight]));
    }
}

#[test]
fn attention_is_the_same() {
    let qkv = noise(&[5, 37, 3 * 24], 1);
    check(|| both_ways(ops::causal_attention(&qkv, 3), &[&qkv]));
    check(|| both_ways(ops::windowed_attention(&qkv, 3, 7), &[&qkv]));
    check(|| both_ways(ops::rotary(&qkv, 3, 1e4), &[&qkv]));
    check(|| both_ways(ops::qk_norm(&qkv, 3, 1.5), &[&qkv]));
}

#[test]
fn norms_and_activations_are_the_same() {
    let (x, gain, bias) = (noise(&[3, 23, 50], 1), noise(&[50], 2), noise(&[50], 3));
    check(|| both_ways(ops::layer_norm(&x, &gain, &bias, 1e-5), &[&x, &gain, &bias]));
    check(|| both_ways(ops::rms_norm(&x, &gain, 1e-5), &[&x, &gain]));
    check(|| both_ways(ops::rms_norm_plain(&x, 1e-5), &[&x]));
    check(|| both_ways(ops::gelu(&x), &[&x]));
    check(|| both_ways(ops::relu_squared(&x), &[&x]));
    check(|| both_ways(ops::softcap(&x, 3.0), &[&x]));
    check(|| both_ways(ops::swiglu(&x), &[&x]));
    check(|| vec![bits(&ops::sum_of_squares(&noise(&[5, 4097], 1)).unwrap())]);
}

#[test]
fn losses_are_the_same() {
    let (logits, targets) = (noise(&[3, 21, 130], 1), ids((3, 21), 130));
    check(|| both_ways(ops::cross_entropy(&logits, &targets), &[&logits]));
    let (hidden, weight) = (noise(&[3, 40, 32], 2), noise(&[1200, 32], 3));
    let targets = ids((3, 40), 1200);
    check(|| both_ways(ops::head_loss(&hidden, &weight, &targets), &[&hidden, &weight]));
}

#[test]
fn optimizers_are_the_same() {
    let (learning_rate, weight_decay, beta1, beta2) = (0.1, 0.1, 0.9, 0.95);
    let gradient = noise(&[96, 70], 2);
    let one = Tensor::new(0.5f32, &Device::Cpu).unwrap();
    // Two steps: the second one depends on what the first remembered.
    let after = |steps: &dyn Fn(&Var)| {
        let parameter = noise(&[96, 70], 1);
        steps(&parameter);
        vec![bits(&parameter)]
    };
    check(|| {
        after(&|parameter| {
            let mut moments = ops::Moments::zeros_like(parameter);
            for step in 1..3 {
                let epsilon = 1e-8;
                let settings =
                    ops::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step };
                ops::adamw(parameter, &gradient, &one, &mut moments, &settings).unwrap();
            }
        })
    });
    check(|| {
        after(&|parameter| {
            let mut momentum = ops::Momentum::zeros_like(parameter);
            let settings = ops::Lion { learning_rate, beta1, beta2, weight_decay };
            for _ in 0..2 {
                ops::lion(parameter, &gradient, &one, &mut momentum, &settings).unwrap();
            }
        })
    });
    check(|| {
        after(&|parameter| {
            let mut momentum = ops::Momentum::zeros_like(parameter);
            let settings = ops::Muon {
                learning_rate,
                momentum: 0.9,
                nesterov: true,
                weight_decay,
                iterations: 5,
                parts: 1,
                polynomial: ops::Polynomial::Quintic,
            };
            for _ in 0..2 {
                ops::muon(parameter, &gradient, &one, &mut momentum, &settings).unwrap();
            }
        })
    });
}
