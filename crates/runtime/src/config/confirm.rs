//! How a run ends: what is measured again before anything is claimed.

use forerunner_core::Slice;
use serde::{Deserialize, Serialize};

/// Finalists of a run file that names none, once somebody asks for a confirmation.
const FINALISTS: usize = 3;

/// How finalists are measured on fresh seeds when the search is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confirm {
    /// How many of the best programs; 0 turns confirmation off.
    pub finalists: usize,
    /// Fresh seeds for each, and for the reference.
    pub seeds: usize,
    /// The held-out slice.
    pub slice: Slice,
    /// How much has to be shown.
    pub level: Level,
}

impl Default for Confirm {
    fn default() -> Self {
        Self { finalists: 0, seeds: 3, slice: Slice::Val, level: Level::Claim }
    }
}

/// How much a confirmation has to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The finalists against the reference on fresh seeds of a held-out slice.
    #[default]
    Claim,
    /// Then, for the best whose claim holds: the vault, the disguise, and a replay.
    Record,
}

impl Confirm {
    /// The same at `level`, or switched off. Where nothing was to be confirmed so far, three
    /// finalists are.
    #[must_use]
    pub fn at(self, level: Option<Level>) -> Self {
        match level {
            None => Self { finalists: 0, ..self },
            Some(level) if self.finalists == 0 => Self { finalists: FINALISTS, level, ..self },
            Some(level) => Self { level, ..self },
        }
    }

    /// What makes no sense, with a hint.
    pub(super) fn complaint(&self) -> Option<&'static str> {
        if self.finalists > 0 && self.seeds < 2 {
            return Some(
                "`confirm.seeds` must be at least 2: one seed has no uncertainty\nhint: set `confirm.finalists = 0` to go without confirmation",
            );
        }
        if self.level == Level::Record && self.finalists > 0 && self.slice != Slice::Val {
            return Some(
                "a record is chosen on val and tried on the vault: `confirm.slice` must be \"val\" with `confirm.level = \"record\"`\nhint: leave `confirm.slice` out",
            );
        }
        None
    }
}
