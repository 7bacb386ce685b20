//! The two pipes between a program and its supervisor.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;

use forerunner_nanogpt_protocol::{FromProgram, FromSupervisor, Start, VERSION};

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

    /// Receives the first message.
    pub(crate) fn start(&mut self) -> Result<Start> {
        match self.receive()? {
            FromSupervisor::Start(start) if start.version == VERSION => Ok(start),
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
        FromSupervisor::Tokens(_) => "tokens",
        FromSupervisor::Peek => "peek",
        FromSupervisor::Parameters(_) => "parameters",
        FromSupervisor::Windows(_) => "windows",
        FromSupervisor::LossCase(_) => "a loss case",
        FromSupervisor::Stop => "stop",
    };
    Error::Unexpected { got, expected }
}
