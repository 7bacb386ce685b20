//! Targets with known faults, so that a test can see that this program notices each kind.

use super::{MIB, Target};

const BASE: Target = Target {
    name: "",
    about: "has a fault on purpose",
    corpus: || vec![b"harmless".to_vec(), b"!fault!".to_vec()],
    dictionary: &[],
    longest: 64,
    confined: true,
    memory_bytes: 128 << 20,
    allocation_bytes: 64 * MIB,
    run: |_| String::new(),
};

/// The fault shows when an input holds an exclamation mark.
fn is_faulty(input: &[u8]) -> bool {
    input.contains(&b'!')
}

pub(super) static TARGETS: [Target; 6] = [
    Target { name: "selftest/none", ..BASE },
    Target {
        name: "selftest/panic",
        run: |input| {
            assert!(!is_faulty(input), "a fault on purpose");
            String::new()
        },
        ..BASE
    },
    Target {
        name: "selftest/abort",
        run: |input| if is_faulty(input) { std::process::abort() } else { String::new() },
        ..BASE
    },
    Target {
        name: "selftest/stack",
        run: |input| if is_faulty(input) { recurse(1).to_string() } else { String::new() },
        ..BASE
    },
    Target {
        name: "selftest/loop",
        run: |input| {
            while is_faulty(std::hint::black_box(input)) {}
            String::new()
        },
        ..BASE
    },
    Target {
        name: "selftest/memory",
        run: |input| {
            let n_bytes = if is_faulty(input) { 100 * MIB } else { 0 };
            std::hint::black_box(vec![1_u8; n_bytes]).len().to_string()
        },
        ..BASE
    },
];

fn recurse(depth: u64) -> u64 {
    let below = std::hint::black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(below[1] + 1) + below[2] }
}
