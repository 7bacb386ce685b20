//! `report`: one page that stands alone, says what the run says, and trusts nothing in it.

use crate::hostile;
use forerunner_tests::{Browser, Running, Scratch, workspace};
use std::{collections::BTreeSet, fs};

fn page(scratch: &Scratch, run: &str) -> String {
    let written = scratch.forerunner(&format!("report {run}")).good();
    assert_eq!(written, format!("{run}/report.html\n"));
    fs::read_to_string(scratch.path().join(run).join("report.html")).expect("the page")
}

/// The text of a page, without tags.
fn text(page: &str) -> String {
    let body = page.split_once("</style>").expect("a style").1;
    let body = body.split_once("<script>").expect("a script").0;
    let mut text = String::new();
    for part in body.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, text)| text));
        text.push(' ');
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_run_ends_with_a_report_and_says_where() {
    let scratch = Scratch::trivial();
    let options = "--set confirm.finalists=2 --set budget.evaluations=30";
    let done = scratch.forerunner(&format!("run trivial.toml --out run {options}"));
    assert_eq!(done.stderr, "Report:        run/report.html\n");
    let summary = done.good();
    let path = scratch.path().join("run/report.html");
    let first = fs::read_to_string(&path).expect("the page");

    // The answer is the one of the summary, word by word, and comes first.
    let answer = summary.lines().find(|line| line.contains(" than the reference in ")).unwrap();
    let shown = text(&first);
    assert!(shown.contains(answer), "{answer}\n{shown}");
    let at = |word: &str| shown.find(word).unwrap_or_else(|| panic!("no `{word}` in {shown}"));
    let parts =
        [answer, "Progress distance", "How the best", "Failures by", "What it cost", "How to"];
    assert!(parts.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{shown}");
    assert!(shown.contains("forerunner run --resume run"), "{shown}");

    // The same store gives the same page, and nothing but the page is left behind.
    assert_eq!(page(&scratch, "run"), first);
    let names = fs::read_dir(scratch.path().join("run")).expect("listed");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("tmp")));
}

#[test]
fn a_page_needs_nothing_else() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run").good();
    let page = page(&scratch, "run");
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"), "{page}");
    assert!(page.contains("default-src &#39;none&#39;"), "a policy that loads nothing");
    for reference in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn streams_for_scripts_stay_clean() {
    let scratch = Scratch::trivial();
    let done = scratch.forerunner("run trivial.toml --out events --events ndjson");
    assert_eq!((done.stderr.as_str(), done.code), ("", Some(0)));
    assert!(scratch.path().join("events/report.html").is_file());
    let done = scratch.forerunner("run trivial.toml --out json --json");
    assert!(done.stderr.ends_with("\nReport:        json/report.html\n"), "{}", done.stderr);
    serde_json::from_str::<serde_json::Value>(&done.good()).expect("one JSON object");
}

#[test]
fn a_report_that_cannot_be_written_costs_no_run() {
    let scratch = Scratch::trivial();
    // In the way: a folder that is not empty cannot be replaced by a file.
    scratch.write("run/report.html/file", "");
    let done = scratch.forerunner("run trivial.toml --out run");
    insta::assert_snapshot!(done.failure(), @"
    exit 0
    warning: no report: cannot write run/report.html: Is a directory (os error 21)
    hint: choose another file with `forerunner report RUN --out FILE`
    ");
    insta::assert_snapshot!(scratch.forerunner("report run").failure(), @"
    exit 4
    error: cannot write run/report.html: Is a directory (os error 21)
    hint: choose another file with `forerunner report RUN --out FILE`
    ");
    insta::assert_snapshot!(scratch.forerunner("report run --out no/folder/x.html").failure(), @"
    exit 4
    error: cannot write no/folder/x.html: No such file or directory (os error 2)
    hint: choose another file with `forerunner report RUN --out FILE`
    ");
    scratch.write("page.html", "something older");
    let written = scratch.forerunner("report run --out page.html").good();
    assert_eq!(written, "page.html\n");
    let page = fs::read_to_string(scratch.path().join("page.html")).expect("the page");
    assert!(page.ends_with("</html>\n"), "{page}");
}

#[test]
fn a_report_needs_a_run() {
    let scratch = Scratch::trivial();
    insta::assert_snapshot!(scratch.forerunner("report").failure(), @"
    exit 2
    error: there is no run in runs/
    hint: name the folder of a run
    ");
    insta::assert_snapshot!(scratch.forerunner("report nowhere").failure(), @"
    exit 4
    error: nowhere holds no run
    hint: `forerunner log` lists the runs below a folder
    ");
    scratch.forerunner("run trivial.toml --set budget.evaluations=1").good();
    // The latest is meant when none is named.
    assert_eq!(scratch.forerunner("report").good(), "runs/trivial-001/report.html\n");
}

#[test]
fn nothing_better_is_said_so() {
    let scratch = Scratch::trivial();
    let faults = "--set mutator.0.config.fault_every=1 --set mutator.0.config.fault=panic";
    scratch.forerunner(&format!("run trivial.toml --out run {faults}")).good();
    let shown = text(&page(&scratch, "run"));
    assert!(shown.contains("No better program than the reference no gain"), "{shown}");
    assert!(shown.contains("10 of 10 evaluations came to nothing (100.0 %)"), "{shown}");
    assert!(!shown.contains("How the best program came about"), "{shown}");
}

#[test]
fn a_single_evaluation_has_a_report() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run --set budget.evaluations=1").good();
    let shown = text(&page(&scratch, "run"));
    assert!(shown.contains("None of 1 evaluation failed."), "{shown}");
}

#[test]
fn a_run_that_was_killed_at_once() {
    let scratch = Scratch::trivial();
    let endless = "run trivial.toml --out run --events ndjson \
                   --set environment.config.evaluate_seconds=600";
    let running = Running::start(scratch.command(endless));
    running.wait_for("\"run_started\"");
    running.kill();
    let shown = text(&page(&scratch, "run"));
    assert!(shown.contains("Nothing measured yet not even the reference"), "{shown}");
    assert!(!shown.contains("NaN"), "{shown}");
}

#[test]
fn a_run_under_way_and_one_that_was_killed() {
    let scratch = Scratch::trivial();
    let slow = "--set run.mode=steady --set environment.config.evaluate_seconds=0.2 \
                --set budget.evaluations=1000";
    let running = Running::start(scratch.command(&format!("run trivial.toml --out run {slow}")));
    running.wait_for("#2 ");
    let shown = text(&page(&scratch, "run"));
    assert!(shown.contains("not finished"), "{shown}");
    running.kill();
    let shown = text(&page(&scratch, "run"));
    assert!(shown.contains("no end in the log: it still runs, or was killed"), "{shown}");
    assert!(shown.contains("not confirmed not finished"), "the claim is not confirmed: {shown}");

    let command = scratch.command("run --resume run --set environment.config.evaluate_seconds=0.2");
    let running = Running::start(command);
    running.wait_for("  #");
    running.interrupt();
    let (code, _, stderr) = running.finish();
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.ends_with("\nReport:        run/report.html\n"), "{stderr}");
    let shown = text(&page(&scratch, "run"));
    assert!(shown.contains("interrupted") && shown.contains("in 2 sessions"), "{shown}");
}

#[test]
fn the_page_of_a_long_run_stays_small_and_says_what_is_left_out() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out run --quiet --set budget.evaluations=3000").good();
    let page = page(&scratch, "run");
    let shown = text(&page);
    assert!(
        shown.contains("1000 of 3001 evaluations, the reference among them, are drawn"),
        "{shown}"
    );
    let steps = page.matches(" id=\"step-").count();
    assert_eq!(page.matches(" data-i=").count(), 1000 + steps);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
}

/// Elements, and attributes, that a page consists of.
const ELEMENTS: &str = "html head meta title style body a svg defs path header p b nav ul li main \
    section h1 h2 h3 h4 span dl div dt dd small table caption thead tbody tr th td code line circle \
    figure g rect text desc use ol details summary pre footer script";
const ATTRIBUTES: &str = "lang charset http-equiv content name class href id aria-hidden aria-label \
    aria-labelledby role tabindex scope title d x y x1 x2 y1 y2 cx cy r dx dy width height viewBox \
    preserveAspectRatio vector-effect data-i data-from value open";

/// Takes a page apart, strictly: every `<` begins a tag of ours with attributes of ours.
fn assert_only_our_markup(page: &str) {
    let sources = workspace().join("crates/report/src/html");
    let mut page = page.to_owned();
    for (tag, file) in [("style", "page.css"), ("script", "page.js")] {
        let source = fs::read_to_string(sources.join(file)).expect("our own source");
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!(page.matches(&open).count(), 1, "one {tag}");
        page = page.replacen(&format!("{open}{source}{close}"), "", 1);
        assert!(!page.contains(&open), "{tag} is ours to the byte");
    }
    let known = |list: &str| list.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let (elements, attributes) = (known(ELEMENTS), known(ATTRIBUTES));
    let body = page.strip_prefix("<!doctype html>").expect("a document type");
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("no end: {part}"));
        assert!(!text.contains('>'), "{part}");
        let name = tag.trim_start_matches('/').split(' ').next().expect("a name");
        assert!(elements.contains(name), "<{tag}>");
        let mut rest = tag.trim_start_matches('/').strip_prefix(name).expect("it starts so");
        while !rest.is_empty() {
            let (attribute, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("<{tag}>"));
            assert!(attributes.contains(attribute.trim_start()), "{attribute} in <{tag}>");
            let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("<{tag}>"));
            assert!(attribute != " href" || value.starts_with('#'), "<{tag}>");
            rest = after;
        }
    }
    let hidden = |c: char| c != '\n' && (c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c));
    assert!(!page.contains(hidden), "{:?}", page.find(hidden).map(|at| &page[at..at + 9]));
}

#[test]
fn hostile_text_is_text() {
    let scratch = Scratch::new();
    hostile::store(&scratch.path().join("run"));
    let page = page(&scratch, "run");
    assert_only_our_markup(&page);
    for field in hostile::FIELDS {
        assert!(page.contains(&format!("{field}&lt;/script&gt;")), "{field} is not on the page");
    }
    for shown in ["⟨U+202E⟩", "⟨U+2028⟩", "␀", "␛[2J"] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(page.contains("… (cut, "), "long texts are cut and say so");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());

    let Some(browser) = Browser::find("hostile_text_is_text") else { return };
    // Without the policy, so that escaping alone is at work.
    let (before, after) = page.split_once("<meta http-equiv=").expect("a policy");
    let unguarded = before.to_owned() + after.split_once('>').expect("its end").1;
    let dom = browser.dom(&scratch, &scratch.write("unguarded.html", &unguarded));
    assert!(dom.html.contains("data-ready=\"yes\"") && !dom.html.contains("data-pwned"));
    assert_eq!(dom.console, Vec::<String>::new());
    // The same text does run where it is not escaped.
    let planted = unguarded.replace("</body>", &(hostile::PAYLOAD.to_owned() + "</body>"));
    let dom = browser.dom(&scratch, &scratch.write("planted.html", planted));
    assert!(dom.html.contains("data-pwned"), "the payload is no threat: this test shows nothing");
}
