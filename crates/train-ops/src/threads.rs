//! Threads: the work of an operation, cut into shares that run side by side.
//!
//! One thread is the default. Then nothing is started and every operation is one plain loop. A
//! thread that calls [`use_threads`] gets helpers of its own: what it calls is cut by rows, and
//! each share computes what the whole loop would have computed there, in the same order. So results
//! are the same to the last bit, whatever the number of threads.
//!
//! Helpers that have nothing to do look for work for some microseconds and then sleep in the kernel
//! until they are woken. An idle pool uses no CPU time.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

mod pool;
#[cfg(test)]
mod tests;

use pool::Pool;

/// Least work of a share, in nanoseconds of one thread: below it, sharing costs what it saves. Unit
/// tests share everything.
const LEAST: usize = if cfg!(test) { 1 } else { 10_000 };

thread_local! {
    static THREADS: Cell<usize> = const { Cell::new(1) };
    /// Borrowed while shares run, so that what they call is not shared once more.
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

/// Lets operations that the calling thread calls use `count` threads, itself included; 0 counts as
/// one. Earlier helpers of this thread end before this returns.
///
/// # Errors
///
/// When the system starts no more threads; then one thread is used.
pub fn use_threads(count: usize) -> std::io::Result<()> {
    THREADS.set(1);
    POOL.set(None);
    if count > 1 {
        POOL.set(Some(Pool::start(count - 1)?));
        THREADS.set(count);
    }
    Ok(())
}

/// Threads that operations on the calling thread use, itself included.
pub fn threads() -> usize {
    THREADS.get()
}

/// Work that can be cut.
pub(crate) trait Cut: Sized + Send {
    /// Cuts off the first of `n_shares` shares of about the same size.
    fn cut(self, n_shares: usize) -> (Self, Self);
}

/// Calls `body` on shares of `work`, at most `most` of them, side by side; `cost` is what all of it
/// takes one thread, in nanoseconds.
pub(crate) fn in_shares<W: Cut>(work: W, most: usize, cost: usize, body: impl Fn(W) + Sync) {
    let n_shares = THREADS.get().min(most).min(cost / LEAST);
    if n_shares < 2 {
        return body(work);
    }
    POOL.with(|pool| match pool.try_borrow_mut().as_deref_mut() {
        Ok(Some(pool)) => {
            let mut shares = Vec::with_capacity(n_shares);
            let mut rest = work;
            for left in (2..=n_shares).rev() {
                let (share, others) = rest.cut(left);
                shares.push(Mutex::new(Some(share)));
                rest = others;
            }
            shares.push(Mutex::new(Some(rest)));
            pool.run(&|share_idx| {
                let share = shares
                    .get(share_idx)
                    .and_then(|share| share.lock().unwrap_or_else(PoisonError::into_inner).take());
                if let Some(share) = share {
                    body(share);
                }
            });
        }
        _ => body(work),
    });
}

/// Where the first of `n_shares` ends. Sixteen values are a cache line, which two threads had
/// better not write.
fn first_of(count: usize, n_shares: usize) -> usize {
    count / n_shares / 16 * 16
}

/// Values, each by itself.
impl<T: Sync> Cut for &[T] {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        self.split_at(first_of(self.len(), n_shares))
    }
}

impl<T: Send> Cut for &mut [T] {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        self.split_at_mut(first_of(self.len(), n_shares))
    }
}

/// Positions in a slice that is cut alike.
impl Cut for Range<usize> {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        let end = self.start + first_of(self.len(), n_shares);
        (self.start..end, end..self.end)
    }
}

/// Values that belong together `width` by `width`. A cut falls after the same row in all that have
/// equally many.
pub(crate) struct Rows<S> {
    pub(crate) values: S,
    pub(crate) width: usize,
}

impl<S> Rows<S> {
    pub(crate) fn new(values: S, width: usize) -> Self {
        Self { values, width: width.max(1) }
    }
}

impl<T: Sync> Cut for Rows<&[T]> {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        let Self { values, width } = self;
        let (first, rest) = values.split_at(values.len() / width / n_shares * width);
        (Self { values: first, width }, Self { values: rest, width })
    }
}

impl<T: Send> Cut for Rows<&mut [T]> {
    fn cut(self, n_shares: usize) -> (Self, Self) {
        let Self { values, width } = self;
        let (first, rest) = values.split_at_mut(values.len() / width / n_shares * width);
        (Self { values: first, width }, Self { values: rest, width })
    }
}

macro_rules! cut_tuple {
    ($($part:ident)+) => {
        impl<$($part: Cut),+> Cut for ($($part,)+) {
            fn cut(self, n_shares: usize) -> (Self, Self) {
                #[expect(non_snake_case, reason = "named like their types")]
                let ($($part,)+) = self;
                $(
                    #[expect(non_snake_case, reason = "named like their types")]
                    let $part = $part.cut(n_shares);
                )+
                (($($part.0,)+), ($($part.1,)+))
            }
        }
    };
}

cut_tuple!(A B);
cut_tuple!(A B C);
cut_tuple!(A B C D);
cut_tuple!(A B C D E);
