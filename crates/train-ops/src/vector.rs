//! Loops over slices that the compiler turns into vector instructions.
//!
//! [`vectorized`] compiles its closure for several instruction sets and picks one at run time. The
//! sums below have sixteen partial sums whatever the set, and no operation is contracted, so every
//! set gives the same bits.

const LANES: usize = 16;

/// Runs `body` compiled for the best instruction set of this machine.
///
/// Only code that is inlined into `body` profits: everything here is `#[inline(always)]`.
#[inline(always)]
pub(crate) fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// `e^x` with a relative error of about 2e-7; arguments are clamped to -87 and 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // e^x = 2^k p(r) with |r| <= ln(2)/2; the magic number rounds to an integer, ln(2) comes in
    // two parts so that r is exact, and p is Cephes' polynomial for expf.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = x - k * 0.693_359_4 - k * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // The low bits of `rounded` are k; shifted to the exponent they multiply by 2^k.
    f32::from_bits(y.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// Hyperbolic tangent with an absolute error of about 2e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// Sum of `f(x)` over a slice.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut partial = [0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            partial[lane] += f(chunk[lane]);
        }
    }
    rest.iter().fold(partial.iter().sum(), |total, &value| total + f(value))
}

/// Sum of `f(x, y)` over two slices of equal length.
#[inline(always)]
pub(crate) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut partial = [0f32; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            partial[lane] += f(x[lane], y[lane]);
        }
    }
    let rest = x_rest.iter().zip(y_rest);
    rest.fold(partial.iter().sum(), |total, (&x, &y)| total + f(x, y))
}

/// [`sum2`] for slices of a few lanes: eight partial sums, added pair by pair.
#[inline(always)]
pub(crate) fn short_sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut partial = [0f32; 8];
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..8 {
            partial[lane] += f(x[lane], y[lane]);
        }
    }
    let [a, b, c, d, e, f1, g, h] = partial;
    let total = ((a + e) + (c + g)) + ((b + f1) + (d + h));
    x_rest.iter().zip(y_rest).fold(total, |total, (&x, &y)| total + f(x, y))
}

/// Largest value of a slice; a NaN may or may not be seen.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut partial = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            partial[lane] = larger(partial[lane], chunk[lane]);
        }
    }
    partial.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// Adds `x` to `to`, value by value.
#[inline(always)]
pub(crate) fn add(to: &mut [f32], x: &[f32]) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to += x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn exp_and_tanh_follow_the_standard_library() {
        for i in -8_000..8_000 {
            let x = i as f32 * 0.01;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / expected - 1.0).abs() < 4e-7, "exp({x}) = {got}, not {expected}");
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 4e-7, "tanh({x})");
        }
        assert!(exp(-1e30) < 1e-37 && exp(1e30).is_finite());
    }

    #[test]
    fn sums_and_maxima_follow_plain_loops() {
        for count in [0, 1, 15, 16, 17, 100] {
            let (x, y) = (line(count), line(2 * count)[count..].to_vec());
            let plain: f64 = x.iter().map(|&v| f64::from(v * v)).sum();
            assert!((f64::from(sum(&x, |v| v * v)) - plain).abs() < 1e-5);
            let plain: f64 = x.iter().zip(&y).map(|(&a, &b)| f64::from(a * b)).sum();
            assert!((f64::from(sum2(&x, &y, |a, b| a * b)) - plain).abs() < 1e-5);
            assert!((f64::from(short_sum2(&x, &y, |a, b| a * b)) - plain).abs() < 1e-5);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    #[test]
    fn instruction_sets_agree_to_the_last_bit() {
        let x = line(1000);
        let body = || sum(&x, |v| tanh(exp(v)));
        assert_eq!(vectorized(body).to_bits(), body().to_bits());
    }
}
