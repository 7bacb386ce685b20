//! A store in which every text is an attack on whatever shows it.

use forerunner_core::{
    Cause, Cost, Evaluation, Evidence, Finding, Idea, Interval, Metrics, Objective, Objectives,
    Operation, Probe, Program, ProgramId, Section, Slice,
};
use forerunner_runtime::{
    config::{Level, RunFile},
    event::{Confirmation, EndReason, Evaluated, Event, EventKind, Finalist, Record, Summary},
    store::{Iteration, Store},
};
use std::path::Path;

/// Breaks out of scripts, styles, titles, attributes and comments, and runs when it is out.
pub(crate) const PAYLOAD: &str = "</script></style></title></textarea>--><img src=x onerror=\"\
    document.documentElement.dataset.pwned=1\"><svg onload='document.documentElement.dataset\
    .pwned=2'></svg><script>document.documentElement.dataset.pwned=3</script>\"'`&lt;&#60;\
    \u{2028}\u{202e}\u{0}\u{1b}[2J";

/// Fields whose text is on the page, by the word that stands before the payload.
pub(crate) const FIELDS: [&str; 30] = [
    "run",
    "environment",
    "track",
    "about",
    "metric",
    "unit",
    "axis",
    "mutator",
    "idea",
    "path",
    "source",
    "rule",
    "message",
    "place",
    "section",
    "operation",
    "number",
    "fact",
    "value",
    "series",
    "warning",
    "worker",
    "setting",
    "identity",
    "probe",
    "figure",
    "hook",
    "opinion",
    "ledger",
    "artifact",
];

fn text(field: &str) -> String {
    format!("{field}{PAYLOAD}")
}

fn metrics(value: f64) -> Metrics {
    Metrics::from([(text("metric"), value), (text("axis"), 10.0 - value), (text("other"), 1.0)])
}

fn objectives() -> (Objectives, Vec<Objective>) {
    let first = Objective::minimize(text("metric"), text("unit"));
    let second = Objective::maximize(text("axis"), text("unit"));
    (Objectives(vec![first.clone()]), vec![first, second])
}

fn program(line: u32) -> Program {
    Program::single(text("path"), format!("{line}\n{}\n", text("source")))
}

fn accepted(value: f64) -> Evaluation {
    let mut evaluation = Evaluation::accepted("", 0.0);
    evaluation.metrics = metrics(value);
    evaluation.findings = vec![Finding::warning(text("rule"), text("message"))];
    let telemetry = &mut evaluation.telemetry;
    telemetry.sections = vec![Section { seconds: value, ..section() }];
    telemetry.operations =
        vec![Operation { name: text("operation"), calls: 1, seconds: value, bytes: 1, flops: 1 }];
    telemetry.numbers.insert(text("number"), value);
    telemetry.facts.insert(text("fact"), text("value"));
    telemetry.facts.insert(format!("hook.{}", text("hook")), text("opinion"));
    evaluation.evidence = Evidence {
        probes: vec![Probe::new(text("probe"), 1, 0).with(text("figure"), 0.5)],
        ledger: [(text("ledger"), 1)].into(),
        artifacts: [(text("artifact"), text("file").into())].into(),
        digest: Some(text("digest")),
    };
    let telemetry = &mut evaluation.telemetry;
    telemetry.series.insert(text("series"), vec![(0, 2.0), (1, value)]);
    evaluation
}

fn section() -> Section {
    let json = serde_json::json!({ "name": text("section"), "calls": 1, "seconds": 0.0 });
    serde_json::from_value(json).expect("a section")
}

fn refused() -> Evaluation {
    let long = text("message") + &"long ".repeat(10_000);
    Evaluation::failed(Cause::Rule, Finding::error(text("rule"), long).at(text("place")))
}

fn event(kind: EventKind) -> Event {
    Event { at: 1.0, kind }
}

/// Makes a store with a reference, a better program that was confirmed, and a failure.
pub(crate) fn store(folder: &Path) {
    let config = r#"
        environment = { name = "e", config = {} }
        mutator = [{ name = "m" }]
        selector = { name = "s" }
        budget = { evaluations = 3 }
    "#;
    let mut config = RunFile::parse("run.toml", config, &[]).expect("a run file");
    config.environment.name = text("setting");
    config.environment.config = serde_json::json!({ text("key"): text("setting") });
    config.mutators[0].name = text("mutator");
    let mut store = Store::create(folder, &config).expect("a store");
    store.set_meta("environment", &text("identity").replace(' ', "_")).expect("written");

    let (objectives, frontier) = objectives();
    store.record_events(&[event(started(objectives, frontier))]).expect("written");
    let (reference, winner) = (program(1), program(2));
    let mut iteration = Iteration {
        iteration: 0,
        generation: 0,
        island: 0,
        mutator: String::new(),
        parent: None,
        program: Some(reference.id()),
        idea: Idea::default(),
        cost: Cost::default(),
        repairs: 0,
        duplicate: false,
    };
    store.record_iteration(&iteration, Some(&reference), 1, &accepted(2.0), &[]).expect("written");
    iteration.iteration = 1;
    iteration.mutator = text("mutator");
    iteration.parent = Some(reference.id());
    iteration.program = Some(winner.id());
    let expected_gain = Some(Interval { low: 0.1, high: 0.2 });
    let details = serde_json::json!({ text("key"): text("value") });
    iteration.idea = Idea { summary: text("idea"), expected_gain, details, ..Idea::default() };
    let events = [evaluated(&iteration, accepted(1.0))];
    store.record_iteration(&iteration, Some(&winner), 1, &accepted(1.0), &events).expect("written");
    iteration.iteration = 2;
    iteration.program = None;
    let events = [evaluated(&iteration, refused())];
    store.record_iteration(&iteration, None, 1, &refused(), &events).expect("written");
    for (seed, program) in [(7, &reference), (8, &reference), (7, &winner), (8, &winner)] {
        let id = program.id();
        store.record_confirmation(&id, seed, Slice::Val, &accepted(1.0), &[]).expect("written");
    }
    let troubles = [
        EventKind::Warning { message: text("warning") },
        EventKind::WorkerLost { worker: text("worker"), reason: text("reason") },
        EventKind::RunFinished(Box::new(summary(winner.id()))),
    ];
    store.record_events(&troubles.map(event)).expect("written");
}

fn started(objectives: Objectives, frontier: Vec<Objective>) -> EventKind {
    EventKind::RunStarted {
        run: text("run"),
        environment: text("environment"),
        track: text("track"),
        summary: text("about"),
        objectives,
        frontier,
        seed: 1,
        slots: 1,
        evaluations: Some(2),
        seconds: None,
        dollars: None,
        tokens: None,
        resumed: 0,
    }
}

fn evaluated(iteration: &Iteration, evaluation: Evaluation) -> Event {
    event(EventKind::Evaluated(Box::new(Evaluated {
        iteration: iteration.iteration,
        generation: 0,
        mutator: iteration.mutator.clone(),
        island: 0,
        parent: iteration.parent.clone().expect("a child has one"),
        program: iteration.program.clone(),
        idea: iteration.idea.clone(),
        repairs: 0,
        evaluation,
        on_frontier: true,
        duplicate: false,
    })))
}

/// An attempt at a record that the replay refuses.
fn record(gain: serde_json::Value) -> Record {
    let record = serde_json::json!({
        "plan": {
            "attempt": 1, "program": "aa", "reference": "bb", "slice": "vault",
            "seeds": [1, 2], "disguise": 3, "confidence": 0.97,
        },
        "vault": {
            "reference": [metrics(2.0), metrics(2.0)],
            "finalist": {
                "program": "aa", "metrics": [metrics(1.0), metrics(1.0)],
                "metric": text("metric"), "gain": gain, "holds": true,
            },
        },
        "disguise": {
            "metrics": [metrics(1.0), {}],
            "compared": [{ "metric": text("metric"), "logarithmic": false, "test": null }],
            "holds": false,
        },
        "replay": { "first": text("first"), "again": text("again"), "holds": false },
        "sessions": 1, "repeated": 0, "holds": false,
    });
    serde_json::from_value(record).expect("a record")
}

fn summary(winner: ProgramId) -> Summary {
    let gain = serde_json::json!({
        "mean": 0.7, "low": 0.6, "high": 0.8, "sd": 0.1, "n": 2, "confidence": 0.95,
    });
    Summary {
        reason: EndReason::Evaluations,
        run: text("run"),
        iterations: 2,
        accepted: 1,
        failures: [("rule".to_owned(), 1), (text("cause"), 1)].into(),
        reference: metrics(2.0),
        best: winner.clone(),
        best_metrics: metrics(1.0),
        frontier: vec![(winner.clone(), metrics(1.0))],
        confirmation: Some(Confirmation {
            slice: Slice::Val,
            level: Level::Claim,
            record: Some(record(gain.clone())),
            reference: vec![metrics(2.0), metrics(2.0)],
            finalists: vec![Finalist {
                program: winner,
                metrics: vec![metrics(1.0), metrics(1.0)],
                metric: text("metric"),
                gain: Some(serde_json::from_value(gain).expect("an estimate")),
                holds: true,
            }],
        }),
        slot_use: 1.0,
        cost: Default::default(),
        replay_of: None,
        seconds: 1.0,
    }
}
