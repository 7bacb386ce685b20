//! Overwrites the memory of a GPU, so that the next program finds nothing of the one before.
//!
//! All free memory is taken in plain allocations, as large as they can be had, written, looked at and
//! let go. What the driver itself keeps, and this process's own context, is not overwritten: some
//! hundred megabytes, which the answer shows as the difference to the whole.
#![expect(unsafe_code, reason = "the driver's interface is one of raw addresses")]

use std::time::Instant;

use cudarc::driver::{CudaContext, DriverError, result, sys::CUresult};

use crate::{
    device::{Failure, open},
    report::Report,
};

/// The smallest allocation that is tried: the driver hands out memory in pieces of this size.
const SMALLEST: usize = 2 << 20;

/// Device memory held.
struct Chunk {
    address: u64,
    bytes: usize,
}

/// Takes, overwrites and lets go. Answers with what it came to.
pub(crate) fn scrub(ordinal: usize) -> Result<Report, Failure> {
    let context = open(ordinal)?;
    let begin = Instant::now();
    let chunks = take_all(&context)?;
    let filled = chunks.iter().try_for_each(fill).and_then(|()| {
        context.synchronize().map_err(Failure::at("scrub"))?;
        chunks.iter().try_for_each(look_at)
    });
    let bytes: usize = chunks.iter().map(|chunk| chunk.bytes).sum();
    let count = chunks.len() as u64;
    let freed = chunks.into_iter().try_for_each(|chunk| {
        // SAFETY: it came from `malloc_sync` and is let go once; nothing works on it any more.
        unsafe { result::free_sync(chunk.address) }.map_err(Failure::at("scrub"))
    });
    filled.and(freed)?;
    let (_, total) = context.mem_get_info().map_err(Failure::at("scrub"))?;
    Ok(Report::default()
        .count("bytes", bytes as u64)
        .count("total_bytes", total as u64)
        .count("allocations", count)
        .number("seconds", begin.elapsed().as_secs_f64()))
}

/// Allocates until nothing is left: all that is free at once, then ever smaller pieces.
fn take_all(context: &CudaContext) -> Result<Vec<Chunk>, Failure> {
    let (free, _) = context.mem_get_info().map_err(Failure::at("scrub"))?;
    let chunks = pieces(free, |bytes| {
        // SAFETY: nobody reads it before it was written, and `scrub` lets it go.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(Chunk { address, bytes })),
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(error) => Err(Failure::at("scrub")(error)),
        }
    })?;
    Ok(chunks)
}

/// Calls `take` with sizes from `free` down to the smallest; half as much after each refusal.
fn pieces<T>(
    free: usize,
    mut take: impl FnMut(usize) -> Result<Option<T>, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut taken = Vec::new();
    let mut bytes = free.next_multiple_of(SMALLEST);
    while bytes >= SMALLEST {
        match take(bytes)? {
            Some(chunk) => taken.push(chunk),
            None => bytes = (bytes / 2) / SMALLEST * SMALLEST,
        }
    }
    Ok(taken)
}

fn fill(chunk: &Chunk) -> Result<(), Failure> {
    // SAFETY: the whole chunk and no more.
    unsafe { result::memset_d8_async(chunk.address, 0, chunk.bytes, result::stream::null()) }
        .map_err(Failure::at("scrub"))
}

/// Reads both ends back.
fn look_at(chunk: &Chunk) -> Result<(), Failure> {
    let mut ends = [[0xff_u8; 64]; 2];
    let last = chunk.address + (chunk.bytes - ends[1].len()) as u64;
    for (end, address) in ends.iter_mut().zip([chunk.address, last]) {
        // SAFETY: as many bytes as the buffer has, inside the chunk, which is larger.
        unsafe { result::memcpy_dtoh_sync(end, address) }.map_err(Failure::at("scrub"))?;
    }
    match ends.as_flattened().iter().all(|&byte| byte == 0) {
        true => Ok(()),
        false => {
            Err(Failure::Failed("scrub: the memory does not hold what was written".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memory_is_taken_though_it_comes_in_pieces() {
        // A device that hands out at most so much at once, in whole pieces.
        let (mut left, most) = (1000 * SMALLEST, 300 * SMALLEST);
        let taken = pieces(left + 17, |bytes| {
            let given = bytes <= left.min(most);
            left -= if given { bytes } else { 0 };
            Ok(given.then_some(bytes))
        });
        assert_eq!((taken.unwrap().iter().sum::<usize>(), left), (1000 * SMALLEST, 0));
        let none = pieces::<()>(0, |_| panic!("nothing is free"));
        assert!(none.unwrap().is_empty());
        let broken = pieces::<()>(SMALLEST, |_| Err(Failure::Failed("gone".into())));
        assert_eq!(broken.unwrap_err().code(), 70);
    }
}
