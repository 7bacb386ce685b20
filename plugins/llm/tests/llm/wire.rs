//! Through the real client against a local server that speaks a provider's format.

use crate::toy::{BLOCKS, both, idea, repair, request};
use forerunner_llm::{Config, Llm};
use forerunner_scripted_model::{Reply, Server};
use forerunner_sdk::{Mutator, testkit};

fn config(servers: &[(&str, &Server)], rest: serde_json::Value) -> Config {
    let model = |(name, server): &(&str, &Server)| {
        serde_json::json!({
            "name": name, "model": "scripted", "base_url": server.base_url(), "attempts": 2,
            "weight": if *name == "spare" { 0.0 } else { 1.0 },
            "price": {"input": 1.0, "output": 2.0},
            "pace": {"backoff": 0.0, "circuit_failures": 1},
        })
    };
    let mut config = serde_json::json!({"models": servers.iter().map(model).collect::<Vec<_>>()});
    if let (Some(config), Some(rest)) = (config.as_object_mut(), rest.as_object()) {
        config.extend(rest.clone());
    }
    testkit::config(&config).expect("a sound configuration")
}

fn host() -> testkit::RecordingHost {
    testkit::RecordingHost::new().expect("a temporary folder")
}

#[test]
fn idea_implementation_and_repair_reach_the_server() {
    let said = [idea("double the rate"), BLOCKS.replace("0.2", "RTAE"), BLOCKS.to_owned()];
    let replies = said.iter().map(|text| Reply::text(text.clone()).usage(1000, 100)).collect();
    let server = Server::scripted(replies).expect("a port");
    let schedule = serde_json::json!({"schedule": {"template_iterations": 0}});
    let llm = Llm::new(config(&[("fast", &server)], schedule)).expect("sound");
    let (mutator, host) = (testkit::mutator(llm), host());
    let proposal = mutator.propose(&request(1), &host).expect("proposes");
    let repaired = mutator.repair(&repair(&request(1), &proposal, 1), &host);
    assert!(repaired.expect("no error").is_some());
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.system() == asked_system(&host)));
    assert!(asked[0].last_user().contains("Answer with an IDEA and nothing else"));
    assert!(asked[2].last_user().contains("failed its check (compile)"));
    let spent = host.spent();
    assert_eq!((spent.tokens_in, spent.tokens_out), (3000, 300));
    assert!((spent.dollars - 0.0036).abs() < 1e-9, "{spent:?}");
}

fn asked_system(host: &testkit::RecordingHost) -> String {
    host.calls()[0].0.messages[0].text.clone()
}

#[test]
fn a_server_that_is_down_is_stood_in_for_and_left_alone() {
    let down = Server::start(|_| Reply::status(500)).expect("a port");
    let up = Server::start(|asked| {
        let number = asked.number;
        Reply::text(both(&format!("a{number} b{number} c{number}"), &format!("0.{number}1")))
    });
    let up = up.expect("a port");
    let servers = [("main", &down), ("spare", &up)];
    let llm = Llm::new(config(&servers, serde_json::json!({}))).expect("sound");
    let host = host();
    for iteration in 1..=3 {
        let proposal = llm.propose(&request(iteration), &host).expect("proposes");
        assert_eq!(proposal.idea.model, "spare");
    }
    assert_eq!(
        (down.asked().len(), up.asked().len()),
        (2, 3),
        "the circuit is open after one call"
    );
}

#[test]
fn nonsense_of_a_server_ends_the_proposal_with_a_reason() {
    for reply in [Reply::malformed(), Reply::strange(), Reply::empty(), Reply::refusal("no")] {
        let server = Server::start(move |_| reply.clone()).expect("a port");
        let llm = Llm::new(config(&[("fast", &server)], serde_json::json!({}))).expect("sound");
        let error = llm.propose(&request(1), &host()).expect_err("nothing usable");
        assert!(error.to_string().contains("`fast`"), "{error}");
        let n = server.asked().len();
        assert!((1..=4).contains(&n), "{n} requests");
    }
}
