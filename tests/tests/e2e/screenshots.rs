//! The report in a browser: pictures of it, an empty console, nothing wider than a phone.
//!
//! The pictures go to `target/screenshots`. Those of the documentation are made from a run of the
//! quick start:
//!
//! ```text
//! FORERUNNER_PICTURES=docs/images FORERUNNER_PICTURED_RUN=runs/quickstart-001 \
//!     cargo test --release -p forerunner-tests --test e2e -- screenshots::
//! ```

use forerunner_tests::{Browser, Scheme, Scratch, is_installed, skip, workspace};
use std::{
    fs,
    path::{Path, PathBuf},
};

const PHONE: u32 = 390;
const DESKTOP: u32 = 1280;

/// Writes on the page what the tests want to know.
const PROBE: &str = r##"<script>
addEventListener("load", () => {
  const page = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter((one) =>
    one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, pre, nav, svg"));
  const facts = {
    width: innerWidth,
    overflow: page.scrollWidth > page.clientWidth,
    wide: wide.slice(0, 5).map((one) => one.tagName + "." + one.className),
  };
  const marks = document.querySelectorAll("#plot-progress .ev");
  marks[marks.length - 1].dispatchEvent(new PointerEvent("pointerenter"));
  const tip = document.querySelector("#plot-progress .tip");
  facts.tip = tip.hidden ? null : tip.textContent;
  facts.picked = document.querySelectorAll(".ev.picked").length;
  const svg = document.querySelector("#plot-progress svg.area");
  const press = (key) => svg.dispatchEvent(new KeyboardEvent("keydown", { key }));
  facts.keyed = ["Home", "ArrowRight"].map((key) => (press(key), tip.textContent));
  press("Escape");
  facts.left = document.querySelectorAll(".picked, .way").length;
  parent.postMessage(JSON.stringify(facts), "*");
});
</script></body>"##;

/// A page of `width` pixels within a page: no window of the browser is that narrow.
fn framed(width: u32) -> String {
    format!(
        "<!doctype html><iframe src=\"probed.html\" style=\"border: 0; width: {width}px; height: \
         800px\"></iframe><script>addEventListener(\"message\", (event) => {{ \
         document.documentElement.dataset.facts = event.data; }});</script>"
    )
}

/// A run with everything that a report shows: a short search of the speedrun, where it is installed.
fn run(scratch: &Scratch) -> PathBuf {
    if let Some(run) = std::env::var_os("FORERUNNER_PICTURED_RUN") {
        return workspace().join(run);
    }
    if !is_installed("nanogpt") {
        skip("screenshots", "the plugin nanogpt is not installed; the run is a trivial one");
        scratch.write("trivial.toml", forerunner_tests::TRIVIAL);
        let options = "--set confirm.finalists=2 --set budget.evaluations=30";
        scratch.forerunner(&format!("run trivial.toml --out run {options}")).good();
        return scratch.path().join("run");
    }
    let run_file = r#"
        [environment]
        name = "nanogpt"
        config = { clock = "steps", windows = 16, target_loss = 3.5 }

        [[mutator]]
        name = "tuner"

        [selector]
        name = "islands"

        [run]
        children = 3
        slots = 2

        [budget]
        evaluations = 3

        [confirm]
        finalists = 1
        seeds = 2
    "#;
    scratch.write("short.toml", run_file);
    let reference = workspace().join("environments/nanogpt/programs/gpt2.rs");
    let source = fs::read_to_string(reference).expect("the reference program");
    let short = source.replace("const STEPS: usize = 2800;", "const STEPS: usize = 60;");
    assert_ne!(short, source, "the reference has other steps now: change this test");
    let reference = scratch.write("short.rs", short.replace("log 400 6000", "log 30 120"));
    let options = format!("--set environment.config.reference={}", reference.display());
    scratch.forerunner(&format!("run short.toml --out run {options}")).good();
    scratch.path().join("run")
}

fn report(scratch: &Scratch, run: &Path) -> PathBuf {
    let page = scratch.path().join("report.html");
    let command = format!("report {} --out {}", run.display(), page.display());
    scratch.forerunner(&command).good();
    page
}

#[test]
fn the_report_in_a_browser() {
    let Some(browser) = Browser::find("the_report_in_a_browser") else { return };
    let scratch = Scratch::new();
    let page = report(&scratch, &run(&scratch));
    check_console(&browser, &scratch, &page);
    check_layout(&browser, &scratch, &page);
    take_pictures(&browser, &scratch, &page);
}

fn check_console(browser: &Browser, scratch: &Scratch, page: &Path) {
    let dom = browser.dom(scratch, page);
    assert_eq!(dom.console, Vec::<String>::new());
    assert!(dom.html.contains("data-ready=\"yes\""), "the script ran under its policy");
    // An empty console says something only where errors reach it.
    let planted = fs::read_to_string(page).expect("the page");
    let planted = planted.replace("</body>", "<script>x.y</script></body>");
    let dom = browser.dom(scratch, &scratch.write("planted.html", planted));
    assert_eq!(dom.console.len(), 1, "the policy keeps foreign scripts out: {:?}", dom.console);
    assert!(dom.console[0].contains("Content Security Policy"), "{:?}", dom.console);
}

/// Nothing is wider than the page, and a mark answers to a pointer.
fn check_layout(browser: &Browser, scratch: &Scratch, page: &Path) {
    // Tests may look inside; the policy would not let them.
    let text = fs::read_to_string(page).expect("the page");
    let (before, after) = text.split_once("<meta http-equiv=").expect("a policy");
    let after = after.split_once('>').expect("its end").1;
    let unguarded = format!("{before}{after}").replace("</body>", PROBE);
    scratch.write("probed.html", unguarded);
    for width in [360, DESKTOP] {
        let dom = browser.dom(scratch, &scratch.write("frame.html", framed(width)));
        let facts = dom.html.split_once("data-facts=\"").expect("facts").1;
        let facts = facts.split_once('"').expect("their end").0.replace("&quot;", "\"");
        let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
        assert_eq!(facts["width"], width, "{facts}");
        assert_eq!((&facts["overflow"], &facts["wide"]), (&false.into(), &serde_json::json!([])));
        let tip = facts["tip"].as_str().expect("the mark says what it is");
        assert!(tip.contains("generation "), "{facts}");
        assert!(facts["picked"].as_u64() >= Some(1), "{facts}");
        let keyed = |index: usize| facts["keyed"][index].as_str().expect("keys pick marks");
        assert!(keyed(0).starts_with("reference ") && keyed(1).starts_with('#'), "{facts}");
        assert_eq!(facts["left"], 0, "{facts}");
        assert_eq!(dom.console, Vec::<String>::new());
    }
}

fn take_pictures(browser: &Browser, scratch: &Scratch, page: &Path) {
    let pictures = std::env::var_os("FORERUNNER_PICTURES")
        .map_or_else(|| workspace().join("target/screenshots"), |folder| workspace().join(folder));
    fs::create_dir_all(&pictures).expect("a folder for the pictures");
    let take = |name: &str, page: &Path, size: (u32, u32), scheme: Scheme| {
        let picture = browser.picture(scratch, page, size, scheme);
        assert!(picture.len() > 10_000, "{name}: an empty picture");
        assert!(picture.len() < 300_000, "{name}: too large for the documentation");
        fs::write(pictures.join(format!("{name}.png")), &picture).expect("written");
        picture
    };
    for (device, width, height) in [("phone", PHONE, 1990), ("desktop", DESKTOP, 1650)] {
        let take = |word: &str, scheme| {
            take(&format!("report-{device}-{word}"), page, (width, height), scheme)
        };
        let (light, dark) = (take("light", Scheme::Light), take("dark", Scheme::Dark));
        assert_ne!(light, dark, "the page follows the colour scheme on a {device}");
    }
    let text = fs::read_to_string(page).expect("the page");
    for (section, height) in [("progress", 700), ("lineage", 1400), ("time", 1000)] {
        if let Some(text) = from_section(&text, section) {
            let page = scratch.write(&format!("{section}.html"), text);
            take(&format!("report-{section}"), &page, (DESKTOP, height), Scheme::Light);
        }
    }
}

/// The page without what stands before a section: a browser without a window does not scroll.
fn from_section(page: &str, section: &str) -> Option<String> {
    let (head, body) = page.split_once("<header>")?;
    let at = body.find(&format!("<section id=\"{section}\""))?;
    Some(format!("{head}<main>{}", &body[at..]))
}
