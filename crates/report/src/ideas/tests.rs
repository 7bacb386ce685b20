//! What is told of ideas.

use super::*;
use forerunner_core::{Answer, Call, Evaluation, Finding, Interval, Objective};
use forerunner_runtime::store::Iteration;
use serde_json::json;

fn id(number: u64) -> ProgramId {
    ProgramId(format!("{number:032x}"))
}

/// A run in which iteration `n` makes program `n`.
fn stored(number: u64, parent: u64, loss: Option<f64>, idea: Idea) -> StoredIteration {
    let evaluation = match loss {
        Some(loss) => Evaluation::accepted("loss", loss),
        None => Evaluation::failed(Cause::Compile, Finding::error("compile/error", "no")),
    };
    StoredIteration {
        iteration: Iteration {
            iteration: number,
            generation: 1,
            island: (number % 2) as u32,
            mutator: "llm".to_owned(),
            parent: (number > 0).then(|| id(parent)),
            program: Some(id(number)),
            idea,
            cost: Cost::default(),
            repairs: 0,
            duplicate: false,
        },
        evaluation_id: number as i64,
        evaluation,
    }
}

fn idea(summary: &str, model: &str, stage: &str, expected: Option<(f64, f64)>) -> Idea {
    Idea {
        summary: summary.to_owned(),
        model: model.to_owned(),
        stage: stage.to_owned(),
        expected_gain: expected.map(|(low, high)| Interval { low, high }),
        ..Idea::default()
    }
}

fn call(iteration: u64, model: &str, purpose: &str, failed: bool) -> StoredCall {
    let outcome = if failed {
        Answered::Failed { kind: "timeout".to_owned(), message: "late".to_owned() }
    } else {
        Answered::Reply { text: String::new(), cut: false }
    };
    StoredCall {
        key: format!("{iteration:032x}"),
        iteration,
        call: Call {
            model: model.to_owned(),
            purpose: purpose.to_owned(),
            parameters: Default::default(),
            messages: Vec::new(),
            seed: 1,
            ordinal: 0,
        },
        answer: Answer {
            outcome,
            cost: Cost { tokens_in: 1500, tokens_out: 500, dollars: 0.05 },
            seconds: 1.5,
            attempts: 1,
        },
    }
}

fn run() -> Ideas {
    let mut again = stored(5, 1, Some(1.8), idea("RATE 2e-3 again", "small", "template", None));
    again.iteration.duplicate = true;
    let mut vetoed = stored(6, 1, None, Idea::default());
    vetoed.iteration.program = None;
    vetoed.evaluation = Evaluation::failed(Cause::Mutator, Finding::error("mutator/error", "veto"));
    let mut judged = idea("norm\x1b[31m of queries", "big", "meta", Some((0.0, 0.1)));
    judged.details = json!({"critic": [{"verdict": "accept", "reason": ""}]});
    let iterations = vec![
        stored(0, 0, Some(2.0), Idea::default()),
        stored(1, 0, Some(1.8), idea("RATE 2e-3", "small", "template", Some((0.05, 0.2)))),
        stored(2, 0, Some(2.2), idea("longer warm-up", "small", "template", Some((0.0, 0.02)))),
        stored(3, 1, None, idea("mix the streams", "big", "meta", Some((0.1, 0.3)))),
        stored(4, 1, Some(1.71), judged),
        again,
        vetoed,
        // Its parent never got a value: nothing to compare with.
        stored(7, 3, Some(1.9), idea("日本語", "big", "meta", Some((-0.1, 0.0)))),
    ];
    let calls = vec![
        call(1, "small", "template", false),
        call(2, "small", "template", true),
        call(4, "big", "idea", false),
        call(6, "big", "idea", false),
        call(6, "small", "critique", false),
    ];
    let objectives = Objectives(vec![Objective::minimize("loss", "")]);
    Ideas {
        run: "runs/x".to_owned(),
        environment: "nanogpt".to_owned(),
        track: "cpu".to_owned(),
        tried: tried(&objectives, iterations, &calls, &BTreeSet::from([(3, 0)])),
        calls,
    }
}

const VIEW: View = View { order: Order::Gain, listed: 20, by: None };

#[test]
fn ideas_with_what_was_expected_and_what_came() {
    let text = run().text(&VIEW);
    assert!(!text.contains('\x1b'));
    insta::assert_snapshot!(text, @"
    nanogpt/cpu: 7 ideas, 5 with an expected gain
    Gains are relative to the parent, in the most important objective that both have, from one seed each on the search's slice (dev): part of every gain is luck.
    Children of one parent share the luck of its measurement, which makes intervals too narrow.

    ideas, best first
      #     gain            expected         outcome                 mutator  model  stage     island  idea
      1  +10.0 %   +5.0 % to +20.0 %  hit    better                  llm      small  template       1  RATE 2e-3
      4   +5.0 %    0.0 % to +10.0 %  hit    better                  llm      big    meta           0  norm of queries
      2  -10.0 %     0.0 % to +2.0 %  below  not better              llm      small  template       0  longer warm-up
      3           +10.0 % to +30.0 %         failed (compile)        llm      big    meta           1  mix the streams
      5                                      same program as before  llm      small  template       1  RATE 2e-3 again
      6                                      failed (mutator)        llm      big                   0  (none given)
      7             -10.0 % to 0.0 %         accepted                llm      big    meta           1  日本語

    expected against measured, 3 ideas
      in the interval      2 of 3: 66.7 % (21 to 94) with 95 % confidence; an interval is asked to hold 66.7 %
      below / above it     1 / 0
      measured - expected  -4.5 % (95 % interval -18.8 % to +9.8 %) on average
      correlation          0.90, of ranks 1.00
      will it gain?        Brier score 0.242 (0 is a prophet, 0.25 a coin); 0.222 for knowing only how many do

    by mutator, shares with their 95 % intervals
           ideas              valid           accepted  better than parent        in interval  measured - expected
      llm      7  71.4 % (36 to 92)  71.4 % (36 to 92)    28.6 % (8 to 64)  66.7 % (21 to 94)               -4.5 %

    by model, shares with their 95 % intervals
             ideas                valid             accepted  better than parent          in interval  measured - expected
      big        4    50.0 % (15 to 85)    50.0 % (15 to 85)    25.0 % (5 to 70)  100.0 % (21 to 100)                0.0 %
      small      3  100.0 % (44 to 100)  100.0 % (44 to 100)    33.3 % (6 to 79)     50.0 % (9 to 91)               -6.8 %

    by stage, shares with their 95 % intervals
                ideas                valid             accepted  better than parent          in interval  measured - expected
      (none)        1      0.0 % (0 to 79)      0.0 % (0 to 79)     0.0 % (0 to 79)
      meta          3    66.7 % (21 to 94)    66.7 % (21 to 94)    33.3 % (6 to 79)  100.0 % (21 to 100)                0.0 %
      template      3  100.0 % (44 to 100)  100.0 % (44 to 100)    33.3 % (6 to 79)     50.0 % (9 to 91)               -6.8 %

    by island, shares with their 95 % intervals
         ideas              valid           accepted  better than parent          in interval  measured - expected
      0      3  66.7 % (21 to 94)  66.7 % (21 to 94)    33.3 % (6 to 79)     50.0 % (9 to 91)               -5.5 %
      1      4  75.0 % (30 to 95)  75.0 % (30 to 95)    25.0 % (5 to 70)  100.0 % (21 to 100)               -2.5 %

    critic, shares with their 95 % intervals
                     ideas              valid           accepted  better than parent          in interval  measured - expected
      with a critic      2   50.0 % (9 to 91)   50.0 % (9 to 91)    50.0 % (9 to 91)  100.0 % (21 to 100)                0.0 %
      without            5  80.0 % (38 to 96)  80.0 % (38 to 96)    20.0 % (4 to 62)     50.0 % (9 to 91)               -6.8 %

    models; who had an idea has its gain, whoever wrote the program
    mean gain: of its ideas that were measured, losses included, with its 95 % interval
    gained: gains added up, losses left out, which grows with the number of tries
             calls  failed  tokens in   out   cost  seconds a call  mean gain                          gained  per dollar  per 1,000 tokens
      big        2       0       3000  1000  $0.10             1.5  +5.0 % (1 idea)                     5.0 %      50.0 %             1.3 %
      small      3       1       4500  1500  $0.15             1.5  0.0 % (-127.1 to +127.1, 2 ideas)  10.0 %      66.7 %             1.7 %
    ");
}

#[test]
fn a_part_of_the_list_in_the_order_of_the_run() {
    let view = View { order: Order::Iteration, listed: 3, by: Some(By::Stage) };
    insta::assert_snapshot!(run().text(&view), @"
    nanogpt/cpu: 7 ideas, 5 with an expected gain
    Gains are relative to the parent, in the most important objective that both have, from one seed each on the search's slice (dev): part of every gain is luck.
    Children of one parent share the luck of its measurement, which makes intervals too narrow.

    the first 3 of 7 ideas
      #     gain            expected         outcome           mutator  model  stage     island  idea
      1  +10.0 %   +5.0 % to +20.0 %  hit    better            llm      small  template       1  RATE 2e-3
      2  -10.0 %     0.0 % to +2.0 %  below  not better        llm      small  template       0  longer warm-up
      3           +10.0 % to +30.0 %         failed (compile)  llm      big    meta           1  mix the streams

    expected against measured, 3 ideas
      in the interval      2 of 3: 66.7 % (21 to 94) with 95 % confidence; an interval is asked to hold 66.7 %
      below / above it     1 / 0
      measured - expected  -4.5 % (95 % interval -18.8 % to +9.8 %) on average
      correlation          0.90, of ranks 1.00
      will it gain?        Brier score 0.242 (0 is a prophet, 0.25 a coin); 0.222 for knowing only how many do

    by stage, shares with their 95 % intervals
                ideas                valid             accepted  better than parent          in interval  measured - expected
      (none)        1      0.0 % (0 to 79)      0.0 % (0 to 79)     0.0 % (0 to 79)
      meta          3    66.7 % (21 to 94)    66.7 % (21 to 94)    33.3 % (6 to 79)  100.0 % (21 to 100)                0.0 %
      template      3  100.0 % (44 to 100)  100.0 % (44 to 100)    33.3 % (6 to 79)     50.0 % (9 to 91)               -6.8 %

    critic, shares with their 95 % intervals
                     ideas              valid           accepted  better than parent          in interval  measured - expected
      with a critic      2   50.0 % (9 to 91)   50.0 % (9 to 91)    50.0 % (9 to 91)  100.0 % (21 to 100)                0.0 %
      without            5  80.0 % (38 to 96)  80.0 % (38 to 96)    20.0 % (4 to 62)     50.0 % (9 to 91)               -6.8 %

    models; who had an idea has its gain, whoever wrote the program
    mean gain: of its ideas that were measured, losses included, with its 95 % interval
    gained: gains added up, losses left out, which grows with the number of tries
             calls  failed  tokens in   out   cost  seconds a call  mean gain                          gained  per dollar  per 1,000 tokens
      big        2       0       3000  1000  $0.10             1.5  +5.0 % (1 idea)                     5.0 %      50.0 %             1.3 %
      small      3       1       4500  1500  $0.15             1.5  0.0 % (-127.1 to +127.1, 2 ideas)  10.0 %      66.7 %             1.7 %
    ");
}

#[test]
fn a_run_without_models_or_ideas() {
    let objectives = Objectives(vec![Objective::minimize("loss", "")]);
    let plain = |iterations| Ideas {
        run: "runs/x".to_owned(),
        environment: "trivial".to_owned(),
        track: String::new(),
        tried: tried(&objectives, iterations, &[], &BTreeSet::new()),
        calls: Vec::new(),
    };
    let reference = || stored(0, 0, Some(2.0), Idea::default());
    let nudge = Idea { summary: "down".to_owned(), ..Idea::default() };
    insta::assert_snapshot!(plain(vec![reference(), stored(2, 0, Some(1.0), nudge)]).text(&VIEW), @"
    trivial: 1 idea, 0 with an expected gain
    Gains are relative to the parent, in the most important objective that both have, from one seed each on the search's slice (dev): part of every gain is luck.
    Children of one parent share the luck of its measurement, which makes intervals too narrow.

    ideas, best first
      #     gain  outcome  mutator  idea
      2  +50.0 %  better   llm      down

    expected against measured: no idea has both an expected gain and a measured one

    by mutator, shares with their 95 % intervals
           ideas                valid             accepted   better than parent
      llm      1  100.0 % (21 to 100)  100.0 % (21 to 100)  100.0 % (21 to 100)
    ");
    insta::assert_snapshot!(plain(vec![reference()]).text(&VIEW), @"
    trivial: 0 ideas, 0 with an expected gain
    Gains are relative to the parent, in the most important objective that both have, from one seed each on the search's slice (dev): part of every gain is luck.
    Children of one parent share the luck of its measurement, which makes intervals too narrow.
    ");
}

#[test]
fn json_holds_everything() {
    let json = run().json(None);
    let ideas = json["ideas"].as_array().expect("a list");
    assert_eq!(ideas.len(), 7);
    // 2.0 to 1.8 is a tenth.
    assert_eq!((&ideas[0]["hit"], &ideas[0]["improved"]), (&json!(true), &json!(true)));
    assert!((ideas[0]["gain"].as_f64().expect("measured") - 0.1).abs() < 1e-12);
    assert_eq!((&ideas[2]["cause"], &ideas[2]["gain"]), (&json!("compile"), &json!(null)));
    assert_eq!(ideas[3]["summary"], "norm\x1b[31m of queries");
    // A program that was measured before is no news.
    assert_eq!((&ideas[4]["duplicate"], &ideas[4]["improved"]), (&json!(true), &json!(false)));
    // It has no idea to keep a model with; who was asked knows.
    assert_eq!((&ideas[5]["model"], &ideas[5]["critic"]), (&json!("big"), &json!(true)));
    assert_eq!(json["calibration"]["coverage"]["n"], 3);
    assert_eq!(json["groups"]["model"][1]["name"], "small");
    let models = json["models"].as_array().expect("a list");
    assert_eq!((&models[1]["calls"], &models[1]["failures"]), (&json!(3), &json!(1)));
    // A gain of a tenth for three calls of five cents.
    let per_dollar = models[1]["gain_per_dollar"].as_f64().expect("it cost something");
    assert!((per_dollar - 0.1 / 0.15).abs() < 1e-9);
    let only = run().json(Some(By::Island));
    assert_eq!(
        only["groups"].as_object().expect("an object").keys().collect::<Vec<_>>(),
        ["island"]
    );
}

/// The ideas of iterations 1 and on, whose parent is the reference.
fn tried_of(
    iterations: Vec<StoredIteration>,
    calls: &[StoredCall],
    refused: &[(u64, u32)],
) -> Vec<Tried> {
    let objectives = Objectives(vec![Objective::minimize("loss", "")]);
    let reference = stored(0, 0, Some(2.0), Idea::default());
    let all = std::iter::once(reference).chain(iterations).collect();
    tried(&objectives, all, calls, &refused.iter().copied().collect())
}

#[test]
fn valid_is_what_passed_its_check_whatever_the_cause() {
    let failed = |number, cause| {
        let mut one = stored(number, 0, None, Idea::default());
        one.evaluation = Evaluation::failed(cause, Finding::error("x/y", "no"));
        one
    };
    // A smoke test may crash as a measurement does, and a measurement may find a broken rule.
    let mut mended = failed(3, Cause::Crash);
    mended.iteration.repairs = 1;
    let mut patch = failed(5, Cause::Patch);
    patch.iteration.program = None;
    let all = vec![
        failed(1, Cause::Crash),
        failed(2, Cause::Rule),
        mended,
        failed(4, Cause::Mutator),
        patch,
    ];
    // The third's first check failed, its second passed.
    let valid: Vec<bool> =
        tried_of(all, &[], &[(1, 0), (3, 0), (5, 0)]).iter().map(Tried::is_valid).collect();
    assert_eq!(valid, [false, true, true, false, false]);
    let refusal_of = |repair| {
        refusal(&EventKind::CheckFailed {
            iteration: 9,
            attempt: 1,
            cause: Cause::Memory,
            findings: Vec::new(),
            repair,
        })
    };
    assert_eq!(refusal_of(Repair::Made), None);
    assert_eq!(
        (refusal_of(Repair::GivenUp), refusal_of(Repair::NotAsked)),
        (Some((9, 1)), Some((9, 1)))
    );
}

#[test]
fn a_gain_over_another_program_is_no_forecast() {
    let over = |number, base: u64| {
        let mut idea = idea("x", "client", "submission", Some((0.0, 0.2)));
        idea.details = json!({ "base": id(base) });
        stored(number, 0, Some(1.8), idea)
    };
    let tried = tried_of(vec![over(1, 0), over(2, 7)], &[], &[]);
    assert_eq!((tried[0].forecast().map(|one| one.hit()), tried[1].forecast()), (Some(true), None));
    assert!(tried[1].gain.is_some());
}

#[test]
fn clients_have_the_credit_for_what_they_submit() {
    let by = |number, loss, model| stored(number, 0, Some(loss), idea("x", model, "mcp", None));
    let calls = [1, 2, 3].map(|number| call(number, "mcp", SUBMISSION, false));
    let tried =
        tried_of(vec![by(1, 1.8, "client"), by(2, 2.2, "client"), by(3, 1.0, "")], &calls, &[]);
    assert_eq!(tried[2].model, "");
    let [client] = &models(&calls, &tried)[..] else { panic!("one") };
    assert_eq!((client.model.as_str(), client.calls), ("client", 0));
    assert!((client.gained - 0.1).abs() < 1e-12);
    // A tenth better, a tenth worse.
    let mean = client.mean_gain().expect("two");
    assert!(mean.mean.abs() < 1e-12 && mean.n == 2 && mean.low < -0.1, "{mean:?}");
    assert!(models(&calls, &[]).is_empty());
}

#[test]
fn an_idea_is_not_put_down_to_the_model_that_embedded_it() {
    let calls = [call(1, "big", "idea", false), call(1, "words", "embedding", false)];
    let tried = tried_of(vec![stored(1, 0, None, Idea::default())], &calls, &[]);
    assert_eq!(tried[0].model, "big");
    let uses = models(&calls, &tried);
    let words = uses.iter().find(|one| one.model == "words").expect("its calls count");
    assert!(words.calls == 1 && words.mean_gain().is_none());
}
