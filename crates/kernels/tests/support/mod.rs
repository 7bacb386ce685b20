//! What the tests of all operations share.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::print_stderr, reason = "tests skip aloud where there is no device")]

use forerunner_kernels::Machine;

/// Every machine there is: the emulator under two schedules, and the first device.
pub(crate) fn machines() -> Vec<Machine> {
    let mut machines = Vec::new();
    #[cfg(feature = "emulator")]
    machines.extend([Machine::emulated(1), Machine::emulated(2)]);
    #[cfg(feature = "cuda")]
    match Machine::cuda(0) {
        Ok(machine) => machines.push(machine),
        Err(error) => eprintln!("skipped on a device: {error}"),
    }
    machines
}

/// Numbers between -1 and 1, the same ones for the same seed.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The nearest bf16.
pub(crate) fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    if value.is_nan() {
        return value;
    }
    f32::from_bits(((u64::from(bits) + 0x7fff + u64::from((bits >> 16) & 1)) as u32) & 0xffff_0000)
}

/// All of them rounded, as numbers to compute with.
pub(crate) fn rounded_all(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(rounded(value))).collect()
}

/// `‖got - want‖ / ‖want‖`; not a number where any of them is not.
pub(crate) fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let (mut difference, mut size) = (0.0, 0.0);
    for (&got, &want) in got.iter().zip(want) {
        difference += (f64::from(got) - want).powi(2);
        size += want * want;
    }
    (difference / f64::max(size, f64::MIN_POSITIVE)).sqrt()
}

/// Fails unless two vectors agree by relative norm.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], bound: f64) {
    let error = relative_error(got, want);
    assert!(error <= bound, "{what}: relative error {error:.2e}, more than {bound:.0e}");
}
