//! The two pipes between a program and its supervisor.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;

use forerunner_nanogpt_protocol::{Device, FromProgram, FromSupervisor, Start, VERSION};

use crate::process::waiting;
use crate::{Error, Result};

/// Bytes of buffer in each direction; somewhat arbitrary, holds a usual batch.
const BUFFER: usize = 64 << 10;

pub(crate) struct Channel {
    input: Box<dyn Read>,
    output: Box<dyn Write>,
}

impl Channel {
    /// A channel over this process's standard input and output.
    pub(crate) fn standard() -> io::Result<Self> {
        // Duplicates, because `Stdout` would look for line ends in every frame.
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(input, output))
    }

    pub(crate) fn new(input: impl Read + 'static, output: impl Write + 'static) -> Self {
        Self {
            input: Box::new(BufReader::with_capacity(BUFFER, input)),
            output: Box::new(BufWriter::with_capacity(BUFFER, output)),
        }
    }

    /// Sends a message; it may wait in a buffer until [`Channel::flush`].
    pub(crate) fn send(&mut self, message: &FromProgram) -> Result<()> {
        Ok(message.write(&mut self.output)?)
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.output.flush().map_err(forerunner_nanogpt_protocol::Error::from)?)
    }

    pub(crate) fn receive(&mut self) -> Result<FromSupervisor> {
        Ok(waiting(|| FromSupervisor::read(&mut self.input))?)
    }

    /// Sets the device up, says so, and waits for leave to run the program's code, which brings the
    /// seed.
    #[cfg(feature = "device")]
    fn hand_over(&mut self, start: Start) -> Result<Start> {
        self.send(&FromProgram::Ready(crate::device::open()?))?;
        self.flush()?;
        match self.receive()? {
            FromSupervisor::Go(seed) => Ok(Start { seed, ..start }),
            other => Err(unexpected(&other, "go")),
        }
    }

    #[cfg(not(feature = "device"))]
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "as with a device")]
    fn hand_over(&mut self, _start: Start) -> Result<Start> {
        let reason = "the track is measured on a GPU, this program was built for the CPU";
        Err(Error::NoDevice(reason.into()))
    }

    /// Receives the first message; on a GPU everything up to the seed.
    pub(crate) fn start(&mut self) -> Result<Start> {
        match self.receive()? {
            FromSupervisor::Start(start) if start.version == VERSION => match start.device {
                Device::Cpu => Ok(start),
                Device::Cuda => self.hand_over(start),
            },
            FromSupervisor::Start(start) => Err(Error::program(format!(
                "the supervisor speaks version {} of the protocol, this program {VERSION}\n\
                 hint: build the program again with the installed harness",
                start.version
            ))),
            other => Err(unexpected(&other, "start")),
        }
    }
}

pub(crate) fn unexpected(got: &FromSupervisor, expected: &'static str) -> Error {
    let got = match got {
        FromSupervisor::Start(_) => "start",
        FromSupervisor::Go(_) => "go",
        FromSupervisor::Tokens(_) => "tokens",
        FromSupervisor::Peek => "peek",
        FromSupervisor::Parameters(_) => "parameters",
        FromSupervisor::Windows(_) => "windows",
        FromSupervisor::Score(_) => "windows to score",
        FromSupervisor::Rows(_) => "windows to answer in part",
        FromSupervisor::LossCase(_) => "a loss case",
        FromSupervisor::Stop => "stop",
    };
    Error::Unexpected { got, expected }
}
