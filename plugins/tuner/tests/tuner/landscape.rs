//! Synthetic landscapes, and a host that searches them: programs are real text, measurements are
//! formulas with noise.

use forerunner_sdk::{
    Cause, Change, EnvironmentSpec, Evaluation, Finding, Idea, Member, Metrics, Mutator, NoHost,
    Objective, Objectives, Outcome, Program, Proposal, ProposalRequest, Seed, Verdict,
};
use std::collections::BTreeMap;

/// What a measurement says of a program's constants.
pub(crate) enum Truth {
    Metrics(Vec<(&'static str, f64)>),
    Crash,
}

/// A synthetic environment.
pub(crate) struct Landscape {
    pub(crate) source: &'static str,
    pub(crate) objectives: Vec<Objective>,
    /// The metrics without noise.
    pub(crate) truth: fn(&BTreeMap<String, f64>) -> Truth,
    /// Metrics that are only reported when `loss` is at most this.
    pub(crate) target: Option<f64>,
    /// Relative standard deviation of each metric.
    pub(crate) noise: fn(&str) -> f64,
}

/// A smooth bowl in the logarithms of eight constants, three of them useless; 2 % noise. The
/// reference costs 1.70 times the optimum.
pub(crate) fn bowl() -> Landscape {
    fn truth(c: &BTreeMap<String, f64>) -> Truth {
        let off = |name: &str, best: f64| (c[name] / best).ln();
        let (lr, decay) = (off("LEARNING_RATE", 7e-3), off("DECAY", 0.03));
        let momentum = ((1.0 - c["MOMENTUM"]) / 0.03).ln();
        let (width, heat) = (off("WIDTH", 96.0), off("HEAT", 0.8));
        let bowl = 0.25 * lr * lr
            + 0.10 * decay * decay
            + 0.15 * momentum * momentum
            + 0.30 * width * width
            + 0.10 * heat * heat
            + 0.10 * lr * momentum;
        Truth::Metrics(vec![("cost", 10.0 * bowl.exp())])
    }
    Landscape {
        source: "//! A bowl.\n\n\
            /// tune: log 1e-4 1e-1\nconst LEARNING_RATE: f64 = 3e-3;\n\
            /// tune: log 1e-3 1.0\nconst DECAY: f64 = 0.1;\n\
            /// tune: logit 0.5 0.999\nconst MOMENTUM: f64 = 0.9;\n\
            /// tune: int 16 512\nconst WIDTH: usize = 64;\n\
            /// tune: linear 0.1 3.0\nconst HEAT: f64 = 1.5;\n\
            /// tune: log 1e-9 1e-5\nconst EPSILON: f64 = 1e-8;\n\
            /// tune: int 1 64\nconst LOG_EVERY: usize = 10;\n\
            /// tune: linear 0.0 1.0\nconst FLOOR: f64 = 0.1;\n\nfn main() {}\n",
        objectives: vec![Objective::minimize("cost", "s")],
        truth,
        target: None,
        noise: |_| 0.02,
    }
}

/// Seconds to a target loss: a run of a fixed number of steps counts only when it ends at or
/// below the target. Ten constants, two useless. Loss falls by 0.3 per e-fold of steps, as
/// measured on small GPTs; the reference reaches the target with 1 % to spare; 2 % noise on the
/// clock, 0.3 % on the loss; a very high learning rate diverges.
pub(crate) fn time_to_target() -> Landscape {
    fn truth(c: &BTreeMap<String, f64>) -> Truth {
        let ratio = |name: &str, reference: f64| c[name] / reference;
        let (steps, batch) = (ratio("STEPS", 2400.0), ratio("BATCH", 8.0));
        let width = ratio("WIDTH", 64.0);
        if c["WIDTH"] % c["HEADS"] != 0.0 || c["LEARNING_RATE"] > 4e-2 {
            return Truth::Crash;
        }
        let lr = (c["LEARNING_RATE"] / (6e-3 * batch.sqrt())).ln();
        let beta = ((1.0 - c["BETA2"]) / 0.02).ln();
        let warmup = (c["WARMUP"] / 0.05).ln();
        let init = (c["INIT_STD"] / 0.09).ln();
        let heads = (c["HEADS"] / 4.0).ln();
        let penalty = 0.10 * lr * lr
            + 0.02 * beta * beta
            + 0.01 * warmup * warmup
            + 0.04 * init * init
            + 0.03 * heads * heads;
        let learnt = steps.powf(-0.35) * batch.powf(-0.15) * width.powf(-0.12);
        let loss = 0.55 + 0.85 * learnt * (1.0 + penalty);
        let seconds = 24.0 * steps * (0.25 + 0.75 * batch * width.powf(1.5));
        Truth::Metrics(vec![("seconds", seconds), ("loss", loss)])
    }
    Landscape {
        source: "//! A small GPT.\n\n\
            /// tune: int 100 20000\nconst STEPS: usize = 2_400;\n\
            /// tune: int 1 64\nconst BATCH: usize = 8;\n\
            /// tune: int 16 256 multiple HEADS\nconst WIDTH: usize = 64;\n\
            /// tune: int 1 16\nconst HEADS: usize = 4;\n\
            /// tune: log 1e-4 1e-1\nconst LEARNING_RATE: f64 = 3e-3;\n\
            /// tune: logit 0.8 0.9999\nconst BETA2: f64 = 0.99;\n\
            /// tune: log 1e-3 0.5\nconst WARMUP: f64 = 0.1;\n\
            /// tune: log 1e-3 0.5\nconst INIT_STD: f64 = 0.05;\n\
            /// tune: log 1e-9 1e-5\nconst EPSILON: f64 = 1e-8;\n\
            /// tune: log 1e-3 1.0\nconst CLIP: f64 = 0.5;\n\nfn main() {}\n",
        objectives: vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")],
        truth,
        target: Some(1.4856),
        noise: |metric| if metric == "loss" { 0.003 } else { 0.02 },
    }
}

/// The values of all constants of a program, read without the tuner's own reader.
pub(crate) fn constants(program: &Program) -> BTreeMap<String, f64> {
    let lines = program.files.values().flat_map(|text| text.lines());
    lines
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("const ")?.split_once(": ")?;
            let value = rest.split_once(" = ")?.1.strip_suffix(';')?;
            Some((name.to_owned(), value.replace('_', "").parse().ok()?))
        })
        .collect()
}

impl Landscape {
    pub(crate) fn task(&self) -> EnvironmentSpec {
        let mut task = EnvironmentSpec::new("landscape");
        task.objectives = Objectives(self.objectives.clone());
        task
    }

    pub(crate) fn reference(&self) -> Program {
        Program::single("main.rs", self.source)
    }

    /// The metrics without noise; empty for a crash.
    pub(crate) fn exact(&self, program: &Program) -> Metrics {
        match (self.truth)(&constants(program)) {
            Truth::Metrics(metrics) => {
                metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }
            Truth::Crash => Metrics::new(),
        }
    }

    pub(crate) fn measure(&self, program: &Program, seed: Seed) -> Evaluation {
        let mut metrics = self.exact(program);
        if metrics.is_empty() {
            return Evaluation::failed(Cause::Crash, Finding::error("run/crash", "crashed"));
        }
        for (idx, (name, value)) in metrics.iter_mut().enumerate() {
            let normal = (0..12).map(|n| seed.derive("noise", idx as u64 * 12 + n).unit());
            *value *= 1.0 + (self.noise)(name) * (normal.sum::<f64>() - 6.0);
        }
        if let Some(target) = self.target {
            // Like the environments it stands for: what was spent is known also when the target
            // is missed.
            metrics.insert("spent".to_owned(), metrics["seconds"]);
            if metrics["loss"] > target {
                metrics.remove("seconds");
            }
        }
        Evaluation { metrics, ..Evaluation::accepted("", 0.0) }
    }
}

/// How a search goes.
pub(crate) struct Plan {
    pub(crate) evaluations: u64,
    /// How many proposals are made before their outcomes are known.
    pub(crate) at_once: u64,
    pub(crate) seed: u64,
}

/// Searches a landscape as the host does, parents by rank from the twenty best, and answers all
/// measured members in order of iteration, the reference first.
pub(crate) fn search(landscape: &Landscape, mutator: &dyn Mutator, plan: &Plan) -> Vec<Member> {
    let seed = Seed(plan.seed);
    let task = landscape.task();
    let member = |program: Program, n: u64| {
        let evaluation = landscape.measure(&program, seed.derive("measure", n));
        Member { id: program.id(), program, evaluation, idea: None }
    };
    let mut members = vec![member(landscape.reference(), 0)];
    while (members.len() as u64) <= plan.evaluations {
        let first = members.len() as u64;
        let mut ranked: Vec<&Member> =
            members.iter().filter(|m| m.evaluation.verdict == Verdict::Accepted).collect();
        ranked
            .sort_by(|a, b| task.objectives.compare(&a.evaluation.metrics, &b.evaluation.metrics));
        ranked.truncate(20);
        let requests: Vec<ProposalRequest> = (first..first + plan.at_once)
            .map(|iteration| {
                let draw = seed.derive("select", iteration).unit().powi(3);
                let parent = ranked[(draw * ranked.len() as f64) as usize];
                let others = ranked.iter().filter(|m| m.id != parent.id).take(4);
                ProposalRequest {
                    iteration,
                    seed: seed.derive("propose", iteration).0,
                    task: task.clone(),
                    parent: parent.clone(),
                    inspirations: others.map(|m| (*m).clone()).collect(),
                    failures: vec![],
                    island: 0,
                    stagnant: 0,
                }
            })
            .collect();
        let proposals: Vec<(ProposalRequest, Proposal)> = requests
            .into_iter()
            .map(|request| {
                let proposal = mutator.propose(&request, &NoHost).expect("a proposal");
                (request, proposal)
            })
            .collect();
        for (request, proposal) in proposals {
            let child = member(apply(&request.parent.program, &proposal), request.iteration);
            let outcome = outcome(&request, proposal.idea, &child);
            mutator.observe(&outcome).expect("observed");
            members.push(child);
        }
    }
    members
}

pub(crate) fn apply(parent: &Program, proposal: &Proposal) -> Program {
    let Change::Files(files) = &proposal.change else { panic!("the tuner changes files") };
    let mut child = parent.clone();
    child.files.extend(files.clone());
    child
}

pub(crate) fn outcome(request: &ProposalRequest, idea: Idea, child: &Member) -> Outcome {
    Outcome {
        iteration: request.iteration,
        idea,
        parent: request.parent.id.clone(),
        parent_evaluation: request.parent.evaluation.clone(),
        program: Some(child.id.clone()),
        evaluation: child.evaluation.clone(),
    }
}

/// The member that a search would submit: the best as measured.
pub(crate) fn best<'a>(landscape: &Landscape, members: &'a [Member]) -> &'a Member {
    let objectives = Objectives(landscape.objectives.clone());
    let accepted = members.iter().filter(|m| m.evaluation.is_accepted());
    accepted
        .min_by(|a, b| objectives.compare(&a.evaluation.metrics, &b.evaluation.metrics))
        .expect("the reference is accepted")
}

/// Median over seeds of the true gain of what a search submits, as a factor: 2 is twice as good.
pub(crate) fn median_gain(
    landscape: &Landscape,
    at_once: u64,
    seeds: std::ops::Range<u64>,
    make: &dyn Fn() -> Box<dyn Mutator>,
) -> f64 {
    let leading = &landscape.objectives[0].metric;
    let start = landscape.exact(&landscape.reference())[leading];
    let mut gains: Vec<f64> = seeds
        .map(|seed| {
            let plan = Plan { evaluations: 30, at_once, seed };
            let members = search(landscape, make().as_ref(), &plan);
            start / landscape.exact(&best(landscape, &members).program)[leading]
        })
        .collect();
    gains.sort_by(f64::total_cmp);
    (gains[(gains.len() - 1) / 2] + gains[gains.len() / 2]) / 2.0
}
