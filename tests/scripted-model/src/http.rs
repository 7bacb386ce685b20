//! As much of HTTP/1.1 as clients of models speak.

use std::io::{self, BufRead, Read, Write};

/// Bytes of a request's head that are read at most.
const HEAD_LIMIT: u64 = 256 << 10;
/// Bytes of a request's body that are read at most.
const BODY_LIMIT: u64 = 256 << 20;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the connection stays open after the response.
    pub(crate) keep_alive: bool,
}

/// Reads the next request of a connection; `None` when the client closed it in between.
///
/// # Errors
/// When the connection breaks, or what comes is no request (`InvalidData`).
pub(crate) fn read(
    reader: &mut impl BufRead,
    writer: &mut impl Write,
) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD_LIMIT);
    let mut line = line_of(&mut head)?;
    if line.is_empty() {
        // Some clients end a body with an empty line too many.
        line = line_of(&mut head)?;
    }
    if line.is_empty() {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(invalid("no request line"));
    };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (method, old) = (method.to_owned(), version == "HTTP/1.0");
    let mut headers = Vec::new();
    loop {
        let line = line_of(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("no header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| {
        headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    };
    let has = |name: &str, word: &str| {
        header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    if has("expect", "100-continue") {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        writer.flush()?;
    }
    let body = match header("content-length") {
        _ if has("transfer-encoding", "chunked") => chunked(reader)?,
        Some(length) => {
            let length = length.parse().map_err(|_| invalid("no length"))?;
            exactly(reader, length)?
        }
        None => Vec::new(),
    };
    let keep_alive = !old && !has("connection", "close");
    Ok(Some(Request { method, path, headers, body, keep_alive }))
}

/// The head of a response with a body of `length` bytes, or one in chunks.
pub(crate) fn head(
    status: u16,
    content_type: &str,
    length: Option<usize>,
    headers: &[(String, String)],
) -> String {
    use std::fmt::Write as _;
    let mut head =
        format!("HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\n", reason(status));
    match length {
        Some(length) => _ = write!(head, "content-length: {length}\r\n"),
        None => head += "transfer-encoding: chunked\r\ncache-control: no-cache\r\n",
    }
    for (name, value) in headers {
        _ = write!(head, "{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// One chunk of a body in chunks.
pub(crate) fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}

/// Ends a body in chunks.
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// A line without its end; empty at the end of the input.
fn line_of(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| invalid("no text"))
}

fn chunked(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = line_of(&mut reader.by_ref().take(HEAD_LIMIT))?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("no size of a chunk"))?;
        if size == 0 {
            // What follows the last chunk, up to an empty line, is of no interest.
            while !line_of(&mut reader.by_ref().take(HEAD_LIMIT))?.is_empty() {}
            return Ok(body);
        }
        if body.len() as u64 + size > BODY_LIMIT {
            return Err(invalid("too large a body"));
        }
        body.extend(exactly(reader, size)?);
        line_of(&mut reader.by_ref().take(HEAD_LIMIT))?;
    }
}

fn exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_LIMIT {
        return Err(invalid("too large a body"));
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        529 => "Site is overloaded",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<Vec<Request>> {
        let mut reader = bytes;
        let mut requests = Vec::new();
        while let Some(request) = read(&mut reader, &mut io::sink())? {
            requests.push(request);
        }
        Ok(requests)
    }

    #[test]
    fn requests_follow_one_another_on_a_connection() {
        let requests = read_all(
            b"POST /a?b=c HTTP/1.1\r\nContent-Length: 3\r\nX-Y:  z \r\n\r\nabc\
              POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nt: u\r\n\r\n\
              GET /g HTTP/1.0\r\n\r\n",
        )
        .expect("all are requests");
        let [first, second, third] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!((first.path.as_str(), first.body.as_slice()), ("/a", &b"abc"[..]));
        assert_eq!(first.headers[1], ("x-y".to_owned(), "z".to_owned()));
        assert!(first.keep_alive);
        assert_eq!(second.body, b"def");
        assert_eq!((third.method.as_str(), third.keep_alive), ("GET", false));
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        for bytes in [
            "nonsense\r\n\r\n",
            "POST /a HTTP/1.1\r\nno header\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc",
            "POST /a HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\nabc",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(read_all(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
