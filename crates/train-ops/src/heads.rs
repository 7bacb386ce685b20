//! Queries, keys and values of several heads, packed into one tensor.
//!
//! Channels hold all queries, then all keys, then all values; a head owns `C / heads` neighbouring
//! channels in each third. So the first two thirds of a position are a row of heads' queries and
//! keys.

use candle_core::{Result, Tensor, bail};

/// Channels of a head's queries in `qkv`, `[B, T, 3C]`.
pub(crate) fn head_width(operation: &str, qkv: &Tensor, heads: usize) -> Result<usize> {
    let (_, _, packed) = qkv.dims3()?;
    let width = packed / 3;
    if packed == 0 || !packed.is_multiple_of(3) || heads == 0 || !width.is_multiple_of(heads) {
        bail!(
            "{operation}: {packed} channels do not split into queries, keys, values of {heads} heads"
        );
    }
    Ok(width / heads)
}
