//! What an agent is given, and what becomes of what it leaves.

use crate::stage::{KEY, Stage, hosted, is_gone};
use forerunner_agent::{Agent, Config, CostSource};
use forerunner_core::{
    Answered, Cause, Change, Cost, Evaluation, Finding, Interval, Mutator, Outcome, Program,
    RepairRequest, Role,
};
use std::collections::BTreeMap;

fn files(change: &Change) -> BTreeMap<&str, &str> {
    match change {
        Change::Files(files) => files.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_agent_finds_what_it_needs_and_leaves_a_program_and_an_idea() {
    hosted(|| {
        let mut stage = Stage::new(
            r#"
            pwd > "$EVIDENCE/folder"
            expect() { grep -q "$2" "$1" || { echo "no '$2' in $1" >&2; exit 9; }; }
            expect BRIEF.md 'Make the toy fast.'
            expect BRIEF.md 'A toy is made of words.'
            expect BRIEF.md 'less is better; this program has 20'
            expect BRIEF.md '`main.txt`, `parts/more.txt`'
            expect TELEMETRY.md 'seconds 20'
            expect TELEMETRY.md 'seconds.*0.125'
            expect TELEMETRY.md 'seconds 15 s (this_program 20'
            expect HISTORY.md 'rewind the spring'
            expect HISTORY.md 'no such .31mspring'
            expect HISTORY.md 'use a motor, expected +1.0 % to +5.0 %; +25.0 % against'
            expect inspirations/*/main.txt 'quick'
            [ ! -e FINDINGS.md ] || exit 8
            [ -z "$(cat)" ] || exit 6
            printf '%s' "$1" | grep -q 'BRIEF.md' || exit 7
            echo fast > main.txt
            mkdir extra && echo added > extra/new.txt
            echo note > note.md
            printf 'Summary: a motor\033[31m\nExpected gain: 5 to 20 %%\nMechanism: It turns.\nRefutation: It stands.\n' > IDEA.md
            echo '{"total_cost_usd": 0.5, "usage": {"in": 100, "out": 20}}'
            "#,
        );
        stage.config.cost = Some(CostSource {
            file: None,
            dollars: Some("/total_cost_usd".to_owned()),
            tokens_in: Some("/usage/in".to_owned()),
            tokens_out: Some("/usage/out".to_owned()),
        });
        let proposal = stage.propose().expect("a proposal");
        let expected = [("extra/new.txt", "added\n"), ("main.txt", "fast\n")];
        assert_eq!(files(&proposal.change), BTreeMap::from(expected));
        let idea = &proposal.idea;
        assert_eq!(idea.summary, "a motor[31m", "no control characters");
        assert_eq!(idea.expected_gain, Some(Interval { low: 0.05, high: 0.2 }));
        assert_eq!(
            (idea.mechanism.as_str(), idea.refutation.as_str()),
            ("It turns.", "It stands.")
        );
        assert_eq!((idea.stage.as_str(), idea.model.as_str()), ("agent", "stand-in"));
        let cost = Cost { tokens_in: 100, tokens_out: 20, dollars: 0.5 };
        assert_eq!((stage.host.spent(), proposal.cost), (cost, Cost::default()));
        assert!(is_gone(&stage.evidence("folder").expect("the agent was there")));

        let [(call, answer)] = &stage.host.calls()[..] else { panic!("one call") };
        assert_eq!((call.model.as_str(), call.purpose.as_str()), ("stand-in", "agent"));
        assert_eq!((call.seed, call.ordinal), (7, 0));
        assert_eq!(call.messages[0].role, Role::System);
        assert!(call.messages.last().is_some_and(|message| message.text.contains("slow")));
        assert!(matches!(answer.outcome, Answered::Reply { .. }) && answer.cost == cost);
        assert!(stage.log().contains("total_cost_usd"));
    });
}

#[test]
fn an_agent_that_checks_mends_itself() {
    hosted(|| {
        let stage = Stage::new(
            r#"
            echo 'does not compile' > main.txt
            ./check > "$EVIDENCE/said"; echo "code $?" >> "$EVIDENCE/said"
            echo fast > main.txt
            (cd parts && ../check) >> "$EVIDENCE/said"; echo "code $?" >> "$EVIDENCE/said"
            "#,
        );
        let proposal = stage.propose().expect("a proposal");
        assert_eq!(files(&proposal.change), BTreeMap::from([("main.txt", "fast\n")]));
        assert_eq!(
            stage.evidence("said").expect("it checked"),
            "error compile/error: this does not compile\nrefused (compile); 9 of 10 checks left\n\
             code 1\npassed; 8 of 10 checks left\ncode 0\n"
        );
        assert_eq!(proposal.idea.summary, "changes main.txt");
    });
}

#[test]
fn checks_may_be_many_at_once_and_may_be_abandoned() {
    hosted(|| {
        let mut stage = Stage::new(
            r#"
            echo fast > main.txt
            ./check > /dev/null & abandoned=$!
            kill -9 $abandoned
            for n in 1 2 3 4; do (./check > /dev/null; echo "code $?" >> codes.txt) & done
            wait
            ln -sfn /etc .check/link; mkdir '.check/../.check/a b'; mkfifo .check/pipe
            until ./check | grep -q 'no check is left'; do :; done
            "#,
        );
        stage.config.checks = 8;
        let proposal = stage.propose().expect("a proposal");
        assert_eq!(files(&proposal.change)["codes.txt"], "code 0\n".repeat(4));
    });
}

#[test]
fn an_agent_that_dies_within_a_check_is_a_failure_and_no_hang() {
    hosted(|| {
        let stage = Stage::new("echo fast > main.txt; ./check & sleep 0.01; kill -9 $$");
        assert!(stage.failure().contains("ended by signal 9"));
    });
}

#[test]
fn nothing_done_is_a_failure() {
    hosted(|| {
        let stage = Stage::new("echo thinking hard; echo notes > notes.md");
        assert!(stage.failure().contains("stand-in left the program as it was"));
        assert!(matches!(&stage.host.calls()[0].1.outcome,
            Answered::Failed { kind, .. } if kind == "empty"));
    });
}

#[test]
fn files_may_be_removed_but_not_all() {
    hosted(|| {
        let stage = Stage::new("rm -r parts; echo fast > main.txt");
        let expected = Change::Program(Program::single("main.txt", "fast\n"));
        assert_eq!(stage.propose().expect("a proposal").change, expected);
        let all = Stage::new("rm -r parts main.txt");
        assert!(all.failure().contains("removed the whole program"));
    });
}

#[test]
fn what_is_no_ordinary_file_is_refused_and_not_followed() {
    hosted(|| {
        for (script, expected) in [
            ("ln -sf /etc/passwd main.txt", "`main.txt` is no ordinary file"),
            ("rm -r parts; ln -s /etc parts", "`parts` is no ordinary file"),
            ("rm main.txt; mkfifo main.txt", "`main.txt` is no ordinary file"),
            ("head -c 2000000 /dev/zero > huge.txt", "`huge.txt` is larger than 512 KiB"),
            ("printf '\\377' > main.txt", "no UTF-8"),
        ] {
            let failure = Stage::new(script).failure();
            assert!(failure.contains(expected) && !failure.contains("root:"), "{failure}");
        }
    });
}

#[test]
fn a_code_other_than_zero_is_a_failure_with_last_words() {
    hosted(|| {
        let stage = Stage::new(
            r#"echo fast > main.txt; printf 'first\n\033]0;title\007out of quota\n' >&2; exit 3"#,
        );
        let failure = stage.failure();
        assert!(failure.contains("stand-in ended with code 3"), "{failure}");
        assert!(failure.contains("its last words: ]0;titleout of quota"), "{failure}");
        assert!(failure.contains("\nhint: its output is in "), "{failure}");
        assert!(!failure.chars().any(|c| c.is_control() && c != '\n'), "{failure:?}");
    });
}

#[test]
fn what_is_recorded_starts_no_agent() {
    hosted(|| {
        let good = r#"echo started >> "$EVIDENCE/starts"; echo fast > main.txt"#;
        for script in [good.to_owned(), format!("{good}; exit 3")] {
            let stage = Stage::new(&script);
            let first = stage.propose();
            let second = stage.propose();
            assert_eq!(first, second);
            assert_eq!(stage.evidence("starts").as_deref(), Some("started\n"));
            assert_eq!(stage.host.calls().len(), 1);
            assert_eq!(stage.host.spent().dollars, 0.5, "what is recalled counts as well");
        }
    });
}

#[test]
fn another_question_is_another_call() {
    hosted(|| {
        let mut stage = Stage::new(r#"echo started >> "$EVIDENCE/starts"; echo fast > main.txt"#);
        stage.propose().expect("a proposal");
        stage.request.seed = 8;
        stage.propose().expect("a proposal");
        assert_eq!(stage.evidence("starts").as_deref(), Some("started\nstarted\n"));
    });
}

#[test]
fn floods_are_cut() {
    hosted(|| {
        let mut stage = Stage::new(
            "head -c 30000000 /dev/zero | tr '\\0' 'x'; head -c 3000000 /dev/zero >&2
             echo; echo '{\"cost\": 0.75}'; echo fast > main.txt",
        );
        stage.config.output_kib = 16;
        stage.config.cost = Some(CostSource {
            file: None,
            dollars: Some("/cost".to_owned()),
            tokens_in: None,
            tokens_out: None,
        });
        stage.propose().expect("a proposal");
        assert!(stage.log().len() < 40 << 10);
        assert!(stage.log().contains("bytes left out"));
        assert_eq!(stage.host.spent().dollars, 0.75, "the end is kept");
    });
}

#[test]
fn a_failed_check_is_repaired_as_often_as_configured() {
    hosted(|| {
        let stage = Stage::new(
            r#"
            if [ -e FINDINGS.md ]; then
                grep -q 'no such name' FINDINGS.md || exit 9
                grep -q 'broken' main.txt || exit 8
                echo mended > main.txt
            else
                echo broken > main.txt; echo 'Summary: try' > IDEA.md
            fi
            "#,
        );
        let agent = stage.agent();
        let proposal = agent.propose(&stage.request, &stage.host).expect("a proposal");
        let mut program = stage.request.parent.program.clone();
        program.files.insert("main.txt".to_owned(), "broken\n".to_owned());
        let mut repair = RepairRequest {
            request: stage.request.clone(),
            proposal,
            program: Some(program),
            cause: Cause::Compile,
            findings: vec![Finding::error("compile/error", "no such name")],
            attempt: 1,
        };
        let mended = agent.repair(&repair, &stage.host).expect("repaired").expect("a proposal");
        assert_eq!(files(&mended.change), BTreeMap::from([("main.txt", "mended\n")]));
        assert_eq!(mended.idea.summary, "try", "the idea is still the same");
        repair.attempt = 2;
        assert_eq!(agent.repair(&repair, &stage.host), Ok(None));
        let ordinals: Vec<u32> = stage.host.calls().iter().map(|(call, _)| call.ordinal).collect();
        assert_eq!(ordinals, [0, 1]);
    });
}

#[test]
fn its_own_ideas_are_told_with_what_they_gained() {
    hosted(|| {
        let stage = Stage::new(
            r#"cp HISTORY.md "$EVIDENCE/history"; echo fast > main.txt; echo 'Motor' > IDEA.md"#,
        );
        let agent = stage.agent();
        let proposal = agent.propose(&stage.request, &stage.host).expect("a proposal");
        let finding = Finding::error("compile/error", "no \u{1b}motor");
        for evaluation in
            [Evaluation::accepted("seconds", 15.0), Evaluation::failed(Cause::Compile, finding)]
        {
            let outcome = Outcome {
                iteration: 1,
                idea: proposal.idea.clone(),
                parent: stage.request.parent.id.clone(),
                parent_evaluation: stage.request.parent.evaluation.clone(),
                program: None,
                evaluation,
            };
            agent.observe(&outcome).expect("taken in");
        }
        agent.propose(&stage.request, &stage.host).expect("a proposal");
        let history = stage.evidence("history").expect("a history");
        assert!(history.contains("- Motor: measured +25.0 %\n"), "{history}");
        assert!(
            history.contains("- Motor: failed: compile (compile/error: no motor)\n"),
            "{history}"
        );
    });
}

#[test]
fn only_granted_variables_arrive_and_secrets_stay_hidden() {
    hosted(|| {
        let script = r#"
            env > "$EVIDENCE/env"; cat > "$EVIDENCE/stdin"
            env; echo fast > main.txt; printf 'Summary: use %s\n' "$AGENT_TEST_KEY" > IDEA.md"#;
        let mut stage = Stage::new(script);
        stage.config.env = vec![KEY.0.to_owned()];
        stage.config.prompt_on_stdin = true;
        let proposal = stage.propose().expect("a proposal");
        let env = stage.evidence("env").expect("an environment");
        assert!(env.contains(&format!("{}={}", KEY.0, KEY.1)), "{env}");
        assert!(env.contains("PATH=") && !env.contains("NOBODYS_BUSINESS"), "{env}");
        assert!(stage.evidence("stdin").is_some_and(|text| text.contains("BRIEF.md")));
        let log = stage.log();
        assert!(log.contains("AGENT_TEST_KEY=[secret]") && !log.contains(KEY.1), "{log}");
        assert_eq!(proposal.idea.summary, "use [secret]");
        assert!(!format!("{:?}", stage.host.calls()).contains(KEY.1));

        let mut thief = Stage::new(r#"echo "$AGENT_TEST_KEY" > main.txt"#);
        thief.config.env = vec![KEY.0.to_owned()];
        let failure = thief.failure();
        assert!(failure.contains("wrote one of its secrets") && !failure.contains(KEY.1));
        for (script, expected) in [
            (
                r#"printf "${AGENT_TEST_KEY%??}\\033${AGENT_TEST_KEY#????????????????}" > main.txt"#,
                "wrote one of its",
            ),
            (r#"echo fast > "$AGENT_TEST_KEY.txt""#, "wrote one of its secrets"),
            (r#"mkfifo "$AGENT_TEST_KEY.txt""#, "`[secret].txt` is no ordinary file"),
            (
                r#"printf "${AGENT_TEST_KEY%??}\\033${AGENT_TEST_KEY#????????????????}" >&2; exit 1"#,
                "last words: [secret]",
            ),
        ] {
            let mut thief = Stage::new(script);
            thief.config.env = vec![KEY.0.to_owned()];
            let failure = thief.failure();
            assert!(failure.contains(expected) && !failure.contains(KEY.1), "{failure}");
        }
    });
}

#[test]
fn an_agent_that_is_not_there_is_a_failure_without_cost() {
    hosted(|| {
        let mut stage = Stage::new("");
        stage.config.command = vec!["no-such-agent".to_owned()];
        let error = stage.propose().expect_err("there is none").to_string();
        assert!(error.contains("there is no program `no-such-agent`\nhint: install it"), "{error}");
        assert_eq!((stage.host.spent(), stage.host.calls().len()), (Cost::default(), 1));
    });
}

#[test]
fn an_agent_without_its_key_is_not_started() {
    hosted(|| {
        let mut stage = Stage::new(r#"echo started > "$EVIDENCE/starts"; echo fast > main.txt"#);
        stage.config.env = vec![KEY.0.to_owned(), "NO_SUCH_KEY".to_owned()];
        let error = stage.propose().expect_err("no key").to_string();
        assert!(
            error.contains("the variable `NO_SUCH_KEY`, which `env` names, is not set"),
            "{error}"
        );
        assert_eq!((stage.host.spent(), stage.evidence("starts")), (Cost::default(), None));
        // A value of its own is one, too.
        stage.request.seed = 8;
        stage.config.set.insert("NO_SUCH_KEY".to_owned(), "none".to_owned());
        stage.propose().expect("a proposal");
    });
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let check = |change: &dyn Fn(&mut Config), expected: &str| {
        let mut config = Config { command: vec!["x".to_owned()], ..Config::default() };
        change(&mut config);
        let error = Agent::new(config).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|config| config.command.clear(), "`command`: empty");
    check(&|config| config.name = Some("\u{1b}".to_owned()), "`name`");
    check(&|config| config.seconds = 0, "`seconds`: 0 is not within 1 and 86400");
    check(&|config| config.dollars = f64::NAN, "`dollars`");
    check(&|config| config.env = vec!["A=B".to_owned()], "`env`: `A=B` is no name");
    check(&|config| config.checks = 2000, "`checks`");
    let cost = |file: Option<&str>, dollars: Option<&str>| CostSource {
        file: file.map(str::to_owned),
        dollars: dollars.map(str::to_owned),
        tokens_in: None,
        tokens_out: None,
    };
    check(&|config| config.cost = Some(cost(None, None)), "names none of");
    check(&|config| config.cost = Some(cost(None, Some("cost"))), "no JSON pointer");
    check(&|config| config.cost = Some(cost(Some("../x"), Some("/cost"))), "`file` is the name");
}
