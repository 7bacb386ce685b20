//! Ideas that a critic refuses, and what is not asked for twice.

use crate::toy::{BLOCKS, Toy, blocks, both, config, details, idea, ideas_first, outcome};
use forerunner_llm::CriticConfig;
use forerunner_sdk::{Change, Mutator, Proposal};

#[test]
fn the_critic_sends_ideas_back_with_its_reason() {
    let mut config = ideas_first();
    config.critic = CriticConfig { enabled: true, ..CriticConfig::default() };
    let veto = r#"{"verdict": "veto", "reason": "it was tried in another form"}"#;
    let accept = r#"{"verdict": "accept", "reason": "worth a try"}"#;
    let script = [&idea("raise the rate"), veto, &idea("fuse the loops"), accept, BLOCKS];
    let toy = Toy::saying(config.clone(), &script);
    let proposal = toy.propose(1).expect("proposes");
    assert_eq!(proposal.idea.summary, "fuse the loops");
    let purposes =
        ["idea fast", "critique fast", "idea fast", "critique fast", "implementation fast"];
    assert_eq!(toy.calls(), purposes);
    assert!(toy.last(2).contains("it was tried in another form"));
    let critic = details(&proposal).critic;
    let critic: Vec<_> = critic.iter().map(|o| (o.verdict.as_str(), o.reason.as_str())).collect();
    assert_eq!(
        critic,
        [("veto", "raise the rate: it was tried in another form"), ("accept", "worth a try")]
    );

    let toy = Toy::saying(config.clone(), &[&idea("a"), veto, &idea("something else"), veto]);
    let error = toy.fails(1);
    assert!(error.starts_with("the critic vetoed 2 ideas; the last: it was tried"), "{error}");
    assert!(error.ends_with("[model fast, tokens 400 + 40, dollars 2]"), "{error}");

    // Nonsense vetoes nothing.
    let toy = Toy::saying(config, &[&idea("raise the rate"), "Hmm.", BLOCKS]);
    assert_eq!(details(&toy.propose(1).expect("proposes")).critic[0].verdict, "unreadable");
}

#[test]
fn an_idea_in_other_words_is_asked_for_again_and_in_the_end_refused() {
    let mut config = ideas_first();
    config.duplicates = 1;
    let script = [
        idea("raise the rate of learning from 0.1 to 0.2"),
        blocks("0.2"),
        idea("learning rate raised from 0.1 to 0.2"),
        idea("fuse the two loops over the batch"),
        blocks("0.3"),
        idea("raising the learning rate from 0.1 to 0.2"),
        idea("raise from 0.1 to 0.2 the learning rate"),
    ];
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let toy = Toy::saying(config, &script);
    let first = toy.propose(1).expect("proposes");
    toy.mutator.observe(&outcome(1, first.idea, 19.0)).expect("learns");
    let second = toy.propose(2).expect("proposes");
    assert_eq!(second.idea.summary, "fuse the two loops over the batch");
    assert_eq!(details(&second).duplicates, 1);
    let complaint = toy.last(3);
    assert!(
        complaint.contains("was there before, in iteration 1 (measured +5.0 %)"),
        "{complaint}"
    );
    assert!(complaint.contains("raise the rate of learning"), "{complaint}");
    let error = toy.fails(3);
    assert!(error.starts_with("2 times an idea or a change came that was there before"), "{error}");
    assert!(error.contains("\nhint: ") && !error.contains("`duplicates`"), "{error}");
}

#[test]
fn a_change_that_was_there_before_is_caught_by_its_text() {
    let script =
        [both("double the rate", "0.2"), both("halve the warm-up", "0.2"), both("x y", "0.4")];
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let mut config = config();
    config.similarity = 1.0;
    let toy = Toy::saying(config, &script);
    let mut first = toy.propose(1).expect("proposes");
    let patch = |proposal: &Proposal| match &proposal.change {
        Change::Patch(patch) => patch.clone(),
        other => panic!("{other:?}"),
    };
    toy.mutator.observe(&outcome(1, std::mem::take(&mut first.idea), 19.0)).expect("learns");
    let second = toy.propose(2).expect("proposes");
    assert!(patch(&first).contains("0.2") && patch(&second).contains("0.4"));
    assert_eq!(details(&second).duplicates, 1);
    assert!(toy.last(2).contains("The change that came of it was there before, in iteration 1"));
}

#[test]
fn an_idea_whose_change_was_there_before_is_given_up_for_another() {
    let script = [
        idea("double the rate"),
        blocks("0.2"),
        idea("halve the warm-up"),
        blocks("0.2"),
        idea("fuse the loops"),
        blocks("0.3"),
    ];
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let mut config = ideas_first();
    config.similarity = 1.0;
    let toy = Toy::saying(config, &script);
    let first = toy.propose(1).expect("proposes");
    toy.mutator.observe(&outcome(1, first.idea, 19.0)).expect("learns");
    let second = toy.propose(2).expect("proposes");
    assert_eq!(second.idea.summary, "fuse the loops");
    let purposes: Vec<String> = toy.calls().split_off(2);
    let pair = ["idea fast", "implementation fast"];
    assert_eq!(purposes, [pair, pair].concat());
    assert!(toy.last(4).contains("The change that came of it was there before"), "{}", toy.last(4));
    assert_eq!(details(&second).duplicates, 1);
}

#[test]
fn the_critic_sees_the_share_that_was_asked_for() {
    let seen = |share: f64| -> Vec<bool> {
        let mut config = ideas_first();
        config.critic = CriticConfig { enabled: true, share, ..CriticConfig::default() };
        let toy = Toy::new(config, |query, _| {
            crate::toy::said(match query.purpose {
                "idea" => r#"{"summary": "raise the rate", "mechanism": "m"}"#,
                "critique" => r#"{"verdict": "accept", "reason": "fine"}"#,
                _ => BLOCKS,
            })
        });
        let critic =
            |iteration| !details(&toy.propose(iteration).expect("proposes")).critic.is_empty();
        (1..=60).map(critic).collect()
    };
    let half = seen(0.5);
    let n = half.iter().filter(|seen| **seen).count();
    assert!((18..=42).contains(&n), "{n} of 60");
    assert_eq!(half, seen(0.5), "the seed of the proposal decides");
    assert_eq!((seen(1.0), seen(0.0)), (vec![true; 60], vec![false; 60]));
}
