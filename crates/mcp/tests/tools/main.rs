//! Every tool through the SDK's own client, in memory, against a toy run.

mod toy;

use forerunner_mcp::{MUTATOR, Quotas};
use forerunner_runtime::store::Store;
use serde_json::json;
use std::path::Path;
use toy::{Client, Held, REFERENCE, Settings, Toy, patch, program};

fn idea(summary: &str) -> serde_json::Value {
    json!({ "summary": summary, "expected_gain": { "low": 0.1, "high": 0.5 },
            "mechanism": "nearer to zero", "refutation": "the distance grows" })
}

fn submission(from: f64, to: f64) -> serde_json::Value {
    json!({ "patch": patch(from, to), "idea": idea(&format!("{from} to {to}")) })
}

/// The value of a line `key: value`.
fn value<'a>(page: &'a str, key: &str) -> &'a str {
    let line = page.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no `{key}` in:\n{page}"))
}

/// Waits until the run has stored an iteration.
async fn stored(toy: &Toy, iteration: u64) {
    while Store::read(&toy.folder)
        .is_ok_and(|store| store.iteration(iteration).is_ok_and(|iteration| iteration.is_none()))
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_tools_and_the_brief_say_what_this_is_about() {
    let toy = Toy::start(Settings::default());
    let client = toy.client("somebody").await;
    let info = client.service.peer_info().expect("a server").clone();
    assert_eq!(info.server_info.as_ref().map(|info| info.name.as_str()), Some("forerunner"));
    assert!(info.instructions.as_deref().is_some_and(|text| text.contains("<data")));
    let tools = client.service.list_all_tools().await.expect("a list");
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    let known = ["brief", "parent", "program", "check", "submit", "telemetry", "history", "status"];
    assert_eq!(names, known);
    let brief = client.good("brief", json!({})).await;
    for part in [
        "Bring the number to zero.",
        "`value = NUMBER`",
        "- distance in m, smaller is better",
        "- distance 0.0125",
        "evaluations of this run: 0 of 100 used, 100 left",
        "your submissions: 0 used, no limit of their own",
        "your checks: 0 of 200 used, 200 left",
    ] {
        assert!(brief.contains(part), "no `{part}` in:\n{brief}");
    }
}

#[tokio::test]
async fn a_search_from_the_parent_to_the_history() {
    let toy = Toy::start(Settings::default());
    let client = toy.client("somebody").await;
    let parent = client.good("parent", json!({})).await;
    let reference = value(&parent, "parent").to_owned();
    assert_eq!(value(&parent, "metrics"), "distance 1 m");

    let refused = client.good("check", json!({ "files": { "program.txt": "x" } })).await;
    assert_eq!(value(&refused, "check"), "refused (rule)");
    assert!(refused.contains("error toy/value: no `value = NUMBER` line\n"), "{refused}");
    let passed = client.good("check", json!({ "patch": patch(1.0, 0.5) })).await;
    assert_eq!(value(&passed, "check"), "passed");
    assert!(!passed.contains("measured before"), "{passed}");

    let result = client.good("submit", submission(1.0, 0.5)).await;
    assert_eq!(value(&result, "verdict"), "accepted");
    assert_eq!(value(&result, "program"), value(&passed, "program"));
    assert_eq!(value(&result, "parent"), reference);
    assert_eq!(value(&result, "gain over the parent"), "+50.00 %");
    assert_eq!(value(&result, "expected gain"), "+10.00 % to +50.00 %");
    assert!(result.contains("distance 0.50000 m (parent 1, -50.0 %)"), "the digest: {result}");
    assert_eq!(value(&result, "your submissions"), "1 used, no limit of their own");

    // Against the program that was shown, although the search offers its child by now.
    let result = client.good("submit", submission(1.0, 2.0)).await;
    assert_eq!(value(&result, "verdict"), "accepted");
    assert_eq!(value(&result, "gain over the parent"), "-300.00 %");
    // What does not apply is an iteration like any other, when it is about the parent.
    let parent = client.good("parent", json!({})).await;
    assert_ne!(value(&parent, "parent"), reference);
    let result = client.good("submit", submission(7.0, 0.0)).await;
    assert_eq!(value(&result, "verdict"), "failed (patch)");
    assert_eq!(value(&result, "gain over the parent"), "none");

    let page = client.good("telemetry", json!({ "program": "best" })).await;
    assert!(page.contains("curves: 1\n") && page.contains("curve (100 points)"), "{page}");
    let curve = json!({ "program": "best", "series": "curve", "from": 10, "to": 19, "points": 4 });
    let page = client.good("telemetry", curve).await;
    assert_eq!(value(&page, "points"), "4 of 10 in the range, 100 in all");
    assert!(page.contains("\n10 0.045"), "{page}");

    let diff = client.good("program", json!({ "program": "best", "show": "diff" })).await;
    assert!(diff.contains("-value = 1.0\n+value = 0.5\n"), "{diff}");
    assert_eq!(value(&diff, "proposed by"), "mcp");
    assert!(diff.contains("\nby: somebody\n</data "), "{diff}");
    let source = client.good("program", json!({ "program": &reference[..8] })).await;
    assert!(source.contains("\nvalue = 1.0\n"), "{source}");

    let history = client.good("history", json!({ "last": 3 })).await;
    assert_eq!(value(&history, "attempts"), "3, the latest 3 shown");
    assert!(history.contains("by mcp (somebody): failed (patch), gain none"), "{history}");
    let expected = "accepted, gain +50.00 %, expected +10.00 % to +50.00 %: 1 to 0.5";
    assert!(history.contains(expected), "{history}");
    let status = client.good("status", json!({})).await;
    assert_eq!(value(&status, "state"), "searching");
    assert!(value(&status, "best").ends_with(" distance 0.50000 m"), "{status}");
    assert_eq!(value(&status, "frontier"), "1 programs");
}

#[tokio::test]
async fn bad_input_is_answered_with_a_hint() {
    let toy = Toy::start(Settings::default());
    let client = toy.client("somebody").await;
    let summary = json!({ "summary": "x" });
    let cases = [
        ("nonsense", json!({}), "there is no tool `nonsense` (known: brief, parent"),
        ("brief", json!({ "x": 1 }), "`brief` has no argument `x` (known: none)"),
        ("check", json!({ "patsch": "" }), "no argument `patsch` (known: base, files, patch"),
        ("check", json!({}), "0 forms of the change were given"),
        ("check", json!({ "patch": "", "program": {} }), "2 forms of the change were given"),
        ("check", json!({ "patch": 7 }), "invalid type: integer `7`"),
        ("check", json!({ "patch": "x", "base": "zz" }), "the run has no program `zz`"),
        ("submit", json!({ "patch": "x" }), "missing field `idea`"),
        ("submit", json!({ "patch": "x", "idea": { "summary": "" } }), "`idea.summary` is empty"),
        ("submit", json!({ "patch": "x", "idea": { "sumary": "" } }), "unknown field `sumary`"),
        ("submit", json!({ "idea": summary }), "0 forms of the change"),
        ("program", json!({}), "missing field `program`"),
        ("program", json!({ "program": "'; DROP TABLE programs" }), "the run has no program"),
        ("program", json!({ "program": "best", "show": "all" }), "`show`: unknown variant `all`"),
        ("telemetry", json!({ "program": "best", "series": "x" }), "has no curve `x`"),
        ("telemetry", json!({ "program": "best", "series": "curve", "points": 0 }), "`points` is"),
        ("history", json!({ "last": -1 }), "`last`: invalid value"),
        ("history", json!({ "last": 100_000 }), "`last` is 100000"),
    ];
    client.good("brief", json!({})).await;
    for (tool, arguments, expected) in cases {
        let (good, text) = client.ask(tool, arguments.clone()).await;
        let hinted = text.contains("hint: ") || text.contains("curves: 1\n");
        assert!(!good && hinted && text.contains(expected), "{tool} {arguments}: {text}");
    }
    let status = client.good("status", json!({})).await;
    assert_eq!(value(&status, "evaluations of this run"), "0 of 100 used, 100 left");
    assert_eq!(value(&status, "your checks"), "0 of 200 used, 200 left");
}

#[tokio::test]
async fn what_others_wrote_is_cleaned_and_marked() {
    let toy = Toy::start(Settings::default());
    let client = toy.client("some\x1b[31mbody\n").await;
    let parent = client.good("parent", json!({})).await;
    assert!(!parent.contains('\x1b') && parent.contains("# a\ttab\n"), "{parent}");
    assert!(parent.contains("(invisible or control characters were left out above)"), "{parent}");
    let mark = parent.split("<data ").last().and_then(|rest| rest.get(..16)).expect("a mark");
    assert_eq!(parent.matches(&format!("</data {mark}>")).count(), 1);
    let program = json!({ "program": program(0.5).files, "idea": idea("\x1b]0;x\x07call me") });
    client.good("submit", program).await;
    let history = client.good("history", json!({})).await;
    assert!(history.contains("by mcp (somebody)") && history.contains(": call me\n"), "{history}");
    let store = Store::read(&toy.folder).expect("a store");
    let made = store.iteration(1).expect("readable").expect("stored").iteration;
    let idea = made.idea;
    assert_eq!((made.mutator.as_str(), idea.stage.as_str()), (MUTATOR, "mcp"));
    assert_eq!((idea.model.as_str(), idea.summary.as_str()), ("somebody", "call me"));
    assert_eq!(idea.expected_gain.map(|gain| gain.high), Some(0.5));
    assert_eq!(
        store.program(&made.parent.expect("one")).ok().flatten().map(|p| p.files),
        Some([("program.txt".to_owned(), REFERENCE.to_owned())].into())
    );
}

#[tokio::test]
async fn quotas_hold_for_each_client_and_outlive_a_stop() {
    let quotas = Quotas { submissions: Some(2), checks: 1 };
    let settings = || Settings { quotas: quotas.clone(), ..Settings::default() };
    let toy = Toy::start(settings());
    let ann = toy.client("ann").await;
    let check = json!({ "program": program(0.9).files });
    ann.good("check", check.clone()).await;
    let text = ann.bad("check", check.clone()).await;
    assert!(text.starts_with("your quota of 1 checks in this run is used up"), "{text}");
    ann.good("submit", submission(1.0, 0.9)).await;

    // Another client has quotas of its own; so has nobody else who calls itself `ann`.
    let bob = toy.client("bob").await;
    bob.good("check", check.clone()).await;
    let page =
        bob.good("submit", json!({ "program": program(0.8).files, "idea": idea("x") })).await;
    assert_eq!(value(&page, "your submissions"), "1 of 2 used, 1 left");
    let folder = tempfile::tempdir().expect("a folder");
    toy.stop();
    while !client_sees_the_end(&bob).await {}
    copy(&toy.folder, folder.path());
    drop(toy);

    let toy = Toy::resume(folder.path(), settings());
    let ann = toy.client("ann").await;
    let text = ann.bad("check", check).await;
    assert!(text.contains("quota of 1 checks"), "{text}");
    let files = json!({ "program": program(0.7).files, "idea": idea("y") });
    let page = ann.good("submit", files.clone()).await;
    assert_eq!(value(&page, "your submissions"), "2 of 2 used, 0 left");
    let text = ann.bad("submit", files).await;
    assert!(text.starts_with("your quota of 2 submissions in this run is used up"), "{text}");
    ann.good("history", json!({})).await;
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("a run").flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

#[tokio::test]
async fn a_quota_holds_before_the_search_begins_again() {
    let quotas = Quotas { submissions: Some(1), checks: 1 };
    let settings = |held| Settings { quotas: quotas.clone(), held, ..Settings::default() };
    let toy = Toy::start(settings(Held::Nothing));
    let client = toy.client("ann").await;
    client.good("check", json!({ "program": program(0.9).files })).await;
    client.good("submit", submission(1.0, 0.9)).await;
    let folder = tempfile::tempdir().expect("a folder");
    toy.stop();
    while !client_sees_the_end(&client).await {}
    copy(&toy.folder, folder.path());
    drop(toy);

    // Nothing of the store is read back yet, and a named base is in it already.
    let toy = Toy::resume(folder.path(), settings(Held::Start));
    let client = toy.client("ann").await;
    let change = json!({ "patch": patch(1.0, 0.8), "base": "reference" });
    let mut submission = change.clone();
    submission["idea"] = idea("x");
    let ask = async { tokio::join!(client.ask("check", change), client.ask("submit", submission)) };
    let release = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        toy.release.send(()).expect("it waits");
    };
    let ((check, submit), ()) = tokio::join!(ask, release);
    assert!(!check.0 && check.1.contains("your quota of 1 checks"), "{check:?}");
    assert!(!submit.0 && submit.1.contains("your quota of 1 submissions"), "{submit:?}");
}

async fn client_sees_the_end(client: &Client) -> bool {
    let (_, status) = client.ask("status", json!({})).await;
    status.starts_with("the run was stopped before its budget was used up, and can be resumed")
}

#[tokio::test]
async fn after_the_budget_there_is_the_result() {
    let toy = Toy::start(Settings { evaluations: 1, ..Settings::default() });
    let client = toy.client("somebody").await;
    let page = client.good("submit", submission(1.0, 0.5)).await;
    assert_eq!(value(&page, "evaluations of this run"), "1 of 1 used, 0 left");
    let (good, text) = client.ask("submit", submission(0.5, 0.25)).await;
    assert!(!good && text.contains("the budget is used up"), "{text}");
    let (good, text) = client.ask("parent", json!({})).await;
    assert!(!good && text.starts_with("the budget is used up; this is the result:\n"), "{text}");
    let status = client.good("status", json!({})).await;
    assert!(status.contains("0.5"), "{status}");
    client.good("program", json!({ "program": "best" })).await;
}

#[tokio::test]
async fn a_client_that_goes_loses_nothing() {
    let toy = Toy::start(Settings { held: Held::Measurements, ..Settings::default() });
    let client = toy.client("ann").await;
    let submit = async { client.ask("submit", submission(1.0, 0.5)).await };
    // Progress comes with the environment's words, cleaned.
    let expected = "iteration 1: 25 % half way".to_owned();
    let under_way = async {
        while !client.notes.lock().expect("no panic").contains(&expected) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = submit => panic!("answered before it was measured: {answer:?}"),
        () = under_way => {}
    }
    drop(client);
    toy.release.send(()).expect("it waits");
    stored(&toy, 1).await;
    let again = toy.client("ann").await;
    let history = again.good("history", json!({})).await;
    assert!(history.contains("by mcp (ann): accepted, gain +50.00 %"), "{history}");
    let status = again.good("status", json!({})).await;
    assert_eq!(value(&status, "your submissions"), "1 used, no limit of their own");
}

#[tokio::test]
async fn clients_wait_for_each_other() {
    let toy = Toy::start(Settings { held: Held::Measurements, ..Settings::default() });
    let (ann, bob) = (toy.client("ann").await, toy.client("bob").await);
    // Both know the reference; the first to submit takes the proposal, and the other's change
    // enters as a complete program.
    ann.good("parent", json!({})).await;
    bob.good("parent", json!({})).await;
    let first = async {
        let page = ann.good("submit", submission(1.0, 0.5)).await;
        assert_eq!(value(&page, "gain over the parent"), "+50.00 %");
    };
    let second = async {
        while ann.notes.lock().expect("no panic").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let both = async {
            let page = bob.good("submit", submission(1.0, 0.25)).await;
            assert_eq!(value(&page, "gain over the parent"), "+50.00 %", "over ann's");
        };
        let release = async {
            toy.release.send(()).expect("it waits");
            toy.release.send(()).expect("it will wait");
        };
        tokio::join!(both, release);
    };
    tokio::join!(first, second);
    // Whoever reads the ideas knows which forecast was about another program than the parent.
    let store = Store::read(&toy.folder).expect("a store");
    let details = |number| {
        let stored = store.iteration(number).expect("readable").expect("stored");
        stored.iteration.idea.details
    };
    let reference = store.reference().expect("readable").expect("measured");
    assert!(details(1).get("base").is_none(), "{}", details(1));
    assert_eq!(details(2)["base"], json!(reference.0));
    // A change that fits neither the parent nor its base uses up nothing.
    let (good, text) = bob
        .ask("submit", json!({ "patch": patch(9.0, 8.0), "base": "reference", "idea": idea("x") }))
        .await;
    assert!(!good && text.contains("nothing was used up\nhint: "), "{text}");
    let status = bob.good("status", json!({})).await;
    assert_eq!(value(&status, "your submissions"), "1 used, no limit of their own");
    assert_eq!(value(&status, "evaluations of this run"), "2 of 100 used, 98 left");
}

#[tokio::test]
async fn a_stop_while_a_client_waits_is_told() {
    let toy = Toy::start(Settings { evaluations: 2, ..Settings::default() });
    let client = toy.client("somebody").await;
    client.good("submit", submission(1.0, 0.5)).await;
    toy.stop();
    let (good, text) = client.ask("submit", submission(0.5, 0.25)).await;
    assert!(!good && text.contains("can be resumed"), "{text}");
}

#[tokio::test]
async fn a_search_that_is_over_is_confirmed_without_its_client() {
    let toy = Toy::start(Settings { evaluations: 1, held: Held::End, ..Settings::default() });
    let client = toy.client("somebody").await;
    client.good("submit", submission(1.0, 0.5)).await;
    drop(client);
    let desk = toy.desk.clone();
    let settled = tokio::task::spawn_blocking(move || desk.settle());
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!settled.is_finished(), "the confirmation is still to come");
    toy.release.send(()).expect("it waits");
    settled.await.expect("it ends");
    // A search that asks for more is none to wait for.
    let toy = Toy::start(Settings::default());
    let client = toy.client("somebody").await;
    client.good("submit", submission(1.0, 0.5)).await;
    let desk = toy.desk.clone();
    tokio::task::spawn_blocking(move || desk.settle()).await.expect("it ends");
}

/// Waits until so many submissions of a client are taken on.
async fn taken(client: &Client, submissions: usize) {
    let wanted = format!("your submissions: {submissions} used");
    while !client.good("status", json!({})).await.contains(&wanted) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn clients_have_their_turns_and_few_calls_that_wait() {
    let toy = Toy::start(Settings { held: Held::Measurements, ..Settings::default() });
    let (ann, bob) = (toy.client("ann").await, toy.client("bob").await);
    ann.good("parent", json!({})).await;
    bob.good("parent", json!({})).await;
    let submit = |client: &Client, value: f64| {
        let whole = json!({ "program": program(value).files, "idea": idea("x") });
        let service = client.service.peer().clone();
        tokio::spawn(async move { toy::ask(&service, "submit", whole).await })
    };
    let mut pending = vec![submit(&ann, 0.9)];
    taken(&ann, 1).await;
    pending.extend([0.8, 0.7, 0.6].map(|value| submit(&ann, value)));
    taken(&ann, 4).await;
    let whole = json!({ "program": program(0.5).files, "idea": idea("x") });
    let text = ann.bad("submit", whole).await;
    assert!(text.starts_with("4 of your calls wait already"), "{text}");
    pending.push(submit(&bob, 0.4));
    taken(&bob, 1).await;
    for _ in 0..5 {
        toy.release.send(()).expect("it waits");
    }
    for call in pending {
        let (good, text) = call.await.expect("answered");
        assert!(good, "{text}");
    }
    let store = Store::read(&toy.folder).expect("a store");
    let made = store.iterations().expect("readable");
    let who: Vec<_> = made.iter().skip(1).map(|one| one.iteration.idea.model.as_str()).collect();
    assert_eq!(who, ["ann", "bob", "ann", "ann", "ann"]);
    let status = ann.good("status", json!({})).await;
    assert_eq!(value(&status, "your submissions"), "4 used, no limit of their own");
}
