//! One frame: length, kind, payload.

use std::io::{ErrorKind, Read, Write};

use crate::Error;

/// Bytes before a frame's payload: a little-endian `u32` length and the kind.
pub const HEADER_BYTES: usize = 5;

/// Writes one frame; the caller flushes.
///
/// # Errors
///
/// When the pipe fails, or when the payload does not fit a `u32` length.
pub fn write_frame(pipe: &mut impl Write, kind: u8, payload: &[&[u8]]) -> Result<(), Error> {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length)
        .map_err(|_| Error::malformed("any", format!("{length} bytes do not fit one frame")))?;
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind;
    pipe.write_all(&header)?;
    for part in payload {
        pipe.write_all(part)?;
    }
    Ok(())
}

/// Reads one frame whose payload has at most `limit` bytes; memory grows only with bytes received.
///
/// # Errors
///
/// [`Error::Closed`] when the pipe ends before the first byte, [`Error::TooLong`] when the frame
/// announces more than `limit`, [`Error::Io`] when it ends early.
pub fn read_frame(pipe: &mut impl Read, limit: u64) -> Result<(u8, Vec<u8>), Error> {
    let mut header = [0; HEADER_BYTES];
    let first = loop {
        match pipe.read(&mut header[..1]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Err(Error::Closed);
    }
    pipe.read_exact(&mut header[1..])?;
    let kind = header[4];
    let length = u64::from(u32::from_le_bytes([header[0], header[1], header[2], header[3]]));
    if length > limit {
        return Err(Error::TooLong { kind: crate::message::kind_name(kind), length, limit });
    }
    let mut payload = Vec::new();
    if pipe.take(length).read_to_end(&mut payload)? as u64 != length {
        return Err(Error::Io(ErrorKind::UnexpectedEof.into()));
    }
    Ok((kind, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_pipe() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, 3, &[b"ab", b"c"]).unwrap();
        assert_eq!(read_frame(&mut pipe.as_slice(), 3).unwrap(), (3, b"abc".to_vec()));
    }

    #[test]
    fn broken_frames_are_errors() {
        let check = |bytes: &[u8], limit, expected: &str| {
            let error = read_frame(&mut &*bytes, limit).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(b"", 10, "closed the pipe");
        check(b"\x01", 10, "while a frame");
        check(b"\x04\0\0\0\x03abc", 10, "while a frame");
        check(b"\x04\0\0\0\x03abcd", 3, "announces 4 bytes, more than the limit of 3");
        check(b"\xff\xff\xff\xff\x06", 1 << 20, "frame `snapshot` announces 4294967295 bytes");
    }
}
