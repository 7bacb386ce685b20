//! Repairs: the conversation goes on, and ends when nothing new comes.

use crate::toy::{
    Toy, blocks, both, config, entry, idea, ideas_first, outcome, repair, request, said,
};
use forerunner_sdk::{Change, Proposal, Role};

#[test]
fn a_repair_continues_the_conversation_with_the_findings() {
    let script = [both("double the rate", "RTAE"), blocks("0.2")];
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let toy = Toy::saying(config(), &script);
    let proposal = toy.propose(3).expect("proposes");
    let repaired = toy.mutator.repair(&repair(&request(3), &proposal, 1), &toy.host);
    let repaired = repaired.expect("no error").expect("a repair");
    assert!(matches!(&repaired.change, Change::Patch(patch) if patch.contains("0.2")));
    assert_eq!(repaired.idea.summary, proposal.idea.summary);
    assert_eq!(repaired.idea.details["repair"], 1);
    assert_eq!(repaired.idea.details["calls"], 2);
    assert_ne!(repaired.idea.details["change"], proposal.idea.details["change"]);

    let calls = toy.host.calls();
    assert_eq!((calls[1].0.purpose.as_str(), calls[1].0.ordinal), ("repair", 1));
    assert_eq!(calls[0].0.seed, calls[1].0.seed);
    let (first, second) = (toy.messages(0), toy.messages(1));
    assert_eq!(first[..], second[..2], "the conversation goes on");
    assert_eq!((second[2].role, second[2].text.as_str()), (Role::Assistant, script[0]));
    let last = toy.last(1);
    assert!(last.contains("failed its check (compile)"), "{last}");
    assert!(last.contains("compile/error at main.rs:2: cannot find `RTAE`"), "{last}");
}

#[test]
fn the_conversation_of_repairs_stays_short() {
    let toy = Toy::new(ideas_first(), |query, number| match query.purpose {
        "idea" => said(&idea("double the rate")),
        _ => said(&blocks(&format!("0.{number}"))),
    });
    let mut proposal = toy.propose(1).expect("proposes");
    for attempt in 1..=4 {
        let repaired = toy.mutator.repair(&repair(&request(1), &proposal, attempt), &toy.host);
        proposal = repaired.expect("no error").expect("a repair");
    }
    let messages = toy.messages(5);
    assert_eq!(messages.len(), 6, "the start, two answers and what was said of them");
    assert_eq!(messages[..2], toy.messages(1)[..2]);
    assert!(messages[4].text.contains("0.4") && messages[5].text.contains("failed its check"));
    let ordinals: Vec<u32> = toy.host.calls().iter().map(|(call, _)| call.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_repair_without_a_change_or_with_the_same_one_gives_up() {
    for answer in ["I give up.", "", &blocks("RTAE")] {
        let implementation = blocks("RTAE");
        let toy = Toy::saying(ideas_first(), &[&idea("double the rate"), &implementation, answer]);
        let proposal = toy.propose(1).expect("proposes");
        let repaired = toy.mutator.repair(&repair(&request(1), &proposal, 1), &toy.host);
        assert_eq!(repaired, Ok(None), "{answer}");
        // And what was given up stays so.
        let repaired = toy.mutator.repair(&repair(&request(1), &proposal, 2), &toy.host);
        assert_eq!((repaired, toy.calls().len()), (Ok(None), 3));
    }
}

#[test]
fn nothing_is_repaired_that_was_not_proposed_or_is_done() {
    let toy = Toy::saying(config(), &[&both("double the rate", "0.2"), &blocks("0.3")]);
    let proposal: Proposal = toy.propose(1).expect("proposes");
    assert_eq!(toy.mutator.repair(&repair(&request(2), &proposal, 1), &toy.host), Ok(None));
    toy.mutator.observe(&outcome(1, proposal.idea.clone(), 19.0)).expect("learns");
    assert_eq!(toy.mutator.repair(&repair(&request(1), &proposal, 1), &toy.host), Ok(None));
    assert_eq!(toy.calls().len(), 1);
}

#[test]
fn whoever_has_the_role_mends() {
    let mut config = config();
    config.models = vec![entry("fast"), entry("mender")];
    config.models[1].weight = 0.0;
    config.roles.repair = Some("mender".to_owned());
    let toy = Toy::saying(config, &[&both("double the rate", "RTAE"), &blocks("0.2")]);
    let proposal = toy.propose(1).expect("proposes");
    toy.mutator.repair(&repair(&request(1), &proposal, 1), &toy.host).expect("no error");
    assert_eq!(toy.calls(), ["template fast", "repair mender"]);
}
