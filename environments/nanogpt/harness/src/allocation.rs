//! How much memory the process asks for: counted by the allocator that every program is linked with.
//!
//! Two layers around the system's allocator, each a few additions to a call: the inner one counts
//! calls, the outer one bytes and the most that were held at a time.

use std::alloc::System;

use cap::Cap;
use forerunner_nanogpt_protocol::Allocations;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: Cap<&StatsAlloc<System>> = Cap::new(&INSTRUMENTED_SYSTEM, usize::MAX);

/// What was asked for since the process began, on all threads.
pub(crate) fn so_far() -> Allocations {
    let counts = INSTRUMENTED_SYSTEM.stats();
    Allocations {
        count: (counts.allocations + counts.reallocations) as u64,
        bytes: ALLOCATOR.total_allocated() as u64,
        peak_bytes: ALLOCATOR.max_allocated() as u64,
    }
}

/// The same counted from an earlier moment on; the peak is still that of the whole process.
pub(crate) fn since(earlier: Allocations) -> Allocations {
    let now = so_far();
    Allocations { count: now.count - earlier.count, bytes: now.bytes - earlier.bytes, ..now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn what_is_asked_for_is_counted() {
        // Other tests run meanwhile, so these are the least that must be counted.
        let begin = so_far();
        let blocks: Vec<Box<[u8; 1000]>> =
            (0..500).map(|_| black_box(Box::new([1; 1000]))).collect();
        drop(blocks);
        let Allocations { count, bytes, .. } = since(begin);
        assert!(count > 500 && bytes >= 500_000, "{count} {bytes}");
        drop(black_box(vec![0_u8; 300 << 20]));
        let held = since(begin);
        assert!(held.peak_bytes >= 300 << 20 && held.bytes >= bytes + (300 << 20), "{held:?}");
        let mut grown = Vec::<u8>::with_capacity(1000);
        grown.push(1);
        let before = so_far();
        grown.reserve_exact(1 << 20);
        assert!(since(before).count > 0 && since(before).bytes > 1 << 20, "{:?}", since(before));
    }
}
