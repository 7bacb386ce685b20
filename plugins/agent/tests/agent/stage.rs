//! A stage for scripted agents: a request, a host, and a folder for what they leave as evidence.

use forerunner_agent::{Agent, Config};
use forerunner_core::{
    Attempt, Cause, EnvironmentSpec, Evaluation, Finding, Idea, Interval, Member, Mutator,
    Objective, Program, Proposal, ProposalRequest, Result,
};
use forerunner_sdk::testkit::{self, RecordingHost};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What the tests' own environment has, and agents may get.
pub(crate) const KEY: (&str, &str) = ("AGENT_TEST_KEY", "sk-test-0123456789");

/// Runs a test in a process of its own, whose sandboxes are launched by the `launcher` example.
pub(crate) fn hosted<T: FnOnce()>(test: T) {
    const LAUNCHER: &str = "FORERUNNER_SANDBOX_LAUNCHER";
    if std::env::var_os(LAUNCHER).is_some() {
        return test();
    }
    let own = std::env::current_exe().expect("a test has a path");
    let launcher = own.ancestors().nth(2).expect("a folder").join("examples/launcher");
    assert!(launcher.exists(), "`{}` is missing: run all targets", launcher.display());
    // `agent::proposals::name::{{closure}}` is the test `proposals::name`.
    let name = std::any::type_name::<T>();
    let name = name.split_once("::").expect("a crate").1;
    let name = name.strip_suffix("::{{closure}}").expect("a closure in a test");
    let output = Command::new(own)
        .args([name, "--exact", "--nocapture"])
        .env(LAUNCHER, launcher)
        .env(KEY.0, KEY.1)
        .env("NOBODYS_BUSINESS", "must not be seen")
        .output()
        .expect("the test starts again");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("1 passed"), "{text}");
}

/// A stage for one script.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) host: RecordingHost,
    pub(crate) config: Config,
    pub(crate) request: ProposalRequest,
}

impl Stage {
    /// An agent that is this shell script. It may write to `$EVIDENCE`.
    pub(crate) fn new(script: &str) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let evidence = folder.path().join("evidence");
        fs::create_dir(&evidence).expect("a folder");
        let file = folder.path().join("agent.sh");
        fs::write(&file, format!("set -u\n{script}\n")).expect("a script");
        let evidence = evidence.to_string_lossy().into_owned();
        let config = Config {
            name: Some("stand-in".to_owned()),
            command: vec![
                "sh".to_owned(),
                file.to_string_lossy().into_owned(),
                "{prompt}".to_owned(),
            ],
            set: [("EVIDENCE".to_owned(), evidence.clone())].into(),
            writable: vec![evidence],
            dollars: 0.25,
            seconds: 120,
            ..Config::default()
        };
        let host = RecordingHost::new().expect("a host");
        Self { folder, host, config, request: request() }
    }

    pub(crate) fn agent(&self) -> impl Mutator {
        testkit::mutator(Agent::new(self.config.clone()).expect("a configuration"))
    }

    pub(crate) fn propose(&self) -> Result<Proposal> {
        self.agent().propose(&self.request, &self.host)
    }

    /// The message of the error, after checking that it was paid for and recorded.
    pub(crate) fn failure(&self) -> String {
        let error = self.propose().expect_err("the agent failed").to_string();
        assert_eq!(self.host.calls().len(), 1, "a failure is recorded too");
        assert!(self.host.spent().dollars > 0.0, "a failure is paid for, too");
        error
    }

    /// What the script left as evidence under this name.
    pub(crate) fn evidence(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join("evidence").join(name)).ok()
    }

    /// A path that the agent was not given.
    pub(crate) fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// The agent's output, as it was kept.
    pub(crate) fn log(&self) -> String {
        use forerunner_core::Host;
        let path = self.host.cache_dir().join("agent-standin-0.log");
        fs::read_to_string(path).expect("a log was kept")
    }
}

/// How many processes have `token` in their command line.
pub(crate) fn alive(token: &str) -> usize {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(token)).count()
}

/// No folder of an agent by this name is left.
pub(crate) fn is_gone(folder: &str) -> bool {
    !Path::new(folder.trim()).exists()
}

fn member(program: Program, seconds: f64, summary: &str) -> Member {
    let idea = Idea {
        summary: summary.to_owned(),
        expected_gain: Some(Interval { low: 0.01, high: 0.05 }),
        ..Idea::default()
    };
    let evaluation = Evaluation::accepted("seconds", seconds);
    Member { id: program.id(), program, evaluation, idea: Some(idea) }
}

fn request() -> ProposalRequest {
    let mut program = Program::single("main.txt", "slow\n");
    program.files.insert("parts/more.txt".to_owned(), "more\n".to_owned());
    let mut task = EnvironmentSpec::new("toy").objective(Objective::minimize("seconds", "s"));
    task.brief = "Make the toy fast.".to_owned();
    task.manual = "A toy is made of words.".to_owned();
    task.noise = [("seconds".to_owned(), 0.125)].into();
    let failure = Attempt {
        idea: Idea { summary: "rewind the spring".to_owned(), ..Idea::default() },
        cause: Cause::Compile,
        findings: vec![Finding::error("compile/error", "no such \u{1b}[31mspring")],
    };
    ProposalRequest {
        iteration: 1,
        seed: 7,
        task,
        parent: member(program, 20.0, "the parent's idea"),
        inspirations: vec![member(Program::single("main.txt", "quick\n"), 15.0, "use a motor")],
        failures: vec![failure],
        island: 0,
        stagnant: 0,
    }
}
