//! The first words of a conversation. On a GPU the harness sets the device up, and says so, before
//! the program is let loose and the clock starts: context, kernels, matrix library and warm-up are the
//! same for every program and cost it nothing.

use crate::{
    process::{Process, Stop, Trouble},
    trainer::Task,
};
use forerunner_core::Cause;
use forerunner_nanogpt_protocol::{Device, DeviceReport, FromProgram, FromSupervisor};
use std::time::{Duration, Instant};

/// Most bytes of a report.
const REPORT_BYTES: u64 = 1 << 16;

/// A device that was handed over.
#[derive(Debug, Clone)]
pub(crate) struct HandOver {
    /// What the harness says of the device.
    pub(crate) report: DeviceReport,
    /// Wall seconds from the greeting to the report. Not charged.
    pub(crate) setup_seconds: f64,
}

/// Greets a program. On a GPU it waits until the device is set up, calls `starting` and hands the
/// device over with the task's seed; on the CPU the greeting is all, and `starting` is not called.
pub(crate) fn greet<P: Process>(
    process: &mut P,
    task: &Task<'_>,
    stage: &str,
    starting: impl FnOnce(&P),
) -> Result<Option<HandOver>, Stop> {
    let greeted = Instant::now();
    process.tell(&task.start())?;
    if task.track.device == Device::Cpu {
        return Ok(None);
    }
    let most = task.track.setup_seconds;
    let report = match process.receive_within(REPORT_BYTES, Duration::from_secs_f64(most))? {
        Some(FromProgram::Ready(report)) => report,
        Some(_) => {
            let text = format!("{stage} sent something else before its device was set up");
            return Err(Trouble::program(Cause::Protocol, "protocol/frame", text).into());
        }
        None => {
            let text = format!(
                "{stage} did not have its device set up within {most} seconds; let `main` do \
                 nothing but call `harness::run`"
            );
            return Err(Trouble::program(Cause::Timeout, "limit/setup", text).into());
        }
    };
    let setup_seconds = greeted.elapsed().as_secs_f64();
    starting(process);
    process.tell(&FromSupervisor::Go(task.seed))?;
    Ok(Some(HandOver { report, setup_seconds }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scripted::{Fixture, Script, Scripted, assert_blamed};
    use forerunner_sandbox::Outcome;
    use std::{cell::Cell, io::Write, os::unix::net::UnixStream};

    pub(crate) fn report() -> DeviceReport {
        DeviceReport { name: "test\x1b[2J".into(), multiprocessors: 132, ..DeviceReport::default() }
    }

    /// The program's side: the seed that it is told in the end.
    pub(crate) fn set_up(pipe: &mut UnixStream) -> Option<u64> {
        let Ok(FromSupervisor::Start(start)) = FromSupervisor::read(pipe) else { return None };
        assert_eq!(start.seed, 0, "no seed before the clock runs");
        FromProgram::Ready(report()).write(pipe).ok()?;
        match FromSupervisor::read(pipe) {
            Ok(FromSupervisor::Go(seed)) => Some(seed),
            _ => None,
        }
    }

    fn greeted(script: Script) -> (Result<Option<HandOver>, Trouble>, bool) {
        greeted_within(120.0, script)
    }

    fn greeted_within(
        setup_seconds: f64,
        script: Script,
    ) -> (Result<Option<HandOver>, Trouble>, bool) {
        let mut fixture = Fixture::on_gpu();
        fixture.track.setup_seconds = setup_seconds;
        let (task, started) = (fixture.task(), Cell::new(false));
        let mut process = Scripted::start(script);
        let result = greet(&mut process, &task, "the trainer", |_| started.set(true));
        let result = result.map_err(|stop| process.stopped("the trainer", 100, stop));
        (result, started.get())
    }

    #[test]
    fn a_device_is_handed_over_once_it_is_ready() {
        let (result, started) = greeted(|pipe| match set_up(pipe) {
            Some(3) => Outcome::Exited(0),
            _ => Outcome::Exited(1),
        });
        let HandOver { report, setup_seconds } = result.unwrap().unwrap();
        assert_eq!((report.multiprocessors, started), (132, true));
        assert!(setup_seconds >= 0.0);
    }

    #[test]
    fn whatever_comes_instead_is_one_finding_and_starts_no_clock() {
        let check = |script: Script, cause: Cause, text: &str| {
            let (result, started) = greeted(script);
            assert_blamed(result.unwrap_err(), cause, text);
            assert!(!started);
        };
        check(|_| Outcome::Exited(1), Cause::Crash, "exit status 1");
        check(
            |pipe| {
                let _ = FromSupervisor::read(pipe);
                FromProgram::Losses(vec![0.0]).write(pipe).unwrap();
                let _ = FromSupervisor::read(pipe);
                Outcome::Exited(0)
            },
            Cause::Protocol,
            "before its device was set up",
        );
        check(
            |pipe| {
                let _ = pipe.write_all(&[255, 255, 255, 255, 16]);
                Outcome::Exited(0)
            },
            Cause::Protocol,
            "not a frame",
        );
        // It takes its time, and is not waited for.
        let (result, started) = greeted_within(0.05, |pipe| {
            let _ = FromSupervisor::read(pipe);
            let _ = FromSupervisor::read(pipe);
            Outcome::Signalled(9)
        });
        let text = "did not have its device set up within 0.05 seconds";
        assert_blamed(result.unwrap_err(), Cause::Timeout, text);
        assert!(!started);
    }

    #[test]
    fn nothing_of_this_happens_on_the_cpu() {
        let fixture = Fixture::new();
        let task = fixture.task();
        let mut process = Scripted::start(|pipe| match FromSupervisor::read(pipe) {
            Ok(FromSupervisor::Start(start)) if start.seed == 3 => {
                let next = FromSupervisor::read(pipe);
                if next.is_err() { Outcome::Exited(0) } else { Outcome::Exited(1) }
            }
            _ => Outcome::Exited(1),
        });
        let greeted = greet(&mut process, &task, "the trainer", |_| panic!("no clock"));
        assert!(greeted.unwrap().is_none());
        assert_eq!(process.kill().unwrap().outcome, Outcome::Exited(0));
    }
}
