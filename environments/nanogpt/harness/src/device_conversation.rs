//! Whole conversations of programs on a device, with the tests in the supervisor's place: on a CUDA
//! device where this is built for one and one is there, else on the emulator.

use std::io::{PipeReader, PipeWriter, pipe};
use std::sync::OnceLock;
use std::thread::{JoinHandle, spawn};

use forerunner_nanogpt_protocol::{
    Collect, Device, DeviceReport, FromProgram, FromSupervisor, Limits, Record, Rows, Snapshot,
    Start, Summary, VERSION, Windows,
};

use crate::channel::Channel;
use crate::evaluation::evaluate;
use crate::prelude::*;
use crate::run::train_and_hand_over;

pub(crate) const VOCAB: usize = 11;
pub(crate) const CONTEXT: usize = 12;
const WIDTH: usize = 16;
pub(crate) const STEPS: usize = 24;

/// A small transformer with the operations that the large one is made of, and one that has no kernel.
pub(crate) struct Small {
    pub(crate) table: Var,
    positions: Var,
    gain: Var,
    bias: Var,
    qkv: Var,
    out: Var,
    hidden: (Var, Var),
    last: Var,
    temperature: Var,
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.3)?,
            positions: p.normal("positions", (task.context, WIDTH), 0.3)?,
            gain: p.ones("block.gain", WIDTH)?,
            bias: p.zeros("block.bias", WIDTH)?,
            qkv: p.normal("block.qkv", (3 * WIDTH, WIDTH), 0.3)?,
            out: p.normal("block.out", (WIDTH, WIDTH), 0.1)?,
            hidden: (p.normal("mlp.w", (32, WIDTH), 0.3)?, p.zeros("mlp.b", 32)?),
            last: p.normal("mlp.last", (WIDTH, 32), 0.1)?,
            temperature: p.ones("temperature", ())?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        linear_no_bias(&self.states(tokens)?, &self.table)
    }
}

impl Small {
    pub(crate) fn states(&self, tokens: &Tokens) -> Result<Tensor> {
        let x =
            (embedding(&self.table, tokens)? + embedding(&self.positions, &tokens.positions()?)?)?;
        let normal = layer_norm(&x, &self.gain, &self.bias, 1e-5)?;
        let qkv = rotary(&qk_norm(&linear_no_bias(&normal, &self.qkv)?, 2, 1.0)?, 2, 100.0)?;
        let seen = linear_no_bias(&causal_attention(&qkv, 2)?, &self.out)?;
        let (x, normal) = residual_rms_norm(&x, &seen, 1e-6)?;
        let hidden = linear_gelu(&normal, &self.hidden.0, &self.hidden.1)?;
        let x = (x + linear_no_bias(&hidden, &self.last)?)?;
        // No kernel knows this.
        x * &*self.temperature
    }
}

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let names = ["block.qkv", "block.out", "mlp.w", "mlp.last"];
    let is_matrix = |parameter: &&Parameter| names.contains(&parameter.name.as_str());
    let matrices: Vec<&Parameter> = params.iter().filter(is_matrix).collect();
    let others: Vec<&Parameter> = params.iter().filter(|p| !is_matrix(p)).collect();
    let mut momenta: Vec<Momentum> =
        matrices.iter().map(|p| Momentum::zeros_like(&p.var)).collect();
    let mut moments: Vec<Moments> = others.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step_idx in 0..STEPS {
        let batch = run.batch(4, CONTEXT)?;
        let loss = run.section("forward", || {
            head_loss(&model.states(&batch.inputs)?, &model.table, &batch.targets)
        })?;
        run.record("train_loss", step_idx, &loss)?;
        let gradients = run.section("backward", || loss.backward())?;
        let found = |parameter: &Parameter| match gradients.get(&parameter.var) {
            Some(gradient) => Ok(gradient),
            None => bail!("`{}` has no part in the loss", parameter.name),
        };
        let of_matrices: Vec<Tensor> = matrices.iter().map(|p| found(p)).collect::<Result<_>>()?;
        let of_others: Vec<Tensor> = others.iter().map(|p| found(p)).collect::<Result<_>>()?;
        let all: Vec<Tensor> = of_matrices.iter().chain(&of_others).cloned().collect();
        let norm = sum_of_squares_all(&all)?.sqrt()?;
        let scale = norm.maximum(&Tensor::ones(())?)?.recip()?;
        let adam = AdamW {
            learning_rate: 0.02,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            step: step_idx + 1,
        };
        let mut steps: Vec<AdamWStep<'_>> = Vec::new();
        for ((parameter, gradient), moments) in others.iter().zip(&of_others).zip(&mut moments) {
            let (parameter, caution) = (&parameter.var, Caution::default());
            steps.push(AdamWStep { parameter, gradient, moments, settings: adam, caution });
        }
        adamw_all(&mut steps, &scale)?;
        let settings = Muon {
            learning_rate: 0.02,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.0,
            iterations: 5,
            parts: 1,
            polynomial: Polynomial::Quintic,
        };
        let mut steps: Vec<MuonStep<'_>> = Vec::new();
        for ((parameter, gradient), momentum) in matrices.iter().zip(&of_matrices).zip(&mut momenta)
        {
            steps.push(MuonStep { parameter: &parameter.var, gradient, momentum, settings });
        }
        muon_all(&mut steps, &scale)?;
    }
    Ok(())
}

/// The supervisor's ends of two pipes, and the program that runs at the others.
struct Session {
    to: PipeWriter,
    from: PipeReader,
    /// None once it was waited for.
    program: Option<JoinHandle<Result<()>>>,
}

impl Session {
    fn start(device: Device, program: impl FnOnce(Channel) -> Result<()> + Send + 'static) -> Self {
        Self::collecting(Collect::All, device, program)
    }

    fn collecting(
        collect: Collect,
        device: Device,
        program: impl FnOnce(Channel) -> Result<()> + Send + 'static,
    ) -> Self {
        let ((from, output), (input, to)) = (pipe().unwrap(), pipe().unwrap());
        let program = spawn(move || program(Channel::new(input, output)));
        let mut session = Self { to, from, program: Some(program) };
        let seed = if device == Device::Cpu { 7 } else { 0 };
        session.send(&FromSupervisor::Start(Start {
            version: VERSION,
            track: "test".into(),
            seed,
            vocab: VOCAB,
            context: CONTEXT,
            max_parameters: 1 << 16,
            limits: Limits { cpu_seconds: 1.0, memory_bytes: 1, batch_tokens: 1 << 16 },
            collect,
            device,
            custom_kernels: false,
        }));
        session
    }

    /// Answers the hand-over of a device.
    fn go(&mut self) -> DeviceReport {
        let FromProgram::Ready(report) = self.receive() else { panic!("a device reports first") };
        self.send(&FromSupervisor::Go(7));
        report
    }

    fn send(&mut self, message: &FromSupervisor) {
        message.write(&mut self.to).unwrap();
    }

    /// The next message, or why there is none.
    #[track_caller]
    fn receive(&mut self) -> FromProgram {
        FromProgram::read(&mut self.from, 1 << 24).unwrap_or_else(|error| {
            let ended = self.program.take().map(JoinHandle::join);
            panic!("{error}, and the program: {ended:?}");
        })
    }

    fn end(mut self) {
        drop((self.to, self.from));
        self.program.take().unwrap().join().unwrap().unwrap();
    }
}

pub(crate) struct Came {
    records: Vec<Record>,
    pub(crate) summary: Summary,
    pub(crate) snapshot: Snapshot,
}

impl Came {
    fn losses(&self) -> Vec<f64> {
        self.series("train_loss")
    }

    pub(crate) fn graphs(&self) -> &str {
        self.summary.device.as_ref().map_or("", |device| &device.graphs)
    }

    pub(crate) fn series(&self, name: &str) -> Vec<f64> {
        let points = self.records.iter().filter(|record| record.series == name);
        points.map(|record| record.value).collect()
    }
}

fn trained(device: Device) -> Came {
    trained_by(train, Collect::All, device)
}

/// Serves a text in which each token follows from the one before.
pub(crate) fn trained_by(
    train: impl FnOnce(&Small, &Params, &mut Training) -> Result<()> + Send + 'static,
    collect: Collect,
    device: Device,
) -> Came {
    let program = move |channel| train_and_hand_over(train, channel);
    let mut session = Session::collecting(collect, device, program);
    if device == Device::Cuda {
        session.go();
    }
    let (mut records, mut summary, mut n_batches) = (Vec::new(), Summary::default(), 0);
    loop {
        match session.receive() {
            FromProgram::Batch(request) => {
                n_batches += 1;
                let row = request.length as usize + 1;
                let token = |i: usize| ((3 * (i % row) + i / row + n_batches) % VOCAB) as u16;
                let tokens = (0..request.tokens() as usize).map(token).collect();
                session.send(&FromSupervisor::Tokens(tokens));
            }
            FromProgram::Record(record) => records.push(record),
            FromProgram::Summary(counts) => summary = counts,
            FromProgram::Snapshot(snapshot) => {
                session.send(&FromSupervisor::Stop);
                session.end();
                return Came { records, summary, snapshot };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// One training on a device, for all tests: emulated devices are slow.
fn on_device() -> &'static Came {
    static CAME: OnceLock<Came> = OnceLock::new();
    CAME.get_or_init(|| trained(Device::Cuda))
}

#[test]
fn a_program_trains_on_a_device_as_on_the_cpu() {
    let (cpu, device) = (trained(Device::Cpu), on_device());
    let (want, got) = (cpu.losses(), device.losses());
    assert_eq!((want.len(), got.len()), (STEPS, STEPS));
    // The first loss differs by rounding alone; later ones by what rounding has led to.
    assert!((want[0] - got[0]).abs() < 0.01, "{} and {}", want[0], got[0]);
    for (step, (want, got)) in want.iter().zip(&got).enumerate() {
        assert!((want - got).abs() < 0.03 + 0.05 * want, "step {step}: {want} and {got}");
    }
    assert!(got[0] > 2.0 && got[STEPS - 1] < 1.0, "{} to {}", got[0], got[STEPS - 1]);
    assert_eq!(cpu.snapshot.specs(), device.snapshot.specs());
    let again = trained(Device::Cuda);
    assert_eq!((got, &device.snapshot), (again.losses(), &again.snapshot), "to the last bit");
}

#[test]
fn a_device_is_measured() {
    let Came { records, summary, .. } = on_device();
    let sections: Vec<_> = summary.sections.iter().map(|s| (s.name.as_str(), s.calls)).collect();
    assert_eq!(sections, [("forward", STEPS as u64), ("backward", STEPS as u64)]);
    assert!(summary.sections.iter().all(|section| section.cpu_seconds > 0.0 && section.flops > 0));
    // Eight batches were looked at kernel by kernel; in each, attention goes forward once.
    let kernels: Vec<&str> = summary.operations.iter().map(|o| o.name.as_str()).collect();
    assert!(kernels.iter().any(|name| name.starts_with("attention")), "{kernels:?}");
    let steps = summary.operations.iter().find(|operation| operation.name == "adamw_step");
    assert_eq!(steps.map(|operation| operation.calls), Some(8), "{kernels:?}");
    let device = summary.device.clone().unwrap();
    assert!(device.launches > 40 * STEPS as u64, "{device:?}");
    assert!(summary.flops > 0.0);
    // Norms of gradients and updates by group, and those of all together.
    for series in ["gradient_norm.block", "update_norm.mlp", "relative_update.table"] {
        let points = records.iter().filter(|record| record.series == series);
        assert!(points.clone().count() > 10, "{series}");
        assert!(points.clone().all(|point| point.value.is_finite()), "{series}");
    }
}

#[test]
fn scores_are_those_of_the_logits_that_an_audit_gets() {
    let snapshot = on_device().snapshot.clone();
    let mut session = Session::start(Device::Cuda, evaluate::<Small>);
    let report = session.go();
    assert!(report.multiprocessors > 0 && report.matmul_flops_per_second > 0.0, "{report:?}");
    session.send(&FromSupervisor::Parameters(snapshot));
    let length = CONTEXT as u32;
    let token = |i: usize| ((i * i + i / 3) % VOCAB) as u16;
    let scored: Vec<u16> = (0..2 * (CONTEXT + 1)).map(token).collect();
    let windows = Windows { batch: 2, length: length + 1, tokens: scored.clone() };
    session.send(&FromSupervisor::Score(windows.clone()));
    let FromProgram::Losses(losses) = session.receive() else { panic!("losses answer a score") };
    assert_eq!(losses.len(), 2 * CONTEXT);
    // The same inputs again, and one row of logits of each.
    let seen = |row: &[u16]| row[..CONTEXT].to_vec();
    let inputs: Vec<u16> = scored.chunks_exact(CONTEXT + 1).flat_map(seen).collect();
    let asked = Windows { batch: 2, length, tokens: inputs };
    for positions in [[0, 11], [5, 3]] {
        let rows = Rows { windows: asked.clone(), positions: positions.to_vec() };
        session.send(&FromSupervisor::Rows(rows));
        let FromProgram::Logits(logits) = session.receive() else { panic!("logits answer rows") };
        for (window, (row, position)) in logits.chunks_exact(VOCAB).zip(positions).enumerate() {
            let position = position as usize;
            let target = usize::from(scored[window * (CONTEXT + 1) + position + 1]);
            let total: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
            let want = total.ln() - f64::from(row[target]);
            let got = f64::from(losses[window * CONTEXT + position]);
            assert!((want - got).abs() < 1e-5, "window {window}, {position}: {want} and {got}");
        }
    }
    session.send(&FromSupervisor::Score(windows));
    let FromProgram::Losses(again) = session.receive() else { panic!("losses answer a score") };
    assert_eq!(losses, again);
    session.send(&FromSupervisor::Stop);
    session.end();
}
