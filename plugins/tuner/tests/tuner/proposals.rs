//! Single proposals: what they change, what they say, and that they do not repeat themselves.

use crate::landscape::{Plan, apply, constants, outcome, search, time_to_target};
use forerunner_sdk::{
    EnvironmentSpec, Evaluation, Interval, Member, Mutator, NoHost, Objective, Program, Proposal,
    ProposalRequest,
};
use forerunner_tuner::{Config, Tuner};
use std::collections::BTreeSet;

fn tuner() -> Tuner {
    Tuner::new(Config::default()).expect("sound")
}

fn request(file: &str, text: &str, iteration: u64) -> ProposalRequest {
    let program = Program::single(file, text);
    ProposalRequest {
        iteration,
        seed: iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        task: EnvironmentSpec::new("toy").objective(Objective::minimize("seconds", "s")),
        parent: Member {
            id: program.id(),
            program,
            evaluation: Evaluation::accepted("seconds", 20.0),
            idea: None,
        },
        inspirations: vec![],
        failures: vec![],
        island: 0,
        stagnant: 0,
    }
}

fn propose(tuner: &Tuner, request: &ProposalRequest) -> Proposal {
    tuner.propose(request, &NoHost).expect("a proposal")
}

#[test]
fn a_proposal_says_what_it_does_and_what_it_hopes_for() {
    let text = "/// tune: log 1e-4 3e-2\nconst LEARNING_RATE: f64 = 3e-3;\n";
    let request = request("main.rs", text, 1);
    let proposal = propose(&tuner(), &request);
    let child = apply(&request.parent.program, &proposal);
    let value = child.files["main.rs"].split(" = ").nth(1).expect("a value").trim_end();
    let value = value.trim_end_matches(';');
    assert!(value.contains('e'), "written as it was: {value}");
    assert_eq!(proposal.idea.summary, format!("LEARNING_RATE 3e-3 → {value} (perturb)"));
    assert_eq!(child.files["main.rs"], text.replace("3e-3;", &format!("{value};")));
    let Some(Interval { low, high }) = proposal.idea.expected_gain else { panic!("no gain") };
    assert!(
        low < high && (-1.0..0.5).contains(&low) && (-0.5..0.9).contains(&high),
        "{low} {high}"
    );
    assert_eq!(proposal.idea.details["changes"][0]["to"], value);
}

#[test]
fn a_program_without_constants_is_refused_with_a_hint() {
    let text = "/// tune: cube 1 2\nconst A: f64 = 1.5;\n";
    let error = tuner().propose(&request("main.rs", text, 1), &NoHost).expect_err("nothing");
    assert_eq!(
        error.to_string(),
        "the program has no constant to tune\n\
         annotation at main.rs:2: unknown kind `cube` (known: log, logit, linear, int, choice)\n\
         hint: write `/// tune: log 1e-4 1e-1` above `const LEARNING_RATE: f64 = 3e-3;`"
    );
}

#[test]
fn every_child_is_new_until_there_is_none_left() {
    let tuner = tuner();
    let text = "/// tune: int 1 3\nconst A: usize = 2;\n/// tune: choice x y\nconst B: T = x;\n";
    let mut seen = BTreeSet::from([text.to_owned()]);
    for iteration in 1..=5 {
        let request = request("main.rs", text, iteration);
        let child = apply(&request.parent.program, &propose(&tuner, &request));
        assert!(seen.insert(child.files["main.rs"].clone()), "{seen:?}");
    }
    let error = tuner.propose(&request("main.rs", text, 6), &NoHost).expect_err("all were made");
    assert!(error.to_string().starts_with("every child within reach"), "{error}");
    assert!(error.to_string().contains("\nhint: "), "{error}");
}

#[test]
fn rules_between_constants_hold_in_every_child() {
    let text = "/// tune: int 16 256 multiple HEADS\nconst WIDTH: usize = 64;\n\
                /// tune: int 1 16 divides WIDTH\nconst HEADS: usize = 4;\n\
                /// tune: int 8 512 multiple 8\nconst CONTEXT: usize = 64;\n\
                const LAYERS: usize = 6;\n\
                /// tune: int 1 6 divides LAYERS\nconst GROUPS: usize = 2;\n";
    let tuner = tuner();
    let mut widths = BTreeSet::new();
    for iteration in 1..=200 {
        let request = request("main.rs", text, iteration);
        let child = apply(&request.parent.program, &propose(&tuner, &request));
        let c = constants(&child);
        assert_eq!(c["WIDTH"] % c["HEADS"], 0.0, "{c:?}");
        assert_eq!(c["CONTEXT"] % 8.0, 0.0, "{c:?}");
        assert_eq!(c["LAYERS"] % c["GROUPS"], 0.0, "{c:?}");
        assert!((16.0..=256.0).contains(&c["WIDTH"]), "{c:?}");
        widths.insert(c["WIDTH"] as u64);
    }
    assert!(widths.len() > 5, "{widths:?}");
}

#[test]
fn values_of_any_sign_and_outcomes_of_any_kind_are_taken_in() {
    let tuner = tuner();
    let text = "a = -3\nb = 2.5\nc = 0.999\n";
    for iteration in 1..=40 {
        let mut request = request("params.toml", text, iteration);
        request.task = EnvironmentSpec::new("toy")
            .objective(Objective::maximize("score", ""))
            .objective(Objective::minimize("bytes", "B"));
        request.parent.evaluation = Evaluation::accepted("score", -1.0);
        let proposal = propose(&tuner, &request);
        let program = apply(&request.parent.program, &proposal);
        let evaluation = match iteration % 4 {
            0 => Evaluation::accepted("score", iteration as f64 - 20.0),
            1 => Evaluation::accepted("bytes", 0.0),
            2 => Evaluation::accepted("unheard_of", 1.0),
            _ => Evaluation::failed(
                forerunner_sdk::Cause::Compile,
                forerunner_sdk::Finding::error("compile/error", "no"),
            ),
        };
        let child = Member { id: program.id(), program, evaluation, idea: None };
        let mut outcome = outcome(&request, proposal.idea, &child);
        if iteration % 4 == 3 {
            outcome.program = None;
        }
        tuner.observe(&outcome).expect("observed");
    }
}

#[test]
fn outcomes_of_other_mutators_are_ignored() {
    let tuner = tuner();
    let request = request("main.rs", "const A: f64 = 0.5;\n", 1);
    let idea = forerunner_sdk::Idea {
        summary: "rewrite the loop".into(),
        details: serde_json::json!({"model": "x", "operator": 3}),
        ..forerunner_sdk::Idea::default()
    };
    let child = request.parent.clone();
    tuner.observe(&outcome(&request, idea, &child)).expect("ignored");
    assert_eq!(propose(&tuner, &request), propose(&self::tuner(), &request));
}

#[test]
fn searches_replay_and_resume_identically() {
    let landscape = time_to_target();
    let plan = |evaluations| Plan { evaluations, at_once: 5, seed: 4 };
    let ids = |evaluations| {
        let members = search(&landscape, &tuner(), &plan(evaluations));
        members.into_iter().map(|member| member.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(20), ids(20));

    // A mutator that only observed what another one did goes on as that one would have.
    struct Recorder(Tuner, std::sync::Mutex<Vec<forerunner_sdk::Outcome>>);
    impl Mutator for Recorder {
        fn propose(
            &self,
            request: &ProposalRequest,
            host: &dyn forerunner_sdk::Host,
        ) -> forerunner_sdk::Result<Proposal> {
            self.0.propose(request, host)
        }
        fn observe(&self, outcome: &forerunner_sdk::Outcome) -> forerunner_sdk::Result<()> {
            self.1.lock().expect("one thread").push(outcome.clone());
            self.0.observe(outcome)
        }
    }
    let recorder = Recorder(tuner(), std::sync::Mutex::default());
    let members = search(&landscape, &recorder, &plan(20));
    let resumed = tuner();
    for outcome in recorder.1.lock().expect("one thread").iter() {
        // As from a store: through text.
        let text = serde_json::to_string(outcome).expect("plain data");
        resumed.observe(&serde_json::from_str(&text).expect("own text")).expect("observed");
    }
    let mut request = request("main.rs", landscape.source, 21);
    request.parent = members.last().expect("the latest").clone();
    request.task = landscape.task();
    assert_eq!(propose(&recorder.0, &request), propose(&resumed, &request));
}
