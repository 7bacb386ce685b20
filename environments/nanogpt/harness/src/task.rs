//! What a program is told about its task.

/// The task that a model is made for; fixed by the track.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Name of the track.
    pub track: String,
    /// Number of token values; every token is smaller.
    pub vocab: usize,
    /// Positions in an evaluation window; the model must accept at least as many.
    pub context: usize,
    /// Most values that all parameters together may have.
    pub max_parameters: usize,
    /// No field that a program can set.
    pub(crate) custom_kernels: bool,
}

impl Task {
    /// Whether the track allows kernels of a program's own; see [`crate::CudaSource`].
    pub fn custom_kernels(&self) -> bool {
        self.custom_kernels
    }
}

impl From<&forerunner_nanogpt_protocol::Start> for Task {
    fn from(start: &forerunner_nanogpt_protocol::Start) -> Self {
        Self {
            track: start.track.clone(),
            vocab: start.vocab,
            context: start.context,
            max_parameters: start.max_parameters,
            custom_kernels: start.custom_kernels,
        }
    }
}
