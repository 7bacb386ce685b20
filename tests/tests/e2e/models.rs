//! A search whose mutator asks models: a local server speaks the provider's wire format and answers from
//! a script. Template stage, switch, idea, implementation, failing check, repair, success; then the same
//! without a server.

use forerunner_scripted_model::{Asked, Reply, Script, Server};
use forerunner_tests::{Scratch, workspace};
use std::path::Path;

/// Script and run file, as documented.
const EXAMPLE: &str = "tests/scripted-model/examples/speedrun";

/// What must never be seen anywhere.
const KEY: &str = "sk-proj-Zr7Qm2Xv9Lk4Wd8Ns3Tb6Yh1Jc5";

/// The reference on the track `cpu`, with a training of a few steps, so that a search takes seconds.
fn short_reference(scratch: &Scratch) {
    let path = workspace().join("environments/nanogpt/programs/gpt2.rs");
    let source = std::fs::read_to_string(path).expect("the reference program");
    let short = source.replace("const STEPS: usize = 2800;", "const STEPS: usize = 12;");
    assert_ne!(short, source, "the reference has other steps now: change this test");
    scratch.write("short.rs", short);
}

/// The run file that the documentation shows, on the short reference, with a key.
fn run_file(scratch: &Scratch, server: &Server) {
    short_reference(scratch);
    let text = std::fs::read_to_string(workspace().join(EXAMPLE).with_extension("toml"));
    let text = text.expect("the example's run file");
    let (reference, url) = (scratch.path().join("short.rs"), server.base_url());
    let text = text
        .replace(
            "track = \"cpu\"",
            &format!("track = \"cpu\", windows = 16, reference = {reference:?}"),
        )
        .replace("http://127.0.0.1:8089/v1", &url)
        .replace("[selector]", "key_env = \"SCRIPTED_KEY\"\n\n[selector]");
    scratch.write("models.toml", text);
}

/// What the model says. It knows one thing too many: an operation that does not exist.
fn script() -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let text = std::fs::read_to_string(workspace().join(EXAMPLE).with_extension("json"));
    let script = Script::parse(&text.expect("the example's script")).expect("a script");
    move |asked| script.answer(asked)
}

fn with_key(scratch: &Scratch, arguments: &str) -> forerunner_tests::Done {
    let mut command = scratch.command(arguments);
    command.env("SCRIPTED_KEY", KEY);
    scratch.done(command)
}

fn assert_no_secret_below(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_no_secret_below(&path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).expect("readable");
            // Long pieces as well: masked keys still tell too much.
            for secret in [KEY, &KEY[8..20]] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} holds the key", path.display());
            }
        }
    }
}

#[test]
fn a_scripted_search_goes_through_all_stages_and_is_replayed_offline() {
    let server = Server::guarded(KEY, script()).expect("a local server");
    let scratch = Scratch::new();
    run_file(&scratch, &server);
    let run = with_key(&scratch, "run models.toml --out run --log trace");
    assert_eq!(run.code, Some(0), "{}", run.failure());
    assert!(!run.stderr.contains(&KEY[8..20]), "{}", run.stderr);

    let log = scratch.log("run");
    assert_eq!(log.verdicts_of_exactly(4)["accepted"], 4);
    let purposes: Vec<String> = log
        .of("called")
        .map(|call| format!("{} {}", call["iteration"], call["purpose"].as_str().unwrap_or("")))
        .collect();
    let expected = [
        "1 template",
        "2 template",
        "3 idea",
        "3 implementation",
        "3 repair",
        "4 idea",
        "4 implementation",
    ];
    assert_eq!(purposes, expected);
    let third = log.of("evaluated").find(|event| event["iteration"] == 3).expect("evaluated");
    assert_eq!(third["repairs"], 1, "{third}");
    assert_eq!(third["idea"]["stage"], "meta");
    assert_eq!(third["idea"]["model"], "scripted");
    let failed = log.of("check_failed").next().expect("a failed check");
    assert_eq!((&failed["iteration"], &failed["cause"]), (&3.into(), &"compile".into()));
    // 7 calls of 9,000 tokens in and 400 out.
    let dollars = log.summary()["cost"]["dollars"].as_f64().expect("a number");
    assert!((dollars - 7.0 * (9000.0 * 1.0 + 400.0 * 4.0) / 1e6).abs() < 1e-9, "{dollars}");

    let asked = server.asked();
    let repair = asked.iter().find(|one| one.last_user().contains("failed its check"));
    let repair = repair.expect("it was asked to mend it").last_user();
    assert!(repair.contains("relu_square"), "the compiler's words come back: {repair}");

    let told = scratch.forerunner("log run").good();
    for words in ["Squared ReLU in the hidden layer", "relu_square", "scripted", "implementation"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains('\u{1b}'), "{told:?}");
    let ideas = scratch.forerunner("ideas run").good();
    for words in
        ["Squared ReLU in the hidden layer", "Clip gradients at a larger norm", "meta", "template"]
    {
        assert!(ideas.contains(words), "{words}: {ideas}");
    }

    // Without server, network and key.
    let n_asked = server.count();
    drop(server);
    scratch.forerunner("run --replay run --out again").good();
    assert_eq!(n_asked, 7);
    let timeless = |run: &str| {
        let mut log = scratch.log(run);
        log.0.retain(|event| event["event"] != "replayed");
        for event in log.0.iter_mut().filter_map(|event| event.as_object_mut()) {
            event.remove("replay_of");
        }
        log.timeless()
    };
    assert_eq!(timeless("again"), timeless("run"));
    assert_no_secret_below(scratch.path());
}

#[test]
fn a_wrong_key_is_told_from_a_missing_one_and_neither_is_shown() {
    let server = Server::guarded("another", script()).expect("a local server");
    let scratch = Scratch::new();
    run_file(&scratch, &server);
    let done = with_key(&scratch, "run models.toml --out wrong --log debug");
    let log = scratch.log("wrong");
    assert_eq!(log.verdicts_of_exactly(4)["mutator"], 4, "{}", done.failure());
    let call = log.of("called").next().expect("a call").to_string();
    assert!(call.contains("unauthorized"), "{call}");
    let asked = server.count();
    assert!((1..=4).contains(&asked), "a refused key is not tried again within a call: {asked}");

    scratch.forerunner("run models.toml --out missing").good();
    let call = scratch.log("missing").of("called").next().expect("a call").to_string();
    assert!(call.contains("SCRIPTED_KEY"), "it names the variable: {call}");
    assert_eq!(server.count(), asked, "nobody is asked without a key");
    assert_no_secret_below(scratch.path());
}

/// An idea in words of its own, and the change that makes the parent's number smaller.
fn good(asked: &Asked) -> Reply {
    let n = asked.number;
    let question = asked.last_user();
    let line = question.lines().find(|line| line.starts_with("value = ")).unwrap_or("value = 1.0");
    let value: f64 = line.trim_start_matches("value = ").parse().expect("a number");
    let next = value * (0.5 + 0.4 * (n as f64 * 0.618).fract());
    let words: Vec<String> = (0..8).map(|k| format!("w{:x}", (n * 8 + k) * 7919 + 1)).collect();
    let words = words.join(" ");
    Reply::text(format!(
        "{{\"summary\": \"{words}\", \"mechanism\": \"because {words}\", \"expected_gain\": [0.1, 0.5]}}\n\n\
         program.txt\n<<<<<<< SEARCH\n{line}\n=======\nvalue = {next:?}\n>>>>>>> REPLACE\n"
    ))
}

/// Everything that a provider may do, in turns, between good replies.
fn moody(asked: &Asked) -> Reply {
    let wrong = "An idea in prose.\n\nprogram.txt\n<<<<<<< SEARCH\nnot there\n=======\nx\n>>>>>>> REPLACE\n";
    let second = std::time::Duration::from_secs(1);
    match asked.number % 34 {
        1 => Reply::malformed(),
        3 => Reply::truncated("half a JSON"),
        5 => Reply::empty(),
        7 => Reply::huge(3 << 20),
        9 => Reply::refusal("I would rather not."),
        11 => Reply::status(401),
        13 => Reply::status(429).retry_after(0.01),
        15 => Reply::status(500),
        17 => Reply::status(529),
        19 => Reply::slow(second / 10, good(asked)),
        21 => Reply::hang(),
        23 => Reply::dropped("the beginning of an idea that never ends", 2),
        25 => Reply::text(wrong),
        27 => Reply::cut("{\"summary\": \"it was cut"),
        29 => Reply::half(),
        31 => Reply::strange(),
        _ => good(asked),
    }
}

#[test]
fn nothing_that_a_provider_does_loses_an_iteration_or_starts_a_storm() {
    const EVALUATIONS: usize = 40;
    const ATTEMPTS: usize = 3;
    for (provider, stream) in
        [("openai", true), ("openai", false), ("anthropic", true), ("anthropic", false)]
    {
        let server = Server::start(moody).expect("a local server");
        let scratch = Scratch::new();
        let url = server.base_url();
        let text = format!(
            r#"
            [environment]
            name = "trivial"

            [[mutator]]
            name = "llm"
            [mutator.config]
            schedule = {{ template_iterations = 1000 }}
            [[mutator.config.models]]
            name = "moody"
            provider = "{provider}"
            model = "moody-1"
            base_url = "{url}"
            stream = {stream}
            attempts = {ATTEMPTS}
            max_tokens = 4000
            timeout_seconds = 0.6
            idle_timeout_seconds = 0.5
            pace = {{ backoff = 0.01, backoff_cap = 0.02, circuit_failures = 0 }}

            [selector]
            name = "islands"

            [run]
            mode = "steady"
            pause_seconds = 0.01

            [budget]
            evaluations = {EVALUATIONS}

            [confirm]
            finalists = 0
            "#
        );
        scratch.write("moody.toml", text);
        scratch.forerunner("run moody.toml --out run").good();
        let log = scratch.log("run");
        let verdicts = log.verdicts_of_exactly(EVALUATIONS as u64);
        assert!(verdicts["accepted"] >= 20, "{provider}, stream {stream}: {verdicts:?}");
        assert!(verdicts["mutator"] >= 1, "{provider}, stream {stream}: {verdicts:?}");
        // Every request belongs to a call that the log has; none is sent more often than allowed.
        let attempts: Vec<u64> =
            log.of("called").map(|call| call["attempts"].as_u64().expect("a number")).collect();
        assert_eq!(attempts.iter().sum::<u64>(), server.count() as u64, "{provider}, {stream}");
        assert!(attempts.iter().all(|n| *n <= ATTEMPTS as u64), "{attempts:?}");
        let failures: Vec<String> = log
            .of("called")
            .filter_map(|call| call["failure"].as_str()?.split(':').next().map(str::to_owned))
            .collect();
        for kind in ["refused", "unauthorized", "too_long"] {
            let huge_is_taken_whole = kind == "too_long" && !stream;
            assert!(
                huge_is_taken_whole || failures.iter().any(|failure| failure == kind),
                "{provider}, stream {stream}: no {kind} in {failures:?}"
            );
        }
    }
}
