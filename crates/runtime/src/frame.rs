//! Length-prefixed JSON frames over a pipe.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// No frame is larger: a length beyond it means that the stream is out of step.
const MAX_BYTES: u32 = 256 << 20;

/// Writes one value as a frame and flushes.
///
/// # Errors
/// When the pipe is closed or the value is larger than 256 MiB.
pub fn write<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = u32::try_from(bytes.len() - 4).ok().filter(|length| *length <= MAX_BYTES);
    let length = length.ok_or_else(|| io::Error::other("a frame larger than 256 MiB"))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one frame; `None` at the end of the stream. Memory grows only with bytes received, whatever
/// length a frame announces.
///
/// # Errors
/// When the stream ends inside a frame or its content is not a `T`.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        n => from.read_exact(&mut length[n..])?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_BYTES {
        return Err(io::Error::other("the stream is out of step: not a frame"));
    }
    let mut bytes = Vec::new();
    if from.take(u64::from(length)).read_to_end(&mut bytes)? as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        let mut pipe = Vec::new();
        write(&mut pipe, &"whole").expect("a vector takes everything");
        for length in 1..pipe.len() {
            let error = read::<String>(&mut &pipe[..length]).expect_err("a part of a frame");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn frames_round_trip(texts in proptest::collection::vec(".*", 0..5)) {
            let mut pipe = Vec::new();
            for text in &texts {
                write(&mut pipe, text).expect("a vector takes everything");
            }
            let mut from = pipe.as_slice();
            for text in &texts {
                let back: Option<String> = read(&mut from).expect("own frames");
                prop_assert_eq!(back.as_ref(), Some(text));
            }
            prop_assert!(read::<String>(&mut from).expect("a clean end").is_none());
        }

        #[test]
        fn nonsense_is_an_error_or_an_end_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let result = read::<serde_json::Value>(&mut bytes.as_slice());
            prop_assert!(bytes.is_empty() == matches!(result, Ok(None)) || result.is_ok());
        }
    }
}
