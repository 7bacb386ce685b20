//! The space around a parent: settings of its constants, and the coordinates of a surrogate.

use crate::{
    domain::Domain,
    source::{Constant, Rule, Scan, read_number, write_number},
};
use std::collections::BTreeMap;

/// Values of constants by key, as they are written in programs.
pub(crate) type Values = BTreeMap<String, String>;

/// How far from the wished-for integer one that fits a rule is looked for.
const RULE_REACH: u32 = 4096;

/// The coordinate of an option other than the parent's.
const OPTION_COORDINATE: f64 = 0.7;

/// What a constant is set to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Setting {
    /// A number.
    Number(f64),
    /// The index of an option; beyond the last when the text is none of them.
    Option(usize),
}

impl Setting {
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(value),
            Self::Option(_) => None,
        }
    }
}

/// All settings that a parent's constants may have.
#[derive(Debug)]
pub(crate) struct Space<'a> {
    scan: &'a Scan,
    /// The parent's own settings.
    pub(crate) parent: Vec<Setting>,
}

impl<'a> Space<'a> {
    pub(crate) fn new(scan: &'a Scan) -> Self {
        let parent = scan.constants.iter().map(|constant| setting(constant, &constant.text));
        Self { parent: parent.collect(), scan }
    }

    pub(crate) fn scan(&self) -> &'a Scan {
        self.scan
    }

    pub(crate) fn len(&self) -> usize {
        self.parent.len()
    }

    pub(crate) fn constant(&self, idx: usize) -> &'a Constant {
        &self.scan.constants[idx]
    }

    /// How many options a constant has; 0 for numbers.
    pub(crate) fn n_options(&self, idx: usize) -> usize {
        match &self.constant(idx).domain {
            Domain::Choice(options) => options.len(),
            _ => 0,
        }
    }

    /// The settings of another program; constants that it lacks are as in the parent.
    pub(crate) fn settings(&self, values: &Values) -> Vec<Setting> {
        let constants = self.scan.constants.iter().zip(&self.parent);
        constants
            .map(|(constant, own)| {
                let text = values.get(&constant.key);
                text.map_or(*own, |text| setting(constant, text))
            })
            .collect()
    }

    /// The setting of constant `idx` that is written as `text`.
    pub(crate) fn setting(&self, idx: usize, text: &str) -> Setting {
        setting(self.constant(idx), text)
    }

    /// How a setting is written.
    pub(crate) fn text(&self, idx: usize, setting: Setting) -> String {
        let constant = self.constant(idx);
        match (setting, &constant.domain, &constant.style) {
            (Setting::Number(value), _, Some(style)) => write_number(value, style),
            (Setting::Option(option), Domain::Choice(options), _) => {
                options.get(option).unwrap_or(&constant.text).clone()
            }
            _ => constant.text.clone(),
        }
    }

    /// The setting a `step` away from `from`; integers move by one at least, unless they are at
    /// the end of their range. Options do not move.
    pub(crate) fn moved(&self, idx: usize, from: Setting, step: f64) -> Setting {
        let (Some(value), constant) = (from.number(), self.constant(idx)) else { return from };
        let domain = &constant.domain;
        let moved = domain.value(domain.coordinate(value) + step, constant.integer);
        if moved != value || !constant.integer || step == 0.0 {
            return Setting::Number(moved);
        }
        let (lowest, highest) = domain.range();
        // Away from 0 on a log scale is up in size, whatever the sign.
        let sign = if matches!(domain, Domain::Log { .. }) { value.signum() } else { 1.0 };
        let next = value + sign * step.signum();
        Setting::Number(if (lowest..=highest).contains(&next) { next } else { value })
    }

    /// The step that leads from one setting to another; 0 for options.
    pub(crate) fn step(&self, idx: usize, from: Setting, to: Setting) -> f64 {
        let domain = &self.constant(idx).domain;
        match (from, to) {
            (Setting::Number(from), Setting::Number(to)) => {
                domain.coordinate(to) - domain.coordinate(from)
            }
            _ => 0.0,
        }
    }

    /// Position relative to the parent: one coordinate a number, one for each option of a choice.
    pub(crate) fn position(&self, settings: &[Setting]) -> Vec<f64> {
        let mut position = Vec::with_capacity(self.len() + 4);
        for (idx, (own, other)) in self.parent.iter().zip(settings).enumerate() {
            match other {
                Setting::Number(_) => position.push(self.step(idx, *own, *other)),
                Setting::Option(option) => {
                    position.extend((0..self.n_options(idx)).map(|n| {
                        if n == *option && other != own { OPTION_COORDINATE } else { 0.0 }
                    }))
                }
            }
        }
        position
    }

    /// Moves settings to the nearest ones that fit all rules; `false` when there are none.
    /// Constants that differ from the parent give way before others do.
    pub(crate) fn settle(&self, settings: &mut [Setting]) -> bool {
        // Two passes: mending one rule may break another that shares a constant.
        for _pass in 0..2 {
            for idx in 0..settings.len() {
                if self.rule_holds(idx, settings) {
                    continue;
                }
                let partner = self.partner(idx);
                let partner_moved = partner.filter(|partner| {
                    settings[*partner] != self.parent[*partner] && settings[idx] == self.parent[idx]
                });
                if !self.mend(idx, partner_moved.unwrap_or(idx), settings)
                    && !partner.is_some_and(|partner| self.mend(idx, partner, settings))
                {
                    return false;
                }
            }
        }
        (0..settings.len()).all(|idx| self.rule_holds(idx, settings))
    }

    /// Moves constant `moving` to the nearest integer at which the rule of `ruled` holds.
    fn mend(&self, ruled: usize, moving: usize, settings: &mut [Setting]) -> bool {
        let (Some(wish), constant) = (settings[moving].number(), self.constant(moving)) else {
            return false;
        };
        let (lowest, highest) = constant.domain.range();
        let before = settings[moving];
        for distance in 0..RULE_REACH {
            for value in [wish - f64::from(distance), wish + f64::from(distance)] {
                if (lowest..=highest).contains(&value) {
                    settings[moving] = Setting::Number(value);
                    if self.rule_holds(ruled, settings) {
                        return true;
                    }
                }
            }
            if wish - f64::from(distance) < lowest && wish + f64::from(distance) > highest {
                break;
            }
        }
        settings[moving] = before;
        false
    }

    fn rule_holds(&self, idx: usize, settings: &[Setting]) -> bool {
        let Some(rule) = &self.constant(idx).rule else { return true };
        let Some(value) = settings[idx].number() else { return true };
        let (Rule::Divides(name) | Rule::Multiple(name)) = rule;
        let partner = match self.partner(idx) {
            Some(partner) => settings[partner].number(),
            None => self.scan.numbers.get(name).copied().or_else(|| read_number(name)),
        };
        // A rule about something that is no number here says nothing.
        let Some(partner) = partner else { return true };
        match rule {
            Rule::Divides(_) => value != 0.0 && partner % value == 0.0,
            Rule::Multiple(_) => partner != 0.0 && value % partner == 0.0,
        }
    }

    /// The tunable constant that a rule refers to.
    fn partner(&self, idx: usize) -> Option<usize> {
        let (Rule::Divides(name) | Rule::Multiple(name)) = self.constant(idx).rule.as_ref()?;
        self.scan.constants.iter().position(|constant| constant.key == *name)
    }
}

fn setting(constant: &Constant, text: &str) -> Setting {
    match (&constant.domain, constant.value) {
        (Domain::Choice(options), _) => {
            let option = options.iter().position(|option| option == text);
            Setting::Option(option.unwrap_or(options.len()))
        }
        (_, own) => Setting::Number(read_number(text).or(own).unwrap_or(0.0)),
    }
}
