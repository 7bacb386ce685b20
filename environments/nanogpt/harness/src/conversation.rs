//! Whole conversations over pipes, with the tests in the supervisor's place.

use std::io::{PipeReader, PipeWriter, pipe};
use std::thread::{JoinHandle, spawn};

use forerunner_nanogpt_protocol::{
    FromProgram, FromSupervisor, Limits, Snapshot, Start, Summary, VERSION, Windows,
};

use crate::channel::Channel;
use crate::evaluation::evaluate;
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

/// Serves a text in which each token is the successor of the last, and returns what came.
fn serve_training(session: &mut Session) -> (Vec<f64>, Snapshot, Summary, Snapshot) {
    let (mut losses, mut checkpoint, mut summary) = (Vec::new(), None, Summary::default());
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
            FromProgram::Record(record) => losses.push(record.value),
            FromProgram::Summary(counts) => summary = counts,
            FromProgram::Snapshot(snapshot) => {
                session.send(FromSupervisor::Stop);
                return (losses, checkpoint.unwrap(), summary, snapshot);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn trained() -> (Vec<f64>, Snapshot, Summary, Snapshot) {
    let mut session = Session::start(|channel| train_and_hand_over(train, channel));
    let result = serve_training(&mut session);
    session.end().unwrap();
    result
}

#[test]
fn a_model_is_trained_and_handed_over() {
    let (losses, initial, summary, snapshot) = trained();
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
    assert!(summary.operations.iter().all(|o| o.seconds > 0.0));
    let again = trained();
    assert_eq!((losses, snapshot), (again.0, again.3), "training is reproducible to the last bit");
}

#[test]
fn a_snapshot_is_evaluated_and_repeats_itself() {
    let snapshot = trained().3;
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

#[test]
fn nothing_shows_the_values_of_tensors_and_tokens() {
    let tensor = Tensor::from_vec(vec![1234.5], 1).unwrap();
    let tokens = Tokens::new(vec![4321, 1], 1, 5000).unwrap();
    let shown = format!("{tensor:?} {:?} {tokens:?}", Var::new(&tensor).unwrap());
    assert_eq!(shown, "Tensor[1] Var[1] Tokens[1, 2]");
}
