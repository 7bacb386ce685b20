//! The trainer's conversation with scripted programs.

use super::*;
use crate::{
    handover::tests::set_up,
    scripted::{Fixture, Script, Scripted, assert_blamed},
};
use forerunner_core::NoHost;
use forerunner_nanogpt_protocol::{DeviceUse, Record, Spec, Summary};
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
    run_on(&Fixture::new(), script, stop_after)
}

fn run_on(
    fixture: &Fixture,
    script: Script,
    stop_after: Option<u64>,
) -> (Result<Trained, Trouble>, Log) {
    let (mut meter, mut log) = (Meter::new(fixture.track.clock), Log::default());
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

/// The clock of a GPU starts with the hand-over, stands still nowhere, and ends with the snapshot.
/// No wall time is asserted but that sleeping takes as long as it says.
#[test]
fn on_a_gpu_all_seconds_from_the_hand_over_on_are_charged() {
    let pause = std::time::Duration::from_millis(100);
    let script: Script = |pipe| {
        let pause = std::time::Duration::from_millis(100);
        // Setting up is not charged.
        std::thread::sleep(pause);
        assert_eq!(set_up(pipe), Some(3), "the seed comes with the hand-over");
        for _ in 0..130 {
            if ask(pipe, 2, 8).is_none() {
                return Outcome::Exited(1);
            }
        }
        std::thread::sleep(pause);
        let device = DeviceUse { peak_bytes: 9, ..DeviceUse::default() };
        let summary = Summary { device: Some(device), ..Summary::default() };
        FromProgram::Summary(summary).write(pipe).unwrap();
        FromProgram::Snapshot(snapshot(7)).write(pipe).unwrap();
        // What comes after the snapshot is not charged either.
        let _ = FromSupervisor::read(pipe);
        Outcome::Exited(0)
    };
    let before = Instant::now();
    let (trained, log) = run_on(&Fixture::on_gpu(), script, None);
    let all = before.elapsed().as_secs_f64();
    let trained = trained.unwrap();
    let HandOver { setup_seconds, report } = trained.hand_over.as_ref().unwrap();
    assert_eq!(report.multiprocessors, 132);
    assert!(*setup_seconds >= pause.as_secs_f64());
    let charged = trained.charge.seconds;
    assert_eq!(charged, trained.charge.used.wall_seconds, "nothing subtracted or corrected");
    assert!(charged >= pause.as_secs_f64() && charged <= all - setup_seconds, "{charged} of {all}");
    let looks: Vec<_> = trained.checkpoints.iter().map(|look| look.step).collect();
    assert_eq!(looks, [0, 32, 128], "looks are charged, so they are rarer");
    assert_eq!(log.device().map(|device| device.peak_bytes), Some(9));
}

#[test]
fn on_a_gpu_seconds_are_limited_from_the_hand_over_on() {
    let mut fixture = Fixture::on_gpu();
    fixture.track.wall_seconds = 0.05;
    let script: Script = |pipe| {
        set_up(pipe);
        while ask(pipe, 1, 8).is_some() {}
        Outcome::Signalled(9)
    };
    let trouble = run_on(&fixture, script, None).0.unwrap_err();
    assert_blamed(trouble, Cause::Timeout, "used up its 0.05 seconds after ");
    // A program that is let loose before it has a device is not one of our harness.
    let script: Script = |pipe| {
        let _ = ask(pipe, 1, 8);
        Outcome::Exited(0)
    };
    let trouble = run_on(&fixture, script, None).0.unwrap_err();
    assert_blamed(trouble, Cause::Protocol, "before its device was set up");
}
