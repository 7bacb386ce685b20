//! Answers that cannot be used, each with the right outcome.

use crate::toy::{BLOCKS, Toy, blocks, both, config, idea, ideas_first, not_said, said, shown};
use forerunner_llm::Details;
use forerunner_sdk::{Answered, Role};

#[test]
fn an_idea_that_cannot_be_read_is_asked_for_once_more_with_the_complaint() {
    let toy =
        Toy::saying(ideas_first(), &["I would try something.", &idea("double the rate"), BLOCKS]);
    let proposal = toy.propose(1).expect("proposes");
    assert_eq!(toy.calls(), ["idea fast", "idea fast", "implementation fast"]);
    let second = toy.messages(1);
    assert_eq!(
        (second[2].role, second[2].text.as_str()),
        (Role::Assistant, "I would try something.")
    );
    assert!(toy.last(1).contains("there is no `summary` in it"), "{}", toy.last(1));
    let details: Details = serde_json::from_value(proposal.idea.details).expect("our own");
    assert_eq!((details.unreadable, details.calls), (1, 3));

    let toy = Toy::saying(ideas_first(), &["I would try something."]);
    let error = toy.fails(1);
    assert!(error.starts_with("model `fast`: 2 answers could not be used"), "{error}");
    assert_eq!(toy.calls().len(), 2);
}

#[test]
fn a_change_that_is_not_there_is_asked_for_once_more() {
    let toy = Toy::saying(ideas_first(), &[&idea("double the rate"), "Certainly!", BLOCKS]);
    assert!(toy.propose(1).is_ok());
    assert!(toy.last(2).contains("there are no BLOCKS"), "{}", toy.last(2));
    let toy = Toy::saying(config(), &[&idea("double the rate")]);
    let error = toy.fails(1);
    assert!(error.contains("there are no BLOCKS"), "{error}");
    assert_eq!(toy.calls().len(), 2);
}

#[test]
fn a_change_without_an_idea_is_measured_all_the_same() {
    let toy = Toy::saying(config(), &[&format!("I double the rate of learning.\n{BLOCKS}")]);
    let proposal = toy.propose(1).expect("proposes");
    assert_eq!(proposal.idea.summary, "I double the rate of learning.");
    assert_eq!(proposal.idea.expected_gain, None);
}

#[test]
fn an_empty_answer_has_the_question_put_again() {
    for empty in [said("  \n"), not_said("empty"), not_said("malformed")] {
        let toy = Toy::new(config(), move |_, number| {
            if number == 0 { empty.clone() } else { said(&both("double the rate", "0.2")) }
        });
        assert!(toy.propose(1).is_ok());
        let (first, second) = (toy.last(0), toy.last(1));
        assert_eq!((toy.messages(0).len(), toy.messages(1).len()), (2, 2));
        let reason = second.strip_prefix(&first).expect("the same question");
        assert_eq!(reason.contains("it is empty"), !reason.is_empty(), "{reason}");
    }
    let toy = Toy::new(config(), |_, _| not_said("empty"));
    let error = toy.fails(1);
    assert!(error.contains("it was empty: it is empty"), "{error}");
    assert_eq!(toy.calls().len(), 2);
}

#[test]
fn thoughts_that_use_all_tokens_up_are_told_of() {
    let message = "the reply was cut off before an answer began\nhint: raise max_tokens";
    let failed = Answered::Failed { kind: "empty".to_owned(), message: message.to_owned() };
    let toy = Toy::new(config(), move |_, _| failed.clone());
    let error = toy.fails(1);
    assert!(
        error.contains("it was empty: the reply was cut off before an answer began"),
        "{error}"
    );
    assert!(error.contains("\nhint: raise max_tokens"), "{error}");
    let again = toy.last(1);
    assert!(again.contains("Your answer could not be used: it was empty."), "{again}");
    assert!(again.contains("cut off before an answer began"), "{again}");
    assert!(!again.contains("hint:"), "that is for people: {again}");
}

#[test]
fn an_answer_that_was_cut_off_is_asked_for_again_shorter() {
    let answer = both("double the rate", "0.2");
    let cut = Answered::Reply { text: answer.clone() + &"x".repeat(50_000), cut: true };
    let toy =
        Toy::new(config(), move |_, number| if number == 0 { cut.clone() } else { said(&answer) });
    assert!(toy.propose(1).is_ok());
    assert!(toy.last(1).contains("cut off at the limit on its length"));
    let back = &toy.messages(1)[2].text;
    assert!(back.len() < 5_000, "what cannot be used does not go back in full: {}", back.len());
}

#[test]
fn a_refusal_ends_the_proposal_and_says_so() {
    for kind in ["refused", "too_long", "invalid_request"] {
        let toy = Toy::new(config(), move |_, _| not_said(kind));
        let error = toy.fails(1);
        assert!(error.contains(&format!("{kind}: it is {kind}")), "{error}");
        assert_eq!(toy.calls().len(), 1);
    }
}

#[test]
fn words_of_outside_in_errors_are_one_harmless_line() {
    let message = "\u{1b}[31mred\u{1b}[0m\nand\u{7} more ".repeat(100);
    let toy = Toy::new(config(), move |_, _| Answered::Failed {
        kind: "refused".to_owned(),
        message: message.clone(),
    });
    let error = toy.fails(1);
    assert!(error.len() < 400 && !error.contains(|c: char| c.is_control()), "{error:?}");
}

#[test]
fn the_number_of_calls_is_bounded_whatever_is_answered() {
    let mut config = ideas_first();
    config.critic.enabled = true;
    config.critic.rounds = 2;
    config.duplicates = 3;
    let veto = r#"{"verdict": "veto", "reason": "no"}"#;
    for script in ["idea", "nothing", "blocks"] {
        let toy = Toy::new(config.clone(), move |query, number| match (script, query.purpose) {
            ("idea", "critique") => said(veto),
            ("idea", _) => said(&idea(&format!("a{number} b{number} c{number}"))),
            ("blocks", "idea") => said(&idea("double the rate")),
            ("blocks", "critique") => said("{}"),
            ("blocks", _) => said(&blocks("0.2")),
            _ => said("nothing"),
        });
        drop(toy.propose(1));
        assert!(toy.calls().len() <= 12, "{script}: {:?}", toy.calls());
    }
}

#[test]
fn what_is_sent_back_is_the_models_own_answer() {
    let toy = Toy::saying(ideas_first(), &["\u{1b}[2Jnothing", &idea("double the rate"), BLOCKS]);
    toy.propose(1).expect("proposes");
    assert!(shown(&toy.messages(1)).contains("--- ASSISTANT\nnothing\n"));
}
