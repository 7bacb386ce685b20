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

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_nanogpt_protocol::{Collect, Device, Limits, Start, VERSION};

    #[test]
    fn only_the_supervisor_allows_kernels() {
        for custom_kernels in [false, true] {
            let start = Start {
                version: VERSION,
                track: "test".into(),
                seed: 1,
                vocab: 256,
                context: 64,
                max_parameters: 1000,
                limits: Limits { cpu_seconds: 1.0, memory_bytes: 1, batch_tokens: 1 },
                collect: Collect::Nothing,
                device: Device::Cuda,
                custom_kernels,
            };
            assert_eq!(Task::from(&start).custom_kernels(), custom_kernels);
        }
    }
}
