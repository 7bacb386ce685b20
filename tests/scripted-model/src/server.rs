//! The server: a thread for each connection.

use crate::asked::Asked;
use crate::connection::serve;
use crate::reply::Reply;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A model on 127.0.0.1. Stops when it is dropped; replies that are under way are cut off then.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

/// What a server answers with.
pub(crate) type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

pub(crate) struct Shared {
    pub(crate) answer: Box<Answer>,
    /// The only key that is let in, where keys matter.
    pub(crate) key: Option<String>,
    state: Mutex<State>,
    /// Told when the server stops.
    stopping: Condvar,
}

pub(crate) struct State {
    pub(crate) stopped: bool,
    /// Requests so far.
    pub(crate) count: usize,
    pub(crate) log: VecDeque<Asked>,
    /// Requests that the log holds at most.
    pub(crate) log_limit: usize,
    /// Requests that are being answered now.
    pub(crate) busy: usize,
    pub(crate) most_busy: usize,
    /// Connections that are open, by number, so that they can be closed from outside.
    pub(crate) open: BTreeMap<u64, TcpStream>,
    /// Connections so far.
    pub(crate) connections: u64,
}

impl Server {
    /// Starts a server on a free port. `answer` is called in the connection's thread, for several
    /// requests at once.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> io::Result<Self> {
        Self::listen(0, None, Box::new(answer))
    }

    /// As [`Server::start`], on this port (0: any free one).
    ///
    /// # Errors
    /// As for [`Server::start`]; also when the port is taken.
    pub fn start_on(
        port: u16,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::listen(port, None, Box::new(answer))
    }

    /// As [`Server::start`], and every request must bring `key` in the header `authorization` or
    /// `x-api-key`; others are answered with a 401 that repeats the key they brought.
    ///
    /// # Errors
    /// As for [`Server::start`].
    pub fn guarded(
        key: &str,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::listen(0, Some(key.to_owned()), Box::new(answer))
    }

    /// Starts a server that gives these replies in order of arrival, the last one again and again.
    ///
    /// # Errors
    /// As for [`Server::start`]; also when there are no replies.
    pub fn scripted(replies: Vec<Reply>) -> io::Result<Self> {
        if replies.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no replies"));
        }
        Self::start(move |asked| replies[asked.number.min(replies.len() - 1)].clone())
    }

    /// `http://127.0.0.1:PORT/v1/`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1/", self.address)
    }

    /// Everything that was asked so far, in order of arrival; at most as many as
    /// [`Server::keep_last`] says.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().log.iter().cloned().collect()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.shared.state().count
    }

    /// The greatest number of requests that were answered at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most_busy
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// Keeps only the last `requests` requests from now on: for benchmarks, whose prompts would
    /// fill the memory. All are kept unless this is called.
    pub fn keep_last(&self, requests: usize) {
        let mut state = self.shared.state();
        state.log_limit = requests;
        let surplus = state.log.len().saturating_sub(requests);
        state.log.drain(..surplus);
    }

    fn listen(port: u16, key: Option<String>, answer: Box<Answer>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let state = State {
            stopped: false,
            count: 0,
            log: VecDeque::new(),
            log_limit: usize::MAX,
            busy: 0,
            most_busy: 0,
            open: BTreeMap::new(),
            connections: 0,
        };
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { answer, key, state, stopping: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let accepting = thread::Builder::new()
            .name("scripted model".to_owned())
            .spawn(move || accept(&listener, &theirs))?;
        Ok(Self { shared, address, accepting: Some(accepting) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        for connection in state.open.values() {
            _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.stopping.notify_all();
        // The accepting thread notices with the next connection, so that there has to be one.
        _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            _ = accepting.join();
        }
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half-done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; at once when the server stops.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let state = self.state();
        let (state, _) = self
            .stopping
            .wait_timeout_while(state, time, |state| !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// Serves connections until the server stops, then waits for all to end.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for connection in listener.incoming() {
        if shared.state().stopped {
            break;
        }
        // A connection that broke before it was accepted is the client's affair.
        let Ok(connection) = connection else { continue };
        let shared = Arc::clone(shared);
        threads.retain(|thread| !thread.is_finished());
        let thread = thread::Builder::new()
            .name("scripted model: connection".to_owned())
            .spawn(move || serve(connection, &shared));
        threads.extend(thread);
    }
    for thread in threads {
        _ = thread.join();
    }
}
