//! Template prompting, two-stage prompting, and what both have in common.

use crate::toy::{
    BLOCKS, Toy, blocks, both, config, details, entry, failed, idea, ideas_first, outcome, request,
    said,
};
use forerunner_llm::Config;
use forerunner_sdk::{Change, Cost, Idea, Interval, Mutator, testkit};

#[test]
fn in_the_template_stage_one_call_gives_idea_and_change() {
    let toy = Toy::saying(config(), &[&both("double the rate", "0.2")]);
    let proposal = toy.propose(1).expect("proposes");
    let Change::Patch(patch) = &proposal.change else { panic!("{:?}", proposal.change) };
    assert!(patch.ends_with(BLOCKS), "{patch}");
    assert_eq!(toy.calls(), ["template fast"]);
    let Idea { summary, expected_gain, mechanism, refutation, stage, model, .. } = &proposal.idea;
    assert_eq!((summary.as_str(), stage.as_str()), ("double the rate", "template"));
    assert_eq!((model.as_str(), refutation.as_str()), ("fast", "spikes"));
    assert_eq!(*expected_gain, Some(Interval { low: 0.02, high: 0.06 }));
    assert!(mechanism.ends_with("falls steadily\nthere are no spikes"), "{mechanism}");
    // Costs are told to the host at once, not with the proposal.
    assert_eq!(proposal.cost, Cost::default());
    assert_eq!(toy.host.spent().dollars, 0.5);
    let details = details(&proposal);
    assert_eq!((details.calls, details.form.as_str(), details.repair), (1, "patch", 0));
    assert_eq!(details.spent, toy.host.spent());
    let progress: Vec<String> = toy.host.progress_messages().into_iter().map(|(_, m)| m).collect();
    assert_eq!(progress, ["asking fast for an idea and a change"]);
}

#[test]
fn after_so_many_iterations_ideas_come_first() {
    let toy = Toy::new(config(), |query, number| match query.purpose {
        "template" => said(&both(&format!("one {number}"), &format!("1.{number}"))),
        "idea" => said(&idea(&format!("two {number}"))),
        _ => said(&blocks(&format!("2.{number}"))),
    });
    for (iteration, stage) in [(20, "template"), (21, "meta"), (500, "meta")] {
        assert_eq!(toy.propose(iteration).expect("proposes").idea.stage, stage);
    }
    assert_eq!(
        toy.calls(),
        ["template fast", "idea fast", "implementation fast", "idea fast", "implementation fast"]
    );
}

/// The stages of proposals at these iterations with so many children without a new best each; what
/// each made is measured before the next.
fn stages(mut config: Config, course: &[(u64, u64)]) -> Vec<String> {
    config.similarity = 1.0;
    let toy = Toy::new(config, |query, number| match query.purpose {
        "template" => said(&both(&format!("one {number}"), &format!("1.{number}"))),
        "idea" => said(&idea(&format!("two {number}"))),
        _ => said(&blocks(&format!("2.{number}"))),
    });
    let stage = |(iteration, stagnant): &(u64, u64)| {
        let mut request = request(*iteration);
        request.stagnant = *stagnant;
        let idea = toy.mutator.propose(&request, &toy.host).expect("proposes").idea;
        toy.mutator.observe(&outcome(*iteration, idea.clone(), 20.0)).expect("learns");
        idea.stage
    };
    course.iter().map(stage).collect()
}

#[test]
fn a_search_that_stagnates_gets_ideas_first_and_may_go_back() {
    let mut config = config();
    config.schedule.template_iterations = 1000;
    config.schedule.stagnation = 5;
    let course = [(1, 0), (2, 4), (3, 5), (4, 0), (1001, 0)];
    assert_eq!(stages(config.clone(), &course), ["template", "template", "meta", "meta", "meta"]);
    config.schedule.back = true;
    let there_and_back = ["template", "template", "meta", "template", "template"];
    assert_eq!(stages(config.clone(), &course), there_and_back);
    config.schedule.stagnation = 0;
    config.schedule.back = false;
    assert_eq!(stages(config, &course), ["template", "template", "template", "template", "meta"]);
}

#[test]
fn an_idea_is_carried_out_by_whoever_has_the_role() {
    let mut config = ideas_first();
    config.models = vec![entry("fast"), entry("thinker"), entry("coder")];
    config.roles.idea = Some("thinker".to_owned());
    config.roles.implementation = Some("coder".to_owned());
    let toy = Toy::saying(config, &[&idea("double the rate"), BLOCKS]);
    let proposal = toy.propose(1).expect("proposes");
    assert_eq!(toy.calls(), ["idea thinker", "implementation coder"]);
    assert_eq!((proposal.idea.model.as_str(), proposal.idea.stage.as_str()), ("thinker", "meta"));
    assert_eq!(details(&proposal).implementation, "coder");
    // Both questions begin alike, so that a provider's cache of prompts serves the second.
    let (first, second) = (toy.messages(0), toy.messages(1));
    assert_eq!(first[0], second[0]);
    let end = first[1].text.find("# What to do").expect("asked for");
    assert_eq!(first[1].text[..end], second[1].text[..end]);
    assert!(toy.last(1).contains("double the rate, because the loss falls steadily"));
}

#[test]
fn a_share_of_proposals_rewrites_the_whole_program() {
    let mut config = config();
    config.rewrite_share = 1.0;
    let program = "fn main() {\n    train(0.3);\n}\n";
    let answer = format!("{}\nmain.rs\n```rust\n{program}```", idea("start afresh"));
    let toy = Toy::saying(config.clone(), &[&answer]);
    let proposal = toy.propose(1).expect("proposes");
    let Change::Files(files) = &proposal.change else { panic!("{:?}", proposal.change) };
    assert_eq!(files["main.rs"], program);
    assert_eq!(
        (proposal.idea.stage.as_str(), details(&proposal).form.as_str()),
        ("rewrite", "program")
    );
    assert!(toy.last(0).contains("the PROGRAM that carries it out"));

    config.rewrite_share = 0.25;
    config.schedule.template_iterations = 200;
    let toy = Toy::new(config, |query, number| {
        assert_eq!(query.purpose, "template");
        said(&both(&format!("number {number}"), &number.to_string()))
    });
    let rewrites = (1..=200)
        .filter(|iteration| toy.propose(*iteration).expect("proposes").idea.stage == "rewrite");
    let rewrites = rewrites.count();
    assert!((30..70).contains(&rewrites), "{rewrites}");
}

#[test]
fn the_same_outcomes_and_answers_give_the_same_calls() {
    let run = |resumed: bool| {
        let mut config = config();
        config.models = vec![entry("fast"), entry("slow"), entry("odd")];
        config.ensemble = forerunner_llm::Ensemble::Bandit;
        config.schedule.template_iterations = 6;
        config.rewrite_share = 0.2;
        config.similarity = 1.0;
        let script = |query: &forerunner_llm::Query<'_>, _: usize| {
            let number = query.seed % 1000 + u64::from(query.ordinal);
            match query.purpose {
                "template" => said(&both(&format!("one {number}"), &format!("1.{number}"))),
                "idea" => said(&idea(&format!("two {number}"))),
                _ => said(&blocks(&format!("2.{number}"))),
            }
        };
        let mut toy = Toy::new(config.clone(), script);
        let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
        for iteration in 1..=20 {
            if resumed && iteration == 11 {
                calls.extend(toy.host.calls());
                toy = Toy::new(config.clone(), script);
                for outcome in &outcomes {
                    toy.mutator.observe(outcome).expect("learns");
                }
            }
            let idea = toy.propose(iteration).expect("proposes").idea;
            let outcome = outcome(iteration, idea, 20.0 - (iteration % 5) as f64);
            toy.mutator.observe(&outcome).expect("learns");
            outcomes.push(outcome);
        }
        calls.extend(toy.host.calls());
        calls
    };
    let calls = run(false);
    assert!(calls.len() > 30);
    let models: std::collections::BTreeSet<&str> =
        calls.iter().map(|(call, _)| call.model.as_str()).collect();
    assert_eq!(models.len(), 3, "all are asked");
    assert_eq!(calls, run(false));
    assert_eq!(calls, run(true));
}

#[test]
fn what_was_answered_before_is_not_asked_again() {
    let toy = Toy::saying(ideas_first(), &[&idea("double the rate"), BLOCKS]);
    let first = toy.propose(7).expect("proposes");
    let again = toy.propose(7).expect("proposes");
    assert_eq!((first, toy.asked()), (again, 2));
}

#[test]
fn an_end_that_is_asked_for_comes_before_the_next_call() {
    let toy = Toy::saying(config(), &[BLOCKS]);
    toy.host.cancel();
    assert_eq!(toy.propose(1), Err(forerunner_sdk::Error::Cancelled));
    assert_eq!(toy.asked(), 0);
}

#[test]
fn failures_of_proposals_are_learned_from() {
    let toy = Toy::saying(config(), &["no"]);
    let error = toy.propose(1).expect_err("nothing in it");
    toy.mutator.observe(&failed(1, &error)).expect("learns");
}

#[test]
fn wrong_configurations_name_the_field() {
    let read = |text: &str| {
        let value = serde_json::from_str(text).expect("JSON");
        testkit::config::<Config>(&value)
            .and_then(|config| forerunner_llm::Llm::new(config).map(drop))
    };
    let check = |text: &str, expected: &str| {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    let with = |rest: &str| {
        format!(r#"{{"models": [{{"name": "m", "model": "x", "provider": "openai"}}]{rest}}}"#)
    };
    assert_eq!(read(&with("")), Ok(()));
    check(r#"{"models": []}"#, "`models`: there is none");
    check("{}", "models");
    check(&with(r#", "modles": 1"#), "modles");
    check(r#"{"models": [{"model": "x"}]}"#, "name");
    check(r#"{"models": [{"name": "a b", "model": "x"}]}"#, "`models.name`");
    check(r#"{"models": [{"name": "m", "weight": -1, "model": "x"}]}"#, "`models.weight`");
    check(r#"{"models": [{"name": "m", "weight": 0, "model": "x"}]}"#, "none can be chosen");
    check(r#"{"models": [{"name": "m", "model": "x", "temprature": 1}]}"#, "temprature");
    check(&with(r#", "roles": {"idea": "n"}"#), "unknown model `n` (known: m)");
    check(&with(r#", "rewrite_share": 2"#), "`rewrite_share`");
    check(&with(r#", "similarity": 0"#), "`similarity`");
    check(&with(r#", "schedule": {"back": true}"#), "`schedule.back`");
    check(&with(r#", "critic": {"enabled": true, "rounds": 9}"#), "`critic.rounds`");
    check(&with(r#", "prompt_tokens": 10"#), "`prompt_tokens`");
    check(&with(r#", "prompts": "/nowhere""#), "`prompts`");
}
