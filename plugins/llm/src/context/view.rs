//! Values as templates see them. Whatever programs, models or compilers wrote is stripped and
//! capped here.

use super::difference::changes;
use crate::{
    text::{capped, estimated_tokens, line, stripped},
    values::{number, percent},
};
use forerunner_sdk::{
    Direction, EnvironmentSpec, Finding, Idea, Member, Metrics, Objectives, Program,
    ProposalRequest, digest,
};
use minijinja::Value;
use serde::Serialize;

/// Bytes of an idea in words, of a compiler's message, and findings of one attempt.
const IDEA: usize = 1_200;
const MESSAGE: usize = 1_600;
const FINDINGS: usize = 6;
/// Metrics that are shown.
const METRICS: usize = 12;
/// Characters of a metric's name.
const METRIC: usize = 48;
/// Bytes of a path, and of a name.
pub(super) const NAME: usize = 100;
#[derive(Serialize)]
pub(super) struct TaskView<'a> {
    name: &'a str,
    track: &'a str,
    summary: &'a str,
    brief: &'a str,
    manual: &'a str,
    objectives: Vec<ObjectiveView<'a>>,
    noise: Vec<NoiseView<'a>>,
}

#[derive(Serialize)]
struct ObjectiveView<'a> {
    metric: &'a str,
    unit: &'a str,
    direction: &'static str,
    target: Option<String>,
}

#[derive(Serialize)]
struct NoiseView<'a> {
    metric: &'a str,
    deviation: String,
}

pub(super) fn task(task: &EnvironmentSpec) -> TaskView<'_> {
    let objectives = task.objectives.0.iter().map(|objective| ObjectiveView {
        metric: &objective.metric,
        unit: &objective.unit,
        direction: match objective.direction {
            Direction::Minimize => "smaller is better",
            Direction::Maximize => "larger is better",
        },
        target: objective.target.map(number),
    });
    let noise = task.noise.iter();
    TaskView {
        name: &task.name,
        track: &task.track,
        summary: &task.summary,
        brief: &task.brief,
        manual: &task.manual,
        objectives: objectives.collect(),
        noise: noise
            .map(|(metric, deviation)| NoiseView { metric, deviation: number(*deviation) })
            .collect(),
    }
}

#[derive(Serialize)]
pub(super) struct ParentView {
    id: String,
    metrics: Vec<MetricView>,
    idea: Option<IdeaView>,
    files: Vec<FileView>,
}

#[derive(Serialize)]
struct MetricView {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct FileView {
    path: String,
    language: &'static str,
    text: String,
}

/// An idea in words.
#[derive(Debug, Serialize)]
pub(crate) struct IdeaView {
    summary: String,
    text: String,
}

impl IdeaView {
    /// All that is known of an idea.
    pub(crate) fn of(idea: &Idea) -> Self {
        let mut text = line(&idea.summary, 300);
        if !idea.mechanism.is_empty() {
            text.push_str("\nMechanism: ");
            text.push_str(&capped(&idea.mechanism, IDEA));
        }
        if let Some(gain) = idea.expected_gain {
            let (low, high) = (percent(gain.low), percent(gain.high));
            text.push_str(&format!("\nExpected gain: {low} to {high}"));
        }
        if !idea.refutation.is_empty() {
            text.push_str("\nRefuted by: ");
            text.push_str(&capped(&idea.refutation, IDEA / 2));
        }
        Self { summary: line(&idea.summary, 300), text }
    }
}

pub(super) fn parent(request: &ProposalRequest) -> ParentView {
    let Member { id, program, evaluation, idea } = &request.parent;
    ParentView {
        id: id.short().to_owned(),
        metrics: metrics(&evaluation.metrics, &request.task.objectives),
        idea: idea.as_ref().filter(|idea| !idea.summary.is_empty()).map(IdeaView::of),
        files: files(program),
    }
}

/// Objectives first, in their order; then the rest by name.
fn metrics(metrics: &Metrics, objectives: &Objectives) -> Vec<MetricView> {
    let objectives = objectives.0.iter().map(|objective| &objective.metric);
    let first = objectives.clone().filter(|name| metrics.contains_key(*name));
    let rest = metrics.keys().filter(|name| !objectives.clone().any(|known| known == *name));
    let view = |name: &String| MetricView { name: plain(name), value: number(metrics[name]) };
    first.chain(rest).take(METRICS).map(view).collect()
}

/// The name of a metric, which stands in a table outside all marks: nothing but letters, digits and
/// a few signs.
fn plain(name: &str) -> String {
    let sign = |c: char| if c.is_ascii_alphanumeric() || "_./-".contains(c) { c } else { '_' };
    name.chars().take(METRIC).map(sign).collect()
}

fn files(program: &Program) -> Vec<FileView> {
    let view = |(path, text): (&String, &String)| FileView {
        path: line(path, NAME),
        language: language(path),
        text: stripped(text),
    };
    program.files.iter().map(view).collect()
}

fn language(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "rs" => "rust",
        "py" => "python",
        "c" | "h" => "c",
        "cc" | "cpp" | "hpp" => "cpp",
        "cu" => "cuda",
        "js" => "javascript",
        "ts" => "typescript",
        "jl" => "julia",
        "go" => "go",
        "toml" => "toml",
        "json" => "json",
        _ => "",
    }
}

pub(super) fn telemetry(request: &ProposalRequest) -> String {
    digest(&request.parent.evaluation, &request.task.objectives.0, None)
}

#[derive(Serialize)]
pub(super) struct FailureView {
    summary: String,
    cause: &'static str,
    findings: Vec<FindingView>,
}

/// One reason for a failure.
#[derive(Debug, Serialize)]
pub(crate) struct FindingView {
    rule: String,
    place: Option<String>,
    message: String,
}

pub(super) fn failures(request: &ProposalRequest) -> Vec<FailureView> {
    let view = |attempt: &forerunner_sdk::Attempt| FailureView {
        summary: line(&attempt.idea.summary, 300),
        cause: attempt.cause.as_str(),
        findings: finding_views(&attempt.findings, MESSAGE),
    };
    request.failures.iter().map(view).collect()
}

/// The gravest findings, with at most so many bytes of each message.
pub(crate) fn finding_views(findings: &[Finding], message: usize) -> Vec<FindingView> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let view = |finding: &&Finding| FindingView {
        rule: line(&finding.rule, NAME),
        place: finding.place.as_ref().map(|place| line(place, NAME)),
        message: capped(&finding.message, message),
    };
    sorted.iter().take(FINDINGS).map(view).collect()
}

/// Another program, with or without its source.
pub(super) struct Source {
    with: Option<(Value, usize)>,
    without: Value,
}

impl Source {
    pub(super) fn has_source(&self) -> bool {
        self.with.is_some()
    }
    pub(super) fn drop_source(&mut self) {
        self.with = None;
    }
    /// Estimated tokens of the source alone.
    pub(super) fn tokens(&self) -> usize {
        self.with.as_ref().map_or(0, |(_, tokens)| *tokens)
    }
    /// A cheap copy: values are shared.
    pub(super) fn value(&self) -> Value {
        self.with.as_ref().map_or(&self.without, |(value, _)| value).clone()
    }
}

#[derive(Serialize)]
struct InspirationView<'a> {
    id: &'a str,
    gain: Option<String>,
    metrics: Vec<MetricView>,
    idea: Option<IdeaView>,
    changes: Option<&'a str>,
    files: Vec<FileView>,
}

pub(super) fn inspirations(request: &ProposalRequest, others: &[Member]) -> Vec<Source> {
    let own = &request.parent;
    let objectives = &request.task.objectives;
    let view = |other: &Member| {
        let inspiration = |changes, files| {
            let gain = objectives.gain(&own.evaluation.metrics, &other.evaluation.metrics);
            super::value(InspirationView {
                id: other.id.short(),
                gain: gain.map(percent),
                metrics: metrics(&other.evaluation.metrics, objectives),
                idea: other.idea.as_ref().filter(|i| !i.summary.is_empty()).map(IdeaView::of),
                changes,
                files,
            })
        };
        let changes = changes(&own.program, &other.program);
        let without = inspiration(None, Vec::new());
        let with = match &changes {
            Some(changes) if changes.is_empty() => None,
            Some(changes) => {
                Some((inspiration(Some(changes), Vec::new()), estimated_tokens(changes)))
            }
            None => {
                let files = files(&other.program);
                let tokens = files.iter().map(|file| estimated_tokens(&file.text)).sum();
                Some((inspiration(None, files), tokens))
            }
        };
        Source { with, without }
    };
    others.iter().map(view).collect()
}
