//! One measurement's hold on a GPU.

use super::{
    company::{Apart, people, refuse_company},
    helper::{Helper, Scrubbed},
    lock::{self, Lock},
    nvml::Monitor,
    watch::{Gauge, Watch, Watched},
};
use forerunner_core::{Error, Finding, Host, Result, Telemetry};
use forerunner_sandbox::Gpu;
use std::cell::RefCell;

/// Share of a measurement for which something may hold the clock down before it is remarked on.
const MOST_SLOWED: f64 = 0.05;

/// What a sandbox cannot keep apart on a GPU, for every report (`docs/sandbox.md`).
const NOT_ISOLATED: &str = "the kernel driver's ioctl interface, device memory beyond what the driver \
                            separates, caches and clocks as side channels; no limit on device memory";

/// A GPU held for one measurement: nobody else of ours uses it, its memory is overwritten before each
/// program, and it can be watched.
///
/// ```text
/// let session = gpu::Session::open(&gpu, true, host)?;
/// policy.give_gpu(session.gpu().clone());      // for every process of the program
/// session.before_program(host)?;               // before every process of the program
/// let watching = session.watch();              // when the clock starts
/// …
/// let watched = watching.finish();             // when the clock stops
/// findings.extend(session.finish(Some(watched), wall_clock, &mut telemetry));
/// ```
#[derive(Debug)]
pub(crate) struct Session {
    gpu: Gpu,
    lock: Lock,
    monitor: Result<Monitor, String>,
    helper: Result<Helper, String>,
    scrubs: RefCell<Scrubs>,
}

/// What became of overwriting so far.
#[derive(Debug, Default)]
struct Scrubs {
    done: Vec<Scrubbed>,
    failed: Option<String>,
}

impl Session {
    /// Waits until the GPU is free of other programs of ours. With `alone` it must also be free of
    /// everybody else's, as a wall clock demands.
    ///
    /// # Errors
    /// [`Error::Cancelled`] while waiting; when the lock cannot be had; when the GPU is divided into
    /// instances; and, with `alone`, when somebody else computes there.
    pub(crate) fn open(gpu: &Gpu, alone: bool, host: &dyn Host) -> Result<Self> {
        let monitor = Monitor::open(gpu.minor);
        let mut gpu = gpu.clone();
        if let Ok(monitor) = &monitor {
            if monitor.divided {
                return Err(Error::Failed(format!(
                    "GPU {} is divided into instances, which share its clock and its power\n\
                     hint: measure on a GPU without MIG",
                    monitor.uuid
                )));
            }
            gpu = gpu.with_uuid(monitor.uuid.clone());
        }
        let name = gpu.uuid.clone().unwrap_or_else(|| format!("minor-{}", gpu.minor));
        let lock = Lock::take(&lock::folder(), &name, host)?;
        if let (true, Ok(monitor)) = (alone, &monitor) {
            let present = Apart::new(monitor.clone()).read().processes.unwrap_or_default();
            refuse_company(&name, &present)?;
        }
        let helper = Helper::find(gpu.environment());
        Ok(Self { gpu, lock, monitor, helper, scrubs: RefCell::default() })
    }

    /// What to give the programs.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Overwrites the GPU's memory, so that a program finds nothing there of the one before it; not
    /// of itself either, since what a trainer leaves must not reach its evaluator. That it could not
    /// be done is reported in the end.
    ///
    /// # Errors
    /// [`Error::Cancelled`] alone.
    pub(crate) fn before_program(&self, host: &dyn Host) -> Result<()> {
        let result = match &self.helper {
            Ok(helper) => helper.scrub(host)?,
            Err(reason) => Err(reason.clone()),
        };
        let mut scrubs = self.scrubs.borrow_mut();
        match result {
            Ok(scrubbed) => scrubs.done.push(scrubbed),
            Err(reason) => scrubs.failed = Some(reason),
        }
        Ok(())
    }

    /// The rate of bfloat16 matrix products on this GPU in floating-point operations per second, as
    /// our own program measures it just now: the base of a program's utilisation. `None`, with a
    /// reason, where it cannot be measured.
    ///
    /// # Errors
    /// [`Error::Cancelled`] alone.
    pub(crate) fn matmul_flops_per_second(&self, host: &dyn Host) -> Result<Result<f64, String>> {
        match &self.helper {
            Ok(helper) => helper.matmul(host),
            Err(reason) => Ok(Err(reason.clone())),
        }
    }

    /// Reads clocks, power, temperature and company from now on.
    pub(crate) fn watch(&self) -> Watching {
        let start = |monitor: &Monitor| Watch::start(Apart::new(monitor.clone()));
        Watching(self.monitor.as_ref().map_err(Clone::clone).and_then(start))
    }

    /// Lets the GPU go, and puts what was seen into `telemetry`. Answers with remarks; with company
    /// under a `wall_clock` one of them rejects the measurement.
    pub(crate) fn finish(
        self,
        watched: Option<Seen>,
        wall_clock: bool,
        telemetry: &mut Telemetry,
    ) -> Vec<Finding> {
        let facts = &mut telemetry.facts;
        let mut description = match &self.monitor {
            Ok(monitor) => monitor.description.clone(),
            Err(_) => format!("/dev/nvidia{}", self.gpu.minor),
        };
        if let Some(uuid) = &self.gpu.uuid {
            description += &format!(", {uuid}");
        }
        facts.insert("gpu".into(), description);
        facts.insert("gpu_not_isolated".into(), NOT_ISOLATED.into());
        let waited = ("gpu_waited_seconds".to_owned(), self.lock.waited_seconds);
        telemetry.numbers.extend(Some(waited).filter(|(_, seconds)| *seconds > 0.0));
        let scrubbing = self.scrubs.into_inner().finish(telemetry);
        let mut findings: Vec<Finding> = scrubbing.into_iter().collect();
        if let Some(Seen(seen)) = watched {
            findings.extend(describe(seen.as_ref(), wall_clock, telemetry));
        }
        findings
    }
}

impl Scrubs {
    /// Puts it into `telemetry`; remarks where it did not work.
    fn finish(self, telemetry: &mut Telemetry) -> Option<Finding> {
        let Self { done, failed } = self;
        if let Some(last) = done.last() {
            let seconds: f64 = done.iter().map(|scrubbed| scrubbed.seconds).sum();
            let text = format!(
                "before {} processes: {:.1} of {:.1} GB in {:.2} s on average",
                done.len(),
                last.bytes as f64 * 1e-9,
                last.total_bytes as f64 * 1e-9,
                seconds / done.len() as f64
            );
            telemetry.facts.insert("gpu_scrub".into(), text);
            telemetry.numbers.insert("gpu_scrub_seconds".into(), seconds);
            telemetry.numbers.insert("gpu_scrubbed_bytes".into(), last.bytes as f64);
        }
        failed.map(|reason| {
            telemetry.facts.insert("gpu_scrub".into(), format!("failed: {reason}"));
            let text = format!(
                "device memory was not overwritten between programs: {reason}; what an earlier \
                 program left there may have been readable"
            );
            Finding::warning(SCRUB, text)
        })
    }
}

/// Rule of the finding that device memory was not overwritten.
pub(crate) const SCRUB: &str = "gpu/scrub";

/// A GPU being watched.
#[derive(Debug)]
pub(crate) struct Watching(Result<Watch, String>);

impl Watching {
    /// Stops watching.
    pub(crate) fn finish(self) -> Seen {
        Seen(self.0.map(Watch::finish))
    }
}

/// What was seen, or why nothing was.
#[derive(Debug)]
pub(crate) struct Seen(Result<Watched, String>);

/// Puts what was seen into `telemetry`, and remarks on it.
fn describe(
    seen: Result<&Watched, &String>,
    wall_clock: bool,
    telemetry: &mut Telemetry,
) -> Vec<Finding> {
    let watched = match seen {
        Ok(watched) => watched,
        Err(reason) => {
            telemetry.facts.insert("gpu_watch".into(), format!("not measured: {reason}"));
            return Vec::new();
        }
    };
    telemetry.facts.insert("gpu_watch".into(), format!("NVML, {:.1} s", watched.seconds()));
    telemetry.numbers.extend(watched.numbers());
    telemetry.series.extend(watched.series());
    let reasons = watched.seconds_by_reason();
    let listed: Vec<String> = reasons
        .iter()
        .map(|(reason, seconds)| format!("{} {seconds:.1} s", reason.text()))
        .collect();
    let limits = match watched.slowed_seconds() {
        None => "not measured: the GPU does not tell".to_owned(),
        Some(_) if listed.is_empty() => "none".to_owned(),
        Some(_) => listed.join(", "),
    };
    telemetry.facts.insert("gpu_clock_limits".into(), limits.clone());
    let mut findings = Vec::new();
    let strangers = watched.processes();
    if !strangers.is_empty() {
        let who = people(strangers.into_iter());
        telemetry.facts.insert("gpu_company".into(), who.clone());
        let text = format!("another program computed on the GPU during the measurement: {who}");
        findings.push(match wall_clock {
            true => Finding::error("gpu/neighbours", text),
            false => Finding::warning("gpu/neighbours", text),
        });
    }
    let slowed = watched.slowed_seconds().unwrap_or(0.0) / watched.seconds().max(f64::MIN_POSITIVE);
    if slowed > MOST_SLOWED {
        let text = format!(
            "something held the GPU's clock down for {:.0} % of the measurement ({limits}); compare \
             with others that had the same",
            slowed * 100.0
        );
        findings.push(Finding::warning("gpu/clock", text));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::watch::Reading;
    use forerunner_core::{NoHost, Severity};

    /// Always sees the same.
    struct Still(Reading);

    impl Gauge for Still {
        fn read(&mut self) -> Reading {
            self.0.clone()
        }
    }

    fn with_processes(processes: &[u32]) -> Still {
        Still(Reading { processes: Some(processes.to_vec()), ..Reading::default() })
    }

    #[test]
    fn company_spoils_a_wall_clock_and_only_that() {
        for (wall_clock, severity) in [(true, Severity::Error), (false, Severity::Warning)] {
            let watched = Watch::start(with_processes(&[1])).unwrap().finish();
            let mut telemetry = Telemetry::default();
            let findings = describe(Ok(&watched), wall_clock, &mut telemetry);
            assert_eq!(findings.len(), 1);
            assert_eq!(
                (findings[0].rule.as_str(), findings[0].severity),
                ("gpu/neighbours", severity)
            );
            assert!(telemetry.facts["gpu_company"].starts_with("pid 1"));
        }
    }

    #[test]
    fn a_machine_without_nvml_and_helper_measures_all_the_same_and_says_so() {
        // No machine has so many GPUs, so that NVML knows none of this number even where there is one.
        let minor = 250;
        let uuid = format!("GPU-of-a-test-{}", std::process::id());
        let gpu = Gpu {
            minor,
            uuid: Some(uuid.clone()),
            nodes: Vec::new(),
            information: Vec::new(),
            libraries: Vec::new(),
            library_folders: Vec::new(),
        };
        let mut session = Session::open(&gpu, true, &NoHost).unwrap();
        assert_eq!(session.gpu(), &gpu);
        session.helper = Err("no helper".into());
        session.before_program(&NoHost).unwrap();
        assert!(session.matmul_flops_per_second(&NoHost).unwrap().is_err());
        let seen = session.watch().finish();
        let mut telemetry = Telemetry::default();
        let findings = session.finish(Some(seen), true, &mut telemetry);
        std::fs::remove_file(lock::folder().join(format!("forerunner-{uuid}.lock"))).unwrap();
        let rules: Vec<_> = findings.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(rules, ["gpu/scrub"]);
        assert_eq!(telemetry.facts["gpu"], format!("/dev/nvidia250, {uuid}"));
        assert_eq!(telemetry.facts["gpu_scrub"], "failed: no helper");
        assert!(telemetry.facts["gpu_watch"].starts_with("not measured: "));
        assert!(telemetry.facts.contains_key("gpu_not_isolated"));
        assert!(telemetry.numbers.is_empty() && telemetry.series.is_empty());
    }

    #[test]
    fn what_is_not_measured_is_said_and_is_no_error() {
        let mut telemetry = Telemetry::default();
        let findings = describe(Err(&"no NVML".to_owned()), true, &mut telemetry);
        assert!(findings.is_empty());
        assert_eq!(telemetry.facts["gpu_watch"], "not measured: no NVML");
        let watched = Watch::start(Still(Reading::default())).unwrap().finish();
        assert!(describe(Ok(&watched), true, &mut telemetry).is_empty());
        assert_eq!(telemetry.facts["gpu_clock_limits"], "not measured: the GPU does not tell");
    }

    #[test]
    fn scrubbing_is_reported_and_its_failure_remarked_on() {
        let scrubbed =
            |seconds| Scrubbed { bytes: 149_100_000_000, total_bytes: 150_700_000_000, seconds };
        let mut telemetry = Telemetry::default();
        let scrubs = Scrubs { done: vec![scrubbed(0.25), scrubbed(0.35)], failed: None };
        assert!(scrubs.finish(&mut telemetry).is_none());
        assert_eq!(
            telemetry.facts["gpu_scrub"],
            "before 2 processes: 149.1 of 150.7 GB in 0.30 s on average"
        );
        let failed = Scrubs { done: vec![scrubbed(0.25)], failed: Some("no driver".into()) };
        let finding = failed.finish(&mut telemetry).unwrap();
        assert_eq!((finding.rule.as_str(), finding.severity), ("gpu/scrub", Severity::Warning));
        assert_eq!(telemetry.facts["gpu_scrub"], "failed: no driver");
    }
}
