//! Breaks the memory safety of its own process without the word `unsafe`. A beginning: tests put
//! another file of this folder behind it.
//!
//! The compiler accepts a function pointer whose arguments imply a bound on lifetimes that its
//! caller never proves (rust-lang/rust#25860). With a reference that outlives what it points to,
//! any value can be read as any type, and from there any address as numbers.

use harness::prelude::*;

const FOREVER: &&() = &&();

fn stretch<'a, 'b, T>(_: &'a &'b (), value: &'b mut T) -> &'a mut T {
    value
}

fn outlive<'a, 'b, T>(value: &'a mut T) -> &'b mut T {
    let unproved: for<'x> fn(_, &'x mut T) -> &'b mut T = stretch;
    unproved(FOREVER, value)
}

enum Either<A, B> {
    First(Option<Box<A>>),
    Second(Option<Box<B>>),
}

/// The bits of `value` as another type.
fn reinterpret<A, B>(value: A) -> Option<B> {
    let mut slot: Either<A, B> = Either::Second(None);
    let Either::Second(second) = &mut slot else { return None };
    let dangling = outlive(second);
    slot = Either::First(Some(Box::new(value)));
    let read = dangling.take();
    // Whatever is in the slot now must not be dropped as what it is not.
    if let Either::First(first) = &mut slot {
        first.take().map(Box::leak);
    }
    read.map(|read| *read)
}

/// Words of memory.
fn words(address: usize, count: usize) -> &'static [usize] {
    reinterpret::<(usize, usize), &'static [usize]>((address, count)).unwrap_or(&[])
}
