//! One connection: requests are read, noted and answered, one after the other.

use crate::asked::{Asked, Wire};
use crate::http::{self, LAST_CHUNK, Request};
use crate::reply::{Content, End, Reply, Said};
use crate::server::Shared;
use crate::wire;
use serde_json::{Value, json};
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

/// Serves one connection to its end.
pub(crate) fn serve(connection: TcpStream, shared: &Shared) {
    let Ok(copy) = connection.try_clone() else { return };
    let mut state = shared.state();
    if state.stopped {
        return;
    }
    let number = state.connections;
    state.connections += 1;
    state.open.insert(number, copy);
    drop(state);
    // Every error here means that the client is gone or talks nonsense: the connection ends.
    _ = converse(&connection, shared);
    _ = connection.shutdown(Shutdown::Both);
    shared.state().open.remove(&number);
}

fn converse(connection: &TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 << 10, connection);
    let mut writer = connection;
    while let Some(request) = http::read(&mut reader, &mut writer)? {
        let keep_alive = request.keep_alive;
        if let Some(body) = other_than_asking(&request) {
            let (status, body) = body;
            respond(&mut writer, status, &body, &[])?;
        } else {
            let asked = note(request, shared);
            let sent = give(&asked, connection, shared);
            shared.state().busy -= 1;
            sent?;
        }
        if !keep_alive {
            break;
        }
    }
    Ok(())
}

/// The response to what is no question to a model.
fn other_than_asking(request: &Request) -> Option<(u16, Value)> {
    match (request.method.as_str(), Wire::of(&request.path)) {
        ("POST", Some(_)) => None,
        ("GET", _) if request.path.ends_with("/models") => {
            let model = json!({ "id": "scripted", "object": "model", "owned_by": "forerunner" });
            Some((200, json!({ "object": "list", "data": [model] })))
        }
        _ => {
            let message = format!("Invalid URL ({} {})", request.method, request.path);
            let error = json!({ "message": message, "type": "invalid_request_error",
                "param": null, "code": null });
            Some((404, json!({ "error": error })))
        }
    }
}

/// Makes an entry in the log.
fn note(request: Request, shared: &Shared) -> Asked {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let mut state = shared.state();
    let asked = Asked {
        number: state.count,
        path: request.path,
        headers: request.headers,
        stream: body["stream"] == true,
        body,
        at: Instant::now(),
    };
    state.count += 1;
    state.busy += 1;
    state.most_busy = state.most_busy.max(state.busy);
    if state.log_limit > 0 {
        if state.log.len() >= state.log_limit {
            state.log.pop_front();
        }
        state.log.push_back(asked.clone());
    }
    asked
}

/// Gives the reply to a question.
fn give(asked: &Asked, connection: &TcpStream, shared: &Shared) -> io::Result<()> {
    let reply = if shared.key.is_some() && shared.key.as_deref() != asked.key() {
        Reply::status(401)
    } else if !asked.body.is_object() {
        Reply::error(400, "We could not parse the JSON body of your request.")
    } else {
        // A test's closure may fail an assertion: the client shall not wait for it for ever.
        let answer = AssertUnwindSafe(|| (shared.answer)(asked));
        panic::catch_unwind(answer).unwrap_or_else(|_| Reply::error(500, "the script panicked"))
    };
    shared.wait(reply.delay)?;
    let mut writer = connection;
    match &reply.content {
        Content::Said(said)
            if asked.stream
                && asked.wire() != Wire::Embeddings
                && !matches!(said.end, End::Failed(0)) =>
        {
            stream(said, asked, &reply.headers, connection, shared)
        }
        Content::Said(said) => say(said, asked, &reply.headers, connection),
        Content::Error { status, message, code } => {
            let body = wire::error(*status, message.as_deref(), code.as_deref(), asked);
            respond(&mut writer, *status, &body, &reply.headers)
        }
        Content::Raw { status, content_type, body } => {
            let head = http::head(*status, content_type, Some(body.len()), &reply.headers);
            writer.write_all(&[head.as_bytes(), body].concat())
        }
        Content::Hang => until_gone(connection),
        Content::Closed => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Sends a reply in one piece.
fn say(
    said: &Said,
    asked: &Asked,
    headers: &[(String, String)],
    connection: &TcpStream,
) -> io::Result<()> {
    let mut writer = connection;
    if let End::Failed(_) = said.end {
        let body = wire::error(529, None, None, asked);
        return respond(&mut writer, 529, &body, headers);
    }
    let body = wire::whole(said, asked).to_string();
    let half = body.floor_char_boundary(body.len() / 2);
    let (announced, sent) = match said.end {
        End::Whole | End::Failed(_) => (body.len(), body.len()),
        End::Truncated => (half, half),
        End::Dropped(_) | End::Stalled(_) => (body.len(), half),
    };
    let head = http::head(200, "application/json", Some(announced), headers);
    writer.write_all((head + &body[..sent]).as_bytes())?;
    match said.end {
        End::Stalled(_) => until_gone(connection),
        End::Dropped(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        _ => Ok(()),
    }
}

/// Sends a reply as server-sent events. What needs no waiting in between is sent in one go.
fn stream(
    said: &Said,
    asked: &Asked,
    headers: &[(String, String)],
    connection: &TcpStream,
    shared: &Shared,
) -> io::Result<()> {
    let mut writer = connection;
    let events = wire::events(said, asked);
    let all = events.pieces.len();
    let whole_pieces = match said.end {
        End::Whole => all,
        End::Dropped(pieces) | End::Stalled(pieces) | End::Failed(pieces) => pieces.min(all),
        End::Truncated => all / 2,
    };
    let mut bytes = http::head(200, "text/event-stream; charset=utf-8", None, headers);
    bytes += &http::chunk(&events.head);
    for piece in &events.pieces[..whole_pieces] {
        if !said.pace.is_zero() {
            writer.write_all(bytes.as_bytes())?;
            bytes.clear();
            shared.wait(said.pace)?;
        }
        bytes += &http::chunk(piece);
    }
    match said.end {
        End::Whole => bytes += &(http::chunk(&events.tail) + LAST_CHUNK),
        End::Failed(_) => bytes += &(http::chunk(&events.failure) + LAST_CHUNK),
        End::Truncated => {
            let next = events.pieces.get(whole_pieces).unwrap_or(&events.tail);
            let cut = next.floor_char_boundary(next.len() / 2);
            bytes += &(http::chunk(&next[..cut]) + LAST_CHUNK);
        }
        End::Dropped(_) | End::Stalled(_) => {}
    }
    writer.write_all(bytes.as_bytes())?;
    match said.end {
        End::Stalled(_) => until_gone(connection),
        End::Dropped(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        _ => Ok(()),
    }
}

/// Sends a body of JSON.
fn respond(
    writer: &mut impl Write,
    status: u16,
    body: &Value,
    headers: &[(String, String)],
) -> io::Result<()> {
    let body = body.to_string();
    let head = http::head(status, "application/json", Some(body.len()), headers);
    writer.write_all((head + &body).as_bytes())
}

/// Waits until the client closes the connection or the server stops; both end it.
fn until_gone(mut connection: &TcpStream) -> io::Result<()> {
    io::copy(&mut connection, &mut io::sink())?;
    Err(io::ErrorKind::ConnectionAborted.into())
}
