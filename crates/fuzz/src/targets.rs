//! What is fed, with what, and which properties must hold.
//!
//! A target panics when a property does not hold; that ends its process like any other crash.

mod frames;
mod hooks;
mod patch;
mod rules;
mod run_file;
mod selftest;
mod shard;

/// Something that reads what is not trusted.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Valid inputs to start from, and some that are nearly valid.
    pub(crate) corpus: fn() -> Vec<Vec<u8>>,
    /// Words that mean something to the reader.
    pub(crate) dictionary: &'static [&'static str],
    /// Longer inputs are cut, in bytes.
    pub(crate) longest: usize,
    /// Whether the whole sandbox can be put around it; otherwise there are only its limits.
    pub(crate) confined: bool,
    /// Memory of the process, in bytes.
    pub(crate) memory_bytes: u64,
    /// Most bytes that may ever be allocated at a time: what the longest input may cost.
    pub(crate) allocation_bytes: usize,
    /// Runs one input and says what came of it, in a few words.
    pub(crate) run: fn(&[u8]) -> String,
}

impl Target {
    /// Panics if more was allocated at a time than the target allows.
    pub(crate) fn check_memory(&self) {
        let most = crate::ALLOCATOR.max_allocated();
        assert!(
            most <= self.allocation_bytes,
            "{most} bytes were allocated at a time, which is more than {}",
            self.allocation_bytes
        );
    }
}

/// Every target, in the order in which they are run.
pub(crate) fn all() -> &'static [Target] {
    &TARGETS
}

/// A target by name; those that test this program itself are not in [`all`].
pub(crate) fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain(&selftest::TARGETS).find(|target| target.name == name)
}

static TARGETS: [Target; 10] = [
    patch::TARGET,
    rules::TARGET,
    frames::WORKER,
    frames::PROGRAM,
    frames::SUPERVISOR,
    frames::SNAPSHOT,
    shard::TARGET,
    run_file::TARGET,
    hooks::REPORT,
    hooks::COMPONENT,
];

const MIB: usize = 1 << 20;
