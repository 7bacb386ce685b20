//! A run as one page of HTML: complete in itself, readable offline and without a script.
//!
//! [`Report::read`] takes from a run's store what the page shows, and [`Report::page`] writes it.
//! The same store gives the same page, byte by byte: no clock is read, and the page names nothing
//! of the machine but what the run recorded.
//!
//! Programs, mutators and compilers may say anything. All of their text passes through the one
//! module that writes markup, which escapes it and makes hidden characters visible; long texts are
//! cut, and say so. A content security policy lets nothing run but our own script, by its hash, and
//! nothing be loaded at all.

mod answer;
mod costs;
mod curves;
mod diff;
mod failures;
mod frontier;
mod lineage;
mod markup;
mod material;
mod plot;
mod points;
mod progress;
mod reproduce;
mod scale;
mod search;
mod telemetry;
mod text;
mod verification;

use answer::Answer;
use forerunner_runtime::store::{Store, StoreError};
use markup::{Element, Markup, el};
use material::Material;
use points::Points;
use sha2::{Digest, Sha256};
use text::Section;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Characters of the environment's sentence, and of names.
const SENTENCE: usize = 300;
const NAME: usize = 80;

/// What a page shows of one run.
pub struct Report {
    material: Material,
    points: Points,
}

impl Report {
    /// Reads what the page needs, whether the run ended, goes on or was killed.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn read(store: &Store) -> Result<Self, StoreError> {
        let material = Material::read(store)?;
        let points = Points::read(store, &material)?;
        Ok(Self { material, points })
    }

    /// The page: the answer first, then what it rests on.
    pub fn page(&self) -> String {
        let Self { material, points } = self;
        let sections = [
            frontier::section(material, points),
            progress::section(material, points),
            lineage::section(material),
            verification::section(material),
            telemetry::section(material),
            Some(failures::section(material)),
            Some(costs::section(material)),
            Some(reproduce::section(material)),
        ];
        let sections: Vec<Section> = sections.into_iter().flatten().collect();
        let answer = Answer::of(material);
        let name = |text: &str| text::line(text, NAME);
        let account = &material.account;
        let environment =
            crate::evaluation::environment(&name(&account.environment), &name(&account.track));
        let title = format!("{environment}: {}", answer.title);
        let contents = sections.iter().map(|section| {
            el("li").with(el("a").attr("href", format!("#{}", section.id)).text(section.short))
        });
        let contents = el("nav")
            .attr("aria-label", "Contents")
            .with(el("ul").with_all(contents.collect::<Vec<_>>()));
        let main = el("main")
            .attr("id", "main")
            .with(answer.render(material))
            .with_all(sections.into_iter().map(Section::render));
        let body = el("body")
            .with(el("a").class("skip").attr("href", "#main").text("Skip to the answer"))
            .with(symbols())
            .with(header(material, &environment))
            .with(contents)
            .with(main)
            .with(footer(material))
            .with(el("script").with(Markup::ours(SCRIPT)));
        let page = el("html").attr("lang", "en").with(head(&title)).with(body);
        format!("<!doctype html>\n{}\n", Markup::from(page).into_string())
    }
}

fn head(title: &str) -> Element {
    let meta =
        |name: &'static str, content: &str| el("meta").attr("name", name).attr("content", content);
    el("head")
        .with(el("meta").attr("charset", "utf-8"))
        .with(el("meta").attr("http-equiv", "Content-Security-Policy").attr("content", policy()))
        .with(meta("viewport", "width=device-width, initial-scale=1"))
        .with(meta("color-scheme", "light dark"))
        .with(meta("referrer", "no-referrer"))
        .with(el("title").text(title))
        .with(el("style").with(Markup::ours(STYLE)))
}

/// Nothing is loaded, and nothing but our own style and script is applied.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", base64(&Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// Base 64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index)) as usize & 63];
            text.push(if index > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// Marks that plots use.
fn symbols() -> Element {
    let cross = el("path").attr("id", "cross").attr("d", "M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5");
    el("svg").class("symbols").attr("aria-hidden", "true").with(el("defs").with(cross))
}

fn header(material: &Material, environment: &str) -> Element {
    el("header")
        .with(el("p").class("brand").text("Forerunner"))
        .with(
            el("p")
                .class("subject")
                .with(el("b").text(environment))
                .text(if material.about.is_empty() { "" } else { " · " })
                .text(text::line(&material.about, SENTENCE)),
        )
        .with(el("p").class("note").text(format!("run {}", text::line(&material.run, SENTENCE))))
}

fn footer(material: &Material) -> Element {
    let text = format!(
        "Made from the store of {} alone; the page loads nothing. Times of the run itself are wall \
         times; what seconds are in metrics and telemetry is the track's to say. dev: the slice that the search sees; val: held out for confirmation; \
         vault: held out for records.",
        text::line(&material.run, SENTENCE)
    );
    el("footer").with(text::note(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_pads() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn style_and_script_cannot_end_early() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</"));
        // The hash is of the very text between the tags.
        assert!(policy().contains(&base64(&Sha256::digest(SCRIPT))));
    }
}
