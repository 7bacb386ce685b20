//! The rendered prompts, what is cut when they grow too long, and templates of one's own.

use crate::toy::{
    BLOCKS, SOURCE, Toy, both, config, idea, ideas_first, member, outcome, repair, request, shown,
};
use forerunner_llm::{Config, Details, estimated_tokens};
use forerunner_sdk::{Attempt, Cause, Finding, Idea, Interval, ProposalRequest, Role, Section};

/// A request with everything in it.
fn full() -> ProposalRequest {
    let mut request = request(30);
    request.stagnant = 12;
    let gain = Some(Interval { low: 0.01, high: 0.05 });
    let idea = |summary: &str| Idea {
        summary: summary.to_owned(),
        mechanism: "fewer passes".to_owned(),
        expected_gain: gain,
        ..Idea::default()
    };
    request.parent.idea = Some(idea("fuse the loops"));
    request.parent.evaluation.telemetry.sections = vec![
        Section { seconds: 15.0, calls: 100, ..Section::named("backward") },
        Section { seconds: 5.0, calls: 100, ..Section::named("forward") },
    ];
    let mut better = member(&SOURCE.replace("train(RATE)", "train(2.0 * RATE)"), 18.0);
    better.idea = Some(idea("double the rate"));
    request.inspirations = vec![better, member("fn main() {}\n", 25.0)];
    let finding =
        Finding::error("compile/error", "cannot find `RTAE`\n  hint: `RATE`").at("main.rs:2");
    let idea = idea("name the rate");
    request.failures = vec![Attempt { idea, cause: Cause::Compile, findings: vec![finding] }];
    request
}

/// The mutator after two measured proposals.
fn experienced(config: Config, script: &[&str]) -> Toy {
    let toy = Toy::saying(config, script);
    for (iteration, summary, seconds) in
        [(1, "halve the warm-up", 19.0), (2, "widen the head", 22.0)]
    {
        let details = serde_json::to_value(Details::default()).expect("plain data");
        let expected_gain = Some(Interval { low: 0.01, high: 0.05 });
        let idea = Idea { summary: summary.to_owned(), expected_gain, details, ..Idea::default() };
        toy.mutator.observe(&outcome(iteration, idea, seconds)).expect("learns");
    }
    toy
}

#[test]
fn the_prompts_of_two_stages_read_well() {
    let mut config = ideas_first();
    config.critic.enabled = true;
    config.instructions = "Prefer small changes.".to_owned();
    let accept = r#"{"verdict": "accept", "reason": "why not"}"#;
    let toy = experienced(config, &[&idea("double the rate"), accept, BLOCKS, BLOCKS]);
    let proposal = toy.mutator.propose(&full(), &toy.host).expect("proposes");
    insta::assert_snapshot!("system", toy.messages(0)[0].text);
    insta::assert_snapshot!("idea", toy.messages(0)[1].text);
    let ask = |number| {
        let text = toy.last(number);
        text[text.find("# What to do").expect("asked for")..].to_owned()
    };
    insta::assert_snapshot!("critique", ask(1));
    insta::assert_snapshot!("implementation", ask(2));
    toy.mutator.repair(&repair(&full(), &proposal, 1), &toy.host).expect("no error");
    insta::assert_snapshot!("repair", toy.last(3));
}

#[test]
fn the_prompt_of_the_template_stage_reads_well() {
    let toy = Toy::saying(config(), &["Hm.", &both("double the rate", "0.2")]);
    toy.propose(1).expect("proposes");
    insta::assert_snapshot!("template", shown(&toy.messages(1)[1..]));
}

#[test]
fn the_system_part_is_the_same_for_all_calls_of_a_run() {
    let toy = experienced(ideas_first(), &[&idea("double the rate"), BLOCKS]);
    toy.mutator.propose(&full(), &toy.host).expect("proposes");
    let toy_again = Toy::saying(config(), &[&both("double the rate", "0.2")]);
    toy_again.propose(1).expect("proposes");
    let system = toy.messages(0)[0].clone();
    assert_eq!(system.role, Role::System);
    assert_eq!([&system, &system], [&toy.messages(1)[0], &toy_again.messages(0)[0]]);
}

/// A request that is far too long, and what its question shows with a budget of so many tokens.
fn shown_within(tokens: usize) -> (String, Vec<String>, usize) {
    let mut request = full();
    let lines = |tag: &str| -> String { (0..200).map(|n| format!("// {tag} {n}\n")).collect() };
    request.inspirations = (0..4).map(|n| member(&lines(&format!("other {n}")), 18.0)).collect();
    request.failures = vec![request.failures[0].clone(); 3];
    let mut config = config();
    config.prompt_tokens = tokens;
    let toy = Toy::saying(config, &[&both("double the rate", "0.2")]);
    for iteration in 1..=30 {
        let summary = format!("idea number {iteration} of many that were tried before this one");
        let details = serde_json::to_value(Details::default()).expect("plain data");
        let idea = Idea { summary, details, ..Idea::default() };
        toy.mutator.observe(&outcome(iteration, idea, 20.0)).expect("learns");
    }
    let proposal = toy.mutator.propose(&request, &toy.host).expect("proposes");
    let details: Details = serde_json::from_value(proposal.idea.details).expect("our own");
    let cut = details.cut.iter().map(|cut| format!("{} {}/{}", cut.name, cut.shown, cut.of));
    let total = toy.messages(0).iter().map(|message| estimated_tokens(&message.text)).sum();
    (toy.last(0), cut.collect(), total)
}

#[test]
fn what_does_not_fit_is_cut_in_order_and_the_prompt_says_so() {
    let (text, cut, total) = shown_within(32_000);
    assert!(cut.is_empty() && total < 32_000, "{cut:?} {total}");
    assert!(!text.contains("Left out for length"));

    let mut last = usize::MAX;
    let mut seen = Vec::new();
    for budget in [6_500, 5_000, 3_900, 3_600, 3_200, 2_900, 2_700, 2_600] {
        let (text, cut, total) = shown_within(budget);
        assert!(total <= budget, "{total} of {budget}");
        assert!(text.contains("Left out for length: "), "{text}");
        assert!(text.contains("train(RATE)"), "the program to change is never cut");
        assert!(total <= last);
        last = total;
        seen.push(format!("{budget}: {}", cut.join(", ")));
    }
    insta::assert_snapshot!(seen.join("\n"));
}

#[test]
fn a_program_that_is_alike_is_shown_by_its_difference() {
    let lines = |n: usize| -> String { (0..n).map(|n| format!("let x{n} = {n};\n")).collect() };
    let mut request = full();
    request.parent = member(&lines(40), 20.0);
    request.inspirations = vec![member(&lines(40).replace("x20 = 20", "x20 = 7"), 18.0)];
    let toy = Toy::saying(config(), &[&both("double the rate", "0.2")]);
    toy.mutator.propose(&request, &toy.host).expect("proposes");
    let text = toy.last(0);
    let start = text.find("How it differs").expect("shown");
    let end = text[start..].find("# Ideas").or(text[start..].find("# Attempts")).expect("follows");
    insta::assert_snapshot!("difference", text[start..start + end]);
}

#[test]
fn a_program_that_does_not_fit_is_an_error_with_a_hint() {
    let mut config = config();
    config.prompt_tokens = 2_000;
    let toy = Toy::saying(config, &["unused"]);
    let error = toy.fails(1);
    assert!(error.contains("`prompt_tokens`") && error.contains("hint: raise it"), "{error}");
    assert_eq!(toy.asked(), 0);
}

#[test]
fn templates_of_ones_own_replace_those_that_come_with_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("toy")).expect("made");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("template.md.j2", "General advice.\n").expect("written");
    write("toy/template.md.j2", "Advice for {{ form }} {{ iteration }}.\n").expect("written");
    let mut config = config();
    config.prompts = Some(folder.path().to_owned());
    let toy = Toy::saying(config.clone(), &[&both("double the rate", "0.2")]);
    let proposal = toy.propose(4).expect("proposes");
    assert!(toy.last(0).ends_with("\n\nAdvice for patch 4."), "{}", toy.last(0));
    assert_eq!(proposal.idea.details["templates"], serde_json::json!(["template"]));

    write("toy/template.md.j2", "One\n{{ formm }}\n").expect("written");
    let error = Toy::saying(config, &["unused"]).fails(1);
    assert!(error.contains("toy/template.md.j2:2: undefined value: `formm`"), "{error}");
}
