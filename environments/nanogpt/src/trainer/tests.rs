//! The trainer's conversation with scripted programs.

use super::*;
use crate::{
    Clock,
    scripted::{Fixture, Script, Scripted, assert_blamed},
};
use forerunner_core::NoHost;
use forerunner_nanogpt_protocol::{Record, Spec, Summary};
use forerunner_sandbox::Outcome;
use std::{io::Write, os::unix::net::UnixStream};

fn snapshot(n: usize) -> Snapshot {
    let spec = Spec { name: "w".into(), shape: vec![n] };
    Snapshot::round([(spec, vec![0.5; n].as_slice())]).unwrap()
}

/// Asks for a batch, answers looks, and returns the tokens.
fn ask(pipe: &mut UnixStream, batch: u32, length: u32) -> Option<Vec<u16>> {
    FromProgram::Batch(BatchRequest { batch, length }).write(pipe).ok()?;
    loop {
        match FromSupervisor::read(pipe).ok()? {
            FromSupervisor::Tokens(tokens) => return Some(tokens),
            FromSupervisor::Peek => FromProgram::Checkpoint(snapshot(7)).write(pipe).ok()?,
            _ => {}
        }
    }
}

fn hand_over(pipe: &mut UnixStream) -> Outcome {
    FromProgram::Summary(Summary::default()).write(pipe).unwrap();
    FromProgram::Snapshot(snapshot(7)).write(pipe).unwrap();
    let _ = FromSupervisor::read(pipe);
    Outcome::Exited(0)
}

fn run(script: Script, stop_after: Option<u64>) -> (Result<Trained, Trouble>, Log) {
    let fixture = Fixture::new();
    let (mut meter, mut log) = (Meter::new(Clock::Raw), Log::default());
    let stream = Stream::new(crate::text::Text::new(&fixture.shard, None), 3);
    let process = Scripted::start(script);
    let mut trainer = Trainer::new(process, fixture.task(), stream, &mut meter, &mut log, &NoHost);
    if let Some(n_batches) = stop_after {
        trainer = trainer.stop_after(n_batches);
    }
    (trainer.run(), log)
}

#[test]
fn a_training_is_served_watched_and_charged() {
    let (trained, log) = run(
        |pipe| {
            for step in 0..70 {
                let Some(tokens) = ask(pipe, 2, 8) else { return Outcome::Exited(1) };
                assert_eq!(tokens.len(), 18);
                if step % 10 == 0 {
                    let record = Record { series: "train_loss".into(), step, value: 1.0 };
                    FromProgram::Record(record).write(pipe).unwrap();
                }
            }
            hand_over(pipe)
        },
        None,
    );
    let trained = trained.unwrap();
    let Ledger { batches, tokens, .. } = trained.ledger;
    assert_eq!((batches, tokens), (70, 70 * 16));
    assert_eq!(trained.snapshot.count(), 7);
    let looks: Vec<_> = trained.checkpoints.iter().map(|look| look.step).collect();
    assert_eq!(looks, [0, 32, 64]);
    // 70 requests, 7 records, 3 looks, summary and snapshot at 10 ms each.
    assert!((trained.charge.seconds - 0.82).abs() < 1e-9, "{:?}", trained.charge);
    assert_eq!(log.series()["train_loss"].len(), 7);
    // Each phase is 7 batches of 16 tokens; the first request ends what came before them.
    let pace = trained.phases.seconds_per_token();
    assert_eq!(
        trained.phases.tokens_per_step(),
        (1..=10).map(|n| (7 * n, 16.0)).collect::<Vec<_>>()
    );
    let in_phases: f64 = pace.iter().map(|(_, seconds)| seconds * 7.0 * 16.0).sum();
    assert!((trained.phases.startup_seconds - 0.01).abs() < 1e-9, "{:?}", trained.phases);
    assert!((in_phases - 0.81).abs() < 1e-9, "{:?}", trained.phases);
}

#[test]
fn a_smoke_test_takes_the_parameters_as_they_are() {
    let endless: Script = |pipe| {
        while ask(pipe, 1, 8).is_some() {}
        Outcome::Exited(1)
    };
    let trained = run(endless, Some(2)).0.unwrap();
    assert_eq!((trained.ledger.batches, trained.snapshot.count()), (2, 7));
}

#[test]
fn whatever_a_trainer_does_wrong_is_one_finding() {
    let check = |script: Script, cause: Cause, text: &str| {
        assert_blamed(run(script, None).0.unwrap_err(), cause, text);
    };
    check(|_| Outcome::Exited(0), Cause::Protocol, "before handing anything over");
    check(|_| Outcome::Signalled(6), Cause::Crash, "signal 6");
    check(|_| Outcome::OutOfMemory, Cause::Memory, "more memory");
    check(|_| Outcome::TimedOut, Cause::Timeout, "wall time");
    check(
        |pipe| {
            let _ = pipe.write_all(b"loss: 0.0001 val_loss: 0.0001\n");
            Outcome::Exited(0)
        },
        Cause::Protocol,
        "standard output belongs to the harness",
    );
    check(
        |pipe| {
            let _ = pipe.write_all(&[0, 0, 0, 0, 77]);
            Outcome::Exited(0)
        },
        Cause::Protocol,
        "frame kind 77 is unknown",
    );
    check(
        |pipe| {
            let _ = pipe.write_all(&[9, 0, 0, 0, 4, 1, 2]);
            Outcome::Exited(0)
        },
        Cause::Protocol,
        "before handing anything over",
    );
}

#[test]
fn limits_are_enforced_between_batches() {
    let check = |script: Script, cause: Cause, text: &str| {
        assert_blamed(run(script, None).0.unwrap_err(), cause, text);
    };
    check(
        |pipe| {
            while ask(pipe, 1, 8).is_some() {}
            Outcome::Signalled(9)
        },
        Cause::Timeout,
        "used up its 1 CPU seconds after 97 batches",
    );
    for script in [
        (|pipe| {
            ask(pipe, 0, 8);
            Outcome::Exited(0)
        }) as Script,
        |pipe| {
            ask(pipe, 1, 0);
            Outcome::Exited(0)
        },
        |pipe| {
            ask(pipe, u32::MAX, u32::MAX);
            Outcome::Exited(0)
        },
        |pipe| {
            ask(pipe, 1, 5000);
            Outcome::Exited(0)
        },
    ] {
        check(script, Cause::Protocol, "at most 65536 tokens");
    }
    check(
        |pipe| {
            let record = Record { series: "x".into(), step: 0, value: 0.0 };
            while FromProgram::Record(record.clone()).write(pipe).is_ok() {}
            Outcome::Signalled(9)
        },
        Cause::Protocol,
        "records without a batch",
    );
    check(
        |pipe| {
            let _ = FromProgram::Snapshot(snapshot(2_000_000)).write(pipe);
            Outcome::Exited(0)
        },
        Cause::Rule,
        "far more than the 100 values that the track allows",
    );
    check(
        |pipe| {
            ask(pipe, 1, 8);
            let _ = FromProgram::Snapshot(snapshot(8)).write(pipe);
            Outcome::Exited(0)
        },
        Cause::Rule,
        "names or shapes of the parameters changed",
    );
    check(
        |pipe| {
            let _ = FromProgram::Logits(vec![0.0]).write(pipe);
            Outcome::Exited(0)
        },
        Cause::Protocol,
        "nobody asked for",
    );
}
