//! The program's process, and what is heard of it.

use std::fs;
use std::io::{BufReader, BufWriter};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use forerunner_nanogpt_protocol::{
    BatchRequest, Device, DeviceReport, FromProgram, FromSupervisor, Limits, Snapshot, Start,
    Summary, VERSION,
};

use super::Result;
use super::arguments::Arguments;
use super::text::Text;

/// Most bytes of a frame: a snapshot of a billion parameters.
const MOST_FRAME: u64 = 1 << 31;
/// Steps between lines of progress.
const SAY_EVERY: usize = 20;

/// A program that was started.
pub(crate) struct Trainer {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What came of a training.
pub(crate) struct Run {
    /// What the device was when it was set up; nothing on the CPU.
    pub(crate) report: Option<DeviceReport>,
    /// Seconds from starting the process to the first request for tokens.
    pub(crate) start_seconds: f64,
    /// What the program asks for in every step.
    pub(crate) request: BatchRequest,
    /// Parameters before the first step.
    pub(crate) initial: Snapshot,
    /// Seconds at which each batch was asked for, and CPU seconds of the program's first thread by then.
    pub(crate) stamps: Vec<(f64, f64)>,
    /// Training loss by step.
    pub(crate) losses: Vec<f64>,
    pub(crate) summary: Summary,
}

impl Trainer {
    pub(crate) fn start(arguments: &Arguments) -> Result<Self> {
        let program = arguments.program.display();
        let mut child = Command::new(&arguments.program)
            .arg("train")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut input = BufWriter::new(child.stdin.take().ok_or("no pipe to the program")?);
        let output = BufReader::new(child.stdout.take().ok_or("no pipe from the program")?);
        let on_cpu = arguments.device == Device::Cpu;
        FromSupervisor::Start(Start {
            version: VERSION,
            track: "bench".into(),
            seed: if on_cpu { arguments.seed } else { 0 },
            vocab: arguments.vocab,
            context: arguments.context,
            max_parameters: usize::MAX,
            limits: Limits { cpu_seconds: 1e9, memory_bytes: u64::MAX, batch_tokens: u64::MAX },
            collect: arguments.collect,
            device: arguments.device,
            custom_kernels: false,
        })
        .write(&mut input)?;
        Ok(Self { child, input, output })
    }

    /// Serves the program until it has handed its parameters over.
    pub(crate) fn train(mut self, text: &Text, arguments: &Arguments) -> Result<Run> {
        let began = Instant::now();
        let (mut report, mut initial, mut summary) = (None, None, None);
        let mut first_request = None;
        let (mut stamps, mut losses) = (Vec::new(), Vec::new());
        loop {
            match self.receive()? {
                FromProgram::Ready(ready) => {
                    report = Some(ready);
                    self.send(&FromSupervisor::Go(arguments.seed))?;
                }
                FromProgram::Batch(request) => {
                    stamps.push((began.elapsed().as_secs_f64(), self.cpu_seconds()));
                    let step = stamps.len() - 1;
                    if *first_request.get_or_insert(request) != request {
                        return Err(
                            format!("step {step} asks for another batch than the first").into()
                        );
                    }
                    if initial.is_none() {
                        self.send(&FromSupervisor::Peek)?;
                        let FromProgram::Checkpoint(snapshot) = self.receive()? else {
                            return Err("the program answers a peek with something else".into());
                        };
                        initial = Some(snapshot);
                    }
                    if step.is_multiple_of(SAY_EVERY) {
                        eprintln!("step {step} after {:.1} s", stamps[step].0);
                    }
                    self.send(&FromSupervisor::Tokens(text.batch(step, request)?))?;
                }
                FromProgram::Record(record) if record.series == "train_loss" => {
                    if record.step != losses.len() as u64 {
                        let (got, due) = (record.step, losses.len());
                        return Err(
                            format!("the loss of step {got} came, not of step {due}").into()
                        );
                    }
                    losses.push(record.value);
                }
                FromProgram::Summary(counts) => summary = Some(counts),
                FromProgram::Snapshot(_) => break,
                _ => {}
            }
        }
        self.send(&FromSupervisor::Stop)?;
        let ended = self.child.wait()?;
        if !ended.success() {
            return Err(format!("the program trained, then ended with {ended}").into());
        }
        Ok(Run {
            report,
            start_seconds: stamps.first().ok_or("the program asked for no tokens")?.0,
            request: first_request.ok_or("the program asked for no tokens")?,
            initial: initial.ok_or("the program asked for no tokens")?,
            stamps,
            losses,
            summary: summary.ok_or("the program sent no summary")?,
        })
    }

    fn send(&mut self, message: &FromSupervisor) -> Result<()> {
        message.write(&mut self.input).map_err(|error| self.ended(&error))
    }

    fn receive(&mut self) -> Result<FromProgram> {
        FromProgram::read(&mut self.output, MOST_FRAME).map_err(|error| self.ended(&error))
    }

    /// The error of a pipe, with what became of the process.
    fn ended(&mut self, error: &forerunner_nanogpt_protocol::Error) -> Box<dyn std::error::Error> {
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => format!("the program broke off ({error}; {status})").into(),
            Err(unknown) => format!("the program broke off ({error}; {unknown})").into(),
        }
    }

    /// CPU seconds of the program's first thread, which queues the device's work; NaN where the system
    /// does not say.
    fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        let nanoseconds =
            text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
        nanoseconds.map_or(f64::NAN, |nanoseconds| nanoseconds * 1e-9)
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
