//! What a hook is asked to judge.

use forerunner_core::{Evaluation, Program, Slice};

/// One evaluation, with all that a hook may see of it if it is permitted.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Name of the environment, for example `nanogpt`.
    pub environment: &'a str,
    /// The track within it, for example `cpu`.
    pub track: &'a str,
    /// What was measured.
    pub program: &'a Program,
    /// What it was made from, when there is such a program.
    pub parent: Option<&'a Program>,
    /// The seed of the evaluation.
    pub seed: u64,
    /// Which held-out data decided.
    pub slice: Slice,
    /// Metrics, series and evidence. Artifacts are read from the files it names.
    pub evaluation: &'a Evaluation,
}

/// The name of a slice in the interface.
pub(crate) fn slice_name(slice: Slice) -> &'static str {
    match slice {
        Slice::Dev => "dev",
        Slice::Val => "val",
        Slice::Vault => "vault",
    }
}
