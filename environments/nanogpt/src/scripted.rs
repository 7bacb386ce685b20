//! Programs for tests that are threads on the other end of a socket: they say what a hostile
//! binary could say, without one having to be built.

use crate::{
    Config, ShardWriter, Tokens, Track,
    process::{Process, Trouble, something_came},
    trainer::Task,
};
use forerunner_core::{Cause, Error, Finding};
use forerunner_nanogpt_protocol::{Collect, Error as WireError, FromProgram, FromSupervisor};
use forerunner_sandbox::{Finished, Layers, Outcome};
use std::{os::unix::net::UnixStream, thread::JoinHandle, time::Duration};

/// The program's side: its pipe, and how its process ends.
pub(crate) type Script = fn(&mut UnixStream) -> Outcome;

/// A scripted process. Its CPU clock advances by a hundredth of a second with every frame.
pub(crate) struct Scripted {
    pipe: UnixStream,
    thread: JoinHandle<Outcome>,
    frames: u32,
}

impl Scripted {
    pub(crate) fn start(script: Script) -> Self {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let thread = std::thread::spawn(move || script(&mut theirs));
        Self { pipe: ours, thread, frames: 0 }
    }

    fn end(self) -> Finished {
        drop(self.pipe);
        Finished {
            outcome: self.thread.join().unwrap_or(Outcome::Signalled(6)),
            cpu: Duration::from_millis(10 * u64::from(self.frames)),
            wall: Duration::from_secs(1),
            peak_memory_bytes: 1 << 20,
            stdout: Vec::new(),
            stderr: Vec::new(),
            output_truncated: false,
            layers: Layers::default(),
        }
    }
}

impl Process for Scripted {
    fn send(&mut self, message: &FromSupervisor) -> Result<(), WireError> {
        message.write(&mut self.pipe)
    }

    fn receive(&mut self, limit: u64) -> Result<FromProgram, WireError> {
        self.frames += 1;
        FromProgram::read(&mut self.pipe, limit)
    }

    fn receive_within(
        &mut self,
        limit: u64,
        patience: Duration,
    ) -> Result<Option<FromProgram>, WireError> {
        if !something_came(&self.pipe, patience)? {
            return Ok(None);
        }
        self.receive(limit).map(Some)
    }

    fn cpu_seconds(&self) -> Option<f64> {
        Some(0.01 * f64::from(self.frames))
    }

    fn delayed_seconds(&self) -> Option<f64> {
        None
    }

    fn wait(self) -> Result<Finished, Error> {
        Ok(self.end())
    }

    fn kill(self) -> Result<Finished, Error> {
        Ok(self.end())
    }
}

/// A small track and a shard of bytes to go with it.
pub(crate) struct Fixture {
    pub(crate) track: Track,
    pub(crate) shard: Tokens,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let config = Config { clock: Some(crate::Clock::Raw), ..Config::default() };
        let mut track = Track::new(&config).expect("the default track");
        (track.context, track.windows, track.max_parameters) = (8, 4, 100);
        track.cpu_seconds = 1.0;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut writer = ShardWriter::create(&dir.path().join("x.bin")).expect("writable");
        writer.push((0..2000).map(|index| index * 7 % 256)).expect("writable");
        Self { track, shard: writer.finish().expect("tokens").into(), _dir: dir }
    }

    /// The same on a GPU.
    pub(crate) fn on_gpu() -> Self {
        let mut fixture = Self::new();
        let cuda = Config { track: "gpt2-124m".into(), ..Config::default() };
        let cuda = Track::new(&cuda).expect("a track");
        let track = &mut fixture.track;
        (track.device, track.clock, track.tolerance) = (cuda.device, cuda.clock, cuda.tolerance);
        track.cpu_seconds = 100.0;
        fixture
    }

    pub(crate) fn task(&self) -> Task<'_> {
        Task { track: &self.track, vocab: 256, seed: 3, collect: Collect::All }
    }
}

/// Checks that `trouble` is the program's fault, of this cause and with this text.
#[track_caller]
pub(crate) fn assert_blamed(trouble: Trouble, cause: Cause, text: &str) {
    match trouble {
        Trouble::Program(found, Finding { message, .. }) => {
            assert_eq!(found, cause, "{message}");
            assert!(message.contains(text), "{message}");
        }
        Trouble::Host(error) => panic!("the host was blamed: {error}"),
    }
}
