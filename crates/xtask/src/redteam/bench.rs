//! Measures programs of the red team by the installed binary, several at the same time.

use crate::console::say;
use anyhow::{Context as _, Result};
use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::{Pid, SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// How every program is measured: the track `cpu` on its own data, with limits on what endless
/// programs cost, and CPU seconds as the system counts them, since nobody compares them here.
const CONFIG: &str = r#"{"clock":"raw","cpu_seconds":8,"wall_seconds":25}"#;

/// Secret number of the disguise; no program here knows what it stands for.
const DISGUISE: &str = "20261122";

/// A program to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job<'t> {
    pub(crate) text: &'t str,
    /// Whether all tokens go by other names, as they do for a record.
    pub(crate) in_disguise: bool,
}

/// Where programs are measured.
pub(crate) struct Bench {
    forerunner: PathBuf,
    jobs: usize,
    /// Programs, and a cache of their own, so that what each costs does not depend on before.
    folder: tempfile::TempDir,
}

/// What became of a program.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    /// `accepted`, `rejected`, `failed` or `unverified`.
    pub(crate) verdict: String,
    /// Rules of the findings that reject.
    pub(crate) rules: Vec<String>,
    /// What the first of them says.
    pub(crate) message: String,
    /// Metrics, where it was measured.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// CPU seconds of everything it took: rules, compiling, training, scoring, probes.
    pub(crate) cpu_seconds: f64,
}

/// What `forerunner evaluate --json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    verdict: String,
    findings: Vec<Finding>,
    metrics: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Finding {
    rule: String,
    severity: String,
    message: String,
}

impl Bench {
    /// A bench for the installation at `prefix`; `jobs` programs at the same time, or one on each
    /// core.
    pub(crate) fn new(prefix: &Path, jobs: Option<usize>) -> Result<Self> {
        let binary = prefix.join("bin/forerunner");
        let forerunner = binary.canonicalize().with_context(|| {
            format!("no {}\nhint: run `cargo xtask redteam --install`", binary.display())
        })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let folder = tempfile::tempdir().context("no temporary folder")?;
        Ok(Self { forerunner, jobs: jobs.unwrap_or(cores), folder })
    }

    /// Measures everything asked for, each of which has a name for the progress that is shown.
    pub(crate) fn measure<'t>(
        &self,
        texts: BTreeMap<Job<'t>, String>,
    ) -> Result<BTreeMap<Job<'t>, Measured>> {
        let total = texts.len();
        let mut jobs: Vec<(Job<'_>, String)> = texts.into_iter().collect();
        jobs.sort_by(|a, b| a.1.cmp(&b.1));
        let queue = Mutex::new(jobs.into_iter().enumerate());
        let done = Mutex::new(BTreeMap::new());
        let serve = || -> Result<()> {
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((idx, (job, name))) = job else { return Ok(()) };
                let one = self.one(idx, job).with_context(|| name.clone())?;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                let (verdict, rules, cost) = (&one.verdict, one.rules.join(", "), one.cpu_seconds);
                let because = if rules.is_empty() { "" } else { " by " };
                let count = done.len() + 1;
                say(format_args!(
                    "{count}/{total}  {name}: {verdict}{because}{rules}, {cost:.1} CPU s"
                ));
                done.insert(job, one);
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs).map(|_| scope.spawn(serve)).collect();
            threads.into_iter().try_for_each(|t| t.join().expect("a thread that only measures"))
        })?;
        Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn one(&self, idx: usize, job: Job<'_>) -> Result<Measured> {
        let path = self.folder.path().join(format!("program-{idx}.rs"));
        fs::write(&path, job.text)?;
        let mut command = Command::new(&self.forerunner);
        command
            .arg("evaluate")
            .arg(&path)
            .args(["--environment", "nanogpt", "--track", "cpu", "--json", "--config", CONFIG])
            .env_remove("FORERUNNER_PREFIX")
            .env_remove("FORERUNNER_PLUGINS")
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if job.in_disguise {
            command.args(["--disguise", DISGUISE]);
        }
        let child = command.spawn().context("cannot start the installed binary")?;
        let (stdout, stderr, cpu_seconds) = finish(child)?;
        let answer: Answer = serde_json::from_str(&stdout)
            .with_context(|| format!("not measured: {}", stderr.trim()))?;
        let errors = || answer.findings.iter().filter(|finding| finding.severity == "error");
        let mut rules: Vec<String> = errors().map(|finding| finding.rule.clone()).collect();
        rules.dedup();
        let message = errors().next().map(|finding| finding.message.clone()).unwrap_or_default();
        let Answer { verdict, metrics, .. } = answer;
        Ok(Measured { verdict, rules, message, metrics, cpu_seconds })
    }
}

/// Both outputs of a process that runs to its end, and the CPU seconds of it and its descendants.
fn finish(mut child: Child) -> Result<(String, String, f64)> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.as_mut().map(|pipe| pipe.read_to_string(&mut text)).transpose().map(|_| text)
    });
    let mut text = String::new();
    stdout.as_mut().map(|pipe| pipe.read_to_string(&mut text)).transpose()?;
    let errors = read.join().expect("a thread that only reads")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    // Looked at before it is gone: the times of a process are kept until its parent has waited.
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    child.wait()?;
    let ticks = ticks(&stat).context("the kernel describes a process in another way")?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("a clock without ticks")?;
    Ok((text, errors, ticks as f64 / per_second as f64))
}

/// Clock ticks of a process and of the descendants it has waited for, from `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The name in brackets may hold anything; what follows the last bracket is plain. The times are
    // fields 14 to 17, and the first one here is the third.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let times: Vec<u64> = fields.skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_process_and_its_children() {
        let stat = "7 (a) b)) Z 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0";
        assert_eq!(ticks(stat), Some(127));
        assert_eq!(ticks("7 (a) Z 1"), None);
        let child = Command::new("sh")
            .args(["-c", "echo out; echo err >&2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let (stdout, stderr, cpu_seconds) = finish(child.unwrap()).unwrap();
        assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
        assert!((0.0..10.0).contains(&cpu_seconds));
    }
}
