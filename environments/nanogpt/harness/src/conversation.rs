//! Whole conversations over pipes, with the tests in the supervisor's place.

use std::io::{PipeReader, PipeWriter, pipe};
use std::sync::Mutex;
use std::thread::{JoinHandle, spawn};

use forerunner_nanogpt_protocol::{
    Collect, Device, FromProgram, FromSupervisor, Limits, Record, Snapshot, Start, Summary,
    VERSION, Windows,
};

use crate::channel::Channel;
use crate::evaluation::evaluate;
use crate::params::flat;
use crate::prelude::*;
use crate::run::train_and_hand_over;

const VOCAB: usize = 7;

/// A bigram model with a bit of everything: fused operations, arithmetic, a second token.
struct Bigram {
    table: Var,  // (V, V)
    before: Var, // (V, V)
}

impl Model for Bigram {
    fn new(params: &mut Params, task: &Task) -> Result<Self> {
        let shape = (task.vocab, task.vocab);
        let table = params.normal("table", shape, 0.1)?;
        Ok(Self { table, before: params.zeros("before", shape)? })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        embedding(&self.table, tokens)? + embedding(&self.before, &tokens.previous(1)?)?
    }
}

fn train(model: &Bigram, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step_idx in 0..130 {
        let batch = run.batch(4, 8)?;
        let loss = run
            .section("forward", || cross_entropy(&model.logits(&batch.inputs)?, &batch.targets))?;
        run.record("train_loss", step_idx, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let gradient = gradients.get(&parameter.var).expect("both tables are in the loss");
            let settings = AdamW {
                learning_rate: 0.1,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.0,
                step: step_idx + 1,
            };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    let recent = run.recent_loss().expect("two values were due");
    ensure!(recent < 0.1 && (recent * 100.0).fract() < 1e-9, "recent loss {recent}");
    Ok(())
}

/// The supervisor's ends of two pipes, and the program that runs at the others.
struct Session {
    to: PipeWriter,
    from: PipeReader,
    program: JoinHandle<Result<()>>,
}

impl Session {
    fn start(program: impl FnOnce(Channel) -> Result<()> + Send + 'static) -> Self {
        Self::collecting(Collect::All, program)
    }

    fn collecting(
        collect: Collect,
        program: impl FnOnce(Channel) -> Result<()> + Send + 'static,
    ) -> Self {
        let ((from, output), (input, to)) = (pipe().unwrap(), pipe().unwrap());
        let program = spawn(move || program(Channel::new(input, output)));
        let mut session = Self { to, from, program };
        session.send(FromSupervisor::Start(Start {
            version: VERSION,
            track: "test".into(),
            seed: 3,
            vocab: VOCAB,
            context: 8,
            max_parameters: 2 * VOCAB * VOCAB,
            limits: Limits { cpu_seconds: 1.0, memory_bytes: 1, batch_tokens: 1 },
            collect,
            device: Device::Cpu,
            custom_kernels: false,
        }));
        session
    }

    fn send(&mut self, message: FromSupervisor) {
        message.write(&mut self.to).unwrap();
    }

    fn receive(&mut self) -> FromProgram {
        FromProgram::read(&mut self.from, 1 << 20).unwrap()
    }

    /// Closes the pipes and returns what the program ended with.
    fn end(self) -> Result<()> {
        drop((self.to, self.from));
        self.program.join().unwrap()
    }
}

/// What came of a training.
struct Came {
    records: Vec<Record>,
    /// The parameters before the first batch.
    initial: Snapshot,
    summary: Summary,
    snapshot: Snapshot,
}

impl Came {
    fn series(&self, name: &str) -> Vec<(u64, f64)> {
        let records = self.records.iter().filter(|record| record.series == name);
        records.map(|record| (record.step, record.value)).collect()
    }

    fn losses(&self) -> Vec<f64> {
        self.series("train_loss").iter().map(|point| point.1).collect()
    }
}

/// Serves a text in which each token is the successor of the last, and returns what came.
fn serve_training(session: &mut Session) -> Came {
    let (mut records, mut checkpoint, mut summary) = (Vec::new(), None, Summary::default());
    let mut n_batches = 0;
    loop {
        match session.receive() {
            FromProgram::Batch(request) => {
                if n_batches == 0 {
                    session.send(FromSupervisor::Peek);
                    let FromProgram::Checkpoint(initial) = session.receive() else {
                        panic!("a checkpoint answers a peek");
                    };
                    checkpoint = Some(initial);
                }
                n_batches += 1;
                let n_tokens = request.tokens() as usize;
                let row = request.length as usize + 1;
                let token = |i: usize| ((i % row + i / row + n_batches) % VOCAB) as u16;
                session.send(FromSupervisor::Tokens((0..n_tokens).map(token).collect()));
            }
            FromProgram::Record(record) => records.push(record),
            FromProgram::Summary(counts) => summary = counts,
            FromProgram::Snapshot(snapshot) => {
                session.send(FromSupervisor::Stop);
                return Came { records, initial: checkpoint.unwrap(), summary, snapshot };
            }
            other => panic!("{other:?}"),
        }
    }
}

fn trained() -> Came {
    collected(Collect::All, train)
}

fn collected<M: Model + 'static>(
    collect: Collect,
    train: fn(&M, &Params, &mut Training) -> Result<()>,
) -> Came {
    let mut session =
        Session::collecting(collect, move |channel| train_and_hand_over(train, channel));
    let result = serve_training(&mut session);
    session.end().unwrap();
    result
}

#[test]
fn a_model_is_trained_and_handed_over() {
    let came = trained();
    let losses = came.losses();
    let Came { initial, summary, snapshot, .. } = came;
    assert_eq!(losses.len(), 130);
    assert!(losses[0] > 1.8 && losses[129] < 0.01, "{} to {}", losses[0], losses[129]);
    assert_eq!(initial.specs(), snapshot.specs());
    assert_ne!(initial, snapshot);
    assert_eq!(summary.parameters, snapshot.count() as u64);
    let sections: Vec<_> = summary.sections.iter().map(|s| (s.name.as_str(), s.calls)).collect();
    assert_eq!(sections, [("data", 130), ("forward", 130)]);
    let table = 4 * (VOCAB * VOCAB) as u64;
    let operations: Vec<_> =
        summary.operations.iter().map(|o| (o.name.as_str(), o.calls, o.flops)).collect();
    assert_eq!(
        operations,
        [
            ("embedding.forward", 260, 0),
            ("cross_entropy.forward", 130, 0),
            ("cross_entropy.backward", 130, 0),
            ("embedding.backward", 260, 0),
            ("adamw", 260, 0)
        ]
    );
    assert_eq!(summary.operations[4].bytes, 260 * 7 * table);
    let forward = summary.operations[0].bytes + summary.operations[1].bytes;
    assert_eq!((summary.sections[0].bytes, summary.sections[1].bytes), (0, forward));
    assert!(summary.operations.iter().all(|o| o.seconds > 0.0));
    let again = trained();
    let before = (losses, snapshot);
    assert_eq!(
        before,
        (again.losses(), again.snapshot),
        "training is reproducible to the last bit"
    );
}

#[test]
fn collecting_changes_nothing_that_is_trained() {
    let all = trained();
    let allocations = all.summary.allocations.unwrap();
    // A step asks for its tokens and gradients at least: 2 tables of 7 x 7 values.
    assert!(allocations.count > 130 * 10, "{allocations:?}");
    assert!(allocations.bytes > 130 * 2 * 4 * 49, "{allocations:?}");
    assert!(!all.series("update_norm.table").is_empty());
    let steady = collected(Collect::Steady, train);
    assert_eq!(steady.records.len(), 130, "what the program records alone");
    assert_eq!(steady.summary.sections[1].calls, 130);
    let nothing = collected(Collect::Nothing, train);
    assert_eq!(nothing.records, []);
    assert_eq!((&nothing.summary.sections, &nothing.summary.operations), (&vec![], &vec![]));
    assert_eq!(nothing.summary.allocations, None);
    assert_eq!((&all.snapshot, &all.snapshot), (&steady.snapshot, &nothing.snapshot));
}

#[test]
fn a_snapshot_is_evaluated_and_repeats_itself() {
    let snapshot = trained().snapshot;
    let mut session = Session::start(evaluate::<Bigram>);
    session.send(FromSupervisor::Parameters(snapshot));
    let mut ask = |tokens: &[u16]| -> Vec<f32> {
        let tokens = tokens.to_vec();
        session.send(FromSupervisor::Windows(Windows { batch: 2, length: 3, tokens }));
        let FromProgram::Logits(logits) = session.receive() else {
            panic!("logits answer windows");
        };
        assert_eq!(logits.len(), 2 * 3 * VOCAB);
        logits
    };
    let first = ask(&[0, 1, 2, 3, 4, 5]);
    for (position, row) in first.chunks_exact(VOCAB).enumerate() {
        let best = (0..VOCAB).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert_eq!(best, (position + 1) % VOCAB, "the successor is most likely");
    }
    let other = ask(&[0, 1, 6, 3, 4, 5]);
    assert_eq!(first[..2 * VOCAB], other[..2 * VOCAB], "earlier positions do not see later ones");
    assert_ne!(first, other);
    assert_eq!(first, ask(&[0, 1, 2, 3, 4, 5]));
    session.send(FromSupervisor::Stop);
    session.end().unwrap();
}

/// Runs a training function against an obliging supervisor until the program ends.
fn error_of(train: fn(&Bigram, &Params, &mut Training) -> Result<()>) -> String {
    let mut session = Session::start(move |channel| train_and_hand_over(train, channel));
    while let Ok(message) = FromProgram::read(&mut session.from, 1 << 20) {
        if let FromProgram::Batch(request) = message {
            let tokens = vec![1; request.tokens() as usize];
            session.send(FromSupervisor::Tokens(tokens));
        }
    }
    session.end().unwrap_err().to_string()
}

#[test]
fn hopeless_programs_end_with_a_reason() {
    let check = |train, expected: &str| {
        let error = error_of(train);
        assert!(error.contains(expected), "{error}");
    };
    check(|_, _, _| bail!("gave up at {}", 3), "gave up at 3");
    check(
        |_, _, run| {
            run.batch(1, 1)?;
            let infinite = Tensor::full(f64::INFINITY, ())?;
            let first = run.record("train_loss", 5, &infinite);
            ensure!(first.is_err(), "an explosion passed");
            // Once the run is over, swallowing the error does not bring it back.
            run.batch(1, 1).map(|_| ())
        },
        "the training loss is inf at step 5",
    );
    check(
        |model, _, _| model.table.set(&Tensor::full(f64::NAN, (VOCAB, VOCAB))?),
        "a parameter is not finite after training",
    );
    check(
        |_, _, run| {
            let batch = run.batch(2, 2)?;
            embedding(&Tensor::zeros((VOCAB - 1, 2))?, &batch.inputs).map(|_| ())
        },
        "6 rows are too few for tokens below 7",
    );
}

#[test]
fn a_supervisor_that_speaks_otherwise_is_refused() {
    let check = |message: FromSupervisor, expected: &str| {
        let mut session = Session::start(evaluate::<Bigram>);
        session.send(message);
        let error = session.end().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(FromSupervisor::Stop, "sent stop where parameters had to come");
    let empty = Snapshot::round(std::iter::empty::<(_, &[f32])>()).unwrap();
    check(FromSupervisor::Parameters(empty), "parameter `table`: the snapshot does not hold it");
}

/// Three numbers in two groups.
struct Groups([Var; 3]);

impl Model for Groups {
    fn new(params: &mut Params, _task: &Task) -> Result<Self> {
        let names = ["block.a", "block.b", "head"];
        let [a, b, c] = names.map(|name| params.ones(name, ()));
        Ok(Self([a?, b?, c?]))
    }

    fn logits(&self, _tokens: &Tokens) -> Result<Tensor> {
        bail!("nobody evaluates it")
    }
}

#[test]
fn norms_are_recorded_by_group() {
    let train: fn(&Groups, &Params, &mut Training) -> Result<()> = |model, _, run| {
        let [a, b, c] = &model.0;
        let loss = (((&**a * 3.0)? + (&**b * 4.0)?)? + (&**c * 2.0)?)?;
        run.record_norms(7, &loss.backward()?)
    };
    let mut session = Session::start(move |channel| train_and_hand_over(train, channel));
    let mut records = Vec::new();
    while let FromProgram::Record(record) = session.receive() {
        records.push((record.series, record.step, record.value));
    }
    let norm = |group: &str, value| (format!("gradient_norm.{group}"), 7, value);
    assert_eq!(records, [norm("block", 5.0), norm("head", 2.0)]);
    assert!(matches!(session.receive(), FromProgram::Snapshot(_)), "after the summary");
    session.send(FromSupervisor::Stop);
    session.end().unwrap();
}

/// Two groups of matrices, each parameter moved by another optimizer.
struct Moved(Vec<Var>);

impl Model for Moved {
    fn new(params: &mut Params, _task: &Task) -> Result<Self> {
        let names = ["block.a", "block.b", "block.c", "head"];
        let all: Result<_> = names.iter().map(|name| params.normal(name, (3, 5), 0.3)).collect();
        Ok(Self(all?))
    }

    fn logits(&self, _tokens: &Tokens) -> Result<Tensor> {
        bail!("nobody evaluates it")
    }
}

/// Norms of each step of [`move_all`]: gradients, updates, values, of the block and of the head.
static SEEN: Mutex<Vec<[[f64; 2]; 3]>> = Mutex::new(Vec::new());

fn move_all(model: &Moved, _: &Params, run: &mut Training) -> Result<()> {
    let [a, b, c, d] = &model.0[..] else { bail!("four parameters") };
    let mut moments = [a, b].map(|var| Moments::zeros_like(var));
    let mut momenta = [c, d].map(|var| Momentum::zeros_like(var));
    let (beta1, beta2, epsilon, weight_decay, half) =
        (0.9, 0.95, 1e-8, 0.1, Tensor::full(0.5, ())?);
    for step_idx in 0..40 {
        run.batch(1, 2)?;
        let squares = model.0.iter().map(|var| (**var).sqr()?.sqr()?.sum_all());
        let loss = squares.reduce(|sum, one| sum? + one?).expect("four")?;
        let gradients = loss.backward()?;
        let before = model.0.iter().map(|var| flat(var)).collect::<Result<Vec<_>>>()?;
        let [ga, gb, gc, gd] =
            [a, b, c, d].map(|var| gradients.get(var).expect("all are in the loss"));
        let learning_rate = 0.01 * (step_idx + 1) as f64;
        let settings =
            AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step: step_idx + 1 };
        adamw(a, &ga, &half, &mut moments[0], &settings)?;
        let caution = Caution { update: true, decay: true };
        cautious_adamw(b, &gb, &half, &mut moments[1], &settings, caution)?;
        let lion_settings = Lion { learning_rate, beta1, beta2, weight_decay };
        lion(c, &gc, &half, &mut momenta[0], &lion_settings)?;
        let polynomial = Polynomial::Quintic;
        let (momentum, nesterov, iterations, parts) = (0.9, true, 5, 1);
        let settings =
            Muon { learning_rate, momentum, nesterov, weight_decay, iterations, parts, polynomial };
        muon(d, &gd, &half, &mut momenta[1], &settings)?;
        let sum = |parts: &[f64]| [parts[..3].iter().sum::<f64>().sqrt(), parts[3].sqrt()];
        let square = |value: &f32| f64::from(*value).powi(2);
        let mut norms = [const { Vec::new() }; 3];
        for ((var, gradient), before) in model.0.iter().zip([ga, gb, gc, gd]).zip(&before) {
            let moved =
                flat(var)?.iter().zip(before).map(|(after, before)| after - before).collect();
            for (norms, values) in norms.iter_mut().zip([&flat(&gradient)?, &moved, before]) {
                norms.push(values.iter().map(square).sum::<f64>());
            }
        }
        SEEN.lock().unwrap().push(norms.map(|parts| sum(&parts)));
    }
    Ok(())
}

#[test]
fn norms_of_gradients_and_updates_are_those_of_the_values() {
    let came = collected(Collect::All, move_all);
    let seen = SEEN.lock().unwrap();
    for (idx, group) in ["block", "head"].into_iter().enumerate() {
        let check = |series: &str, expected: &dyn Fn(&[[f64; 2]; 3]) -> f64| {
            let points = came.series(&format!("{series}.{group}"));
            assert_eq!(points.len(), 20, "8, 8 and 4 looks in 40 steps");
            for (step, value) in points {
                let expected = expected(&seen[step as usize]);
                let off = (value / expected - 1.0).abs();
                assert!(off < 1e-6, "{series}.{group} at {step}: {value}, not {expected}");
            }
        };
        check("gradient_norm", &|[gradient, ..]| gradient[idx]);
        check("update_norm", &|[_, update, _]| update[idx]);
        check("relative_update", &|[_, update, values]| update[idx] / values[idx]);
    }
    let rates = came.series("learning_rate");
    assert_eq!((rates.len(), rates[1]), (20, (1, 0.02)), "the program does not record its own");
    for (step, value) in came.series("gradient_norm") {
        let [block, head] = seen[step as usize][0];
        assert!((value / block.hypot(head) - 1.0).abs() < 1e-6, "{value} at {step}");
    }
}

#[test]
fn nothing_shows_the_values_of_tensors_and_tokens() {
    let tensor = Tensor::from_vec(vec![1234.5], 1).unwrap();
    let tokens = Tokens::new(vec![4321, 1], 1, 5000).unwrap();
    let shown = format!("{tensor:?} {:?} {tokens:?}", Var::new(&tensor).unwrap());
    assert_eq!(shown, "Tensor[1] Var[1] Tokens[1, 2]");
}
