//! Ideas that a model for embeddings takes for one another, and what happens when it is silent.

use crate::toy::{
    BLOCKS, Toy, blocks, config, details, entry, idea, ideas_first, not_said, outcome, request,
    said,
};
use forerunner_llm::{Config, EmbeddingConfig, Llm, Query};
use forerunner_scripted_model::{Reply, Server};
use forerunner_sdk::{
    Answered, Cause, Evaluation, Finding, Mutator, Proposal, testkit::RecordingHost,
};

/// Three ideas in turn, of which the second is the first in other words.
const IDEAS: [&str; 3] = [
    "raise the learning rate",
    "take bigger strides along the gradient",
    "fuse both loops over tokens",
];

fn embedding(mut config: Config) -> Config {
    let mut words = entry("words");
    words.weight = 0.0;
    config.models.push(words);
    config.embeddings = Some(EmbeddingConfig { model: "words".to_owned(), similarity: 0.92 });
    config
}

/// What a model that understands words would say.
fn direction(query: &Query<'_>) -> Answered {
    let text = &query.messages[0].text;
    said(match text.contains("learning rate") || text.contains("strides") {
        true => "[0.9, 0.1, 0.2]",
        false => "[-0.1, 0.8, 0.3]",
    })
}

/// Has [`IDEAS`] in turn, and other changes each time.
fn thinking(config: Config, embed: impl Fn(&Query<'_>) -> Answered + Send + Sync + 'static) -> Toy {
    let ideas = std::sync::Mutex::new(IDEAS.iter());
    Toy::new(config, move |query, number| match query.purpose {
        "embedding" => embed(query),
        "idea" => said(&idea(ideas.lock().expect("no panic").next().expect("an idea left"))),
        _ => said(&blocks(&format!("0.{}", number + 2))),
    })
}

/// Two proposals, the first observed.
fn two(toy: &Toy) -> [Proposal; 2] {
    let first = toy.propose(1).expect("proposes");
    toy.mutator.observe(&outcome(1, first.idea.clone(), 19.0)).expect("learns");
    [first, toy.propose(2).expect("proposes")]
}

#[test]
fn an_idea_in_wholly_other_words_is_a_repeat() {
    // By words alone, it is another idea.
    let toy = thinking(ideas_first(), direction);
    assert_eq!(two(&toy)[1].idea.summary, IDEAS[1]);

    let toy = thinking(embedding(ideas_first()), direction);
    let [first, second] = two(&toy);
    assert_eq!(second.idea.summary, IDEAS[2]);
    let noted = details(&second);
    assert_eq!((noted.duplicates, noted.calls, noted.unembedded.len()), (1, 5, 0));
    assert_eq!(noted.embedding.map(|it| it.model).as_deref(), Some("words"));
    assert_eq!(details(&first).embedding.expect("kept").vector, "7f0e1c");
    let calls = toy.calls();
    let pair = ["idea fast", "embedding words"];
    assert_eq!(calls[..2], pair);
    assert_eq!(
        calls[3..],
        [pair, pair].concat().into_iter().chain(["implementation fast"]).collect::<Vec<_>>()[..]
    );
    let complaint = toy.last(5);
    assert!(
        complaint.contains("This idea was there before, in iteration 1 (measured"),
        "{complaint}"
    );
    assert!(complaint.contains(IDEAS[0]), "{complaint}");
    // The whole idea is embedded, and every call is counted.
    assert!(toy.last(1).contains("because the loss falls steadily"), "{}", toy.last(1));
    assert_eq!(toy.host.spent().tokens_in, 800);
}

#[test]
fn other_numbers_and_what_never_ran_are_no_repeats() {
    let same = |_: &Query<'_>| said("[1, 2]");
    let check = |summary: &'static str, cause: Option<Cause>, is_repeat: bool| {
        let toy = Toy::new(embedding(ideas_first()), move |query, number| match query.purpose {
            "embedding" => same(query),
            "idea" if number == 0 => said(&idea("set RATE to 0.2")),
            "idea" if number < 5 => said(&idea(summary)),
            "idea" => said(&idea("fuse loops with 7 tokens")),
            _ => said(&blocks(&format!("0.{}", number + 2))),
        });
        let first = toy.propose(1).expect("proposes");
        let mut seen = outcome(1, first.idea, 19.0);
        if let Some(cause) = cause {
            seen.evaluation = Evaluation::failed(cause, Finding::error("x", "x"));
        }
        toy.mutator.observe(&seen).expect("learns");
        let second = toy.propose(2).expect("proposes");
        assert_eq!(details(&second).duplicates, u32::from(is_repeat), "{summary} {cause:?}");
    };
    check("learning goes 0.2 quick", None, true);
    check("learning goes 0.3 quick", None, false);
    check("learning goes 0.2 quick", Some(Cause::Compile), false);
    check("learning goes 0.2 quick", Some(Cause::NotFinite), true);
}

#[test]
fn words_decide_alone_where_no_vector_comes() {
    let check = |embed: fn(&Query<'_>) -> Answered, why: &str| {
        let toy = thinking(embedding(ideas_first()), embed);
        let [_, second] = two(&toy);
        assert_eq!(second.idea.summary, IDEAS[1]);
        let noted = details(&second);
        assert_eq!((noted.embedding, noted.unembedded), (None, vec![why.to_owned()]));
        assert!(noted.unavailable.is_empty(), "nobody stands in");
        assert_eq!(toy.calls().len(), 6);
    };
    check(|_| not_said("unavailable"), "unavailable");
    check(|_| not_said("unauthorized"), "unauthorized");
    check(|_| said("I cannot do that."), "no usable vector");
    check(|_| said("[0, 0]"), "no usable vector");

    // What the words catch is not embedded.
    let toy = Toy::new(embedding(ideas_first()), |query, number| match query.purpose {
        "embedding" => not_said("timeout"),
        "idea" if number < 4 => said(&idea("widen the hidden layer")),
        "idea" => said(&idea("fuse the loops")),
        _ => said(&blocks(&format!("0.{}", number + 2))),
    });
    let [_, second] = two(&toy);
    assert_eq!((second.idea.summary.as_str(), details(&second).duplicates), ("fuse the loops", 1));
    assert_eq!(toy.calls().iter().filter(|call| *call == "embedding words").count(), 2);
}

#[test]
fn the_model_for_embeddings_is_asked_for_nothing_else() {
    let toy = Toy::new(embedding(config()), |_, _| not_said("unavailable"));
    let error = toy.fails(1);
    assert!(!error.contains("`words`"), "{error}");
    assert_eq!(toy.calls(), ["template fast"]);
}

#[test]
fn replays_and_resumed_runs_come_to_the_same() {
    let toy = thinking(embedding(ideas_first()), direction);
    let [first, second] = two(&toy);
    // Nobody is asked, and the same comes out.
    let silent =
        || Toy::new(embedding(ideas_first()), |query, _| panic!("asked for {}", query.purpose));
    let again = silent();
    let replayed = again.mutator.propose(&request(1), &toy.host).expect("proposes");
    assert_eq!(replayed, first);
    again.mutator.observe(&outcome(1, replayed.idea, 19.0)).expect("learns");
    assert_eq!(again.mutator.propose(&request(2), &toy.host), Ok(second.clone()));
    // One that only observes what was stored.
    let resumed = silent();
    let stored = serde_json::to_string(&outcome(1, first.idea, 19.0)).expect("plain data");
    let stored = serde_json::from_str(&stored).expect("an outcome");
    resumed.mutator.observe(&stored).expect("learns");
    assert_eq!(resumed.mutator.propose(&request(2), &toy.host), Ok(second));
}

#[test]
fn vectors_of_another_model_are_not_compared() {
    let toy = thinking(embedding(ideas_first()), direction);
    let mut first = toy.propose(1).expect("proposes").idea;
    first.details["embedding"]["model"] = "former".into();
    toy.mutator.observe(&outcome(1, first, 19.0)).expect("learns");
    assert_eq!(toy.propose(2).expect("proposes").idea.summary, IDEAS[1]);
}

/// Through the real client, against a server that speaks a provider's format and knows words.
#[test]
fn vectors_come_from_a_server() {
    let run = |fails: bool| {
        let server = Server::start(move |asked| {
            if asked.path.ends_with("/embeddings") {
                return if fails { Reply::status(400) } else { Reply::text("").usage(10, 0) };
            }
            let shown = asked.last_user();
            Reply::text(match shown.contains("Answer with an IDEA and nothing else") {
                _ if shown.contains("was there before") => idea("halve weight decay"),
                true if asked.number == 0 => idea("warm caches before loops over tokens begin"),
                true => idea("begin loops over tokens before caches cool"),
                false => BLOCKS.replace("0.2", &format!("0.{}", asked.number + 2)),
            })
        });
        let server = server.expect("a port");
        let model = |name: &str, weight: f64| {
            serde_json::json!({
                "name": name, "model": name, "base_url": server.base_url(), "weight": weight,
                "price": {"input": 1.0, "output": 0.0},
            })
        };
        let config = serde_json::json!({
            "models": [model("fast", 1.0), model("words", 0.0)],
            "schedule": {"template_iterations": 0},
            "embeddings": {"model": "words", "similarity": 0.8},
        });
        let llm = Llm::new(serde_json::from_value(config).expect("a configuration"));
        let (llm, host) = (llm.expect("sound"), RecordingHost::new().expect("a folder"));
        let first = llm.propose(&request(1), &host).expect("proposes");
        llm.observe(&outcome(1, first.idea, 19.0)).expect("learns");
        let second = llm.propose(&request(2), &host).expect("proposes");
        let embedded = server.asked().iter().filter(|asked| asked.model() == "words").count();
        (second.idea.summary.clone(), details(&second), embedded)
    };
    let (summary, noted, embedded) = run(false);
    assert_eq!((summary.as_str(), noted.duplicates, embedded), ("halve weight decay", 1, 3));
    let (summary, noted, embedded) = run(true);
    assert_eq!(
        (summary.as_str(), noted.duplicates, embedded),
        ("begin loops over tokens before caches cool", 0, 2)
    );
    assert_eq!(noted.unembedded, ["invalid_request"]);
}
