//! Plots as SVG that is complete without a script.
//!
//! Places are percentages of the drawing, so that it fills any width while text and marks keep
//! their size. Lines are in an inner drawing that is stretched, with strokes that are not.

use super::{
    markup::{Element, Markup, el},
    scale::Scale,
    text::line,
};
use crate::number::number;
use forerunner_core::{Direction, Objective};
use std::fmt::Write as _;

/// Characters of an axis' name.
const NAME: usize = 60;

/// One axis of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// Name and unit.
    pub(crate) label: String,
    /// Which way is better, where one is.
    pub(crate) better: Option<Direction>,
    /// The value to reach, where there is one.
    pub(crate) target: Option<f64>,
    pub(crate) scale: Scale,
}

impl Axis {
    /// An axis for values of an objective with room for its target; `None` without any.
    pub(crate) fn of(objective: &Objective, values: impl Iterator<Item = f64>) -> Option<Self> {
        let target = objective.target.filter(|target| target.is_finite());
        let scale = Scale::over(values.chain(target), true)?;
        let better = Some(objective.direction);
        Some(Self { label: named(objective), better, target, scale })
    }

    /// An axis of something that is no objective.
    pub(crate) fn plain(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), better: None, target: None, scale }
    }

    /// Name, unit, logarithm, and the arrow towards the better values.
    fn words(&self, arrows: [&str; 2]) -> String {
        let log = if self.scale.is_log() { ", logarithmic" } else { "" };
        let arrow = match self.better {
            Some(Direction::Minimize) => format!(" · {} is better", arrows[0]),
            Some(Direction::Maximize) => format!(" · {} is better", arrows[1]),
            None => String::new(),
        };
        format!("{}{log}{arrow}", self.label)
    }
}

/// `loss (nats/byte)`.
pub(crate) fn named(objective: &Objective) -> String {
    let (name, unit) = (line(&objective.metric, NAME), line(&objective.unit, NAME));
    if unit.is_empty() { name } else { format!("{name} ({unit})") }
}

/// A point on a plot: shares of its width and height, from the lower left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

impl Place {
    pub(crate) fn left(self) -> String {
        percent(self.x)
    }

    pub(crate) fn top(self) -> String {
        percent(1.0 - self.y)
    }
}

/// `12.34%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// A plot; `marks` are drawn over the grid.
pub(crate) struct Plot<'a> {
    /// Unique on the page.
    pub(crate) id: &'a str,
    /// What it shows.
    pub(crate) title: &'a str,
    /// The same in words, for those who cannot see it.
    pub(crate) description: &'a str,
    pub(crate) x: &'a Axis,
    pub(crate) y: &'a Axis,
    pub(crate) marks: Markup,
    /// Names of rows above the drawing for what has no place in it.
    pub(crate) lanes: &'a [&'a str],
}

/// Height of a lane in pixels.
const LANE: usize = 18;

/// Where a lane is, in pixels from the upper edge of the drawing.
pub(crate) fn lane(index: usize) -> i64 {
    -((index * LANE + LANE) as i64)
}

impl Plot<'_> {
    pub(crate) fn render(self) -> Element {
        let ids = (format!("{}-title", self.id), format!("{}-text", self.id));
        let lanes = self.lanes.iter().enumerate().map(|(index, name)| {
            let y = lane(index);
            let rule = el("line").attr("x2", "100%").attr("y1", y).attr("y2", y).class("lane");
            let name =
                el("text").attr("x", 0).attr("y", y).attr("dx", -8).attr("dy", "0.32em").text(name);
            Markup::all([rule, name.class("y")])
        });
        let svg = el("svg")
            .class("area")
            .attr("role", "img")
            .attr("aria-labelledby", format!("{} {}", ids.0, ids.1))
            .with(el("title").attr("id", &ids.0).text(self.title))
            .with(el("desc").attr("id", &ids.1).text(self.description))
            .with(self.grid())
            .with_all(lanes)
            .with(self.marks);
        let canvas = match self.lanes.len() {
            0 => "canvas",
            1 => "canvas lanes-1",
            _ => "canvas lanes-2",
        };
        el("div")
            .class("plot")
            .attr("id", self.id)
            .with(el("p").class("y-label").text(self.y.words(["↓", "↑"])))
            .with(el("div").class(canvas).with(svg))
            .with(el("p").class("x-label").text(self.x.words(["←", "→"])))
    }

    fn grid(&self) -> Markup {
        let mut grid = el("g").class("grid").attr("aria-hidden", "true");
        for (value, label) in &self.y.scale.ticks {
            let y = Place { x: 0.0, y: self.y.scale.share(*value) }.top();
            let text = el("text").class("y").attr("y", &y).attr("dx", -8).attr("dy", "0.32em");
            grid = grid
                .with(el("line").attr("x2", "100%").attr("y1", &y).attr("y2", &y))
                .with(text.text(label));
        }
        for (value, label) in &self.x.scale.ticks {
            let x = percent(self.x.scale.share(*value));
            let text = el("text").class("x").attr("x", &x).attr("y", "100%").attr("dy", "1.5em");
            grid = grid
                .with(el("line").attr("y2", "100%").attr("x1", &x).attr("x2", &x))
                .with(text.text(label));
        }
        if let Some(target) = self.y.target {
            let y = Place { x: 0.0, y: self.y.scale.share(target) }.top();
            let text = el("text").class("target").attr("x", "100%").attr("y", &y).attr("dx", -6);
            grid = grid
                .with(el("line").class("target").attr("x2", "100%").attr("y1", &y).attr("y2", &y))
                .with(text.attr("dy", -5).text(format!("target {}", number(target))));
        }
        grid.with(el("rect").class("frame").attr("width", "100%").attr("height", "100%")).into()
    }
}

/// A line through places.
pub(crate) fn polyline(places: impl IntoIterator<Item = Place>, classes: &str) -> Element {
    let mut path = String::new();
    for (index, place) in places.into_iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{letter}{:.1} {:.1}", place.x * 1000.0, (1.0 - place.y) * 1000.0);
    }
    el("svg")
        .class("stretched")
        .attr("width", "100%")
        .attr("height", "100%")
        .attr("viewBox", "0 0 1000 1000")
        .attr("preserveAspectRatio", "none")
        .with(el("path").class(classes).attr("d", path).attr("vector-effect", "non-scaling-stroke"))
}

/// A bar filled to a share of its width.
pub(crate) fn bar(share: f64, classes: &str) -> Element {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    el("svg")
        .class("bar")
        .attr("aria-hidden", "true")
        .with(el("rect").class(classes).attr("width", percent(share)).attr("height", "100%"))
}

/// A key to classes of marks: each a small drawing with a word.
pub(crate) fn legend<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Element {
    let entries = entries.into_iter().map(|(classes, word)| {
        let mark = if classes.starts_with("line") {
            let line = el("line").attr("x2", 18).attr("y1", 7).attr("y2", 7);
            line.class(classes)
        } else if classes.contains("failed") {
            el("use").attr("href", "#cross").attr("x", 9).attr("y", 7).class(classes)
        } else {
            el("circle").attr("cx", 9).attr("cy", 7).attr("r", 4.5).class(classes)
        };
        let key = el("svg").attr("width", 18).attr("height", 14).attr("aria-hidden", "true");
        el("li").with(key.with(mark)).text(word)
    });
    el("ul").class("legend").with_all(entries)
}
