//! What has to be shown for a record, and what came of it.

use super::Finalist;
use forerunner_core::{Metrics, ProgramId, Slice};
use forerunner_stats::NoiseTest;
use serde::{Deserialize, Serialize};

/// One of the tests that a record has to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordPart {
    /// The program against the reference, on fresh seeds of the vault.
    Vault,
    /// The program in disguise against itself, on the same seeds.
    Disguise,
    /// The program's first measurement on the vault, repeated last.
    Replay,
}

impl RecordPart {
    /// The name in events and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Disguise => "disguise",
            Self::Replay => "replay",
        }
    }
}

/// Everything that is decided before the first measurement of an attempt at a record, and that
/// anybody needs to repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordPlan {
    /// The how many-eth attempt of the run this is, from 1.
    pub attempt: u64,
    /// The program.
    pub program: ProgramId,
    /// What it is compared with.
    pub reference: ProgramId,
    /// The slice that is read: the vault.
    pub slice: Slice,
    /// Fresh seeds, drawn from the operating system for this attempt.
    pub seeds: Vec<u64>,
    /// The secret number of the disguise, drawn likewise; `None` where the environment cannot
    /// disguise its data.
    pub disguise: Option<u64>,
    /// The program's undisguised measurements for its claim: they tell the noise of a seed.
    #[serde(default)]
    pub earlier: Vec<Metrics>,
    /// Confidence of the interval on the vault. The error that it allows is this attempt's share
    /// of 5 % for all attempts of the run ([`forerunner_stats::alpha_of_claim`]).
    pub confidence: f64,
}

impl RecordPlan {
    /// Measurements that the parts need in all, repeated ones excluded.
    pub fn measurements(&self) -> usize {
        let n_seeds = self.seeds.len();
        2 * n_seeds + if self.disguise.is_some() { n_seeds } else { 0 } + 1
    }
}

/// An attempt at a record, as far as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was decided beforehand.
    pub plan: RecordPlan,
    /// The comparison on the vault; `None` while measurements are missing.
    pub vault: Option<VaultPart>,
    /// The comparison with the program in disguise. `None` while measurements are missing, when
    /// the vault refused already, and where there is no disguise.
    pub disguise: Option<DisguisePart>,
    /// The replay. `None` while it is missing, and when another part refused already.
    pub replay: Option<ReplayPart>,
    /// Sessions that measured for it: 1 when it was never interrupted.
    pub sessions: u64,
    /// Measurements that were made once more because worker or environment failed.
    pub repeated: u64,
    /// Whether every part was tried and holds.
    pub holds: bool,
}

impl Record {
    /// The parts that were judged, and whether each holds.
    pub fn judged(&self) -> impl Iterator<Item = (RecordPart, bool)> + use<> {
        [
            (RecordPart::Vault, self.vault.as_ref().map(|part| part.finalist.holds)),
            (RecordPart::Disguise, self.disguise.as_ref().map(|part| part.holds)),
            (RecordPart::Replay, self.replay.as_ref().map(|part| part.holds)),
        ]
        .into_iter()
        .filter_map(|(part, holds)| Some((part, holds?)))
    }

    /// The part that refused, if one did.
    pub fn refused_by(&self) -> Option<RecordPart> {
        self.judged().find(|(_, holds)| !holds).map(|(part, _)| part)
    }
}

/// Program and reference on the vault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VaultPart {
    /// The reference on each seed; a failed measurement is empty.
    pub reference: Vec<Metrics>,
    /// The program on the same seeds, and whether its gain holds.
    pub finalist: Finalist,
}

/// The program in disguise beside itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DisguisePart {
    /// In disguise, on the seeds of the vault; a failed measurement is empty.
    pub metrics: Vec<Metrics>,
    /// A comparison for each objective that the undisguised runs all have.
    pub compared: Vec<Compared>,
    /// Whether every comparison was possible and stays within the noise of a seed.
    pub holds: bool,
}

/// One objective, in disguise and without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The objective.
    pub metric: String,
    /// Whether logarithms were compared, so that 0.01 is one per cent; else plain values.
    pub logarithmic: bool,
    /// The test, positive being worse in disguise; `None` when a disguised measurement lacks the
    /// objective, which refuses.
    pub test: Option<NoiseTest>,
}

/// The same request twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayPart {
    /// Digest of all that the program produced, the first time; `None` where the environment
    /// gives none, and there is nothing to compare.
    pub first: Option<String>,
    /// The same of the replay.
    pub again: Option<String>,
    /// Whether they are equal, or nothing can be compared.
    pub holds: bool,
}
