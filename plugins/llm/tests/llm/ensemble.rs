//! Several models: who is asked, who stands in, and how the better one is found.

use crate::toy::{Toy, both, config, details, entry, idea, ideas_first, not_said, outcome, said};
use forerunner_llm::{Config, Details, Ensemble};
use forerunner_sdk::Answered;

fn three() -> Config {
    let mut config = config();
    config.models = vec![entry("a"), entry("b"), entry("c")];
    config
}

fn number_in(query: &forerunner_llm::Query<'_>) -> String {
    format!("{}", query.seed % 100_000)
}

#[test]
fn the_next_model_is_asked_when_one_cannot_be_had() {
    for kind in
        ["circuit_open", "unavailable", "rate_limited", "timeout", "network", "unauthorized"]
    {
        let mut config = three();
        config.models[0].weight = 0.0;
        config.models[2].weight = 0.0;
        let toy = Toy::new(config, move |query, _| match query.model {
            "b" => not_said(kind),
            "c" => said(&both("double the rate", "0.2")),
            _ => panic!("comes after c"),
        });
        let proposal = toy.propose(1).expect("proposes");
        assert_eq!(toy.calls(), ["template b", "template c"]);
        assert_eq!(proposal.idea.model, "c");
        let details: Details = serde_json::from_value(proposal.idea.details).expect("our own");
        assert_eq!(details.unavailable, [format!("b: {kind}")]);
        let ordinals: Vec<u32> = toy.host.calls().iter().map(|(call, _)| call.ordinal).collect();
        assert_eq!(ordinals, [0, 1]);
    }
}

#[test]
fn a_model_that_is_gone_is_stood_in_for_and_other_bad_requests_are_not() {
    let answer = |message: &'static str| {
        let mut config = three();
        config.models[0].weight = 0.0;
        config.models[2].weight = 0.0;
        Toy::new(config, move |query, _| match query.model {
            "b" => {
                Answered::Failed { kind: "invalid_request".to_owned(), message: message.to_owned() }
            }
            _ => said(&both("double the rate", "0.2")),
        })
    };
    let toy = answer("HTTP 404: no such model");
    assert_eq!(toy.propose(1).expect("proposes").idea.model, "c");
    let toy = answer("HTTP 400: you may not stream\nhint: set stream = false");
    let error = toy.fails(1);
    assert!(error.contains("you may not stream\nhint: set stream = false"), "{error}");
    assert_eq!(toy.calls(), ["template b"]);
}

#[test]
fn the_chosen_model_is_noted_whoever_has_roles() {
    let mut config = ideas_first();
    config.models = vec![entry("a"), entry("b"), entry("thinker")];
    config.models[1].weight = 0.0;
    config.models[2].weight = 0.0;
    config.roles.idea = Some("thinker".to_owned());
    let answer = |query: &forerunner_llm::Query<'_>| match query.purpose {
        "idea" => said(&idea("double the rate")),
        _ => said(&both("x", "0.2")),
    };
    let toy = Toy::new(config.clone(), move |query, _| answer(query));
    let proposal = toy.propose(1).expect("proposes");
    assert_eq!(
        (proposal.idea.model.as_str(), details(&proposal).chosen.as_str()),
        ("thinker", "a")
    );
    // Where it cannot be had, whoever stood in.
    let toy = Toy::new(config, move |query, _| match query.model {
        "a" => not_said("unavailable"),
        _ => answer(query),
    });
    let proposal = toy.propose(1).expect("proposes");
    assert_eq!(
        (proposal.idea.model.as_str(), details(&proposal).chosen.as_str()),
        ("thinker", "b")
    );
}

#[test]
fn gains_are_counted_against_dollars_only_where_every_model_costs_some() {
    let llm = |price: &str, per: &str| {
        let text = format!(
            r#"{{"models": [{{"name": "a", "model": "x", "base_url": "http://localhost:1/v1", "price": {price}}}]{per}}}"#
        );
        forerunner_llm::Llm::new(serde_json::from_str(&text).expect("a configuration"))
    };
    let (free, dear) = (r#"{"input": 0.0, "output": 0.0}"#, r#"{"input": 1.0, "output": 2.0}"#);
    let per = r#", "credit_per": "dollars""#;
    let error = llm(free, per).err().expect("refused").to_string();
    assert!(error.contains("credit_per") && error.contains("`a`"), "{error}");
    assert!(llm(free, "").is_ok() && llm(dear, per).is_ok());
}

#[test]
fn when_none_can_be_had_the_error_names_all() {
    let toy = Toy::new(three(), |_, _| not_said("unavailable"));
    let error = toy.fails(1);
    assert!(error.starts_with("no model can be had: "), "{error}");
    for model in ["`a`", "`b`", "`c`"] {
        assert!(error.contains(&format!("{model} (unavailable: it is unavailable)")), "{error}");
    }
    assert_eq!(toy.calls().len(), 3);
}

#[test]
fn a_role_falls_over_too() {
    let mut config = ideas_first();
    config.models = vec![entry("a"), entry("thinker")];
    config.models[1].weight = 0.0;
    config.roles.idea = Some("thinker".to_owned());
    let toy = Toy::new(config, |query, _| match (query.purpose, query.model) {
        ("idea", "thinker") => not_said("timeout"),
        ("idea", _) => said(&idea("double the rate")),
        _ => said(&both("x", "0.2")),
    });
    toy.propose(1).expect("proposes");
    assert_eq!(toy.calls(), ["idea thinker", "idea a", "implementation a"]);
}

#[test]
fn weights_say_how_often_each_is_asked() {
    let mut config = three();
    config.models[0].weight = 3.0;
    config.models[2].weight = 0.0;
    let toy = Toy::new(config, |query, _| said(&both(&number_in(query), &number_in(query))));
    let first = (1..=200).filter(|i| toy.propose(*i).expect("proposes").idea.model == "a").count();
    assert!((125..175).contains(&first), "{first}");
    assert!(!toy.calls().contains(&"template c".to_owned()));
}

/// How often each of two models is asked in a run of so many proposals, in which `b` gains.
fn asked_of_b(ensemble: Ensemble, n: u64) -> usize {
    let mut config = config();
    config.models = vec![entry("a"), entry("b")];
    config.ensemble = ensemble;
    config.similarity = 1.0;
    let toy = Toy::new(config, |query, _| said(&both(&number_in(query), &number_in(query))));
    let mut b = 0;
    for iteration in 1..=n {
        let idea = toy.propose(iteration).expect("proposes").idea;
        let gains = idea.model == "b" && iteration % 3 != 0;
        b += usize::from(idea.model == "b");
        let seconds = if gains { 18.0 } else { 20.5 };
        toy.mutator.observe(&outcome(iteration, idea, seconds)).expect("learns");
    }
    b
}

#[test]
fn the_bandit_comes_to_prefer_the_better_model() {
    let (even, better) = (asked_of_b(Ensemble::Weights, 120), asked_of_b(Ensemble::Bandit, 120));
    assert!((45..75).contains(&even), "{even}");
    assert!(better > 90, "{better}");
}
