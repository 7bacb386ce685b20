//! Reading ahead: a thread that gathers the next batch while the trainer computes.
//!
//! The thread draws from a copy of the cursor. Its batch is used only when the next request is what
//! was expected, and then the stream takes over the cursor that comes with it; otherwise it is
//! dropped and the stream draws from its own. Either way the stream is at the same place.

use super::{Cursor, Draw};
use forerunner_nanogpt_protocol::BatchRequest;
use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::Scope,
};

/// A batch, and where the cursor is after it.
type Gathered = Option<(Vec<u16>, Cursor)>;

/// The stream's side of the thread, which ends with it.
pub(super) struct Ahead {
    jobs: Sender<(BatchRequest, Cursor)>,
    batches: Receiver<Gathered>,
    /// What the thread is at, or has ready.
    expected: Option<BatchRequest>,
}

impl Ahead {
    /// Starts the thread.
    pub(super) fn start<'scope, 'a: 'scope>(
        draw: Draw<'a>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Self {
        let (jobs, to_do) = channel();
        let (done, batches) = channel();
        scope.spawn(move || {
            for (request, cursor) in to_do {
                if done.send(draw.batch(request, cursor)).is_err() {
                    return;
                }
            }
        });
        Self { jobs, batches, expected: None }
    }

    /// Has the thread gather what a request like this one will be answered with.
    pub(super) fn gather(&mut self, request: BatchRequest, cursor: Cursor) {
        // Should the thread be gone, the stream goes on alone.
        self.expected = self.jobs.send((request, cursor)).is_ok().then_some(request);
    }

    /// What was gathered, if it is for this request. One that is under way is waited for: it was
    /// begun earlier than we could begin.
    pub(super) fn take(&mut self, request: BatchRequest) -> Gathered {
        let expected = self.expected.take()?;
        let gathered = self.batches.recv().ok()?;
        if expected == request { gathered } else { None }
    }
}
