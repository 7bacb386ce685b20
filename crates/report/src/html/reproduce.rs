//! How to reproduce: commands, the run file, and everything that results depend on.

use super::{
    markup::{Markup, el},
    material::Material,
    text::{Section, code, fold, line, note, pairs},
};
use crate::summary::{commands, shell_word};
use forerunner_runtime::config::Mode;

/// Characters of a path or identity, and of the run file.
const TEXT: usize = 300;
const RUN_FILE: usize = 20_000;

pub(crate) fn section(material: &Material) -> Section {
    let config = &material.config;
    let replays = match config.run.mode {
        Mode::Generations => {
            "Generations of children replay identically where environment and mutators are \
             deterministic; a clock never is."
        }
        Mode::Steady => {
            "In steady mode the order of results, and with it the search, depends on how long \
             measurements take. Single evaluations repeat with their seeds."
        }
    };
    let mut facts = vec![
        ("run", Markup::text(line(&material.run, TEXT))),
        ("seed of the run", Markup::text(config.run.seed.to_string())),
        ("seed of all search evaluations", Markup::text(material.search_seed.to_string())),
    ];
    if !material.confirm_seeds.is_empty() {
        let seeds: Vec<String> = material.confirm_seeds.iter().map(u64::to_string).collect();
        facts.push(("fresh seeds", Markup::text(line(&seeds.join(", "), TEXT))));
    }
    let names = ["environment", "track", "fingerprint", "reference program"];
    // A track or fingerprint that is empty leaves an empty word.
    for (name, word) in names.into_iter().zip(material.identity.split(' ')) {
        if !word.is_empty() {
            facts.push((name, el("code").text(line(word, TEXT)).into()));
        }
    }
    if let Some(winner) = &material.winner {
        facts.push(("best program", el("code").text(line(&winner.id.0, TEXT)).into()));
    }
    facts.push(("made by", Markup::text(concat!("forerunner ", env!("CARGO_PKG_VERSION")))));

    let (text, missing) = run_file(material);
    let mut file = Markup::from(code(&text));
    if missing > 0 {
        file.push(note(format!("Cut, {missing} characters more.")));
    }
    let body = Markup::all([
        Markup::from(note(replays)),
        code(&shell(material)).into(),
        pairs(facts).class("facts").into(),
        fold(Markup::text("The run file, complete with defaults (save it as run.toml)"), file)
            .into(),
    ]);
    Section { id: "reproduce", short: "Reproduce", title: "How to reproduce", body }
}

/// Commands that do it again and look closer.
fn shell(material: &Material) -> String {
    let run = shell_word(&line(&material.run, TEXT));
    let mut text = format!(
        "# the same search again, from the run file below\nforerunner run run.toml\n\n\
         # its events, as they came\nforerunner log {run}\n"
    );
    if let Some(winner) = &material.winner {
        let id = winner.id.short();
        text.push_str(&format!(
            "\n# the best program, and what changed on the way\n\
             forerunner show {run} {id} --source\nforerunner show {run} {id} --diff\n"
        ));
    }
    let last = commands(&material.summary);
    let on = last.lines().find_map(|line| line.strip_prefix("Search on:"));
    if let Some(on) = on {
        text.push_str(&format!("\n# search on\n{}\n", on.trim()));
    }
    text
}

/// The frozen configuration as the run file it came from would be.
fn run_file(material: &Material) -> (String, usize) {
    let text = toml::to_string(&material.config)
        .or_else(|_| serde_json::to_string_pretty(&material.config))
        .unwrap_or_default();
    let (shown, missing) = super::text::block(&text, RUN_FILE);
    (shown.to_owned(), missing)
}
